//! Messages are pushed to devices that do not say that they have them: to those, to nobody else, and once, whatever fails meanwhile.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`world`] | what everybody shares |
//! | [`desk`] | members who write and read |
//! | [`phone`] | their devices, which acknowledge, freeze, vanish, come back, are logged out and are given away |
//! | [`faults`] | the server and its database are killed, and push services fail |
//! | [`compare`] | what live chat costs with push and without |

mod compare;
mod desk;
mod faults;
mod phone;
mod world;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use self::{desk::Desk, phone::Phone, world::World};
use super::{Common, conclude};
use crate::{
    fleet::{self, companion::Companion},
    push::{
        expo::Expo,
        facts::Ledger,
        judge::{Case, Rules},
        web::Web,
    },
    recorder::{Count, Timing},
    server::{Launch, Server},
    target::Target,
    trial::{Against, Trial, register},
};

/// How long things may be late after something was down: until a lease is over, and what was put off is due.
const RECOVERY: Duration = Duration::from_secs(45);

/// Members talk whose devices acknowledge, freeze, vanish, come back, are logged out and are given away, against push services of our own
/// that fail, and a server that is killed. Checks every push.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Members who talk, each with two others.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=2_000))]
    members: u32,
    /// Devices of each that are registered for pushes; the third is a browser.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=4))]
    devices: u32,
    /// Messages a second of all members together.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Seconds in which they talk.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds after that in which everything has to be pushed that is to be.
    #[arg(long, default_value_t = 150.0)]
    drain: f64,
    /// The share of requests that push services fail.
    #[arg(long, default_value_t = 0.0)]
    failing: f64,
    /// How often push services take nothing for a while.
    #[arg(long, default_value_t = 0)]
    outages: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 20.0)]
    outage_time: f64,
    /// How often the server is killed with SIGKILL, and started again.
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// How often the database is, with a database of our own.
    #[arg(long, default_value_t = 0)]
    database_kills: u32,
    /// A MongoDB of our own instead of SQLite (mongod, or SecantusDB as tests/run.sh installs it).
    #[arg(long)]
    mongodb: bool,
    /// The Python of SecantusDB.
    #[arg(long, default_value = "target/test-database/bin/python")]
    python: PathBuf,
    /// PUSH_TTL, in seconds.
    #[arg(long, default_value_t = 14_400)]
    ttl: u64,
    /// How long before it arrives at its service a push may have been made, in seconds: longer on a slow machine.
    #[arg(long, default_value_t = 3.0)]
    slack: f64,
    /// Instead: what live chat between devices that acknowledge costs with push and without, in turns.
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    talk: compare::Options,
}

/// Runs it and reports. True if no rule was broken.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    if options.compare {
        return compare::run(&options.common, &options.talk).await;
    }
    let seed = options.common.seed();
    let ledger = Arc::new(Ledger::default());
    let (expo, url) = Expo::start(Arc::clone(&ledger), seed).await?;
    let web = Web::start(Arc::clone(&ledger), seed + 1, options.ttl).await?;
    let database = match options.mongodb {
        true => Some(fleet::database(&options.python, false).await?),
        false if options.database_kills > 0 => return Err("--database-kills needs --mongodb".to_owned()),
        false => None,
    };
    let server = server(options, &url, database.as_ref().map(|(_, url)| url.clone()))?;
    fleet::start(&server).await?;
    let target = Target::at(&server.url()).await?;
    let accounts = register(&target, usize::try_from(options.members).unwrap_or_default()).await?;
    let trial = Trial::on(
        Against::Server,
        (target, Some(Arc::clone(&server)), accounts),
        None,
        seed,
        options.common.client_ids,
    );
    println!("push against server ({}), seed {seed}", trial.target.addr);
    let running =
        Running { options, trial, ledger, expo, web, server, database: database.map(|(database, _)| database) };
    let label = if options.mongodb { "MongoDB" } else { "SQLite" };
    let trial = running.run().await?;
    conclude(&options.common.out, "push", &[trial.finish("push", label.to_owned(), None)])
}

/// A server that pushes over our services.
fn server(options: &Options, expo: &str, store: Option<String>) -> Result<Arc<Server>, String> {
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let place = &options.common.place;
    let mut settings = vec![
        ("JWT_SECRET".to_owned(), secret),
        ("PUSH_EXPO_URL".to_owned(), expo.to_owned()),
        ("PUSH_CONTACT".to_owned(), "mailto:load@example.com".to_owned()),
        ("PUSH_ALLOW_PRIVATE".to_owned(), "on".to_owned()),
        ("PUSH_TTL".to_owned(), format!("{}s", options.ttl)),
    ];
    settings.extend(store.map(|url| ("DATABASE_URL".to_owned(), url)));
    settings.extend(place.settings.iter().cloned());
    let (binary, arguments) = (place.binary.clone(), Vec::new());
    Server::prepare(Launch { binary, arguments, settings, defaults: false, logs: false })
}

/// A run.
struct Running<'a> {
    options: &'a Options,
    trial: Trial,
    ledger: Arc<Ledger>,
    expo: Arc<Expo>,
    web: Arc<Web>,
    server: Arc<Server>,
    database: Option<Companion>,
}

impl Running<'_> {
    async fn run(self) -> Result<Trial, String> {
        let (options, trial) = (self.options, &self.trial);
        let club = trial.accounts.first().ok_or("no members")?;
        let club = trial.target.get(club, "/api/club").await?.unwrap_or_default();
        let key = club.pointer("/push/web_key").and_then(serde_json::Value::as_str);
        let _ = self.web.signed_by.set(key.ok_or("the server pushes nothing to browsers")?.to_owned());
        self.ledger.lock().members = trial.accounts.iter().map(|account| account.id).collect();
        let each = usize::try_from(options.devices).unwrap_or(1);
        let (target, accounts) = (trial.target.clone(), trial.accounts.clone());
        let world = World::new(target, Arc::clone(&self.ledger), Arc::clone(&self.web), accounts, each);
        let world = Arc::new(world);
        let mut everybody = self.gather(&world).await?;
        for mood in [&self.expo.mood, &self.web.mood] {
            mood.fail(u64::from(super::chat::per_million(options.failing * 1_000.0)));
        }
        let faults = self.faults();
        tokio::select! {
            () = trial.measure("push", Duration::from_secs_f64(options.seconds)) => {}
            Some(ended) = everybody.join_next() => {
                return Err(ended.map_err(|error| error.to_string())?.err().unwrap_or_default());
            }
            Err(problem) = faults => return Err(problem),
        }
        world.stop.store(true, Ordering::Relaxed);
        for mood in [&self.expo.mood, &self.web.mood] {
            mood.fail(0);
            mood.go_down(false);
        }
        let mut facts = self.ledger.lock();
        crate::push::facts::Facts::over(&mut facts.outages);
        drop(facts);
        while let Some(ended) = everybody.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        self.drain().await;
        self.report();
        Ok(self.trial)
    }

    /// Registers everybody's devices, and lets them live.
    async fn gather(&self, world: &Arc<World>) -> Result<JoinSet<Result<(), String>>, String> {
        let (trial, members) = (&self.trial, world.accounts.len());
        let mut phones = Vec::new();
        for number in 0..members * world.each {
            let seed = trial.seed.wrapping_mul(31).wrapping_add(number as u64);
            phones.push(Phone::new(Arc::clone(world), number, trial.recorder.tally(number), seed).await?);
        }
        let mut everybody = JoinSet::new();
        for phone in phones {
            everybody.spawn(phone.run());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let pause = Duration::from_secs_f64(members as f64 / self.options.rate.max(0.01));
        for member in 0..members {
            let others = vec![(member + 1) % members, (member + members - 1) % members];
            let (seed, tally) = (trial.seed.wrapping_add(member as u64), trial.recorder.tally(member));
            everybody.spawn(Desk::new(Arc::clone(world), member, others, pause, tally, seed).run());
        }
        Ok(everybody)
    }

    fn rules(&self) -> Rules {
        let (slack, ttl) = (Duration::from_secs_f64(self.options.slack), Duration::from_secs(self.options.ttl));
        Rules { slack, ttl, recovery: RECOVERY }
    }

    /// Waits until everything is pushed that has to be.
    async fn drain(&self) {
        let (begun, drain) = (Instant::now(), Duration::from_secs_f64(self.options.drain));
        let mut shown = begun;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = Instant::now();
            let waiting = Case::new(&self.ledger.lock(), self.rules()).owed(now).1;
            // What was sent last is not due before.
            let is_over = begun.elapsed() > Duration::from_secs(11) && waiting == 0;
            if is_over || begun.elapsed() > drain {
                self.trial.figure("until all was pushed", begun.elapsed().as_secs_f64(), "s");
                if waiting > 0 {
                    self.trial.recorder.broken(format!("{waiting} messages were not pushed in the end"));
                }
                return;
            }
            if shown.elapsed() > Duration::from_secs(5) {
                eprintln!("to be pushed: {waiting}");
                shown = now;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn report(&self) {
        let (trial, facts) = (&self.trial, self.ledger.lock());
        let case = Case::new(&facts, self.rules());
        case.broken().into_iter().chain(case.owed(Instant::now()).0).for_each(|rule| trial.recorder.broken(rule));
        let tally = trial.recorder.tally(0);
        for (latency, is_late) in case.latencies() {
            tally.time(if is_late { Timing::PushedLate } else { Timing::Pushed }, latency);
        }
        tally.add(Count::PushesSent, facts.pushes.len() as u64);
        tally.add(Count::PushesTaken, facts.pushes.iter().filter(|push| push.taken.is_some()).count() as u64);
        let requests = self.expo.requests();
        let badges = facts.pushes.iter().filter(|push| push.notice.is_none()).count();
        let figures = [
            ("requests to Expo", requests.len()),
            ("most messages in one", requests.into_iter().max().unwrap_or_default()),
            ("pushes of a badge alone", badges),
            ("pushes", facts.pushes.len()),
            ("pushes taken", facts.pushes.iter().filter(|push| push.taken.is_some()).count()),
            ("registrations", facts.registrations.len()),
            ("crashes", facts.crashes.len()),
        ];
        for (name, value) in figures {
            trial.figure(name, value as f64, "");
        }
    }
}
