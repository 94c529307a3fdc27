//! Requests that are refused as a whole: because of something in them, or because of who sends them. Nobody says which it is. Something in them
//! is found by dividing them; who is refused whatever they send must not send more and more for that.

use std::sync::atomic::{AtomicU32, Ordering};

/// Refusals in a row with nothing taken in between after which it is not something in the requests: one message among a hundred is found with 8.
const SOMETHING_MAX: u32 = 16;

/// What a request is about, for who is told that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Several messages: any of them may be what is refused.
    Several,
    /// One message.
    One,
    /// Nothing that says anything about others: a message that was refused alone before, or receipts.
    Known,
}

/// Refusals since something was taken.
#[derive(Debug, Default)]
pub(super) struct Row(AtomicU32);

impl Row {
    /// A request was refused.
    pub(super) fn refused(&self, scope: Scope) {
        if scope != Scope::Known {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was not.
    pub(super) fn answered(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether everything is refused, as it seems.
    pub(super) fn is_everything(&self) -> bool {
        self.0.load(Ordering::Relaxed) > SOMETHING_MAX
    }
}
