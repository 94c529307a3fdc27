//! Services put together, with a clock that moves while they work.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use clap::Parser as _;
use protocol::{
    ClientMessageId, CloseCode, ErrorCode, MemberId, Timestamp,
    client::Hello,
    limits::PAGE_MAX,
    model::{Device, Platform, PresenceStatus, UserType},
    rest::RegisterRequest,
};

use tokio::sync::mpsc;

use super::*;
use crate::{
    auth::keys::ring,
    config::Cli,
    hub::{Close, Connection, Hub, Outbox},
    service::{accounts::Authorized, export::Part, messaging::direct_conversation},
    store::{
        conversations::{Append, Command, NewConversation},
        members::NewMember,
        sessions::{NewSession, NewToken, SessionDevice},
        turns::Caller,
    },
};

/// A clock that leaps by its step whenever it is read, while connections of some member are closed.
struct Leaping {
    at: AtomicI64,
    step: AtomicI64,
    closing: OnceLock<Arc<Hub>>,
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        let step = self.step.load(Ordering::SeqCst);
        if let Some(hub) = self.closing.get() {
            hub.close(MemberId::from_bytes([7; 12]), None, Close::with(CloseCode::Disconnected));
        }
        Timestamp::from_millis(self.at.fetch_add(step, Ordering::SeqCst) + step)
    }
}

#[tokio::test]
async fn a_refused_second_check_leaves_no_trace_of_the_member() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("sqlite:{}", path("test.db"));
    let (data, photo_dir) = (path(""), path("photos"));
    let flags = ["members-book", "--bcrypt-cost", "4", "--database-url", &url, "--data-dir", &data];
    let flags = flags.into_iter().chain(["--photo-dir", &photo_dir]).map(String::from);
    let clock =
        Arc::new(Leaping { at: AtomicI64::new(1_795_370_633_000), step: AtomicI64::new(0), closing: OnceLock::new() });
    let world = World { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..World::default() };
    let base = Foundation::lay(Cli::parse_from(flags).settings, world, Nodes::Serving).unwrap();
    let ring = ring("0123456789abcdef0123456789abcdef", &[]);
    let cursors = cursor::Keys::new(&ring);
    let post = base.post(&ring).unwrap();
    let accounts = Arc::new(base.accounts(&ring, &post, &base.effects(photos(&base), &post)).unwrap());
    let (context, _lanes) = base.connection(&accounts, cursors, Couriers::none());
    let (name, email, password) = ("Ana".to_owned(), "ana@example.com".to_owned(), "correct horse".to_owned());
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = RegisterRequest { name, email, password, ..RegisterRequest::default() };
    let ana = accounts.register(request, None, peer).await.unwrap().logged_in().unwrap();
    let (member, outbox) = (ana.member.id, || Arc::new(Outbox::new(context.outbox, Arc::clone(&base.budget))));
    // A device of the member that watches the member sees everything, and does not count as it is not signed in.
    let (session, device) = (base.ids.session(), "watcher".parse().unwrap());
    let watcher = Arc::new(Connection::new(base.ids.connection(), member, session, device, outbox()));

    // The token is good at the first check and has expired at the second, which is made because a decision that was carried
    // out meanwhile has not found this connection.
    let _ = clock.closing.set(Arc::clone(&base.hub));
    clock.step.store(14 * 60 * 1000, Ordering::SeqCst);
    let device = Device { id: "phone".parse().unwrap(), platform: Platform::Other, name: None };
    let hello = Hello { token: ana.access_token, device, cursor: None };
    let verified = accounts.tokens.verify(&hello.token);
    let refused = context.connections.sign_in((hello, verified), outbox(), peer).await.err().unwrap();
    clock.step.store(0, Ordering::SeqCst);

    assert_eq!(refused.code, ErrorCode::TokenExpired);
    assert!(!base.hub.is_connected(member));
    let shown = context.watching.watch(&watcher, vec![member]).await.unwrap();
    assert_eq!((shown[0].status, shown[0].last_seen), (PresenceStatus::Offline, None));
    context.watching.finish().await;
    let stored = base.store.members.last_seen(Caller::System, vec![member]).await.unwrap();
    assert_eq!(stored[0].at, None, "who was refused was not seen");
}

fn photos(base: &Foundation) -> Objects {
    Objects::open(&base.settings.photos, Duration::from_secs(1), Arc::default()).unwrap()
}

/// A conversation that gets a message moves to the top of the list, past the page that the export reads next.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a whole club, and one export of it")]
async fn an_export_has_a_conversation_that_moves_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("sqlite:{}", path("test.db"));
    let (data, photo_dir) = (path(""), path("photos"));
    let flags = ["members-book", "--bcrypt-cost", "4", "--database-url", &url, "--data-dir", &data];
    let flags = flags.into_iter().chain(["--photo-dir", &photo_dir]).map(String::from);
    let base = Foundation::lay(Cli::parse_from(flags).settings, World::default(), Nodes::Serving).unwrap();
    let mut members = Vec::new();
    for number in 0..=PAGE_MAX + 1 {
        let member = NewMember {
            id: base.ids.member(),
            name: "Ana".to_owned(),
            email: format!("{number}@example.com"),
            password_hash: String::new(),
            user_type: UserType::Member,
            created_at: Timestamp::from_millis(1),
            language: None,
            must_verify: false,
        };
        members.push(base.store.members.insert(member, None).await.unwrap().ok().unwrap().profile.id);
    }
    let me = members.remove(0);
    let say = async |to: MemberId| {
        let append = Append {
            conversation: direct_conversation(me, to),
            create: Some(NewConversation::direct(me, to)),
            sender: me,
            client_id: ClientMessageId::from_uuid(uuid::Uuid::now_v7()),
            content: "hello".to_owned(),
            reply_to: None,
        };
        assert!(base.store.log.apply(vec![Command::Append(append)]).await.unwrap().outcomes[0].is_ok());
    };
    for &to in &members {
        say(to).await;
    }
    let ring = ring("0123456789abcdef0123456789abcdef", &[]);
    let cursors = cursor::Keys::new(&ring);
    let post = base.post(&ring).unwrap();
    let accounts = Arc::new(base.accounts(&ring, &post, &base.effects(photos(&base), &post)).unwrap());
    let (context, _lanes) = base.connection(&accounts, cursors, Couriers::none());
    let documents = Arc::new(Documents {
        messaging: Arc::clone(&context.messaging),
        conversations: Arc::clone(&base.store.conversations),
        members: Arc::clone(&base.store.members),
    });
    let invitations = Arc::clone(&accounts.registration.invitations);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let exports = Arc::new(Exports::new(
        &base.store,
        Arc::clone(&base.audit),
        invitations,
        documents,
        Duration::from_secs(86_400),
        clock,
        Arc::clone(&base.metrics),
    ));

    let signed_in = async |member| {
        let (session, at) = (base.ids.session(), Timestamp::from_millis(1));
        let hash = std::array::from_fn(|at| session.as_bytes()[at % 12]);
        let token = NewToken { hash, expires_at: at };
        let (device, address) = (SessionDevice::default(), None);
        let (credentials, tell_of, known_device) = (0, None, None);
        let new = NewSession {
            id: session,
            member,
            token,
            device,
            known_device,
            address,
            at,
            ends_at: at,
            credentials,
            tell_of,
        };
        base.store.sessions.start(new).await.unwrap();
        Authorized {
            member,
            session,
            generation: Some(0),
            user_type: UserType::Member,
            demands_second_factor: false,
            lacks_second_factor: false,
            proved_at: at,
            expires_at: at,
            good_from: 0,
            signed_in_at: at,
            known_device: None,
        }
    };
    let who = signed_in(me).await;
    let mut parts = exports.start(who, Ipv4Addr::LOCALHOST.into(), &base.supervisor).await.unwrap();
    let mut export = Vec::new();
    while !String::from_utf8_lossy(&export).contains("hello") {
        export.extend(parts.recv().await.unwrap().unwrap());
    }
    // The first page is being written. What is on the second one moves.
    say(members[0]).await;
    while let Some(part) = parts.recv().await {
        export.extend(part.unwrap());
    }
    let export: serde_json::Value = serde_json::from_slice(&export).unwrap();
    let mut found: Vec<_> =
        export["conversations"].as_array().unwrap().iter().map(|each| each["_id"].to_string()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), members.len());
    assert_eq!(export["conversations"].as_array().unwrap().len(), members.len(), "none twice");

    // Found by an attacker: a thief's export outlived "log out everywhere", and had what was said after it.
    let mut parts = eventually_started(&base, &exports, who).await;
    parts.recv().await.unwrap().unwrap();
    let ids = base.store.sessions.of_member(me).await.unwrap().iter().map(|session| session.id).collect();
    base.store.sessions.revoke_many(me, ids, Timestamp::from_millis(2)).await.unwrap();
    let mut last = None;
    while let Some(part) = parts.recv().await {
        last = Some(part);
    }
    assert_eq!(last.unwrap().unwrap_err().code, ErrorCode::SessionRevoked);

    // Who does not read holds a place; one address, however many accounts it has, not all of them.
    let start = async |who, last| exports.start(who, Ipv4Addr::new(192, 0, 2, last).into(), &base.supervisor).await;
    let [first, second, third] =
        [signed_in(members[1]).await, signed_in(members[2]).await, signed_in(members[3]).await];
    let _held = [start(first, 1).await.unwrap(), start(second, 1).await.unwrap()];
    assert_eq!(start(third, 1).await.err().map(|failure| failure.code), Some(ErrorCode::Overloaded));
    assert!(start(third, 2).await.is_ok());
}

/// The place of the member's former export is given back a moment after its last part.
async fn eventually_started(base: &Foundation, exports: &Arc<Exports>, who: Authorized) -> mpsc::Receiver<Part> {
    loop {
        match exports.start(who, Ipv4Addr::LOCALHOST.into(), &base.supervisor).await {
            Ok(parts) => return parts,
            Err(failure) => assert_eq!(failure.code, ErrorCode::Overloaded),
        }
        tokio::task::yield_now().await;
    }
}
