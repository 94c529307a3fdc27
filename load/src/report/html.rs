//! The page: everything in one file, with several runs side by side.

use std::fmt::Write as _;

use super::{
    Outcome, Sample, StageOutcome, attacks,
    plot::{Plot, Scale, Series},
    table::costs,
    text::{escape, short},
};
use crate::{client_ids::ClientIds, trial::millis};

/// Latencies that are worth a plot, if there are any.
const PLOTTED: &[&str] = &[
    "delivery",
    "acknowledgement",
    "presence to last watcher",
    "profile to last watcher",
    "cut to synced",
    "connect and sync",
    "login",
    "history page",
    "search",
    "heartbeat",
];

/// The page of some runs.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let mut scenarios: Vec<&str> = outcomes.iter().map(|outcome| outcome.scenario.as_str()).collect();
    scenarios.dedup();
    let title = format!("Members Book under load: {}", scenarios.join(", "));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{1}</style><main><h1>{0}</h1>",
        escape(&title),
        include_str!("page.css")
    );
    if let Some(first) = outcomes.first() {
        let machine = &first.machine;
        // Writing to a string does not fail, here and below.
        let _ = write!(
            page,
            "<p class=\"sub\">{} · {} cores, shared by server and clients · {} · {:.0} GiB · Linux {} · load before the run {:.2}<br>\
             <code>load {}</code> · seed {} · client ids {}</p>",
            escape(&first.at),
            machine.cores,
            escape(&machine.processor),
            gibibytes(machine.memory_kib),
            escape(&machine.kernel),
            machine.load_before,
            escape(&first.command),
            first.seed,
            first.client_ids.unwrap_or(ClientIds::V7).name()
        );
    }
    for outcome in outcomes.iter().take(4) {
        tiles(&mut page, outcome, outcomes.len() > 1);
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.attacks.is_empty()) {
        attacks::write(&mut page, outcome);
    }
    page.push_str("<h2>Latency: how long the slowest take</h2><div class=\"plots\">");
    // Two stages for every attack would be too many lines: those have a table.
    let stages = outcomes.iter().filter(|outcome| outcome.attacks.is_empty());
    let plotted: Vec<_> = stages.cloned().collect();
    for timing in PLOTTED {
        figure(&mut page, &latency_plot(&plotted, timing));
    }
    page.push_str("</div><h2>Over time</h2><div class=\"plots\">");
    for plot in over_time(outcomes) {
        figure(&mut page, &plot);
    }
    page.push_str("</div><h2>In figures</h2>");
    for outcome in outcomes {
        figures(&mut page, outcome);
    }
    page.push_str("</main></html>\n");
    page
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn gibibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0 / 1024.0
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}

/// What one wants to know first.
fn tiles(page: &mut String, outcome: &Outcome, several: bool) {
    if several {
        let _ = write!(page, "<h2>{}</h2>", escape(&outcome.label));
    }
    page.push_str("<div class=\"tiles\">");
    let mut tile = |class: &str, value: &str, what: &str| {
        let _ = write!(page, "<div class=\"tile {class}\"><b>{}</b><span>{}</span></div>", escape(value), escape(what));
    };
    let withstood = outcome.attacks.iter().filter(|attack| attack.passed()).count();
    if !outcome.attacks.is_empty() {
        let class = if withstood == outcome.attacks.len() { "good" } else { "bad" };
        tile(class, &format!("{withstood} of {}", outcome.attacks.len()), "attacks withstood");
    }
    let class = if outcome.violations == 0 { "good" } else { "bad" };
    tile(class, &outcome.violations.to_string(), "violations of the protocol's rules");
    let rate = outcome.messages_per_second();
    if rate >= 1.0 {
        tile("", &format!("{rate:.0}"), "messages a second, stored and acknowledged");
    }
    if let Some(stage) = outcome.stages.last() {
        for (timing, what) in [("acknowledgement", "acknowledged"), ("delivery", "delivered")] {
            if let Some(timing) = stage.timings.get(timing) {
                let value = format!("{} / {} / {} ms", millis(timing.p50), millis(timing.p99), millis(timing.p999));
                tile("", &value, &format!("{what}, p50 / p99 / p99.9 ({})", stage.name));
            }
        }
    }
    for (name, value, unit) in costs(outcome).into_iter().filter(|(name, ..)| name.starts_with("processor")) {
        tile("", &format!("{value:.2} {unit}"), name);
    }
    for figure in outcome.figures.iter().take(8) {
        tile("", &format!("{} {}", short(figure.value), figure.unit), &figure.name);
    }
    page.push_str("</div>");
}

fn figure(page: &mut String, plot: &Plot) {
    let Some(svg) = plot.svg() else { return };
    let _ = write!(
        page,
        "<figure class=\"card\"><figcaption>{}</figcaption>{svg}<div class=\"legend\">",
        escape(&plot.title)
    );
    for series in &plot.series {
        let dashed = if series.dashed { " dashed" } else { "" };
        let _ = write!(page, "<span><i class=\"c{}{dashed}\"></i>{}</span>", series.colour % 8, escape(&series.name));
    }
    page.push_str("</div></figure>");
}

/// The stages of all runs, with a name that tells them apart.
fn stages(outcomes: &[Outcome]) -> impl Iterator<Item = (String, &StageOutcome)> {
    let several = outcomes.len() > 1;
    outcomes.iter().enumerate().flat_map(move |(number, outcome)| {
        let more = outcome.stages.len() > 1;
        outcome.stages.iter().map(move |stage| {
            let name = match (several, more) {
                (true, true) => format!("{} ({}), {}", outcome.label, number + 1, stage.name),
                (true, false) => format!("{} ({})", outcome.label, number + 1),
                (false, _) => stage.name.clone(),
            };
            (name, stage)
        })
    })
}

#[expect(clippy::cast_precision_loss, reason = "microseconds, for people")]
fn latency_plot(outcomes: &[Outcome], timing: &str) -> Plot {
    // A stage has the same colour in every plot.
    let with_it = stages(outcomes).enumerate();
    let with_it = with_it.filter_map(|(colour, (name, stage))| Some((colour, name, stage.timings.get(timing)?)));
    let series = with_it.map(|(colour, name, distribution)| Series {
        name,
        points: distribution
            .percentiles
            .iter()
            // A percentile that fewer than one sample stands for is the maximum again.
            .filter(|(percentile, _)| (100.0 - percentile) / 100.0 * distribution.count as f64 >= 1.0)
            .map(|(percentile, micros)| (*percentile, *micros as f64 / 1000.0))
            .collect(),
        colour,
        dashed: false,
    });
    Plot {
        title: format!("{timing}, by percentile"),
        x: ("percentile", Scale::Rarity),
        y: ("milliseconds", Scale::Log),
        series: series.collect(),
    }
}

/// A value of a sample.
type Of<'a> = &'a dyn Fn(&Sample) -> Option<f64>;

fn over_time(outcomes: &[Outcome]) -> Vec<Plot> {
    let line = |outcome: &Outcome, number: usize, what: &str, dashed: bool, of: &dyn Fn(&Sample) -> Option<f64>| {
        let run = if outcomes.len() > 1 { format!("{} ({})", outcome.label, number + 1) } else { String::new() };
        let name = [run, what.to_owned()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let points: Vec<_> = outcome.samples.iter().filter_map(|sample| Some((sample.t, of(sample)?))).collect();
        Series { name, points, colour: if outcomes.len() > 1 { number } else { usize::from(dashed) }, dashed }
    };
    let plot = |title: &str, y: &'static str, lines: &[(&str, bool, Of<'_>)]| Plot {
        title: title.to_owned(),
        x: ("seconds", Scale::Linear),
        y: (y, Scale::Linear),
        series: outcomes
            .iter()
            .enumerate()
            .flat_map(|(number, outcome)| {
                lines.iter().map(move |(what, dashed, of)| line(outcome, number, what, *dashed, *of))
            })
            .filter(|series| !series.points.is_empty())
            .collect(),
    };
    let memory = |sample: &Sample| sample.server_rss_kib.map(|kib| gibibytes(kib) * 1024.0);
    vec![
        plot("Messages acknowledged", "messages a second", &[("messages", false, &|sample| Some(sample.messages))]),
        plot(
            "Processor time",
            "cores",
            &[("server", false, &|sample| sample.server_cpu), ("clients", true, &|sample| Some(sample.client_cpu))],
        ),
        plot(
            "Disk of the server",
            "MiB a second",
            &[
                ("written", false, &|sample| sample.server_written.map(mebibytes)),
                ("read", true, &|sample| sample.server_read.map(mebibytes)),
            ],
        ),
        plot("Resident memory of the server", "MiB", &[("server", false, &memory)]),
    ]
}

fn figures(page: &mut String, outcome: &Outcome) {
    let _ = write!(page, "<div class=\"card\"><b>{}: {}</b>", escape(&outcome.scenario), escape(&outcome.label));
    // Of attacks, the table above has what matters of their stages.
    let stages = if outcome.attacks.is_empty() { outcome.stages.as_slice() } else { &[] };
    for stage in stages {
        if !stage.timings.is_empty() {
            let _ = write!(
                page,
                "<table><tr><th>{}, {:.1} s: latency, ms<th>p50<th>p90<th>p99<th>p99.9<th>max<th>samples</tr>",
                escape(&stage.name),
                stage.seconds
            );
            for (name, timing) in &stage.timings {
                let values = [timing.p50, timing.p90, timing.p99, timing.p999, timing.max].map(millis).join("<td>");
                let _ = write!(page, "<tr><td>{}<td>{values}<td>{}</tr>", escape(name), timing.count);
            }
            page.push_str("</table>");
        }
        let _ = write!(page, "<table><tr><th>{}<th>count<th>a second</tr>", escape(&stage.name));
        for (name, count) in &stage.counts {
            let _ = write!(page, "<tr><td>{}<td>{count}<td>{:.1}</tr>", escape(name), stage.rate(name));
        }
        page.push_str("</table>");
    }
    page.push_str("<table><tr><th>figure<th>value<th>unit</tr>");
    let own = outcome.figures.iter().map(|figure| (figure.name.as_str(), figure.value, figure.unit.as_str()));
    for (name, value, unit) in own.chain(costs(outcome)) {
        let _ = write!(page, "<tr><td>{}<td>{}<td>{}</tr>", escape(name), short(value), escape(unit));
    }
    page.push_str("</table>");
    for rule in &outcome.broken {
        let _ = write!(page, "<p class=\"bad\"><b>violation</b> {}</p>", escape(rule));
    }
    page.push_str("</div>");
}
