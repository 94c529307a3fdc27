//! A server of our own: started on a throw-away store, measured, killed and started again.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

/// A server process on a folder and a port that stay the same when it is started again.
pub(crate) struct Server {
    binary: PathBuf,
    folder: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a server; by default the one that was built beside this program.
    pub(crate) fn start(binary: Option<PathBuf>) -> Result<Arc<Self>, String> {
        let binary = match binary {
            Some(binary) => binary,
            None => beside_this_program()?,
        };
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let server = Self { binary, folder, port, child: Mutex::default() };
        server.launch()?;
        Ok(Arc::new(server))
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The id of the process that runs now.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    /// Kills the server as if the power failed, and starts it again on the same data.
    pub(crate) fn kill_and_start(&self) -> Result<(), String> {
        self.kill();
        self.launch()
    }

    fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // It may have ended by itself, which the clients have noticed then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn launch(&self) -> Result<(), String> {
        let started = Command::new(&self.binary)
            .current_dir(self.folder.path())
            .envs([
                ("METRICS_ADDR", "off"),
                ("BCRYPT_COST", "4"),
                ("RATE_MESSAGES", "0"),
                ("RATE_FRAMES", "0"),
                ("RATE_LOGINS", "0"),
                ("RATE_REGISTRATIONS", "0"),
                ("LOG", "error"),
            ])
            .env("PORT", self.port.to_string())
            .env("DATABASE_URL", database_url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let output = child.stdout.take().map(BufReader::new);
        // Its last line says where the documentation is; then it serves.
        let ready =
            output.into_iter().flat_map(BufReader::lines).any(|line| line.is_ok_and(|line| line.contains(" docs ")));
        if !ready {
            let _ = child.kill();
            return Err(format!("{} did not start", self.binary.display()));
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

/// Where the server keeps its data: where the environment says, or in its throw-away folder.
#[expect(clippy::disallowed_methods, reason = "it is the environment of the server that is passed on")]
fn database_url() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite:./load.db".to_owned())
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

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.ok_or_else(|| format!("{path}: no VmRSS"))
}
