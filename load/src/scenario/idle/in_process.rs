//! The server in this process, and connections in memory: what a member costs without the kernel.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser as _;
use members_book::{
    app::{App, World},
    config::Cli,
};
use protocol::{ClientFrame, MemberId, SessionId, client::Ping, model::UserType};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{
    Options, Weighed,
    near::{Near, thread_cpu_seconds},
    pipe::{self, End},
    slope, talk,
};
use crate::{
    link::Link,
    proc::{cpu_seconds, resident_kib},
    recorder::{Count, Recorder, Timing},
    seed::Seed,
    trial::{Trial, bar},
    wire::{Wire, write_text},
};

/// Connections that are being opened at the same time.
const OPENING: usize = 256;
/// Connections beside which a message is measured first.
const FEW: usize = 100;
/// Looks at the memory while they are being opened.
const LOOKS: usize = 20;
/// How long the last answers may take.
const LAST: Duration = Duration::from_secs(2);
/// The name of the thread that plays the clients, by which its processor time is found.
const CLIENTS: &str = "heartbeats";

/// Opens as many connections as are asked for or there is memory for, and lets them beat.
pub(super) async fn run(options: &Options, trial: &Trial) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let database = folder.path().join("load.db");
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let seed = Seed::open(database.clone(), &secret, trial.client_ids, trial.seed)?;
    let n = usize::try_from(options.n).map_err(|error| error.to_string())?;
    let progress = bar(n as u64, "members {bar:40} {pos}/{len} {per_sec} {eta}");
    let members = seed.ids_of_members(n, UserType::Member, 4, || progress.inc(1)).await?;
    progress.finish_and_clear();
    seed.close().await;

    let app = Arc::new(start(options, &database, &secret).await?);
    let tokens = Tokens::new(&secret);
    let resident = || resident_kib(std::process::id()).ok_or("the memory of this process cannot be read");
    let empty = resident()?;
    trial.figure("resident memory without connections", kib(empty) / 1024.0, "MiB");
    let (few, rest) = members.split_at(FEW.min(n));
    let mut ends = open(&app, &tokens, few, &trial.recorder).await;
    let alone;
    (alone, ends) = talk::cost_of_a_message(ends, trial).await?;
    trial.figure(&format!("processor time of a message beside {} connections", few.len()), alone, "us");
    let (started, mut weighed, mut full) = (Instant::now(), Vec::new(), false);
    let step = n.div_ceil(LOOKS).max(1);
    for batch in rest.chunks(step) {
        ends.extend(open(&app, &tokens, batch, &trial.recorder).await);
        let now = resident()?;
        weighed.push(Weighed { connections: f64::from(u32::try_from(ends.len()).unwrap_or(u32::MAX)), kib: kib(now) });
        eprintln!("{} connections, {:.0} MiB", ends.len(), kib(now) / 1024.0);
        // The next step must fit too.
        if kib(now + (now - empty) * (step as u64) / (ends.len().max(1) as u64)) > options.memory * 1024.0 * 1024.0 {
            full = ends.len() < n;
            break;
        }
    }
    let opening = started.elapsed();
    tokio::time::sleep(Duration::from_secs_f64(options.settle)).await;
    if let (Some(last), Ok(now)) = (weighed.last_mut(), resident()) {
        last.kib = kib(now);
    }
    let connections = f64::from(u32::try_from(ends.len()).unwrap_or(u32::MAX));
    trial.figure("connections reached", connections, "");
    trial.figure("stopped by the memory limit", f64::from(u8::from(full)), "1: yes");
    trial.figure("connections opened a second", (connections - kib(few.len() as u64)) / opening.as_secs_f64(), "");
    let each = weighed.last().map_or(0.0, |last| (last.kib - kib(empty)) / connections.max(1.0));
    #[expect(clippy::cast_precision_loss, reason = "a hundred bytes or so")]
    let client = pipe::BYTES as f64 / 1024.0;
    trial.figure("resident memory of one connection, overall", each, "KiB");
    trial.figure("resident memory of one connection, slope", slope(&weighed).unwrap_or_default(), "KiB");
    trial.figure("of that the pipe that stands for the socket, at least", client, "KiB");
    let among_many;
    (among_many, ends) = talk::cost_of_a_message(ends, trial).await?;
    trial.figure("processor time of a message beside all of them", among_many, "us");
    trial.figure("that is, of the cost beside few", among_many / alone, "times");
    beat(options, trial, ends).await?;
    if let Ok(app) = Arc::try_unwrap(app) {
        app.stop().await;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn kib(kib: u64) -> f64 {
    kib as f64
}

async fn start(options: &Options, database: &std::path::Path, secret: &str) -> Result<App, String> {
    let database = format!("sqlite:{}", database.display());
    let settings = options.server_settings.iter().map(|setting| format!("--{setting}"));
    let arguments = ["members-book", "--port=0", "--metrics-addr=off", "--log=error", "--access-token-ttl=12h"];
    let rates = ["--rate-messages=0", "--rate-frames=0", "--rate-hellos-address=0"];
    let arguments = arguments.into_iter().chain(rates).map(str::to_owned);
    let own = [format!("--database-url={database}"), format!("--jwt-secret={secret}")];
    let cli = Cli::try_parse_from(arguments.chain(own).chain(settings)).map_err(|error| error.to_string())?;
    App::start(cli.settings, World::default()).await.map_err(|error| error.to_string())
}

/// Makes a token when it is needed: a million of them would take more room than the members.
struct Tokens {
    tokens: members_book::auth::AccessTokens,
}

impl Tokens {
    fn new(secret: &str) -> Self {
        let World { clock, entropy, .. } = World::default();
        let ids = Arc::new(members_book::ids::Ids::new(Arc::clone(&clock), entropy));
        Self { tokens: crate::seed::access_tokens(secret, &clock, &ids) }
    }

    fn issue(&self, member: MemberId, session: SessionId) -> Option<String> {
        self.tokens.issue(crate::seed::grant(member, session)).ok().map(|token| token.token)
    }
}

/// Opens connections; their clients' ends come back, without a task.
async fn open(
    app: &Arc<App>,
    tokens: &Tokens,
    members: &[(MemberId, SessionId)],
    recorder: &Arc<Recorder>,
) -> Vec<Near> {
    let places = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    let mut ends = Vec::with_capacity(members.len());
    for (number, (member, session)) in members.iter().enumerate() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        while let Some(opened) = opening.try_join_next() {
            ends.extend(opened.ok().flatten());
        }
        let (app, tally, member) = (Arc::clone(app), recorder.tally(number), *member);
        let token = tokens.issue(member, *session).unwrap_or_default();
        opening.spawn(async move {
            let _place = place;
            let began = Instant::now();
            let (server, client) = pipe::pair();
            app.serve(server, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
            match Link::sign_in(Wire::new(client, 512), &token, "load", None).await {
                Ok(link) => {
                    tally.count(Count::Connected);
                    tally.time(Timing::Sync, began.elapsed());
                    Some(Near { member, end: link.wire.into_stream() })
                }
                Err(ended) => {
                    tally.broken(format!("a connection: {ended}"));
                    None
                }
            }
        });
    }
    while let Some(opened) = opening.join_next().await {
        ends.extend(opened.ok().flatten());
    }
    ends
}

/// Lets everybody beat, one after the other and evenly over time, and looks at what that costs.
async fn beat(options: &Options, trial: &Trial, ends: Vec<Near>) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let beats = Arc::new(AtomicU64::new(0));
    let heartbeat = Duration::from_secs(30);
    let work = {
        let (stop, beats, recorder) = (Arc::clone(&stop), Arc::clone(&beats), Arc::clone(&trial.recorder));
        move || play(&ends, heartbeat, &stop, &beats, &recorder)
    };
    let clients =
        std::thread::Builder::new().name(CLIENTS.to_owned()).spawn(work).map_err(|error| error.to_string())?;
    let this = std::process::id();
    let spent = || Some((cpu_seconds(this)?, thread_cpu_seconds(CLIENTS)?));
    // Beyond the first heartbeat and the time that the server allows, so that a lost connection would be seen.
    trial.warm_up(Duration::from_secs(1)).await;
    let (before, started, beats_before) = (spent(), Instant::now(), beats.load(Ordering::Relaxed));
    trial.measure("heartbeats", Duration::from_secs_f64(options.hold)).await;
    let seconds = started.elapsed().as_secs_f64();
    if let (Some((all_before, clients_before)), Some((all, clients))) = (before, spent()) {
        let server = (all - all_before) - (clients - clients_before);
        let count = kib(beats.load(Ordering::Relaxed) - beats_before);
        trial.figure("heartbeats a second", count / seconds, "");
        trial.figure("processor time of heartbeats in the server", server / seconds * 100.0, "% of a core");
        trial.figure("processor time of one heartbeat in the server", server * 1e6 / count.max(1.0), "us");
        trial.figure("processor time of the clients", (clients - clients_before) / seconds * 100.0, "% of a core");
    }
    stop.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || clients.join()).await.map_err(|error| error.to_string())?.unwrap_or_default();
    Ok(())
}

/// The clients: each says its heartbeat once in so long, and has to have the answer by the next time, or by the end.
fn play(ends: &[Near], heartbeat: Duration, stop: &AtomicBool, beats: &AtomicU64, recorder: &Recorder) {
    let mut ping = bytes::BytesMut::new();
    write_text(&mut ping, &[&ClientFrame::Ping(Ping {}).encode(None)]);
    let started = Instant::now();
    let mut asked = vec![false; ends.len()];
    let say = |end: &End, asked: &mut bool, bytes: &[u8]| {
        let mut answered = false;
        let there = end.exchange(bytes, |bytes| {
            answered = String::from_utf8_lossy(bytes).contains(r#"{"type":"pong""#);
        });
        if !there || (*asked && !answered) {
            recorder.broken("a connection in memory did not answer a heartbeat");
        }
        *asked = !bytes.is_empty();
    };
    let pause = |wait: Duration| {
        #[expect(clippy::disallowed_methods, reason = "it is a thread of its own, and has nothing else to do")]
        std::thread::sleep(wait);
    };
    'rounds: for round in 0.. {
        for (number, (Near { end, .. }, asked)) in ends.iter().zip(&mut asked).enumerate() {
            if number % 64 == 0 {
                let part = kib(number as u64) / kib(ends.len() as u64);
                let due = started + heartbeat * round + heartbeat.mul_f64(part);
                pause(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    break 'rounds;
                }
            }
            say(end, asked, &ping);
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }
    pause(LAST);
    ends.iter().zip(&mut asked).filter(|(_, asked)| **asked).for_each(|(near, asked)| say(&near.end, asked, &[]));
}
