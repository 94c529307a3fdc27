//! What the clients do.

pub(crate) mod chat;
pub(crate) mod idle;
mod talker;

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use crate::{
    server::Server,
    target::{Account, Target},
};

/// How often a line of progress is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Which server is put under load.
#[derive(Args)]
pub(crate) struct Where {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Start a server of our own instead, on a throw-away store, without rate limits.
    #[arg(long)]
    spawn: bool,
    /// The server to start with --spawn. [default: members-book beside this program]
    #[arg(long, requires = "spawn")]
    binary: Option<PathBuf>,
}

impl Where {
    /// The server, and its process if it is ours.
    async fn open(&self) -> Result<(Target, Option<Arc<Server>>), String> {
        let server = if self.spawn { Some(Server::start(self.binary.clone())?) } else { None };
        let url = server.as_ref().map_or_else(|| self.url.clone(), |server| server.url());
        Ok((Target::at(&url).await?, server))
    }
}

/// Registers members, a few at a time, showing how far it is.
async fn register(target: &Target, count: usize) -> Result<Vec<Account>, String> {
    let bar = progress("registering members", count);
    let mut accounts = Vec::with_capacity(count);
    let mut registering = tokio::task::JoinSet::new();
    for number in 0..count {
        if registering.len() >= 8 {
            accounts.extend(joined(registering.join_next().await)?);
            bar.inc(1);
        }
        let target = target.clone();
        registering.spawn(async move { target.register(&format!("Load {number}")).await });
    }
    while let Some(account) = registering.join_next().await {
        accounts.extend(joined(Some(account))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(accounts)
}

/// What a task returned; a task of ours that panicked is a fault of ours.
fn joined<T>(task: Option<Result<Result<T, String>, tokio::task::JoinError>>) -> Result<Option<T>, String> {
    task.map(|task| task.map_err(|error| error.to_string())?).transpose()
}

/// A progress bar; where there is no terminal, a line now and then.
fn progress(what: &'static str, length: usize) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {per_sec} {elapsed}");
    let bar = indicatif::ProgressBar::new(length as u64).with_message(what);
    if !std::io::stderr().is_terminal() {
        let bar = bar.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LINE_EVERY).await;
                if bar.is_finished() {
                    return;
                }
                eprintln!("{what}: {} of {length}", bar.position());
            }
        });
    }
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
