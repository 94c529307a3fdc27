//! The table at the end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use crate::stats::{Count, Stats, Timing};

/// Prints counts, latencies and broken rules. True if no rule was broken.
pub(crate) fn print(stats: &Stats, took: Duration, more: &[(&str, String)]) -> bool {
    let mut counts = table(&["what", "count"]);
    for (what, count) in [
        ("messages sent", Count::Sent),
        ("messages acknowledged", Count::Acknowledged),
        ("  of them duplicates of a retry", Count::Duplicate),
        ("messages pushed to their receiver", Count::Pushed),
        ("entries caught up by sync or history", Count::CaughtUp),
        ("receipts pushed to the sender", Count::Receipts),
        ("messages sent again after a reconnect", Count::Retried),
        ("requests put off because the server asked", Count::PutOff),
        ("connections opened", Count::Connected),
        ("connections dropped on purpose", Count::Dropped),
        ("connections lost", Count::Lost),
    ] {
        counts.add_row([what.to_owned(), stats.total(count).to_string()]);
    }
    for (what, value) in more {
        counts.add_row([(*what).to_owned(), value.clone()]);
    }
    println!("{counts}");

    let mut latencies = table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max", "samples"]);
    for (what, timing) in [
        ("acknowledgement", Timing::Acknowledgement),
        ("delivery", Timing::Delivery),
        ("connect and sync", Timing::Sync),
    ] {
        let Some(distribution) = stats.distribution(timing) else { continue };
        let at = |quantile| millis(distribution.value_at_quantile(quantile));
        latencies.add_row([
            what.to_owned(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            millis(distribution.max()),
            distribution.len().to_string(),
        ]);
    }
    println!("{latencies}");

    let acknowledged = stats.total(Count::Acknowledged);
    let seconds = took.as_secs_f64();
    let rate = f64::from(u32::try_from(acknowledged).unwrap_or(u32::MAX)) / seconds;
    println!("{acknowledged} messages in {seconds:.2} s: {rate:.0} messages/s");
    let (broken, words) = stats.violations();
    for rule in &words {
        println!("VIOLATION: {rule}");
    }
    println!("{broken} violations of the protocol's rules");
    broken == 0
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}
