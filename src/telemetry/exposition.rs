//! The two formats of metrics: OpenMetrics for who asks for it, as Prometheus does, and the plain text before it for browsers,
//! `curl` and everybody else.

use std::fmt::Write as _;

/// The content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the plain text, which browsers show.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a client that sends this `Accept` is answered with OpenMetrics.
#[must_use]
pub fn wants_open_metrics(accept: &str) -> bool {
    accept.to_ascii_lowercase().contains("application/openmetrics-text")
}

/// The plain text of an OpenMetrics text. A counter has the name of its samples there, with `_total`; there are no units and no
/// end.
#[must_use]
pub fn plain(open_metrics: &str) -> String {
    let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The help comes just before the type.
        let helps = line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        let of_counter =
            if helps || is_counter(line) { line.get(7..).and_then(|rest| rest.split_once(' ')) } else { None };
        let _ = match of_counter {
            Some((name, rest)) => writeln!(text, "{} {name}_total {rest}", line.get(..6).unwrap_or_default()),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_the_plain_text_and_prometheus_what_it_asks_for() {
        assert!(wants_open_metrics(
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(!wants_open_metrics("text/html,application/xhtml+xml,*/*;q=0.8") && !wants_open_metrics(""));
    }

    #[test]
    fn counters_have_the_name_of_their_samples_in_the_plain_text() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"y z\"} 1\n\
                    # HELP c Now.\n# TYPE c gauge\n# UNIT c seconds\nc 2\n# EOF\n";
        let plain_text = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"y z\"} 1\n\
                          # HELP c Now.\n# TYPE c gauge\nc 2\n";
        assert_eq!(plain(open), plain_text);
    }
}
