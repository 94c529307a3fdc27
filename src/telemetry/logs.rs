//! Structured logs: readable on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

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
