//! Who is a member, by how long an answer takes: the server does the same for each of them. As many passwords are hashed, and the store is
//! read and written as often, whatever an address is to the club.

use reqwest::Response;

use super::club::{Club, Kind, address};
use crate::harness::{Server, database::Database, smtp::Trouble};

/// Addresses of each kind.
const EACH: usize = 8;

/// What was done for one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Effort {
    hashes: f64,
    reads: f64,
    writes: f64,
}

impl Effort {
    /// What was done so far.
    async fn so_far(server: &Server) -> Self {
        let metrics = server.metrics().await;
        let count = |name: &str| {
            let name = format!("membersbook_{name}_seconds_count ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name}")).parse::<f64>().unwrap()
        };
        Self { hashes: count("password"), reads: count("store_read"), writes: count("store_write") }
    }

    fn since(self, before: Self) -> Self {
        Self {
            hashes: self.hashes - before.hashes,
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
        }
    }

    fn or_less(self, other: Self) -> Self {
        Self {
            hashes: self.hashes.min(other.hashes),
            reads: self.reads.min(other.reads),
            writes: self.writes.min(other.writes),
        }
    }
}

/// What is done for an answer about an address of a kind. The least of several: what the server does by itself comes on top now and then.
async fn effort(club: &Club, kind: Kind, ask: impl AsyncFn(&str) -> Response) -> Effort {
    let mut least: Option<Effort> = None;
    for number in 0..EACH {
        let before = Effort::so_far(&club.server).await;
        let answer = ask(&address(kind, number)).await;
        assert!(matches!(answer.status().as_u16(), 202 | 401), "{kind:?}: {}", answer.status());
        let done = Effort::so_far(&club.server).await.since(before);
        least = Some(least.map_or(done, |least| least.or_less(done)));
    }
    least.unwrap()
}

/// The same for every kind.
async fn same(club: &Club, what: &str, ask: impl AsyncFn(&str) -> Response) -> Effort {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.push((kind, effort(club, kind, &ask).await));
    }
    let (_, first) = all[0];
    assert!(all.iter().all(|(_, effort)| *effort == first), "{what}: {all:#?}");
    first
}

/// A club whose mail server takes a mail and never says that it has: what is done for a request is not mixed up with what is done for
/// its mail.
async fn club(database: Option<Database>) -> Club {
    let club = Club::on(database, EACH).await;
    club.mail.expect([Trouble::Hangs]);
    assert_eq!(club.forgot(&address(Kind::Admin, EACH)).await.status(), 202);
    assert_eq!(club.register("hangs@example.com").await.status(), 202);
    club.mail.had_all().await;
    club
}

async fn every_answer_takes_the_same(club: Club) {
    let wrong = same(&club, "a login", async |email| club.log_in(email, "not this one").await).await;
    assert_eq!((wrong.hashes, wrong.writes), (1.0, 0.0));
    let forgotten = same(&club, "a forgotten password", async |email| club.forgot(email).await).await;
    assert_eq!((forgotten.hashes, forgotten.reads, forgotten.writes), (0.0, 0.0, 1.0));
    let registered = same(&club, "a registration", async |email| club.register(email).await).await;
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
