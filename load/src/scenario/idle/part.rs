//! Idle connections of another process: one process may not have open files for all of them.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use clap::Args;
use protocol::MemberId;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    herd::Herd,
    recorder::{Count, Recorder},
    target::Account,
};

/// How long the other process may take to open its connections.
const PATIENCE: Duration = Duration::from_secs(300);

/// Opens a connection for each token on standard input, and says so; ends with its input.
#[derive(Args)]
pub(crate) struct Options {
    addr: SocketAddr,
    /// Tells the source addresses of several processes apart.
    address: usize,
    /// How many tokens there are.
    tokens: usize,
}

/// Another process with idle connections.
pub(crate) struct Part {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts a process and waits until its connections are open.
    pub(crate) async fn start(addr: SocketAddr, address: usize, accounts: &[Account]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(["herd", &addr.to_string(), &address.to_string(), &accounts.len().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let input = child.stdin.as_mut().ok_or("no way into the other process")?;
        for account in accounts {
            let line = format!("{}\n", account.token);
            input.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let output = child.stdout.take().ok_or("no way out of the other process")?;
        let mut part = Self { child, output: BufReader::new(output).lines() };
        part.line().await?;
        Ok(part)
    }

    async fn line(&mut self) -> Result<String, String> {
        let line = timeout(PATIENCE, self.output.next_line()).await.map_err(|_| "the other process does not answer")?;
        line.map_err(|error| error.to_string())?.ok_or_else(|| "the other process has ended".to_owned())
    }

    /// Ends it. Returns how many of its connections were open to the last.
    pub(crate) async fn finish(mut self, recorder: &Arc<Recorder>) -> Result<usize, String> {
        drop(self.child.stdin.take());
        let alive = self.line().await?.parse().map_err(|_| "the other process does not say how it was")?;
        while let Ok(rule) = self.line().await {
            recorder.broken(rule);
        }
        Ok(alive)
    }
}

/// The other process.
pub(crate) async fn run(options: Options) -> Result<bool, String> {
    let recorder = Recorder::new();
    let mut herd = Herd::new(Arc::clone(&recorder), options.addr, options.address);
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut accounts = Vec::with_capacity(options.tokens);
    while accounts.len() < options.tokens {
        let token = input.next_line().await.map_err(|error| error.to_string())?.ok_or("too few tokens")?;
        let (id, email) = (MemberId::from_bytes([0; 12]), String::new());
        accounts.push(Account { id, token, refresh: None, email });
    }
    herd.open(accounts).await;
    println!("{}", recorder.total(Count::Connected));
    // Until the input ends.
    while let Ok(Some(_)) = input.next_line().await {}
    println!("{}", herd.alive());
    let (count, rules) = recorder.violations();
    rules.iter().for_each(|rule| println!("{rule}"));
    Ok(count == 0)
}
