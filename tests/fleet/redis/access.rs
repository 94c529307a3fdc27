//! Passwords, users with few rights, and certificates.

use std::{path::PathBuf, process::Command, sync::Arc};

use members_book::cluster::Bus as _;
use serde_json::{Value, json};

use super::user_of_the_docs;
use crate::harness::{
    Member,
    database::Database,
    eventually,
    node::{Node, Told, members},
    process::{Process, command},
    redis::{Redis, free_port},
    server::http,
};

/// On one thread, whose log is read.
#[tokio::test]
async fn a_wrong_password_is_not_told_and_may_be_mended_at_redis() {
    let redis = Redis::with(&["requirepass another"]).await;
    let file = redis.folder().join("log-of-the-node");
    let log = Arc::new(std::fs::File::create(&file).unwrap());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let mut node = Node::open(&format!("redis://:my-secret@{}", redis.addr()));
    let tried = async || (node.metrics.bus_reconnects.get() >= 3).then_some(());
    eventually("some attempts", tried).await;
    assert_eq!(node.told(), [], "it is not up");
    assert!(!node.hear(members(1)[0]).await);
    redis.restart_with(&["requirepass my-secret"]).await;
    node.comes_up(0).await;
    drop(logging);
    let log = std::fs::read_to_string(file).unwrap();
    assert!(node.bus.describe().starts_with(&format!("Redis, {}; channels members-book:", redis.addr())));
    let said = log.lines().filter(|line| line.contains("this link of the bus (REDIS_URL) is not up"));
    assert!(said.clone().any(|line| line.contains(&redis.addr().to_string()) && line.contains("assword")), "{log}");
    assert!(said.count() <= 3, "once for each reason: {log}");
    assert!(!log.contains("my-secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_that_the_docs_give_has_all_rights_that_are_needed() {
    let user = user_of_the_docs("a-secret");
    let redis = Redis::with(&["user default off", "user root on >root ~* &* +@all", &user]).await;
    let url = format!("redis://club:a-secret@{}", redis.addr());
    let (publisher, mut hearer) = (Node::up(&url).await, Node::up(&format!("{url}/0")).await);
    let members = members(10);
    for member in &members {
        assert!(hearer.hear(*member).await);
    }
    for member in &members {
        publisher.publish(*member, 1);
    }
    for member in &members {
        hearer.hears(*member, 1).await;
        hearer.bus.unsubscribe(members_book::cluster::Channel::Member(*member));
    }
    assert_eq!(hearer.losses_of(publisher.id, 0).await, 0);
    let channels = async || {
        let left: Vec<String> = redis.ask("redis://root:root@there", &["PUBSUB", "CHANNELS"]).await.unwrap();
        (left.len() == 3).then_some(())
    };
    eventually("the channels to be given up", channels).await;
    let denied: Vec<redis::Value> = redis.ask("redis://root:root@there", &["ACL", "LOG"]).await.unwrap();
    // Whoever starts Redis asks whether it answers, and is nobody.
    let by_club = denied.iter().filter(|entry| format!("{entry:?}").contains("club"));
    assert_eq!(by_club.count(), 0, "{denied:?}");
    assert!(!hearer.told().iter().any(|told| matches!(told, Told::Lost(..))));
}

/// A Redis with TLS on a port of its own, and the certificate of its authority.
async fn with_tls() -> (Redis, u16, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, pem: String| std::fs::write(file(name), pem).unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (key, own_key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    write("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    write("redis.pem", own.signed_by(&own_key, &issuer).unwrap().pem());
    write("redis.key", own_key.serialize_pem());
    let port = free_port();
    let lines = [
        format!("tls-port {port}"),
        format!("tls-cert-file {}", file("redis.pem").display()),
        format!("tls-key-file {}", file("redis.key").display()),
        format!("tls-ca-cert-file {}", file("ca.pem").display()),
        "tls-auth-clients no".to_owned(),
    ];
    (Redis::with(&lines.each_ref().map(String::as_str)).await, port, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_a_certificate_of_an_own_authority_is_trusted_where_that_is_named_and_nowhere_else() {
    let (_redis, port, certificates) = with_tls().await;
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let server = |name: &str, more: &dyn Fn(&mut Command)| {
        let data: PathBuf = folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        let mut command = command(&data);
        command
            .env("DATABASE_URL", &database.uri)
            .env("REDIS_URL", format!("rediss://127.0.0.1:{port}"))
            .env("JWT_SECRET", "0123456789abcdef0123456789abcdef");
        more(&mut command);
        Process::spawn(&mut command)
    };
    let trusting = |command: &mut Command| _ = command.env("SSL_CERT_FILE", certificates.path().join("ca.pem"));
    let (one, two) = (server("one", &trusting), server("two", &trusting));
    let http = http();
    let readiness = async |server: &Process| -> Value {
        http.get(format!("http://{}/readyz", server.addr)).send().await.unwrap().json().await.unwrap()
    };
    let ana = Member::register_at(one.addr, &http, "Ana").await;
    let ben = Member::register_at(one.addr, &http, "Ben").await.at(two.addr);
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    for server in [&one, &two] {
        let ok = json!({ "status": "ok" });
        eventually("the servers to hear each other", async || (readiness(server).await == ok).then_some(())).await;
    }
    let sent = anas.say(ben.id, "hello").await;
    assert_eq!(bens.hear().await, sent);

    let file = folder.path().join("log");
    let doubting = server("three", &|command| _ = command.stderr(std::fs::File::create(&file).unwrap()));
    let is_down = async || readiness(&doubting).await["reasons"].to_string().contains("link_down").then_some(());
    eventually("the link to be missed", is_down).await;
    let log = async || std::fs::read_to_string(&file).unwrap().contains("certificate").then_some(());
    eventually("the reason in the log", log).await;
}
