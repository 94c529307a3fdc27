//! Scripted clients for a Members Book server: they talk, check every rule of the protocol as they go, and measure.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`scenario`] | what the clients do |
//! | [`trial`] | one run of a scenario: what it runs against, and what becomes of it |
//! | [`recorder`] | counts, latencies, broken rules |
//! | [`proc`] | memory and processor time, over time |
//! | [`pace`] | when messages are due, whatever the server does |
//! | [`report`] | the table, the JSON file and the page at the end |
//! | [`herd`] | many connections that say nothing but heartbeats |
//! | [`book`] | what a client knows of its conversation, and whether that is as the rules have it |
//! | [`link`], [`wire`], [`scan`] | one connection: signing in; WebSocket frames; reading the hot ones |
//! | [`target`] | the server under load, over REST |
//! | [`server`] | a server of our own: started, killed and started again |
//! | [`fleet`] | several servers of our own, with a database, Redis, and a network between them that fails |
//! | [`client_ids`] | which version of UUID the ids of messages are |
//! | [`seed`] | filling its store before |
//! | [`peers`] | servers of others, which do what it does |
//! | [`pieces`] | the hot pieces of the server, each alone |
//! | [`push`] | push services of our own, and whether devices were told what they had to be told |
//! | [`relay`] | a bare relay, the yardstick |

mod book;
mod client_ids;
mod fleet;
mod herd;
mod link;
mod pace;
mod peers;
mod pieces;
mod proc;
mod push;
mod recorder;
mod relay;
mod report;
mod scan;
mod scenario;
mod seed;
mod server;
mod target;
mod trial;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use scenario::execute;

/// Scripted clients for a Members Book server: they talk, check every rule of the protocol as they go, and measure.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Members talk, in pairs or in many conversations, as fast as they get answers or at a given rate.
    Chat(scenario::chat::Options),
    /// Many members are signed in and say nothing but heartbeats: what do they cost?
    Idle(scenario::idle::Options),
    /// Members log in with their passwords while others talk.
    LoginStorm(scenario::login_storm::Options),
    /// All connections are cut at once, and all come back with their cursor.
    ReconnectStorm(scenario::reconnect_storm::Options),
    /// All members come without a cursor at once: until all have their full state.
    FullSync(scenario::full_sync::Options),
    /// One member's presence and profile change while many watch.
    FanOut(scenario::fan_out::Options),
    /// A share of the clients stops reading: do the others notice?
    SlowReaders(scenario::slow_readers::Options),
    /// Paging and searching in a large prepared store.
    History(scenario::history::Options),
    /// Attacks of every kind beside members who talk: is anybody hurt? Exits with 1 if somebody is.
    Hostile(scenario::hostile::Options),
    /// A day in minutes: a realistic mix of all of it.
    Club(scenario::club::Options),
    /// Several nodes, a database and Redis, which fail while members talk and go from node to node.
    Fleet(scenario::fleet::Options),
    /// Devices that acknowledge, freeze, vanish and come back, push services that fail, and a server that is killed.
    Push(scenario::push::Options),
    /// Chat against a bare relay: what the machine can do.
    Baseline(scenario::baseline::Options),
    /// Chat against servers of others that anybody can start: `ws` on Node, uWebSockets in Bun.
    Peers(scenario::peers::Options),
    /// A short fixed set against the relay, beside the ratios of a file.
    Guard(scenario::guard::Options),
    /// The instructions of each hot piece, beside those of a file.
    Instructions(scenario::instructions::Options),
    /// Puts runs side by side on one page.
    Report(ReportOptions),
    /// Opens idle connections for another `load`, in a process of its own.
    #[command(hide = true)]
    Herd(scenario::idle::part::Options),
    /// Does one hot piece of the server, to be counted.
    #[command(hide = true)]
    Piece(pieces::Options),
    /// Runs the bare relay.
    #[command(hide = true)]
    Relay(relay::Options),
}

/// Puts runs side by side on one page.
#[derive(clap::Args)]
struct ReportOptions {
    /// The JSON files of the runs.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page.
    #[arg(long, short, default_value = "load-results/report.html")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Every client is an open file; failing is found out when they run short.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    let ran = runtime.block_on(async {
        // What is dropped when it is interrupted ends the servers that it has started.
        tokio::select! {
            ran = run(cli.command) => ran,
            signal = interrupted() => Err(signal),
        }
    });
    // Connections that are still open need not be waited for.
    runtime.shutdown_background();
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("load: {problem}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Result<bool, String> {
    match command {
        Command::Chat(options) => execute(&options.over_the_first()).await,
        Command::Idle(options) => execute(&options).await,
        Command::SlowReaders(options) => execute(&options).await,
        Command::History(options) => execute(&options).await,
        Command::Hostile(options) => execute(&options).await,
        Command::Club(options) => execute(&options).await,
        Command::LoginStorm(options) => execute(&options).await,
        Command::ReconnectStorm(options) => execute(&options).await,
        Command::FanOut(options) => execute(&options).await,
        Command::FullSync(options) => execute(&options).await,
        Command::Baseline(options) => execute(&options).await,
        Command::Peers(options) => scenario::peers::run(&options).await,
        Command::Fleet(options) => scenario::fleet::run(&options).await,
        Command::Push(options) => scenario::push::run(&options).await,
        Command::Guard(options) => scenario::guard::run(&options).await,
        Command::Instructions(options) => scenario::instructions::run(&options).await,
        Command::Piece(options) => pieces::run(&options).await,
        Command::Report(options) => side_by_side(&options),
        Command::Herd(options) => scenario::idle::part::run(options).await,
        Command::Relay(options) => relay::run(options).await,
    }
}

async fn interrupted() -> String {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
    "interrupted".to_owned()
}

fn side_by_side(options: &ReportOptions) -> Result<bool, String> {
    let mut outcomes = Vec::new();
    for run in &options.runs {
        outcomes.extend(report::read(run)?);
    }
    report::table::print(&outcomes);
    if let Some(folder) = options.out.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let page = report::html::page(&outcomes);
    std::fs::write(&options.out, page).map_err(|error| format!("{}: {error}", options.out.display()))?;
    println!("{}", options.out.display());
    Ok(true)
}
