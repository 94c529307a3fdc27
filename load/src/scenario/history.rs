//! Paging and searching in a large store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use protocol::{
    ClientFrame, ServerFrame,
    client::HistoryGet,
    model::{Conversation, Entry},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use super::{Common, Run, Scenario};
use crate::{
    link::{Link, Opening},
    recorder::{Count, Tally, Timing},
    target::{Account, Target},
    trial::{Against, Needs, Stored, Trial},
};

/// Pairs of members who have all the messages among them.
const PAIRS: usize = 1_000;

/// Members page through their conversations and search, in a store of each given size.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Messages in the store, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    stored: Vec<u64>,
    /// Members who read at the same time, each one page after the other.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Entries of a page.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    page: u32,
    /// Searches for every hundred pages.
    #[arg(long, default_value_t = 10)]
    searches: u32,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
}

impl Scenario for Options {
    const NAME: &'static str = "history";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        Needs { members: PAIRS * 2, ..Needs::default() }
    }

    fn runs(&self) -> Vec<Run> {
        let run = |stored: &u64| Run {
            against: Against::Server,
            needs: Needs { messages: Stored { count: *stored, size: 200, among: None }, ..self.needs() },
            label: Some(format!("{stored} messages")),
        };
        self.stored.iter().map(run).collect()
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        if trial.server.is_none() {
            return Err("history needs a store that is prepared: give --spawn".to_owned());
        }
        let readers = Readers::start(trial, self.clients, self.page, self.searches, Duration::ZERO).await?;
        trial.warm_up(Duration::from_secs_f64(self.warm_up)).await;
        trial.measure("paging", Duration::from_secs_f64(self.seconds)).await;
        readers.finish(trial).await;
        Ok(())
    }
}

/// Members who page and search.
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    readers: JoinSet<Result<(), String>>,
}

impl Readers {
    /// Some members of the trial, who take no part in anything else; each waits for `pause` between two pages.
    pub(crate) async fn start(
        trial: &mut Trial,
        clients: usize,
        page: u32,
        searches: u32,
        pause: Duration,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let opening = Opening { chunk: 64 * 1024, ..Opening::new(trial.target.addr) }.on("reader");
        let first = trial.accounts.len().saturating_sub(clients);
        let mut readers = JoinSet::new();
        for (number, account) in trial.accounts.split_off(first).into_iter().enumerate() {
            let opened = opening.open(&account.token, None).await;
            let link = opened.map_err(|ended| format!("a reader: {ended}"))?;
            let reader = Reader {
                account,
                target: trial.target.clone(),
                tally: trial.recorder.tally(number),
                random: StdRng::seed_from_u64(trial.seed.wrapping_add(number as u64)),
                page,
            };
            readers.spawn(reader.run(link, searches, pause, Arc::clone(&stop)));
        }
        Ok(Self { stop, readers })
    }

    /// Lets everybody finish their page.
    pub(crate) async fn finish(mut self, trial: &Trial) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(reader) = self.readers.join_next().await {
            match reader {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => trial.recorder.broken(problem),
                Err(error) => trial.recorder.broken(error.to_string()),
            }
        }
    }
}

struct Reader {
    account: Account,
    target: Target,
    tally: Tally,
    random: StdRng,
    page: u32,
}

impl Reader {
    async fn run(
        mut self,
        mut link: Link,
        searches: u32,
        pause: Duration,
        stop: Arc<AtomicBool>,
    ) -> Result<(), String> {
        let conversations = std::mem::take(&mut link.synced);
        while !stop.load(Ordering::Relaxed) {
            if let Some(conversation) = conversations.get(self.random.random_range(0..conversations.len().max(1))) {
                self.read(&mut link, conversation).await?;
            }
            if self.random.random_ratio(searches.min(100), 100) {
                self.search().await?;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// A page from anywhere in a conversation, which has to be whole.
    async fn read(&mut self, link: &mut Link, conversation: &Conversation) -> Result<(), String> {
        let before = self.random.random_range(2..=conversation.last_seq.max(2) + 1);
        let get =
            HistoryGet { conversation: conversation.id, before: Some(before), after: None, limit: Some(self.page) };
        let started = Instant::now();
        let reply = link.ask(&ClientFrame::HistoryGet(get), |_| ()).await.map_err(|ended| ended.to_string())?;
        self.tally.time(Timing::Page, started.elapsed());
        self.tally.count(Count::Pages);
        let ServerFrame::History(page) = reply else { return Err(format!("{} for a page", reply.frame_type())) };
        let seqs: Vec<u64> = page.entries.iter().map(Entry::seq).collect();
        let end = before.min(conversation.last_seq + 1);
        let first = end.saturating_sub(u64::from(self.page)).max(1);
        let expected: Vec<u64> = (first..end).collect();
        if seqs != expected || page.more != (first > 1) {
            self.tally.broken(format!("a page before {before} has {seqs:?}, more: {}", page.more));
        }
        Ok(())
    }

    /// Searches the directory for somebody who is there.
    async fn search(&mut self) -> Result<(), String> {
        let number = self.random.random_range(0..PAIRS * 2);
        let started = Instant::now();
        let found = self.target.get(&self.account, &format!("/api/members/search?q={number}&limit=20")).await;
        // An older server has no search.
        let Some(found) = found.map_err(|problem| format!("a search: {problem}"))? else { return Ok(()) };
        self.tally.time(Timing::Search, started.elapsed());
        self.tally.count(Count::Searches);
        let name = format!("Load {number}");
        if !found.to_string().contains(&name) {
            self.tally.broken(format!("a search for {number} did not find {name}"));
        }
        Ok(())
    }
}
