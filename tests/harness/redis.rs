//! A Redis of a test's own, which it may kill, stop and start again; and Sentinels that watch over some.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use redis::{FromRedisValue, IntoConnectionInfo as _};
use tempfile::TempDir;

use super::{PATIENCE, eventually};

/// A Redis in a folder and on a port of its own. Killed when dropped.
pub struct Redis {
    child: Mutex<Option<Child>>,
    folder: TempDir,
    port: u16,
    settings: Mutex<Vec<String>>,
    is_sentinel: bool,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one with further lines of configuration.
    pub async fn with(settings: &[&str]) -> Self {
        Self::start_as(settings, false).await
    }

    /// Starts a Sentinel that watches over a master called `club`, and needs another one to agree that it is down.
    pub async fn sentinel_of(master: &Self) -> Self {
        let watch = format!("sentinel monitor club 127.0.0.1 {} 2", master.port);
        let quickly = ["sentinel down-after-milliseconds club 500", "sentinel failover-timeout club 2000"];
        Self::start_as(&[&watch, quickly[0], quickly[1]], true).await
    }

    async fn start_as(settings: &[&str], is_sentinel: bool) -> Self {
        let settings = Mutex::new(settings.iter().map(|line| (*line).to_owned()).collect());
        let folder = tempfile::tempdir().unwrap();
        let redis = Self { child: Mutex::default(), folder, port: free_port(), settings, is_sentinel };
        redis.launch().await;
        redis
    }

    /// Kills it as if the power failed.
    pub fn kill(&self) {
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, on the same port, and waits until it answers.
    pub async fn launch(&self) {
        let config = self.folder().join("redis.conf");
        let mut lines = format!("port {}\nbind 127.0.0.1\ndir {}\n", self.port, self.folder().display());
        let own = if self.is_sentinel { "" } else { "save \"\"\nappendonly no\n" };
        lines.push_str(own);
        for line in self.settings.lock().unwrap().iter() {
            writeln!(lines, "{line}").unwrap();
        }
        std::fs::write(&config, lines).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        if self.is_sentinel {
            command.arg("--sentinel");
        }
        *self.child.lock().unwrap() = Some(command.spawn().expect("redis-server is installed"));
        eventually("Redis to answer", async || {
            let answer = self.ask::<String>("redis://127.0.0.1", &["PING"]).await;
            // Whoever has to sign in first was answered too.
            answer.map_or_else(|error| error.code() == Some("NOAUTH"), |_| true).then_some(())
        })
        .await;
    }

    /// Starts it again with other lines of configuration.
    pub async fn restart_with(&self, settings: &[&str]) {
        self.kill();
        *self.settings.lock().unwrap() = settings.iter().map(|line| (*line).to_owned()).collect();
        self.launch().await;
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let id = self.child.lock().unwrap().as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The answer to a command, as somebody who signs in with what an URL says.
    pub async fn ask<T: FromRedisValue>(&self, user: &str, command: &[&str]) -> redis::RedisResult<T> {
        let there = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = user.into_connection_info()?.set_addr(there);
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        let (name, arguments) = command.split_first().expect("a command");
        redis::cmd(name).arg(arguments).query_async(&mut connection).await
    }

    /// How many channels of clubs somebody hears.
    pub async fn channels(&self) -> usize {
        self.ask::<Vec<String>>("redis://127.0.0.1", &["PUBSUB", "CHANNELS", "members-book:*"]).await.unwrap().len()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free, and not among those that the system gives to whoever asks for any: it stays free while a server that was
/// killed is away.
pub fn free_port() -> u16 {
    loop {
        let [.., high, low] = *uuid::Uuid::now_v7().as_bytes();
        let port = 12_000 + u16::from_be_bytes([high, low]) % 18_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
