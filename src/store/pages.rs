//! How much a page, a list and a sync hold, the same for every store. A store reads one after the other and puts it in, until there
//! is no room.

use protocol::limits;

use super::{
    conversations::{ConversationPage, ConversationState},
    entries::StoredEntry,
    sync::{Delta, SYNC_PART_BYTES, SyncPart},
};
use crate::position::Position;

/// The entries of a page, in the order in which they are put in.
#[derive(Debug)]
pub(super) struct Entries {
    page: Vec<StoredEntry>,
    /// Bytes of content that there is room for.
    room: usize,
}

impl Entries {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self { page: Vec::new(), room: limits::PAGE_CONTENT_BYTES }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.page.len()
    }

    /// Puts an entry in, if there is room; for the first one there is. Without room the page is complete.
    pub(super) fn push(&mut self, entry: StoredEntry) -> bool {
        let bytes = entry.body.content_bytes();
        let fits = self.page.is_empty() || bytes <= self.room;
        self.room = self.room.saturating_sub(bytes);
        if fits {
            self.page.push(entry);
        }
        fits
    }

    /// What is in it.
    pub(super) fn into_vec(self) -> Vec<StoredEntry> {
        self.page
    }
}

/// A page of the list of conversations.
#[derive(Debug, Default)]
pub(super) struct List {
    conversations: Vec<ConversationState>,
    bytes: usize,
}

impl List {
    /// Puts a conversation in, if there is room; for the first one there is.
    pub(super) fn push(&mut self, conversation: ConversationState) -> bool {
        self.bytes += conversation.bytes();
        let fits = self.conversations.is_empty() || self.bytes <= limits::LIST_BYTES;
        if fits {
            self.conversations.push(conversation);
        }
        fits
    }

    /// The page. `places` are those of the conversations that were chosen for it, in their order, with one more if there is one;
    /// `stopped` is that of the last one that was looked at, if others were not.
    pub(super) fn into_page(self, places: &[Position], stopped: Option<Position>) -> ConversationPage {
        let conversations = self.conversations;
        let last = conversations.len().checked_sub(1).and_then(|last| places.get(last)).copied();
        let next = if conversations.len() < places.len() { last } else { stopped };
        ConversationPage { conversations, next }
    }
}

/// A part of a sync.
#[derive(Debug)]
pub(super) struct Part {
    changes: Delta,
    /// Conversations that the sync has room for.
    conversations: usize,
    /// Entries that it has room for.
    entries: usize,
    entries_each: usize,
    bytes: usize,
}

impl Part {
    /// An empty one, of a sync for which so many conversations were `found`.
    pub(super) fn new(part: &SyncPart, found: usize) -> Self {
        let mut changes = Delta::none(part.begun, part.since.is_none());
        changes.more = found > part.conversations;
        let (conversations, entries) = (part.conversations, part.entries);
        Self { changes, conversations, entries, entries_each: part.entries_each(), bytes: 0 }
    }

    /// How many entries the next conversation may have; nothing when this part is complete. To be asked before each one that there
    /// is.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.changes.conversations.len() >= self.conversations {
            return None;
        }
        self.changes.partial = self.bytes >= SYNC_PART_BYTES;
        (!self.changes.partial).then(|| self.entries_each.min(self.entries))
    }

    /// Puts the next conversation in, which is at this place of the list. Entries that there is no room for are left out, the oldest
    /// ones first.
    pub(super) fn push(&mut self, place: Position, mut conversation: ConversationState) {
        let surplus = conversation.entries.len().saturating_sub(self.entries);
        conversation.entries.drain(..surplus);
        self.entries -= conversation.entries.len();
        self.bytes += conversation.bytes();
        self.changes.places.push(place);
        self.changes.conversations.push(conversation);
    }

    /// What is in it.
    pub(super) fn into_delta(self) -> Delta {
        self.changes
    }
}
