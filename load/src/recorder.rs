//! What a run finds out: counts, latencies and broken rules, by stage.
//!
//! Many clients record at the same time, so everything is kept in shards that are added up when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::report::{Distribution, StageOutcome};

/// Broken rules that are kept with their words; more are only counted.
const KEPT: usize = 20;
const SHARDS: usize = 8;
/// The longest latency that is told from a longer one, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;

/// Defines an enum whose variants have a name for people.
macro_rules! named {
    ($(#[$enum_doc:meta])* $enum:ident { $($(#[doc = $doc:literal])* $variant:ident = $name:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $enum { $($(#[doc = $doc])* $variant,)* }

        impl $enum {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

named! {
    /// Something that is counted.
    Count {
        /// Messages that were sent, retries not counted.
        Sent = "messages sent",
        /// Messages that were sent as answers to another.
        Answers = "messages sent as answers",
        /// Messages that were acknowledged.
        Acknowledged = "messages acknowledged",
        /// Acknowledgements that said `duplicate`.
        Duplicate = "of them duplicates of a retry",
        /// Messages that were pushed to their receiver.
        Pushed = "messages pushed to their receiver",
        /// Entries that came by sync or history instead.
        CaughtUp = "entries caught up by sync or history",
        /// Syncs that came unasked.
        Unasked = "syncs that came unasked",
        /// Entries that came by a sync that nobody asked for.
        Swept = "entries swept by a sync unasked",
        /// Pushes after one with a larger `seq`, which a fleet may bring.
        Late = "pushes after one with a larger seq",
        /// Receipts that reached the sender.
        Receipts = "receipts pushed to the sender",
        /// Messages that were sent again after their connection was gone.
        Retried = "messages sent again after a reconnect",
        /// Requests that the server asked to send again later.
        PutOff = "requests put off because the server asked",
        /// Sends that were due while the client still had too many to do.
        Unsent = "sends that the client itself was too slow for",
        /// Sends that were left out because the fleet had not answered so many before.
        HeldBack = "sends left out while answers were missing",
        /// Connections that were opened.
        Connected = "connections opened",
        /// Connections that were dropped on purpose.
        Dropped = "connections dropped on purpose",
        /// Connections that the server closed or that broke.
        Lost = "connections lost",
        /// Attempts to connect that failed.
        Refused = "attempts to connect that failed",
        /// Connections that came back after all were cut, and are synced.
        Recovered = "connections that came back",
        /// Connections that the server cut because they did not read.
        Cut = "slow readers cut off",
        /// Heartbeats that were answered.
        Beats = "heartbeats answered",
        /// Pushes that arrived at a push service.
        PushesSent = "pushes sent",
        /// Those that it took.
        PushesTaken = "pushes taken",
        /// Logins with a password.
        Logins = "logins",
        /// Changes of a profile or a presence.
        Changes = "changes that watchers were told of",
        /// Pages of history.
        Pages = "pages of history",
        /// Searches.
        Searches = "searches",
    }
}

named! {
    /// Something whose time is measured.
    Timing {
        /// From the moment at which a message was to be sent until its acknowledgement.
        Acknowledgement = "acknowledgement",
        /// From the moment at which a message was to be sent until it is pushed to the receiver.
        Delivery = "delivery",
        /// The same, of those whose sender and receiver are at one node.
        Here = "delivery within one node",
        /// The same, of those whose sender and receiver are at different nodes.
        Across = "delivery across nodes",
        /// From the acknowledgement of a message until it is pushed to the receiver; nothing, if the push comes first.
        Hop = "delivery after acknowledgement",
        /// From the moment at which a message was to be sent until the client sent it: the client's own delay.
        Lag = "client lag",
        /// From opening a connection until the end of its sync.
        Sync = "connect and sync",
        /// From the cut of all connections until one of them is synced again.
        Recovery = "cut to synced",
        /// A login with a password.
        Login = "login",
        /// From a change of presence until the last watcher knows.
        Presence = "presence to last watcher",
        /// From a change of a profile until the last watcher knows.
        Profile = "profile to last watcher",
        /// A page of history.
        Page = "history page",
        /// A search.
        Search = "search",
        /// From the logout over one node to the end of a socket at another.
        Revoked = "logout to closed socket",
        /// From a message that was stored until a push service has taken a push of it, where nothing failed meanwhile.
        Pushed = "stored to ticket",
        /// The same where something failed.
        PushedLate = "stored to ticket, through failures",
        /// A heartbeat and its answer.
        Beat = "heartbeat",
    }
}

#[derive(Default)]
struct Shard {
    counts: [AtomicU64; Count::ALL.len()],
    /// By stage and timing.
    timings: Mutex<BTreeMap<(usize, Timing), Histogram<u64>>>,
}

/// A part of the run that has figures of its own.
struct Stage {
    name: String,
    /// The warm-up is not.
    measured: bool,
    begun: Instant,
    at_start: Vec<u64>,
    /// When nothing more was sent, and what had been counted by then.
    halted: Option<(Instant, Vec<u64>)>,
}

/// What a run finds out.
pub(crate) struct Recorder {
    shards: [Shard; SHARDS],
    stages: Mutex<Vec<Stage>>,
    current: AtomicUsize,
    started: Instant,
    /// When the stage began, in microseconds since `started`.
    begun: AtomicU64,
    /// When the stage was halted, in microseconds since `started`; the largest number while it runs.
    halted: AtomicU64,
    broken: Mutex<(u64, Vec<String>)>,
    /// Whether a broken rule is told at once.
    aloud: AtomicBool,
}

/// Where one client records.
#[derive(Clone)]
pub(crate) struct Tally {
    recorder: Arc<Recorder>,
    shard: usize,
}

impl Tally {
    fn shard(&self) -> Option<&Shard> {
        self.recorder.shards.get(self.shard)
    }

    pub(crate) fn count(&self, count: Count) {
        self.add(count, 1);
    }

    pub(crate) fn add(&self, count: Count, more: u64) {
        if let Some(counter) = self.shard().and_then(|shard| shard.counts.get(count as usize)) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn time(&self, timing: Timing, took: Duration) {
        self.time_in(self.recorder.current.load(Ordering::Relaxed), timing, took);
    }

    fn time_in(&self, stage: usize, timing: Timing, took: Duration) {
        let Some(shard) = self.shard() else { return };
        let mut timings = lock(&shard.timings);
        let histogram = timings.entry((stage, timing)).or_insert_with(histogram);
        histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Times something that was due at some time, as part of the stage in which it was due: an answer that comes so late
    /// that the next stage has begun belongs to the one that made it late. What was due after a stage was halted is part
    /// of none.
    pub(crate) fn time_since(&self, timing: Timing, due: Instant) {
        let recorder = &self.recorder;
        let at = due.saturating_duration_since(recorder.started).as_micros();
        if at < u128::from(recorder.begun.load(Ordering::Relaxed)) {
            if let Some(stage) = recorder.stage_of(due) {
                self.time_in(stage, timing, due.elapsed());
            }
        } else if at <= u128::from(recorder.halted.load(Ordering::Relaxed)) {
            self.time(timing, due.elapsed());
        }
    }

    /// A rule was broken.
    pub(crate) fn broken(&self, rule: impl Into<String>) {
        self.recorder.broken(rule);
    }
}

/// Microseconds, to three digits.
fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "these bounds are valid, whatever happens")]
    Histogram::new_with_bounds(1, LONGEST, 3).expect("fixed bounds")
}

impl Recorder {
    /// Records; the warm-up begins.
    pub(crate) fn new() -> Arc<Self> {
        let recorder = Self {
            shards: Default::default(),
            stages: Mutex::default(),
            current: AtomicUsize::new(0),
            started: Instant::now(),
            begun: AtomicU64::new(0),
            halted: AtomicU64::new(u64::MAX),
            broken: Mutex::default(),
            aloud: AtomicBool::new(false),
        };
        recorder.start("warm-up", false);
        Arc::new(recorder)
    }

    /// Where a client records.
    pub(crate) fn tally(self: &Arc<Self>, client: usize) -> Tally {
        Tally { recorder: Arc::clone(self), shard: client % SHARDS }
    }

    /// Begins a stage that is measured.
    pub(crate) fn begin(&self, name: &str) {
        self.halt();
        self.start(name, true);
    }

    fn start(&self, name: &str, measured: bool) {
        let mut stages = lock(&self.stages);
        let (begun, at_start) = (Instant::now(), self.totals());
        stages.push(Stage { name: name.to_owned(), measured, begun, at_start, halted: None });
        self.current.store(stages.len() - 1, Ordering::Relaxed);
        let micros = begun.saturating_duration_since(self.started).as_micros();
        self.begun.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.halted.store(u64::MAX, Ordering::Relaxed);
    }

    /// The stage during which something was due.
    fn stage_of(&self, due: Instant) -> Option<usize> {
        let stages = lock(&self.stages);
        let (index, stage) = stages.iter().enumerate().rev().find(|(_, stage)| stage.begun <= due)?;
        stage.halted.as_ref().is_none_or(|(at, _)| due <= *at).then_some(index)
    }

    /// Nothing more is sent. Counting ends here; answers to what was sent are still timed as part of the stage.
    pub(crate) fn halt(&self) {
        let totals = self.totals();
        if let Some(stage) = lock(&self.stages).last_mut() {
            let (at, _) = stage.halted.get_or_insert((Instant::now(), totals));
            let micros = at.saturating_duration_since(self.started).as_micros();
            self.halted.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The name of the stage, and whether it is measured.
    pub(crate) fn stage(&self) -> (String, bool) {
        lock(&self.stages).last().map(|stage| (stage.name.clone(), stage.measured)).unwrap_or_default()
    }

    pub(crate) fn total(&self, count: Count) -> u64 {
        self.shards.iter().filter_map(|shard| shard.counts.get(count as usize)).map(|n| n.load(Ordering::Relaxed)).sum()
    }

    fn totals(&self) -> Vec<u64> {
        Count::ALL.iter().map(|count| self.total(*count)).collect()
    }

    /// A rule was broken.
    pub(crate) fn broken(&self, rule: impl Into<String>) {
        let mut broken = lock(&self.broken);
        broken.0 += 1;
        if broken.1.len() < KEPT {
            let rule = rule.into();
            if self.aloud.load(Ordering::Relaxed) {
                eprintln!("VIOLATION after {:.1} s: {rule}", self.started.elapsed().as_secs_f64());
            }
            broken.1.push(rule);
        }
    }

    /// Broken rules are told at once from now on, for runs that take long.
    pub(crate) fn speak_up(&self) {
        self.aloud.store(true, Ordering::Relaxed);
    }

    /// How many rules were broken, and the first of them.
    pub(crate) fn violations(&self) -> (u64, Vec<String>) {
        lock(&self.broken).clone()
    }

    /// A percentile of the stage that runs, in microseconds; for the live progress.
    pub(crate) fn live(&self, timing: Timing, quantile: f64) -> Option<u64> {
        let stage = self.current.load(Ordering::Relaxed);
        self.merged(stage, timing).map(|histogram| histogram.value_at_quantile(quantile))
    }

    /// The p99 of something in the stage of this name.
    pub(crate) fn p99_of(&self, stage: &str, timing: Timing) -> Option<Duration> {
        let stage = lock(&self.stages).iter().rposition(|known| known.name == stage)?;
        self.merged(stage, timing).map(|histogram| Duration::from_micros(histogram.value_at_quantile(0.99)))
    }

    fn merged(&self, stage: usize, timing: Timing) -> Option<Histogram<u64>> {
        let mut merged: Option<Histogram<u64>> = None;
        for shard in &self.shards {
            let timings = lock(&shard.timings);
            let Some(part) = timings.get(&(stage, timing)) else { continue };
            match &mut merged {
                // They all have the same bounds, so adding cannot fail.
                Some(merged) => merged.add(part).unwrap_or_default(),
                None => merged = Some(part.clone()),
            }
        }
        merged
    }

    /// The figures of every measured stage.
    pub(crate) fn outcome(&self) -> Vec<StageOutcome> {
        self.halt();
        let stages = lock(&self.stages);
        let measured = stages.iter().enumerate().filter(|(_, stage)| stage.measured);
        measured.map(|(index, stage)| self.stage_outcome(index, stage)).collect()
    }

    fn stage_outcome(&self, index: usize, stage: &Stage) -> StageOutcome {
        let (halted, at_end) = stage.halted.clone().unwrap_or_else(|| (Instant::now(), self.totals()));
        let counted = Count::ALL.iter().zip(stage.at_start.iter().zip(&at_end));
        let counts = counted.map(|(count, (before, after))| (count.name().to_owned(), after.saturating_sub(*before)));
        let timed = Timing::ALL.iter().filter_map(|timing| {
            self.merged(index, *timing).map(|histogram| (timing.name().to_owned(), Distribution::of(&histogram)))
        });
        StageOutcome {
            name: stage.name.clone(),
            seconds: halted.duration_since(stage.begun).as_secs_f64(),
            counts: counts.filter(|(_, count)| *count > 0).collect(),
            timings: timed.collect(),
        }
    }
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_belongs_to_the_stage_in_which_it_was_due() {
        let recorder = Recorder::new();
        let tally = recorder.tally(0);
        recorder.begin("attack");
        tokio::time::advance(Duration::from_secs(1)).await;
        let due = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        recorder.halt();
        let between = Instant::now() + Duration::from_millis(500);
        tokio::time::advance(Duration::from_secs(1)).await;
        recorder.begin("quiet");
        tokio::time::advance(Duration::from_secs(1)).await;
        tally.time_since(Timing::Delivery, due);
        tally.time_since(Timing::Delivery, between);

        let outcome = recorder.outcome();
        let counts: Vec<_> =
            outcome.iter().map(|stage| stage.timings.get("delivery").map(|timing| timing.count)).collect();
        assert_eq!(counts, [Some(1), None]);
        assert!(outcome[0].timings["delivery"].max >= 3_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_has_what_happened_in_it_and_nothing_of_the_warm_up() {
        let recorder = Recorder::new();
        let (one, other) = (recorder.tally(0), recorder.tally(1));
        one.count(Count::Acknowledged);
        one.time(Timing::Acknowledgement, Duration::from_secs(9));
        recorder.begin("measured");
        for _ in 0..50 {
            one.count(Count::Acknowledged);
            one.time(Timing::Acknowledgement, Duration::from_micros(100));
            other.time(Timing::Acknowledgement, Duration::from_micros(300));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        recorder.halt();
        tokio::time::advance(Duration::from_secs(7)).await;
        // A late answer: timed, and not counted.
        other.count(Count::Acknowledged);
        other.time(Timing::Acknowledgement, Duration::from_secs(1));

        let outcome = recorder.outcome();
        let [stage] = outcome.as_slice() else { panic!("{} stages", outcome.len()) };
        assert!((stage.seconds - 2.0).abs() < 1e-9);
        assert_eq!(stage.counts["messages acknowledged"], 50);
        let latency = &stage.timings["acknowledgement"];
        assert_eq!((latency.count, latency.p50, latency.p90), (101, 300, 300));
        assert!(latency.max >= 1_000_000);
    }
}
