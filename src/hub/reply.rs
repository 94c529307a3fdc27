//! Answers to the requests of a connection, on their way to it.

use protocol::{
    RequestId, ServerFrame,
    size::{conversation_bytes, entry_bytes},
};

use super::{EntryFrame, Frame};
use crate::failure::Failure;

/// Bytes of the presence of a member in a snapshot.
const PRESENCE_BYTES: usize = 120;

/// A request of a connection that is being worked on; only that connection knows which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u32);

/// The answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// Which request.
    pub ticket: Ticket,
    /// What to say; of a success there may be nothing to be said.
    pub result: Result<Option<Answer>, Failure>,
}

/// What is said in answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// This.
    Frame(ServerFrame),
    /// That a message is stored, which others were sent as this frame.
    Accepted(EntryFrame),
}

impl From<ServerFrame> for Answer {
    fn from(frame: ServerFrame) -> Self {
        Self::Frame(frame)
    }
}

impl Answer {
    /// The frame, with the id of the request that it answers.
    #[must_use]
    pub fn encode(&self, id: Option<&RequestId>) -> Frame {
        match self {
            Self::Frame(frame) => Frame::encode(frame, id),
            Self::Accepted(message) => message.accepted(id),
        }
    }
}

impl Reply {
    /// Bytes that it holds beyond what any answer does: those of a page, never less than it has when it is encoded.
    pub(super) fn size(&self) -> usize {
        match &self.result {
            Ok(Some(Answer::Frame(ServerFrame::Conversations(page)))) => {
                page.conversations.iter().map(conversation_bytes).sum()
            }
            Ok(Some(Answer::Frame(ServerFrame::History(page)))) => page.entries.iter().map(entry_bytes).sum(),
            Ok(Some(Answer::Frame(ServerFrame::PresenceSnapshot(snapshot)))) => snapshot.members.len() * PRESENCE_BYTES,
            _ => 0,
        }
    }
}
