//! Events in any order against a plain model: whatever happened, when everything is quiet the watchers were told the truth
//! last, and nothing is kept of a member who is gone and whom nobody watches.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const PACE: Pace = Pace { grace: Duration::from_secs(10), interval: Duration::from_secs(1) };
const MEMBER: MemberId = MemberId::from_bytes([1; 12]);
const WATCHERS: u8 = 3;
/// Other nodes.
const NODES: u8 = 2;

/// A watcher in a test: their number.
type Way = u8;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A device connects; on the same device it replaces the connection before, which goes on until its [`Event::End`].
    Connect {
        device: u8,
    },
    /// One of the connections so far ends: a current one, a replaced one, or one that has ended before.
    End {
        which: usize,
    },
    /// One of the connections so far shows something else.
    Set {
        which: usize,
        away: bool,
    },
    Watch {
        watcher: Way,
    },
    /// The store answers a watch.
    Reveal {
        watcher: Way,
    },
    Unwatch {
        watcher: Way,
    },
    /// The watcher and the member have a conversation from now on.
    Meet {
        watcher: Way,
    },
    Allow(Audience),
    /// The same is stored, and this node is told of it later: with [`Event::Hear`], or by the store's answer to a watch.
    Store(Audience),
    /// This node is told of what was stored.
    Hear,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The store has recorded when the member was last seen.
    Record,
    /// On another node, the devices of the member show something else, or the last one has left and its grace period is over.
    Claim {
        node: u8,
        status: Option<DeviceStatus>,
    },
    /// What another node says is not heard.
    Lose {
        node: u8,
        status: Option<DeviceStatus>,
    },
    /// Whoever is asked says it again.
    Ask,
    /// On another node the last device leaves, and its grace period begins.
    Leave {
        node: u8,
    },
    /// Another node is gone, and its members with it.
    NodeGone {
        node: u8,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let status = || prop_oneof![Just(None), Just(Some(DeviceStatus::Online)), Just(Some(DeviceStatus::Away))];
    let audience = || prop_oneof![Just(Audience::Members), Just(Audience::Partners), Just(Audience::Nobody)];
    prop_oneof![
        4 => (0..2_u8).prop_map(|device| Event::Connect { device }),
        4 => (0..8_usize).prop_map(|which| Event::End { which }),
        2 => (0..8_usize, any::<bool>()).prop_map(|(which, away)| Event::Set { which, away }),
        2 => (0..WATCHERS).prop_map(|watcher| Event::Watch { watcher }),
        3 => (0..WATCHERS).prop_map(|watcher| Event::Reveal { watcher }),
        1 => (0..WATCHERS).prop_map(|watcher| Event::Unwatch { watcher }),
        1 => (0..WATCHERS).prop_map(|watcher| Event::Meet { watcher }),
        1 => audience().prop_map(Event::Allow),
        1 => audience().prop_map(Event::Store),
        1 => Just(Event::Hear),
        4 => prop_oneof![0..300_u64, Just(1_000), Just(10_000)].prop_map(Event::Wait),
        2 => Just(Event::Record),
        3 => (0..NODES, status()).prop_map(|(node, status)| Event::Claim { node, status }),
        1 => (0..NODES, status()).prop_map(|(node, status)| Event::Lose { node, status }),
        2 => (0..NODES).prop_map(|node| Event::Leave { node }),
        1 => Just(Event::Ask),
        1 => (0..NODES).prop_map(|node| Event::NodeGone { node }),
    ]
}

fn node(number: u8) -> NodeId {
    NodeId([number; 12])
}

fn connection(kind: u8, number: usize) -> ConnectionId {
    let mut id = [kind; 12];
    id[0] = u8::try_from(number).unwrap();
    ConnectionId::from_bytes(id)
}

/// What a plain person would keep in their head.
#[derive(Default)]
struct Model {
    /// Every connection there ever was: its device, whether it is away, and whether it counts.
    connections: Vec<(u8, bool, bool)>,
    last_seen: Option<Timestamp>,
    audience: Option<Audience>,
    version: u64,
    partners: [bool; WATCHERS as usize],
    /// Who watches, and what they were told last.
    watching: [Option<Shown>; WATCHERS as usize],
    revealed: [bool; WATCHERS as usize],
    /// What the devices on other nodes show.
    elsewhere: [Option<DeviceStatus>; NODES as usize],
}

impl Model {
    /// The truth for a watcher, when the member is not in a grace period.
    fn truth(&self, watcher: usize) -> Shown {
        let allowed = match self.audience.unwrap_or(Audience::Partners) {
            Audience::Members => true,
            Audience::Partners => self.partners[watcher],
            Audience::Nobody => false,
        };
        let here = self.connections.iter().filter(|(.., counts)| *counts).map(|(_, away, _)| *away);
        let elsewhere = self.elsewhere.iter().flatten().map(|status| *status == DeviceStatus::Away);
        let devices: Vec<bool> = here.chain(elsewhere).collect();
        match (allowed, devices.is_empty()) {
            (false, _) => Shown::HIDDEN,
            (true, true) => Shown { status: PresenceStatus::Offline, last_seen: self.last_seen },
            (true, false) if devices.iter().all(|away| *away) => {
                Shown { status: PresenceStatus::Away, last_seen: None }
            }
            (true, false) => Shown { status: PresenceStatus::Online, last_seen: None },
        }
    }

    /// What the devices on this node show, when the member is not in a grace period.
    fn here(&self) -> Option<DeviceStatus> {
        let mut here = self.connections.iter().filter(|(.., counts)| *counts).map(|(_, away, _)| *away).peekable();
        here.peek()?;
        Some(if here.all(|away| away) { DeviceStatus::Away } else { DeviceStatus::Online })
    }
}

/// A member under test, the model beside it, and a clock.
struct Trial {
    state: State<Way>,
    model: Model,
    now: Instant,
    time: Timestamp,
    recording: Vec<Timestamp>,
    /// When each watcher was told of a change of presence, and not of a change of who may see it.
    changes: RefCell<Vec<Vec<Instant>>>,
    /// What [`State::local`] was when it was looked at last.
    before: Option<Showing>,
    /// What other nodes were told, and when.
    said: Vec<(Option<Showing>, Instant)>,
}

impl Trial {
    fn new() -> Self {
        Self {
            state: State::default(),
            model: Model::default(),
            now: Instant::now(),
            time: Timestamp::from_millis(1_000_000),
            recording: Vec::new(),
            changes: RefCell::new(vec![Vec::new(); usize::from(WATCHERS)]),
            before: None,
            said: Vec::new(),
        }
    }

    fn tell(&mut self, watcher: Way, shown: Shown) {
        let told = &mut self.model.watching[usize::from(watcher)];
        assert!(told.is_some(), "who does not watch is told nothing");
        *told = Some(shown);
    }

    /// What [`super::super::Presence`] does after each change.
    fn settle(&mut self) {
        if let Some((watchers, shown)) = self.state.news(self.now, PACE) {
            for watcher in watchers {
                self.changes.borrow_mut()[usize::from(watcher)].push(self.now);
                let connected = {
                    let elsewhere = self.state.watched().into_iter().flat_map(|watched| watched.claims.orders());
                    let mut all = self.state.local().map(Showing::order).into_iter().chain(elsewhere);
                    all.any(|(left, ..)| !left)
                };
                assert!(
                    shown.status != PresenceStatus::Offline || !connected,
                    "offline while a node has a device of theirs"
                );
                self.tell(watcher, shown);
            }
        }
        if let Some(showing) = self.state.statement(self.before, self.now, PACE) {
            self.said.push((showing, self.now));
        }
        self.before = self.state.local();
    }

    /// Another node says how the member is.
    fn hear(&mut self, number: u8) {
        let status = self.model.elsewhere[usize::from(number)];
        let last_seen = self.model.last_seen.filter(|_| status.is_none());
        self.state.heard(node(number), status, last_seen);
    }

    /// Lets time pass from deadline to deadline.
    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(due) = self.state.deadline(PACE).filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.recording.extend(self.state.tick(self.now));
            self.settle();
            assert!(self.state.deadline(PACE).is_none_or(|next| next > self.now), "what was due is done");
        }
        self.now = until;
        self.time = Timestamp::from_millis(self.time.as_millis() + i64::try_from(millis).unwrap());
    }

    fn reveal(&mut self, watcher: Way) {
        let place = usize::from(watcher);
        if self.model.watching[place].is_none() {
            return;
        }
        let audience = self.model.audience.unwrap_or(Audience::Partners);
        let facts = Facts { last_seen: self.model.last_seen, audience, version: self.model.version };
        let Revealed { shown, differing } = self.state.reveal(connection(9, place), facts, self.model.partners[place]);
        differing.into_iter().for_each(|(other, shown)| self.tell(other, shown));
        self.model.revealed[place] = true;
        self.tell(watcher, shown);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Connect { device } => {
                let number = self.model.connections.len();
                let replaced =
                    self.model.connections.iter().rposition(|(known, _, counts)| *counts && *known == device);
                if let Some(replaced) = replaced {
                    self.model.connections[replaced].2 = false;
                }
                self.model.connections.push((device, false, true));
                self.state.arrive(connection(1, number), replaced.map(|number| connection(1, number)));
            }
            Event::End { which } if which < self.model.connections.len() => {
                let counted = std::mem::take(&mut self.model.connections[which].2);
                if counted && !self.model.connections.iter().any(|(.., counts)| *counts) {
                    self.model.last_seen = Some(self.time);
                }
                self.state.leave(connection(1, which), self.time, self.now, PACE);
            }
            Event::Set { which, away } if which < self.model.connections.len() => {
                self.model.connections[which].1 = away;
                let status = if away { DeviceStatus::Away } else { DeviceStatus::Online };
                self.state.set_status(connection(1, which), status);
            }
            Event::End { .. } | Event::Set { .. } => {}
            Event::Watch { watcher } => {
                let place = usize::from(watcher);
                self.model.watching[place].get_or_insert(Shown::HIDDEN);
                self.state.watch(MEMBER, connection(9, place), MemberId::from_bytes([watcher + 100; 12]), watcher);
            }
            Event::Reveal { watcher } => self.reveal(watcher),
            Event::Unwatch { watcher } => {
                let place = usize::from(watcher);
                (self.model.watching[place], self.model.revealed[place]) = (None, false);
                self.state.unwatch(connection(9, place));
                // Whoever watches anew is told anew.
                self.changes.borrow_mut()[place].clear();
            }
            Event::Meet { watcher } => {
                self.model.partners[usize::from(watcher)] = true;
                let (met, shown) = self.state.met(|way| *way == watcher);
                met.into_iter().for_each(|watcher| self.tell(watcher, shown));
            }
            Event::Allow(audience) => {
                self.apply(Event::Store(audience));
                self.apply(Event::Hear);
            }
            Event::Store(audience) => {
                self.model.version += 1;
                self.model.audience = Some(audience);
            }
            Event::Hear => {
                let audience = self.model.audience.unwrap_or(Audience::Partners);
                for (watcher, shown) in self.state.set_audience(self.model.version, audience) {
                    self.tell(watcher, shown);
                }
            }
            Event::Wait(millis) => self.wait(millis),
            Event::Claim { node, status } => {
                self.elsewhere(node, status);
                self.hear(node);
            }
            Event::Lose { node, status } => self.elsewhere(node, status),
            // Nodes that have the member answer, and those that are believed to have them.
            Event::Ask => (0..NODES).for_each(|node| self.hear(node)),
            Event::Leave { node: number } => {
                if let Some(showed) = self.model.elsewhere[usize::from(number)] {
                    self.elsewhere(number, None);
                    self.state.heard(node(number), Some(showed), Some(self.time));
                }
            }
            Event::NodeGone { node: number } => {
                self.model.elsewhere[usize::from(number)] = None;
                self.state.node_gone(node(number), self.now, PACE);
            }
            Event::Record => {
                for at in std::mem::take(&mut self.recording) {
                    self.state.recorded(at);
                    self.settle();
                }
            }
        }
        self.settle();
    }

    /// On another node, the devices show something else.
    fn elsewhere(&mut self, number: u8, status: Option<DeviceStatus>) {
        let before = std::mem::replace(&mut self.model.elsewhere[usize::from(number)], status);
        if before.is_some() && status.is_none() {
            self.model.last_seen = Some(self.time);
        }
    }

    /// Nothing happens any more, and everything that waits comes to its end.
    fn quiet(&mut self) {
        for watcher in 0..WATCHERS {
            if !self.model.revealed[usize::from(watcher)] {
                self.reveal(watcher);
            }
        }
        self.apply(Event::Hear);
        self.apply(Event::Ask);
        for _ in 0..2 {
            self.wait(60_000);
            self.apply(Event::Record);
        }
        self.wait(60_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_truth_is_told_last(events in proptest::collection::vec(event(), 1..60)) {
        let mut trial = Trial::new();
        for event in events {
            trial.apply(event);
        }
        trial.quiet();
        for (watcher, told) in trial.model.watching.iter().enumerate() {
            if let Some(told) = told {
                prop_assert_eq!(*told, trial.model.truth(watcher));
                prop_assert_eq!(trial.state.view(connection(9, watcher)), Some(*told));
            }
        }
        prop_assert_eq!(trial.state.deadline(PACE), None);
        // Others were told the truth last, and not too often: except that the member is gone, which takes a grace period.
        let here = trial.model.here().map(|status| Showing { status, left: None });
        prop_assert_eq!(trial.said.last().and_then(|(showing, _)| *showing), here);
        prop_assert!(trial.said.windows(2).all(|pair| pair[1].0.is_none() || pair[1].1 - pair[0].1 >= PACE.interval));
        let gone: Vec<_> = trial.said.iter().filter(|(status, _)| status.is_none()).collect();
        prop_assert!(gone.windows(2).all(|pair| pair[1].1 - pair[0].1 >= PACE.grace));
        for times in trial.changes.borrow().iter() {
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= PACE.interval), "told too often");
        }
        // Everybody leaves, and nobody watches.
        for which in 0..trial.model.connections.len() {
            trial.apply(Event::End { which });
        }
        (0..WATCHERS).for_each(|watcher| trial.apply(Event::Unwatch { watcher }));
        trial.quiet();
        prop_assert!(trial.state.is_idle());
    }
}

/// There is one of each for every member who is connected.
#[test]
fn what_is_kept_of_a_member_whom_nobody_watches_is_small() {
    assert!(size_of::<State<std::sync::Arc<()>>>() <= 48);
    let mut trial = Trial::new();
    trial.apply(Event::Connect { device: 0 });
    trial.apply(Event::Claim { node: 0, status: Some(DeviceStatus::Online) });
    trial.wait(1_000);
    assert!(trial.state.beside.is_none(), "what was said a second ago is not kept");
}

#[test]
fn who_goes_from_one_node_to_another_is_never_offline_in_between() {
    // As the old node sees it, the new one, and one between.
    let mut trial = watched();
    trial.apply(Event::Connect { device: 0 });
    trial.apply(Event::End { which: 0 });
    trial.apply(Event::Claim { node: 0, status: Some(DeviceStatus::Online) });
    trial.wait(20_000);
    trial.apply(Event::Record);
    let said: Vec<_> = trial.said.iter().map(|(showing, _)| showing.map(|it| (it.status, it.left.is_some()))).collect();
    assert_eq!(said, [Some((DeviceStatus::Online, false)), Some((DeviceStatus::Online, true)), None]);
    trial.apply(Event::Claim { node: 1, status: Some(DeviceStatus::Online) });
    trial.apply(Event::NodeGone { node: 0 });
    trial.wait(20_000);
    trial.apply(Event::Connect { device: 0 });
    trial.apply(Event::Claim { node: 1, status: None });
    trial.wait(20_000);
    assert_eq!(trial.changes.borrow()[0].len(), 1, "they were online all the time");
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Online));
}

#[test]
fn of_devices_that_left_at_the_same_moment_the_one_that_was_away_counts() {
    let left = Some(Timestamp::from_millis(1_000));
    let orders = [DeviceStatus::Online, DeviceStatus::Away].map(|status| Showing { status, left }.order());
    let (_, _, away) = orders.into_iter().min_by_key(|order| rank(*order)).unwrap();
    assert!(away, "who was away is not shown as online until the grace period is over");
}

/// Found from outside: a member who was away was shown as online for ten seconds more, because the connection that was gone counted.
#[test]
fn who_is_away_is_so_at_once_wherever_their_online_device_was() {
    let shown = |trial: &Trial| trial.model.watching[0].map(|shown| shown.status);
    // As a node sees it that has the device which stays, the one that leaves, and none.
    for here in [[true, false], [false, true], [false, false]] {
        for node_is_gone in [false, true] {
            let mut trial = watched();
            for (node, at_home) in here.into_iter().enumerate() {
                let status = if node == 0 { DeviceStatus::Away } else { DeviceStatus::Online };
                if at_home {
                    trial.apply(Event::Connect { device: 0 });
                    trial.apply(Event::Set { which: 0, away: status == DeviceStatus::Away });
                } else {
                    trial.apply(Event::Claim { node: u8::try_from(node).unwrap(), status: Some(status) });
                }
            }
            trial.wait(1_000);
            assert_eq!(shown(&trial), Some(PresenceStatus::Online));
            match (here[1], node_is_gone) {
                (true, _) => trial.apply(Event::End { which: 0 }),
                (false, true) => trial.apply(Event::NodeGone { node: 1 }),
                (false, false) => trial.apply(Event::Leave { node: 1 }),
            }
            trial.wait(1_000);
            assert_eq!(shown(&trial), Some(PresenceStatus::Away));
            // And who has no device any more shows for a grace period what they showed last.
            match here[0] {
                true => trial.apply(Event::End { which: 0 }),
                false => trial.apply(Event::Leave { node: 0 }),
            }
            trial.wait(8_000);
            assert_eq!(shown(&trial), Some(PresenceStatus::Away));
            // The store has not recorded yet that the device which was online has gone: that counts for nothing any more.
            trial.wait(3_000);
            trial.apply(Event::Ask);
            if here[0] {
                trial.apply(Event::Record);
            }
            assert_eq!(shown(&trial), Some(PresenceStatus::Offline), "{here:?} {node_is_gone}");
        }
    }
}

#[test]
fn who_was_on_a_node_that_is_gone_has_a_grace_period_to_come_back() {
    let mut trial = watched();
    trial.apply(Event::Claim { node: 0, status: Some(DeviceStatus::Online) });
    trial.apply(Event::NodeGone { node: 0 });
    trial.wait(9_999);
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Online));
    trial.wait(1);
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Offline));
    // It was silent, and is heard again.
    trial.apply(Event::Claim { node: 0, status: Some(DeviceStatus::Away) });
    trial.apply(Event::NodeGone { node: 0 });
    trial.wait(5_000);
    trial.apply(Event::Claim { node: 0, status: Some(DeviceStatus::Away) });
    trial.quiet();
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Away));
}

/// A member whom watcher 0, a partner, watches.
fn watched() -> Trial {
    let mut trial = Trial::new();
    for event in [Event::Watch { watcher: 0 }, Event::Meet { watcher: 0 }, Event::Reveal { watcher: 0 }] {
        trial.apply(event);
    }
    trial
}

#[test]
fn a_replaced_connection_that_ends_after_its_successor_changes_nothing() {
    let mut trial = watched();
    trial.apply(Event::Connect { device: 0 });
    trial.apply(Event::Connect { device: 0 });
    trial.apply(Event::End { which: 1 });
    trial.wait(10_000);
    trial.apply(Event::Record);
    let gone = trial.model.watching[0].unwrap();
    assert_eq!(gone.status, PresenceStatus::Offline);
    trial.apply(Event::End { which: 0 });
    trial.quiet();
    assert_eq!(trial.model.watching[0], Some(gone));
    trial.apply(Event::Unwatch { watcher: 0 });
    assert!(trial.state.is_idle());
}

#[test]
fn presence_that_flaps_is_told_once_per_interval_with_the_newest_last() {
    let mut trial = watched();
    trial.apply(Event::Connect { device: 0 });
    for step in 0..1_000 {
        trial.apply(Event::Set { which: 0, away: step % 2 == 0 });
        trial.wait(10);
    }
    trial.apply(Event::Set { which: 0, away: true });
    trial.quiet();
    let times = trial.changes.borrow()[0].len();
    assert!((9..=12).contains(&times), "told {times} times in ten seconds");
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Away));
}

#[test]
fn who_comes_back_within_the_grace_period_was_never_away() {
    let mut trial = watched();
    for which in 0..3 {
        trial.apply(Event::Connect { device: 0 });
        trial.wait(2_000);
        trial.apply(Event::End { which });
        trial.wait(9_999);
    }
    assert_eq!(trial.changes.borrow()[0].len(), 1);
    trial.wait(1);
    trial.apply(Event::Record);
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Offline));
}

#[test]
fn a_member_sees_themselves_whatever_others_see() {
    let mut state = State::default();
    state.watch(MEMBER, connection(9, 0), MEMBER, 0);
    state.arrive(connection(1, 0), None);
    let facts = Facts { last_seen: None, audience: Audience::Nobody, version: 1 };
    assert_eq!(state.reveal(connection(9, 0), facts, false).shown.status, PresenceStatus::Online);
}

#[test]
fn a_choice_that_comes_with_an_answer_of_the_store_is_told_to_the_earlier_watchers() {
    let mut trial = watched();
    trial.apply(Event::Connect { device: 0 });
    assert_eq!(trial.model.watching[0].map(|shown| shown.status), Some(PresenceStatus::Online));
    for event in [Event::Store(Audience::Nobody), Event::Watch { watcher: 1 }, Event::Reveal { watcher: 1 }] {
        trial.apply(event);
    }
    assert_eq!(trial.model.watching[0], Some(Shown::HIDDEN), "before this node hears of the choice");
    trial.apply(Event::Hear);
    assert_eq!(trial.model.watching[0], Some(Shown::HIDDEN));
}
