//! One run of a scenario: what it runs against, what it records, and what becomes of it.

use std::{
    io::IsTerminal as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::MemberId;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    book::Verdict,
    client_ids::ClientIds,
    peers::Peer,
    proc::{Sampler, Watched, machine},
    recorder::{Count, Recorder, Timing},
    report::{Figure, Machine, Outcome, attacks::AttackOutcome},
    scenario::{graph::Graph, nodes::Placement},
    seed::{Letters, Seed, joined},
    server::{Launch, Server},
    target::{Account, Target},
};

/// How often a line of progress is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Which server is put under load.
#[derive(Args, Clone)]
#[command(next_help_heading = "Server")]
pub(crate) struct Where {
    /// The server. Its rate limits have to allow what is asked of it.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,
    /// The process of that server, to sample its memory and processor time.
    #[arg(long, conflicts_with = "spawn")]
    pub(crate) pid: Option<u32>,
    /// Start a server of our own instead, on a throw-away store that is filled directly, without rate limits.
    #[arg(long)]
    pub(crate) spawn: bool,
    /// The server to start with --spawn. [default: members-book beside this program]
    #[arg(long, requires = "spawn")]
    pub(crate) binary: Option<PathBuf>,
    /// Where the data of the started server is, such as sqlite:/mnt/disk/load.db; other stores than SQLite are filled over
    /// REST. [default: a SQLite file in a throw-away folder]
    #[arg(long, requires = "spawn")]
    pub(crate) store: Option<String>,
    /// A setting of the started server, such as HEARTBEAT_INTERVAL=5s; can be repeated.
    #[arg(long = "set", requires = "spawn", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is needed")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What the run is put up against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// A Members Book server.
    Server,
    /// The bare relay, with or without a file that is synced.
    Relay { fsync: bool },
    /// A server that others have made and that does what the relay does.
    Peer(Peer),
    /// Nothing outside of this process.
    Nothing,
}

impl Against {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Relay { fsync: true } => "relay, fsynced",
            Self::Relay { fsync: false } => "relay, nothing stored",
            Self::Peer(peer) => peer.name(),
            Self::Nothing => "in process",
        }
    }

    /// Whether what has this name is there to be compared with.
    pub(crate) fn is_yardstick(name: &str) -> bool {
        let relays = [true, false].map(|fsync| Self::Relay { fsync });
        relays.into_iter().chain(Peer::ALL.map(Self::Peer)).any(|yardstick| yardstick.name() == name)
    }

    /// Whether it speaks the protocol; a relay and peers only pass frames on.
    pub(crate) const fn speaks(self) -> bool {
        matches!(self, Self::Server | Self::Nothing)
    }
}

/// What has to be there before a scenario runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    pub(crate) members: usize,
    /// Messages stored before; with --spawn only.
    pub(crate) messages: Stored,
    /// The bcrypt cost of the members' passwords, if it matters.
    pub(crate) bcrypt_cost: Option<u32>,
    /// How many of the last members are administrators; with --spawn only.
    pub(crate) administrators: usize,
    /// Further messages that are stored before, by who writes to whom; with --spawn only.
    pub(crate) letters: Vec<Letters>,
    /// The server has its default settings, limits included, and is one of our own.
    pub(crate) defaults: bool,
    /// Settings of the started server.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// Messages that are stored before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    pub(crate) count: u64,
    /// Characters of each.
    pub(crate) size: usize,
    /// The conversations that they are in. None: one of the members 0 and 1, one of 2 and 3, and so on.
    pub(crate) among: Option<Graph>,
}

/// One run of a scenario.
pub(crate) struct Trial {
    pub(crate) against: Against,
    pub(crate) target: Target,
    /// Where the nodes listen, if there are several; and how clients choose one.
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) placement: Placement,
    pub(crate) server: Option<Arc<Server>>,
    pub(crate) watched: Option<Watched>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) seed: u64,
    pub(crate) client_ids: ClientIds,
    pub(crate) started: Instant,
    at: String,
    machine: Machine,
    sampler: Sampler,
    figures: Mutex<Vec<Figure>>,
    attacks: Mutex<Vec<AttackOutcome>>,
}

impl Trial {
    /// Gets everything ready.
    pub(crate) async fn open(
        place: &Where,
        against: Against,
        needs: &Needs,
        seed: u64,
        client_ids: ClientIds,
    ) -> Result<Self, String> {
        let ready = match against {
            Against::Server if place.spawn => spawn(place, needs, seed, client_ids).await?,
            Against::Server if needs.defaults => {
                return Err("this is done to a server of our own only: give --spawn".to_owned());
            }
            Against::Server => {
                let target = Target::at(&place.url).await?;
                let accounts = register(&target, needs.members).await?;
                (target, None, accounts)
            }
            Against::Relay { fsync } => passing_on(needs, relay(fsync)?).await?,
            Against::Peer(peer) => passing_on(needs, peer.launch()?).await?,
            Against::Nothing => (Target::at("http://127.0.0.1:9").await?, None, Vec::new()),
        };
        Ok(Self::on(against, ready, place.pid, seed, client_ids))
    }

    /// A run on what is there already.
    pub(crate) fn on(
        against: Against,
        (target, server, accounts): Ready,
        pid: Option<u32>,
        seed: u64,
        client_ids: ClientIds,
    ) -> Self {
        let machine = machine();
        #[expect(clippy::disallowed_methods, reason = "this program has no injected clock")]
        let at = jiff::Timestamp::now().to_string();
        let watched = server.as_ref().map(|server| Watched::Ours(Arc::downgrade(server))).or(pid.map(Watched::Other));
        let recorder = Recorder::new();
        let sampler = Sampler::start(Arc::clone(&recorder), watched.clone());
        let (figures, attacks) = (Mutex::default(), Mutex::default());
        let started = Instant::now();
        Self {
            against,
            target,
            nodes: Vec::new(),
            placement: Placement::Hopping,
            server,
            watched,
            accounts,
            recorder,
            seed,
            client_ids,
            started,
            at,
            machine,
            sampler,
            figures,
            attacks,
        }
    }

    /// Notes what comparing all views with the log has found.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn judge(&self, verdict: Verdict) {
        let Verdict { lost, doubled, holes, missing, passed } = verdict;
        self.figure("entries of a view that the log has not", lost as f64, "");
        self.figure("messages that are in the log twice", doubled as f64, "");
        self.figure("holes in the log", holes as f64, "");
        self.figure("entries of the log that are missing in a view", missing as f64, "");
        self.figure("entries that a cursor passed over", passed as f64, "");
    }

    /// Notes a figure that is not a latency.
    pub(crate) fn figure(&self, name: &str, value: f64, unit: &str) {
        let figure = Figure { name: name.to_owned(), value, unit: unit.to_owned() };
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).push(figure);
    }

    /// Notes what became of an attack.
    pub(crate) fn attack(&self, attack: AttackOutcome) {
        self.attacks.lock().unwrap_or_else(PoisonError::into_inner).push(attack);
    }

    /// The process under load.
    pub(crate) fn pid(&self) -> Result<u32, String> {
        let pid = self.watched.as_ref().and_then(Watched::pid);
        pid.ok_or_else(|| "which process is to be measured? Give --spawn or --pid".to_owned())
    }

    /// Lets time pass in a stage that is not measured.
    pub(crate) async fn warm_up(&self, time: Duration) {
        self.show("warm-up", time).await;
    }

    /// Lets time pass in a stage that is measured.
    pub(crate) async fn measure(&self, name: &str, time: Duration) {
        self.recorder.begin(name);
        self.show(name, time).await;
        self.recorder.halt();
    }

    /// Shows how it is going, for a while.
    async fn show(&self, name: &str, time: Duration) {
        let started = Instant::now();
        let bar = bar(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "{msg}");
        let every = if std::io::stderr().is_terminal() { Duration::from_millis(250) } else { LINE_EVERY };
        while started.elapsed() < time {
            tokio::time::sleep(every.min(time.saturating_sub(started.elapsed()))).await;
            let line = self.line(name, started.elapsed(), time);
            if bar.is_hidden() { eprintln!("{line}") } else { bar.set_message(line) }
        }
        bar.finish_and_clear();
    }

    /// How things stand, in one line.
    pub(crate) fn line(&self, name: &str, elapsed: Duration, of: Duration) -> String {
        let sample = self.sampler.latest().unwrap_or_default();
        let p99 = |timing| self.recorder.live(timing, 0.99).map(millis).unwrap_or_else(|| "-".into());
        let server = match (sample.server_cpu, sample.server_rss_kib) {
            (Some(cpu), Some(kib)) => format!("server {cpu:.2} cores {} MiB, ", kib / 1024),
            _ => String::new(),
        };
        let broken = self.recorder.violations().0;
        let broken = if broken > 0 { format!(", {broken} VIOLATIONS") } else { String::new() };
        format!(
            "{name} {:.0}/{:.0} s: {:.0} messages/s, p99 ack {} delivery {} ms, {server}client {:.2} cores{broken}",
            elapsed.as_secs_f64(),
            of.as_secs_f64(),
            sample.messages,
            p99(Timing::Acknowledgement),
            p99(Timing::Delivery),
            sample.client_cpu,
        )
    }

    /// What became of it.
    pub(crate) fn finish(self, scenario: &str, label: String, case: Option<String>) -> Outcome {
        let unsent = self.recorder.total(Count::Unsent);
        if unsent > 0 {
            eprintln!("the clients were too slow for {unsent} sends: the rate was not reached, and not by the server");
        }
        let stages = self.recorder.outcome();
        let (violations, broken) = self.recorder.violations();
        Outcome {
            scenario: scenario.to_owned(),
            label,
            case,
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            at: self.at,
            seed: self.seed,
            client_ids: Some(self.client_ids),
            machine: self.machine,
            stages,
            figures: self.figures.into_inner().unwrap_or_else(PoisonError::into_inner),
            samples: self.sampler.stop(),
            violations,
            broken,
            attacks: self.attacks.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

pub(crate) type Ready = (Target, Option<Arc<Server>>, Vec<Account>);

/// Starts a server on a store that is filled before.
async fn spawn(place: &Where, needs: &Needs, seed: u64, client_ids: ClientIds) -> Result<Ready, String> {
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut settings = vec![("JWT_SECRET".to_owned(), secret.clone())];
    settings.extend(needs.bcrypt_cost.map(|cost| ("BCRYPT_COST".to_owned(), cost.to_string())));
    settings.extend(place.store.iter().map(|url| ("DATABASE_URL".to_owned(), url.clone())));
    settings.extend(needs.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    settings.extend(place.settings.iter().cloned());
    let (binary, defaults) = (place.binary.clone(), needs.defaults);
    let server = Server::prepare(Launch { binary, arguments: Vec::new(), settings, defaults, logs: false })?;
    let path = match place.store.as_deref() {
        None => Some(server.database()),
        Some(url) => url.strip_prefix("sqlite:").map(PathBuf::from),
    };
    let accounts = match path {
        Some(path) => {
            let mut seed = Seed::open(path, &secret, client_ids, seed)?;
            let bar = bar(needs.members as u64, "members {bar:40} {pos}/{len} {per_sec}");
            let (cost, administrators) = (needs.bcrypt_cost.unwrap_or(4), needs.administrators);
            let accounts = seed.members(needs.members, administrators, cost, || bar.inc(1)).await?;
            bar.finish_and_clear();
            let messages = needs.messages;
            if messages.count > 0 {
                let bar = self::bar(messages.count, "messages {bar:40} {pos}/{len} {per_sec} {eta}");
                seed.messages(&accounts, messages, |more| bar.inc(more)).await?;
                bar.finish_and_clear();
            }
            seed.letters(&accounts, &needs.letters).await?;
            seed.close().await;
            Some(accounts)
        }
        None if needs.defaults => return Err("its store is filled before, which can be SQLite only".to_owned()),
        None => None,
    };
    server.start()?;
    let target = Target::at(&server.url()).await?;
    let accounts = match accounts {
        Some(accounts) => accounts,
        None => register(&target, needs.members).await?,
    };
    Ok((target, Some(server), accounts))
}

/// How the relay is started.
fn relay(fsync: bool) -> Result<Launch, String> {
    let binary = Some(std::env::current_exe().map_err(|error| error.to_string())?);
    let mut arguments = vec!["relay".to_owned()];
    if fsync {
        arguments.extend(["--fsync".to_owned(), "relay.log".to_owned()]);
    }
    Ok(Launch { binary, arguments, settings: Vec::new(), defaults: false, logs: false })
}

/// Starts what passes frames on. Its clients need no accounts, only names.
async fn passing_on(needs: &Needs, launch: Launch) -> Result<Ready, String> {
    let server = Server::prepare(launch)?;
    server.start()?;
    let account = |number: usize| {
        let mut id = [0; 12];
        id.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        let (token, email) = (String::new(), String::new());
        Account { id: MemberId::from_bytes(id), token, refresh: None, email }
    };
    Ok((Target::at(&server.url()).await?, Some(server), (0..needs.members).map(account).collect()))
}

/// Registers members over REST, a few at a time.
pub(crate) async fn register(target: &Target, count: usize) -> Result<Vec<Account>, String> {
    eprintln!("registering {count} members …");
    let bar = bar(count as u64, "registering members {bar:40} {pos}/{len} {per_sec}");
    let mut accounts = Vec::with_capacity(count);
    let mut registering = JoinSet::new();
    for number in 0..count {
        if registering.len() >= 8 {
            accounts.extend(joined(registering.join_next().await)?);
            bar.inc(1);
        }
        let target = target.clone();
        registering.spawn(async move { target.register(&format!("Load {number}")).await });
    }
    while let Some(account) = registering.join_next().await {
        accounts.extend(joined(Some(account))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(accounts)
}

/// A progress bar; hidden where there is no terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Microseconds as milliseconds, for people.
pub(crate) fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}
