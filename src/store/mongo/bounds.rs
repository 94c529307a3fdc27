//! How long the commands of a node may take, and what follows from that for the others.
//!
//! Each node has its own `STORE_TIMEOUT`: during a deploy that changes it, or for good. What one may have under way is a matter of its own
//! bounds and of nobody else's, so they are in its document of `nodes`.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::{
    document::{signed, unsigned},
    link::{BEAT, LEASE},
};

/// The field of [`Bounds::timeout`], in milliseconds.
const TIMEOUT: &str = "timeout";
/// The field of [`Bounds::window`], in milliseconds.
const WINDOW: &str = "window";

/// What bounds the commands of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How long a command may take.
    pub(super) timeout: Duration,
    /// How far behind the clock of the database everything is visible that the node has stored: see [`super::horizon`].
    pub(super) window: Duration,
}

impl Bounds {
    /// As they are in the document of a node.
    pub(super) fn fields(self) -> Document {
        let millis = |duration: Duration| signed(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        doc! { TIMEOUT: millis(self.timeout), WINDOW: millis(self.window) }
    }

    /// Those of another node; one of a former version does not say them, and is taken to have ours.
    pub(super) fn of(node: &Document, ours: Self) -> Self {
        let duration = |name| node.get_i64(name).ok().map(|millis| Duration::from_millis(unsigned(millis)));
        Self { timeout: duration(TIMEOUT).unwrap_or(ours.timeout), window: duration(WINDOW).unwrap_or(ours.window) }
    }

    /// How long the node has to be silent until others take it for dead: then its lease is over, and what it began last has ended.
    pub(super) fn dead_after(self) -> Duration {
        self.timeout.saturating_add(LEASE + 2 * BEAT)
    }
}
