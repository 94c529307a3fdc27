//! A connection whose requests find no room on their way to the store: they wait, in their order, and nothing further is read.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;

use super::machine::Call;
use crate::{
    failure::Failure,
    hub::Ticket,
    service::room::{Permit, Room},
};

/// Requests that wait: the first one for room, and those behind it for their turn.
pub(super) struct Waiting {
    room: BoxFuture<'static, Result<Permit, Failure>>,
    calls: VecDeque<(Ticket, Call)>,
}

/// What goes on, and how: with room for the first call, or with why there is none.
pub(super) type Resumed = (Result<Permit, Failure>, VecDeque<(Ticket, Call)>);

impl Waiting {
    /// A call that needs room for so many bytes of content, and there is none.
    pub(super) fn new(room: &Room, content: usize, first: (Ticket, Call)) -> Box<Self> {
        Box::new(Self { room: Box::pin(room.clone().wait(content)), calls: VecDeque::from([first]) })
    }

    /// One more call.
    pub(super) fn push(&mut self, ticket: Ticket, call: Call) {
        self.calls.push_back((ticket, call));
    }

    /// Bytes of content that wait.
    pub(super) fn bytes(&self) -> usize {
        self.calls.iter().filter_map(|(_, call)| content(call)).sum()
    }

    /// The calls, when there is room for the first one, or when it has waited too long.
    pub(super) fn poll_take(waiting: &mut Option<Box<Self>>, context: &mut Context<'_>) -> Poll<Resumed> {
        let Some(room) = waiting.as_mut().map(|waiting| Pin::new(&mut waiting.room)) else { return Poll::Pending };
        room.poll(context).map(|room| (room, waiting.take().map(|waiting| waiting.calls).unwrap_or_default()))
    }
}

/// Bytes of content for which a call needs room; nothing if it needs none.
pub(super) fn content(call: &Call) -> Option<usize> {
    match call {
        Call::Store(storing) => Some(storing.content_bytes()),
        Call::SetStatus(_) | Call::Unwatch(_) | Call::Ping | Call::Query(_) => None,
    }
}
