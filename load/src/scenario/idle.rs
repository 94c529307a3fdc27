//! Many members are signed in and say nothing but heartbeats.

use std::{sync::Arc, time::Duration};

use clap::Args;
use protocol::{
    ClientFrame, ClientMessageId, ServerFrame,
    client::{MessageSend, Ping},
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{Where, progress, register};
use crate::{
    link::Link,
    report,
    server::resident_kib,
    stats::{Count, Stats, Timing},
    target::Account,
};

/// Connections that are being opened at the same time.
const OPENING: usize = 64;
/// The read buffer of an idle client, in bytes.
const READ_BUFFER: usize = 1024;
/// Messages that go through the crowd at the end.
const MESSAGES: usize = 100;

/// Many members are signed in and say nothing but heartbeats; how much memory do they cost?
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Where,
    /// Connections, each of a member of its own.
    #[arg(long, short, default_value_t = 10_000)]
    n: usize,
    /// How long they stay, in seconds.
    #[arg(long, default_value_t = 40)]
    hold: u64,
    /// The process whose memory is measured, when it is not ours.
    #[arg(long, conflicts_with = "spawn")]
    pid: Option<u32>,
}

/// Runs the scenario; true if no rule was broken.
pub(crate) async fn run(options: Options) -> Result<bool, String> {
    let (target, server) = options.target.open().await?;
    let pid = server.as_ref().and_then(|server| server.pid()).or(options.pid);
    let pid = pid.ok_or("the memory of which process? Give --spawn or --pid")?;
    println!("idle: {} connections against {}, process {pid}", options.n, target.addr);
    let mut accounts = register(&target, options.n + 2).await?;
    let (Some(speaker), Some(listener)) = (accounts.pop(), accounts.pop()) else { return Err("no members".to_owned()) };

    let stats = Arc::new(Stats::new());
    let before = resident_kib(pid)?;
    let started = Instant::now();
    let bar = progress("connecting", options.n);
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut clients = JoinSet::new();
    for account in accounts {
        let place = Arc::clone(&opening).acquire_owned().await.map_err(|error| error.to_string())?;
        let (addr, stats, bar) = (target.addr, Arc::clone(&stats), bar.clone());
        clients.spawn(async move {
            let opened = Instant::now();
            match Link::open(addr, &account.auth.access_token, "load", None, READ_BUFFER).await {
                Ok(link) => {
                    stats.count(Count::Connected);
                    stats.time(Timing::Sync, opened.elapsed());
                    bar.inc(1);
                    drop((place, account));
                    stay(link, &stats).await;
                }
                Err(ended) => stats.broken(format!("a connection: {ended}")),
            }
        });
    }
    // All are open when every place is free again.
    let all = u32::try_from(OPENING).map_err(|error| error.to_string())?;
    drop(opening.acquire_many(all).await);
    let connecting = started.elapsed();
    bar.finish_and_clear();

    tokio::time::sleep(Duration::from_secs(options.hold)).await;
    let after = resident_kib(pid)?;
    exchange(&target, &speaker, &listener, &stats).await?;
    let open = stats.total(Count::Connected) - stats.total(Count::Lost);
    if open != options.n as u64 {
        stats.broken(format!("{open} of {} connections are open at the end", options.n));
    }
    clients.abort_all();

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (each, rate) =
        (after.saturating_sub(before) as f64 / options.n as f64, options.n as f64 / connecting.as_secs_f64());
    let more = [
        ("resident memory before, KiB", before.to_string()),
        ("resident memory with the connections, KiB", after.to_string()),
        ("resident memory of one connection, KiB", format!("{each:.2}")),
        ("connects a second", format!("{rate:.0}")),
    ];
    Ok(report::print(&stats, started.elapsed(), &more))
}

/// Keeps a connection with heartbeats.
async fn stay(mut link: Link, stats: &Stats) {
    let heartbeat = Duration::from_millis(link.welcome.heartbeat_ms.into());
    loop {
        let heard = tokio::time::timeout(heartbeat, link.next()).await;
        let kept = match heard {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ended)) => Err(ended),
            Err(_) => beat(&mut link).await,
        };
        if kept.is_err() {
            stats.count(Count::Lost);
            return;
        }
    }
}

async fn beat(link: &mut Link) -> Result<(), crate::link::Ended> {
    let Ok(id) = "beat".parse() else { return Ok(()) };
    link.queue(id, ClientFrame::Ping(Ping {})).await?;
    link.flush().await
}

/// Messages still get through.
async fn exchange(
    target: &crate::target::Target,
    speaker: &Account,
    listener: &Account,
    stats: &Stats,
) -> Result<(), String> {
    let open = async |account: &Account| {
        let opened = Link::open(target.addr, &account.auth.access_token, "load", None, READ_BUFFER).await;
        opened.map_err(|ended| format!("no connection in the crowd: {ended}"))
    };
    let (mut speaking, mut listening) = (open(speaker).await?, open(listener).await?);
    for number in 0..MESSAGES {
        let client_id = ClientMessageId::from_uuid(uuid::Uuid::now_v7());
        let content = format!("message {number}");
        let send = MessageSend { to: Some(listener.id), conversation: None, client_id, content: content.clone() };
        let id = "send".parse().map_err(|error: protocol::ids::InvalidId| error.to_string())?;
        let sent = Instant::now();
        stats.count(Count::Sent);
        speaking.queue(id, ClientFrame::MessageSend(send)).await.map_err(|ended| ended.to_string())?;
        speaking.flush().await.map_err(|ended| ended.to_string())?;
        match listening.next().await.map_err(|ended| ended.to_string())?.frame {
            ServerFrame::MessagePush(push) if push.message.content == content => {
                stats.count(Count::Pushed);
                stats.time(Timing::Delivery, sent.elapsed());
            }
            other => stats.broken(format!("{} instead of a message", other.frame_type())),
        }
        match speaking.next().await.map_err(|ended| ended.to_string())?.frame {
            ServerFrame::MessageAccepted(_) => stats.count(Count::Acknowledged),
            other => stats.broken(format!("{} instead of an acknowledgement", other.frame_type())),
        }
    }
    Ok(())
}
