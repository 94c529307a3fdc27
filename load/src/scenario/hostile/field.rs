//! What an attack works with, and what it leaves behind.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::ClientMessageId;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet, time::Instant};

use super::cast::Cast;
use crate::{client_ids::ClientIds, link::Opening};

/// Kinds of things that one attack counts; what is beyond is counted together.
const KINDS: usize = 48;
/// Sockets that stay open when an attack is over.
const HELD: usize = 4_096;
/// Attackers get the processor last, as far as the kernel lets them: in truth they are on machines of their own.
const NICE: i32 = 10;

/// What an attack works with. All copies count together.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) addr: SocketAddr,
    pub(super) cast: Cast,
    pub(super) seed: u64,
    /// How long the attack takes.
    pub(super) time: Duration,
    pub(super) begun: Instant,
    achieved: Arc<Mutex<BTreeMap<String, u64>>>,
    held: Arc<Mutex<Vec<TcpStream>>>,
    ids: ClientIds,
    random: Arc<Mutex<StdRng>>,
}

impl Field {
    /// `nonce` tells an attack from those before it: what it sends must not look like a retry of theirs.
    pub(super) fn new(addr: SocketAddr, cast: Cast, (seed, nonce): (u64, u64), ids: ClientIds, time: Duration) -> Self {
        let (achieved, held) = (Arc::default(), Arc::default());
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed ^ nonce)));
        Self { addr, cast, seed, time, begun: Instant::now(), achieved, held, ids, random }
    }

    /// The id of a further message.
    pub(super) fn client_id(&self) -> ClientMessageId {
        self.ids.next(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts something that the attacker has done or met.
    pub(super) fn count(&self, what: &str, more: u64) {
        let mut achieved = self.achieved.lock().unwrap_or_else(PoisonError::into_inner);
        let full = achieved.len() >= KINDS;
        match achieved.get_mut(what) {
            Some(count) => *count += more,
            None if full => *achieved.entry("other".to_owned()).or_default() += more,
            None => {
                achieved.insert(what.to_owned(), more);
            }
        }
    }

    /// What was counted.
    pub(super) fn achieved(&self) -> BTreeMap<String, u64> {
        self.achieved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a socket open beyond the end of the attack, until [`Self::let_go`]. Nobody reads it any more.
    pub(super) fn hold(&self, stream: TcpStream) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < HELD {
            held.push(stream);
        }
    }

    /// Closes what was kept open.
    pub(super) fn let_go(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How connections from an address are opened.
    pub(super) fn opening(&self, from: Option<IpAddr>) -> Opening {
        Opening { from, ..Opening::new(self.addr) }
    }

    /// How much of the attack is left.
    pub(super) fn left(&self) -> Duration {
        self.time.saturating_sub(self.begun.elapsed())
    }
}

/// Lets several do something at the same time, until they are done or the attack is over.
pub(super) async fn together<F>(count: usize, part: impl Fn(usize) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut parts = JoinSet::new();
    for number in 0..count {
        parts.spawn(part(number));
    }
    while let Some(part) = parts.join_next().await {
        part.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// The threads of the attackers: apart from those who measure, and with a lower priority.
pub(super) struct Attackers(Option<Runtime>);

impl Attackers {
    pub(super) fn start() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("attackers")
            .on_thread_start(|| {
                #[cfg(target_os = "linux")]
                if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
                    eprintln!("the attackers have the priority of everybody else: {error}");
                }
            })
            .enable_all()
            .build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| error.to_string())
    }

    pub(super) fn handle(&self) -> Result<tokio::runtime::Handle, String> {
        self.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(|| "the attackers have left".to_owned())
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cast::Layout, *};

    #[test]
    fn what_is_counted_is_bounded() {
        let cast = Cast::new(&[], Layout::of(0, 0));
        let field = Field::new(([127, 0, 0, 1], 1).into(), cast, (0, 0), ClientIds::V4, Duration::ZERO);
        for number in 0..1_000 {
            field.count(&format!("closed {number}"), 1);
            field.count("requests", 2);
        }
        let achieved = field.achieved();
        assert_eq!(achieved.len(), KINDS + 1);
        assert_eq!((achieved["requests"], achieved["other"]), (2_000, 1_000 + 1 - KINDS as u64));
    }
}
