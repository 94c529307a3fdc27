//! What is written about settings, metrics and the REST API is what the code says. `UPDATE=1 cargo test documents` writes
//! it anew.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, CommandFactory as _};
use members_book::{
    config::Cli,
    telemetry::metrics::{Metric, MetricKind, PREFIX},
};

/// Compares a committed file with what it should be, or writes it.
fn check(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == expected, "{path} is stale: run UPDATE=1 cargo test documents");
}

/// A page with one part of it filled in.
fn filled(path: &str, part: &str, content: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let start = format!("<!-- generated: {part} -->\n");
    let (before, rest) = page.split_once(&start).unwrap_or_else(|| panic!("{path} has no place for {part}"));
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{start}{content}<!-- end -->{after}")
}

/// The settings by heading, in their order.
fn settings() -> Vec<(String, Vec<Arg>)> {
    let mut groups: Vec<(String, Vec<Arg>)> = Vec::new();
    for arg in Cli::command().get_arguments().filter(|arg| arg.get_env().is_some()) {
        let heading = arg.get_help_heading().unwrap().to_owned();
        match groups.last_mut() {
            Some((known, args)) if *known == heading => args.push(arg.clone()),
            _ => groups.push((heading, vec![arg.clone()])),
        }
    }
    groups
}

fn name(arg: &Arg) -> String {
    arg.get_env().unwrap().to_str().unwrap().to_owned()
}

/// What the setting does, and its default.
fn parts(arg: &Arg) -> (String, String) {
    let help = arg.get_help().unwrap().to_string();
    let defaults: Vec<&str> = arg.get_default_values().iter().map(|value| value.to_str().unwrap()).collect();
    match help.split_once(" [default: ") {
        Some((help, default)) => (help.to_owned(), default.trim_end_matches(']').to_owned()),
        None => (help, defaults.join(",")),
    }
}

#[test]
fn the_example_settings_are_complete() {
    let mut text = String::from(
        "# Members Book: every setting, with its default. Copy this file to .env and uncomment what you change.\n\
         # Flags (members-book --help) overrule the environment, and the environment overrules .env.\n",
    );
    for (heading, args) in settings() {
        let _ = write!(text, "\n# ---- {heading} ----\n");
        for arg in args {
            let (help, default) = parts(&arg);
            let _ = write!(text, "\n# {help}\n#{}={default}\n", name(&arg));
        }
    }
    check(".env.example", &text);
}

#[test]
fn the_page_about_settings_is_complete() {
    let mut text = String::new();
    for (heading, args) in settings() {
        let _ = write!(text, "\n### {heading}\n\n| setting | default | what it does |\n| --- | --- | --- |\n");
        for arg in args {
            let (help, default) = parts(&arg);
            let default = if default.is_empty() { "-".to_owned() } else { format!("`{default}`") };
            let _ = writeln!(text, "| `{}` | {default} | {help} |", name(&arg));
        }
    }
    text.push('\n');
    check("docs/configuration.md", &filled("docs/configuration.md", "settings", &text));
}

#[test]
fn the_page_about_metrics_is_complete() {
    let mut text = String::from("| metric | kind | labels | what it measures |\n| --- | --- | --- | --- |\n");
    for metric in Metric::ALL {
        let (kind, suffix) = match metric.kind() {
            MetricKind::Counter => ("counter", "_total"),
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Histogram => ("histogram", ""),
        };
        let labels = metric.labels().iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{PREFIX}_{}{suffix}` | {kind} | {labels} | {} |", metric.name(), metric.help());
    }
    check("docs/metrics.md", &filled("docs/metrics.md", "metrics", &text));
}

#[test]
fn the_openapi_document_is_what_the_handlers_say() {
    let mut text = members_book::http::routes::document().to_pretty_json().unwrap();
    text.push('\n');
    check("protocol/schema/openapi.json", &text);
}
