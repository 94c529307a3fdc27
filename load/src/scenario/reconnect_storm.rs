//! All connections are cut at once, and all come back.

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::time::Instant;

use super::{
    Common, Scenario,
    chat::{Crowd, TalkOptions},
};
use crate::{
    recorder::Count,
    trial::{Needs, Trial},
};

/// All connections are cut at once, in the middle of their messages, and all come back with their cursor.
///
/// Everybody has a book of their conversation: a message that is lost or doubled is a violation.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Connections, each of a member of its own; every two of them are a pair.
    #[arg(long, short, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    n: u32,
    /// Messages a second of all together, before and after the cut.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Everybody waits a random time up to this before they come back, in milliseconds: what the protocol asks of clients.
    #[arg(long, default_value_t = 500)]
    spread: u64,
    /// Kill the server and start it again, instead of dropping the connections at the clients.
    #[arg(long, requires = "spawn")]
    kill: bool,
    /// Seconds before the cut, and after everybody is back.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

impl Scenario for Options {
    const NAME: &'static str = "reconnect-storm";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        Needs { members: usize::try_from(self.n - self.n % 2).unwrap_or_default(), ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let talk = TalkOptions { pairs: self.n / 2, rate: Some(self.rate), ..TalkOptions::default() };
        let crowd = Crowd::gather(&talk, trial, None, Duration::from_secs(60)).await?;
        let members = u64::from(self.n - self.n % 2);
        trial.measure("before", Duration::from_secs_f64(self.seconds)).await;

        let recorder = Arc::clone(&trial.recorder);
        let lost_before = recorder.total(Count::Lost);
        recorder.begin("storm");
        let cut = Instant::now();
        crowd.cut(Duration::from_millis(self.spread), !self.kill).await;
        if let (true, Some(server)) = (self.kill, trial.server.clone()) {
            tokio::task::spawn_blocking(move || server.kill_and_start()).await.map_err(|error| error.to_string())??;
        }
        while recorder.total(Count::Recovered) < members {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if cut.elapsed() > Duration::from_secs(120) {
                recorder.broken(format!("{} of {members} are back", recorder.total(Count::Recovered)));
                break;
            }
        }
        trial.figure("until all were synced", cut.elapsed().as_secs_f64(), "s");
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        {
            let refused = recorder.total(Count::Refused) as f64;
            trial.figure("attempts to connect that failed", refused, "");
            if !self.kill {
                let lost = (recorder.total(Count::Lost) - lost_before) as f64;
                trial.figure("connections lost in the storm", lost, "");
            }
        }
        trial.measure("after", Duration::from_secs_f64(self.seconds)).await;
        crowd.finish(trial, Duration::from_secs(120)).await
    }
}
