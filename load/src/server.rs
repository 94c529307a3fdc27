//! A server of our own: started on a store of its own, killed and started again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What to start.
pub(crate) struct Launch {
    /// The program. By default the server that was built beside this one.
    pub(crate) binary: Option<PathBuf>,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Settings, which come on top of those of a server under load.
    pub(crate) settings: Vec<(String, String)>,
    /// The default settings apply, limits included, and its log goes into a file.
    pub(crate) defaults: bool,
    /// Its log goes into a file whichever settings apply.
    pub(crate) logs: bool,
}

/// A server process, on a folder and a port that stay the same when it is started again.
pub(crate) struct Server {
    launch: Launch,
    binary: PathBuf,
    folder: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
    metrics: Mutex<Option<SocketAddr>>,
}

/// The settings of a server under load: no rate limits, every change told, tokens that outlive the run, passwords that cost little.
const SETTINGS: [(&str, &str); 22] = [
    ("METRICS_ADDR", "off"),
    ("BCRYPT_COST", "4"),
    ("RATE_MESSAGES", "0"),
    ("RATE_FRAMES", "0"),
    ("RATE_HELLOS", "0"),
    ("RATE_HELLOS_MEMBER", "0"),
    ("RATE_HELLOS_ADDRESS", "0"),
    ("RATE_TYPING", "0"),
    ("RATE_STATUSES", "0"),
    ("RATE_NEW_CONVERSATIONS", "0"),
    ("RATE_PROFILES", "0"),
    ("PRESENCE_INTERVAL", "0s"),
    ("PROFILE_INTERVAL", "0s"),
    ("RATE_REQUESTS", "0"),
    ("RATE_ADDRESS", "0"),
    ("RATE_LOGINS", "0"),
    ("RATE_REFRESHES", "0"),
    ("RATE_REGISTRATIONS", "0"),
    ("ACCESS_TOKEN_TTL", "12h"),
    ("LOG", "error"),
    ("HOST", "127.0.0.1"),
    ("DATA_DIR", "."),
];

/// The settings that a server of ours needs when the defaults apply: where it listens, and where its files are.
const PLACES: [(&str, &str); 3] = [("HOST", "127.0.0.1"), ("DATA_DIR", "."), ("METRICS_ADDR", "127.0.0.1:0")];

impl Server {
    /// Finds a folder and a port. The process starts with [`Self::start`].
    pub(crate) fn prepare(launch: Launch) -> Result<Arc<Self>, String> {
        let binary = match &launch.binary {
            Some(binary) => binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?,
            None => beside_this_program()?,
        };
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        Ok(Arc::new(Self { launch, binary, folder, port, child: Mutex::default(), metrics: Mutex::default() }))
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The file of its embedded store.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("load.db")
    }

    /// Bytes of its embedded store: the file and the log beside it.
    pub(crate) fn store_bytes(&self) -> u64 {
        let length = |name: &str| self.folder.path().join(name).metadata().map_or(0, |file| file.len());
        length("load.db") + length("load.db-wal")
    }

    /// Where its metrics are, if it has any.
    pub(crate) fn metrics_addr(&self) -> Option<SocketAddr> {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of its log, where that is kept: with the default settings.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_file().metadata().map_or(0, |log| log.len())
    }

    /// The end of its log, where that is kept.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The id of the process that runs now.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    /// Kills the server as if the power failed, and starts it again on the same data.
    pub(crate) fn kill_and_start(&self) -> Result<(), String> {
        self.kill();
        self.start()
    }

    /// Sends a signal to the process that runs now.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        // It may have ended by itself, which shows.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Kills the server as if the power failed.
    pub(crate) fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // It may have ended by itself, which the clients have noticed then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the process and waits until it serves.
    pub(crate) fn start(&self) -> Result<(), String> {
        let settings: &[(&str, &str)] = if self.launch.defaults { &PLACES } else { &SETTINGS };
        let log: Stdio = if self.launch.defaults || self.launch.logs {
            let log = File::options().create(true).append(true).open(self.log_file());
            log.map_err(|error| format!("its log: {error}"))?.into()
        } else {
            Stdio::inherit()
        };
        let started = Command::new(&self.binary)
            .args(&self.launch.arguments)
            .current_dir(self.folder.path())
            .envs(settings.iter().copied())
            .stderr(log)
            .env("PORT", self.port.to_string())
            .env("DATABASE_URL", "sqlite:./load.db")
            .envs(self.launch.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let output = child.stdout.take().map(BufReader::new);
        // Its last line says where the documentation is; then it serves.
        let ready = output.into_iter().flat_map(BufReader::lines).map_while(Result::ok).any(|line| {
            if let Some(url) = line.trim().strip_prefix("metrics ") {
                let addr = url.trim().trim_start_matches("http://").trim_end_matches("/metrics").parse().ok();
                *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = addr;
            }
            line.contains(" docs ")
        });
        if !ready {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{} did not start: {}", self.binary.display(), self.last_words()));
        }
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn beside_this_program() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = this.with_file_name("members-book");
    if binary.exists() {
        Ok(binary)
    } else {
        Err(format!("{} is not there: build it with cargo build --release, or name it", binary.display()))
    }
}
