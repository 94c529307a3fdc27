//! Servers of others that anybody can start, in turns with the relay and with ours.

use clap::Args;

use super::{Case, Common, chat::TalkOptions, conclude, in_turns};
use crate::{
    peers::{self, Peer},
    trial::Against,
};

/// Chat against `ws` on Node, uWebSockets in Bun, the relay with a synced file and a server of ours, in turns in each round, with
/// the same clients. Needs Node and npm, which installs the peers beside this program.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Pairs of members.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages of one member that are on their way at the same time: all of these in turns.
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = clap::value_parser!(u32).range(1..=64))]
    window: Vec<u32>,
    /// Seconds before each measurement.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
}

/// Runs all of it. True if no rule was broken.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    tokio::task::spawn_blocking(peers::install).await.map_err(|error| error.to_string())??;
    let common = options.common.spawning();
    let Options { pairs, warm_up, seconds, .. } = *options;
    let case = |window: &u32| Case {
        name: format!("window {window}"),
        talk: TalkOptions { pairs, window: *window, warm_up, seconds, ..TalkOptions::default() },
    };
    let cases: Vec<Case> = options.window.iter().map(case).collect();
    let [ws, bun] = Peer::ALL.map(Against::Peer);
    let outcomes = in_turns(&common, &cases, &[ws, bun, Against::Relay { fsync: true }, Against::Server]).await?;
    conclude(&common.out, "peers", &outcomes)
}
