//! Connections and what they ask for, over memory instead of a network.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use clap::Parser as _;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{
    CloseCode, Envelope, ErrorCode, MemberId, ServerFrame, Timestamp, limits,
    model::{Presence, PresenceStatus},
    rest::{Audience, AuthResponse, RegisterRequest},
};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::*;
use crate::{
    auth::keys::ring,
    clock::ManualClock,
    config::Cli,
    connection::task,
    hub::{Close, Connection},
    service::effects::Effect,
};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The services on a store of their own.
struct Bench {
    base: Foundation,
    accounts: Arc<Accounts>,
    context: Arc<connection::Context>,
    _lanes: Lanes,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::at(World::default())
    }

    fn at(world: World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (url, data, photos) = (format!("sqlite:{}", path("test.db")), path(""), path("photos"));
        let flags = ["members-book", "--bcrypt-cost", "4", "--database-url", &url, "--data-dir", &data];
        let flags = flags.into_iter().chain(["--photo-dir", &photos]).map(String::from);
        let base = Foundation::lay(Cli::parse_from(flags).settings, world, Nodes::Serving).unwrap();
        let ring = ring("0123456789abcdef0123456789abcdef", &[]);
        let cursors = cursor::Keys::new(&ring);
        let photos = Objects::open(&base.settings.photos, Duration::from_secs(1), Arc::default()).unwrap();
        let post = base.post(&ring).unwrap();
        let accounts = Arc::new(base.accounts(&ring, &post, &base.effects(photos, &post)).unwrap());
        let (context, lanes) = base.connection(&accounts, cursors, Couriers::none());
        Self { base, accounts, context, _lanes: lanes, _folder: folder }
    }

    async fn member(&self, name: &str) -> AuthResponse {
        let (email, password) = (format!("{name}@example.com"), "correct horse".to_owned());
        let request = RegisterRequest { name: name.to_owned(), email, password, ..RegisterRequest::default() };
        self.accounts.register(request, None, PEER).await.unwrap().logged_in().unwrap()
    }

    /// A connection that nobody has signed in on.
    async fn open(&self) -> Client {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let task = task::open((far, Vec::new()), PEER, None, Arc::clone(&self.context));
        let task = tokio::spawn(task.run_to_end());
        Client { socket: WebSocketStream::from_raw_socket(near, Role::Client, None).await, task }
    }

    /// A signed-in connection, after its sync.
    async fn connect(&self, who: &AuthResponse, device: &str) -> Client {
        let mut client = self.open().await;
        client.hello(who, device).await;
        assert!(matches!(client.next().await.frame, ServerFrame::Welcome(_)));
        assert!(matches!(client.next().await.frame, ServerFrame::SyncDone(_)));
        client
    }
}

/// The other end of a connection.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    task: JoinHandle<()>,
}

impl Client {
    async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn hello(&mut self, who: &AuthResponse, device: &str) {
        let device = json!({ "id": device, "platform": "ios" });
        self.say(json!({ "type": "hello", "id": "h", "token": who.access_token, "device": device })).await;
    }

    async fn next(&mut self) -> Envelope {
        match self.socket.next().await.unwrap().unwrap() {
            Message::Text(text) => Envelope::decode(&text).unwrap(),
            other => panic!("no frame: {other:?}"),
        }
    }

    /// What is said until the connection closes, and how it closes. Its task has ended then.
    async fn until_the_end(mut self) -> (Vec<ServerFrame>, u16) {
        let mut said = Vec::new();
        let code = loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => said.push(Envelope::decode(&text).unwrap().frame),
                Some(Ok(Message::Close(close))) => break close.unwrap().code.into(),
                other => panic!("{other:?}"),
            }
        };
        drop(self.socket);
        self.task.await.unwrap();
        (said, code)
    }
}

fn errors(said: &[ServerFrame]) -> Vec<ErrorCode> {
    let code = |frame: &ServerFrame| if let ServerFrame::Error(error) = frame { Some(error.code) } else { None };
    said.iter().filter_map(code).collect()
}

#[tokio::test]
async fn a_stranger_can_ask_for_nothing_and_leaves_no_trace() {
    let bench = Bench::new();
    let ana = bench.member("ana").await;
    let mut stranger = bench.open().await;
    let send = json!({ "type": "message.send", "to": ana.member.id, "client_id": uuid::Uuid::nil(), "content": "hi" });
    stranger.say(send).await;
    let (said, code) = stranger.until_the_end().await;
    assert_eq!((errors(&said), code), (vec![ErrorCode::HelloRequired], 4400));
    assert_eq!(bench.base.store.backend.count().await.unwrap().messages, 0);
    assert_eq!((bench.base.hub.members(), bench.base.metrics.connections.get()), (0, 0));
}

#[tokio::test]
async fn a_server_that_goes_away_tells_strangers_and_members_alike() {
    let bench = Bench::new();
    let ana = bench.member("ana").await;
    let (stranger, member) = (bench.open().await, bench.connect(&ana, "phone").await);
    bench.base.draining.cancel();
    bench.context.connections.send_away();
    assert_eq!(stranger.until_the_end().await.1, 1001);
    assert_eq!(member.until_the_end().await.1, 1001);
    assert_eq!((bench.base.hub.members(), bench.base.metrics.connections.get()), (0, 0));
}

#[tokio::test]
async fn each_request_is_answered_once_with_its_id_and_what_was_asked_before_the_close_too() {
    let bench = Bench::new();
    let (ana, ben) = (bench.member("ana").await, bench.member("ben").await);
    let mut client = bench.connect(&ana, "phone").await;
    let message = |content: &str, id: &str| {
        let client_id = uuid::Uuid::now_v7();
        json!({ "type": "message.send", "id": id, "to": ben.member.id, "client_id": client_id, "content": content })
    };
    client.say(message("hi", "1")).await;
    client.say(message("", "2")).await;
    client.say(json!({ "type": "conversations.list", "id": "3" })).await;
    client.say(json!({ "type": "presence.set", "id": "4", "status": "away" })).await;
    client.say(json!({ "type": "typing", "id": "5", "to": ben.member.id, "active": true })).await;
    client.say(json!({ "type": "ping", "id": "6" })).await;
    let mut answered = Vec::new();
    for _ in 0..5 {
        let Envelope { id, frame } = client.next().await;
        let what = match frame {
            ServerFrame::MessageAccepted(_) => "accepted",
            ServerFrame::Error(error) if error.code == ErrorCode::ContentEmpty => "invalid",
            ServerFrame::Conversations(_) => "conversations",
            ServerFrame::Okay(_) => "ok",
            ServerFrame::Pong(_) => "pong",
            other => panic!("{other:?}"),
        };
        answered.push((id.unwrap().as_str().to_owned(), what));
    }
    answered.sort();
    let expected = [("1", "accepted"), ("2", "invalid"), ("3", "conversations"), ("4", "ok"), ("6", "pong")];
    assert_eq!(answered, expected.map(|(id, what)| (id.to_owned(), what)), "and typing is not answered");

    client.say(message("last", "7")).await;
    client.socket.send(Message::binary("no frame of ours")).await.unwrap();
    let (said, code) = client.until_the_end().await;
    assert_eq!((errors(&said), code), (vec![], 1003));
    assert!(said.iter().any(|frame| matches!(frame, ServerFrame::MessageAccepted(_))), "{said:?}");
}

#[tokio::test]
async fn a_device_that_comes_again_replaces_itself_and_a_session_that_ends_takes_its_connections_along() {
    let bench = Bench::new();
    let ana = bench.member("ana").await;
    let (older, tablet) = (bench.connect(&ana, "phone").await, bench.connect(&ana, "tablet").await);
    let newer = bench.connect(&ana, "phone").await;
    assert_eq!(older.until_the_end().await.1, 4409);
    assert_eq!(bench.base.hub.connections_of(ana.member.id).len(), 2);
    let who = bench.accounts.authorize(&ana.access_token).await.unwrap();
    bench.accounts.sessions.log_out(&who, false).await.unwrap();
    assert_eq!((tablet.until_the_end().await.1, newer.until_the_end().await.1), (4401, 4401));
    let mut late = bench.open().await;
    late.hello(&ana, "phone").await;
    let (said, code) = late.until_the_end().await;
    assert_eq!((errors(&said), code), (vec![ErrorCode::SessionRevoked], 4401));
}

#[tokio::test]
async fn effects_reach_connections_in_their_order() {
    let bench = Bench::new();
    let ana = bench.member("ana").await;
    let client = bench.connect(&ana, "phone").await;
    let member = ana.member.id;
    let card = crate::service::views::card(
        &bench.base.store.members.by_id(crate::store::turns::Caller::System, member).await.unwrap().unwrap(),
    );
    let close = Effect::Close { member, session: None, code: CloseCode::Deactivated };
    bench.accounts.effects.apply([Effect::TellSelf(card), close]);
    let (said, code) = client.until_the_end().await;
    assert!(matches!(said[..], [ServerFrame::MemberPush(_), ServerFrame::Goodbye(_)]), "{said:?}");
    assert_eq!(code, 4403);
    let text = bench.base.metrics.render().unwrap();
    for effect in ["close", "tell_self"] {
        assert!(text.contains(&format!(r#"effects_total{{effect="{effect}"}} 1"#)), "{text}");
    }
}

/// A signed-in connection without a task.
fn watcher(bench: &Bench, member: MemberId) -> Arc<Connection> {
    let outbox = Arc::new(crate::hub::Outbox::new(bench.context.outbox, Arc::clone(&bench.base.budget)));
    let session = bench.base.ids.session();
    Arc::new(Connection::new(bench.base.ids.connection(), member, session, "watcher".parse().unwrap(), outbox))
}

#[tokio::test]
async fn who_is_watched_is_shown_as_far_as_they_let_and_nobody_is_watched_for_ever() {
    let bench = Bench::new();
    let (ana, ben) = (bench.member("ana").await.member.id, bench.member("ben").await);
    let (watching, watcher) = (&bench.context.watching, watcher(&bench, ana));
    let client = bench.connect(&ben, "phone").await;
    let nobody = bench.base.ids.member();
    let status = |shown: &[Presence]| shown.iter().map(|shown| (shown.member, shown.status)).collect::<Vec<_>>();
    let shown = watching.watch(&watcher, vec![ben.member.id, nobody]).await.unwrap();
    assert_eq!(status(&shown), [(ben.member.id, PresenceStatus::Offline)], "they have no conversation");
    let seen = |watching: &Watching| watching.watchers(ben.member.id).len();
    assert_eq!((seen(watching), watching.watchers(nobody).len()), (1, 0));
    watching.set_audience(ben.member.id, 2, Audience::Members);
    let shown = watching.watch(&watcher, vec![ben.member.id]).await.unwrap();
    assert_eq!(status(&shown), [(ben.member.id, PresenceStatus::Online)]);
    // Fifty at a time is what a frame may name; all of them are too many.
    let many = (0..=limits::WATCH_MAX).map(|_| bench.base.ids.member()).collect();
    assert_eq!(watching.watch(&watcher, many).await.unwrap_err().code, ErrorCode::ValidationFailed);
    watching.forget_watcher(&watcher);
    assert_eq!(seen(watching), 0);
    assert!(watching.watch(&watcher, vec![ben.member.id]).await.unwrap().is_empty(), "it has ended");
    assert_eq!(seen(watching), 0);
    bench.base.hub.close(ben.member.id, None, Close::with(CloseCode::Disconnected));
    assert_eq!(client.until_the_end().await.1, 4410);
}

/// As a kill between the two leaves it, or a change that was refused.
#[tokio::test]
async fn the_file_of_an_upload_that_never_became_a_photo_is_not_seen_and_deleted_when_its_time_has_come() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_370_633_000)));
    let bench = Bench::at(World { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..World::default() });
    let ana = bench.member("ana").await.member.id;
    let Effects { album, jobs, .. } = &*bench.accounts.effects;
    let content = axum::body::Bytes::from_static(b"a picture");
    let photo = crate::service::album::name(ana, &content);
    jobs.check_later(ana, photo).await.unwrap();
    album.add(photo, content).await.unwrap();
    let (worker, stop) = (Arc::clone(jobs), CancellationToken::new());
    let working = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    // It has looked, and found nothing that is due.
    while bench.base.metrics.jobs_waiting.get() == 0 {
        tokio::task::yield_now().await;
    }
    let files = || std::fs::read_dir(&bench.base.settings.photos.photo_dir).unwrap().count();
    assert_eq!((files(), album.has(photo).await.unwrap()), (1, false), "nobody sees what is nobody's photo");
    clock.advance(Duration::from_secs(16 * 60));
    jobs.wake();
    while files() > 0 {
        tokio::task::yield_now().await;
    }
    while !bench.base.store.jobs.waiting(1).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    working.await.unwrap();
    let done = r#"jobs_total{job="check_upload",outcome="done"} 1"#;
    assert!(bench.base.metrics.render().unwrap().contains(done));
}
