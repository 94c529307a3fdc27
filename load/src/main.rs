//! Scripted clients for a Members Book server: they talk, check every rule of the protocol as they go, and measure.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`scenario`] | what the clients do |
//! | [`book`] | what a client knows of its conversation, and whether that is as the rules have it |
//! | [`link`] | one connection, from hello to its end |
//! | [`target`] | the server under load: registering members there |
//! | [`server`] | a server of our own: started, measured, killed and started again |
//! | [`stats`] | counts, latencies, broken rules |
//! | [`report`] | the table at the end |

mod book;
mod link;
mod report;
mod scenario;
mod server;
mod stats;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Scripted clients for a Members Book server.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Members talk in pairs, say delivered and read, lose their connection at random, and check every rule.
    Chat(scenario::chat::Options),
    /// Many members are signed in and say nothing but heartbeats; how much memory do they cost?
    Idle(scenario::idle::Options),
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
        match cli.scenario {
            Scenario::Chat(options) => scenario::chat::run(options).await,
            Scenario::Idle(options) => scenario::idle::run(options).await,
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
