//! Services put together, with a clock that moves while they work.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicI64, Ordering},
};

use clap::Parser as _;
use protocol::{
    ErrorCode, Timestamp,
    client::Hello,
    model::{Device, Platform, PresenceStatus},
    rest::RegisterRequest,
};

use secrecy::SecretString;

use super::*;
use crate::{
    config::Cli,
    hub::{Connection, Outbox},
    store::turns::Caller,
};

/// A clock that leaps by its step whenever it is read.
struct Leaping {
    at: AtomicI64,
    step: AtomicI64,
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        let step = self.step.load(Ordering::SeqCst);
        Timestamp::from_millis(self.at.fetch_add(step, Ordering::SeqCst) + step)
    }
}

#[tokio::test]
async fn a_refused_second_check_leaves_no_trace_of_the_member() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("sqlite:{}", path("test.db"));
    let flags =
        ["members-book", "--bcrypt-cost", "4", "--database-url", &url, "--data-dir", &path("")].map(String::from);
    let clock = Arc::new(Leaping { at: AtomicI64::new(1_795_370_633_000), step: AtomicI64::new(0) });
    let world = World { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..World::default() };
    let base = Foundation::lay(Cli::parse_from(flags).settings, world, true).unwrap();
    let secret: SecretString = "0123456789abcdef0123456789abcdef".into();
    let cursors = base.cursors(&secret);
    let accounts = Arc::new(base.accounts(secret).unwrap());
    let (context, _lanes) = base.session(&accounts, cursors);
    let (name, email, password) = ("Ana".to_owned(), "ana@example.com".to_owned(), "correct horse".to_owned());
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ana = accounts.register(RegisterRequest { name, email, password }, peer).await.unwrap();
    let (member, outbox) = (ana.member.id, || Arc::new(Outbox::new(context.outbox, Arc::clone(&base.budget))));
    // A device of the member that watches the member sees everything, and does not count as it is not signed in.
    let (session, device) = (base.ids.session(), "watcher".parse().unwrap());
    let watcher = Arc::new(Connection::new(base.ids.connection(), member, session, device, outbox()));

    // The token is good at the first check and has expired at the second.
    clock.step.store(14 * 60 * 1000, Ordering::SeqCst);
    let device = Device { id: "phone".parse().unwrap(), platform: Platform::Other, name: None };
    let hello = Hello { token: ana.access_token, device, cursor: None };
    let refused = context.connections.sign_in(hello, outbox(), peer).await.err().unwrap();
    clock.step.store(0, Ordering::SeqCst);

    assert_eq!(refused.code, ErrorCode::TokenExpired);
    assert!(!base.hub.is_connected(member));
    let shown = context.watching.watch(&watcher, vec![member]).await.unwrap();
    assert_eq!((shown[0].status, shown[0].last_seen), (PresenceStatus::Offline, None));
    context.watching.finish().await;
    let stored = base.store.members.last_seen(Caller::System, vec![member]).await.unwrap();
    assert_eq!(stored[0].at, None, "who was refused was not seen");
    // What a connection is shown already is not looked up again.
    base.store.backend.close().await;
    assert_eq!(context.watching.watch(&watcher, vec![member]).await.unwrap(), shown);
    assert!(context.watching.watch(&watcher, vec![base.ids.member()]).await.is_err());
}
