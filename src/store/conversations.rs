//! Conversations: append-only logs with watermarks.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use protocol::{
    ClientMessageId, ConversationId, ErrorCode, MemberId, MessageId, Timestamp, limits,
    model::{ConversationKind, ConversationSettings, UserType, Watermarks},
    size,
};
use tokio::time::Instant;

use super::{
    StoreError,
    entries::StoredEntry,
    lists::ListFilter,
    sync::{Delta, SyncPart},
    turns::Caller,
};
use crate::{
    failure::Failure,
    position::{Epoch, Position, StreamPosition},
};

/// Identifies a database, so that a cursor of another one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(pub [u8; 8]);

/// A change to a conversation.
#[derive(Debug, Clone)]
pub enum Command {
    /// Append a message.
    Append(Append),
    /// Move a watermark.
    Mark(Mark),
    /// Set a member's own settings.
    Configure(Configure),
    /// Look for entries that a node stored and may not have lived to tell of.
    Refresh(ConversationId),
}

impl Command {
    /// Which conversation it is about.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Append(append) => append.conversation,
            Self::Mark(mark) => mark.conversation,
            Self::Configure(configure) => configure.conversation,
            Self::Refresh(conversation) => *conversation,
        }
    }
}

/// Append a message.
#[derive(Debug, Clone)]
pub struct Append {
    /// The conversation.
    pub conversation: ConversationId,
    /// What to make it of if it does not exist; without it that is an error.
    pub create: Option<NewConversation>,
    /// The sending member.
    pub sender: MemberId,
    /// The id that the sender's client gave it.
    pub client_id: ClientMessageId,
    /// The content, already trimmed and checked.
    pub content: String,
    /// The number of the message that it answers, if it answers one.
    pub reply_to: Option<u64>,
}

impl Append {
    /// Which message of which conversation it is.
    #[must_use]
    pub fn key(&self) -> (ConversationId, ClientMessageId) {
        (self.conversation, self.client_id)
    }
}

/// What a conversation is made of.
#[derive(Debug, Clone)]
pub struct NewConversation {
    /// What it is.
    pub kind: ConversationKind,
    /// Its members, the creating one included.
    pub members: Vec<MemberId>,
    /// Asked before it is made; without it, it is made.
    pub admission: Option<Admission>,
}

impl NewConversation {
    /// A direct conversation of two members, made without asking.
    #[must_use]
    pub fn direct(one: MemberId, other: MemberId) -> Self {
        Self { kind: ConversationKind::Direct, members: vec![one, other], admission: None }
    }
}

/// A message that begins a conversation, as far as its sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Who sends it.
    pub member: MemberId,
    /// What they may do.
    pub user_type: UserType,
    /// Into which conversation.
    pub conversation: ConversationId,
    /// The id that the client gave the message.
    pub client_id: ClientMessageId,
    /// Whether there is such a conversation by now: then it begins nothing, and only the order of its sender's messages counts.
    pub begun: bool,
}

/// Why a message that begins a conversation is not allowed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotYet {
    /// Its sender has begun too many, and may begin one after so long.
    TooMany(Duration),
    /// An earlier message of the sender into that conversation was refused, and is waited for; it may be sent again after so long.
    EarlierOneFirst(Duration),
}

type Admit = dyn Fn(&Beginning) -> Result<(), NotYet> + Send + Sync;

/// Decides whether a member may begin a conversation now, and says how long to wait if not. A store asks it for every message
/// that would make its conversation. Must not wait.
#[derive(Clone)]
pub struct Admission(Arc<Admit>);

impl Admission {
    /// An admission that decides by the message.
    #[must_use]
    pub fn new(admit: impl Fn(&Beginning) -> Result<(), NotYet> + Send + Sync + 'static) -> Self {
        Self(Arc::new(admit))
    }

    /// Asks it.
    pub(super) fn admit(&self, beginning: &Beginning) -> Result<(), Refusal> {
        (self.0)(beginning).map_err(Refusal::NotYet)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Admission")
    }
}

/// Move a watermark.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose watermark.
    pub member: MemberId,
    /// Which one.
    pub kind: MarkKind,
    /// Where to; clamped to the newest entry.
    pub seq: u64,
}

/// Which watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// What has reached a device.
    Delivered,
    /// What was read; moves `delivered` along.
    Read,
}

/// Set a member's own settings of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Configure {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose settings.
    pub member: MemberId,
    /// The settings, all of them.
    pub settings: ConversationSettings,
}

/// A member's own settings of a conversation, as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredSettings {
    /// They.
    pub settings: ConversationSettings,
    /// Larger with every change: 0 before the first.
    pub revision: u64,
}

/// A conversation's kind and members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What it is.
    pub kind: ConversationKind,
    /// Its members.
    pub members: Arc<[MemberId]>,
}

impl Membership {
    /// Where a member stands among the members.
    #[must_use]
    pub fn place_of(&self, member: MemberId) -> Option<usize> {
        self.members.iter().position(|id| *id == member)
    }
}

/// A message is in the log. Durable.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The message; of a duplicate, the first one.
    pub message: StoredEntry,
    /// Whether it was in the log before.
    pub duplicate: bool,
    /// Who is in the conversation.
    pub membership: Membership,
}

/// A watermark is where it should be. Durable.
#[derive(Debug, Clone)]
pub struct Marked {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose watermark.
    pub member: MemberId,
    /// The watermark `delivered` now.
    pub delivered: u64,
    /// The watermark `read` now.
    pub read: u64,
    /// Whether it moved.
    pub moved: bool,
    /// What is unread then, if it is known without reading; otherwise [`ConversationStore::count_unread`] tells.
    pub unread: Option<UnreadCount>,
    /// The newest entry at that moment: up to where what is unread is counted.
    pub last_seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who is in the conversation.
    pub membership: Membership,
}

/// The settings of a member are what they should be. Durable.
#[derive(Debug, Clone, Copy)]
pub struct Configured {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose settings.
    pub member: MemberId,
    /// The settings now: of several commands of a batch, each may say what the last of them has set.
    pub stored: StoredSettings,
    /// Whether others are to be told: they were changed, and no later command of the batch says what they are.
    pub changed: bool,
}

/// What a command did. Durable.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Of [`Command::Append`].
    Appended(Appended),
    /// Of [`Command::Mark`].
    Marked(Marked),
    /// Of [`Command::Configure`].
    Configured(Configured),
    /// Of [`Command::Refresh`]: what was found is in [`Applied::untold`].
    Refreshed,
}

/// An entry that was found in a log, and that whoever stored it may not have told anybody of: it died in between, or does not know that
/// it is stored.
#[derive(Debug, Clone)]
pub struct Untold {
    /// It.
    pub message: StoredEntry,
    /// Whether this node has stored it, in a batch whose outcome it did not know.
    pub ours: bool,
    /// Who is in the conversation.
    pub membership: Membership,
}

/// What nodes that are gone have left half done, and this one.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Conversations whose logs have entries that the conversation does not know of.
    pub conversations: Vec<ConversationId>,
    /// The nodes that are gone; the store's own business.
    pub(super) nodes: Vec<Left>,
    /// When it was looked for, if it was.
    pub(super) looked: Option<Instant>,
    /// In which epoch.
    pub(super) epoch: Option<Epoch>,
}

/// A node that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Which.
    pub(super) id: [u8; 12],
    /// When it was last seen, by the clock of the store, in milliseconds.
    pub(super) at: i64,
    /// Since when it may have had work half done.
    pub(super) since: Timestamp,
    /// How long after it was found gone what it had sent may go on.
    pub(super) settled: Duration,
}

/// Why a command was refused. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such conversation, or the member is not in it.
    ConversationNotFound,
    /// A member of the conversation to be made does not exist.
    MemberNotFound,
    /// The message that is to be answered is not in the conversation.
    AnsweredNotFound,
    /// The other members are all deactivated.
    RecipientDeactivated,
    /// The sending member is deactivated.
    SenderDeactivated,
    /// The conversation is not begun now.
    NotYet(NotYet),
    /// The store has refused to write it, while it wrote others of the batch; why, for the log.
    Failed(StoreError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NotYet(NotYet::TooMany(wait)) => {
                return Self::new(ErrorCode::RateLimited, "Too many new conversations.").retry_after(wait);
            }
            Refusal::NotYet(NotYet::EarlierOneFirst(wait)) => return Self::earlier_one_first(wait),
            Refusal::AnsweredNotFound => {
                return Self::field(
                    ErrorCode::MessageNotFound,
                    "reply_to",
                    "there is no such message in the conversation",
                );
            }
            Refusal::ConversationNotFound => ErrorCode::ConversationNotFound,
            Refusal::MemberNotFound => ErrorCode::MemberNotFound,
            Refusal::RecipientDeactivated => ErrorCode::RecipientDeactivated,
            Refusal::SenderDeactivated => ErrorCode::MemberDeactivated,
            Refusal::Failed(error) => return error.into(),
        };
        Self::of(code)
    }
}

/// What a batch of commands did.
#[derive(Debug)]
pub struct Applied {
    /// What became of each command, in the order of the batch.
    pub outcomes: Vec<Result<Outcome, Refusal>>,
    /// Entries of these conversations that others stored and may not have told of, ascending by `seq` in each. They
    /// belong between what the commands did.
    pub untold: Vec<Untold>,
    /// Everything with a position up to here is durable.
    pub position: Position,
    /// No entry of it has a later position than this.
    pub latest: Position,
}

/// Which entries of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest.
    Newest,
    /// The newest with a smaller `seq`.
    Before(u64),
    /// The oldest with a larger `seq`.
    After(u64),
}

/// A page of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The entries, ascending by `seq`.
    pub entries: Vec<StoredEntry>,
    /// Whether there are further ones in the direction of the range.
    pub more: bool,
}

/// A conversation as one of its members sees it, with some of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationState {
    /// Its id.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its members, and how far each has got.
    pub members: Vec<Watermarks>,
    /// The newest entry.
    pub last_seq: u64,
    /// What the member has not read.
    pub unread: UnreadCount,
    /// When the newest entry was stored.
    pub last_at: Timestamp,
    /// The member's own settings.
    pub settings: StoredSettings,
    /// Entries, ascending by `seq`.
    pub entries: Vec<StoredEntry>,
}

impl ConversationState {
    /// Bytes of it in a frame: never less than it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size::conversation_head_bytes(self.members.len()) + self.entries.iter().map(StoredEntry::bytes).sum::<usize>()
    }
}

/// A page of conversations, those with the newest entry first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationPage {
    /// The conversations, each with its newest entry.
    pub conversations: Vec<ConversationState>,
    /// Where the next page starts.
    pub next: Option<Position>,
}

/// When a message was delivered and read by a member, as far as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiptTimes {
    /// When it reached a device of the member.
    pub delivered_at: Option<Timestamp>,
    /// When the member read it.
    pub read_at: Option<Timestamp>,
}

/// How many messages a member has not read: exact up to [`limits::UNREAD_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnreadCount {
    /// How many, at most [`limits::UNREAD_MAX`].
    pub count: u64,
    /// Whether there are more.
    pub more: bool,
}

impl UnreadCount {
    /// A number that may be larger than what is told.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self { count: number.min(limits::UNREAD_MAX), more: number > limits::UNREAD_MAX }
    }
}

/// Entries of a conversation, and the member whose receipts of them are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptRange {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose receipts.
    pub member: MemberId,
    /// The first entry.
    pub first: u64,
    /// The last entry.
    pub last: u64,
}

/// How many conversations and messages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConversationCounts {
    /// Conversations that have a message.
    pub conversations: u64,
    /// Messages.
    pub messages: u64,
}

/// The logs of conversations, as the sequencer writes them.
#[async_trait]
pub trait ConversationLog: Send + Sync {
    /// How many batches may be applied at the same time. Commands of one conversation must never be in two of them.
    fn lanes(&self) -> usize;

    /// Everything with a position up to here is durable and visible, and every change that begins from now on gets a
    /// larger one. The epoch changes when that cannot be kept up.
    fn horizon(&self) -> StreamPosition;

    /// The position of the horizon, looked up afresh.
    ///
    /// # Errors
    /// The store.
    async fn position(&self) -> Result<Position, StoreError>;

    /// Waits until the horizon and the epochs are those of now: what a node knows that was paused, has not reached its store yet, or has
    /// not heard of what another one has begun just now, is not.
    ///
    /// # Errors
    /// The store.
    async fn current(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether a sync may start from a place: it is of an epoch of this store, and not beyond what is known of that.
    fn accepts(&self, place: StreamPosition) -> bool;

    /// Somebody says that entries of a conversation from `first` up to `last` were stored by others, and that everybody was told of
    /// them. Only a hint: the store looks whether they are there before anything is appended after them.
    fn told(&self, _conversation: ConversationId, _first: u64, _last: u64) {}

    /// Applies commands in their order and makes them durable together. Waits for the outcome however long it takes,
    /// so that it is known; the caller decides when to stop telling others to wait.
    ///
    /// # Errors
    /// The store; then no command took effect, except where the error says that this is unknown.
    async fn apply(&self, batch: Vec<Command>) -> Result<Applied, StoreError>;
}

/// What is to be finished after nodes that are gone, and after what this one does not know the outcome of. A store that only one
/// process writes has none.
#[async_trait]
pub trait Recovery: Send + Sync {
    /// What nodes that are gone have left half done. Each conversation has to be refreshed ([`Command::Refresh`]), then
    /// [`Recovery::finished`] is told.
    ///
    /// # Errors
    /// The store.
    async fn unfinished(&self) -> Result<Unfinished, StoreError>;

    /// What was left is finished now.
    ///
    /// # Errors
    /// The store; then it is found once more.
    async fn finished(&self, unfinished: Unfinished) -> Result<(), StoreError>;
}

/// Conversations, as they are read.
#[async_trait]
pub trait ConversationStore: Send + Sync {
    /// The kind and members of a conversation. Here and below, `by` is whose request the read belongs to.
    ///
    /// # Errors
    /// The store.
    async fn membership(&self, by: Caller, conversation: ConversationId) -> Result<Option<Membership>, StoreError>;

    /// Those of these conversations that exist, in any order.
    ///
    /// # Errors
    /// The store.
    async fn begun(&self, by: Caller, conversations: Vec<ConversationId>) -> Result<Vec<ConversationId>, StoreError>;

    /// The other members of all conversations of a member.
    ///
    /// # Errors
    /// The store.
    async fn partners(&self, member: MemberId) -> Result<Vec<MemberId>, StoreError>;

    /// The conversations of a member that a filter lets through, those with the newest entry first, from `before` on. The order and
    /// `before` are the same whatever the filter is.
    ///
    /// A page is as full as `limit` and [`limits::LIST_BYTES`] let it be, or the last one. What it costs: every conversation of the member
    /// is looked at for the order, and of those with these settings [`LIST_LOOKED`](super::lists::LIST_LOOKED) at most for what is unread, if
    /// that is asked for. When a page has come so far and is not full, it ends there, and `next` goes on.
    ///
    /// # Errors
    /// The store.
    async fn list(
        &self,
        member: MemberId,
        filter: ListFilter,
        before: Option<Position>,
        limit: usize,
    ) -> Result<ConversationPage, StoreError>;

    /// Entries of a conversation of the member; `None` if it is not one of theirs.
    ///
    /// # Errors
    /// The store.
    async fn history(
        &self,
        member: MemberId,
        conversation: ConversationId,
        range: Range,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError>;

    /// For each conversation the oldest entries after a `seq`, up to `limit`; nothing of one that is not the member's.
    ///
    /// # Errors
    /// The store.
    async fn logs(
        &self,
        member: MemberId,
        after: Vec<(ConversationId, u64)>,
        limit: usize,
    ) -> Result<Vec<HistoryPage>, StoreError>;

    /// The message with this id.
    ///
    /// # Errors
    /// The store.
    async fn message(&self, by: Caller, id: MessageId) -> Result<Option<StoredEntry>, StoreError>;

    /// How many messages of others a member has not read, by conversation; those without are left out. What a count
    /// costs does not depend on how many there are.
    ///
    /// # Errors
    /// The store.
    async fn unread(&self, member: MemberId) -> Result<Vec<(ConversationId, UnreadCount)>, StoreError>;

    /// What a member has set of conversations, in the order of what is asked; the default where they have set nothing, and where they
    /// are no member.
    ///
    /// # Errors
    /// The store.
    async fn settings(
        &self,
        by: Caller,
        member: MemberId,
        conversations: Vec<ConversationId>,
    ) -> Result<Vec<ConversationSettings>, StoreError>;

    /// How many of the entries after `read` and up to `last` are messages of others. What it costs does not depend on how
    /// many there are.
    ///
    /// # Errors
    /// The store.
    async fn count_unread(
        &self,
        conversation: ConversationId,
        member: MemberId,
        read: u64,
        last: u64,
    ) -> Result<UnreadCount, StoreError>;

    /// When members received and read entries: for each range the times of its entries, in their order. `asking` is who
    /// wants to know.
    ///
    /// # Errors
    /// The store.
    async fn receipt_times(
        &self,
        asking: MemberId,
        ranges: Vec<ReceiptRange>,
    ) -> Result<Vec<Vec<ReceiptTimes>>, StoreError>;

    /// What changed for a member after a position, and possibly what changed shortly before it: it is state; without one,
    /// or with one that is not of this store, the full state. Bounded by the sync limits of the protocol, and by
    /// [`SYNC_PART_BYTES`](super::sync::SYNC_PART_BYTES): what is over that is read with [`Self::delta_below`].
    ///
    /// # Errors
    /// The store.
    async fn delta(&self, member: MemberId, since: Option<Position>) -> Result<Delta, StoreError>;

    /// A further part of what changed for a member. `None` if the store has not come to where the list was begun: it is
    /// another state of it.
    ///
    /// # Errors
    /// The store.
    async fn delta_below(&self, member: MemberId, part: SyncPart) -> Result<Option<Delta>, StoreError>;
}
