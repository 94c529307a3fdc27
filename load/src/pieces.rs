//! The hot pieces of the server, each alone, to be counted: what they cost together, the scenarios measure.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use members_book::{
    budget::Budget,
    clock::SystemClock,
    connection::{
        Timing,
        machine::{Machine, Moment},
    },
    hub::{Connection, EntryFrame, Hub, Outbox, OutboxLimits},
    ids::{Ids, SystemEntropy},
    service::{connections::SignedIn, messaging::direct_conversation},
    store::{
        Store,
        conversations::{Append, Command, NewConversation},
        members::NewMember,
        sqlite::{self, Sqlite},
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};
use protocol::{
    ClientFrame, ClientMessageId, ConnectionId, ConversationId, MemberId, MessageId, Request, SessionId, Timestamp,
    client::MessageSend,
    model::{Entry, Message, UserType},
    server::EntryPush,
};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client_ids::ClientIds;

const MEMBER: MemberId = MemberId::from_bytes([1; 12]);
const LONG_AGO: Timestamp = Timestamp::from_millis(0);
/// Connections that an event goes to.
const WATCHERS: u16 = 1_000;
/// Messages in a commit, and the conversations they are in.
const BATCH: usize = 100;
const PAIRS: usize = 200;

/// A piece of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Piece {
    /// A frame with a message is read.
    Decode,
    /// A message is written, for whom it is pushed to and for its sender.
    Encode,
    /// A frame goes into the state machine of a connection, and its actions come out.
    Machine,
    /// An event is queued for a thousand connections, and taken by them.
    FanOut,
    /// A hundred messages are stored in one commit.
    Commit,
}

/// Does one piece again and again, and nothing else.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    piece: Piece,
    rounds: u32,
}

impl Piece {
    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Machine => "machine",
            Self::FanOut => "fan-out",
            Self::Commit => "commit",
        }
    }
}

/// Does a piece so many times.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    match options.piece {
        Piece::Decode => decode(options.rounds)?,
        Piece::Encode => encode(options.rounds)?,
        Piece::Machine => machine(options.rounds)?,
        Piece::FanOut => fan_out(options.rounds)?,
        Piece::Commit => commit(options.rounds).await?,
    }
    Ok(true)
}

fn content() -> String {
    "x".repeat(200)
}

fn send() -> Result<String, String> {
    let client_id = ClientMessageId::from_bytes([7; 16]);
    let send = MessageSend { to: Some(MEMBER), conversation: None, client_id, content: content(), reply_to: None };
    Ok(ClientFrame::MessageSend(send).encode(Some(&parsed("s1")?)))
}

fn push() -> EntryPush {
    let message = Message {
        id: MessageId::from_bytes([2; 12]),
        conversation: ConversationId::from_bytes([3; 12]),
        seq: 12_345,
        sender: MEMBER,
        client_id: ClientMessageId::from_bytes([4; 16]),
        content: content(),
        at: Timestamp::from_millis(1_795_370_633_120),
        reply_to: None,
    };
    EntryPush { entry: Entry::Message(message), conversation: None }
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not good"))
}

fn decode(rounds: u32) -> Result<(), String> {
    let text = send()?;
    for _ in 0..rounds {
        if black_box(Request::decode(black_box(&text))).is_err() {
            return Err("the frame was refused".to_owned());
        }
    }
    Ok(())
}

fn encode(rounds: u32) -> Result<(), String> {
    let (push, id) = (push(), parsed("s1")?);
    for _ in 0..rounds {
        let frame = black_box(EntryFrame::push(black_box(&push)));
        drop(black_box(frame.accepted(black_box(Some(&id)))));
    }
    Ok(())
}

fn outbox() -> Arc<Outbox> {
    let limits = OutboxLimits { frames: 1_000, bytes: 1_000_000 };
    Arc::new(Outbox::new(limits, Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new())))))
}

fn machine(rounds: u32) -> Result<(), String> {
    let second = Duration::from_secs(1);
    let timing = Timing { hello: second, heartbeat: second * 30, write: second, close: second };
    let now = Moment { instant: Instant::now(), time: LONG_AGO };
    let text = send()?;
    let (id, session) = (ConnectionId::from_bytes([5; 12]), SessionId::from_bytes([6; 12]));
    let connection = Arc::new(Connection::new(id, MEMBER, session, parsed("d")?, outbox()));
    let signed_in = SignedIn { connection, expires_at: Timestamp::from_millis(1_000_000) };
    let mut actions = Vec::with_capacity(4);
    for _ in 0..rounds {
        let (mut machine, _) = Machine::welcome(&timing, now, None, &signed_in);
        if black_box(machine.text(now, black_box(&text), &mut actions)).is_none() || actions.is_empty() {
            return Err("nothing followed from the frame".to_owned());
        }
        actions.clear();
    }
    Ok(())
}

fn fan_out(rounds: u32) -> Result<(), String> {
    let hub = Hub::new(WATCHERS.into(), Arc::new(Metrics::new()));
    let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    let mut outboxes = Vec::new();
    for number in 0..WATCHERS {
        let outbox = outbox();
        let device = parsed(&format!("device-{number}"))?;
        let connection = Connection::new(ids.connection(), MEMBER, ids.session(), device, Arc::clone(&outbox));
        hub.register(Arc::new(connection)).map_err(|_| "there is no room for a connection".to_owned())?;
        outboxes.push(outbox);
    }
    let push = EntryFrame::push(&push());
    let frame = push.frame();
    for _ in 0..rounds {
        hub.deliver(MEMBER, || frame.clone(), None);
        if outboxes.iter().map(|outbox| black_box(outbox.take()).len()).sum::<usize>() != outboxes.len() {
            return Err("not everybody was told".to_owned());
        }
    }
    Ok(())
}

async fn commit(rounds: u32) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ids = Arc::new(Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy)));
    let store = open(&folder.path().join("pieces.db"), &ids)?;
    let mut members = Vec::new();
    for _ in 0..PAIRS {
        members.push((member(&store, &ids).await?, member(&store, &ids).await?));
    }
    // The same ids each time: how much an id costs depends on it.
    let mut random = StdRng::seed_from_u64(1);
    let mut pairs = members.iter().cycle();
    for _ in 0..rounds {
        let batch = pairs.by_ref().take(BATCH).map(|&(one, other)| append(one, other, &mut random)).collect();
        let applied = store.log.apply(batch).await.map_err(|error| error.to_string())?;
        if applied.outcomes.iter().any(Result::is_err) {
            return Err("a message was not stored".to_owned());
        }
    }
    store.backend.close().await;
    Ok(())
}

fn open(path: &Path, ids: &Arc<Ids>) -> Result<Store, String> {
    let (path, metrics) = (path.to_owned(), Arc::new(Metrics::new()));
    let options = sqlite::Options { path, readers: 1, timeout: Duration::from_secs(60), exclusive: true };
    let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
    Sqlite::open(options, Arc::new(SystemClock), Arc::clone(ids), metrics, &supervisor)
        .map_err(|error| error.to_string())
}

async fn member(store: &Store, ids: &Ids) -> Result<MemberId, String> {
    let id = ids.member();
    let new = NewMember {
        id,
        name: "Piece".to_owned(),
        email: format!("{id}@load.example.com"),
        password_hash: String::new(),
        user_type: UserType::Member,
        created_at: LONG_AGO,
        language: None,
        must_verify: false,
    };
    let inserted = store.members.insert(new, None).await.map_err(|error| error.to_string())?;
    inserted.map(|member| member.profile.id).map_err(|_| "two members have one id".to_owned())
}

fn append(one: MemberId, other: MemberId, random: &mut StdRng) -> Command {
    Command::Append(Append {
        conversation: direct_conversation(one, other),
        create: Some(NewConversation::direct(one, other)),
        sender: one,
        client_id: ClientIds::V4.next(random),
        content: content(),
        reply_to: None,
    })
}
