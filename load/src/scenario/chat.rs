//! Members talk, in pairs or in many conversations.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::Instant,
};

use super::{
    Common, Compare, Run, Scenario,
    graph::Graph,
    nodes::{Nodes, Placement},
    talk::{Audited, Part, Preload, Said, Talk},
    talker::Talker,
};
use crate::{
    herd::Herd,
    link::Opening,
    pace::Pacer,
    recorder::Count,
    server::Server,
    target::Target,
    trial::{Against, Needs, Stored, Trial},
};

/// Those who connect at the same time at the beginning.
const DOORS: usize = 128;
/// How long everybody may take to hear the rest after the last message.
const DRAIN: Duration = Duration::from_secs(60);
/// What is read again after a run for a time.
const AUDITED: Audited = Audited { entries: 500, conversations: 20 };
/// The same after a run for a number of messages.
const ALL: Audited = Audited { entries: u64::MAX, conversations: usize::MAX };

/// Members talk, in pairs or in many conversations, as fast as they get answers or at a given rate, and check every rule.
#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Several running nodes of one club instead of --url: each member connects to one of them, and to another one each time
    /// they come back.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["spawn", "url", "compare"])]
    pub(crate) urls: Vec<String>,
    #[command(flatten)]
    pub(crate) talk: TalkOptions,
    /// Talk until so many messages are through, instead of for a time; then read all of them again.
    #[arg(long, conflicts_with = "preload")]
    pub(crate) messages: Option<u64>,
    /// With --spawn and --messages: kill the server with SIGKILL this often while they talk, and start it again.
    #[arg(long, default_value_t = 0, requires = "spawn", requires = "messages")]
    pub(crate) kills: u32,
    /// How long a client tries to come back to a server that is gone, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) patience: u64,
    /// Idle connections beside those who talk.
    #[arg(long, default_value_t = 0)]
    pub(crate) idle: usize,
    /// With --spawn: messages that are in the store before.
    #[arg(long, default_value_t = 0, requires = "spawn")]
    pub(crate) stored: u64,
    /// Run against the bare relay too, before the server in every round, and print the ratio.
    #[arg(long)]
    pub(crate) compare: Option<Compare>,
}

/// How members talk.
#[derive(Args, Clone)]
pub(crate) struct TalkOptions {
    /// Pairs of members.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pairs: u32,
    /// Members; every two of them are a pair. Another way to say --pairs.
    #[arg(long, conflicts_with = "pairs", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) members: Option<u32>,
    /// Conversations of all members together, each message in one that its sender draws at random; at least as many as pairs.
    /// There are more members when these have not so many pairs: 634 for 200,000. [default: one for each pair]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) conversations: Option<u32>,
    /// Closed loop: messages of one member that are on their way at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) window: u32,
    /// Open loop: messages a second of all members together, sent when they are due whatever the server does.
    #[arg(long, conflicts_with = "window")]
    pub(crate) rate: Option<f64>,
    /// Every message is said to be delivered and read.
    #[arg(long)]
    pub(crate) receipts: bool,
    /// Characters of a message.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(24..=4000))]
    pub(crate) size: u32,
    /// Connections dropped on purpose, in a thousand frames.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) drops: f64,
    /// Messages like those measured, sent before the measurement and its warm-up with a window of 16: what is measured then
    /// is a server in its steady state.
    #[arg(long, default_value_t = 0)]
    pub(crate) preload: u64,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warm_up: f64,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Each member has an address in a network of its own, as members at home have: limits by address do not add up.
    #[arg(skip)]
    pub(crate) apart: bool,
}

impl Default for TalkOptions {
    fn default() -> Self {
        Self {
            pairs: 25,
            members: None,
            conversations: None,
            window: 1,
            rate: None,
            receipts: false,
            size: 200,
            drops: 0.0,
            preload: 0,
            warm_up: 2.0,
            seconds: 10.0,
            apart: false,
        }
    }
}

impl TalkOptions {
    /// Who talks with whom.
    pub(crate) fn graph(&self) -> Graph {
        let number = |number: u32| usize::try_from(number).unwrap_or_default();
        Graph::new(number(self.members.map_or(self.pairs, |members| members / 2)), self.conversations.map(number))
    }

    /// How many members talk.
    pub(crate) fn members(&self) -> usize {
        self.graph().members()
    }
}

impl Options {
    /// Members are registered over the first of several nodes.
    pub(crate) fn over_the_first(mut self) -> Self {
        if let Some(first) = self.urls.first() {
            self.common.place.url.clone_from(first);
        }
        self
    }

    /// Nothing but talk.
    pub(crate) fn new(common: Common, talk: TalkOptions) -> Self {
        Self {
            common,
            urls: Vec::new(),
            talk,
            messages: None,
            kills: 0,
            patience: 60,
            compare: None,
            idle: 0,
            stored: 0,
        }
    }
}

impl Scenario for Options {
    const NAME: &'static str = "chat";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        // Stored messages are in the conversations that were asked for. Without that most of them are of a thousand further pairs.
        let among = self.talk.conversations.map(|_| self.talk.graph());
        let others = if self.stored > 0 && among.is_none() { 2_000 } else { 0 };
        let members = self.talk.members() + self.idle + others;
        let messages = Stored { count: self.stored, size: 200, among };
        Needs { members, messages, ..Needs::default() }
    }

    fn runs(&self) -> Vec<Run> {
        let run = |against| Run { against, needs: self.needs(), label: None };
        match self.compare {
            Some(Compare::Baseline) => vec![run(Against::Relay { fsync: true }), run(Against::Server)],
            None => vec![run(Against::Server)],
        }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        for url in &self.urls {
            trial.nodes.push(Target::at(url).await?.addr);
        }
        let mut herd = Herd::new(Arc::clone(&trial.recorder), trial.target.addr, 0);
        if self.idle > 0 && trial.against == Against::Server {
            let idle = trial.accounts.split_off(trial.accounts.len().saturating_sub(self.idle));
            herd.open(idle).await;
        }
        if self.messages.is_some() {
            // They begin as soon as all are there.
            trial.recorder.begin("talk");
        }
        let crowd = Crowd::gather(&self.talk, trial, self.messages, Duration::from_secs(self.patience)).await?;
        match self.messages {
            Some(messages) => {
                let server = trial.server.clone();
                let killing = server.map(|server| tokio::spawn(kill(server, crowd.talk(), self.kills, messages)));
                let done = crowd.finish(trial, Duration::from_secs(self.common.timeout)).await;
                if let Some(killing) = killing {
                    let kills = killing.await.map_err(|error| error.to_string())??;
                    trial.figure("servers killed and started again", f64::from(kills), "");
                }
                done
            }
            None => {
                trial.warm_up(Duration::from_secs_f64(self.talk.warm_up)).await;
                trial.measure("talk", Duration::from_secs_f64(self.talk.seconds)).await;
                crowd.finish(trial, DRAIN).await
            }
        }
    }
}

/// Members who talk.
pub(crate) struct Crowd {
    talk: Arc<Talk>,
    talkers: JoinSet<Result<(), String>>,
    pacer: Option<Pacer>,
    messages: Option<u64>,
}

impl Crowd {
    /// Connects the first members of the trial and lets them talk; `messages`: so many together, and no more.
    pub(crate) async fn gather(
        options: &TalkOptions,
        trial: &mut Trial,
        messages: Option<u64>,
        patience: Duration,
    ) -> Result<Self, String> {
        let graph = options.graph();
        if options.conversations.is_some_and(|asked| usize::try_from(asked) != Ok(graph.conversations())) {
            return Err(format!("--conversations: there are {} pairs of members", graph.conversations()));
        }
        let accounts: Vec<_> = trial.accounts.drain(..graph.members().min(trial.accounts.len())).collect();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        for (name, number) in [("members who talk", accounts.len()), ("their conversations", graph.conversations())] {
            trial.figure(name, number as f64, "");
        }
        let with_protocol = trial.against.speaks();
        let talk = Arc::new(Talk {
            recorder: Arc::clone(&trial.recorder),
            target: with_protocol.then(|| trial.target.clone()),
            opening: Opening::new(trial.target.addr),
            nodes: if trial.nodes.is_empty() {
                Nodes::new(&[trial.target.addr], Placement::Hopping)
            } else {
                Nodes::new(&trial.nodes, trial.placement)
            },
            // What is behind an address of others may be several nodes.
            alone: trial.server.is_some() || !with_protocol,
            window: usize::try_from(options.window).map_err(|error| error.to_string())?,
            size: usize::try_from(options.size).map_err(|error| error.to_string())?,
            client_ids: trial.client_ids,
            receipts: options.receipts && with_protocol,
            drops_per_million: if with_protocol { per_million(options.drops) } else { 0 },
            patience,
            audited: if messages.is_some() || trial.nodes.len() > 1 { ALL } else { AUDITED },
            started: trial.started,
            start: Barrier::new(accounts.len() + 1),
            doors: Semaphore::new(DOORS),
            cut: OnceLock::new(),
            look: Duration::from_millis(20 + accounts.len() as u64 / 20),
            stop: AtomicBool::new(false),
            preload: Preload::new(options.preload),
            said: Said::nothing(accounts.len(), graph.conversations()),
        });
        let (mut pacer, mut due) = match options.rate {
            Some(rate) => {
                let (pacer, due) = Pacer::prepare(rate, accounts.len(), trial.seed, Arc::clone(&trial.recorder))?;
                (Some(pacer), due)
            }
            None => (None, Vec::new()),
        };
        let share = |number: u64| {
            let members = accounts.len() as u64;
            messages.map(|messages| messages / members + u64::from(number < messages % members))
        };
        let mut talkers = JoinSet::new();
        for (member, (account, mine)) in accounts.iter().zip(graph.acquaintances()).enumerate() {
            let others = mine.into_iter().filter_map(|who| Some((who, accounts.get(who.other)?.id)));
            let part = Part {
                account: account.clone(),
                member,
                others: others.collect(),
                quota: share(member as u64),
                due: due.pop(),
                seed: trial.seed.wrapping_add(member as u64),
                from: options.apart.then(|| homes(member)).flatten(),
            };
            talkers.spawn(Talker::new(Arc::clone(&talk), part).run());
        }
        // Somebody who cannot connect would keep all the others waiting.
        tokio::select! {
            _ = talk.start.wait() => {}
            Some(ended) = talkers.join_next() => {
                return Err(ended.map_err(|error| error.to_string())?.err().unwrap_or_default());
            }
        }
        preloaded(options.preload, trial).await;
        if let Some(pacer) = &mut pacer {
            pacer.begin();
        }
        Ok(Self { talk, talkers, pacer, messages })
    }

    pub(crate) fn talk(&self) -> Arc<Talk> {
        Arc::clone(&self.talk)
    }

    /// All connections are cut at once: now and here, or by somebody else. Everybody comes back after a random time up to
    /// `spread`.
    pub(crate) async fn cut(&self, spread: Duration, here: bool) {
        let _ = self.talk.cut.set((Instant::now(), spread));
        if let Some(pacer) = self.pacer.as_ref().filter(|_| here) {
            pacer.cut().await;
        }
    }

    /// Nobody begins anything new; waits until everything is heard, checked and read again.
    pub(crate) async fn finish(mut self, trial: &Trial, patience: Duration) -> Result<(), String> {
        // In this order: who finds no orders any more, must know that this is the end.
        self.talk.stop.store(self.messages.is_none(), Ordering::Relaxed);
        drop(self.pacer);
        let started = Instant::now();
        let recorder = &trial.recorder;
        let finished = tokio::time::timeout(patience, async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            let mut shown = started;
            loop {
                tokio::select! {
                    talker = self.talkers.join_next() => match talker {
                        None => break,
                        Some(Ok(Ok(()))) => {}
                        Some(Ok(Err(problem))) => recorder.broken(problem),
                        Some(Err(error)) => recorder.broken(format!("a client panicked: {error}")),
                    },
                    _ = look.tick() => {
                        // Reading it all again is not part of the measurement.
                        if self.messages.is_some_and(|messages| recorder.total(Count::Acknowledged) >= messages) {
                            recorder.halt();
                        }
                        if self.messages.is_some() && shown.elapsed() > Duration::from_secs(2) {
                            eprintln!("{}", trial.line("talk", started.elapsed(), patience));
                            shown = Instant::now();
                        }
                    }
                }
            }
        });
        if finished.await.is_err() {
            recorder.broken(format!("{} clients were not done in time", self.talkers.len()));
        }
        self.talk.stop.store(true, Ordering::Relaxed);
        if self.talk.nodes.is_fleet() {
            trial.judge(self.talk.nodes.verdict());
        }
        Ok(())
    }
}

/// Waits until the messages before the measurement are acknowledged. The timeout of the run is how long that may take.
async fn preloaded(messages: u64, trial: &Trial) {
    let (started, mut shown) = (Instant::now(), Instant::now());
    loop {
        let acknowledged = trial.recorder.total(Count::Acknowledged);
        if acknowledged >= messages {
            break;
        }
        if shown.elapsed() > Duration::from_secs(2) {
            eprintln!("before the measurement: {acknowledged} of {messages} messages");
            shown = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if messages > 0 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        trial.figure("messages before the measurement", messages as f64, "");
        trial.figure("that took", started.elapsed().as_secs_f64(), "s");
    }
}

/// An address of the loopback for each of up to 256 members, no two in one network.
fn homes(place: usize) -> Option<IpAddr> {
    u8::try_from(place).ok().map(|place| [127, 10, place, 1].into())
}

/// Kills the server whenever a further share of the messages is through.
async fn kill(server: Arc<Server>, talk: Arc<Talk>, kills: u32, messages: u64) -> Result<u32, String> {
    for number in 1..=kills {
        let due = messages * u64::from(number) / (u64::from(kills) + 1);
        while talk.recorder.total(Count::Acknowledged) < due {
            if talk.stop.load(Ordering::Relaxed) {
                return Ok(number - 1);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.kill_and_start()).await.map_err(|error| error.to_string())??;
    }
    Ok(kills)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
pub(crate) fn per_million(per_thousand: f64) -> u32 {
    (per_thousand * 1000.0).clamp(0.0, 1_000_000.0) as u32
}
