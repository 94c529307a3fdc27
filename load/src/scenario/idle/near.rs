//! The near ends of connections in memory, and what the threads that play their clients cost.

use std::fs;

use protocol::MemberId;

use super::pipe::End;

/// A connection from the side of its client.
pub(super) struct Near {
    pub(super) member: MemberId,
    pub(super) end: End,
}

/// The processor time of a thread of this process, by its name.
pub(super) fn thread_cpu_seconds(name: &str) -> Option<f64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let task = tasks
        .flatten()
        .map(|task| task.path())
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name))?;
    crate::proc::cpu_seconds_of(&task.join("stat"))
}
