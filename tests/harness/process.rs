//! The server as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A server process. Killed when dropped.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it printed on its standard output before it was ready.
    pub banner: Vec<String>,
}

/// The command that starts a server on data in a folder, on free ports, with cheap passwords and no limits.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_members-book"));
    command
        .current_dir(folder)
        .env_clear()
        .envs([
            ("PORT", "0"),
            ("METRICS_ADDR", "off"),
            ("BCRYPT_COST", "4"),
            ("PUSH_EXPO_URL", "http://127.0.0.1:9"),
            ("RATE_MESSAGES", "0"),
            ("RATE_FRAMES", "0"),
            ("RATE_TYPING", "0"),
            ("RATE_STATUSES", "0"),
            ("RATE_NEW_CONVERSATIONS", "0"),
            ("RATE_PROFILES", "0"),
            ("RATE_REQUESTS", "0"),
            ("RATE_ADDRESS", "0"),
            ("RATE_LOGINS", "0"),
            ("RATE_REFRESHES", "0"),
            ("RATE_REGISTRATIONS", "0"),
            ("LOG", "warn"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

impl Process {
    /// Starts a server on data in a folder.
    pub fn start(folder: &Path) -> Self {
        Self::spawn(&mut command(folder))
    }

    /// Starts a server and waits until it is ready.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("the server ended: {:?}", child.wait())).unwrap();
            banner.push(line);
            if banner.last().is_some_and(|line| line.trim_start().starts_with("docs")) {
                break;
            }
        }
        let api = banner.iter().find_map(|line| line.trim().strip_prefix("API")).unwrap();
        let addr = api.trim().strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, addr, banner }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as if the power failed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub async fn wait(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the server did not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
