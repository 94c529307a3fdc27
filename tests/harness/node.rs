//! A node that is nothing but its end of a bus over Redis.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use members_book::{
    clock::SystemClock,
    cluster::{
        Beat, Bus, Channel, Event, Inbox, Loss, NodeId,
        event::Relayed,
        redis::{Address, Options, Redis},
    },
    ids::{Ids, SystemEntropy},
    position::{Epoch, Position, StreamPosition},
    supervisor::Supervisor,
    telemetry::Metrics,
};
use protocol::MemberId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::within;

/// How often a node beats.
const BEAT: Duration = Duration::from_millis(100);
const EPOCH: Epoch = Epoch([7; 8]);

/// A node that is nothing but its end of a bus. It beats, and every beat says how many events it has published.
pub struct Node {
    /// Its end.
    pub bus: Arc<Redis>,
    /// Who it is.
    pub id: NodeId,
    /// What the bus counts.
    pub metrics: Arc<Metrics>,
    published: Arc<AtomicU64>,
    late: Arc<AtomicBool>,
    told: UnboundedReceiver<Told>,
    stop: CancellationToken,
}

/// What a bus tells its node.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// A link is up.
    Up(usize),
    /// Something may be missing on a link.
    Lost(usize, Loss),
    /// A number was published on a channel.
    Number(Channel, u64),
    /// Another node has beaten on a link: so many events it has published, so many losses it has had.
    Beat {
        /// The link.
        link: usize,
        /// The node.
        from: NodeId,
        /// Its events.
        published: u64,
        /// Its losses.
        losses: u64,
    },
}

struct Ear {
    told: UnboundedSender<Told>,
    /// The last number of each channel: on one link, what is published there comes in order.
    numbers: Mutex<HashMap<Channel, u64>>,
    late: Arc<AtomicBool>,
}

impl Node {
    /// A node whose bus is where `REDIS_URL` says.
    pub fn open(url: &str) -> Self {
        Self::open_with(url, None)
    }

    /// The same with `REDIS_SENTINEL_MASTER`.
    pub fn open_with(url: &str, master: Option<&str>) -> Self {
        let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
        let ids = Arc::new(Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy)));
        let id = NodeId(ids.secret());
        let (sender, told) = unbounded_channel();
        let late = Arc::new(AtomicBool::new(false));
        let ear: Arc<dyn Inbox> = Arc::new(Ear { told: sender, numbers: Mutex::default(), late: Arc::clone(&late) });
        let addresses = Address::parse(&url.to_owned().into(), master).unwrap();
        let options = Options { addresses, node: id, store: [3; 8] };
        let supervisor = Supervisor::new(Arc::clone(&metrics), stop.clone());
        let bus = Redis::open(options, &ear, &ids, &metrics, &supervisor);
        let published = Arc::new(AtomicU64::new(0));
        let beating = {
            let (bus, published) = (Arc::clone(&bus), Arc::clone(&published));
            async move {
                let mut tick = tokio::time::interval(BEAT);
                loop {
                    tick.tick().await;
                    bus.beat(Beat::at(1, at(published.load(Ordering::SeqCst))));
                }
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(beating));
        Self { bus, id, metrics, published, late, told, stop }
    }

    /// A node whose links are up.
    pub async fn up(url: &str) -> Self {
        let mut node = Self::open(url);
        // In any order.
        for _ in 0..node.bus.links() {
            node.until("every link to be up", |told| matches!(told, Told::Up(_)).then_some(())).await;
        }
        node
    }

    /// Publishes a number for a member; those of one member count up.
    pub fn publish(&self, member: MemberId, number: u64) {
        self.publish_long(member, number, 0);
    }

    /// The same, with so many bytes more.
    pub fn publish_long(&self, member: MemberId, number: u64, more: usize) {
        let text = Bytes::from(format!("{number} {}", "-".repeat(more)));
        self.bus.publish(Channel::Member(member), Event::Frame(Relayed { index: 0, entry: None, text }));
        self.published.fetch_add(1, Ordering::SeqCst);
    }

    /// Hears the channel of a member; whether that is confirmed.
    pub async fn hear(&self, member: MemberId) -> bool {
        within("a subscription", self.bus.subscribe(Channel::Member(member))).await
    }

    /// Whether a link was ever late.
    pub fn was_late(&self) -> bool {
        self.late.load(Ordering::SeqCst)
    }

    /// What the bus tells next.
    pub async fn next(&mut self) -> Told {
        within("what the bus tells", self.told.recv()).await.expect("the bus is open")
    }

    /// What the bus has told by now.
    pub fn told(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    /// What the bus tells next that is wanted; the rest is passed over.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Told) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(found) = wanted(self.next().await) {
                    return found;
                }
            }
        })
        .await
    }

    /// Waits for a link to be up.
    pub async fn comes_up(&mut self, link: usize) {
        self.until("the link to be up", |told| (told == Told::Up(link)).then_some(())).await;
    }

    /// Waits for a link to be down; why.
    pub async fn loses(&mut self, wanted: usize) -> Loss {
        let lost = |told| match told {
            Told::Lost(link, loss) if link == wanted => Some(loss),
            _ => None,
        };
        self.until("the link to be down", lost).await
    }

    /// Waits for a number.
    pub async fn hears(&mut self, member: MemberId, number: u64) {
        let wanted = Told::Number(Channel::Member(member), number);
        self.until("the number", |told| (told == wanted).then_some(())).await;
    }

    /// Waits for a beat of another node on a link; how many losses it tells of.
    pub async fn losses_of(&mut self, other: NodeId, wanted: usize) -> u64 {
        let beat = |told| match told {
            Told::Beat { link, from, losses, .. } if (link, from) == (wanted, other) => Some(losses),
            _ => None,
        };
        self.until("a beat", beat).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        let bus = Arc::clone(&self.bus);
        tokio::spawn(async move { bus.close().await });
    }
}

impl Inbox for Ear {
    fn hears(&self, _: NodeId, _: bool) -> bool {
        true
    }

    fn event(&self, _: NodeId, channel: Channel, event: Event) {
        let Event::Frame(Relayed { text, .. }) = event else { panic!("{event:?}") };
        let number: u64 = std::str::from_utf8(&text).unwrap().split(' ').next().unwrap().parse().unwrap();
        let before = self.numbers.lock().unwrap().insert(channel, number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?} on {channel:?}");
        self.tell(Told::Number(channel, number));
    }

    fn beat(&self, link: usize, from: NodeId, beat: Beat) {
        self.tell(Told::Beat { link, from, published: beat.position, losses: beat.losses });
    }

    fn up(&self, link: usize) {
        self.tell(Told::Up(link));
    }

    fn late(&self, _: usize, is_late: bool) {
        self.late.fetch_or(is_late, Ordering::SeqCst);
    }

    fn lost(&self, link: usize, loss: Loss) {
        self.tell(Told::Lost(link, loss));
    }
}

impl Ear {
    fn tell(&self, told: Told) {
        // The node may be gone already.
        let _ = self.told.send(told);
    }
}

fn at(published: u64) -> StreamPosition {
    StreamPosition { epoch: EPOCH, position: Position(published) }
}

/// Some members: the last bytes of their ids count up.
pub fn members(count: u16) -> Vec<MemberId> {
    let member = |number: u16| {
        let [a, b] = number.to_be_bytes();
        MemberId::from_bytes([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, a, b])
    };
    (0..count).map(member).collect()
}
