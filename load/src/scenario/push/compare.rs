//! What live chat between devices that acknowledge costs with push and without, in turns.

use std::sync::Arc;

use clap::Args;
use protocol::{
    model::Platform,
    rest::{PushAddress, PushRegistration},
};

use super::super::{Common, Run, Scenario, chat, conclude, once};
use crate::{
    push::{expo::Expo, facts::Ledger},
    report::Outcome,
    scenario::chat::TalkOptions,
    trial::{Against, Needs, Trial},
};

/// The device of those who talk.
const DEVICE: &str = "load";

/// How members talk, with --compare.
#[derive(Args, Clone)]
#[group(skip)]
#[command(next_help_heading = "Compare")]
pub(super) struct Options {
    /// Pairs of members.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages a second of all pairs together.
    #[arg(long, default_value_t = 2_000.0)]
    talk_rate: f64,
}

/// Chat with push or without.
struct Talk {
    common: Common,
    chat: chat::Options,
    expo: String,
    is_on: bool,
}

impl Scenario for Talk {
    const NAME: &'static str = "push";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        let push = if self.is_on { "on" } else { "off" };
        let settings = vec![("PUSH", push.to_owned()), ("PUSH_EXPO_URL", self.expo.clone())];
        Needs { settings, ..self.chat.needs() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        if self.is_on {
            for (number, account) in trial.accounts.iter().enumerate() {
                let address = PushAddress::Expo { token: format!("ExponentPushToken[load-{number}]") };
                let registration = PushRegistration { address, platform: Platform::Ios };
                trial.target.register_device(account, DEVICE, &registration).await?;
            }
        }
        self.chat.run(trial).await
    }
}

/// Runs both in each round, every other round the other way round, and prints the ratio.
pub(super) async fn run(common: &Common, options: &Options) -> Result<bool, String> {
    let ledger = Arc::new(Ledger::default());
    let (_expo, url) = Expo::start(Arc::clone(&ledger), 0).await?;
    let talk =
        TalkOptions { pairs: options.pairs, rate: Some(options.talk_rate), receipts: true, ..TalkOptions::default() };
    let (mut outcomes, mut ratios) = (Vec::new(), Vec::new());
    let seed = common.seed();
    for round in 0..common.rounds {
        let mut both = [0.0, 0.0];
        for is_on in if round.is_multiple_of(2) { [false, true] } else { [true, false] } {
            let common = common.spawning();
            let chat = chat::Options::new(common.clone(), talk.clone());
            let talk = Talk { common, chat, expo: url.clone(), is_on };
            let label = if is_on { "push on" } else { "push off" };
            let run = Run { against: Against::Server, needs: talk.needs(), label: Some(label.to_owned()) };
            let outcome = once(&talk, run, seed + u64::from(round)).await?;
            let [off, on] = &mut both;
            *(if is_on { on } else { off }) = cost(&outcome);
            outcomes.push(outcome);
        }
        let [off, on] = both;
        ratios.push(on / off);
        println!(
            "round {}: processor time of a message {off:.1} us without push, {on:.1} us with it: {:.3}",
            round + 1,
            on / off
        );
    }
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        println!("with push by without, median: {median:.3}; pushes: {}", ledger.lock().pushes.len());
    }
    conclude(&common.out, "push-compare", &outcomes)
}

/// Processor time of a message, in microseconds.
fn cost(outcome: &Outcome) -> f64 {
    outcome.average(|sample| sample.server_cpu).unwrap_or_default() / outcome.messages_per_second().max(1e-9) * 1e6
}
