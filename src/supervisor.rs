//! Every long-lived task and thread of a server is watched here.
//!
//! Most of them do not end by themselves before the server stops. One that does (it panicked, or there is a fault in the code) is
//! counted (`task_failures`), shows by its name in `/readyz`, and either ends the process, so that whatever watches over it
//! starts it anew with everything in order, or is started again. What others wait for and what has state that would be
//! lost is of the first kind; what comes round now and then is of the second. What is done once, after the answer to a request
//! ([`Supervisor::once`]), may end: only its panic is counted, and the shutdown waits for it.

use std::{
    collections::BTreeMap,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::telemetry::Metrics;

/// The first pause before a task is started again, which doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a task is started again; one that has run for longer than that begins with the first.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Watches over the tasks and threads of one server.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    metrics: Arc<Metrics>,
    /// From then on, ending is what a task is to do.
    shutdown: CancellationToken,
    /// How many tasks of a name do not run although they should.
    down: Mutex<BTreeMap<&'static str, usize>>,
    /// What is done once.
    once: TaskTracker,
    /// Why the process has to end.
    fatal: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// Watches over nothing yet; once `shutdown` is cancelled, tasks may end.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, shutdown: CancellationToken) -> Self {
        let (fatal, _) = watch::channel(None);
        Self(Arc::new(Shared { metrics, shutdown, down: Mutex::default(), once: TaskTracker::new(), fatal }))
    }

    /// Runs a task whose end before the shutdown ends the process.
    pub fn essential<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.until(self.0.shutdown.clone(), name, task)
    }

    /// Runs a task whose end before `stop` ends the process.
    pub fn until<F>(&self, stop: CancellationToken, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if ended.is_err() || !stop.is_cancelled() {
                this.count(name);
                this.fail(format!("the task {name} {}", if ended.is_err() { "panicked" } else { "has ended" }));
            }
        })
    }

    /// Runs a task that is made again, after a pause, whenever it ends before the shutdown.
    pub fn restarting<F>(&self, name: &'static str, make: impl Fn() -> F + Send + Sync + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                let ended = AssertUnwindSafe(async { make().await }).catch_unwind().await;
                if this.0.shutdown.is_cancelled() {
                    return;
                }
                this.count(name);
                if started.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                tracing::error!(
                    task = name,
                    panicked = ended.is_err(),
                    ?pause,
                    "a task has ended; it is started again"
                );
                if this.0.shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                this.up(name);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        })
    }

    /// Runs a task that does something once, for which nobody waits but the shutdown. How many there are at a time is for the caller to
    /// bound. Its panic is counted.
    pub fn once<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        self.0.once.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                this.0.metrics.task_failure(name);
                tracing::error!(task = name, "a task panicked");
            }
        })
    }

    /// Waits for what is done once, when the server stops.
    pub async fn finish(&self) {
        self.0.once.close();
        self.0.once.wait().await;
    }

    /// Runs a thread, `name` or one of several of that name, whose panic ends the process. It ends by itself when it
    /// has nothing left to do.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn thread(
        &self,
        name: &'static str,
        number: Option<usize>,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let this = self.clone();
        let title = number.map_or_else(|| name.to_owned(), |number| format!("{name}-{number}"));
        thread::Builder::new().name(title).spawn(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(body)).is_err() {
                this.count(name);
                this.fail(format!("the thread {name} panicked"));
            }
        })
    }

    /// Ends the process, and says why.
    pub fn fail(&self, reason: String) {
        tracing::error!(reason, "this server cannot go on");
        self.0.fatal.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(reason);
            is_first
        });
    }

    /// Waits until the process has to end; returns why.
    pub async fn failed(&self) -> String {
        let mut fatal = self.0.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // We hold the sender ourselves.
            Err(_) => std::future::pending().await,
        }
    }

    /// The names of those that do not run although they should.
    #[must_use]
    pub fn down(&self) -> Vec<&'static str> {
        self.with_down(|down| down.keys().copied().collect())
    }

    fn count(&self, name: &'static str) {
        self.0.metrics.task_failure(name);
        self.with_down(|down| *down.entry(name).or_default() += 1);
    }

    fn up(&self, name: &'static str) {
        self.with_down(|down| {
            if let Some(count) = down.get_mut(name) {
                *count -= 1;
            }
            down.retain(|_, count| *count > 0);
        });
    }

    fn with_down<T>(&self, with: impl FnOnce(&mut BTreeMap<&'static str, usize>) -> T) -> T {
        with(&mut self.0.down.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn supervisor() -> (Supervisor, CancellationToken, Arc<Metrics>) {
        let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
        (Supervisor::new(Arc::clone(&metrics), shutdown.clone()), shutdown, metrics)
    }

    #[tokio::test]
    async fn the_end_of_an_essential_task_ends_the_process_and_is_named() {
        let (supervisor, _shutdown, metrics) = supervisor();
        supervisor.essential("lane", async { panic!("on purpose") }).await.unwrap();
        assert!(supervisor.failed().await.contains("lane"));
        assert_eq!(supervisor.down(), ["lane"]);
        assert!(metrics.render().unwrap().contains(r#"task_failures_total{task="lane"} 1"#));
        let (supervisor, _shutdown, _) = self::supervisor();
        supervisor.essential("http", async {}).await.unwrap();
        assert_eq!(supervisor.failed().await, "the task http has ended");
    }

    #[tokio::test]
    async fn what_is_done_once_is_waited_for_and_its_panic_is_counted() {
        let (supervisor, _shutdown, metrics) = supervisor();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        supervisor.once("rehash", async { panic!("on purpose") }).await.unwrap();
        drop(supervisor.once("rehash", async { drop(released.await) }));
        let mut finished = tokio_test::task::spawn(supervisor.finish());
        tokio_test::assert_pending!(finished.poll());
        release.send(()).unwrap();
        finished.await;
        assert!(supervisor.down().is_empty(), "nothing is missing");
        assert!(metrics.render().unwrap().contains(r#"task_failures_total{task="rehash"} 1"#));
    }

    #[tokio::test]
    async fn after_the_shutdown_tasks_may_end() {
        let (supervisor, shutdown, _) = supervisor();
        let task = supervisor.essential("lane", shutdown.clone().cancelled_owned());
        let (made, other) = (Arc::new(AtomicUsize::new(0)), shutdown.clone());
        let counted = Arc::clone(&made);
        let restarting = supervisor.restarting("purge", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            other.clone().cancelled_owned()
        });
        shutdown.cancel();
        task.await.unwrap();
        restarting.await.unwrap();
        assert!(supervisor.down().is_empty());
        assert!(made.load(Ordering::SeqCst) <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_comes_round_is_started_again_and_shows_meanwhile() {
        let (supervisor, shutdown, metrics) = supervisor();
        let (runs, mut ran) = tokio::sync::mpsc::channel(10);
        let stop = shutdown.clone();
        let task = supervisor.restarting("purge", move || {
            let (runs, stop) = (runs.clone(), stop.clone());
            async move {
                let first_runs = runs.max_capacity() - runs.capacity();
                runs.send(()).await.unwrap();
                assert!(first_runs >= 2, "on purpose");
                stop.cancelled().await;
            }
        });
        sleep(Duration::from_millis(50)).await;
        assert_eq!(supervisor.down(), ["purge"]);
        sleep(Duration::from_secs(1)).await;
        assert!(supervisor.down().is_empty());
        for _ in 0..3 {
            ran.recv().await.unwrap();
        }
        assert!(metrics.render().unwrap().contains(r#"task_failures_total{task="purge"} 2"#));
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_panics_ends_the_process() {
        let (supervisor, _shutdown, _) = supervisor();
        let quiet = supervisor.thread("reader", Some(0), || {}).unwrap();
        quiet.join().unwrap();
        assert!(supervisor.down().is_empty());
        supervisor.thread("writer", None, || panic!("on purpose")).unwrap().join().unwrap();
        assert!(supervisor.failed().await.contains("writer"));
        assert_eq!(supervisor.down(), ["writer"]);
    }
}
