//! Messages as documents with their status, for REST.

use std::sync::Arc;

use protocol::{
    ClientMessageId, ConversationId, ErrorCode, MemberId, MessageId,
    limits::{IDEMPOTENCY_KEY_MAX_CHARS, PAGE_DEFAULT, PAGE_MAX},
    model::{Conversation, ConversationSettings, Entry, Message, Watermarks},
    rest::{
        ConfiguredConversation, ConversationList, ConversationSummary, ConversationUnread, ConversationsQuery,
        HistoryQuery, MessageDocument, MessagePage, MessageStatus, PageQuery, SendRequest, Unread, page_size,
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    asker::Sent,
    messaging::{Draft, Messaging, Target, direct_conversation},
    views,
};
use crate::{
    failure::Failure,
    store::{
        ConversationStore, MemberStore,
        conversations::{Configure, Mark, MarkKind, Range, ReceiptRange, ReceiptTimes, StoredSettings, UnreadCount},
        entries::StoredEntry,
        lists::ListFilter,
        turns::Caller,
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
        let SendRequest { receiver_id, conversation_id, content, client_id, reply_to } = request;
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
            (None, Some(_)) => return Err(invalid("Idempotency-Key", "1 to 255 characters of ASCII")),
            (None, None) => return Err(invalid("client_id", "required, if there is no `Idempotency-Key`")),
        };
        let message = Draft { target, client_id, content, reply_to }.validate(sender)?;
        self.messaging.charge_over_rest(sender)?;
        let permit = self.messaging.wait_for_room(message.conversation, message.content.len()).await?;
        let Sent { message, duplicate, .. } =
            super::answered(|respond| self.messaging.send(message, permit, None, respond)).await?;
        Ok((self.document(sender, message).await?, duplicate))
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
                return Err(Failure::field(ErrorCode::ValidationFailed, "before", "give before or after, not both"));
            }
        };
        if me == other {
            return Err(Failure::field(ErrorCode::MessageToSelf, "user_id", "that is yourself"));
        }
        let conversation_id = direct_conversation(me, other);
        let page = self.conversations.history(me, conversation_id, range, page_size(query.limit)).await?;
        let Some(page) = page else {
            // Two members who have not talked yet.
            self.members.by_id(Caller::Member(me), other).await?.ok_or(ErrorCode::MemberNotFound)?;
            return Ok(MessagePage { conversation_id, messages: Vec::new(), more: false });
        };
        let part = LogPart {
            conversation: conversation_id,
            pair: [me, other],
            entries: page.entries.into_iter().map(views::entry).collect(),
        };
        let mut messages = self.one_part(me, part).await?;
        messages.reverse();
        Ok(MessagePage { conversation_id, messages, more: page.more })
    }

    /// For each of these direct conversations the messages after a `seq`, ascending, and whether there are further ones.
    /// Two calls of the store, however many conversations there are.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn pages(
        &self,
        me: MemberId,
        wanted: &[(ConversationId, [MemberId; 2], u64)],
    ) -> Result<Vec<(Vec<MessageDocument>, bool)>, Failure> {
        let after = wanted.iter().map(|(conversation, _, seq)| (*conversation, *seq)).collect();
        let pages = self.conversations.logs(me, after, page_size(Some(PAGE_MAX))).await?;
        let (entries, more): (Vec<_>, Vec<_>) =
            pages.into_iter().map(|page| (page.entries.into_iter().map(views::entry).collect(), page.more)).unzip();
        let parts = wanted.iter().zip(entries);
        let parts = parts.map(|(&(conversation, pair, _), entries)| LogPart { conversation, pair, entries });
        let documents = self.documents(me, parts.collect()).await?;
        Ok(documents.into_iter().zip(more).collect())
    }

    /// A page of the member's conversations that a query asks for, those with the newest message first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn list(
        &self,
        me: MemberId,
        query: ConversationsQuery,
        page: &PageQuery,
    ) -> Result<ConversationList, Failure> {
        let ConversationsQuery { archived, pinned, unread } = query;
        let filter = ListFilter { archived, pinned, unread };
        let limit = page.limit.unwrap_or(PAGE_DEFAULT);
        let found = self.messaging.list(me, filter, page.cursor.as_deref(), limit).await?;
        let mut found_all = found.conversations;
        let parts = found_all.iter_mut().map(|conversation| {
            // Without a pair there is nothing to be shown here.
            let pair = pair_of(&conversation.members);
            let entries = std::mem::take(&mut conversation.entries);
            let entries = if pair.is_some() { entries } else { Vec::new() };
            LogPart { conversation: conversation.id, pair: pair.unwrap_or([me, me]), entries }
        });
        let newest = self.documents(me, parts.collect()).await?;
        let conversations = found_all.into_iter().zip(newest).map(|(found, mut newest)| summary(found, newest.pop()));
        Ok(ConversationList { conversations: conversations.collect(), next: found.next })
    }

    /// Marks everything up to a message as read; only who it is for may.
    ///
    /// # Errors
    /// `message_not_found`, `forbidden` for its sender, or the store.
    pub async fn read(&self, me: MemberId, id: MessageId) -> Result<MessageDocument, Failure> {
        let message = self.conversations.message(Caller::Member(me), id).await?.ok_or(ErrorCode::MessageNotFound)?;
        let membership = self.messaging.membership(me, message.conversation).await?;
        if !membership.members.contains(&me) {
            return Err(ErrorCode::MessageNotFound.into());
        }
        if message.sender == me {
            return Err(Failure::new(ErrorCode::Forbidden, "Only the receiver of a message reads it."));
        }
        let StoredEntry { conversation, seq, .. } = message;
        let mark = Mark { conversation, member: me, kind: MarkKind::Read, seq };
        let permit = self.messaging.wait_for_room(conversation, 0).await?;
        super::answered(|respond| self.messaging.mark(mark, permit, None, respond)).await?;
        self.document(me, message).await
    }

    /// Sets what the member wants of a conversation. Returns it as it is now.
    ///
    /// # Errors
    /// `conversation_not_found`, or the store.
    pub async fn configure(
        &self,
        me: MemberId,
        conversation: ConversationId,
        settings: ConversationSettings,
    ) -> Result<ConfiguredConversation, Failure> {
        let configure = Configure { conversation, member: me, settings };
        let permit = self.messaging.wait_for_room(conversation, 0).await?;
        let configured = super::answered(|respond| self.messaging.configure(configure, permit, None, respond)).await?;
        let StoredSettings { settings, revision } = configured.stored;
        let ConversationSettings { notify, muted_until, archived, pinned } = settings;
        Ok(ConfiguredConversation { notify, muted_until, archived, pinned, revision })
    }

    /// What the member has not read.
    ///
    /// # Errors
    /// The store.
    pub async fn unread(&self, me: MemberId) -> Result<Unread, Failure> {
        let found = self.conversations.unread(me).await?;
        let one = |(conversation_id, UnreadCount { count, more })| ConversationUnread {
            conversation_id,
            unread: count,
            unread_more: more,
        };
        let conversations: Vec<_> = found.into_iter().map(one).collect();
        let total = conversations.iter().map(|conversation| conversation.unread).sum();
        let unread_more = conversations.iter().any(|conversation| conversation.unread_more);
        Ok(Unread { total, unread_more, conversations })
    }

    async fn document(&self, me: MemberId, message: StoredEntry) -> Result<MessageDocument, Failure> {
        let conversation = message.conversation;
        let pair = self.pair(me, conversation).await?;
        let part = LogPart { conversation, pair, entries: vec![views::entry(message)] };
        self.one_part(me, part).await?.pop().ok_or_else(|| ErrorCode::Internal.into())
    }

    /// The members of a direct conversation.
    async fn pair(&self, me: MemberId, conversation: ConversationId) -> Result<[MemberId; 2], Failure> {
        let membership = self.messaging.membership(me, conversation).await?;
        <[MemberId; 2]>::try_from(&*membership.members).map_err(|_| ErrorCode::Internal.into())
    }

    async fn one_part(&self, me: MemberId, part: LogPart) -> Result<Vec<MessageDocument>, Failure> {
        Ok(self.documents(me, vec![part]).await?.pop().unwrap_or_default())
    }

    /// The entries of each part with what became of them. One call of the store, however many conversations there are.
    async fn documents(&self, me: MemberId, parts: Vec<LogPart>) -> Result<Vec<Vec<MessageDocument>>, Failure> {
        let ranges: Vec<ReceiptRange> = parts.iter().flat_map(LogPart::receipts).collect();
        let mut times =
            if ranges.is_empty() { Vec::new() } else { self.conversations.receipt_times(me, ranges).await? }
                .into_iter();
        Ok(parts
            .into_iter()
            .map(|part| {
                if part.entries.is_empty() {
                    return Vec::new();
                }
                let (of_one, of_other) = (times.next().unwrap_or_default(), times.next().unwrap_or_default());
                part.documents(of_one, of_other)
            })
            .collect())
    }
}

/// Entries of a direct conversation that follow one another.
struct LogPart {
    conversation: ConversationId,
    pair: [MemberId; 2],
    entries: Vec<Entry>,
}

impl LogPart {
    /// The receipts that belong to the entries: of the one member, then of the other. None without entries.
    fn receipts(&self) -> impl Iterator<Item = ReceiptRange> + use<> {
        let Self { conversation, pair, .. } = *self;
        let ends = self.entries.first().map(Entry::seq).zip(self.entries.last().map(Entry::seq));
        ends.into_iter()
            .flat_map(move |(first, last)| pair.map(|member| ReceiptRange { conversation, member, first, last }))
    }

    fn documents(self, of_one: Vec<ReceiptTimes>, of_other: Vec<ReceiptTimes>) -> Vec<MessageDocument> {
        let [one, other] = self.pair;
        let with_times = self.entries.into_iter().zip(of_one.into_iter().zip(of_other));
        with_times
            .map(|(Entry::Message(message), (by_one, by_other))| {
                if message.sender == one { document(message, other, by_other) } else { document(message, one, by_one) }
            })
            .collect()
    }
}

/// The two members of a direct conversation, from its state.
pub(super) fn pair_of(members: &[Watermarks]) -> Option<[MemberId; 2]> {
    match members {
        [one, other] => Some([one.member, other.member]),
        _ => None,
    }
}

fn summary(conversation: Conversation, last_message: Option<MessageDocument>) -> ConversationSummary {
    let Conversation { id, kind, members, last_seq, unread, unread_more, last_at, settings, settings_revision, .. } =
        conversation;
    ConversationSummary {
        id,
        kind,
        members,
        last_seq,
        last_at,
        unread,
        unread_more,
        settings,
        settings_revision,
        last_message,
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
        reply_to: message.reply_to,
    }
}

/// The id of a message from an `Idempotency-Key`: the key itself if it is a UUID, else a hash of it.
pub(super) fn from_key(key: &str) -> ClientMessageId {
    key.parse().unwrap_or_else(|_| {
        let digest = Sha256::new().chain_update(b"members-book idempotency key 1").chain_update(key).finalize();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        ClientMessageId::from_bytes(bytes)
    })
}
