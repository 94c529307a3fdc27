//! Conversations: sending, watermarks, typing, lists, history and sync.

use std::sync::Arc;

use protocol::{
    ClientMessageId, ConnectionId, ConversationId, Cursor, ErrorCode, MemberId, ServerFrame,
    limits::CONTENT_MAX_CHARS,
    model::ConversationKind,
    server::{Conversations, History, TypingPush},
};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{
    Respond, answer, cursor,
    events::Events,
    sequencer::{Sequencer, Submission},
};
use crate::{
    failure::Failure,
    store::{
        ConversationStore,
        conversations::{
            Append, Changes, Command, Mark, Membership, NewConversation, Outcome, Position, Range, UnreadCount,
        },
    },
};

/// Conversations whose members are remembered: about 150 bytes each.
const MEMBERSHIPS: usize = 50_000;

/// Where something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To a member, in the direct conversation with them.
    Member(MemberId),
    /// Into a conversation.
    Conversation(ConversationId),
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Send {
    /// Who sends it.
    pub sender: MemberId,
    /// The connection that it comes from; it gets the answer and not the event.
    pub origin: Option<ConnectionId>,
    /// Where to.
    pub target: Target,
    /// The id that the sender's client gave it.
    pub client_id: ClientMessageId,
    /// The text, as it came.
    pub content: String,
}

/// What a member has not read of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Messages of others.
    pub count: UnreadCount,
    /// Up to which entry they were counted.
    pub last_seq: u64,
}

/// Conversations.
pub struct Messaging {
    store: Arc<dyn ConversationStore>,
    sequencer: Sequencer,
    events: Events,
    memberships: Cache<ConversationId, Membership>,
}

/// The id of the direct conversation of two members: every node computes the same one.
#[must_use]
pub fn direct_conversation(one: MemberId, other: MemberId) -> ConversationId {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let digest = Sha256::new()
        .chain_update(b"members-book direct conversation 1")
        .chain_update(first.as_bytes())
        .chain_update(second.as_bytes())
        .finalize();
    let mut id = [0; 12];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    ConversationId::from_bytes(id)
}

impl Messaging {
    /// Conversations in this store.
    #[must_use]
    pub fn new(store: Arc<dyn ConversationStore>, sequencer: Sequencer, events: Events) -> Self {
        Self { store, sequencer, events, memberships: Cache::new(MEMBERSHIPS) }
    }

    /// Sends a message. Never waits; the answer comes through `respond` when the message is durable, or when it failed.
    pub fn send(&self, send: Send, respond: Respond<Outcome>) {
        let Send { sender, origin, target, client_id, content } = send;
        let content = match trim(content) {
            Ok(content) => content,
            Err(failure) => return respond(Err(failure)),
        };
        let (conversation, create) = match target {
            Target::Conversation(conversation) => (conversation, None),
            Target::Member(to) if to == sender => return respond(Err(message_to_self())),
            Target::Member(to) => {
                let create = NewConversation { kind: ConversationKind::Direct, members: vec![sender, to] };
                (direct_conversation(sender, to), Some(create))
            }
        };
        let command = Command::Append(Append { conversation, create, sender, client_id, content });
        self.sequencer.submit(conversation, Submission { command, origin, respond });
    }

    /// Moves a watermark. Never waits; the answer comes through `respond` when the move is durable, or when it failed.
    pub fn mark(&self, mark: Mark, origin: Option<ConnectionId>, respond: Respond<Outcome>) {
        let conversation = mark.conversation;
        self.sequencer.submit(conversation, Submission { command: Command::Mark(mark), origin, respond });
    }

    /// Moves the watermark of what was read, and counts what is unread then: as of the commit, by a reader, after the
    /// lane has gone on. If the counting fails, the watermark has moved all the same.
    pub fn read(&self, mark: Mark, origin: Option<ConnectionId>, respond: Respond<Unread>) {
        let store = Arc::clone(&self.store);
        let counted = Box::new(move |outcome: Result<Outcome, Failure>| {
            let (read, last_seq) = match outcome {
                Ok(Outcome::Marked { read, last_seq, .. }) => (read, last_seq),
                Ok(Outcome::Appended { .. } | Outcome::Refreshed) => return respond(Err(ErrorCode::Internal.into())),
                Err(failure) => return respond(Err(failure)),
            };
            if read >= last_seq {
                return respond(Ok(Unread { count: UnreadCount::default(), last_seq }));
            }
            // The number of these tasks is bounded by the requests that a connection may have in flight.
            tokio::spawn(async move {
                let count = store.count_unread(mark.conversation, mark.member, read, last_seq).await;
                respond(count.map(|count| Unread { count, last_seq }).map_err(Failure::from));
            });
        });
        self.mark(mark, origin, counted);
    }

    /// Tells the others in a conversation that a member is typing, or has stopped. Returns the conversation.
    ///
    /// # Errors
    /// `conversation_not_found`, a message to oneself, or the store.
    pub async fn typing(
        &self,
        member: MemberId,
        origin: Option<ConnectionId>,
        target: Target,
        active: bool,
    ) -> Result<ConversationId, Failure> {
        let (conversation, others) = match target {
            Target::Member(to) if to == member => return Err(message_to_self()),
            // The conversation need not exist yet, and to somebody who does not exist nothing is delivered.
            Target::Member(to) => (direct_conversation(member, to), vec![to]),
            Target::Conversation(conversation) => {
                let members = self.membership(conversation).await?.members;
                if !members.contains(&member) {
                    return Err(ErrorCode::ConversationNotFound.into());
                }
                (conversation, members.iter().copied().filter(|other| *other != member).collect())
            }
        };
        let typing = TypingPush { conversation, member, active };
        self.events.to_members(&others, origin, &ServerFrame::TypingPush(typing));
        Ok(conversation)
    }

    /// A page of the member's conversations; `after` is `next` of the page before.
    ///
    /// # Errors
    /// A bad `after`, or the store.
    pub async fn list(&self, member: MemberId, after: Option<&str>, limit: u32) -> Result<Conversations, Failure> {
        let store_id = self.store.store_id();
        let after = after.map(|after| after.parse().ok().and_then(|after| cursor::decode(store_id, &after)));
        let before = match after {
            Some(None) => {
                return Err(Failure::field(ErrorCode::ValidationFailed, "after", "not a `next` of this server"));
            }
            Some(position) => position,
            None => None,
        };
        let page = self.store.list(member, before, to_usize(limit)).await?;
        let next = page.next.map(|position| cursor::encode(store_id, position).to_string());
        Ok(Conversations { conversations: page.conversations, next })
    }

    /// Entries of a conversation of the member.
    ///
    /// # Errors
    /// `conversation_not_found`, or the store.
    pub async fn history(
        &self,
        member: MemberId,
        conversation: ConversationId,
        range: Range,
        limit: u32,
    ) -> Result<History, Failure> {
        let page = self.store.history(member, conversation, range, to_usize(limit)).await?;
        let page = page.ok_or(ErrorCode::ConversationNotFound)?;
        Ok(History { conversation, entries: page.entries, more: page.more })
    }

    /// What changed for a member since a cursor; the full state without one, or with one that is not ours.
    ///
    /// # Errors
    /// The store.
    pub async fn changes(&self, member: MemberId, since: Option<Position>) -> Result<Changes, Failure> {
        Ok(self.store.changes(member, since).await?)
    }

    /// The position that a cursor stands for, if it is one of this store.
    #[must_use]
    pub fn position_of(&self, cursor: &Cursor) -> Option<Position> {
        cursor::decode(self.store.store_id(), cursor)
    }

    /// Finishes what nodes that are gone have left half done, and tells those who are connected.
    ///
    /// # Errors
    /// The store; then it is found once more.
    pub async fn finish_what_others_left(&self) -> Result<(), Failure> {
        let unfinished = self.store.unfinished().await?;
        for &conversation in &unfinished.conversations {
            let command = Command::Refresh(conversation);
            let submit = |respond| self.sequencer.submit(conversation, Submission { command, origin: None, respond });
            answer(submit).await?;
        }
        Ok(self.store.finished(unfinished).await?)
    }

    /// A position as a cursor.
    #[must_use]
    pub fn cursor_at(&self, position: Position) -> Cursor {
        cursor::encode(self.store.store_id(), position)
    }

    /// A cursor for everything that has been put into the outboxes so far.
    #[must_use]
    pub fn published(&self) -> Cursor {
        self.cursor_at(self.sequencer.published())
    }

    /// The kind and members of a conversation.
    ///
    /// # Errors
    /// `conversation_not_found`, or the store.
    pub(super) async fn membership(&self, conversation: ConversationId) -> Result<Membership, Failure> {
        if let Some(membership) = self.memberships.get(&conversation) {
            return Ok(membership);
        }
        let membership = self.store.membership(conversation).await?.ok_or(ErrorCode::ConversationNotFound)?;
        self.memberships.insert(conversation, membership.clone());
        Ok(membership)
    }
}

/// The content without white space at its ends, if it has 1 to 4,000 characters then.
fn trim(content: String) -> Result<String, Failure> {
    let trimmed = content.trim();
    // More bytes than the longest content can have need no counting; fewer than its characters neither.
    if trimmed.is_empty() {
        return Err(Failure::field(ErrorCode::ContentEmpty, "content", "the message is empty"));
    }
    if trimmed.len() > CONTENT_MAX_CHARS && trimmed.chars().count() > CONTENT_MAX_CHARS {
        return Err(Failure::field(ErrorCode::ContentTooLong, "content", "at most 4,000 characters"));
    }
    Ok(if trimmed.len() == content.len() { content } else { trimmed.to_owned() })
}

fn message_to_self() -> Failure {
    Failure::field(ErrorCode::MessageToSelf, "to", "that is yourself")
}

fn to_usize(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_conversation_is_the_same_from_both_sides() {
        let (a, b, c) = (MemberId::from_bytes([1; 12]), MemberId::from_bytes([2; 12]), MemberId::from_bytes([3; 12]));
        assert_eq!(direct_conversation(a, b), direct_conversation(b, a));
        assert_ne!(direct_conversation(a, b), direct_conversation(a, c));
    }

    #[test]
    fn content_is_trimmed_and_otherwise_kept() {
        let code = |content: &str| trim(content.to_owned()).map_err(|failure| failure.code);
        assert_eq!(code(" \n<b>é</b>\u{0}x\t "), Ok("<b>é</b>\u{0}x".to_owned()));
        assert_eq!(code(" \n "), Err(ErrorCode::ContentEmpty));
        assert_eq!(code(&"😀".repeat(4000)).map(|content| content.chars().count()), Ok(4000));
        assert_eq!(code(&"😀".repeat(4001)), Err(ErrorCode::ContentTooLong));
        assert_eq!(code(&"x".repeat(4001)), Err(ErrorCode::ContentTooLong));
    }
}
