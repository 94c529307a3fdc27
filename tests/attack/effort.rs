//! Who is a member, by how long an answer takes: the server does the same for each of them. As many passwords are hashed, and the store is
//! read and written as often, whatever an address is to the club.

use std::cell::Cell;

use clap::Parser as _;
use members_book::{
    config::{Cli, Settings},
    store::members::COSTS,
};
use reqwest::Response;
use serde_json::json;

use super::{
    club::{Club, Kind, address},
    post,
};
use crate::harness::{Server, database::Database, eventually, fleet::Fleet, smtp::Trouble};

/// Addresses of each kind.
const EACH: usize = 8;
/// Of these, how many are asked about: each takes some seconds.
const FORGOTTEN: usize = 3;

/// What was done for one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Effort {
    hashes: f64,
    rounds: f64,
    reads: f64,
    writes: f64,
}

impl Effort {
    /// What was done so far.
    async fn so_far(server: &Server) -> Self {
        let metrics = server.metrics().await;
        let count = |name: &str| {
            let name = format!("membersbook_{name} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name}")).parse::<f64>().unwrap()
        };
        Self {
            hashes: count("password_seconds_count"),
            rounds: count("password_rounds_total"),
            reads: count("store_read_seconds_count"),
            writes: count("store_write_seconds_count"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            hashes: self.hashes - before.hashes,
            rounds: self.rounds - before.rounds,
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
        }
    }

    const fn whole(self) -> Self {
        self
    }

    /// Without what is read: a worker that is woken reads, too, at once or a moment later.
    const fn without_reads(self) -> Self {
        Self { reads: 0.0, ..self }
    }

    fn or_less(self, other: Self) -> Self {
        Self {
            hashes: self.hashes.min(other.hashes),
            rounds: self.rounds.min(other.rounds),
            reads: self.reads.min(other.reads),
            writes: self.writes.min(other.writes),
        }
    }
}

/// What is done for an answer about an address of a kind, asked for once it is `quiet`. The least of several: what the server does by itself
/// comes on top now and then.
async fn effort(
    club: &Club,
    (kind, each): (Kind, usize),
    quiet: impl AsyncFn(),
    ask: impl AsyncFn(&str) -> Response,
) -> Effort {
    let mut least: Option<Effort> = None;
    for number in 0..each {
        quiet().await;
        let before = Effort::so_far(&club.server).await;
        let answer = ask(&address(kind, number)).await;
        assert!(matches!(answer.status().as_u16(), 202 | 401), "{kind:?}: {}", answer.status());
        let done = Effort::so_far(&club.server).await.since(before);
        least = Some(least.map_or(done, |least| least.or_less(done)));
    }
    least.unwrap()
}

/// The same for every kind, of so many addresses each, and of what counts of it.
async fn same(
    club: &Club,
    (what, each, of): (&str, usize, fn(Effort) -> Effort),
    quiet: impl AsyncFn(),
    ask: impl AsyncFn(&str) -> Response,
) -> Effort {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.push((kind, of(effort(club, (kind, each), &quiet, &ask).await)));
    }
    let (_, first) = all[0];
    assert!(all.iter().all(|(_, effort)| *effort == first), "{what}: {all:#?}");
    first
}

/// A club whose mail server takes a mail of a member and one of a stranger and never says that it has: what is done for a request is not mixed up with what is done for
/// its mail.
async fn club(database: Option<Database>) -> Club {
    let club = Club::on(database, EACH).await;
    club.mail.expect([Trouble::Silent, Trouble::Silent]);
    assert_eq!(club.forgot(&address(Kind::Admin, 0)).await.status(), 202);
    assert_eq!(club.register("hangs@example.com").await.status(), 202);
    club.mail.had_all().await;
    club
}

async fn every_answer_takes_the_same(club: Club) {
    let ready = async || {};
    let wrong =
        same(&club, ("a login", EACH, Effort::whole), ready, async |email| club.log_in(email, "not this one").await)
            .await;
    assert_eq!((wrong.hashes, wrong.writes), (1.0, 0.0));
    // Who has an address is looked up within some seconds, at a moment that is drawn: not while the next one is asked about here.
    let asked = Cell::new(1.0);
    let looked_up = async || {
        let count = "mail_total{mail=\"forgot_password\",outcome=\"resolved\"}";
        let all = async || (club.server.metric(count).await >= asked.get()).then_some(());
        eventually("all are looked up", all).await;
        // What became of it is stored after it is counted, and it is looked for the next one.
        let (mut last, mut same) = (Effort::so_far(&club.server).await, 0);
        let still = async || {
            let now = Effort::so_far(&club.server).await;
            same = if now.writes == last.writes { same + 1 } else { 0 };
            last = now;
            (same >= 10).then_some(())
        };
        eventually("nothing is written", still).await;
    };
    let forgot = async |email: &str| {
        asked.set(asked.get() + 1.0);
        club.forgot(email).await
    };
    let forgotten = same(&club, ("a forgotten password", FORGOTTEN, Effort::without_reads), looked_up, forgot).await;
    assert_eq!((forgotten.hashes, forgotten.reads, forgotten.writes), (0.0, 0.0, 1.0));
    looked_up().await;
    let registered =
        same(&club, ("a registration", EACH, Effort::whole), ready, async |email| club.register(email).await).await;
    assert_eq!((registered.hashes, registered.reads, registered.writes), (1.0, 0.0, 1.0));
}

#[tokio::test]
async fn every_answer_takes_the_same_on_sqlite() {
    every_answer_takes_the_same(club(None).await).await;
}

#[tokio::test]
async fn every_answer_takes_the_same_on_mongodb() {
    every_answer_takes_the_same(club(Some(Database::new().await)).await).await;
}

/// The rounds of bcrypt that a login with a wrong password takes.
async fn rounds(server: &Server, email: &str) -> f64 {
    let before = server.metric("password_rounds_total").await;
    let body = json!({ "email": email, "password": "not this one" });
    assert_eq!(post(server, "/api/auth/login", body).await.status(), 401);
    server.metric("password_rounds_total").await - before
}

/// Found by reading: after a start with a lower cost the first wrong password of a member whose hash is dearer took longer than that of
/// an unknown address, until the server had met such a hash.
async fn the_first_logins_after_the_cost_was_lowered_take_the_same(change: impl FnOnce(&mut Settings)) {
    let of_cost = |cost: u32| move |settings: &mut Settings| settings.auth.bcrypt_cost = cost;
    let mut server = Server::with(|settings| {
        change(settings);
        of_cost(6)(settings);
    })
    .await;
    let ana = server.member("Ana").await;
    let email = ana.auth.member.email.as_str();
    for first in ["nobody@example.com", email] {
        server = server.restart_with(of_cost(4)).await;
        assert_eq!(rounds(&server, first).await, 64.0, "{first}");
    }
    // With the last dear hash the time ends that it takes.
    let right = json!({ "email": email, "password": ana.password });
    assert_eq!(post(&server, "/api/auth/login", right).await.status(), 200);
    let is_new = async || server.password_hash(email).await.starts_with("$2b$04$").then_some(());
    eventually("the password is hashed anew", is_new).await;
    for email in ["nobody@example.com", email] {
        assert_eq!(rounds(&server, email).await, 16.0, "{email}");
    }
}

#[tokio::test]
async fn the_first_logins_after_the_cost_was_lowered_take_the_same_on_sqlite() {
    the_first_logins_after_the_cost_was_lowered_take_the_same(|_| ()).await;
}

#[tokio::test]
async fn the_first_logins_after_the_cost_was_lowered_take_the_same_on_mongodb() {
    let database = Database::new().await;
    let uri = database.uri.clone();
    let on_mongodb = |settings: &mut Settings| settings.store.database_url = Some(uri.into());
    the_first_logins_after_the_cost_was_lowered_take_the_same(on_mongodb).await;
}

/// As while a fleet is restarted node by node with another cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_lower_cost_does_as_much_as_the_hashes_of_another_one_take() {
    let mut fleet = Fleet::with(1, |settings| settings.auth.bcrypt_cost = 4).await;
    assert_eq!(rounds(&fleet.nodes[0], "nobody@example.com").await, 16.0);
    let ana = fleet.join(|settings| settings.auth.bcrypt_cost = 6).await.member("Ana").await;
    for email in ["nobody@example.com", &ana.auth.member.email] {
        assert_eq!(rounds(&fleet.nodes[0], email).await, 64.0, "{email}");
    }
}

#[test]
fn what_is_made_up_for_is_every_cost_that_may_be_set() {
    for cost in 0..32 {
        let parsed = Cli::try_parse_from(["members-book", "--bcrypt-cost", &cost.to_string()]);
        assert_eq!(parsed.is_ok(), COSTS.contains(&cost), "{cost}");
    }
}
