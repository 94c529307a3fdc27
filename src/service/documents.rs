//! Messages as documents with their status, for REST.

use std::sync::Arc;

use protocol::{
    ClientMessageId, ConversationId, ErrorCode, MemberId, MessageId,
    limits::{IDEMPOTENCY_KEY_MAX_CHARS, PAGE_DEFAULT, PAGE_MAX},
    model::{Conversation, Entry, Message},
    rest::{
        ConversationList, ConversationSummary, ConversationUnread, HistoryQuery, MessageDocument, MessagePage,
        MessageStatus, PageQuery, SendRequest, Unread, page_size,
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    limiter::Limiter,
    messaging::{Messaging, Send, Target, direct_conversation},
};
use crate::{
    failure::Failure,
    store::{
        ConversationStore, MemberStore,
        conversations::{Mark, MarkKind, Outcome, Range, ReceiptTimes},
    },
};

/// Messages over REST.
pub struct Documents {
    /// Sends and marks.
    pub messaging: Arc<Messaging>,
    /// Reads.
    pub conversations: Arc<dyn ConversationStore>,
    /// Who exists.
    pub members: Arc<dyn MemberStore>,
    /// Messages of one member, over REST and their sockets together.
    pub limit: Arc<Limiter<MemberId>>,
}

impl Documents {
    /// Sends a message; answers when it is durable. The second value says whether it was there before.
    ///
    /// # Errors
    /// What is wrong with the request, a rate limit, or the store.
    pub async fn send(
        &self,
        sender: MemberId,
        request: SendRequest,
        idempotency_key: Option<&str>,
    ) -> Result<(MessageDocument, bool), Failure> {
        let SendRequest { receiver_id, conversation_id, content, client_id } = request;
        // That it is given was checked with the rest of the body.
        let content = content.unwrap_or_default();
        let invalid = |field: &str, message: &str| Failure::field(ErrorCode::ValidationFailed, field, message);
        let target = match (receiver_id, conversation_id) {
            (Some(receiver), None) => Target::Member(receiver),
            (None, Some(conversation)) => Target::Conversation(conversation),
            _ => return Err(invalid("receiver_id", "either `receiver_id` or `conversation_id`")),
        };
        let client_id = match (client_id, idempotency_key) {
            (Some(client_id), _) => client_id,
            (None, Some(key)) if (1..=IDEMPOTENCY_KEY_MAX_CHARS).contains(&key.chars().count()) => from_key(key),
            (None, Some(_)) => return Err(invalid("Idempotency-Key", "1 to 255 characters")),
            (None, None) => return Err(invalid("client_id", "required, if there is no `Idempotency-Key`")),
        };
        self.limit.check(&sender)?;
        let send = Send { sender, origin: None, target, client_id, content };
        let outcome = super::answer(|respond| self.messaging.send(send, respond)).await?;
        match outcome {
            Outcome::Appended { message, duplicate, .. } => Ok((self.document(message).await?, duplicate)),
            Outcome::Marked { .. } | Outcome::Refreshed => Err(ErrorCode::Internal.into()),
        }
    }

    /// A page of the direct conversation with another member, the newest message first.
    ///
    /// # Errors
    /// `member_not_found`, a conversation with oneself, or the store.
    pub async fn history(&self, me: MemberId, other: MemberId, query: &HistoryQuery) -> Result<MessagePage, Failure> {
        let range = match (query.before, query.after) {
            (None, None) => Range::Newest,
            (Some(before), None) => Range::Before(before),
            (None, Some(after)) => Range::After(after),
            (Some(_), Some(_)) => {
                return Err(Failure::field(ErrorCode::ValidationFailed, "after", "not together with `before`"));
            }
        };
        if me == other {
            return Err(Failure::field(ErrorCode::MessageToSelf, "user_id", "that is yourself"));
        }
        let conversation_id = direct_conversation(me, other);
        let page = self.conversations.history(me, conversation_id, range, page_size(query.limit)).await?;
        let Some(page) = page else {
            // Two members who have not talked yet.
            self.members.by_id(other).await?.ok_or(ErrorCode::MemberNotFound)?;
            return Ok(MessagePage { conversation_id, messages: Vec::new(), more: false });
        };
        let mut messages = self.documents(conversation_id, [me, other], page.entries).await?;
        messages.reverse();
        Ok(MessagePage { conversation_id, messages, more: page.more })
    }

    /// The messages of a conversation after `seq`, ascending, and whether there are further ones.
    ///
    /// # Errors
    /// `conversation_not_found`, or the store.
    pub(super) async fn page(
        &self,
        me: MemberId,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<(Vec<MessageDocument>, bool), Failure> {
        let page = self.conversations.history(me, conversation, Range::After(seq), page_size(Some(PAGE_MAX))).await?;
        let page = page.ok_or(ErrorCode::ConversationNotFound)?;
        Ok((self.documents(conversation, self.pair(conversation).await?, page.entries).await?, page.more))
    }

    /// A page of the member's conversations, those with the newest message first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn list(&self, me: MemberId, page: &PageQuery) -> Result<ConversationList, Failure> {
        let limit = page.limit.unwrap_or(PAGE_DEFAULT);
        let found = self.messaging.list(me, page.cursor.as_deref(), limit).await?;
        let mut conversations = Vec::with_capacity(found.conversations.len());
        for conversation in found.conversations {
            conversations.push(self.summary(conversation).await?);
        }
        Ok(ConversationList { conversations, next: found.next })
    }

    /// Marks everything up to a message as read; only who it is for may.
    ///
    /// # Errors
    /// `message_not_found`, `forbidden` for its sender, or the store.
    pub async fn read(&self, me: MemberId, id: MessageId) -> Result<MessageDocument, Failure> {
        let message = self.conversations.message(id).await?.ok_or(ErrorCode::MessageNotFound)?;
        let membership = self.messaging.membership(message.conversation).await?;
        if !membership.members.contains(&me) {
            return Err(ErrorCode::MessageNotFound.into());
        }
        if message.sender == me {
            return Err(Failure::new(ErrorCode::Forbidden, "Only the receiver of a message reads it."));
        }
        let Message { conversation, seq, .. } = message;
        let mark = Mark { conversation, member: me, kind: MarkKind::Read, seq, count: false };
        super::answer(|respond| self.messaging.mark(mark, None, respond)).await?;
        self.document(message).await
    }

    /// What the member has not read.
    ///
    /// # Errors
    /// The store.
    pub async fn unread(&self, me: MemberId) -> Result<Unread, Failure> {
        let found = self.conversations.unread(me).await?;
        let one = |(conversation_id, unread)| ConversationUnread { conversation_id, unread };
        let conversations: Vec<_> = found.into_iter().map(one).collect();
        Ok(Unread { total: conversations.iter().map(|conversation| conversation.unread).sum(), conversations })
    }

    async fn summary(&self, conversation: Conversation) -> Result<ConversationSummary, Failure> {
        let Conversation { id, kind, members, last_seq, unread, last_at, entries } = conversation;
        let ids: Vec<MemberId> = members.iter().map(|watermarks| watermarks.member).collect();
        let last_message = match <[MemberId; 2]>::try_from(ids) {
            Ok(pair) => self.documents(id, pair, entries).await?.pop(),
            Err(_) => None,
        };
        Ok(ConversationSummary { id, kind, members, last_seq, last_at, unread, last_message })
    }

    async fn document(&self, message: Message) -> Result<MessageDocument, Failure> {
        let conversation = message.conversation;
        let pair = self.pair(conversation).await?;
        let mut documents = self.documents(conversation, pair, vec![Entry::Message(message)]).await?;
        documents.pop().ok_or_else(|| ErrorCode::Internal.into())
    }

    /// The members of a direct conversation.
    async fn pair(&self, conversation: ConversationId) -> Result<[MemberId; 2], Failure> {
        let membership = self.messaging.membership(conversation).await?;
        <[MemberId; 2]>::try_from(&*membership.members).map_err(|_| ErrorCode::Internal.into())
    }

    /// Entries of a direct conversation that follow one another, with what became of each.
    async fn documents(
        &self,
        conversation: ConversationId,
        pair: [MemberId; 2],
        entries: Vec<Entry>,
    ) -> Result<Vec<MessageDocument>, Failure> {
        let (Some(first), Some(last)) = (entries.first().map(Entry::seq), entries.last().map(Entry::seq)) else {
            return Ok(Vec::new());
        };
        let [one, other] = pair;
        let of_one = self.conversations.receipt_times(conversation, one, first, last).await?;
        let of_other = self.conversations.receipt_times(conversation, other, first, last).await?;
        let with_times = entries.into_iter().zip(of_one.into_iter().zip(of_other));
        Ok(with_times
            .map(|(Entry::Message(message), (by_one, by_other))| {
                if message.sender == one { document(message, other, by_other) } else { document(message, one, by_one) }
            })
            .collect())
    }
}

fn document(message: Message, receiver_id: MemberId, times: ReceiptTimes) -> MessageDocument {
    let ReceiptTimes { delivered_at, read_at } = times;
    let status = match (delivered_at, read_at) {
        (_, Some(_)) => MessageStatus::Read,
        (Some(_), None) => MessageStatus::Delivered,
        (None, None) => MessageStatus::Sent,
    };
    MessageDocument {
        id: message.id,
        conversation_id: message.conversation,
        seq: message.seq,
        sender_id: message.sender,
        receiver_id,
        client_id: message.client_id,
        content: message.content,
        created_at: message.at,
        status,
        delivered_at,
        read_at,
    }
}

/// The id of a message from an `Idempotency-Key`: the key itself if it is a UUID, else a hash of it.
fn from_key(key: &str) -> ClientMessageId {
    key.parse().unwrap_or_else(|_| {
        let digest = Sha256::new().chain_update(b"members-book idempotency key 1").chain_update(key).finalize();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        ClientMessageId::from_bytes(bytes)
    })
}
