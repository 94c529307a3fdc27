//! Members who want nothing but to connect, to log in, and to hear that the server lives, all the time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::rest::LoginRequest;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    cast::{Cast, Kind, home},
    http,
};
use crate::{
    link::Opening,
    report::attacks::Probe,
    target::{Account, PASSWORD},
};

/// How often a member connects, and how often the health of the server is asked for.
const EVERY: Duration = Duration::from_millis(400);
/// How often a member logs in. Each costs a quarter of a second of processor time.
const LOGIN_EVERY: Duration = Duration::from_secs(2);
/// After this a try has failed, whatever comes.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether tries are over.
const LOOK: Duration = Duration::from_millis(20);
/// Tries that are remembered.
const KEPT: usize = 4_096;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Hello,
    Login,
    Health,
}

struct Try {
    what: What,
    begun: Instant,
    /// None while it is not over.
    ended: Option<Result<Duration, String>>,
}

/// Those who try.
pub(super) struct Probes {
    tries: Arc<Mutex<Vec<Try>>>,
    _tasks: JoinSet<()>,
}

impl Probes {
    /// Begins.
    pub(super) fn start(addr: SocketAddr, cast: &Cast) -> Self {
        let tries: Arc<Mutex<Vec<Try>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for (what, every) in [(What::Hello, EVERY), (What::Login, LOGIN_EVERY), (What::Health, EVERY)] {
            let prober = Prober { addr, tries: Arc::clone(&tries), members: cast.all(&cast.layout.probes).into() };
            tasks.spawn(prober.run(what, every));
        }
        Self { tries, _tasks: tasks }
    }

    /// Waits until the tries that began before a moment are over: for their patience at most.
    pub(super) async fn over(&self, before: Instant) {
        let pending = || {
            let tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            tries.iter().any(|one| one.begun < before && one.ended.is_none() && one.begun.elapsed() <= PATIENCE)
        };
        while pending() {
            sleep(LOOK).await;
        }
    }

    /// What became of the tries that began between two moments. What is not over by now has failed.
    pub(super) fn between(&self, what: What, from: Instant, to: Instant) -> Probe {
        let tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let these = tries.iter().filter(|one| one.what == what && one.begun >= from && one.begun < to);
        judge(these.map(|one| one.ended.clone().unwrap_or_else(|| Err("not over in time".to_owned()))))
    }
}

fn judge(tries: impl Iterator<Item = Result<Duration, String>>) -> Probe {
    let mut probe = Probe::default();
    let mut took = Vec::new();
    for one in tries {
        probe.tried += 1;
        match one {
            Ok(time) => took.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            Err(why) => {
                probe.failed += 1;
                probe.why.get_or_insert(why);
            }
        }
    }
    took.sort_unstable();
    probe.p50 = took.get(took.len() / 2).copied().unwrap_or_default();
    probe.max = took.last().copied().unwrap_or_default();
    probe
}

struct Prober {
    addr: SocketAddr,
    tries: Arc<Mutex<Vec<Try>>>,
    members: Arc<[Account]>,
}

impl Prober {
    async fn run(self, what: What, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = JoinSet::new();
        // The members take turns, so that nobody comes more often than somebody with a bad link would.
        for (number, account) in self.members.iter().enumerate().cycle() {
            ticks.tick().await;
            while running.try_join_next().is_some() {}
            let place = self.begin(what);
            let (tries, addr, account) = (Arc::clone(&self.tries), self.addr, account.clone());
            running.spawn(async move {
                let begun = Instant::now();
                let tried = timeout(PATIENCE, once(what, addr, number, &account)).await;
                let ended = match tried {
                    Ok(Ok(())) => Ok(begun.elapsed()),
                    Ok(Err(why)) => Err(why),
                    Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
                };
                if let Some(one) = tries.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
                    one.ended = Some(ended);
                }
            });
        }
    }

    /// Notes that a try begins; its place is beyond the end when there are too many.
    fn begin(&self, what: What) -> usize {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tries.len();
        if place < KEPT {
            tries.push(Try { what, begun: Instant::now(), ended: None });
        }
        place
    }
}

async fn once(what: What, addr: SocketAddr, number: usize, account: &Account) -> Result<(), String> {
    let from = home(Kind::Probe, number);
    match what {
        What::Hello => {
            let opening = Opening { from, ..Opening::new(addr) }.on("probe");
            opening.open(&account.token, None).await.map(drop).map_err(|ended| ended.to_string())
        }
        What::Login => {
            let login =
                LoginRequest { email: account.email.clone(), password: PASSWORD.to_owned(), ..LoginRequest::default() };
            let body = serde_json::to_vec(&login).map_err(|error| error.to_string())?;
            let head = "POST /api/auth/login\nContent-Type: application/json";
            expect(http::once(addr, from, head, &body).await, "login")
        }
        What::Health => {
            // Somebody else than a member: what watches the server.
            for path in ["/healthz", "/readyz"] {
                expect(http::once(addr, from, &format!("GET {path}"), b"").await, path)?;
            }
            Ok(())
        }
    }
}

fn expect(answer: std::io::Result<http::Answer>, what: &str) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{what}: {}", answer.status)),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_is_not_over_has_failed() {
        let begun = Instant::now();
        let millis = |millis| Some(Ok(Duration::from_millis(millis)));
        let ended = [millis(1), millis(9), None, millis(3), Some(Err("login: 503".to_owned()))];
        let tries = ended.into_iter().map(|ended| Try { what: What::Login, begun, ended }).collect();
        let probes = Probes { tries: Arc::new(Mutex::new(tries)), _tasks: JoinSet::new() };
        let probe = probes.between(What::Login, begun, begun + Duration::from_secs(1));
        assert_eq!((probe.tried, probe.failed, probe.p50, probe.max), (5, 2, 3_000, 9_000));
        assert_eq!(probe.why.as_deref(), Some("not over in time"));
        assert_eq!(probes.between(What::Hello, begun, begun + Duration::from_secs(1)).tried, 0);
        assert_eq!(probes.between(What::Login, begun + Duration::from_millis(1), begun + EVERY).tried, 0);
    }
}
