//! Random schedules of everything that can go wrong between nodes, against the one promise: a client that was given a cursor
//! has everything that was stored up to it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::store::{conversations::StoreId, fleet::ListedNode};

const NODES: usize = 3;
/// How long a write may take from its stamp to being visible.
const LONGEST: u64 = 4;
/// How far a horizon lies behind the clock.
const WINDOW: u64 = 6;
const EPOCH: Epoch = Epoch([1; 8]);

fn id(node: usize) -> NodeId {
    NodeId([u8::try_from(node).unwrap() + 1; 12])
}

fn place(position: u64) -> StreamPosition {
    StreamPosition { epoch: EPOCH, position: Position(position) }
}

/// What is on its way from one node to another.
#[derive(Clone, Copy)]
enum Sent {
    Event(usize),
    Beat(Beat),
}

struct Node {
    roster: Roster,
    generation: u64,
    /// What the client here has.
    seen: BTreeSet<usize>,
    /// The writes under way, each with the horizon of when it began.
    writing: Option<(usize, u64)>,
    /// It has not heard what became of its write, which takes as long as it likes to find out.
    waiting: bool,
    horizon: u64,
    losses: u64,
    /// A sweep that has read, and what.
    sweeping: Option<(Sweep, u64, Vec<usize>)>,
    stopped: bool,
    listed_up: bool,
}

/// A fleet, one store, and the time.
struct World {
    clock: u64,
    origin: Instant,
    /// The stamp of each entry, once it is visible; entries that are stamped and not visible have none.
    visible: Vec<Option<u64>>,
    stamps: Vec<u64>,
    nodes: Vec<Node>,
    /// By sender and receiver.
    wires: BTreeMap<(usize, usize), VecDeque<Sent>>,
    /// Whom the store counts among the living, with generation and place of joining again.
    enrolled: Vec<Option<(u64, u64)>>,
    /// Who is dead, and not finished yet.
    dead: [bool; NODES],
}

impl World {
    fn new() -> Self {
        let node = || Node {
            roster: Roster::new(1),
            generation: 1,
            seen: BTreeSet::new(),
            writing: None,
            waiting: false,
            horizon: 0,
            losses: 0,
            sweeping: None,
            stopped: false,
            listed_up: false,
        };
        let nodes = (0..NODES).map(|_| node()).collect();
        let enrolled = vec![Some((1, 0)); NODES];
        let mut world = Self {
            clock: 100,
            origin: Instant::now(),
            visible: Vec::new(),
            stamps: Vec::new(),
            nodes,
            wires: BTreeMap::new(),
            enrolled,
            dead: [false; NODES],
        };
        for node in 0..NODES {
            world.beat_store(node);
        }
        world
    }

    fn now(&self) -> Instant {
        self.origin + Duration::from_millis(self.clock * 100)
    }

    fn up(&self, node: usize) -> bool {
        self.nodes[node].roster.links == [true]
    }

    fn send(&mut self, from: usize, what: Sent) {
        // Who knows of no other node publishes nothing but beats.
        let is_mute = self.nodes[from].roster.is_alone() && matches!(what, Sent::Event(_));
        if is_mute || !self.up(from) {
            if matches!(what, Sent::Event(_)) {
                self.nodes[from].losses += 1;
            }
            return;
        }
        for to in (0..NODES).filter(|to| *to != from) {
            if self.up(to) {
                self.wires.entry((from, to)).or_default().push_back(what);
            }
        }
    }

    /// A node begins to write, or its write becomes visible and is published.
    fn write(&mut self, node: usize) {
        // Nobody writes whose lease is over.
        let is_other = self.enrolled[node].is_none_or(|(known, _)| known != self.nodes[node].generation);
        let begins = self.nodes[node].writing.is_none();
        if self.nodes[node].stopped || is_other || (begins && self.dead[node]) {
            return;
        }
        self.nodes[node].waiting = false;
        match self.nodes[node].writing.take() {
            None => {
                let entry = self.stamps.len();
                self.stamps.push(self.clock);
                self.visible.push(None);
                self.nodes[node].writing = Some((entry, self.nodes[node].horizon));
            }
            Some((entry, _)) => {
                self.visible[entry] = Some(self.stamps[entry]);
                self.nodes[node].seen.insert(entry);
                self.send(node, Sent::Event(entry));
            }
        }
    }

    /// What a node has published.
    fn published(&self, node: usize) -> u64 {
        let Node { writing, horizon, .. } = &self.nodes[node];
        writing.map_or(*horizon, |(_, floor)| floor.min(*horizon))
    }

    fn beat_store(&mut self, node: usize) {
        if self.nodes[node].stopped {
            return;
        }
        // It shows itself, and is not dead after all.
        self.dead[node] = false;
        let generation = match self.enrolled[node] {
            Some((known, _)) => known,
            None => {
                let from = self.nodes[node].horizon;
                let generation = self.nodes[node].generation + 1;
                self.enrolled[node] = Some((generation, from));
                generation
            }
        };
        let horizon = self.clock.saturating_sub(WINDOW);
        let others: Arc<[ListedNode]> = (0..NODES)
            .filter(|other| *other != node)
            .filter_map(|other| {
                let (generation, from) = self.enrolled[other]?;
                Some(ListedNode {
                    id: id(other),
                    generation,
                    joined_from: Position(from),
                    name: String::new(),
                    secret: None,
                    dead: self.dead[other],
                })
            })
            .collect();
        let listing = Listing { store: StoreId([0; 8]), own: id(node), generation, horizon: place(horizon), others };
        let now = self.now();
        let own = &mut self.nodes[node];
        (own.horizon, own.generation, own.listed_up) = (horizon, generation, true);
        own.roster.listed(&listing, now);
    }

    fn beat_bus(&mut self, node: usize) {
        if self.nodes[node].stopped {
            return;
        }
        let beat = Beat {
            losses: self.nodes[node].losses,
            ..Beat::at(self.nodes[node].generation, place(self.published(node)))
        };
        self.send(node, Sent::Beat(beat));
    }

    fn receive(&mut self, from: usize, to: usize) {
        if self.nodes[to].stopped {
            return;
        }
        let now = self.now();
        match self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
            Some(Sent::Event(entry)) if self.nodes[to].roster.hears(id(from), true, now) => {
                self.nodes[to].seen.insert(entry);
            }
            Some(Sent::Beat(beat)) if self.nodes[to].roster.hears(id(from), false, now) => {
                self.nodes[to].roster.beat(0, id(from), beat, now);
            }
            Some(_) => {}
            None => {}
        }
    }

    /// The link of a node breaks: what is on its way to it is gone, and what is on its way from it may be.
    fn cut(&mut self, node: usize, lose_sent: bool) {
        if !self.up(node) {
            return;
        }
        for other in 0..NODES {
            self.wires.remove(&(other, node));
            if lose_sent && self.wires.remove(&(node, other)).is_some_and(|wire| !wire.is_empty()) {
                self.nodes[node].losses += 1;
            }
        }
        let now = self.now();
        self.nodes[node].roster.lost(0, Loss::LinkDown, now);
    }

    fn mend(&mut self, node: usize) {
        let now = self.now();
        if !self.nodes[node].stopped && !self.up(node) {
            self.nodes[node].roster.up(0, now);
        }
    }

    /// A sweep reads, or delivers what it has read.
    fn sweep(&mut self, node: usize) {
        if self.nodes[node].stopped {
            return;
        }
        let now = self.now();
        if let Some((sweep, horizon, read)) = self.nodes[node].sweeping.take() {
            self.nodes[node].seen.extend(read);
            self.nodes[node].roster.end_sweep(sweep, place(horizon), now);
        } else if self.nodes[node].roster.is_in_doubt()
            && let Begin::Since(sweep) = self.nodes[node].roster.begin_sweep()
        {
            let is_new = |(entry, stamp): (usize, &Option<u64>)| {
                stamp.filter(|stamp| *stamp > sweep.since.position.0).map(|_| entry)
            };
            let read = self.visible.iter().enumerate().filter_map(is_new).collect();
            self.nodes[node].sweeping = Some((sweep, self.nodes[node].horizon, read));
        }
    }

    /// A node stands still; the others finish what it has left, and count it no longer.
    fn stop(&mut self, node: usize) {
        self.nodes[node].stopped = true;
    }

    fn bury(&mut self, node: usize) {
        if !self.nodes[node].stopped {
            return;
        }
        if !std::mem::replace(&mut self.dead[node], true) {
            return;
        }
        self.dead[node] = false;
        // What was on its way to the store is visible by now, and nobody was told.
        if let Some((entry, _)) = self.nodes[node].writing.take() {
            self.visible[entry] = Some(self.stamps[entry]);
        }
        self.nodes[node].waiting = false;
        self.enrolled[node] = None;
    }

    fn go_on(&mut self, node: usize) {
        self.nodes[node].stopped = false;
    }

    /// A node does not know the outcome of its write, and tells nobody of it.
    fn unsure(&mut self, node: usize) {
        if self.nodes[node].stopped {
            return;
        }
        if let Some((entry, floor)) = self.nodes[node].writing.take() {
            self.visible[entry] = Some(self.stamps[entry]);
            self.nodes[node].losses += 1;
            self.nodes[node].waiting = false;
            let now = self.now();
            self.nodes[node].roster.unsure(place(floor), now);
        }
    }

    /// The answer to the write of a node is lost: the store goes on with it, and the node asks for as long as it takes.
    fn lose_answer(&mut self, node: usize) {
        self.nodes[node].waiting = self.nodes[node].writing.is_some();
    }

    /// Time passes; a write that takes too long becomes visible.
    fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.clock += 1;
            for node in 0..NODES {
                let due = self.nodes[node].writing.is_some_and(|(entry, _)| self.stamps[entry] + LONGEST <= self.clock);
                if due && !self.nodes[node].stopped && !self.nodes[node].waiting {
                    self.write(node);
                } else if due && let Some((entry, _)) = self.nodes[node].writing {
                    // The store goes on with it, whatever its node does.
                    self.visible[entry] = Some(self.stamps[entry]);
                }
            }
            let now = self.now();
            for node in &mut self.nodes {
                if !node.stopped {
                    node.roster.tick(now);
                }
            }
        }
    }

    /// Every client is given a cursor: it has everything up to it.
    fn check(&self) -> Result<(), TestCaseError> {
        for (number, node) in self.nodes.iter().enumerate() {
            if node.stopped || !node.listed_up {
                continue;
            }
            let floor = node.roster.floor().position.0.min(self.published(number));
            for (entry, stamp) in self.visible.iter().enumerate() {
                if stamp.is_some_and(|stamp| stamp <= floor) {
                    prop_assert!(
                        node.seen.contains(&entry),
                        "node {number} is at {floor} without entry {entry} of {stamp:?}, doubts {:?}",
                        node.roster.doubts().collect::<Vec<_>>()
                    );
                }
            }
            // Nor is anything stamped later that the cursor has passed.
            for (entry, stamp) in self.stamps.iter().enumerate() {
                if self.visible[entry].is_none() {
                    prop_assert!(*stamp > floor, "node {number} is at {floor} beyond a write of {stamp} under way");
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, (what, node, other): (u8, usize, usize)) {
        match what {
            0..=5 => self.write(node),
            6..=8 => self.pass(other as u64 + 1),
            9..=11 => self.beat_store(node),
            12..=15 => self.beat_bus(node),
            16..=27 => self.receive(other, node),
            28 => self.cut(node, other == 0),
            29..=32 => self.mend(node),
            33..=38 => self.sweep(node),
            39 => self.stop(node),
            40..=41 => self.bury(node),
            42..=44 => self.go_on(node),
            45..=46 => self.unsure(node),
            47..=48 => self.lose_answer(node),
            _ => self.pass(30),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn a_client_has_everything_up_to_its_cursor(
        steps in prop::collection::vec((0_u8..50, 0..NODES, 0..NODES), 1..250),
    ) {
        let mut world = World::new();
        for node in 0..NODES {
            world.mend(node);
        }
        for step in steps {
            world.step(step);
            world.check()?;
        }
        // Left alone, everything comes to rest: no doubt is left, and cursors rise.
        for node in 0..NODES {
            world.go_on(node);
            world.mend(node);
            world.unsure(node);
        }
        let before = world.clock;
        for _ in 0..60 {
            for node in 0..NODES {
                world.beat_store(node);
                world.beat_bus(node);
                world.sweep(node);
                for other in 0..NODES {
                    while world.wires.get(&(other, node)).is_some_and(|wire| !wire.is_empty()) {
                        world.receive(other, node);
                    }
                }
            }
            world.pass(1);
            world.check()?;
        }
        for (number, node) in world.nodes.iter().enumerate() {
            prop_assert!(!node.roster.is_in_doubt(), "node {number}: {:?}", node.roster.doubts().collect::<Vec<_>>());
            prop_assert!(node.roster.floor().position.0 > before, "node {number} stands still");
        }
    }
}

/// What a node hears of the others, each of which has joined once.
fn listing(horizon: StreamPosition, others: &[usize]) -> Listing {
    let other = |&number: &usize| ListedNode {
        id: id(number),
        generation: 1,
        joined_from: Position(0),
        name: String::new(),
        secret: None,
        dead: false,
    };
    Listing { store: StoreId([0; 8]), own: id(0), generation: 1, horizon, others: others.iter().map(other).collect() }
}

/// Found by a random schedule: a node that took itself for the only one had its link down while another joined and wrote. It came up, and
/// nothing was in doubt; a sweep from before that ended what was, and the cursors passed the entry.
#[test]
fn whoever_joins_while_the_link_is_down_may_have_said_something() {
    let (start, mut roster) = (Instant::now(), Roster::new(1));
    roster.listed(&listing(place(50), &[]), start);
    roster.up(0, start);
    roster.lost(0, Loss::LinkDown, start);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!("it was listed") };
    roster.up(0, start);
    roster.end_sweep(sweep, place(50), start);
    roster.listed(&listing(place(60), &[1]), start);
    roster.beat(0, id(1), Beat::at(1, place(60)), start);
    assert_eq!((roster.doubts().collect::<Vec<_>>(), roster.floor()), (vec![Doubt::LinkDown], place(50)));
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!("it was listed") };
    roster.end_sweep(sweep, place(60), start);
    assert_eq!((roster.is_in_doubt(), roster.floor()), (false, place(60)));
}

/// Found from outside: a copy of a database beside it has the same channels, and its nodes were believed. Whoever published ids that
/// do not exist made nodes of them.
#[test]
fn who_is_not_listed_is_nobody_and_who_is_listed_after_it_was_heard_is_looked_after() {
    let (start, mut roster) = (Instant::now(), Roster::new(1));
    let listing = |horizon, others: &[usize]| listing(place(horizon), others);
    roster.up(0, start);
    roster.listed(&listing(50, &[1]), start);
    roster.beat(0, id(1), Beat::at(1, place(60)), start);
    assert!(roster.hears(id(1), true, start) && !roster.is_in_doubt());
    for number in 0..10_000_u32 {
        let mut stranger = [9; 12];
        stranger[..4].copy_from_slice(&number.to_be_bytes());
        assert!(!roster.hears(NodeId(stranger), number % 2 == 0, start));
        roster.beat(0, NodeId(stranger), Beat { losses: 7, ..Beat::at(1, place(1)) }, start);
    }
    assert!(roster.peers.len() == 1 && roster.unlisted.len() <= UNLISTED, "what is kept is bounded");
    // Where so many were heard, one that is listed may be one of them.
    roster.listed(&listing(70, &[1, 2]), start);
    assert_eq!(roster.doubts().collect::<Vec<_>>(), [Doubt::SilentPeer]);

    let mut roster = Roster::new(1);
    roster.up(0, start);
    roster.listed(&listing(50, &[1]), start);
    roster.beat(0, id(1), Beat::at(1, place(90)), start);
    assert!(
        !roster.hears(id(2), true, start) && !roster.hears(id(3), false, start) && !roster.hears(id(4), true, start)
    );
    // The floor does not wait for them, nor is anything in doubt.
    let mut strangers = Vec::new();
    for horizon in [60, 61, 62, 63, 64, 65] {
        roster.listed(&listing(horizon, &[1, 3]), start);
        roster.beat(0, id(3), Beat::at(1, place(90)), start);
        roster.tick(start);
        strangers.push(roster.take_strangers().len());
    }
    assert_eq!((roster.floor(), roster.is_in_doubt()), (place(65), false));
    assert_eq!(strangers, [0, 0, 2, 0, 0, 0], "it is said once, when it is certain");
    // Of one that is listed now something was passed over.
    roster.listed(&listing(70, &[1, 2, 3]), start);
    assert_eq!(roster.doubts().collect::<Vec<_>>(), [Doubt::SilentPeer]);
    assert!(roster.hears(id(2), true, start), "and from now on it is heard");
    // Who stops is heard to its end, and no longer.
    roster.listed(&listing(75, &[1, 3]), start);
    assert!(roster.hears(id(2), true, start) && !roster.hears(id(2), true, start + FAREWELL));
}

/// Found from outside: for some milliseconds after its start a node said that it was whole, and did not know of any other.
#[test]
fn a_node_that_has_not_seen_who_there_is_is_not_whole() {
    let start = Instant::now();
    for (links, reason) in [(0, Doubt::NoBus), (1, Doubt::LinkDown)] {
        let mut roster = Roster::new(links);
        assert_eq!(roster.reasons(), [reason]);
        assert!(!roster.is_in_doubt(), "nobody is connected who could miss something");
        roster.listed(&listing(place(50), &[]), start);
        assert_eq!(roster.reasons(), [], "it is alone");
        roster.listed(&listing(place(60), &[1]), start);
        assert_eq!(roster.reasons(), [reason]);
    }
}

/// Found by a measurement: where Redis hung, what others stored came after three seconds.
#[test]
fn while_a_link_is_late_the_store_is_looked_into() {
    let (now, mut roster) = (Instant::now(), Roster::new(2));
    let in_doubt = |roster: &Roster| roster.doubts().collect::<Vec<_>>();
    (0..2).for_each(|link| roster.up(link, now));
    roster.listed(&listing(place(50), &[]), now);
    roster.late(0, true, now);
    assert_eq!(in_doubt(&roster), [], "nobody is there who could say anything");
    roster.listed(&listing(place(60), &[1]), now);
    assert_eq!(in_doubt(&roster), [Doubt::Canary]);
    // It ends with the sweep that began when it was in time again.
    let Begin::Since(early) = roster.begin_sweep() else { panic!() };
    roster.late(0, false, now);
    roster.end_sweep(early, place(70), now);
    assert_eq!(in_doubt(&roster), [Doubt::Canary]);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    roster.end_sweep(sweep, place(80), now);
    assert_eq!((in_doubt(&roster), roster.floor()), (vec![], place(80)));
    // Found from outside: the way of another node to Redis was slow, and what it stored came here after three seconds.
    roster.beat(0, id(1), Beat { late: true, ..Beat::at(1, place(80)) }, now);
    assert_eq!(in_doubt(&roster), [Doubt::SilentPeer]);
    roster.beat(0, id(1), Beat::at(1, place(80)), now);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    roster.end_sweep(sweep, place(85), now);
    assert_eq!(in_doubt(&roster), []);
    // One that is lost is not late, nor is one that is up again.
    roster.late(1, true, now);
    roster.lost(1, Loss::LinkDown, now);
    roster.late(1, true, now);
    roster.up(1, now);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    roster.end_sweep(sweep, place(90), now);
    assert_eq!(in_doubt(&roster), []);
}

/// Beats count for what was published on every link.
#[test]
fn the_floor_is_the_lowest_beat_of_all_nodes_and_links() {
    let (now, mut roster) = (Instant::now(), Roster::new(2));
    let listing = |horizon| listing(place(horizon), &[1, 2]);
    roster.up(0, now);
    roster.up(1, now);
    roster.listed(&listing(50), now);
    assert_eq!(roster.floor(), place(50), "who connects now has read it");
    roster.listed(&listing(100), now);
    for (link, node, position) in [(0, 1, 90), (1, 1, 80), (0, 2, 95), (1, 2, 120)] {
        assert_eq!(roster.floor(), place(50), "not all were heard");
        roster.beat(link, id(node), Beat::at(1, place(position)), now);
    }
    assert_eq!(roster.floor(), place(80));
    roster.beat(1, id(1), Beat::at(1, place(200)), now);
    assert_eq!(roster.floor(), place(90));
    roster.beat(0, id(1), Beat { losses: 1, ..Beat::at(1, place(300)) }, now);
    assert_eq!(roster.floor(), place(90));
    assert_eq!(roster.doubts().collect::<Vec<_>>(), [Doubt::PeerLoss]);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    assert_eq!(sweep.since, place(90));
    roster.end_sweep(sweep, place(100), now);
    assert!(!roster.is_in_doubt());
    assert_eq!(roster.floor(), place(100));
}

/// Found by a reviewer: the outcome of a write was not known for longer than the window, and the sweep began where the others had come to
/// meanwhile, behind what was written.
#[test]
fn what_a_node_has_told_nobody_of_is_looked_for_from_before_it_was_written() {
    let (now, mut roster) = (Instant::now(), Roster::new(1));
    roster.up(0, now);
    roster.listed(&listing(place(50), &[1]), now);
    roster.listed(&listing(place(100), &[1]), now);
    roster.beat(0, id(1), Beat::at(1, place(100)), now);
    assert_eq!(roster.floor(), place(100));
    roster.unsure(place(60), now);
    assert_eq!(roster.floor(), place(60), "no cursor is beyond it before the sweep is");
    roster.listed(&listing(place(120), &[1]), now);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    assert_eq!(sweep.since, place(60));
    roster.unsure(place(70), now);
    roster.end_sweep(sweep, place(110), now);
    assert_eq!(roster.floor(), place(60), "what came after it began is not found by it");
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    roster.end_sweep(sweep, place(115), now);
    assert_eq!((roster.floor(), roster.is_in_doubt()), (place(115), false));
}

/// Where the log has not gone back nobody has to begin anew, and what was read before the epoch began moves nothing.
#[test]
fn a_sweep_goes_on_over_an_epoch_that_begins_in_which_places_of_before_are_good() {
    let (now, mut roster) = (Instant::now(), Roster::new(0));
    let listing = |horizon| listing(horizon, &[1]);
    assert_eq!(roster.begin_sweep(), Begin::Nowhere);
    roster.listed(&listing(place(50)), now);
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    let in_another = |position| StreamPosition { epoch: Epoch([9; 8]), position: Position(position) };
    // What was before it is good up to 48 only.
    roster.carry_over(in_another(48));
    roster.end_sweep(sweep, place(55), now);
    assert_eq!(roster.floor(), in_another(48));
    let Begin::Since(sweep) = roster.begin_sweep() else { panic!() };
    assert_eq!(sweep.since, in_another(48));
    roster.end_sweep(sweep, in_another(60), now);
    assert_eq!(roster.floor(), in_another(60));
    // Another one in which they are not, of which the listing tells first.
    roster.listed(&listing(place(70)), now);
    assert_eq!(roster.begin_sweep(), Begin::Anew);
    roster.start_over(place(70));
    assert!(matches!(roster.begin_sweep(), Begin::Since(_)));
}

/// Who says goodbye leaves no doubt; who just disappears does.
#[test]
fn a_node_that_stops_in_order_leaves_no_doubt() {
    for last in [true, false] {
        let (now, mut roster) = (Instant::now(), Roster::new(1));
        let listing = |others: &[usize]| listing(place(50), others);
        roster.up(0, now);
        roster.listed(&listing(&[1]), now);
        roster.beat(0, id(1), Beat { last, ..Beat::at(1, place(40)) }, now);
        assert_eq!(roster.listed(&listing(&[]), now), [id(1)]);
        assert_eq!(roster.is_in_doubt(), !last);
    }
}
