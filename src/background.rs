//! Work that keeps a processor busy for long: on threads that go last when the processors are busy, because whoever asked for it
//! waits anyway, and those who talk do not.

use std::{io, thread};

use tokio::sync::oneshot;

/// How much lower the priority of such threads is, from 0 to 19.
#[cfg(target_os = "linux")]
const NICE: i32 = 15;

/// Lowers the priority of this thread. Not to be called on one that does other things too: it cannot be raised again.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
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
        lower_priority();
        // Whoever stopped waiting needs no answer.
        let _ = sender.send(work());
    })?;
    Ok(answer)
}
