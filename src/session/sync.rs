//! The sync after hello, cut into frames.

use protocol::{
    MemberId, ServerFrame,
    model::{Conversation, Entry},
    server::{Sync, SyncDone},
};

use crate::{
    hub::Frame,
    service::messaging::Messaging,
    store::{conversations::Changes, epochs::Place},
};

/// Bytes of a sync frame, about: one conversation may be larger alone.
const FRAME_BYTES: usize = 32 * 1024;

/// The frames of a sync: state, then the cursor.
pub(super) fn frames(member: MemberId, changes: Changes, messaging: &Messaging) -> impl Iterator<Item = Frame> {
    let Changes { conversations, epoch, position, full, more } = changes;
    let done = SyncDone { cursor: messaging.cursor_at(member, Place { epoch, position }), full, more };
    let done = std::iter::once_with(move || Frame::push(&ServerFrame::SyncDone(done)));
    Parts { rest: conversations.into_iter().peekable() }.chain(done)
}

struct Parts<I: Iterator<Item = Conversation>> {
    rest: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Conversation>> Iterator for Parts<I> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let first = self.rest.next()?;
        let mut bytes = size(&first);
        let mut conversations = vec![first];
        while let Some(next) = self.rest.next_if(|next| bytes + size(next) <= FRAME_BYTES) {
            bytes += size(&next);
            conversations.push(next);
        }
        Some(Frame::push(&ServerFrame::Sync(Sync { conversations })))
    }
}

/// The encoded size of a conversation, about.
fn size(conversation: &Conversation) -> usize {
    let entries = conversation.entries.iter().map(|Entry::Message(message)| 250 + message.content.len());
    200 + 80 * conversation.members.len() + entries.sum::<usize>()
}
