//! Random schedules: members talk and go from node to node, while the bus loses, holds back and cuts off. Whatever the schedule, a
//! client that keeps its cursor has every entry in the end.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ConversationId, Cursor, MemberId, ServerFrame};

use crate::harness::{Client, Member, bus::MemoryBus, fleet::Fleet};

const NODES: usize = 3;
const MEMBERS: usize = 4;
const STEPS: usize = 80;

/// Numbers that follow from a seed (a linear congruential generator: Knuth's MMIX).
struct Seed(u64);

impl Seed {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A device with what it has stored.
struct Device {
    member: Member,
    client: Client,
    node: usize,
    cursor: Option<Cursor>,
    entries: BTreeMap<ConversationId, BTreeSet<u64>>,
}

impl Device {
    async fn connect(fleet: &Fleet, member: &Member, node: usize) -> Self {
        let member = fleet.at(member, node);
        let client = member.connect().await;
        let mut device = Self { member, client, node, cursor: None, entries: BTreeMap::new() };
        device.take_sync();
        device
    }

    fn store(&mut self, conversation: ConversationId, seq: u64) {
        self.entries.entry(conversation).or_default().insert(seq);
    }

    fn take_sync(&mut self) {
        for conversation in std::mem::take(&mut self.client.synced) {
            conversation.entries.iter().for_each(|entry| self.store(conversation.id, entry.seq()));
        }
        self.cursor = Some(self.client.cursor());
    }

    /// Stores everything that has come before the answer to a ping, and then its cursor.
    async fn ping(&mut self) {
        let pong = self.client.ping().await;
        for envelope in self.client.drain() {
            match envelope.frame {
                ServerFrame::EntryPush(push) => self.store(push.entry.conversation(), push.entry.seq()),
                ServerFrame::Sync(sync) => {
                    for conversation in sync.conversations {
                        conversation.entries.iter().for_each(|entry| self.store(conversation.id, entry.seq()));
                    }
                }
                _ => {}
            }
        }
        self.cursor = Some(pong.cursor);
    }

    /// Goes to another node with the cursor of its last pong.
    async fn hop(&mut self, fleet: &Fleet, node: usize) {
        self.member = fleet.at(&self.member, node);
        self.node = node;
        self.client = self.member.connect_as("phone", self.cursor.clone()).await;
        self.take_sync();
    }

    async fn say(&mut self, to: MemberId, number: usize) -> (ConversationId, u64) {
        let message = self.client.say(to, &number.to_string()).await;
        self.store(message.conversation, message.seq);
        (message.conversation, message.seq)
    }
}

fn disturb(bus: &MemoryBus, seed: &mut Seed) {
    let node = seed.below(NODES);
    match seed.below(6) {
        0 => bus.cut(node),
        1 => bus.mend(node),
        2 => bus.hold(node),
        3 => bus.release(node),
        4 => bus.lose(node),
        _ => (0..NODES).for_each(|node| bus.mend(node)),
    }
}

async fn run(seed: u64) {
    let fleet = Fleet::on_a_bus(NODES, |_| ()).await;
    let bus = fleet.bus.clone().unwrap();
    let mut random = Seed(seed);
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(fleet.nodes[0].member(&format!("Member {number}")).await);
    }
    let mut devices = Vec::new();
    for (number, member) in members.iter().enumerate() {
        devices.push(Device::connect(&fleet, member, number % NODES).await);
    }
    let mut log: BTreeMap<ConversationId, (BTreeSet<u64>, [usize; 2])> = BTreeMap::new();
    for number in 0..STEPS {
        let one = random.below(MEMBERS);
        match random.below(10) {
            0..=4 => {
                let other = (one + 1 + random.below(MEMBERS - 1)) % MEMBERS;
                let (conversation, seq) = devices[one].say(members[other].id, number).await;
                let known = log.entry(conversation).or_insert_with(|| (BTreeSet::new(), [one, other]));
                assert!(known.0.insert(seq), "seed {seed}: seq {seq} was given twice");
            }
            5 | 6 => devices[one].ping().await,
            7 => {
                let node = random.below(NODES);
                devices[one].hop(&fleet, node).await;
            }
            _ => disturb(&bus, &mut random),
        }
    }
    for node in 0..NODES {
        bus.release(node);
        bus.mend(node);
    }
    for (number, device) in devices.iter_mut().enumerate() {
        device.hop(&fleet, (device.node + 1) % NODES).await;
        for (conversation, (seqs, between)) in log.iter().filter(|(_, (_, between))| between.contains(&number)) {
            let seen = device.entries.get(conversation).cloned().unwrap_or_default();
            assert_eq!(seen, *seqs, "seed {seed}: member {number} in the conversation of {between:?}");
        }
    }
    for (seqs, _) in log.values() {
        assert_eq!(seqs.iter().copied().collect::<Vec<_>>(), (1..=seqs.len() as u64).collect::<Vec<_>>(), "no hole");
    }
    fleet.is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_is_missed_by_any_client_under_any_schedule() {
    for seed in [1, 2, 3] {
        run(seed).await;
    }
}
