//! A process that a fleet needs beside its nodes: the database, a Redis. Killed and started again on the same data.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::Instant};

/// How long it may take until it listens.
const STARTING: Duration = Duration::from_secs(60);

/// A process that listens on a port of its own.
pub(crate) struct Companion {
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    port: u16,
    niceness: u8,
    child: Mutex<Option<Child>>,
}

impl Companion {
    /// Gets ready to start a program: `arguments` makes its arguments from a folder and a port.
    pub(crate) fn prepare(program: PathBuf, arguments: impl FnOnce(&str, &str) -> Vec<String>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_port()?;
        let arguments = arguments(&folder.path().display().to_string(), &port.to_string());
        Ok(Self { program, arguments, folder, port, niceness: 0, child: Mutex::default() })
    }

    /// The same with a lower priority, from its next start on.
    pub(crate) fn with_niceness(mut self, niceness: u8) -> Self {
        self.niceness = niceness;
        self
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(&self) -> Result<(), String> {
        // It becomes the program, with the same process id.
        let mut command = Command::new("nice");
        command.arg("-n").arg(self.niceness.to_string()).arg(&self.program);
        command.args(&self.arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let started = Instant::now();
        while TcpStream::connect(self.addr()).await.is_err() {
            if started.elapsed() > STARTING || self.has_ended() {
                return Err(format!("{} does not listen on port {}", self.program.display(), self.port));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it as if the power failed.
    pub(crate) fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody uses at the moment.
pub(crate) fn free_port() -> Result<u16, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.map(|addr| addr.port()).map_err(|error| error.to_string())
}

/// Where a program is, by the folders of `PATH`.
pub(crate) fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
}
