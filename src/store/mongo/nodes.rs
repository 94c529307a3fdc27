//! Which nodes use a database, and whether this one may join them.
//!
//! Several nodes on one database lose messages for clients as yet: a `pong` of one passes what another stores. So a node
//! that serves alone refuses to start beside one that is alive. Alive is who beats: a node that has died leaves its
//! document in `nodes`, and must not keep its successor waiting. So whoever comes
//!
//! 1. does not count nodes whose last beat is [`SILENT`] ago by the database's clock,
//! 2. does not count a process of its own machine that does not exist any more (the machine is the boot and the
//!    namespace of process ids, not a name that another one may have),
//! 3. watches the others for [`WATCH`]: who beats meanwhile is alive, who does not is not.
//!
//! Of two that come at the same moment the one with the smaller id stays. Commands (`admin create`) are no nodes: they
//! see nobody, and nobody counts them.

use std::{collections::HashMap, fs, time::Duration};

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use tokio::time::Instant;

use super::{fault::Fault, link::Db};

/// Who else may use the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// Nobody: the store refuses to open beside a node that is alive.
    Alone,
    /// Other nodes. An experiment: see `docs/mongodb.md`.
    Several,
    /// A running node: this is a command beside it, which touches no conversation.
    Command,
}

/// How long a node that is alive may be silent, by the database's clock.
const SILENT: Duration = Duration::from_secs(10);
/// How long nodes that may be alive are watched: some beats.
const WATCH: Duration = Duration::from_secs(3);

/// What a node says about itself in `nodes`.
pub(super) struct Identity {
    pub(super) node: ObjectId,
    nodes: Nodes,
    /// The name of the machine, for people.
    host: String,
    /// Identifies the machine: process ids of the same one can be compared.
    machine: String,
    pid: i64,
    /// When the process began, in ticks since the boot: a process id is used again.
    began: i64,
}

impl Identity {
    pub(super) fn new(node: ObjectId, nodes: Nodes) -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let (boot, space) = (read("/proc/sys/kernel/random/boot_id"), fs::read_link("/proc/self/ns/pid"));
        let machine = match space {
            Ok(space) if !boot.is_empty() => format!("{boot} {}", space.display()),
            // Unknown: then only beats tell who is alive.
            _ => String::new(),
        };
        let pid = i64::from(std::process::id());
        let host = read("/proc/sys/kernel/hostname");
        Self { node, nodes, host, machine, pid, began: began(pid).unwrap_or(0) }
    }

    /// The document of this node.
    pub(super) fn filter(&self) -> Document {
        doc! { "_id": self.node }
    }

    /// A beat.
    pub(super) fn beat(&self) -> Document {
        let who = doc! {
            "host": &self.host,
            "machine": &self.machine,
            "pid": self.pid,
            "began": self.began,
            "serves": self.nodes != Nodes::Command,
        };
        doc! { "$currentDate": { "at": true }, "$setOnInsert": who }
    }

    /// Whether another node's process is one of this machine that is gone.
    fn has_seen_the_end_of(&self, other: &Document) -> bool {
        let same = !self.machine.is_empty() && other.get_str("machine").is_ok_and(|machine| machine == self.machine);
        let (Ok(pid), Ok(its)) = (other.get_i64("pid"), other.get_i64("began")) else { return false };
        same && began(pid) != Some(its)
    }
}

/// When a process of this machine began; nothing if there is none.
fn began(pid: i64) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may contain anything; this is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether this node may serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Granted,
    /// Others may be alive; for people.
    Watching(String),
    /// Another one is alive; for people.
    Refused(String),
}

/// What a node that wants to join has seen of the others.
pub(super) struct Joining {
    /// When each was seen first, and its beat then.
    seen: HashMap<ObjectId, (Instant, DateTime)>,
}

impl Joining {
    pub(super) fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    /// Looks once; `at` is our own latest beat.
    pub(super) async fn look(&mut self, db: &Db, identity: &Identity, at: DateTime) -> Result<Admission, Fault> {
        let nodes = db.collection::<Document>("nodes");
        if identity.nodes == Nodes::Alone {
            let silent = i64::try_from(SILENT.as_millis()).unwrap_or(i64::MAX);
            let since = DateTime::from_millis(at.timestamp_millis().saturating_sub(silent));
            let others = doc! { "at": { "$gt": since }, "_id": { "$ne": identity.node }, "serves": { "$ne": false } };
            let others: Vec<Document> = nodes.find(others).max_time(db.max_time).await?.try_collect().await?;
            match self.judge(identity, &others, Instant::now()) {
                Admission::Granted => {}
                not_yet => return Ok(not_yet),
            }
        }
        if identity.nodes != Nodes::Command {
            nodes.update_one(identity.filter(), doc! { "$set": { "joined": true } }).await?;
        }
        Ok(Admission::Granted)
    }

    fn judge(&mut self, identity: &Identity, others: &[Document], now: Instant) -> Admission {
        let mut watched = None;
        for other in others.iter().filter(|other| !identity.has_seen_the_end_of(other)) {
            let (Ok(id), Ok(at)) = (other.get_object_id("_id"), other.get_datetime("at")) else { continue };
            let (first, then) = *self.seen.entry(id).or_insert((now, *at));
            let who = describe(other, *at);
            if *at == then {
                if now.saturating_duration_since(first) < WATCH {
                    watched = Some(who);
                }
            } else if other.get_bool("joined").unwrap_or(false) || id < identity.node {
                return Admission::Refused(format!(
                    "another server uses this database: {who}. With several servers clients miss messages; stop the \
                     other one first, or set ALLOW_SEVERAL_NODES=experimental"
                ));
            } else {
                // It came at the same moment, and gives way.
                watched = Some(who);
            }
        }
        watched.map_or(Admission::Granted, Admission::Watching)
    }
}

fn describe(other: &Document, at: DateTime) -> String {
    let host = other.get_str("host").ok().filter(|host| !host.is_empty()).unwrap_or("unknown");
    let pid = other.get_i64("pid").map_or_else(|_| "unknown".to_owned(), |pid| pid.to_string());
    let at = at.try_to_rfc3339_string().unwrap_or_default();
    format!("host {host}, process {pid}, last seen at {at} by the database's clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(ObjectId::from_bytes([5; 12]), Nodes::Alone)
    }

    fn other(id: u8, at: i64, joined: bool) -> Document {
        let who = doc! { "host": "web-2", "machine": "another", "pid": 4242_i64, "began": 1_i64, "joined": joined };
        let mut other = doc! { "_id": ObjectId::from_bytes([id; 12]), "at": DateTime::from_millis(at) };
        other.extend(who);
        other
    }

    #[tokio::test(start_paused = true)]
    async fn who_beats_is_alive_and_is_named() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining, at| joining.judge(&identity, &[other(9, at, true)], Instant::now());
        assert!(matches!(look(&mut joining, 1_000), Admission::Watching(_)));
        let Admission::Refused(why) = look(&mut joining, 2_000) else { panic!() };
        for part in ["web-2", "4242", "1970-01-01T00:00:02Z", "ALLOW_SEVERAL_NODES=experimental"] {
            assert!(why.contains(part), "{part} is not in: {why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_dead() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining| joining.judge(&identity, &[other(9, 1_000, true)], Instant::now());
        assert!(matches!(look(&mut joining), Admission::Watching(_)));
        tokio::time::advance(WATCH).await;
        assert_eq!(look(&mut joining), Admission::Granted);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_come_together_one_stays() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining, id, at| joining.judge(&identity, &[other(id, at, false)], Instant::now());
        assert!(matches!(look(&mut joining, 4, 1_000), Admission::Watching(_)));
        assert!(matches!(look(&mut joining, 4, 2_000), Admission::Refused(_)));
        assert!(matches!(look(&mut joining, 6, 1_000), Admission::Watching(_)));
        assert!(matches!(look(&mut joining, 6, 2_000), Admission::Watching(_)), "the other one gives way");
        assert_eq!(joining.judge(&identity, &[], Instant::now()), Admission::Granted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_of_this_machine_that_is_gone_keeps_nobody_waiting() {
        let identity = identity();
        let mut here = other(9, 1_000, true);
        here.insert("machine", identity.machine.as_str());
        here.insert("pid", identity.pid);
        here.insert("began", identity.began);
        // Another node in this very process is alive.
        assert!(matches!(Joining::new().judge(&identity, &[here.clone()], Instant::now()), Admission::Watching(_)));
        // The process id belongs to another process by now.
        here.insert("began", identity.began + 1);
        assert_eq!(Joining::new().judge(&identity, &[here], Instant::now()), Admission::Granted);
    }
}
