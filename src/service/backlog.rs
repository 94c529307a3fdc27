//! Entries that were found in logs and that others have not told of, on their way between the outcomes of a batch.

use std::collections::{HashMap, VecDeque};

use protocol::{ConnectionId, ConversationId, MessageId};

use super::asker::Asker;
use crate::store::conversations::{Appended, Outcome, Refusal, Untold};

/// The entries of each conversation, ascending by `seq`.
#[derive(Default)]
pub(super) struct Backlog {
    entries: HashMap<ConversationId, VecDeque<Untold>>,
    /// Who asks for one of them again in this batch, and is answered rather than told.
    origins: HashMap<MessageId, ConnectionId>,
}

impl Backlog {
    /// The entries that were found while a batch was applied.
    pub(super) fn new(untold: Vec<Untold>, outcomes: &[Result<Outcome, Refusal>], askers: &[Asker]) -> Self {
        let mut backlog = Self::default();
        // Nearly always.
        if untold.is_empty() {
            return backlog;
        }
        for each in untold {
            backlog.entries.entry(each.message.conversation).or_default().push_back(each);
        }
        for (outcome, asker) in outcomes.iter().zip(askers) {
            if let (Ok(Outcome::Appended(Appended { message, .. })), Some(origin)) = (outcome, asker.origin) {
                backlog.origins.insert(message.id, origin);
            }
        }
        backlog
    }

    /// Tells of the entries of a conversation up to a `seq`.
    pub(super) fn up_to(
        &mut self,
        conversation: ConversationId,
        seq: u64,
        tell: impl Fn(Untold, Option<ConnectionId>),
    ) {
        let Some(entries) = self.entries.get_mut(&conversation) else { return };
        while let Some(next) = entries.pop_front_if(|next| next.message.seq <= seq) {
            let origin = self.origins.get(&next.message.id).copied();
            tell(next, origin);
        }
    }

    /// Tells of what is left.
    pub(super) fn rest(mut self, tell: impl Fn(Untold, Option<ConnectionId>)) {
        let conversations: Vec<ConversationId> = self.entries.keys().copied().collect();
        for conversation in conversations {
            self.up_to(conversation, u64::MAX, &tell);
        }
    }
}
