//! Attacks of every kind, one after the other, on a server of our own beside members who only want to talk.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`attacks`] | the attacks |
//! | [`cast`] | which members play what, and where they are at home |
//! | [`field`] | what an attack works with and leaves behind |
//! | [`http`], [`socket`] | clients that misbehave |
//! | [`probe`] | members who want to connect and log in meanwhile |
//! | [`siege`] | one attack after the other: quiet, attack, recovery |
//! | [`verdict`] | what is good enough |
//! | [`watch`] | memory and series of the server |

mod attacks;
mod cast;
mod field;
mod http;
mod probe;
mod siege;
mod socket;
mod verdict;
mod watch;

use std::time::Duration;

use clap::{Args, ValueEnum as _};

use self::{attacks::Attack, cast::Layout, siege::Siege, verdict::Limits};
use super::{
    Common, Scenario,
    chat::{Crowd, TalkOptions},
};
use crate::trial::{Needs, Trial};

/// How long those who talk may take to hear the rest, at the end.
const DRAIN: Duration = Duration::from_secs(60);

/// Attacks of every kind on a server of our own (--spawn), with its default limits, while 50 members talk: the latency of these
/// with and without the attack, whether others can connect and log in, and the memory of the server. Exits with 1 when
/// somebody is hurt more than the limits say.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Which attacks, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Attack::value_variants().to_vec(), hide_default_value = true)]
    attacks: Vec<Attack>,
    /// Seconds of an attack; some take half of it. [default: 10, with --quick 3]
    #[arg(long)]
    attack_time: Option<f64>,
    /// A run of less than 90 seconds for a machine that does other things too: shorter attacks, a smaller directory, and
    /// what depends on timing is reported without being judged.
    #[arg(long)]
    quick: bool,
    /// Pairs of members who talk.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// Messages a second of all of them together. The limit of a member is 20.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Members in the directory beside them. [default: 5000, with --quick 1000]
    #[arg(long)]
    directory: Option<usize>,
    #[command(flatten)]
    limits: Limits,
}

impl Options {
    fn layout(&self) -> Layout {
        let talkers = usize::try_from(self.pairs).unwrap_or_default() * 2;
        Layout::of(talkers, self.directory.unwrap_or(if self.quick { 1_000 } else { 5_000 }))
    }

    fn attack_time(&self) -> Duration {
        Duration::from_secs_f64(self.attack_time.unwrap_or(if self.quick { 3.0 } else { 10.0 }))
    }
}

impl Scenario for Options {
    const NAME: &'static str = "hostile";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        self.layout().needs()
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        // What others run is not for us to attack.
        let server = trial.server.clone().ok_or("attacks are made on a server of our own only")?;
        let talk = TalkOptions { pairs: self.pairs, rate: Some(self.rate), apart: true, ..TalkOptions::default() };
        let cast = cast::Cast::new(&trial.accounts, self.layout());
        let crowd = Crowd::gather(&talk, trial, None, DRAIN).await?;
        let mut siege = Siege::lay(trial, &server, cast, self.limits.clone(), self.quick)?;
        siege.begin().await?;
        for attack in &self.attacks {
            siege.attack(*attack, attack.time(self.attack_time())).await?;
        }
        siege.end()?;
        crowd.finish(trial, DRAIN).await
    }
}
