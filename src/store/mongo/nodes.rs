//! Which nodes use a database, who of them is alive, and whether this one may join them.
//!
//! A node that serves has a document in `nodes`, which it stamps with each beat, and which has the *generation* of the node:
//! how often it has joined. Any number of nodes serve together. Whoever finds that one has been silent for so long that it can
//! have nothing under way any more ([`Watch`]) finishes what it left ([`super::recovery`]) and takes its generation away: it is
//! *out*. A node that was only paused finds that with its next beat, before it writes anything ([`super::link`] lets nobody
//! write whose last good beat began more than a lease ago), and joins again with the next generation.
//!
//! `copy` wants the database for itself: it refuses to start beside a node that is alive, and a node refuses to start beside
//! it. So whoever comes
//!
//! 1. does not count a process of its own machine that does not exist any more (the machine is the boot and the
//!    namespace of process ids, not a name that another one may have),
//! 2. does not count nodes of other machines whose last beat is [`SILENT`] ago by the database's clock,
//! 3. watches the rest for [`WATCH`]: who beats meanwhile is alive, and so is a process of its own machine that is still
//!    there at the end, however silent it is (it may be paused). Who else is silent is not.
//!
//! Of two that come at the same moment the one with the smaller id stays. Commands (`admin create`) are no nodes: they
//! see nobody, and nobody counts them.

use std::{
    collections::HashMap,
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::Timestamp;
use tokio::time::Instant;

use super::{
    bounds::Bounds,
    db::Db,
    document::{binary, bytes_of, date, signed, unsigned},
    fault::Fault,
    link::LEASE,
};
use crate::{
    ids::{NodeId, host_name},
    position::Position,
    store::fleet::{ListedNode, SecretId},
};

/// How a process uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// It serves, beside any number of others that do.
    Serving,
    /// It wants the database for itself: nobody may serve meanwhile.
    Exclusive,
    /// It is a command beside nodes that serve, which touches no conversation.
    Command,
}

/// How long a node that is alive may be silent, by the database's clock, for whoever wants to be alone.
const SILENT: Duration = Duration::from_secs(10);
/// How long nodes that may be alive are watched: some beats.
const WATCH: Duration = Duration::from_secs(3);
/// A pause in our own beats after which we know nothing of how long others have been silent.
const BLIND: Duration = Duration::from_secs(3);

/// How many other nodes are looked at: those that died are taken off the list by whoever serves.
const OTHERS: i64 = 1_000;

/// What a node says about itself in `nodes`.
pub(super) struct Identity {
    pub(super) node: ObjectId,
    pub(super) nodes: Nodes,
    /// Its name, for people.
    name: String,
    /// The name of the machine, for people.
    host: String,
    /// Identifies the machine: process ids of the same one can be compared.
    machine: String,
    pid: i64,
    /// When the process began, in ticks since the boot: a process id is used again.
    began: i64,
    /// How often it has joined; 0 before it did.
    generation: AtomicU64,
    /// How long its commands may take.
    pub(super) bounds: Bounds,
    /// Which secret it signs with, once that is known.
    pub(super) secret: OnceLock<SecretId>,
}

impl Identity {
    pub(super) fn new(node: ObjectId, nodes: Nodes, name: Option<String>, bounds: Bounds) -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let (boot, space) = (read("/proc/sys/kernel/random/boot_id"), fs::read_link("/proc/self/ns/pid"));
        let machine = match space {
            Ok(space) if !boot.is_empty() => format!("{boot} {}", space.display()),
            // Unknown: then only beats tell who is alive.
            _ => String::new(),
        };
        let pid = i64::from(std::process::id());
        let host = host_name();
        let name = name.unwrap_or_else(|| host.clone());
        let (began, generation) = (began(pid).unwrap_or(0), AtomicU64::new(0));
        Self { node, nodes, name, host, machine, pid, began, generation, bounds, secret: OnceLock::new() }
    }

    /// The document of this node.
    pub(super) fn filter(&self) -> Document {
        doc! { "_id": self.node }
    }

    /// How often it has joined.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A beat of a node that has joined: its document as it has to be, and the change. Nothing before it has joined. `since`: when
    /// the oldest began of what it may have half done.
    pub(super) fn beat(&self, since: Option<Timestamp>) -> Option<(Document, Document)> {
        let generation = self.generation();
        let own = doc! { "_id": self.node, "generation": signed(generation) };
        let mut said = doc! { "since": since.map(date) };
        if let Some(SecretId(bytes)) = self.secret.get() {
            said.insert("secret", binary(bytes));
        }
        (generation > 0).then(|| (own, doc! { "$currentDate": { "at": true }, "$set": said }))
    }

    /// What makes it join, for the first time or again. `from`: up to where it has published what it stored.
    pub(super) fn enrol(&self, from: Position) -> Document {
        let generation = signed(self.generation() + 1);
        let mut who = doc! {
            "name": &self.name,
            "host": &self.host,
            "machine": &self.machine,
            "pid": self.pid,
            "began": self.began,
            "serves": self.nodes != Nodes::Command,
            "exclusive": self.nodes == Nodes::Exclusive,
            "generation": generation,
            "from": signed(from.0),
        };
        who.extend(self.bounds.fields());
        doc! { "$currentDate": { "at": true }, "$set": who, "$unset": { "out": "" } }
    }

    /// It has joined.
    pub(super) fn enrolled(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether another node's process exists, if it is one of this machine.
    pub(super) fn sees(&self, other: &Document) -> Option<bool> {
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

    /// Whether this one may not serve while another one is alive.
    fn conflicts_with(&self, other: &Document) -> bool {
        self.nodes == Nodes::Exclusive || other.get_bool("exclusive").unwrap_or(false)
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

/// The other nodes that serve, or have served and were not finished after; the latest first.
pub(super) async fn others(db: &Db, own: ObjectId) -> Result<Vec<Document>, Fault> {
    let others = doc! { "_id": { "$ne": own }, "serves": { "$ne": false }, "out": { "$ne": true } };
    let options = FindOptions::builder().sort(doc! { "at": -1 }).limit(OTHERS).build();
    db.all("nodes", others, options).await
}

/// A node as others see it; nothing for a document that is none.
pub(super) fn listed(other: &Document, dead: &[Dead]) -> Option<ListedNode> {
    let id = other.get_object_id("_id").ok()?;
    let is_dead = dead.iter().any(|dead| dead.id == id);
    let id = NodeId(id.bytes());
    let number = |name| other.get_i64(name).map_or(0, unsigned);
    let name = other.get_str("name").unwrap_or("unknown").to_owned();
    Some(ListedNode {
        id,
        generation: number("generation"),
        joined_from: Position(number("from")),
        name,
        secret: bytes_of(other, "secret").map(SecretId),
        dead: is_dead,
    })
}

/// A node that is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) id: ObjectId,
    /// Its last beat, by the clock of the database.
    pub(super) at: DateTime,
    /// Since when it may have had work half done at that beat.
    pub(super) since: DateTime,
    /// How long after it was found dead what it had sent may go on.
    pub(super) settled: Duration,
}

/// Since when a node may have had work half done at its last beat: that, or what it said of before, by its own clock.
pub(super) fn unsettled_since(node: &Document) -> Option<DateTime> {
    let at = *node.get_datetime("at").ok()?;
    Some(node.get_datetime("since").map_or(at, |since| at.min(*since)))
}

/// How long others have been silent, as this node has seen it. One is dead after more than its lease and its longest command.
#[derive(Default)]
pub(super) struct Watch {
    /// When the latest beat of each was seen first.
    seen: HashMap<ObjectId, (DateTime, Instant)>,
    looked: Option<Instant>,
}

impl Watch {
    /// Looks at the others, after a beat of our own; returns those that are dead.
    pub(super) fn look(&mut self, identity: &Identity, others: &[Document], now: Instant) -> Vec<Dead> {
        // While the database was away from us it may have been away from others.
        if self.looked.replace(now).is_none_or(|last| now.saturating_duration_since(last) > BLIND) {
            self.seen.clear();
        }
        let before = std::mem::take(&mut self.seen);
        let mut dead = Vec::new();
        for other in others {
            let (Ok(id), Ok(at)) = (other.get_object_id("_id"), other.get_datetime("at")) else { continue };
            let first = before.get(&id).filter(|(then, _)| then == at).map_or(now, |(_, first)| *first);
            self.seen.insert(id, (*at, first));
            let dead_after = Bounds::of(other, identity.bounds).dead_after();
            let is_silent = now.saturating_duration_since(first) >= dead_after;
            if is_silent || identity.sees(other) == Some(false) {
                let since = unsettled_since(other).unwrap_or(*at);
                dead.push(Dead { id, at: *at, since, settled: dead_after });
            }
        }
        dead
    }

    /// Those that have been silent for a lease, as of the latest look: they begin nothing more before they are heard again. Not all of them are
    /// dead: what they began may be under way.
    pub(super) fn silent(&self, now: Instant) -> Vec<ObjectId> {
        if self.looked.is_none_or(|last| now.saturating_duration_since(last) > BLIND) {
            return Vec::new();
        }
        let is_silent = |first: &Instant| now.saturating_duration_since(*first) >= LEASE;
        self.seen.iter().filter(|(_, (_, first))| is_silent(first)).map(|(id, _)| *id).collect()
    }
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
        let (asked, own) = (Instant::now(), identity.node);
        let others = db.within(async move |db| others(&db, own).await).await?;
        let standing = self.judge(identity, &others, at, (asked, Instant::now()));
        if standing == Standing::Granted && identity.nodes != Nodes::Command {
            let (own, joined) = (identity.filter(), doc! { "$set": { "joined": true } });
            let join = async move |db: Db| {
                let nodes = db.collection::<Document>("nodes");
                Ok(nodes.find_one_and_update(own, joined).max_time(db.max_time).await?)
            };
            db.within(join).await?;
        }
        Ok(standing)
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
        let conflicting = others.iter().filter(|other| identity.conflicts_with(other));
        for other in conflicting.filter(|other| identity.may_be_alive(other, ours)) {
            let (Ok(id), Ok(at)) = (other.get_object_id("_id"), other.get_datetime("at")) else { continue };
            let (first, then) = *self.seen.entry(id).or_insert((answered, *at));
            let who = describe(other, *at);
            if *at == then {
                // At least so long it was silent by the database's clock, however long the answers took.
                if asked.saturating_duration_since(first) < WATCH {
                    watched = Some(who);
                } else if identity.sees(other) == Some(true) {
                    return Standing::Refused(format!(
                        "another process uses this database: {who}. It is silent, but it exists on this machine; it may \
                         be paused. Stop it first"
                    ));
                }
            } else if other.get_bool("joined").unwrap_or(false) || id < identity.node {
                return Standing::Refused(format!(
                    "another process uses this database: {who}. This command needs it for itself; stop the other one first"
                ));
            } else {
                // It came at the same moment, and gives way.
                watched = Some(who);
            }
        }
        watched.map_or(Standing::Granted, Standing::Watching)
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

    const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(5), window: Duration::from_secs(8) };

    fn identity() -> Identity {
        Identity::new(ObjectId::from_bytes([5; 12]), Nodes::Exclusive, None, BOUNDS)
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
        for part in ["web-2", "4242", "1970-01-01T00:00:02Z", "needs it for itself"] {
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

    /// A node that serves joins others that do, and waits for nobody but who wants to be alone.
    #[tokio::test(start_paused = true)]
    async fn nodes_that_serve_join_each_other() {
        let serving = Identity::new(ObjectId::from_bytes([5; 12]), Nodes::Serving, None, BOUNDS);
        let mut alone = other(9, 1_000, true);
        assert_eq!(judge(&mut Joining::new(), &serving, &[alone.clone()]), Standing::Granted);
        alone.insert("exclusive", true);
        assert!(matches!(judge(&mut Joining::new(), &serving, &[alone]), Standing::Watching(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_long_enough_is_dead_unless_we_were_blind() {
        let (identity, mut watch) = (identity(), Watch::default());
        let id = ObjectId::from_bytes([9; 12]);
        let mut look = |at| watch.look(&identity, &[other(9, at, true)], Instant::now());
        for _ in 0..12 {
            assert!(look(1_000).is_empty());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let (at, settled) = (DateTime::from_millis(1_000), Duration::from_secs(12));
        assert_eq!(look(1_000), [Dead { id, at, since: at, settled }]);
        assert!(look(2_000).is_empty(), "it beats again");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(look(2_000).is_empty(), "the database was away from us, and so perhaps from it");
        for _ in 0..12 {
            tokio::time::advance(Duration::from_secs(1)).await;
            look(2_000);
        }
        assert_eq!(look(2_000).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_a_lease_is_known_long_before_it_is_dead_unless_we_were_blind() {
        let (identity, mut watch) = (identity(), Watch::default());
        let id = ObjectId::from_bytes([9; 12]);
        for second in 0..12 {
            assert!(watch.look(&identity, &[other(9, 1_000, true)], Instant::now()).is_empty());
            let silent = watch.silent(Instant::now());
            assert_eq!(silent.contains(&id), second >= 5, "{second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        watch.look(&identity, &[other(9, 2_000, true)], Instant::now());
        assert!(watch.silent(Instant::now()).is_empty(), "it beats again");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(watch.silent(Instant::now()).is_empty(), "nobody has looked");
    }

    /// Found by a reviewer: each judged the others by its own `STORE_TIMEOUT`, and finished what another one still wrote.
    #[tokio::test(start_paused = true)]
    async fn how_long_another_one_has_to_be_silent_is_a_matter_of_its_own_timeout() {
        let (identity, mut watch) = (identity(), Watch::default());
        let slow = Bounds { timeout: Duration::from_secs(30), window: Duration::from_secs(33) };
        let quick = Bounds { timeout: Duration::from_secs(1), window: Duration::from_secs(4) };
        let others: Vec<Document> = [(7, Some(slow)), (8, Some(quick)), (9, None)]
            .map(|(id, bounds)| {
                let mut other = other(id, 1_000, true);
                other.extend(bounds.map(Bounds::fields).unwrap_or_default());
                other
            })
            .into();
        let mut died: Vec<(u8, u64, u64)> = Vec::new();
        for second in 0..40_u64 {
            let dead = watch.look(&identity, &others, Instant::now());
            for Dead { id, settled, .. } in dead {
                let [id, ..] = id.bytes();
                if died.iter().all(|(known, ..)| *known != id) {
                    died.push((id, second, settled.as_secs()));
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(died, [(8, 8, 8), (9, 12, 12), (7, 37, 37)]);
    }

    #[tokio::test]
    async fn a_process_of_this_machine_that_is_gone_is_dead_at_once() {
        let (identity, mut watch) = (identity(), Watch::default());
        let mut here = here(&identity, 1_000);
        assert!(watch.look(&identity, &[here.clone()], Instant::now()).is_empty());
        here.insert("began", identity.began + 1);
        assert_eq!(watch.look(&identity, &[here], Instant::now()).len(), 1);
    }
}
