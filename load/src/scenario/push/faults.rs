//! The server and its database are killed, and push services take nothing for a while.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::sleep;

use super::Running;
use crate::{fleet, push::facts::Facts};

/// What is killed is gone for up to so long.
const GONE: Duration = Duration::from_secs(2);
/// The share of the time after the last fault.
const AFTER: f64 = 0.1;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Server,
    Database,
    Outage,
}

impl Running<'_> {
    /// Lets everything fail, one after the other, spread over the time of the run. Goes on for ever.
    ///
    /// # Errors
    /// When something does not come back.
    pub(super) async fn faults(&self) -> Result<(), String> {
        let options = self.options;
        let mut random = StdRng::seed_from_u64(self.trial.seed ^ 0xFA17);
        let counts = [
            (Fault::Server, options.kills),
            (Fault::Database, options.database_kills),
            (Fault::Outage, options.outages),
        ];
        let mut faults: Vec<Fault> =
            counts.into_iter().flat_map(|(fault, count)| (0..count).map(move |_| fault)).collect();
        faults.shuffle(&mut random);
        let count = u32::try_from(faults.len()).unwrap_or(u32::MAX);
        let every = Duration::from_secs_f64(options.seconds * (1.0 - AFTER)) / count.max(1);
        for fault in faults {
            let part = random.random_range(0.5..0.9);
            sleep(every.mul_f64(part)).await;
            let gone = GONE.mul_f64(random.random());
            let begun = tokio::time::Instant::now();
            match fault {
                Fault::Server => {
                    Facts::begin(&mut self.ledger.lock().crashes);
                    self.server.kill();
                    sleep(gone).await;
                    fleet::start(&Arc::clone(&self.server)).await?;
                    Facts::over(&mut self.ledger.lock().crashes);
                }
                Fault::Database => {
                    let database = self.database.as_ref().ok_or("no database of our own")?;
                    Facts::begin(&mut self.ledger.lock().crashes);
                    database.kill();
                    sleep(gone).await;
                    database.start().await?;
                    Facts::over(&mut self.ledger.lock().crashes);
                }
                Fault::Outage => {
                    Facts::begin(&mut self.ledger.lock().outages);
                    self.down(true);
                    sleep(Duration::from_secs_f64(options.outage_time)).await;
                    self.down(false);
                    Facts::over(&mut self.ledger.lock().outages);
                }
            }
            eprintln!("{fault:?}: {:.1} s", begun.elapsed().as_secs_f64());
            sleep(every.mul_f64(1.0 - part).saturating_sub(begun.elapsed())).await;
        }
        std::future::pending().await
    }

    fn down(&self, is_down: bool) {
        self.expo.mood.go_down(is_down);
        self.web.mood.go_down(is_down);
    }
}
