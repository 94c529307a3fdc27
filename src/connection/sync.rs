//! A part of the sync after hello, cut into frames.

use std::collections::VecDeque;

use protocol::{
    MemberId, ServerFrame,
    limits::SYNC_FRAME_BYTES,
    server::{Sync, SyncDone},
    size::conversation_bytes,
};

use crate::{
    hub::Frame,
    service::{
        catch_up::{Done, Part},
        messaging::Messaging,
    },
};

/// The frames of a part, each with the cursor from which a sync goes on after it.
pub(super) fn frames(member: MemberId, part: Part, messaging: &Messaging) -> VecDeque<Frame> {
    let mut frames = VecDeque::new();
    let mut rest = part.conversations.into_iter().zip(part.places).peekable();
    while let Some((first, mut place)) = rest.next() {
        let mut bytes = conversation_bytes(&first);
        let mut conversations = vec![first];
        while let Some((next, after)) = rest.next_if(|(next, _)| bytes + conversation_bytes(next) <= SYNC_FRAME_BYTES) {
            bytes += conversation_bytes(&next);
            conversations.push(next);
            place = after;
        }
        let sync = Sync { conversations, cursor: messaging.cursor_within(member, &place) };
        frames.push_back(Frame::push(&ServerFrame::Sync(sync)));
    }
    frames
}

/// The last frame of a sync.
pub(super) fn done(member: MemberId, Done { place, full, more, reset }: Done, messaging: &Messaging) -> Frame {
    Frame::push(&ServerFrame::SyncDone(SyncDone { cursor: messaging.cursor_at(member, place), full, more, reset }))
}
