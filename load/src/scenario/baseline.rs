//! What the machine can do: the same clients against a relay that does nothing but pass frames on.

use clap::Args;

use super::{
    Common, Run, Scenario,
    chat::{self, TalkOptions},
};
use crate::trial::{Against, Needs, Trial};

/// Runs chat against a bare relay, without and with a file that is synced before every acknowledgement.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    talk: TalkOptions,
}

impl Options {
    fn chat(&self) -> chat::Options {
        chat::Options::new(self.common.clone(), self.talk.clone())
    }
}

impl Scenario for Options {
    const NAME: &'static str = "baseline";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        self.chat().needs()
    }

    fn runs(&self) -> Vec<Run> {
        let run = |fsync| Run { against: Against::Relay { fsync }, needs: self.needs(), label: None };
        vec![run(false), run(true)]
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        self.chat().run(trial).await
    }
}
