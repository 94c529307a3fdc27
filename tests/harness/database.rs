//! A MongoDB for tests.
//!
//! `MONGODB_URI` if it is set (`tests/run.sh` sets it, so that all tests share one); else `mongod` if it is on PATH;
//! else SecantusDB from the virtual environment that `tests/run.sh` makes. Each test has a database of its own name.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
    options::ClientOptions,
};
use tempfile::TempDir;

use super::eventually;

/// A database of its own.
pub struct Database {
    /// Its connection string.
    pub uri: String,
    server: Option<Arc<Server>>,
    /// Whether it is removed at the end.
    is_ours: bool,
}

impl Database {
    /// An empty database on the server that all tests share, if there is one.
    pub async fn new() -> Self {
        match std::env::var("MONGODB_URI") {
            Ok(uri) => Self { uri: with_name(&uri, &unique_name()), server: None, is_ours: true },
            Err(_) => Server::start(&[]).await.database(),
        }
    }

    /// A database of somebody else's server.
    pub fn at(uri: String) -> Self {
        Self { uri, server: None, is_ours: false }
    }

    /// A client of the driver.
    pub async fn client(&self) -> Client {
        Client::with_options(ClientOptions::parse(&self.uri).await.unwrap()).unwrap()
    }

    /// The database itself, to look into it.
    pub async fn open(&self) -> mongodb::Database {
        self.client().await.default_database().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server of our own goes away with all it has.
        if self.server.is_some() || !self.is_ours {
            return;
        }
        let uri = self.uri.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::with_options(ClientOptions::parse(&uri).await.unwrap()).unwrap();
                let dropping = client.default_database().unwrap().drop().await;
                client.shutdown().immediate(true).await;
                dropping
            })
        });
        // What is left behind disturbs nobody.
        let _ = dropping.join();
    }
}

/// A database server of a test's own, which it may kill. Gone when the last user is.
pub struct Server {
    child: std::sync::Mutex<Option<Child>>,
    folder: TempDir,
    port: u16,
    flags: std::sync::Mutex<Vec<String>>,
    /// Whether its clock is the test's.
    stepped: bool,
}

/// Runs SecantusDB with a clock that is off by what a file says, in milliseconds. What it gives for `$currentDate` is what
/// positions are made from.
const STEPPED: &str = r#"
import datetime as real, sys, types
offset = sys.argv.pop(1)
import secantus.update as update
class Same(type):
    def __instancecheck__(cls, value):
        return isinstance(value, real.datetime)
class Stepped(real.datetime, metaclass=Same):
    @classmethod
    def now(cls, tz=None):
        return real.datetime.now(tz) + real.timedelta(milliseconds=int(open(offset).read()))
update._dt = types.SimpleNamespace(**{**vars(real), "datetime": Stepped})
from secantus.cli import main
raise SystemExit(main())
"#;

impl Server {
    /// Starts a server with further flags, in the words of SecantusDB.
    pub async fn start(flags: &[&str]) -> Arc<Self> {
        Self::start_as(flags, false).await
    }

    /// Starts one whose clock is set by [`Self::step`]. Nothing where there is a real MongoDB: its clock is nobody's.
    pub async fn with_a_clock() -> Option<Arc<Self>> {
        if mongod().is_some() { None } else { Some(Self::start_as(&[], true).await) }
    }

    async fn start_as(flags: &[&str], stepped: bool) -> Arc<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let flags = std::sync::Mutex::new(flags.iter().map(|flag| (*flag).to_owned()).collect());
        let server = Self { child: Default::default(), folder: tempfile::tempdir().unwrap(), port, flags, stepped };
        server.step(0);
        server.launch();
        server.wait_until_it_serves().await;
        Arc::new(server)
    }

    /// Starts it again with further flags. With TLS, it is not waited for.
    pub async fn restart_with(&self, flags: &[&str]) {
        self.kill();
        self.flags.lock().unwrap().extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.launch();
        if !flags.iter().any(|flag| flag.starts_with("--tls")) {
            self.wait_until_it_serves().await;
        }
    }

    /// Sets how many milliseconds its clock is off by.
    pub fn step(&self, offset: i64) {
        if self.stepped {
            // Whole or not at all: it is read at any moment.
            let (file, draft) = (self.clock(), self.folder.path().join("clock.new"));
            std::fs::write(&draft, offset.to_string()).unwrap();
            std::fs::rename(draft, file).unwrap();
        }
    }

    fn clock(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts one that knows fail points.
    pub async fn with_fail_points() -> Arc<Self> {
        Self::start(&["--enable-test-commands"]).await
    }

    /// A database on it.
    pub fn database(self: &Arc<Self>) -> Database {
        Database { uri: with_name(&self.uri(), &unique_name()), server: Some(Arc::clone(self)), is_ours: true }
    }

    /// The connection string, without a database.
    pub fn uri(&self) -> String {
        // Short waits: a test does not wait for what was killed.
        let quick = "serverSelectionTimeoutMS=2000&heartbeatFrequencyMS=500&serverMonitoringMode=poll";
        format!("mongodb://127.0.0.1:{}/?directConnection=true&{quick}", self.port)
    }

    /// Kills it as if the power failed.
    pub fn kill(&self) {
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, on the same data and port.
    pub fn launch(&self) {
        let (folder, port) = (self.folder.path(), self.port.to_string());
        let mut command = match mongod() {
            Some(mongod) => {
                let mut command = Command::new(mongod);
                command.args(["--bind_ip", "127.0.0.1", "--port", &port, "--replSet", "test", "--dbpath"]).arg(folder);
                for flag in self.flags.lock().unwrap().iter() {
                    match flag.as_str() {
                        "--enable-test-commands" => command.args(["--setParameter", "enableTestCommands=1"]),
                        flag => command.arg(flag),
                    };
                }
                command
            }
            None => {
                let mut command = Command::new(python());
                if self.stepped {
                    command.args(["-c", STEPPED]).arg(self.clock());
                } else {
                    command.args(["-m", "secantus"]);
                }
                command.args(["--sync-on-commit", "--port", &port, "--storage-path"]).arg(folder.join("data"));
                command.args(&*self.flags.lock().unwrap());
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
    }

    /// Waits until it can be written.
    pub async fn wait_until_it_serves(&self) {
        eventually("the database server", async || {
            let client = Client::with_options(ClientOptions::parse(self.uri()).await.unwrap()).unwrap();
            if mongod().is_some() {
                // Harmless when it has been done.
                let _ = client.database("admin").run_command(doc! { "replSetInitiate": {} }).await;
            }
            let hello = client.database("admin").run_command(doc! { "hello": 1 }).await;
            let ready = hello.is_ok_and(|hello: Document| hello.get_bool("isWritablePrimary").unwrap_or(false));
            client.shutdown().immediate(true).await;
            ready.then_some(())
        })
        .await;
    }

    /// Sets a fail point.
    pub async fn fail(&self, mode: impl Into<Bson>, data: Document) {
        let client = Client::with_options(ClientOptions::parse(self.uri()).await.unwrap()).unwrap();
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        client.database("admin").run_command(command).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn mongod() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("mongod")).find(|file| file.exists())
}

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-database/bin/python");
    assert!(
        python.exists(),
        "no MongoDB: set MONGODB_URI, install mongod, or run tests/run.sh, which installs SecantusDB"
    );
    python
}

fn unique_name() -> String {
    format!("test_{}", uuid::Uuid::now_v7().simple())
}

/// The same connection string with another database.
fn with_name(uri: &str, name: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap();
    let (hosts, options) = rest.split_once('?').map_or((rest, ""), |(hosts, options)| (hosts, options));
    let hosts = hosts.split('/').next().unwrap();
    format!("{scheme}://{hosts}/{name}?{options}")
}
