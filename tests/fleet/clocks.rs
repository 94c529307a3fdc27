//! A node whose clock is wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use members_book::{
    app::{World, reset_link},
    clock::{Clock, SystemClock},
};
use protocol::{Timestamp, rest::ServerStats};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Member, Server, eventually,
    fleet::Fleet,
    smtp::{How, MailServer, Trouble},
};

/// The clock of the machine, and by how many milliseconds it is wrong.
#[derive(Clone)]
struct WrongClock(Arc<AtomicI64>);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::SeqCst))
    }
}

impl WrongClock {
    fn by(milliseconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(milliseconds)))
    }

    fn world(&self) -> World {
        World { clock: Arc::new(self.clone()), ..World::default() }
    }
}

/// Found by faults: a node that was ten minutes ahead ended links and tokens, and nothing said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_says_so() {
    let mut fleet = Fleet::without_bus(0).await;
    let clock = WrongClock::by(-600_000);
    fleet.join_with(clock.world(), |_| ()).await;
    let is = async |status: Value| {
        eventually("readiness", async || (fleet.readiness(0).await == status).then_some(())).await;
    };
    is(json!({ "status": "degraded", "reasons": ["clock_skew"] })).await;
    let skew = fleet.nodes[0].metric("clock_skew_seconds").await;
    assert!((-605.0..-595.0).contains(&skew), "{skew}");
    let admin: Member = fleet.nodes[0].admin().await;
    let stats = admin.request(Method::GET, "/api/admin/stats", Value::Null).await;
    let stats: ServerStats = stats.json().await.unwrap();
    assert_eq!(stats.nodes[0].doubts, ["clock_skew"]);
    clock.0.store(0, Ordering::SeqCst);
    is(json!({ "status": "ok" })).await;
    let skew = fleet.nodes[0].metric("clock_skew_seconds").await;
    assert!(skew.abs() < Duration::from_secs(5).as_secs_f64(), "{skew}");
}

/// Whose link was sent by one node and is used at another one: the clock of either is wrong.
async fn uses_a_link(sender: &Server, user: &Server, mail: &MailServer, member: &Member, password: &str) -> u16 {
    let links = || mail.all().into_iter().filter(|mail| mail.subject == "Choose a new password");
    let sent = links().count();
    let post = async |node: &Server, path: &str, body: Value| {
        node.http().post(node.url(path)).json(&body).send().await.unwrap().status().as_u16()
    };
    let asked = json!({ "email": member.auth.member.email });
    assert_eq!(post(sender, "/api/auth/password/forgot", asked).await, 202);
    let token = eventually("the link", async || links().nth(sent)).await.token();
    post(user, "/api/auth/password/reset", json!({ "token": token, "new_password": password })).await
}

/// Found by reading: a link that a node had sent whose clock was behind was good for nothing at the others, and one that was ahead refused
/// those of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_good_whatever_the_clock_of_a_node_shows() {
    for wrong in [-3_600_000, 3_600_000] {
        let mail = MailServer::start(How::Plain).await;
        let mut fleet = Fleet::without_bus(0).await;
        let ana = fleet.join(|_| ()).await.member("Ana").await;
        fleet.join(|settings| mail.set(settings)).await;
        fleet.join_with(WrongClock::by(wrong).world(), |settings| mail.set(settings)).await;
        let (right, off) = (&fleet.nodes[1], &fleet.nodes[2]);
        assert_eq!(uses_a_link(off, right, &mail, &ana, "battery staple").await, 200, "sent by it, {wrong}");
        assert_eq!(uses_a_link(right, off, &mail, &ana, "staple battery").await, 200, "used at it, {wrong}");
    }
}

/// Found by reading: a link that was made on the command line of a machine whose clock was behind was good for nothing, and one that was ahead
/// made links that were good for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_the_command_line_is_good_whatever_the_clock_there_shows() {
    let mut fleet = Fleet::without_bus(0).await;
    let node = fleet.join(|_| ()).await;
    let ana = node.member("Ana").await;
    for wrong in [-3_600_000, 3_600_000] {
        let world = WrongClock::by(wrong).world();
        let ((_, token), _) = reset_link(node.settings().clone(), world, &ana.auth.member.email).await.unwrap();
        let body = json!({ "token": token, "new_password": "battery staple" });
        let reset = node.http().post(node.url("/api/auth/password/reset")).json(&body).send().await.unwrap();
        assert_eq!(reset.status(), 200, "{wrong}");
    }
}

async fn register(node: &Server, name: &str) {
    let email = format!("{name}@example.com");
    let body = json!({ "name": name, "email": email, "password": "correct horse battery" });
    let asked = node.http().post(node.url("/api/auth/register")).json(&body).send().await.unwrap();
    assert_eq!(asked.status(), 202);
}

/// Found by reading: a node that was behind took what another one had in hand for forgotten, and had it sent again and again; one that was
/// ahead took it from the other, and what it wrote waited until the clocks of the others had come to that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_sends_its_own_mails_and_not_what_another_one_has_in_hand() {
    for wrong in [-3_600_000, -600_000, 600_000, 3_600_000] {
        let hanging = MailServer::start(How::StartTls).await;
        hanging.expect([Trouble::Hangs]);
        let mut fleet = Fleet::without_bus(0).await;
        let node = fleet.join(|settings| hanging.set(settings)).await;
        register(node, "ana").await;
        hanging.had_all().await;
        let other = MailServer::start(How::StartTls).await;
        let node = fleet.join_with(WrongClock::by(wrong).world(), |settings| other.set(settings)).await;
        eventually("a look", async || (node.metric("mail_waiting").await == 1.0).then_some(())).await;
        register(node, "ben").await;
        assert_eq!(other.mail(0).await.to, "ben@example.com", "{wrong}");
        eventually("it was sent", async || (node.metric("mail_waiting").await == 1.0).then_some(())).await;
        assert_eq!((other.count(), hanging.count()), (1, 0), "{wrong}");
    }
}
