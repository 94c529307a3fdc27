//! What a run leaves behind: a table on the terminal, a JSON file, and a page to look at.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`attacks`] | what became of attacks, and whether that is good enough |
//! | [`table`] | the table on the terminal |
//! | [`compare`] | several runs beside each other, and their ratios |
//! | [`html`] | the page, with several runs side by side |
//! | [`plot`] | its plots, as SVG |

pub(crate) mod attacks;
pub(crate) mod compare;
pub(crate) mod html;
mod plot;
pub(crate) mod table;
pub(crate) mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::client_ids::ClientIds;
use attacks::AttackOutcome;

/// Percentiles that are kept of every distribution.
const PERCENTILES: &[f64] = &[
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99, 99.995,
    99.999, 100.0,
];

/// What a run found out; what the JSON file has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: String,
    /// What tells it from other runs of the same scenario.
    pub(crate) label: String,
    /// What it was put through, where there were several things: the end of the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<String>,
    pub(crate) command: String,
    /// When it began, as RFC 3339.
    pub(crate) at: String,
    pub(crate) seed: u64,
    /// Which ids its messages had. Files of before do not say: it was v7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_ids: Option<ClientIds>,
    pub(crate) machine: Machine,
    pub(crate) stages: Vec<StageOutcome>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) samples: Vec<Sample>,
    /// How many rules of the protocol were broken, and the first of them.
    pub(crate) violations: u64,
    pub(crate) broken: Vec<String>,
    /// What became of each attack, where there were some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attacks: Vec<AttackOutcome>,
}

/// Where a run ran.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) memory_kib: u64,
    /// Processes that wanted to run in the minute before the run, on average: other load on the machine.
    pub(crate) load_before: f64,
}

/// A part of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StageOutcome {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) timings: BTreeMap<String, Distribution>,
}

impl StageOutcome {
    /// How many of something there were in a second.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn rate(&self, count: &str) -> f64 {
        self.counts.get(count).map_or(0.0, |count| *count as f64 / self.seconds.max(1e-9))
    }
}

/// A distribution of latencies, in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Percentile and latency, for the plot.
    pub(crate) percentiles: Vec<(f64, u64)>,
}

impl Distribution {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |percentile: f64| histogram.value_at_percentile(percentile);
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: histogram.max(),
            percentiles: PERCENTILES.iter().map(|percentile| (*percentile, at(*percentile))).collect(),
        }
    }
}

/// A single figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// How things stood at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds since the beginning.
    pub(crate) t: f64,
    pub(crate) stage: String,
    /// Messages acknowledged in a second, since the sample before.
    pub(crate) messages: f64,
    /// Cores that the server used, since the sample before.
    pub(crate) server_cpu: Option<f64>,
    pub(crate) server_rss_kib: Option<u64>,
    /// Bytes a second that the server read from the disk, and had written to it.
    #[serde(default)]
    pub(crate) server_read: Option<f64>,
    #[serde(default)]
    pub(crate) server_written: Option<f64>,
    pub(crate) client_cpu: f64,
    pub(crate) client_rss_kib: u64,
}

impl Outcome {
    /// What it was put through; nothing where there was one thing only.
    pub(crate) fn case(&self) -> &str {
        self.case.as_deref().unwrap_or_default()
    }

    /// What was put under load: the label without the case.
    pub(crate) fn subject(&self) -> &str {
        self.label.strip_suffix(self.case()).map_or(self.label.as_str(), |subject| subject.trim_end_matches(", "))
    }

    /// Whether everything was as it has to be.
    pub(crate) fn passed(&self) -> bool {
        self.violations == 0 && self.attacks.iter().all(AttackOutcome::passed)
    }

    /// The average over the samples of measured time.
    pub(crate) fn average(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let measured = |sample: &&Sample| self.stages.iter().any(|stage| stage.name == sample.stage);
        let values: Vec<f64> = self.samples.iter().filter(measured).filter_map(of).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few samples")]
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// Messages acknowledged in a second, over the measured stages.
    pub(crate) fn messages_per_second(&self) -> f64 {
        let seconds: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        let messages: f64 = self.stages.iter().map(|stage| stage.rate("messages acknowledged") * stage.seconds).sum();
        if seconds > 0.0 { messages / seconds } else { 0.0 }
    }
}

/// Reads the JSON file of a run.
pub(crate) fn read(path: &Path) -> Result<Vec<Outcome>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes the JSON file and the page of a session, and says where they are.
pub(crate) fn write(folder: &Path, name: &str, outcomes: &[Outcome]) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let json = serde_json::to_string_pretty(outcomes).map_err(|error| error.to_string())?;
    let path = folder.join(name).with_extension("json");
    fs::write(&path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    let page = path.with_extension("html");
    fs::write(&page, html::page(outcomes)).map_err(|error| format!("{}: {error}", page.display()))?;
    Ok(path)
}
