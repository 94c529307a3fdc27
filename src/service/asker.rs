//! Who asked for a command, and how they are answered.

use protocol::{ConnectionId, ErrorCode};
use tokio::time::Instant;

use super::{Respond, room::Permit};
use crate::{
    failure::Failure,
    hub::EntryFrame,
    store::{
        conversations::{Appended, Configured, Marked, Outcome},
        entries::StoredEntry,
    },
};

/// A message is stored.
#[derive(Debug)]
pub struct Sent {
    /// The message; of a duplicate, the first one.
    pub message: StoredEntry,
    /// Whether it had been stored before.
    pub duplicate: bool,
    /// The message as it was pushed, if anybody got it.
    pub pushed: Option<EntryFrame>,
}

/// Who asked, for one command.
pub struct Asker {
    /// The connection: it gets the answer and not the event.
    pub(super) origin: Option<ConnectionId>,
    /// Takes the answer; nothing once it was given.
    pub(super) responder: Option<Responder>,
    /// What the command takes of the room, until all is done that follows from it.
    permit: Permit,
}

/// Takes the answer to a command, which is of another type for each.
pub enum Responder {
    /// To a message.
    Appended(Respond<Sent>),
    /// To a move of a watermark.
    Marked(Respond<Marked>),
    /// To settings of a member.
    Configured(Respond<Configured>),
    /// To a look for what others have left untold.
    Refreshed(Respond<()>),
}

impl Asker {
    /// Somebody who asks.
    #[must_use]
    pub fn new(origin: Option<ConnectionId>, responder: Responder, permit: Permit) -> Self {
        Self { origin, responder: Some(responder), permit }
    }

    /// Since when they wait.
    pub(super) fn since(&self) -> Instant {
        self.permit.since()
    }

    /// How much of the room the command takes.
    pub(super) fn bytes(&self) -> usize {
        self.permit.bytes()
    }

    /// A connection that has its answer.
    #[cfg(test)]
    pub(super) fn answered(origin: ConnectionId) -> Self {
        Self { origin: Some(origin), responder: None, permit: Permit::of_a_test() }
    }

    /// Gives a failure to who asked.
    pub(super) fn fail(self, failure: Failure) {
        if let Some(responder) = self.responder {
            responder.fail(failure);
        }
    }
}

impl Responder {
    /// Whether a message is answered.
    pub(super) fn is_to_a_message(&self) -> bool {
        matches!(self, Self::Appended(_))
    }

    /// Gives the answer; `pushed` is what others got, if that was a message.
    pub(super) fn give(self, answer: Result<Outcome, Failure>, pushed: Option<EntryFrame>) {
        match (self, answer) {
            (Self::Appended(respond), Ok(Outcome::Appended(Appended { message, duplicate, .. }))) => {
                respond(Ok(Sent { message, duplicate, pushed }));
            }
            (Self::Marked(respond), Ok(Outcome::Marked(marked))) => respond(Ok(marked)),
            (Self::Configured(respond), Ok(Outcome::Configured(configured))) => respond(Ok(configured)),
            (Self::Refreshed(respond), Ok(Outcome::Refreshed)) => respond(Ok(())),
            (responder, Err(failure)) => responder.fail(failure),
            // A store has done something else than it was asked for.
            (responder, Ok(_)) => responder.fail(ErrorCode::Internal.into()),
        }
    }

    fn fail(self, failure: Failure) {
        match self {
            Self::Appended(respond) => respond(Err(failure)),
            Self::Marked(respond) => respond(Err(failure)),
            Self::Configured(respond) => respond(Err(failure)),
            Self::Refreshed(respond) => respond(Err(failure)),
        }
    }
}
