//! The hot pieces, each alone: `cargo bench`. What they cost together, `load` measures.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement, not the server")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use members_book::{
    budget::Budget,
    clock::SystemClock,
    connection::{
        Timing,
        machine::{Machine, Moment},
    },
    hub::{Connection, Frame, Hub, Outbox, OutboxLimits},
    ids::{Ids, SystemEntropy},
    service::connections::SignedIn,
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
    ClientFrame, ClientMessageId, ConnectionId, ConversationId, MemberId, MessageId, Request, ServerFrame, SessionId,
    Timestamp,
    client::MessageSend,
    model::{Message, UserType},
    server::MessagePush,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const MEMBER: MemberId = MemberId::from_bytes([1; 12]);

fn push() -> ServerFrame {
    let message = Message {
        id: MessageId::from_bytes([2; 12]),
        conversation: ConversationId::from_bytes([3; 12]),
        seq: 12_345,
        sender: MEMBER,
        client_id: ClientMessageId::from_bytes([4; 16]),
        content: "x".repeat(200),
        at: Timestamp::from_millis(1_795_370_633_120),
    };
    ServerFrame::MessagePush(MessagePush { message, conversation: None })
}

fn send(number: u128) -> String {
    let client_id = ClientMessageId::from_bytes(number.to_be_bytes());
    let send = MessageSend { to: Some(MEMBER), conversation: None, client_id, content: "x".repeat(200) };
    ClientFrame::MessageSend(send).encode(Some(&"s1".parse().unwrap()))
}

fn frames(criterion: &mut Criterion) {
    let text = send(7);
    criterion.bench_function("decode message.send", |bencher| bencher.iter(|| Request::decode(black_box(&text))));
    let frame = push();
    criterion.bench_function("encode message", |bencher| bencher.iter(|| Frame::push(black_box(&frame))));
}

/// A request into the state machine, and its actions out of it.
fn machine(criterion: &mut Criterion) {
    let second = Duration::from_secs(1);
    let timing = Timing { hello: second, heartbeat: second * 30, write: second, close: second };
    let now = || Moment { instant: Instant::now(), time: Timestamp::from_millis(0) };
    let text = send(7);
    let limits = OutboxLimits { frames: 1_000, bytes: 1_000_000 };
    let outbox = Arc::new(Outbox::new(limits, Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new())))));
    let (id, session) = (ConnectionId::from_bytes([5; 12]), SessionId::from_bytes([6; 12]));
    let connection = Arc::new(Connection::new(id, MEMBER, session, "d".parse().unwrap(), outbox));
    let expires_at = Timestamp::from_millis(1_000_000);
    let signed_in = SignedIn { connection, expires_at };
    criterion.bench_function("state machine, message.send", |bencher| {
        bencher.iter_batched_ref(
            || {
                let (machine, _) = Machine::welcome(&timing, now(), None, &signed_in);
                (machine, Vec::with_capacity(4))
            },
            |(machine, actions)| machine.text(now(), black_box(&text), actions),
            BatchSize::SmallInput,
        );
    });
}

/// One event to a thousand connections.
fn fan_out(criterion: &mut Criterion) {
    let metrics = Arc::new(Metrics::new());
    let hub = Hub::new(1_000, Arc::clone(&metrics));
    let limits = OutboxLimits { frames: 1_000, bytes: 1_000_000 };
    let budget = Arc::new(Budget::new(usize::MAX, Arc::clone(&metrics)));
    let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    let outboxes: Vec<_> = (0..1_000)
        .map(|number| {
            let outbox = Arc::new(Outbox::new(limits, Arc::clone(&budget)));
            let (id, session): (ConnectionId, SessionId) = (ids.connection(), ids.session());
            let device = format!("device-{number}").parse().unwrap();
            let connection = Connection::new(id, MEMBER, session, device, Arc::clone(&outbox));
            hub.register(Arc::new(connection)).unwrap();
            outbox
        })
        .collect();
    let frame = Frame::push(&push());
    let mut group = criterion.benchmark_group("hub");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("deliver to 1,000 connections", |bencher| {
        bencher.iter(|| {
            hub.deliver(MEMBER, || frame.clone(), None);
            outboxes.iter().for_each(|outbox| drop(outbox.take()));
        });
    });
    group.finish();
}

/// Messages in one commit, synced to disk.
fn commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(Ids::new(Arc::clone(&clock) as _, Arc::new(SystemEntropy)));
    let path = folder.path().join("bench.db");
    let options = sqlite::Options { path, readers: 1, timeout: Duration::from_secs(60), exclusive: true };
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
    let store = Sqlite::open(options, clock, Arc::clone(&ids), metrics, &supervisor).unwrap();
    let members: Vec<MemberId> = (0..400).map(|_| runtime.block_on(member(&store, &ids))).collect();
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(20);
    for batch in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} messages in 200 conversations"), |bencher| {
            bencher.iter_batched(
                || (0..batch).map(|number| append(&members, usize::try_from(number).unwrap())).collect::<Vec<_>>(),
                |commands| runtime.block_on(store.log.apply(commands)).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    runtime.block_on(store.backend.close());
}

async fn member(store: &Store, ids: &Ids) -> MemberId {
    let id = ids.member();
    let new = NewMember {
        id,
        name: "Bench".to_owned(),
        email: format!("{id}@example.com"),
        password_hash: String::new(),
        user_type: UserType::Member,
        created_at: Timestamp::from_millis(0),
    };
    store.members.insert(new, None).await.unwrap().map(|member| member.profile.id).unwrap_or(id)
}

fn append(members: &[MemberId], number: usize) -> Command {
    let pair = number % (members.len() / 2);
    let (one, other) = (members[pair * 2], members[pair * 2 + 1]);
    Command::Append(Append {
        conversation: members_book::service::messaging::direct_conversation(one, other),
        create: Some(NewConversation::direct(one, other)),
        sender: one,
        client_id: ClientMessageId::from_uuid(uuid::Uuid::now_v7()),
        content: "x".repeat(200),
    })
}

criterion_group!(hot, frames, machine, fan_out, commit);
criterion_main!(hot);
