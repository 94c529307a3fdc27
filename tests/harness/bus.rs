//! A bus between servers of this process: it delivers what it is given, in its order, unless the test says otherwise.
//!
//! It has one link, and keeps the rules of [`members_book::cluster::bus`]: a beat comes behind everything that its node published
//! before, what may have been lost is told to the node that may have lost it, and counted by the one that published it. What it
//! does not have is a canary: a node that is held hears nothing, and finds that out by the silence of the others.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use members_book::{
    cluster::{Beat, Bus, Channel, Event, Inbox, Loss, NodeId},
    service::fleet::OpenBus,
    store::conversations::StoreId,
};
use tokio::sync::Notify;

/// What waits for one node at most; who has more loses all of it.
const QUEUE: usize = 100_000;

/// A bus between servers of this process.
#[derive(Clone, Default)]
pub struct MemoryBus(Arc<Mutex<BTreeMap<usize, Port>>>);

/// What a node is going to be told.
enum Item {
    Up,
    Lost(Loss),
    Event(NodeId, Channel, Event),
    Beat(NodeId, Beat),
}

/// One node on the bus.
struct Port {
    id: NodeId,
    heard: HashSet<Channel>,
    queue: VecDeque<Item>,
    waiting: Arc<Notify>,
    /// Its link is down.
    cut: bool,
    /// Nothing is delivered to it, and nothing is lost.
    held: bool,
    losses: u64,
    beats: u64,
}

/// Where one server is plugged in.
struct Socket {
    bus: MemoryBus,
    number: usize,
}

impl MemoryBus {
    /// Where the server with this number is to be plugged in: [`members_book::app::World::bus`].
    pub fn socket(&self, number: usize) -> Arc<dyn OpenBus> {
        Arc::new(Socket { bus: self.clone(), number })
    }

    /// Takes the link of a node down.
    pub fn cut(&self, number: usize) {
        self.with(number, |port| {
            port.cut = true;
            port.lose(Loss::LinkDown);
        });
    }

    /// The link of a node works again.
    pub fn mend(&self, number: usize) {
        self.with(number, |port| {
            port.cut = false;
            port.push(Item::Up);
        });
    }

    /// Delivers nothing to a node until it is released.
    pub fn hold(&self, number: usize) {
        self.with(number, |port| port.held = true);
    }

    /// Delivers what waits for a node, and what comes.
    pub fn release(&self, number: usize) {
        self.with(number, |port| {
            port.held = false;
            port.waiting.notify_one();
        });
    }

    /// Loses what waits for a node, as if it had been too much; it is told.
    pub fn lose(&self, number: usize) {
        self.with(number, |port| {
            port.lose(Loss::Overflow);
            port.push(Item::Up);
        });
    }

    /// Which node a server is on the bus.
    pub fn id_of(&self, number: usize) -> NodeId {
        self.with(number, |port| port.id)
    }

    /// Publishes an event to a node as whoever, if it hears the channel.
    pub fn forge(&self, to: usize, from: NodeId, channel: Channel, event: impl Into<Event>) {
        self.with(to, |port| {
            if port.heard.contains(&channel) {
                port.push(Item::Event(from, channel, over_the_wire(&event.into())));
            }
        });
    }

    /// The same of a beat.
    pub fn forge_beat(&self, to: usize, from: NodeId, beat: Beat) {
        self.with(to, |port| port.push(Item::Beat(from, beat)));
    }

    /// Lets a node hear a channel, whatever it wants itself.
    pub fn hear(&self, number: usize, channel: Channel) {
        self.with(number, |port| port.heard.insert(channel));
    }

    /// The events that wait for a node.
    pub fn waiting(&self, number: usize) -> Vec<Event> {
        let events = |item: &Item| if let Item::Event(_, _, event) = item { Some(event.clone()) } else { None };
        self.with(number, |port| port.queue.iter().filter_map(events).collect())
    }

    /// Whether a node hears a channel.
    pub fn hears(&self, number: usize, channel: Channel) -> bool {
        self.lock().get(&number).is_some_and(|port| port.heard.contains(&channel))
    }

    fn with<T>(&self, number: usize, change: impl FnOnce(&mut Port) -> T) -> T {
        change(self.lock().get_mut(&number).expect("a node that is there"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Port>> {
        self.0.lock().unwrap()
    }

    /// What is delivered to a node next; nothing if it has left.
    async fn next(&self, number: usize) -> Option<Item> {
        loop {
            let waiting = {
                let mut ports = self.lock();
                let port = ports.get_mut(&number)?;
                if !port.held
                    && let Some(item) = port.queue.pop_front()
                {
                    return Some(item);
                }
                Arc::clone(&port.waiting)
            };
            waiting.notified().await;
        }
    }
}

impl Port {
    fn new(id: NodeId) -> Self {
        let heard = HashSet::from([Channel::Everybody, Channel::Node(id)]);
        let (queue, waiting) = (VecDeque::from([Item::Up]), Arc::default());
        Self { id, heard, queue, waiting, cut: false, held: false, losses: 0, beats: 0 }
    }

    fn push(&mut self, item: Item) {
        if self.queue.len() >= QUEUE {
            self.lose(Loss::Overflow);
            self.queue.push_back(Item::Up);
        }
        self.queue.push_back(item);
        self.waiting.notify_one();
    }

    fn lose(&mut self, loss: Loss) {
        self.queue.clear();
        self.queue.push_back(Item::Lost(loss));
        self.waiting.notify_one();
    }
}

impl OpenBus for Socket {
    fn links(&self) -> usize {
        1
    }

    fn open(&self, node: NodeId, _store: StoreId, inbox: Arc<dyn Inbox>) -> Arc<dyn Bus> {
        self.bus.lock().insert(self.number, Port::new(node));
        let (bus, number) = (self.bus.clone(), self.number);
        tokio::spawn(async move {
            while let Some(item) = bus.next(number).await {
                match item {
                    Item::Up => inbox.up(0),
                    Item::Lost(loss) => inbox.lost(0, loss),
                    Item::Event(from, ..) if !inbox.hears(from, true) => {}
                    Item::Beat(from, _) if !inbox.hears(from, false) => {}
                    Item::Event(from, channel, event) => inbox.event(from, channel, event),
                    Item::Beat(from, beat) => inbox.beat(0, from, beat),
                }
            }
        });
        Arc::new(Self { bus: self.bus.clone(), number: self.number })
    }
}

/// The same event, over the form that it has on a bus.
fn over_the_wire(event: &Event) -> Event {
    let mut encoded = bytes::BytesMut::new();
    event.encode(&mut encoded);
    Event::decode_next(&mut encoded.freeze()).flatten().expect("what was encoded is decoded")
}

#[async_trait]
impl Bus for Socket {
    fn links(&self) -> usize {
        1
    }

    fn describe(&self) -> String {
        "the bus of a test".to_owned()
    }

    fn publish(&self, channel: Channel, event: Event) {
        let event = over_the_wire(&event);
        let mut ports = self.bus.lock();
        let Some(own) = ports.get_mut(&self.number) else { return };
        if own.cut {
            own.losses += 1;
            return;
        }
        let from = own.id;
        let others = ports.iter_mut().filter(|(number, port)| **number != self.number && !port.cut);
        for (_, port) in others.filter(|(_, port)| port.heard.contains(&channel)) {
            port.push(Item::Event(from, channel, event.clone()));
        }
    }

    fn lose(&self) {
        if let Some(own) = self.bus.lock().get_mut(&self.number) {
            own.losses += 1;
        }
    }

    fn beat(&self, beat: Beat) {
        let mut ports = self.bus.lock();
        let Some(own) = ports.get_mut(&self.number).filter(|own| !own.cut) else { return };
        own.beats += 1;
        let (from, beat) = (own.id, Beat { losses: own.losses, number: own.beats, ..beat });
        for (_, port) in ports.iter_mut().filter(|(number, port)| **number != self.number && !port.cut) {
            port.push(Item::Beat(from, beat));
        }
    }

    async fn subscribe(&self, channel: Channel) -> bool {
        let mut ports = self.bus.lock();
        ports.get_mut(&self.number).is_some_and(|port| {
            port.heard.insert(channel);
            !port.cut
        })
    }

    fn unsubscribe(&self, channel: Channel) {
        if let Some(port) = self.bus.lock().get_mut(&self.number)
            && channel != Channel::Everybody
            && channel != Channel::Node(port.id)
        {
            port.heard.remove(&channel);
        }
    }

    async fn close(&self) {
        let port = self.bus.lock().remove(&self.number);
        if let Some(port) = port {
            port.waiting.notify_one();
        }
    }
}
