//! Which nodes use a database, and whether this one may join them.
//!
//! Several nodes on one database lose messages for clients as yet: a `pong` of one passes what another stores. So a node
//! that serves alone refuses to start beside one that is alive. Alive is who beats: a node that has died leaves its
//! document in `nodes`, and must not keep its successor waiting. So whoever comes
//!
//! 1. does not count a process of its own machine that does not exist any more (the machine is the boot and the
//!    namespace of process ids, not a name that another one may have),
//! 2. does not count nodes of other machines whose last beat is [`SILENT`] ago by the database's clock,
//! 3. watches the rest for [`WATCH`]: who beats meanwhile is alive, and so is a process of its own machine that is still
//!    there at the end, however silent it is (it may be paused). Who else is silent is not.
//!
//! A node of another machine that was paused or cut off cannot be told from one that died, so it is *fenced*: whoever
//! serves alone writes its id into `meta` ([`super::record`]) before it does, each beat reads it back, and a node that finds
//! another id there ends itself. Until its beat has told it that it is still the one, it answers nothing
//! ([`super::link`]): nobody takes over from a node that has beaten within [`WATCH`].
//!
//! Of two that come at the same moment the one with the smaller id stays. Commands (`admin create`) are no nodes: they
//! see nobody, and nobody counts them.

use std::{collections::HashMap, fs, time::Duration};

use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::{FindOneOptions, FindOptions},
};
use tokio::time::Instant;

use super::{db::Db, fault::Fault, record};

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
pub(super) const WATCH: Duration = Duration::from_secs(3);

/// How many other nodes are looked at: those that died are taken off the list by whoever serves.
const OTHERS: i64 = 1_000;

/// What a node says about itself in `nodes`.
pub(super) struct Identity {
    pub(super) node: ObjectId,
    pub(super) nodes: Nodes,
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

    /// Whether another node's process exists, if it is one of this machine.
    fn sees(&self, other: &Document) -> Option<bool> {
        let same = !self.machine.is_empty() && other.get_str("machine").is_ok_and(|machine| machine == self.machine);
        let (Ok(pid), Ok(its)) = (other.get_i64("pid"), other.get_i64("began")) else { return None };
        same.then(|| began(pid) == Some(its))
    }

    /// Whether another node may be alive, by our latest beat.
    fn may_be_alive(&self, other: &Document, at: DateTime) -> bool {
        let silent = i64::try_from(SILENT.as_millis()).unwrap_or(i64::MAX);
        let since = DateTime::from_millis(at.timestamp_millis().saturating_sub(silent));
        self.sees(other).unwrap_or_else(|| other.get_datetime("at").is_ok_and(|at| *at > since))
    }
}

/// When a process of this machine began; nothing if there is none, or only its remains.
fn began(pid: i64) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    began_of(&stat)
}

fn began_of(stat: &str) -> Option<i64> {
    // The second field is a name in parentheses, which may contain anything. The third is the state: one that nobody has
    // waited for yet (Z), or that is going away (X), runs no more. The 22nd is when it began.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let runs = fields.next().is_some_and(|state| !matches!(state, "Z" | "X" | "x"));
    fields.nth(18)?.parse().ok().filter(|_| runs)
}

/// Whether this node may serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
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
    pub(super) async fn look(&mut self, db: &Db, identity: &Identity, at: DateTime) -> Result<Standing, Fault> {
        if identity.nodes == Nodes::Alone {
            let asked = Instant::now();
            let own = identity.node;
            let others = db.within(async move |db| others(&db, own).await).await?;
            match self.judge(identity, &others, at, (asked, Instant::now())) {
                Standing::Granted => db.within(async move |db| record::hold(&db, own).await).await?,
                not_yet => return Ok(not_yet),
            }
        }
        if identity.nodes != Nodes::Command {
            let (own, joined) = (identity.filter(), doc! { "$set": { "joined": true } });
            let join = async move |db: Db| {
                let nodes = db.collection::<Document>("nodes");
                Ok(nodes.find_one_and_update(own, joined).max_time(db.max_time).await?)
            };
            db.within(join).await?;
        }
        Ok(Standing::Granted)
    }

    /// Judges what was answered between two moments.
    fn judge(
        &mut self,
        identity: &Identity,
        others: &[Document],
        ours: DateTime,
        (asked, answered): (Instant, Instant),
    ) -> Standing {
        let mut watched = None;
        for other in others.iter().filter(|other| identity.may_be_alive(other, ours)) {
            let (Ok(id), Ok(at)) = (other.get_object_id("_id"), other.get_datetime("at")) else { continue };
            let (first, then) = *self.seen.entry(id).or_insert((answered, *at));
            let who = describe(other, *at);
            if *at == then {
                // At least so long it was silent by the database's clock, however long the answers took.
                if asked.saturating_duration_since(first) < WATCH {
                    watched = Some(who);
                } else if identity.sees(other) == Some(true) {
                    return Standing::Refused(format!(
                        "another server uses this database: {who}. It is silent, but its process exists on this machine; \
                         it may be paused. Stop it first, or set ALLOW_SEVERAL_NODES=experimental"
                    ));
                }
            } else if other.get_bool("joined").unwrap_or(false) || id < identity.node {
                return Standing::Refused(format!(
                    "another server uses this database: {who}. With several servers clients miss messages; stop the \
                     other one first, or set ALLOW_SEVERAL_NODES=experimental"
                ));
            } else {
                // It came at the same moment, and gives way.
                watched = Some(who);
            }
        }
        watched.map_or(Standing::Granted, Standing::Watching)
    }
}

/// The other nodes that serve, or have served; the latest first.
async fn others(db: &Db, own: ObjectId) -> Result<Vec<Document>, Fault> {
    let others = doc! { "_id": { "$ne": own }, "serves": { "$ne": false } };
    let options = FindOptions::builder().sort(doc! { "at": -1 }).limit(OTHERS).build();
    db.all("nodes", others, options).await
}

/// Why a node that has served alone has to go: `holder` serves in its place. For people.
pub(super) async fn superseded(db: &Db, identity: &Identity, holder: ObjectId) -> String {
    let its = doc! { "_id": holder };
    let found = db.within(async move |db| db.one::<Document>("nodes", its, FindOneOptions::default()).await).await;
    let who = match found {
        Ok(Some(other)) => other.get_datetime("at").map(|at| describe(&other, *at)).unwrap_or_default(),
        Ok(None) | Err(_) => String::new(),
    };
    let who = if who.is_empty() { format!("node {holder}, which is gone again") } else { who };
    format!(
        "another server has taken the place of this one ({}, process {}), which was paused or cut off from the database: \
         {who}. This one ends, since its clients would miss messages",
        identity.host, identity.pid
    )
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

    /// Judges what is answered at once, shortly after the beats of these tests.
    fn judge(joining: &mut Joining, identity: &Identity, others: &[Document]) -> Standing {
        let now = Instant::now();
        joining.judge(identity, others, DateTime::from_millis(3_000), (now, now))
    }

    /// A process that has not ended: this one.
    fn here(identity: &Identity, at: i64) -> Document {
        let mut here = other(9, at, true);
        here.insert("machine", identity.machine.as_str());
        here.insert("pid", identity.pid);
        here.insert("began", identity.began);
        here
    }

    #[tokio::test(start_paused = true)]
    async fn who_beats_is_alive_and_is_named() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining, at| judge(joining, &identity, &[other(9, at, true)]);
        assert!(matches!(look(&mut joining, 1_000), Standing::Watching(_)));
        let Standing::Refused(why) = look(&mut joining, 2_000) else { panic!() };
        for part in ["web-2", "4242", "1970-01-01T00:00:02Z", "ALLOW_SEVERAL_NODES=experimental"] {
            assert!(why.contains(part), "{part} is not in: {why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_dead() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining| judge(joining, &identity, &[other(9, 1_000, true)]);
        assert!(matches!(look(&mut joining), Standing::Watching(_)));
        tokio::time::advance(WATCH).await;
        assert_eq!(look(&mut joining), Standing::Granted);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_come_together_one_stays() {
        let (identity, mut joining) = (identity(), Joining::new());
        let look = |joining: &mut Joining, id, at| judge(joining, &identity, &[other(id, at, false)]);
        assert!(matches!(look(&mut joining, 4, 1_000), Standing::Watching(_)));
        assert!(matches!(look(&mut joining, 4, 2_000), Standing::Refused(_)));
        assert!(matches!(look(&mut joining, 6, 1_000), Standing::Watching(_)));
        assert!(matches!(look(&mut joining, 6, 2_000), Standing::Watching(_)), "the other one gives way");
        assert_eq!(judge(&mut joining, &identity, &[]), Standing::Granted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_of_this_machine_that_is_gone_keeps_nobody_waiting() {
        let identity = identity();
        let mut here = here(&identity, 1_000);
        // Another node in this very process is alive.
        assert!(matches!(judge(&mut Joining::new(), &identity, &[here.clone()]), Standing::Watching(_)));
        // The process id belongs to another process by now.
        here.insert("began", identity.began + 1);
        assert_eq!(judge(&mut Joining::new(), &identity, &[here]), Standing::Granted);
    }

    /// One that is paused, for however long.
    #[tokio::test(start_paused = true)]
    async fn a_process_of_this_machine_that_exists_is_alive_however_silent() {
        let (identity, mut joining) = (identity(), Joining::new());
        let hours_ago = here(&identity, 3_000 - 10_000_000);
        assert!(matches!(judge(&mut joining, &identity, std::slice::from_ref(&hours_ago)), Standing::Watching(_)));
        tokio::time::advance(WATCH).await;
        let Standing::Refused(why) = judge(&mut joining, &identity, &[hours_ago]) else { panic!() };
        assert!(why.contains(&identity.pid.to_string()) && why.contains("paused"), "{why}");
        // Nobody can know that of another machine.
        let elsewhere = other(9, 3_000 - 10_000_000, true);
        assert_eq!(judge(&mut Joining::new(), &identity, &[elsewhere]), Standing::Granted);
    }

    /// The answer is late, not the other node.
    #[tokio::test(start_paused = true)]
    async fn a_late_answer_makes_nobody_silent() {
        let (identity, mut joining) = (identity(), Joining::new());
        let (others, ours, asked) = ([other(9, 1_000, true)], DateTime::from_millis(3_000), Instant::now());
        let answered = asked + WATCH;
        assert!(matches!(joining.judge(&identity, &others, ours, (asked, asked)), Standing::Watching(_)));
        assert!(matches!(joining.judge(&identity, &others, ours, (asked, answered)), Standing::Watching(_)));
    }

    #[test]
    fn what_is_left_of_a_process_is_none() {
        let stat = |state| format!("42 (a) name) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20");
        assert_eq!((began_of(&stat("S")), began_of(&stat("T"))), (Some(777), Some(777)), "T is paused");
        assert_eq!(began_of(&stat("Z")), None);
    }
}
