//! A day in minutes.

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::time::Instant;

use super::{
    Common, Scenario,
    chat::{Crowd, TalkOptions},
    fan_out::Stage,
    history::Readers,
    login_storm::Logins,
    slow_readers::SlowReaders,
};
use crate::{
    herd::Herd,
    recorder::Count,
    trial::{Needs, Stored, Trial},
};

/// A day in minutes: some talk, most are there and silent, some read what was, log in, watch others, stop reading; at noon
/// the network goes, and everybody who talks comes back.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Pairs who talk.
    #[arg(long, default_value_t = 200)]
    pairs: u32,
    /// Messages a second of all of them together, each with its receipts.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Members who are there and silent.
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Members who watch one whose presence and profile change.
    #[arg(long, default_value_t = 200)]
    watchers: usize,
    /// Members who page and search.
    #[arg(long, default_value_t = 8)]
    readers: usize,
    /// Members who log in, each every two seconds.
    #[arg(long, default_value_t = 4)]
    logins: usize,
    /// Second devices that stop reading in the afternoon.
    #[arg(long, default_value_t = 10)]
    slow: usize,
    /// Messages that are in the store before; with --spawn only.
    #[arg(long, default_value_t = 100_000)]
    stored: u64,
    /// Seconds of the morning, of noon and of the afternoon.
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
}

impl Options {
    fn pairs(&self) -> usize {
        usize::try_from(self.pairs).unwrap_or_default()
    }
}

impl Scenario for Options {
    const NAME: &'static str = "club";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        let members = self.pairs() * 2 + self.idle + self.watchers + 1 + self.readers + self.logins;
        // An even number, so that everybody has somebody to have written to.
        let count = if self.common.place.spawn { self.stored } else { 0 };
        let messages = Stored { count, size: 200, among: None };
        Needs { members: members.next_multiple_of(2), messages, bcrypt_cost: Some(10), ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let talk = TalkOptions { pairs: self.pairs, rate: Some(self.rate), receipts: true, ..TalkOptions::default() };
        let slow: Vec<_> = trial.accounts.iter().take(self.slow).cloned().collect();
        let crowd = Crowd::gather(&talk, trial, None, Duration::from_secs(60)).await?;
        let mut herd = Herd::new(Arc::clone(&trial.recorder), trial.target.addr, 0);
        let stage = Stage::set(trial, self.watchers, 2.0).await?;
        let logins = Logins::start(trial, self.logins, Duration::from_secs(2));
        let readers = Readers::start(trial, self.readers, 50, 10, Duration::from_millis(50)).await?;
        let connecting = herd.open(trial.accounts.split_off(trial.accounts.len().saturating_sub(self.idle))).await;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let idle = self.idle as f64;
        trial.figure("connects a second", idle / connecting.as_secs_f64().max(1e-3), "");
        let part = Duration::from_secs_f64(self.seconds);
        trial.measure("morning", part).await;

        let cut = Instant::now();
        trial.recorder.begin("noon");
        crowd.cut(Duration::from_millis(500), true).await;
        let members = u64::from(self.pairs) * 2;
        while trial.recorder.total(Count::Recovered) < members && cut.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let back = trial.recorder.total(Count::Recovered);
        if back < members {
            trial.recorder.broken(format!("{back} of {members} came back"));
        }
        trial.figure("until all who talk were synced again", cut.elapsed().as_secs_f64(), "s");

        let slow = SlowReaders::start(trial, slow).await?;
        trial.measure("afternoon", part).await;
        slow.finish(trial).await;
        readers.finish(trial).await;
        logins.finish(trial).await;
        stage.finish(trial).await;
        crowd.finish(trial, Duration::from_secs(60)).await?;
        let alive = herd.alive();
        if alive != self.idle {
            trial.recorder.broken(format!("{alive} of {} silent members are there at the end", self.idle));
        }
        Ok(())
    }
}
