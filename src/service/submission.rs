//! Commands on their way to the store, and their answers on the way back.

use protocol::{ConnectionId, ConversationId, ErrorCode};
use tokio::time::Instant;

use super::Respond;
use crate::{
    failure::Failure,
    store::conversations::{Append, Appended, Command, Mark, Marked, Outcome},
};

/// A command on its way, and who takes the answer. `origin` is the connection that asked: it gets the answer and not the event.
pub enum Submission {
    /// A message.
    Append {
        /// It.
        append: Append,
        /// Who asked.
        origin: Option<ConnectionId>,
        /// Takes the answer.
        respond: Respond<Appended>,
    },
    /// A move of a watermark.
    Mark {
        /// It.
        mark: Mark,
        /// Who asked.
        origin: Option<ConnectionId>,
        /// Takes the answer.
        respond: Respond<Marked>,
    },
    /// A look for what others have left untold.
    Refresh {
        /// Where.
        conversation: ConversationId,
        /// Takes the answer.
        respond: Respond<()>,
    },
}

impl Submission {
    /// Which conversation it is about.
    pub(super) fn conversation(&self) -> ConversationId {
        match self {
            Self::Append { append, .. } => append.conversation,
            Self::Mark { mark, .. } => mark.conversation,
            Self::Refresh { conversation, .. } => *conversation,
        }
    }

    /// What the store does, and who asked.
    pub(super) fn split(self, since: Instant) -> (Command, Asker) {
        let (command, origin, reply) = match self {
            Self::Append { append, origin, respond } => (Command::Append(append), origin, Reply::Appended(respond)),
            Self::Mark { mark, origin, respond } => (Command::Mark(mark), origin, Reply::Marked(respond)),
            Self::Refresh { conversation, respond } => {
                (Command::Refresh(conversation), None, Reply::Refreshed(respond))
            }
        };
        (command, Asker { origin, reply: Some(reply), since })
    }
}

/// Who asked, for one command of a batch.
pub(super) struct Asker {
    pub(super) origin: Option<ConnectionId>,
    pub(super) reply: Option<Reply>,
    since: Instant,
}

/// Takes the answer to a command.
pub(super) enum Reply {
    Appended(Respond<Appended>),
    Marked(Respond<Marked>),
    Refreshed(Respond<()>),
}

impl Asker {
    /// Since when they wait.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// A connection that has its answer.
    #[cfg(test)]
    pub(super) fn answered(origin: ConnectionId) -> Self {
        Self { origin: Some(origin), reply: None, since: Instant::now() }
    }

    /// Gives a failure to who asked.
    pub(super) fn fail(self, failure: Failure) {
        if let Some(reply) = self.reply {
            reply.give(Err(failure));
        }
    }
}

impl Reply {
    /// Whether a message is answered.
    pub(super) fn is_to_a_message(&self) -> bool {
        matches!(self, Self::Appended(_))
    }

    /// Gives the answer.
    pub(super) fn give(self, answer: Result<Outcome, Failure>) {
        match (self, answer) {
            (Self::Appended(respond), Ok(Outcome::Appended(appended))) => respond(Ok(appended)),
            (Self::Marked(respond), Ok(Outcome::Marked(marked))) => respond(Ok(marked)),
            (Self::Refreshed(respond), Ok(Outcome::Refreshed)) => respond(Ok(())),
            (reply, Err(failure)) => reply.fail(failure),
            // A store has done something else than it was asked for.
            (reply, Ok(_)) => reply.fail(ErrorCode::Internal.into()),
        }
    }

    fn fail(self, failure: Failure) {
        match self {
            Self::Appended(respond) => respond(Err(failure)),
            Self::Marked(respond) => respond(Err(failure)),
            Self::Refreshed(respond) => respond(Err(failure)),
        }
    }
}
