//! The server on MongoDB as a process: the database away at the start, lost while running, and what the command says.

use std::{path::Path, process::Stdio};

use mongodb::bson::{Document, doc};
use protocol::{ClientFrame, ErrorCode, ServerFrame, server::MessageAccepted};

use crate::harness::{
    Member,
    client::message_to,
    database::{self, Database},
    eventually,
    process::{Process, command},
    server::http,
    within,
};

async fn readiness(server: &Process) -> u16 {
    http().get(format!("http://{}/readyz", server.addr)).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_the_database_and_sockets_survive_its_loss() {
    let database = database::Server::start(&[]).await;
    let store = database.database();
    database.kill();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let log = Stdio::from(std::fs::File::create(&file).unwrap());
    let mut server = command(folder.path());
    let server = Process::spawn(
        server.env("DATABASE_URL", &store.uri).env("STORE_TIMEOUT", "2s").env("LOG", "info").stderr(log),
    );
    assert!(server.banner.iter().any(|line| line.contains("NOT REACHED: MongoDB, 127.0.0.1:")), "{:?}", server.banner);
    assert!(!server.banner.iter().any(|line| line.contains("is ready")), "{:?}", server.banner);
    assert_eq!(readiness(&server).await, 503);
    database.launch();
    let is_ready = async || (readiness(&server).await == 200).then_some(());
    eventually("readiness", is_ready).await;

    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let first: MessageAccepted = anas.ask(message_to(ben.id, "first")).await;
    assert_eq!(bens.hear().await, first.message);

    database.kill();
    eventually("the loss to be noticed", async || (readiness(&server).await == 503).then_some(())).await;
    let lost = message_to(ben.id, "while it is away");
    let ServerFrame::Error(error) = anas.request(lost.clone()).await else { panic!() };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.retry_after_ms.is_some());
    database.launch();
    eventually("readiness", is_ready).await;

    // The same sockets, the same message.
    let second: MessageAccepted = anas.ask(lost).await;
    assert_eq!((second.message.seq, second.duplicate), (2, false));
    assert_eq!(bens.hear().await, second.message);
    let _: protocol::server::Pong = anas.ask(ClientFrame::Ping(protocol::client::Ping {})).await;

    drop(server);
    let log = std::fs::read_to_string(file).unwrap();
    assert_eq!(log.matches("the database is not reached").count(), 2, "once per change: {log}");
    assert_eq!(log.matches("the database is reached again").count(), 2, "{log}");
}

fn run(folder: &Path, url: &str, arguments: &[&str]) -> (bool, String) {
    let output = command(folder).args(arguments).env("DATABASE_URL", url).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_database_serve_together_and_a_copy_waits_for_all() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    // Where no Redis is.
    let redis = ("REDIS_URL", "redis://127.0.0.1:1");
    let start = || Process::spawn(command(folder.path()).env("DATABASE_URL", &database.uri).env(redis.0, redis.1));
    let (first, second) = (start(), start());
    let fleet = second.banner.iter().find_map(|line| line.trim().strip_prefix("fleet")).unwrap();
    assert!(fleet.contains("1 other; Redis 127.0.0.1:1 NOT REACHED"), "{fleet}");
    let http = http();
    let ana = Member::register_at(first.addr, &http, "Ana").await;
    ana.at(second.addr).connect().await;
    let (copied, said) = run(folder.path(), "", &["copy", "--from", &database.uri, "--to", "sqlite:./data/copied.db"]);
    assert!(!copied && said.contains("--from: ") && said.contains("another process uses this database"), "{said}");
    // Who is killed keeps nobody waiting.
    first.kill();
    drop(start());
}

/// Others take it for dead, and finish what it left. It finds that out before it stores anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_for_longer_than_its_lease_joins_again() {
    let database = database::Server::start(&[]).await.database();
    let folder = tempfile::tempdir().unwrap();
    let start = || Process::spawn(command(folder.path()).env("DATABASE_URL", &database.uri).env("STORE_TIMEOUT", "1s"));
    let (first, second) = (start(), start());
    let http = http();
    let ana = Member::register_at(first.addr, &http, "Ana").await;
    let ben = Member::register_at(first.addr, &http, "Ben").await.at(second.addr);
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    first.signal("STOP");
    // It waits in the socket until the server goes on.
    let message = message_to(ben.id, "through a server that stood still");
    let mut late = anas.post(message.clone()).await;
    let nodes = database.open().await.collection::<Document>("nodes");
    let of_first = doc! { "pid": i64::from(first.id()) };
    let out = async || nodes.find_one(doc! { "pid": i64::from(first.id()), "out": true }).await.unwrap().map(drop);
    eventually("it to be taken for dead", out).await;
    let early = bens.say(ana.id, "meanwhile").await;
    first.signal("CONT");
    // It may take the server longer to join again than a message waits: then it is sent again, as clients do.
    let message = loop {
        match anas.reply(&late).await {
            ServerFrame::MessageAccepted(accepted) => break accepted.message,
            ServerFrame::Error(error) => {
                assert!(matches!(error.code, ErrorCode::Timeout | ErrorCode::Unavailable), "{error:?}");
                late = anas.post(message.clone()).await;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((early.seq, message.seq), (1, 2));
    let again = nodes.find_one(of_first).await.unwrap().unwrap();
    assert_eq!(again.get_i64("generation").unwrap(), 2);
    // Each hears of the other's message, whatever was told to whom meanwhile.
    for (client, seq) in [(&mut anas, 1), (&mut bens, 2)] {
        let hears = async {
            loop {
                let found = match client.next().await.frame {
                    ServerFrame::Sync(sync) => {
                        sync.conversations.iter().flat_map(|known| &known.entries).any(|entry| entry.seq() == seq)
                    }
                    ServerFrame::EntryPush(push) => push.entry.seq() == seq,
                    _ => false,
                };
                if found {
                    return;
                }
            }
        };
        within("the other's message", hears).await;
    }
}

/// A lane that waits for the store shows, although beats and reads go well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_ready_while_a_lane_stalls() {
    let database = database::Server::with_fail_points().await;
    let store = database.database();
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(command(folder.path()).env("DATABASE_URL", &store.uri).env("STORE_TIMEOUT", "1s"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let mut anas = ana.connect().await;
    let slow = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 5000 };
    database.fail(doc! { "times": 1 }, slow).await;
    let message = message_to(ben.id, "slow");
    let ServerFrame::Error(error) = anas.request(message.clone()).await else { panic!() };
    assert_eq!(error.code, ErrorCode::Timeout);
    assert_eq!(readiness(&server).await, 503);
    let read = ana.request(reqwest::Method::GET, "/api/messages/conversations", serde_json::Value::Null).await;
    assert_eq!(read.status(), 200, "the store can be read");
    eventually("readiness", async || (readiness(&server).await == 200).then_some(())).await;
    let sent: MessageAccepted = anas.ask(message).await;
    assert_eq!(sent.message.seq, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_logs_its_own_reason_only() {
    let database = database::Server::start(&[]).await.database();
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for url in [&*database.uri, "sqlite:./data/members-book.db"] {
        let output = command(folder.path())
            .env("DATABASE_URL", url)
            .env("PORT", &port)
            .env("JWT_SECRET", "0123456789abcdef0123456789abcdef")
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("HOST and PORT: cannot listen on"), "{said}");
        assert!(!said.contains("has ended") && !said.contains("cannot go on"), "{said}");
    }
    let nodes = database.open().await.collection::<Document>("nodes");
    assert_eq!(nodes.count_documents(doc! {}).await.unwrap(), 0, "and is taken off the list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_tells_and_applies_what_is_missing() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    for (url, nothing_there) in [(&*database.uri, "missing: migration"), ("sqlite:./migrated.db", "No such file")] {
        let (up_to_date, said) = run(folder.path(), url, &["migrate", "--check"]);
        assert!(!up_to_date && said.contains(nothing_there), "{said}");
        assert!(
            !folder.path().join("migrated.db").exists() || url != "sqlite:./migrated.db",
            "checking changes nothing"
        );
        let (applied, said) = run(folder.path(), url, &["migrate"]);
        assert!(applied && said.contains("applied: migration"), "{said}");
        let (up_to_date, said) = run(folder.path(), url, &["migrate", "--check"]);
        assert!(up_to_date && said.contains("up to date"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_club_moves_from_a_file_with_its_passwords_and_sessions() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let sent: MessageAccepted = ana.connect().await.ask(message_to(ben.id, "in a file")).await;
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));
    let (copied, said) =
        run(folder.path(), "", &["copy", "--from", "sqlite:./data/members-book.db", "--to", &database.uri]);
    assert!(copied && said.contains("Everything is there, and the same."), "{said}");

    let server = Process::spawn(command(folder.path()).env("DATABASE_URL", &database.uri));
    let ben = ben.at(server.addr);
    // The session of before, and the password of before.
    let bens = ben.connect().await;
    assert_eq!(bens.synced[0].entries.len(), 1);
    assert_eq!((bens.synced[0].last_seq, bens.synced[0].unread), (sent.message.seq, 1));
    assert_eq!(ben.refresh().await.status(), 200);
    ana.at(server.addr).log_in().await;
}
