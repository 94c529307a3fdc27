//! Ids and secrets, made from an injected source of randomness.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use protocol::{ConnectionId, InvitationId, MemberId, MessageId, SessionId, Timestamp};

use crate::clock::Clock;

/// Where randomness comes from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with randomness fit for secrets.
    fn fill(&self, bytes: &mut [u8]);
}

/// The randomness of the operating system, through a generator in user space.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::disallowed_methods, reason = "the one place where randomness is drawn")]
        rand::RngCore::fill_bytes(&mut rand::rng(), bytes);
    }
}

/// A node of the fleet, from its start to its end. Drawn anew by every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 12]);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The name of this machine, for people; empty if it cannot be told.
#[must_use]
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// When a connection was made, to the second, by the clock of its node: an id begins with that.
#[must_use]
pub fn made_at(connection: ConnectionId) -> Timestamp {
    let [a, b, c, d, ..] = *connection.as_bytes();
    Timestamp::from_millis(i64::from(u32::from_be_bytes([a, b, c, d])) * 1000)
}

/// Which process made an id, as [`Ids`] makes them.
#[must_use]
pub fn process_of([_, _, _, _, process @ .., _, _, _]: [u8; 12]) -> [u8; 5] {
    process
}

/// Makes ids that are unique over all nodes and grow with time: MongoDB's ObjectId layout of seconds (4 bytes), the
/// process (5 random bytes) and a counter (3 bytes).
pub struct Ids {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    process: [u8; 5],
    counter: AtomicU32,
}

impl Ids {
    /// Ids of this process.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (mut process, mut counter) = ([0; 5], [0; 4]);
        entropy.fill(&mut process);
        entropy.fill(&mut counter);
        Self { clock, entropy, process, counter: AtomicU32::new(u32::from_be_bytes(counter)) }
    }

    /// The id of a new member.
    pub fn member(&self) -> MemberId {
        MemberId::from_bytes(self.object_id())
    }

    /// The id of a new invitation.
    pub fn invitation(&self) -> InvitationId {
        InvitationId::from_bytes(self.object_id())
    }

    /// The id of a new message.
    pub fn message(&self) -> MessageId {
        MessageId::from_bytes(self.object_id())
    }

    /// The id of a new session.
    pub fn session(&self) -> SessionId {
        SessionId::from_bytes(self.object_id())
    }

    /// The id of a new connection.
    pub fn connection(&self) -> ConnectionId {
        ConnectionId::from_bytes(self.object_id())
    }

    /// The id of a new HTTP request, for logs.
    pub fn request(&self) -> String {
        self.connection().to_string()
    }

    /// Random bytes, fit for secrets.
    pub fn secret<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound`; zero when `bound` is zero. For jitter, where a slight bias does not matter.
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_be_bytes(self.secret()).checked_rem(bound).unwrap_or(0)
    }

    /// Whether this process has made an id.
    #[must_use]
    pub fn made(&self, id: [u8; 12]) -> bool {
        process_of(id) == self.process
    }

    fn object_id(&self) -> [u8; 12] {
        let seconds = u32::try_from(self.clock.now().as_secs()).unwrap_or(u32::MAX).to_be_bytes();
        let [_, counter @ ..] = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut id = [0; 12];
        let (time, rest) = id.split_at_mut(4);
        let (process, count) = rest.split_at_mut(5);
        time.copy_from_slice(&seconds);
        process.copy_from_slice(&self.process);
        count.copy_from_slice(&counter);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_are_distinct_and_begin_with_the_time() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0x1234_5678 * 1000)));
        let ids = Ids::new(clock, Arc::new(SystemEntropy));
        let made: HashSet<String> = (0..1000).map(|_| ids.message().to_string()).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|id| id.starts_with("12345678")));
    }
}
