//! A short fixed set against the relay, beside the ratios of a committed file: whether something became slower, for people to
//! judge. It fails on nothing that is noisy.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Case, Common, chat::TalkOptions, conclude, in_turns};
use crate::{
    report::{
        Outcome,
        compare::{median, ratios},
        text::table,
    },
    trial::Against,
};

const PAIRS: u32 = 200;
const RATE: f64 = 5_000.0;
/// Seconds before each measurement, and of it.
const SECONDS: (f64, f64) = (1.0, 5.0);

/// Chat at window 1, window 16, 5,000 messages a second and with receipts, each against the relay with a synced file in turns;
/// prints the ratios beside those of a file. Fails only if a rule of the protocol is broken.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// The ratios to compare with.
    #[arg(long, default_value = "load/guard.json")]
    file: PathBuf,
    /// Writes the ratios of this run into that file.
    #[arg(long)]
    update: bool,
}

/// Ratios of the server to the relay, as they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Where they were measured. On another machine they are others.
    machine: String,
    at: String,
    rounds: usize,
    /// The median of all rounds, by case and measure.
    ratios: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Runs all of it. True if no rule was broken.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    // A file that cannot be read is found out before the minutes that the runs take.
    let kept = if options.update { None } else { Some(read::<Kept>(&options.file)?) };
    let common = options.common.spawning();
    let outcomes = in_turns(&common, &cases(), &[Against::Relay { fsync: true }, Against::Server]).await?;
    let passed = conclude(&common.out, "guard", &outcomes)?;
    let now = Kept::of(&outcomes);
    match kept {
        Some(kept) => print(&now, &kept),
        None => write(&options.file, &now)?,
    }
    Ok(passed)
}

fn cases() -> Vec<Case> {
    let (warm_up, seconds) = SECONDS;
    let talk = TalkOptions { pairs: PAIRS, warm_up, seconds, ..TalkOptions::default() };
    let case = |name: &str, talk| Case { name: name.to_owned(), talk };
    vec![
        case("window 1", talk.clone()),
        case("window 16", TalkOptions { window: 16, ..talk.clone() }),
        case("5,000 messages/s", TalkOptions { rate: Some(RATE), ..talk.clone() }),
        case("window 16 with receipts", TalkOptions { window: 16, receipts: true, ..talk }),
    ]
}

impl Kept {
    fn of(outcomes: &[Outcome]) -> Self {
        let first = outcomes.first();
        let machine = first.map(|run| format!("{} cores, {}", run.machine.cores, run.machine.processor));
        let mut kept: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        let mut rounds = 0;
        for ratios in ratios(outcomes) {
            let of =
                ratios.of.iter().filter_map(|(name, each)| Some(((*name).to_owned(), median(each.iter().copied())?)));
            rounds = ratios.of.iter().map(|(_, each)| each.len()).max().unwrap_or_default();
            kept.insert(ratios.case.to_owned(), of.map(|(name, ratio)| (name, (ratio * 1e3).round() / 1e3)).collect());
        }
        let at = first.map(|run| run.at.clone()).unwrap_or_default();
        Self { machine: machine.unwrap_or_default(), at, rounds, ratios: kept }
    }
}

/// Reads what is kept in a file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}; --update makes it", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes it.
pub(super) fn write(path: &Path, kept: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(kept).map_err(|error| error.to_string())?;
    fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn print(now: &Kept, kept: &Kept) {
    println!(
        "\nratios of the server to the relay, beside those of {} ({}, median of {})",
        kept.at, kept.machine, kept.rounds
    );
    if now.machine != kept.machine {
        println!("this is another machine: {}", now.machine);
    }
    let mut rows = table(&["case", "measure", "before", "now", "now to before"]);
    for (case, measures) in &now.ratios {
        for (measure, ratio) in measures {
            let before = kept.ratios.get(case).and_then(|measures| measures.get(measure)).copied();
            let change = before.filter(|before| *before > 0.0).map(|before| format!("{:.2}", ratio / before));
            let before = before.map(|before| format!("{before:.3}"));
            rows.add_row([
                case.clone(),
                measure.clone(),
                before.unwrap_or_default(),
                format!("{ratio:.3}"),
                change.unwrap_or_default(),
            ]);
        }
    }
    println!("{rows}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_has_every_case() {
        let kept: Kept = serde_json::from_str(include_str!("../../guard.json")).unwrap();
        for Case { name, .. } in cases() {
            assert!(kept.ratios[&name].contains_key("messages/s"), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_says_how_it_is_made() {
        assert!(read::<Kept>(Path::new("no/such/guard.json")).unwrap_err().contains("--update"));
    }
}
