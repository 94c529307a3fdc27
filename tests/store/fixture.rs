//! A store of its own for each test.

use std::{sync::Arc, time::Duration};

use members_book::{
    clock::{Clock, ManualClock},
    ids::{Ids, SystemEntropy},
    position::Position,
    service::messaging::direct_conversation,
    store::{
        Store, StoreError,
        changes::{Actor, Change, Changed},
        conversations::{
            Append, Appended, Applied, Command, Mark, MarkKind, Marked, NewConversation, Outcome, ReceiptRange,
            ReceiptTimes, Refusal, UnreadCount,
        },
        entries::StoredEntry,
        mail::{Lane, TakenMail},
        members::{MemberRecord, NewMember},
        mongo::{self, Mongo, Nodes},
        sessions::{KeptSession, NewToken},
        sqlite::{Options, Sqlite},
        turns::Caller,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};
use protocol::{ClientMessageId, ConversationId, MemberId, SessionId, Timestamp, model::UserType};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::database::Database;

/// When the clock of a test starts.
pub const START: Timestamp = Timestamp::from_millis(1_795_370_633_000);

/// A store with a clock that the test moves.
pub struct Fixture {
    pub store: Store,
    pub clock: ManualClock,
    pub ids: Arc<Ids>,
    /// What the store counts.
    pub metrics: Arc<Metrics>,
    /// Where the SQLite file is.
    pub folder: Arc<TempDir>,
    /// The MongoDB database, if it is one.
    pub database: Option<Arc<Database>>,
}

/// How far cursors of the MongoDB stores of tests lie behind. In production it is the time that a command may take and
/// more; here the database is on the same machine and nothing is slow.
const WINDOW: Duration = Duration::from_millis(40);

impl Fixture {
    /// Takes the next mail that is due, of the first lane that has one; it is due again after `lease`.
    pub async fn take_mail(&self, lease: Duration) -> Option<TakenMail> {
        for lane in Lane::ALL {
            let taken = self.store.mail.take(lane, 0, self.now(), self.now().after(lease)).await.unwrap();
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// An empty SQLite store.
    pub fn sqlite() -> Self {
        Self::sqlite_in(Arc::new(tempfile::tempdir().unwrap())).unwrap()
    }

    /// The SQLite store in a folder.
    pub fn sqlite_in(folder: Arc<TempDir>) -> Result<Self, StoreError> {
        let clock = ManualClock::at(START);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let ids = Arc::new(Ids::new(Arc::clone(&shared), Arc::new(SystemEntropy)));
        let options = Options {
            path: folder.path().join("store.db"),
            readers: 2,
            timeout: Duration::from_secs(20),
            exclusive: true,
        };
        let (metrics, supervisor) = watched();
        let store = Sqlite::open(options, shared, Arc::clone(&ids), Arc::clone(&metrics), &supervisor)?;
        Ok(Self { store, clock, ids, metrics, folder, database: None })
    }

    /// An empty MongoDB store.
    pub async fn mongodb() -> Self {
        Self::mongodb_in(Arc::new(Database::new().await))
    }

    /// The MongoDB store in a database, as one of its nodes.
    pub fn mongodb_in(database: Arc<Database>) -> Self {
        Self::mongodb_with(database, Duration::from_secs(20))
    }

    /// The same with another time for calls.
    pub fn mongodb_with(database: Arc<Database>, timeout: Duration) -> Self {
        Self::mongodb_as(database, timeout, Nodes::Serving)
    }

    /// The same, as a node that shares the database or does not.
    pub fn mongodb_as(database: Arc<Database>, timeout: Duration, nodes: Nodes) -> Self {
        Self::mongodb_of(database, timeout, WINDOW, nodes)
    }

    /// The same, whose cursors lie so far behind.
    pub fn mongodb_of(database: Arc<Database>, timeout: Duration, window: Duration, nodes: Nodes) -> Self {
        let clock = ManualClock::at(START);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let ids = Arc::new(Ids::new(Arc::clone(&shared), Arc::new(SystemEntropy)));
        let options = mongo::Options::new(database.uri.clone().into(), timeout);
        let options = mongo::Options { window: Some(window), nodes, ..options };
        let (metrics, supervisor) = watched();
        let store = Mongo::open(options, shared, Arc::clone(&ids), Arc::clone(&metrics), &supervisor).unwrap();
        Self { store, clock, ids, metrics, folder: Arc::new(tempfile::tempdir().unwrap()), database: Some(database) }
    }

    /// Closes the store and opens it again.
    pub async fn reopened(self) -> Self {
        self.store.backend.close().await;
        let Self { store, folder, database, .. } = self;
        drop(store);
        match database {
            None => Self::sqlite_in(folder).unwrap(),
            Some(database) => Self::mongodb_in(database),
        }
    }

    /// The same after a kill: the files as they are on the disk, whatever was still to be done. A MongoDB store is closed.
    pub async fn killed(self) -> Self {
        let passed = Duration::from_millis(u64::try_from(self.now().as_millis() - START.as_millis()).unwrap());
        if self.database.is_some() {
            let killed = self.reopened().await;
            killed.clock.advance(passed);
            return killed;
        }
        let folder = Arc::new(tempfile::tempdir().unwrap());
        for name in ["store.db", "store.db-wal"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        let killed = Self::sqlite_in(folder).unwrap();
        killed.clock.advance(passed);
        self.store.backend.close().await;
        killed
    }

    /// Lets what was written become older than the cursors from now on.
    pub async fn settle(&self) -> Position {
        if self.database.is_some() {
            // Entries are taken to be as old as the window allows.
            tokio::time::sleep(2 * WINDOW + Duration::from_millis(20)).await;
        }
        self.store.log.position().await.unwrap()
    }

    /// How often something was written by now.
    pub fn writes(&self) -> u64 {
        let text = self.metrics.render().unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("membersbook_store_write_seconds_count "));
        count.unwrap().parse().unwrap()
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass.
    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Stores a member.
    pub async fn member(&self, name: &str) -> MemberId {
        self.member_with_email(name, &format!("{name}@example.com")).await.profile.id
    }

    /// Stores a member with a certain address.
    pub async fn member_with_email(&self, name: &str, email: &str) -> MemberRecord {
        self.store.members.insert(self.new_member(name, email), None).await.unwrap().unwrap()
    }

    /// A member to be stored.
    pub fn new_member(&self, name: &str, email: &str) -> NewMember {
        NewMember {
            id: self.ids.member(),
            name: name.to_owned(),
            email: email.to_owned(),
            password_hash: format!("hash of {name}"),
            user_type: UserType::Member,
            created_at: self.now(),
            language: None,
            must_verify: false,
        }
    }

    /// Changes a member, as nobody in particular; they must exist and may be changed.
    pub async fn change(&self, id: MemberId, change: Change) -> MemberRecord {
        let members = &self.store.members;
        let changed = members.change(id, change, Actor::default(), self.now(), CancellationToken::new()).await;
        let Changed::Done { after, .. } = changed.unwrap() else { panic!("the change was refused") };
        *after
    }

    /// A session that stays when others end, with the token that it goes on with.
    pub fn keep(&self, id: SessionId) -> KeptSession {
        let token = NewToken { hash: self.ids.secret(), expires_at: self.now().after(Duration::from_secs(3_600)) };
        KeptSession { id, token }
    }

    /// How often a member has replaced what they prove who they are with.
    pub async fn credentials(&self, member: MemberId) -> u64 {
        self.store.members.by_id(Caller::System, member).await.unwrap().unwrap().credentials
    }

    /// Applies one command.
    pub async fn apply(&self, command: Command) -> Result<Outcome, Refusal> {
        self.apply_all(vec![command]).await.outcomes.remove(0)
    }

    /// Applies commands together.
    pub async fn apply_all(&self, commands: Vec<Command>) -> Applied {
        self.store.log.apply(commands).await.unwrap()
    }

    /// Stores a message from one member to another.
    pub async fn say(&self, from: MemberId, to: MemberId, content: &str) -> StoredEntry {
        match self.apply(append(from, to, crate::harness::client_id(), content)).await {
            Ok(Outcome::Appended(Appended { message, duplicate: false, .. })) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Moves a watermark; returns (delivered, read, unread, moved).
    pub async fn mark(
        &self,
        conversation: ConversationId,
        member: MemberId,
        kind: MarkKind,
        seq: u64,
    ) -> (u64, u64, Option<u64>, bool) {
        match self.apply(Command::Mark(Mark { conversation, member, kind, seq })).await {
            Ok(Outcome::Marked(Marked { delivered, read, last_seq, moved, unread, .. })) => {
                let counted = self.unread_between(conversation, member, read, last_seq).await;
                assert!(unread.is_none_or(|unread| unread == counted), "{unread:?} and {counted:?}");
                (delivered, read, (kind == MarkKind::Read).then_some(counted.count), moved)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Counts the messages of others after one `seq` and up to another one.
    pub async fn unread_between(
        &self,
        conversation: ConversationId,
        member: MemberId,
        read: u64,
        last: u64,
    ) -> UnreadCount {
        self.store.conversations.count_unread(conversation, member, read, last).await.unwrap()
    }

    /// When a member received and read entries.
    pub async fn receipt_times(
        &self,
        conversation: ConversationId,
        member: MemberId,
        first: u64,
        last: u64,
    ) -> Vec<ReceiptTimes> {
        let range = ReceiptRange { conversation, member, first, last };
        self.store.conversations.receipt_times(member, vec![range]).await.unwrap().remove(0)
    }
}

/// What watches over the tasks of a store.
pub fn watched() -> (Arc<Metrics>, Supervisor) {
    let metrics = Arc::new(Metrics::new());
    (Arc::clone(&metrics), Supervisor::new(metrics, CancellationToken::new()))
}

/// A message from one member to another.
pub fn append(from: MemberId, to: MemberId, client_id: ClientMessageId, content: &str) -> Command {
    answer(from, to, client_id, content, None)
}

/// One that may answer another.
pub fn answer(
    from: MemberId,
    to: MemberId,
    client_id: ClientMessageId,
    content: &str,
    reply_to: Option<u64>,
) -> Command {
    Command::Append(Append {
        conversation: direct_conversation(from, to),
        create: Some(NewConversation::direct(from, to)),
        sender: from,
        client_id,
        content: content.to_owned(),
        reply_to,
    })
}
