//! Conversations: sending, watermarks, typing, lists, history and sync.

use std::{sync::Arc, time::Duration};

use protocol::{
    ClientMessageId, ConnectionId, ConversationId, Cursor, ErrorCode, MemberId, ServerFrame,
    limits::CONTENT_MAX_CHARS,
    rest::Audience,
    server::{Conversations, History, TypingPush},
};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Respond,
    asker::{Asker, Responder, Sent},
    beginnings::Beginnings,
    catch_up::Start,
    cursor::{self, Partial},
    events::Events,
    limiter::{Limiter, Rate},
    push::Intake,
    room::{Permit, Room},
    sequencer::Sequencer,
    shared_limits::SharedLimits,
    views,
};
use crate::{
    cluster::Floor,
    failure::{Failure, Input},
    hub::Connection,
    position::{Epoch, StreamPosition},
    store::{
        ConversationStore, MemberStore,
        conversations::{
            Admission, Append, Command, Configure, Configured, Mark, MarkKind, Marked, Membership, NewConversation,
            Range, UnreadCount,
        },
        lists::ListFilter,
        sync::{Delta, SyncPart},
        turns::Caller,
    },
    telemetry::Metrics,
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

/// A message as a client wants it sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where to.
    pub target: Target,
    /// The id that the client gave it.
    pub client_id: ClientMessageId,
    /// The text, as it came.
    pub content: String,
    /// The number of the message that it answers, if it answers one.
    pub reply_to: Option<u64>,
}

impl Draft {
    /// Checks what can be told from the message itself: the command to store it as one of `sender`.
    ///
    /// # Errors
    /// A text that is empty or too long, or a message to oneself.
    pub fn validate(self, sender: MemberId) -> Result<Append, Failure> {
        let Self { target, client_id, content, reply_to } = self;
        let content = trim(content)?;
        let (conversation, create) = match target {
            Target::Conversation(conversation) => (conversation, None),
            Target::Member(to) if to == sender => return Err(message_to_self()),
            Target::Member(to) => (direct_conversation(sender, to), Some(NewConversation::direct(sender, to))),
        };
        Ok(Append { conversation, create, sender, client_id, content, reply_to })
    }
}

/// How much typing one member is shown: so many a second, and at once after a pause. What is more is not shown.
const TYPING_SHOWN: Rate = Rate { per_period: 20, period: Duration::from_secs(1), burst: 50 };

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
    members: Arc<dyn MemberStore>,
    sequencer: Sequencer,
    intake: Arc<Intake>,
    events: Events,
    cursors: cursor::Keys,
    floor: Arc<Floor>,
    memberships: Cache<ConversationId, Membership>,
    beginnings: Arc<Beginnings>,
    admission: Admission,
    /// Messages of one member.
    limits: Arc<SharedLimits>,
    typing_shown: Limiter<MemberId>,
}

/// An answer that is owed: it is given whatever happens.
struct OwedAnswer<T>(Option<Respond<T>>);

impl<T> OwedAnswer<T> {
    fn give(mut self, result: Result<T, Failure>) {
        if let Some(respond) = self.0.take() {
            respond(result);
        }
    }
}

impl<T> Drop for OwedAnswer<T> {
    fn drop(&mut self) {
        if let Some(respond) = self.0.take() {
            // Its task panicked.
            respond(Err(ErrorCode::Internal.into()));
        }
    }
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
    /// Conversations in this store. Limited is how many messages one member sends, and how many conversations they begin;
    /// administrators are exempt from the latter.
    #[must_use]
    pub fn new(
        store: Arc<dyn ConversationStore>,
        members: Arc<dyn MemberStore>,
        (sequencer, intake): (Sequencer, Arc<Intake>),
        events: Events,
        (cursors, floor): (cursor::Keys, Arc<Floor>),
        limits: Arc<SharedLimits>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let beginnings = Beginnings::new(Arc::clone(&limits.beginnings));
        let admission = beginnings.admission();
        let typing_shown = Limiter::new("typing_shown", TYPING_SHOWN, metrics);
        let memberships = Cache::new(MEMBERSHIPS);
        Self {
            store,
            members,
            sequencer,
            intake,
            events,
            cursors,
            floor,
            memberships,
            beginnings,
            admission,
            limits,
            typing_shown,
        }
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.limits.messages.tidy();
        self.beginnings.tidy();
        self.typing_shown.tidy();
    }

    /// Charges a message to its sender, over their sockets and REST together.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn charge(&self, sender: MemberId) -> Result<(), Failure> {
        self.limits.messages.check(&sender)
    }

    /// The same for one that is sent over REST.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn charge_over_rest(&self, sender: MemberId) -> Result<(), Failure> {
        self.limits.message_over_rest(sender)
    }

    /// The room that a message or a move of a watermark has to have before it is handed on.
    #[must_use]
    pub fn room(&self) -> &Room {
        self.sequencer.room()
    }

    /// Room for something with so many bytes of content into a conversation, if there is some at once.
    ///
    /// # Errors
    /// `unavailable` while the store does not answer: then it need not be waited for.
    pub fn room_for(&self, conversation: ConversationId, content: usize) -> Result<Option<Permit>, Failure> {
        self.sequencer.takes(conversation)?;
        Ok(self.room().take(content))
    }

    /// The same, and waits for it.
    ///
    /// # Errors
    /// `unavailable`, or `overloaded` when it takes too long.
    pub async fn wait_for_room(&self, conversation: ConversationId, content: usize) -> Result<Permit, Failure> {
        self.sequencer.takes(conversation)?;
        self.room().clone().wait([content], Instant::now()).await
    }

    /// Sends a valid message that was charged. Never waits; the answer comes through `respond` when the message is durable, or
    /// when it failed. The event goes to all connections but `origin`.
    pub fn send(&self, mut message: Append, permit: Permit, origin: Option<ConnectionId>, respond: Respond<Sent>) {
        if let Some(create) = &mut message.create {
            create.admission = Some(self.admission.clone());
        }
        self.sequencer.submit(Command::Append(message), Asker::new(origin, Responder::Appended(respond), permit));
    }

    /// Moves a watermark, as a connection says that its device has it, or its member has read it. Never waits; the answer comes through
    /// `respond` when the move is durable, or when it failed.
    pub fn mark(&self, mark: Mark, permit: Permit, by: Option<&Arc<Connection>>, respond: Respond<Marked>) {
        let origin = by.map(|connection| connection.id);
        let respond = if self.intake.is_on() { self.and_take_in(mark, by.cloned(), respond) } else { respond };
        self.sequencer.submit(Command::Mark(mark), Asker::new(origin, Responder::Marked(respond), permit));
    }

    /// Has a move remembered, once it is durable, as what the device says that it has. One that is not in use has it where nobody sees it: its
    /// member is told.
    fn and_take_in(&self, mark: Mark, by: Option<Arc<Connection>>, respond: Respond<Marked>) -> Respond<Marked> {
        let intake = Arc::clone(&self.intake);
        let Mark { conversation, member, kind, seq } = mark;
        let is_read = kind == MarkKind::Read;
        let by = by.filter(|connection| is_read || !connection.is_away());
        Box::new(move |marked: Result<Marked, Failure>| {
            if let Ok(marked) = &marked {
                // One beyond the newest entry is of that one.
                let seq = seq.min(marked.last_seq);
                let device = by.as_ref().map(|connection| &connection.device);
                intake.acknowledged(member, device, conversation, seq, is_read);
            }
            respond(marked);
        })
    }

    /// Sets what a member wants of a conversation. Never waits; the answer comes through `respond` when it is durable, or when it failed.
    /// The member's connections but `origin` are told if it is something else than before.
    pub fn configure(
        &self,
        configure: Configure,
        permit: Permit,
        origin: Option<ConnectionId>,
        respond: Respond<Configured>,
    ) {
        let asker = Asker::new(origin, Responder::Configured(respond), permit);
        self.sequencer.submit(Command::Configure(configure), asker);
    }

    /// Moves the watermark of what was read, and tells what is unread then, as of the commit. What the store does not know
    /// at once is counted by a reader, after the lane has gone on. If the counting fails, the watermark has moved all the same.
    pub fn read(&self, mark: Mark, permit: Permit, by: Option<&Arc<Connection>>, respond: Respond<Unread>) {
        let store = Arc::clone(&self.store);
        let counted = Box::new(move |marked: Result<Marked, Failure>| {
            let (read, last_seq) = match marked {
                Ok(Marked { unread: Some(count), last_seq, .. }) => return respond(Ok(Unread { count, last_seq })),
                Ok(Marked { read, last_seq, .. }) => (read, last_seq),
                Err(failure) => return respond(Err(failure)),
            };
            let asked = OwedAnswer(Some(respond));
            // The number of these tasks is bounded by the requests that a connection may have in flight.
            tokio::spawn(async move {
                let count = store.count_unread(mark.conversation, mark.member, read, last_seq).await;
                asked.give(count.map(|count| Unread { count, last_seq }).map_err(Failure::from));
            });
        });
        self.mark(mark, permit, by, counted);
    }

    /// Tells the others in a conversation that a member is typing, or has stopped. Before the first message, only those
    /// are told who let everybody see their presence; the caller does not learn who does.
    ///
    /// # Errors
    /// `conversation_not_found`, `member_not_found`, a message to oneself, or the store.
    pub async fn typing(
        &self,
        member: MemberId,
        origin: Option<ConnectionId>,
        target: Target,
        active: bool,
    ) -> Result<(), Failure> {
        let conversation = conversation_of(member, target)?;
        let others = match (self.known_membership(member, conversation).await?, target) {
            (Some(membership), _) => others_in(&membership, member)?,
            (None, Target::Conversation(_)) => return Err(ErrorCode::ConversationNotFound.into()),
            (None, Target::Member(to)) => {
                let to = self
                    .members
                    .by_id(Caller::Member(member), to)
                    .await?
                    .filter(|to| !to.is_erased)
                    .ok_or(ErrorCode::MemberNotFound)?;
                let allows = to.profile.is_active && to.profile.visibility.presence == Audience::Members;
                allows.then_some(to.profile.id).into_iter().collect()
            }
        };
        self.show_typing(TypingPush { conversation, member, active }, others, origin);
        Ok(())
    }

    /// Tells the others that a member has stopped typing where they typed a moment ago. Never waits; false if that cannot be
    /// done without the store.
    pub fn stopped_typing(&self, member: MemberId, origin: Option<ConnectionId>, target: Target) -> bool {
        let Ok(conversation) = conversation_of(member, target) else { return true };
        let Some(membership) = self.memberships.get(&conversation) else { return false };
        if let Ok(others) = others_in(&membership, member) {
            self.show_typing(TypingPush { conversation, member, active: false }, others, origin);
        }
        true
    }

    fn show_typing(&self, typing: TypingPush, mut others: Vec<MemberId>, origin: Option<ConnectionId>) {
        others.retain(|other| self.typing_shown.check(other).is_ok());
        self.events.to_members(&others, origin, &ServerFrame::TypingPush(typing));
    }

    /// A page of the member's conversations that a filter lets through; `after` is `next` of the page before, of the same filter.
    ///
    /// # Errors
    /// A bad `after`, or the store.
    pub async fn list(
        &self,
        member: MemberId,
        filter: ListFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Conversations, Failure> {
        let after = after.map(|after| {
            let place = after.parse().ok().and_then(|after| self.cursors.decode(member, cursor::Kind::Page, &after));
            place.map(|place| place.position)
        });
        let before = match after {
            Some(None) => {
                return Err(Failure::input(
                    ErrorCode::ValidationFailed,
                    Input::PageStart,
                    "not a `next` of this server",
                ));
            }
            Some(position) => position,
            None => None,
        };
        let page = self.store.list(member, filter, before, to_usize(limit)).await?;
        // The order of the list is the same in every epoch.
        let place = |position| StreamPosition { epoch: Epoch::NONE, position };
        let next = page.next.map(|next| self.cursors.encode(member, cursor::Kind::Page, place(next)).to_string());
        Ok(Conversations { conversations: page.conversations.into_iter().map(views::conversation).collect(), next })
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
        Ok(History { conversation, entries: page.entries.into_iter().map(views::entry).collect(), more: page.more })
    }

    /// What changed for a member since a position, or the first part of it; the full state without one. `None` if the store
    /// has gone back behind that position.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn delta(
        &self,
        member: MemberId,
        since: Option<StreamPosition>,
    ) -> Result<Option<Delta>, Failure> {
        let changes = self.store.delta(member, since.map(|since| since.position)).await?;
        // The epoch may have ended meanwhile, and before that position.
        Ok(Some(changes).filter(|_| since.is_none_or(|since| self.sequencer.accepts(since))))
    }

    /// A further part of what changed for a member; `None` if the store has gone back behind where it was begun.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn delta_below(&self, member: MemberId, part: SyncPart) -> Result<Option<Delta>, Failure> {
        let start = part.begun;
        let changes = self.store.delta_below(member, part).await?;
        Ok(changes.filter(|_| self.sequencer.accepts(start)))
    }

    /// Where the sync of a member's client with this cursor starts.
    #[must_use]
    pub fn start_of(&self, member: MemberId, cursor: &Cursor) -> Start {
        let complete = self.cursors.decode(member, cursor::Kind::Sync, cursor).map(Start::Since);
        let start = complete.or_else(|| self.cursors.decode_within(member, cursor).map(Start::Within));
        let place = match &start {
            Some(Start::Since(place)) => *place,
            Some(Start::Within(within)) => within.start(),
            // What the client has may be of another server or member, or of a state that is gone together with its secret.
            Some(Start::Full | Start::Reset) | None => return Start::Reset,
        };
        start.filter(|_| self.sequencer.accepts(place)).unwrap_or(Start::Reset)
    }

    /// The same, judged again where the cursor was made for the member and seemed to be of a state that is gone: this node may have been
    /// paused, or may not have reached its store, when it was judged first, or another one has begun an epoch just now. Whoever waits for
    /// that waits together with all others.
    ///
    /// # Errors
    /// The store.
    pub async fn start_of_now(
        &self,
        member: MemberId,
        cursor: Option<&Cursor>,
        start: Start,
    ) -> Result<Start, Failure> {
        match cursor {
            Some(cursor) if start == Start::Reset && self.is_authentic(member, cursor) => {
                self.sequencer.current().await?;
                Ok(self.start_of(member, cursor))
            }
            _ => Ok(start),
        }
    }

    /// Whether a cursor was made for a member, by a server with one of our secrets.
    fn is_authentic(&self, member: MemberId, cursor: &Cursor) -> bool {
        let is_complete = self.cursors.decode(member, cursor::Kind::Sync, cursor).is_some();
        is_complete || self.cursors.decode_within(member, cursor).is_some()
    }

    /// A place within a sync as a cursor of a member.
    #[must_use]
    pub fn cursor_within(&self, member: MemberId, place: &Partial) -> Cursor {
        self.cursors.encode_within(member, place)
    }

    /// Whether commits are made in time, as far as is known.
    ///
    /// # Errors
    /// The store.
    pub fn check(&self) -> Result<(), Failure> {
        Ok(self.sequencer.check()?)
    }

    /// Finishes what was left half done, by nodes that are gone and by this one, and tells those who are connected.
    ///
    /// # Errors
    /// The store; then it is found once more.
    pub async fn recover(&self) -> Result<(), Failure> {
        self.sequencer.recover().await
    }

    /// A place as a cursor of a member.
    #[must_use]
    pub fn cursor_at(&self, member: MemberId, place: StreamPosition) -> Cursor {
        self.cursors.encode(member, cursor::Kind::Sync, place)
    }

    /// Everything that this node has stored up to here has been published.
    #[must_use]
    pub fn published_here(&self) -> StreamPosition {
        self.sequencer.published()
    }

    /// A cursor for everything that has been put into the outboxes so far, by whatever node it was stored, for a connection whose sync was made in an
    /// epoch. If that has ended, the sync may have missed what happened just before: the cursor leads to the full state.
    #[must_use]
    pub fn published(&self, member: MemberId, synced: Epoch) -> Cursor {
        let published = self.floor.limit(self.sequencer.published());
        self.cursor_at(member, if published.epoch == synced { published } else { StreamPosition::NOWHERE })
    }

    /// The sync of a connection was made up to a place. Where that is good in an epoch that has begun meanwhile, it is as if it had been made
    /// in it, as it is for those that had synced before ([`crate::hub::Hub::carry_over`]).
    pub fn synced(&self, connection: &Connection, place: StreamPosition) {
        loop {
            let epoch = self.sequencer.epoch();
            connection.synced_in(if self.sequencer.accepts(place) { epoch } else { place.epoch });
            // Whoever carries over to a later one does that after it has begun, and finds this one.
            if self.sequencer.epoch() == epoch {
                return;
            }
        }
    }

    /// The kind and members of a conversation. `by` is who asks.
    ///
    /// # Errors
    /// `conversation_not_found`, or the store.
    pub(super) async fn membership(&self, by: MemberId, conversation: ConversationId) -> Result<Membership, Failure> {
        self.known_membership(by, conversation).await?.ok_or_else(|| ErrorCode::ConversationNotFound.into())
    }

    async fn known_membership(
        &self,
        by: MemberId,
        conversation: ConversationId,
    ) -> Result<Option<Membership>, Failure> {
        if let Some(membership) = self.memberships.get(&conversation) {
            return Ok(Some(membership));
        }
        let membership = self.store.membership(Caller::Member(by), conversation).await?;
        if let Some(membership) = &membership {
            self.memberships.insert(conversation, membership.clone());
        }
        Ok(membership)
    }
}

/// The conversation that a target of `member` stands for.
///
/// # Errors
/// A message to oneself.
fn conversation_of(member: MemberId, target: Target) -> Result<ConversationId, Failure> {
    match target {
        Target::Member(to) if to == member => Err(message_to_self()),
        Target::Member(to) => Ok(direct_conversation(member, to)),
        Target::Conversation(conversation) => Ok(conversation),
    }
}

/// The others in a conversation of `member`.
///
/// # Errors
/// `conversation_not_found` when it is not one of theirs.
fn others_in(membership: &Membership, member: MemberId) -> Result<Vec<MemberId>, Failure> {
    if !membership.members.contains(&member) {
        return Err(ErrorCode::ConversationNotFound.into());
    }
    Ok(membership.members.iter().copied().filter(|other| *other != member).collect())
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
    Failure::input(ErrorCode::MessageToSelf, Input::Receiver, "that is yourself")
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

    #[tokio::test]
    async fn a_count_whose_task_panics_is_answered() {
        let (answered, answer) = tokio::sync::oneshot::channel();
        let asked = OwedAnswer::<Unread>(Some(Box::new(move |result| answered.send(result).unwrap())));
        let task = tokio::spawn(async move {
            let _asked = asked;
            panic!("on purpose")
        });
        assert!(task.await.is_err());
        assert_eq!(answer.await.unwrap().unwrap_err().code, ErrorCode::Internal);
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
