//! Work that keeps a processor busy for long: on threads that go last when the processors are busy, because whoever asked for it
//! waits anyway, and those who talk do not.

use std::{io, thread};

use tokio::sync::oneshot;

/// How far a thread goes behind the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Behind everything: whoever asked waits anyway.
    Last,
    /// Behind those who talk, who wait for it in the end if it never gets its turn.
    Later,
}

impl Priority {
    /// How much lower its priority is, from 0 to 19.
    #[cfg(target_os = "linux")]
    const fn nice(self) -> i32 {
        match self {
            Self::Last => 15,
            Self::Later => 5,
        }
    }
}

/// Lowers the priority of this thread. Not to be called on one that does other things too: it cannot be raised again.
pub fn lower_priority(to: Priority) {
    #[cfg(not(target_os = "linux"))]
    let _ = to;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), to.nice()) {
        tracing::warn!(%error, "a thread of the background has the priority of everything else");
    }
}

/// Runs work of a tenth of a second or more on a thread of its own. How many there are is the caller's to bound. The answer fails
/// when the work panics.
///
/// # Errors
/// When there is no thread.
pub fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, answer) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        lower_priority(Priority::Last);
        // Whoever stopped waiting needs no answer.
        let _ = sender.send(work());
    })?;
    Ok(answer)
}
