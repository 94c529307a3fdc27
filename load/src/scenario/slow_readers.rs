//! A share of the clients stops reading.

use std::{collections::HashMap, time::Duration};

use clap::Args;
use protocol::{ConversationId, ServerFrame};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Common, Scenario,
    chat::{Crowd, TalkOptions},
};
use crate::{
    link::{Link, Opening},
    recorder::{Count, Tally, Timing},
    target::Account,
    trial::{Needs, Trial},
    wire::Ended,
};

/// What the kernel keeps for a client that does not read, in bytes: little, so that the server notices soon.
const KERNEL_BUFFER: u32 = 16 * 1024;
/// How long reading what is left may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Members talk at a steady rate; some of them have a second device, which stops reading. Do the others notice?
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    talk: TalkOptions,
    /// Members in a hundred whose second device stops reading.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    share: u8,
}

impl Scenario for Options {
    const NAME: &'static str = "slow-readers";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        Needs { members: self.talk.members(), ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let talk = TalkOptions { rate: Some(self.talk.rate.unwrap_or(5000.0)), ..self.talk.clone() };
        let slow = (trial.accounts.len() * usize::from(self.share)).div_ceil(100);
        let accounts: Vec<_> = trial.accounts.iter().take(slow).cloned().collect();
        let crowd = Crowd::gather(&talk, trial, None, Duration::from_secs(60)).await?;
        trial.warm_up(Duration::from_secs_f64(self.talk.warm_up)).await;
        trial.measure("all read", Duration::from_secs_f64(self.talk.seconds)).await;
        let readers = SlowReaders::start(trial, accounts).await?;
        trial.measure("some do not", Duration::from_secs_f64(self.talk.seconds)).await;
        readers.finish(trial).await;
        let stages = trial.recorder.outcome();
        let p99 = |stage: &str| {
            let stage = stages.iter().find(|outcome| outcome.name == stage)?;
            stage.timings.get(Timing::Delivery.name()).map(|timing| timing.p99)
        };
        if let (Some(before), Some(with)) = (p99("all read"), p99("some do not")) {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            trial.figure("p99 of delivery to the others, with to without", with as f64 / before.max(1) as f64, "times");
        }
        crowd.finish(trial, Duration::from_secs(60)).await
    }
}

/// Second devices that do not read.
pub(crate) struct SlowReaders {
    readers: JoinSet<()>,
    read: watch::Sender<bool>,
}

impl SlowReaders {
    /// Connects a second device of each account, which then reads nothing.
    pub(crate) async fn start(trial: &Trial, accounts: Vec<Account>) -> Result<Self, String> {
        let opening =
            Opening { chunk: 16 * 1024, kernel_buffer: Some(KERNEL_BUFFER), ..Opening::new(trial.target.addr) };
        let opening = opening.on("slow");
        let (read, wait) = watch::channel(false);
        let mut readers = JoinSet::new();
        for (number, account) in accounts.into_iter().enumerate() {
            let opened = opening.open(&account.token, None).await;
            let link = opened.map_err(|ended| format!("a slow reader: {ended}"))?;
            let reader = Reader { opening: opening.clone(), account, tally: trial.recorder.tally(number) };
            readers.spawn(reader.run(link, wait.clone()));
        }
        Ok(Self { readers, read })
    }

    /// Lets them read what is left, find out that they were cut off, and catch up.
    pub(crate) async fn finish(mut self, trial: &Trial) {
        let _ = self.read.send(true);
        let done = async { while self.readers.join_next().await.is_some() {} };
        if timeout(PATIENCE * 2, done).await.is_err() {
            trial.recorder.broken("slow readers did not come to an end");
        }
    }
}

struct Reader {
    opening: Opening,
    account: Account,
    tally: Tally,
}

impl Reader {
    async fn run(self, mut link: Link, mut wait: watch::Receiver<bool>) {
        if wait.wait_for(|read| *read).await.is_err() {
            return;
        }
        // From here on it is an ordinary client again: it reads what came, and if the connection ends, it comes back.
        let mut last: HashMap<ConversationId, u64> = HashMap::new();
        for conversation in &link.synced {
            last.insert(conversation.id, conversation.last_seq);
        }
        let cursor = link.done.cursor.clone();
        let until = Instant::now() + Duration::from_secs(3);
        loop {
            match timeout(until.saturating_duration_since(Instant::now()), link.next()).await {
                Ok(Ok(envelope)) => match envelope.frame {
                    ServerFrame::EntryPush(push) => {
                        let known = last.entry(push.entry.conversation()).or_insert(0);
                        // An entry of the sync may be pushed as well.
                        if push.entry.seq() > *known + 1 {
                            self.tally.broken(format!("a slow reader missed what is before {}", push.entry.seq()));
                        }
                        *known = (*known).max(push.entry.seq());
                    }
                    ServerFrame::Goodbye(_) | ServerFrame::Receipt(_) => {}
                    other => self.tally.broken(format!("a slow reader was sent {}", other.frame_type())),
                },
                // Those who were not cut off have caught up by reading.
                Err(_) => return,
                Ok(Err(Ended::Foreign(what))) => return self.tally.broken(what),
                // Cut off: with its reason, if that still found room.
                Ok(Err(Ended::Closed(4413) | Ended::Broken(_))) => break,
                Ok(Err(ended)) => return self.tally.broken(format!("a slow reader: {ended}")),
            }
        }
        self.tally.count(Count::Cut);
        drop(link);
        match self.opening.open(&self.account.token, Some(cursor)).await {
            Ok(link) => {
                for conversation in link.synced {
                    let known = last.get(&conversation.id).copied().unwrap_or_default();
                    if conversation.last_seq < known {
                        self.tally
                            .broken(format!("the log ended with {known} and ends with {}", conversation.last_seq));
                    }
                    last.remove(&conversation.id);
                }
                if !last.is_empty() {
                    self.tally.broken("a sync left out a conversation that changed");
                }
            }
            Err(ended) => self.tally.broken(format!("a slow reader could not come back: {ended}")),
        }
    }
}
