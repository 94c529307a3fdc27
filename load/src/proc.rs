//! What the kernel says of a process, now and over time.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use crate::{
    recorder::{Count, Recorder},
    report::{Machine, Sample},
    server::Server,
};

/// How often samples are taken.
const EVERY: Duration = Duration::from_millis(500);
/// The kernel counts processor time in hundredths of a second, whatever its own tick (proc_pid_stat(5)).
const TICKS: f64 = 100.0;

/// The processor time of a process so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    cpu_seconds_of(format!("/proc/{pid}/stat").as_ref())
}

/// The processor time in the `stat` file of a process or of a thread, in seconds.
pub(crate) fn cpu_seconds_of(stat: &std::path::Path) -> Option<f64> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name of the process is in parentheses and may have anything in it; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u32>().ok());
    Some((f64::from(fields.next()??) + f64::from(fields.next()??)) / TICKS)
}

/// What a process has had the disk do, in bytes. What went through caches only is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Read from the disk: pages that were in no cache.
    pub(crate) read: u64,
    /// Pages that were made to be written to the disk.
    pub(crate) written: u64,
}

/// What a process has had the disk do so far.
pub(crate) fn disk(pid: u32) -> Option<Disk> {
    parse_io(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

/// Reads a `/proc/PID/io` (proc_pid_io(5)).
fn parse_io(text: &str) -> Option<Disk> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    Some(Disk { read: field("read_bytes")?, written: field("write_bytes")? })
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The machine.
pub(crate) fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor: field(&read("/proc/cpuinfo"), "model name"),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_kib: memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default(),
        load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
    }
}

/// Takes samples until it is stopped.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

/// What a process has spent at one moment.
#[derive(Clone, Copy)]
struct Spent {
    pid: u32,
    seconds: f64,
    /// None where the kernel does not tell.
    disk: Option<Disk>,
}

impl Spent {
    fn now(pid: u32) -> Option<Self> {
        cpu_seconds(pid).map(|seconds| Self { pid, seconds, disk: disk(pid) })
    }

    /// Cores in use since then; nothing if it was another process.
    fn since(self, before: Option<Self>, elapsed: f64) -> Option<f64> {
        let before = before.filter(|before| before.pid == self.pid)?;
        Some((self.seconds - before.seconds).max(0.0) / elapsed)
    }

    /// Bytes a second of the disk since then, read and written.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn disk_since(self, before: Option<Self>, elapsed: f64) -> Option<(f64, f64)> {
        let before = before.filter(|before| before.pid == self.pid)?.disk?;
        let now = self.disk?;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        Some((rate(now.read, before.read), rate(now.written, before.written)))
    }
}

impl Sampler {
    /// Starts; `server` is the process under load, if it can be looked at.
    pub(crate) fn start(recorder: Arc<Recorder>, server: Option<Watched>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(sample(Arc::clone(&samples), recorder, server));
        Self { samples, task }
    }

    /// The newest sample.
    pub(crate) fn latest(&self) -> Option<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Stops, and gives back all samples.
    pub(crate) fn stop(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A process that is looked at.
#[derive(Clone)]
pub(crate) enum Watched {
    /// One that may be killed and started again. Not kept alive by being looked at: it ends with the run.
    Ours(Weak<Server>),
    /// One that somebody else started.
    Other(u32),
}

impl Watched {
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Ours(server) => server.upgrade().and_then(|server| server.pid()),
            Self::Other(pid) => Some(*pid),
        }
    }
}

async fn sample(samples: Arc<Mutex<Vec<Sample>>>, recorder: Arc<Recorder>, server: Option<Watched>) {
    let (started, this) = (Instant::now(), std::process::id());
    let pid = || server.as_ref().and_then(Watched::pid);
    let (mut at, mut messages) = (started, recorder.total(Count::Acknowledged));
    let (mut of_server, mut of_client) = (pid().and_then(Spent::now), Spent::now(this));
    let mut ticks = tokio::time::interval_at(started + EVERY, EVERY);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let elapsed = now.duration_since(at).as_secs_f64().max(1e-3);
        let acknowledged = recorder.total(Count::Acknowledged);
        let (server_now, client_now) = (pid().and_then(Spent::now), Spent::now(this));
        let disk = server_now.and_then(|now| now.disk_since(of_server, elapsed));
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let sample = Sample {
            t: now.duration_since(started).as_secs_f64(),
            stage: recorder.stage().0,
            messages: acknowledged.saturating_sub(messages) as f64 / elapsed,
            server_cpu: server_now.and_then(|now| now.since(of_server, elapsed)),
            server_rss_kib: pid().and_then(resident_kib),
            server_read: disk.map(|(read, _)| read),
            server_written: disk.map(|(_, written)| written),
            client_cpu: client_now.and_then(|now| now.since(of_client, elapsed)).unwrap_or_default(),
            client_rss_kib: resident_kib(this).unwrap_or_default(),
        };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        (at, messages, of_server, of_client) = (now, acknowledged, server_now, client_now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let this = std::process::id();
        assert!(resident_kib(this).unwrap() > 100);
        assert!(cpu_seconds(this).unwrap() >= 0.0);
        assert!(machine().memory_kib > 1024);
    }

    #[test]
    fn what_went_to_the_disk_is_told_from_what_went_through_caches() {
        let text = "rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 4096\n\
                    write_bytes: 323932160\ncancelled_write_bytes: 12288\n";
        assert_eq!(parse_io(text), Some(Disk { read: 4_096, written: 323_932_160 }));
        assert_eq!(parse_io("rchar: 1\nwchar: 2\n"), None);
    }
}
