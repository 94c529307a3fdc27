//! The second factor of a member as it is stored, and what becomes of it when a code is used.
//!
//! A code is good once (RFC 6238, section 5.2). Whether it still is, is decided here, in the transaction of the change that uses it
//! ([`super::changes`]): of two requests with one code, on whichever nodes, one finds it good.

use protocol::Timestamp;

/// The SHA-256 hash of a recovery code: the code itself is never stored.
pub type RecoveryHash = [u8; 32];

/// A second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFactor {
    /// The secret that the member's authenticator app has, sealed (`auth::vault`).
    pub secret: Vec<u8>,
    /// When it was turned on, which tells it from another one of the member.
    pub enabled_at: Timestamp,
    /// The time step of the code that was used last: only later ones are good.
    pub last_step: u64,
    /// The recovery codes that are not used yet.
    pub recovery_codes: Vec<RecoveryHash>,
}

impl StoredFactor {
    /// How many recovery codes are not used yet.
    #[must_use]
    pub fn codes_left(&self) -> u32 {
        u32::try_from(self.recovery_codes.len()).unwrap_or(u32::MAX)
    }
}

/// What a code is that a member has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// One of the authenticator app.
    App {
        /// The time step that it belongs to: its time, in units of 30 seconds.
        step: u64,
        /// The secret, sealed anew, if it was with a key of before.
        resealed: Option<Vec<u8>>,
    },
    /// A recovery code.
    Recovery(RecoveryHash),
}

/// The use of a code, to be made with the change that it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeUse {
    /// When the second factor was turned on that the code was held against.
    pub enabled_at: Timestamp,
    /// The code.
    pub code: Code,
}

impl CodeUse {
    /// The second factor after it; nothing if the code is good no more, or was one of another second factor.
    #[must_use]
    pub fn of(&self, factor: &StoredFactor) -> Option<StoredFactor> {
        if factor.enabled_at != self.enabled_at {
            return None;
        }
        let mut after = factor.clone();
        match &self.code {
            Code::App { step, .. } if *step <= factor.last_step => return None,
            Code::App { step, resealed } => {
                after.last_step = *step;
                after.secret = resealed.clone().unwrap_or(after.secret);
            }
            Code::Recovery(hash) => {
                after.recovery_codes.retain(|known| known != hash);
                if after.recovery_codes.len() == factor.recovery_codes.len() {
                    return None;
                }
            }
        }
        Some(after)
    }

    /// Whether it is that of a recovery code.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        matches!(self.code, Code::Recovery(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLED_AT: Timestamp = Timestamp::from_millis(1_000);

    fn factor() -> StoredFactor {
        StoredFactor { secret: vec![1], enabled_at: ENABLED_AT, last_step: 7, recovery_codes: vec![[1; 32], [2; 32]] }
    }

    fn used(code: Code) -> CodeUse {
        CodeUse { enabled_at: ENABLED_AT, code }
    }

    #[test]
    fn only_a_later_step_is_good() {
        for (step, good) in [(6, false), (7, false), (8, true)] {
            let after = used(Code::App { step, resealed: None }).of(&factor());
            assert_eq!(after.map(|after| after.last_step), good.then_some(step));
        }
        let after = used(Code::App { step: 9, resealed: Some(vec![2]) }).of(&factor()).unwrap();
        assert_eq!((after.secret, after.recovery_codes.len()), (vec![2], 2));
    }

    #[test]
    fn a_recovery_code_is_good_once() {
        let first = used(Code::Recovery([2; 32]));
        let after = first.of(&factor()).unwrap();
        assert_eq!((&after.recovery_codes[..], after.last_step), (&[[1; 32]][..], 7));
        assert!(first.of(&after).is_none() && used(Code::Recovery([3; 32])).of(&factor()).is_none());
    }

    #[test]
    fn a_code_of_another_second_factor_is_not_good() {
        let other = StoredFactor { enabled_at: Timestamp::from_millis(1_001), ..factor() };
        assert!(used(Code::Recovery([2; 32])).of(&other).is_none());
        assert!(used(Code::App { step: 8, resealed: None }).of(&other).is_none());
    }
}
