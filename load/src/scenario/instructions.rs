//! The instructions of each hot piece, counted by callgrind: the one measure that does not depend on what else the machine does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::guard::{read, write};
use crate::{pieces::Piece, report::text::table};

/// More than this, as a ratio to the counts of the file, fails.
const WORSE: f64 = 1.15;
/// Less than this is no success either: the piece does not do what it did.
const OTHER: f64 = 0.5;
/// Less than this, and the file should be written anew, so that what was won is kept.
const BETTER: f64 = 0.9;

/// Counts the instructions of decoding, encoding, the state machine, a commit and a fan-out with callgrind (valgrind has to be
/// installed), beside those of a file. Fails if there are more than 15 % more of any.
#[derive(Args)]
pub(crate) struct Options {
    /// The counts to compare with.
    #[arg(long, default_value = "load/instructions.json")]
    file: PathBuf,
    /// Writes the counts of this run into that file.
    #[arg(long)]
    update: bool,
}

/// Counts, as they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Which instructions they are, such as x86_64.
    processor: String,
    /// Instructions of one round, by piece.
    counts: BTreeMap<String, u64>,
}

/// A piece, how often it is done at least, and how often beyond that.
const PIECES: &[(Piece, u32, u32)] = &[
    (Piece::Decode, 100, 5_000),
    (Piece::Encode, 100, 5_000),
    (Piece::Machine, 100, 5_000),
    (Piece::FanOut, 2, 20),
    // The first ones make the conversations.
    (Piece::Commit, 20, 100),
];

/// Counts all of them. True if nothing became much worse.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    let kept = if options.update { None } else { Some(read::<Kept>(&options.file)?) };
    let mut now = Kept { processor: std::env::consts::ARCH.to_owned(), counts: BTreeMap::new() };
    for &(piece, few, more) in PIECES {
        // What comes before and after the piece is in both, and falls out.
        let (least, most) = (count(piece, few).await?, count(piece, few + more).await?);
        now.counts.insert(piece.name().to_owned(), most.saturating_sub(least) / u64::from(more));
    }
    let Some(kept) = kept else {
        write(&options.file, &now)?;
        return Ok(true);
    };
    if kept.processor != now.processor {
        // Nothing to be compared with: it is said, and is no fault of the server's.
        println!("{:?}\n{} has counts of {}: not compared", now.counts, options.file.display(), kept.processor);
        return Ok(true);
    }
    Ok(judge(&now, &kept, &options.file))
}

/// Prints the counts, and says whether they are good.
fn judge(now: &Kept, kept: &Kept, file: &Path) -> bool {
    let mut rows = table(&["piece", "instructions before", "now", "now to before"]);
    let (mut is_good, mut is_better) = (true, false);
    for (piece, &count) in &now.counts {
        // What was never counted is compared with nothing, and that is no success.
        let before = kept.counts.get(piece).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let ratio = count as f64 / before as f64;
        is_good &= (OTHER..=WORSE).contains(&ratio);
        is_better |= ratio < BETTER;
        rows.add_row([piece.clone(), before.to_string(), count.to_string(), format!("{ratio:.3}")]);
    }
    println!("{rows}");
    if !is_good {
        println!("more than {WORSE} or less than {OTHER} times the instructions of {}", file.display());
    } else if is_better {
        println!("fewer than {BETTER} times: `load instructions --update` keeps that");
    }
    is_good
}

/// The instructions of this program while it does nothing but a piece.
async fn count(piece: Piece, rounds: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["piece", piece.name(), &rounds.to_string()])
        // One thread of the runtime: two would steal work from each other, or not.
        .env("TOKIO_WORKER_THREADS", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("valgrind: {error}"))?;
    let told = String::from_utf8_lossy(&valgrind.stderr);
    if !valgrind.status.success() {
        return Err(format!("valgrind {}: {told}", valgrind.status));
    }
    collected(&told).ok_or_else(|| format!("valgrind counted nothing: {told}"))
}

/// What callgrind says at its end: `==4711== Collected : 123456`.
fn collected(told: &str) -> Option<u64> {
    told.lines().rev().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(commit: u64) -> Kept {
        let counts = PIECES.iter().map(|(piece, ..)| (piece.name().to_owned(), 1_000));
        let mut kept = Kept { processor: "x86_64".to_owned(), counts: counts.collect() };
        kept.counts.insert(Piece::Commit.name().to_owned(), commit);
        kept
    }

    #[test]
    fn the_committed_file_has_every_piece() {
        let kept: Kept = serde_json::from_str(include_str!("../../instructions.json")).unwrap();
        for (piece, ..) in PIECES {
            assert!(kept.counts[piece.name()] > 0, "{}", piece.name());
        }
    }

    #[test]
    fn more_than_15_percent_more_of_one_piece_fails() {
        let file = Path::new("instructions.json");
        assert!(judge(&kept(1_150), &kept(1_000), file));
        assert!(!judge(&kept(1_151), &kept(1_000), file));
        assert!(judge(&kept(500), &kept(1_000), file));
        assert!(!judge(&kept(499), &kept(1_000), file), "it does something else");
        let mut incomplete = kept(1_000);
        incomplete.counts.remove("decode");
        assert!(!judge(&kept(1_000), &incomplete, file), "what has no count to compare with");
    }

    #[test]
    fn what_callgrind_counted_is_read() {
        let told = "==7== Events    : Ir\n==7== Collected : 3219\n==7==\n==7== I   refs:      3,219\n";
        assert_eq!(collected(told), Some(3_219));
        assert_eq!(collected("==7== nothing\n"), None);
    }
}
