//! Structured logs: readable on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` otherwise.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// What is logged, in tracing's filter syntax.
///
/// # Errors
/// What is wrong with it, for people: a word that is no level would be taken for the name of a module, and leave nothing to be
/// seen.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_module = |word: &str| word.contains(['=', '[', ':']);
    match directives.split(',').map(str::trim).find(|word| !word.is_empty() && !is_level(word) && !is_module(word)) {
        Some(word) => Err(format!("{word} is no level: error, warn, info, debug, trace or off, or module=level")),
        None => EnvFilter::try_new(directives).map_err(|error| error.to_string()),
    }
}

/// Starts logging to standard error. A second call in one process changes nothing.
pub fn init(filter: EnvFilter, format: LogFormat) {
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    // An error means that logging has been started already, as in a process with several servers.
    let _ = if json {
        registry.with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
    } else {
        registry.with(layer.with_target(false)).try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["info", "WARN", "off", "warn,members_book=debug", "members_book::http=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "warning", "info,loud", "members_book=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
