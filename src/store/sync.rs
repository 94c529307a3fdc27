//! What is read for a sync, part by part.

use protocol::limits;

use super::conversations::ConversationState;
use crate::position::{Epoch, Position, StreamPosition};

/// Encoded conversations that are read for a sync at once, in bytes: with more, it is read in parts.
pub const SYNC_PART_BYTES: usize = 128 * 1024;

/// What changed for a member, or the first part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The conversations, those with the newest entry first, with the latest entries that were missed.
    pub conversations: Vec<ConversationState>,
    /// The place of each in the list of all conversations: smaller further down.
    pub places: Vec<Position>,
    /// The epoch of `position`.
    pub epoch: Epoch,
    /// Everything up to here is in it; in a part, for the conversations that the list has down to its last one.
    pub position: Position,
    /// Whether this is the full state, bounded, rather than what changed.
    pub full: bool,
    /// Whether there are conversations that the limit of the sync had no room for.
    pub more: bool,
    /// Whether the list goes on below the last conversation of this part: [`ConversationStore::delta_below`](super::ConversationStore::delta_below).
    pub partial: bool,
}

/// A part of a sync that is not its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPart {
    /// Where the list was begun: a snapshot of the store has to be at least this far.
    pub begun: StreamPosition,
    /// Entries after this position; without it the latest ones, as the full state has them.
    pub since: Option<Position>,
    /// Only conversations that changed after this position; all without it.
    pub changed: Option<Position>,
    /// Only conversations below this place; from the newest on without it.
    pub below: Option<Position>,
    /// Conversations that there is room for.
    pub conversations: usize,
    /// Entries that there is room for; conversations after that come without entries.
    pub entries: usize,
}

impl Delta {
    /// Nothing, as of a position.
    #[must_use]
    pub fn none(StreamPosition { epoch, position }: StreamPosition, full: bool) -> Self {
        Self { conversations: Vec::new(), places: Vec::new(), epoch, position, full, more: false, partial: false }
    }
}

impl SyncPart {
    /// The first part of a sync, in a snapshot: what changed after `since`, or the full state.
    #[must_use]
    pub fn first(snapshot: StreamPosition, since: Option<Position>) -> Self {
        let conversations =
            if since.is_none() { limits::SYNC_FULL_CONVERSATIONS } else { limits::SYNC_CHANGED_CONVERSATIONS };
        let entries = limits::SYNC_ENTRIES_TOTAL;
        Self { begun: snapshot, since, changed: since, below: None, conversations, entries }
    }

    /// How many entries of each conversation a sync has.
    #[must_use]
    pub fn entries_each(&self) -> usize {
        if self.since.is_none() { limits::SYNC_FULL_ENTRIES } else { limits::SYNC_MISSED_ENTRIES }
    }
}
