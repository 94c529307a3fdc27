//! What a node knows of the others: up to where each has published what it stored, and whether anything may have been lost.
//!
//! A state machine without I/O. Its one promise: everything that any node has stored up to [`Roster::floor`] has been delivered
//! to the connections of this node, or was there when they synced. So a cursor at the floor skips nothing.
//!
//! - While nothing is in doubt, the floor is the smallest of the *beats* of all other nodes that live, on all links. A node
//!   that joins counts from the listing on in which it first shows; the floor never passes the horizon of the latest listing,
//!   because a node that joined after that stores with larger positions only.
//! - *Doubt* is anything after which an event may be missing. Then beats count for nothing. A *sweep* reads from the store what
//!   has changed since the floor, and the floor becomes the horizon from before it was read. Doubts that came before a sweep
//!   began, and whose cause is gone, end with it.
//! - What a node says counts only while it is listed: this database knows it. A node is listed before it says anything, but the
//!   listing that others have may be of before; so when one shows of which something was passed over, that is a doubt.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::bus::{Beat, Loss, NodeId};
use crate::{
    position::{Epoch, Position, StreamPosition},
    store::fleet::Listing,
};

/// How long a node that lives may say nothing on a link.
pub const SILENCE: Duration = Duration::from_secs(2);
/// How long a node is heard that was listed until now: it stops, and what it said last is on its way.
const FAREWELL: Duration = Duration::from_secs(30);
/// Nodes that are not listed and were heard, at most: with more, all are forgotten.
const UNLISTED: usize = 1_000;
/// How many listings a node that was heard is missing in until it is taken for one of another database: the first may be of before it
/// joined.
const MISSING: u32 = 3;

/// Why events of other nodes may be missing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doubt {
    /// There are other nodes, and no bus.
    NoBus,
    /// A link of the bus is down, or was.
    LinkDown,
    /// More came than this node could take.
    Overflow,
    /// This node did not receive what it published itself, or not in time.
    Canary,
    /// Another node has lost something that it published.
    PeerLoss,
    /// Another node lives, and is not heard on the bus, or late.
    SilentPeer,
    /// Another node has died, or was taken for dead.
    NodeOut,
    /// This node may have stored something that it told nobody of: it does not know the outcome of a write.
    Unpublished,
    /// Another node has said something that this version does not know.
    Unknown,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoBus,
        Self::LinkDown,
        Self::Overflow,
        Self::Canary,
        Self::PeerLoss,
        Self::SilentPeer,
        Self::NodeOut,
        Self::Unpublished,
        Self::Unknown,
    ];

    /// Its name, in metrics and in the answer of `/readyz`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBus => "no_bus",
            Self::LinkDown => "link_down",
            Self::Overflow => "overflow",
            Self::Canary => "canary",
            Self::PeerLoss => "peer_loss",
            Self::SilentPeer => "silent_peer",
            Self::NodeOut => "node_out",
            Self::Unpublished => "unpublished",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Loss> for Doubt {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::LinkDown => Self::LinkDown,
            Loss::Overflow => Self::Overflow,
            Loss::Canary => Self::Canary,
            Loss::Unknown => Self::Unknown,
        }
    }
}

/// What was heard of a node on one link.
#[derive(Debug, Clone, Copy)]
struct Heard {
    /// Up to where it has published what it stored.
    place: Option<StreamPosition>,
    losses: u64,
    /// When it was heard last, or when it was expected first.
    at: Instant,
    /// Whether what it says comes late.
    late: bool,
}

/// Another node.
#[derive(Debug)]
struct Peer {
    generation: u64,
    /// Whether it is one of those that count, by the latest listing.
    listed: bool,
    /// Whether it is dead, and what it has left is not finished yet.
    dead: bool,
    links: Vec<Heard>,
    /// Whether it has said that it stops, on how many links.
    last: BTreeSet<usize>,
    /// It has not been heard for [`SILENCE`] on some link.
    silent: bool,
}

impl Peer {
    fn new(generation: u64, links: usize, now: Instant) -> Self {
        let nothing = Heard { place: None, losses: 0, at: now, late: false };
        Self {
            generation,
            listed: false,
            dead: false,
            links: vec![nothing; links],
            last: BTreeSet::new(),
            silent: false,
        }
    }
}

/// What a sweep has to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// What has changed after this position.
    pub since: StreamPosition,
    /// How many doubts there were when it began.
    doubts: u64,
}

/// From where the store is to be swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From here.
    Since(Sweep),
    /// Positions are of another epoch by now: everybody has to begin anew.
    Anew,
    /// The store was not reached yet: nobody has synced who could miss something.
    Nowhere,
}

/// The other nodes, as one node knows them.
#[derive(Debug)]
pub struct Roster {
    links: Vec<bool>,
    /// The links that are late.
    late: BTreeSet<usize>,
    /// Those that are listed.
    peers: HashMap<NodeId, Peer>,
    /// Those that were listed and lived, until when they are heard.
    departed: HashMap<NodeId, Instant>,
    /// Those that are not listed, of which something was passed over, and in how many listings they were missing since.
    unlisted: HashMap<NodeId, u32>,
    /// There were too many of those: any node may be one of them.
    forgotten: bool,
    listed: Option<(StreamPosition, u64)>,
    floor: StreamPosition,
    /// Where the next sweep has to begin, if that is before what beats say: until then nothing beyond has been delivered for sure.
    since: Option<Position>,
    /// What has happened that is in doubt still.
    happened: BTreeSet<Doubt>,
    /// What is so at the moment.
    lasting: BTreeSet<Doubt>,
    /// How often something was in doubt.
    doubts: u64,
    /// What is to be counted.
    news: Vec<Doubt>,
}

impl Roster {
    /// A node that knows nobody yet, on a bus with so many links; without one: no bus.
    #[must_use]
    pub fn new(links: usize) -> Self {
        Self {
            links: vec![false; links],
            late: BTreeSet::new(),
            peers: HashMap::new(),
            departed: HashMap::new(),
            unlisted: HashMap::new(),
            forgotten: false,
            listed: None,
            floor: StreamPosition::NOWHERE,
            since: None,
            happened: BTreeSet::new(),
            lasting: BTreeSet::new(),
            doubts: 0,
            news: Vec::new(),
        }
    }

    /// Everything that was stored up to here has been delivered.
    #[must_use]
    pub fn floor(&self) -> StreamPosition {
        let StreamPosition { epoch, position } = self.floor;
        StreamPosition { epoch, position: self.since.map_or(position, |since| since.min(position)) }
    }

    /// Why something may be missing; nothing while nothing may.
    pub fn doubts(&self) -> impl Iterator<Item = Doubt> {
        self.happened.union(&self.lasting).copied()
    }

    /// Why this node is not yet, or not now, one that hears all others; nothing while it is. Before it has seen who there is it does not
    /// know, and nothing has been heard.
    #[must_use]
    pub fn reasons(&self) -> Vec<Doubt> {
        match self.listed {
            Some(_) => self.doubts().collect(),
            None if self.links.is_empty() => vec![Doubt::NoBus],
            None => vec![Doubt::LinkDown],
        }
    }

    /// Whether something may be missing.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.doubts().next().is_some()
    }

    /// Whether all nodes that live hear each other now, as far as this one knows: nothing that lasts is in doubt.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.lasting.is_empty()
    }

    /// Whether a node is listed.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// Whether what a node says counts: this database knows it, as far as this node does. If not, `events`, which are passed over, are
    /// kept in mind until it is listed.
    pub fn hears(&mut self, from: NodeId, events: bool, now: Instant) -> bool {
        let lives = self.peers.get(&from).is_some_and(|peer| !peer.dead);
        if lives || self.departed.get(&from).is_some_and(|until| now < *until) {
            return true;
        }
        if events && !self.unlisted.contains_key(&from) {
            if self.unlisted.len() >= UNLISTED {
                self.unlisted.clear();
                self.forgotten = true;
            }
            self.unlisted.insert(from, 0);
        }
        false
    }

    /// The nodes that have been heard and are none of this database, as far as that is certain since this was asked last.
    pub fn take_strangers(&mut self) -> Vec<NodeId> {
        let certain = self.unlisted.iter_mut().filter(|(_, missing)| **missing == MISSING);
        certain
            .map(|(id, missing)| {
                *missing += 1;
                *id
            })
            .collect()
    }

    /// The others that live.
    pub fn others(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.listed && !peer.dead).map(|(id, _)| *id)
    }

    /// Whether this node is the only one, as far as it knows: none is listed, not even one that is dead.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.listed.is_some() && self.peers.is_empty()
    }

    /// The doubts that began since this was asked last.
    pub fn take_news(&mut self) -> Vec<Doubt> {
        std::mem::take(&mut self.news)
    }

    /// The nodes that live, as of now. Returns those that are gone.
    pub fn listed(&mut self, listing: &Listing, now: Instant) -> Vec<NodeId> {
        let links = self.links.len();
        let before: Vec<NodeId> = self.peers.keys().copied().collect();
        self.peers.values_mut().for_each(|peer| peer.listed = false);
        self.unlisted.values_mut().for_each(|missing| *missing = missing.saturating_add(1).min(MISSING.max(*missing)));
        for other in listing.others.iter() {
            let is_new = self.peers.get(&other.id).is_none_or(|peer| peer.dead);
            let was_passed_over = self.unlisted.contains_key(&other.id) || (self.forgotten && is_new);
            if !other.dead && was_passed_over {
                self.unlisted.remove(&other.id);
                self.doubt(Doubt::SilentPeer);
            }
            let peer = self.peers.entry(other.id).or_insert_with(|| Peer::new(other.generation, links, now));
            if peer.generation < other.generation {
                // It was taken for dead, and wakes up. What it stored last it may have published to nobody.
                *peer = Peer::new(other.generation, links, now);
                self.fall(other.joined_from);
                self.doubt(Doubt::NodeOut);
            }
            let Some(peer) = self.peers.get_mut(&other.id) else { continue };
            (peer.listed, peer.dead) = (true, other.dead);
        }
        let is_gone = |id: &&NodeId| self.peers.get(*id).is_none_or(|peer| !peer.listed);
        let gone: Vec<NodeId> = before.iter().filter(is_gone).copied().collect();
        self.departed.retain(|_, until| now < *until);
        for id in &gone {
            let peer = self.peers.remove(id);
            if peer.as_ref().is_some_and(|peer| !peer.dead) {
                self.departed.insert(*id, now + FAREWELL);
            }
            let left = peer.as_ref().is_some_and(|peer| links > 0 && peer.last.len() == links);
            // What it stored last it may have told nobody, whoever has finished that.
            if !left {
                self.doubt(Doubt::NodeOut);
            }
        }
        if self.listed.is_some_and(|(_, generation)| generation != listing.generation) {
            // Others took this node for dead, and counted on nothing that it did meanwhile.
            self.doubt(Doubt::NodeOut);
        }
        self.listed = Some((listing.horizon, listing.generation));
        if self.floor == StreamPosition::NOWHERE {
            // Whoever is connected has synced after this.
            self.floor = listing.horizon;
        }
        self.tick(now);
        gone
    }

    /// The beat of another node was heard on a link, behind everything that it published there before. One that is not listed is
    /// nobody.
    pub fn beat(&mut self, link: usize, from: NodeId, beat: Beat, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if beat.generation < peer.generation {
            return;
        }
        if beat.generation > peer.generation {
            // The listing will say so too, and what follows from it.
            return;
        }
        let Some(heard) = peer.links.get_mut(link) else { return };
        let place = StreamPosition { epoch: Epoch(beat.epoch), position: Position(beat.position) };
        let lost = beat.losses != heard.losses;
        *heard = Heard { place: Some(place), losses: beat.losses, at: now, late: beat.late };
        if beat.last {
            peer.last.insert(link);
        }
        if lost {
            self.doubt(Doubt::PeerLoss);
        }
        self.tick(now);
    }

    /// A link is up: everything that is published on it from now on is heard.
    pub fn up(&mut self, link: usize, now: Instant) {
        self.late.remove(&link);
        let was_down = self.links.get_mut(link).is_some_and(|up| !std::mem::replace(up, true));
        if was_down && self.listed.is_some() {
            // Even if nobody else is listed: one may have joined or woken up since, and said something meanwhile.
            self.doubt(Doubt::LinkDown);
        }
        for heard in self.peers.values_mut().filter_map(|peer| peer.links.get_mut(link)) {
            heard.at = now;
        }
        self.tick(now);
    }

    /// What others published on a link may be missing, and it is down, unless that says otherwise.
    pub fn lost(&mut self, link: usize, loss: Loss, now: Instant) {
        if loss != Loss::Unknown
            && let Some(up) = self.links.get_mut(link)
        {
            *up = false;
            self.late.remove(&link);
        }
        self.doubt(loss.into());
        self.tick(now);
    }

    /// A link that is up is late, or is not any more.
    pub fn late(&mut self, link: usize, is_late: bool, now: Instant) {
        if is_late && self.links.get(link) == Some(&true) {
            self.late.insert(link);
        } else {
            self.late.remove(&link);
        }
        self.tick(now);
    }

    /// Something has happened after which something may be missing here, although links are up.
    pub fn happened(&mut self, doubt: Doubt, now: Instant) {
        self.doubt(doubt);
        self.tick(now);
    }

    /// This node may have stored something beyond a place that it told nobody of. Beats of the others and listings have gone on
    /// meanwhile, and may be beyond it.
    pub fn unsure(&mut self, place: StreamPosition, now: Instant) {
        self.fall(place.position);
        self.happened(Doubt::Unpublished, now);
    }

    /// Time has passed, or something has changed.
    pub fn tick(&mut self, now: Instant) {
        self.judge(now);
        if let Some(place) = self.candidate() {
            self.rise(place);
        }
    }

    /// The nodes that have been silent for [`SILENCE`], whether they are or the bus is, and were not when this was asked last.
    pub fn take_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let mut begun = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.listed) {
            let silent = peer.links.iter().any(|heard| now.saturating_duration_since(heard.at) > SILENCE);
            if silent && !std::mem::replace(&mut peer.silent, silent) {
                begun.push(*id);
            }
            peer.silent = silent;
        }
        begun
    }

    /// Begins a sweep.
    #[must_use]
    pub fn begin_sweep(&self) -> Begin {
        let Some((horizon, _)) = self.listed else { return Begin::Nowhere };
        let since = self.floor();
        if since.epoch != horizon.epoch {
            return Begin::Anew;
        }
        Begin::Since(Sweep { since, doubts: self.doubts })
    }

    /// A sweep has delivered everything that changed after its beginning; `horizon` was the store's before it was read.
    pub fn end_sweep(&mut self, sweep: Sweep, horizon: StreamPosition, now: Instant) {
        if sweep.doubts == self.doubts {
            self.happened.clear();
            self.since = None;
        }
        self.rise(horizon);
        self.tick(now);
    }

    /// Everybody who is connected begins anew: what was missed does not matter any more. `horizon` is of the epoch of now.
    pub fn start_over(&mut self, horizon: StreamPosition) {
        let nowhere = StreamPosition { position: Position(0), ..horizon };
        // Until the next listing says who is there, and from where on everybody is heard.
        if let Some((listed, _)) = &mut self.listed {
            *listed = nowhere;
        }
        self.floor = nowhere;
        self.since = None;
        self.happened.clear();
    }

    /// Another epoch has begun, in which places of the one before are still good up to this one. What was further need not be: what is
    /// stored from now on may have positions before it.
    pub fn carry_over(&mut self, good: StreamPosition) {
        let carried = |place: &mut StreamPosition| {
            *place = StreamPosition { position: place.position.min(good.position), ..good }
        };
        if let Some((listed, _)) = &mut self.listed {
            carried(listed);
        }
        if self.floor != StreamPosition::NOWHERE {
            carried(&mut self.floor);
        }
    }

    /// What is in doubt as long as it is so.
    fn judge(&mut self, now: Instant) {
        let mut lasting = BTreeSet::new();
        if self.others().next().is_some() {
            if self.links.is_empty() {
                lasting.insert(Doubt::NoBus);
            }
            if self.links.contains(&false) {
                lasting.insert(Doubt::LinkDown);
            }
            if !self.late.is_empty() {
                lasting.insert(Doubt::Canary);
            }
            let living = self.peers.values().filter(|peer| peer.listed && !peer.dead);
            let mut heard = living.flat_map(|peer| peer.links.iter().zip(&self.links));
            let is_silent = |heard: &Heard| heard.late || now.saturating_duration_since(heard.at) > SILENCE;
            if heard.any(|(heard, up)| *up && is_silent(heard)) {
                lasting.insert(Doubt::SilentPeer);
            }
        }
        let begun: Vec<Doubt> = lasting.difference(&self.lasting).copied().collect();
        // What was so until now may have lost something.
        let ended: Vec<Doubt> = self.lasting.difference(&lasting).copied().collect();
        self.lasting = lasting;
        for doubt in begun {
            self.doubt(doubt);
        }
        for doubt in ended {
            self.happened.insert(doubt);
            self.doubts += 1;
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        self.doubts += 1;
        if self.happened.insert(doubt) {
            self.news.push(doubt);
        }
    }

    /// Up to where beats say that everything was delivered; nothing while that cannot be said.
    fn candidate(&self) -> Option<StreamPosition> {
        let (horizon, _) = self.listed?;
        // What a dead node has stored, and told nobody of, may be anywhere behind.
        if self.is_in_doubt() || self.peers.values().any(|peer| peer.listed && peer.dead) {
            return None;
        }
        let beats = self.peers.values().filter(|peer| peer.listed).flat_map(|peer| &peer.links);
        beats.map(|heard| heard.place).try_fold(horizon, |lowest, place| {
            let place = place.filter(|place| place.epoch == lowest.epoch)?;
            Some(StreamPosition { position: lowest.position.min(place.position), ..lowest })
        })
    }

    /// What was stored beyond a position may have been delivered to nobody, until a sweep has.
    fn fall(&mut self, to: Position) {
        self.since = Some(self.since.map_or(to, |since| since.min(to)));
    }

    /// What beats and sweeps say never falls within an epoch.
    fn rise(&mut self, place: StreamPosition) {
        // One that was read before another epoch began says nothing of it.
        let is_current = self.listed.is_none_or(|(horizon, _)| horizon.epoch == place.epoch);
        if is_current && (place.epoch != self.floor.epoch || place.position > self.floor.position) {
            self.floor = place;
        }
    }
}

#[cfg(test)]
mod tests;
