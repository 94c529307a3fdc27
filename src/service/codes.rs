//! Codes of second factors: what one is that somebody has typed, and using it up.
//!
//! Whoever asks ([`super::accounts`] at the login, [`super::second_factor`] for everything else) decides how often it may be tried.

use std::sync::Arc;

use protocol::{ErrorCode, MemberId, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::base32;
use crate::{
    auth::{
        totp,
        vault::{Purpose, Vault},
    },
    clock::Clock,
    failure::Failure,
    ids::Ids,
    store::{
        MemberStore, StoreError,
        changes::{Actor, Change, Changed},
        members::MemberRecord,
        second_factor::{Code, CodeUse, RecoveryHash, StoredFactor},
    },
    telemetry::Metrics,
};

/// Recovery codes that a member has at a time.
const RECOVERY_CODES: usize = 10;
/// Bytes of one: 80 bits.
const RECOVERY_BYTES: usize = 10;
/// Digits of a half of one, in base32.
const HALF: u32 = 8;

/// Codes of second factors.
pub struct Codes {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// What their secrets are sealed with.
    pub vault: Vault,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes secrets.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Codes {
    /// What a code is, if it is good: one of the authenticator app, or a recovery code. Nothing is used up yet, and by then it may be good
    /// no more ([`CodeUse`]).
    #[must_use]
    pub fn look_up(&self, member: &MemberRecord, typed: &str) -> Option<CodeUse> {
        let factor = member.second_factor.as_ref()?;
        let code = match totp::typed(typed) {
            Some(digits) => self.app_code(member.profile.id, factor, &digits),
            None => Some(Code::Recovery(recovery_hash(typed))),
        };
        let used = code.map(|code| CodeUse { enabled_at: factor.enabled_at, code });
        let used = used.filter(|used| used.of(factor).is_some());
        if used.is_none() {
            self.metrics.second_factor_code("refused");
        }
        used
    }

    /// Uses a code up, and says whether it was good: of two requests with one code, one is told so. It is tried once. When it is not known
    /// whether that was done, the code counts as used, and the next one is good.
    ///
    /// # Errors
    /// The store.
    pub async fn use_up(&self, member: &MemberRecord, typed: &str, by: Actor) -> Result<bool, Failure> {
        let Some(used) = self.look_up(member, typed) else { return Ok(false) };
        let is_recovery = used.is_recovery();
        let (id, at) = (member.profile.id, self.clock.now());
        let changed = self.members.change(id, Change::UseCode(used), by, at, CancellationToken::new()).await?;
        let was_good = match changed {
            Changed::Done { .. } => true,
            Changed::Stale | Changed::NotFound => false,
            // It takes nobody's role or address, and is not given up here.
            Changed::LastAdmin | Changed::EmailTaken | Changed::GivenUp => return Err(StoreError::Timeout.into()),
            Changed::Overtaken(why) => return Err(why.into()),
        };
        self.count(was_good.then_some(is_recovery));
        Ok(was_good)
    }

    /// Counts the use of a code: whether it was a recovery code; nothing if it was not good after all.
    pub(super) fn count(&self, used: Option<bool>) {
        self.metrics.second_factor_code(match used {
            Some(true) => "recovery",
            Some(false) => "app",
            None => "refused",
        });
    }

    fn app_code(&self, member: MemberId, factor: &StoredFactor, digits: &str) -> Option<Code> {
        let Some(opened) = self.vault.open(Purpose::Secret, member, &factor.secret) else {
            tracing::warn!(
                %member,
                "the secret of a second factor cannot be opened: it was sealed under a JWT_SECRET that is not in JWT_SECRET_PREVIOUS; \
                 recovery codes are good all the same"
            );
            return None;
        };
        let step = totp::step(&opened.plain, digits, self.clock.now())?;
        // What cannot be sealed anew stays as it is.
        let resealed = opened.is_former.then(|| self.seal(member, &opened.plain).ok()).flatten();
        Some(Code::App { step, resealed })
    }

    /// The secret of a second factor, as it is stored.
    ///
    /// # Errors
    /// `internal`.
    pub(super) fn seal(&self, member: MemberId, secret: &[u8]) -> Result<Vec<u8>, ErrorCode> {
        self.vault.seal(&self.ids, Purpose::Secret, member, secret)
    }

    /// A second factor that is turned on with a code of this time step, with its recovery codes.
    ///
    /// # Errors
    /// `internal`.
    pub(super) fn begin(
        &self,
        member: MemberId,
        secret: &[u8],
        step: u64,
        at: Timestamp,
    ) -> Result<(StoredFactor, Vec<String>), ErrorCode> {
        let (shown, recovery_codes) = self.recovery_codes();
        let secret = self.seal(member, secret)?;
        Ok((StoredFactor { secret, enabled_at: at, last_step: step, recovery_codes }, shown))
    }

    /// New recovery codes: for the member, and for the store.
    pub(super) fn recovery_codes(&self) -> (Vec<String>, Vec<RecoveryHash>) {
        let shown: Vec<String> = (0..RECOVERY_CODES).map(|_| shown(self.ids.secret())).collect();
        let hashes = shown.iter().map(|code| recovery_hash(code)).collect();
        (shown, hashes)
    }
}

/// A recovery code as it is read out: four groups of four digits.
fn shown(bytes: [u8; RECOVERY_BYTES]) -> String {
    let (first, second) = bytes.split_at(RECOVERY_BYTES / 2);
    let half = |bytes: &[u8]| base32::digits(bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)), HALF);
    let digits: Vec<char> = [half(first), half(second)].concat().chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

/// How a recovery code is recognised. A plain hash is enough: there is nothing to guess in 80 random bits.
fn recovery_hash(code: &str) -> RecoveryHash {
    Sha256::digest(base32::typed(code.trim()).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_recovery_code_has_all_of_its_bits_and_is_known_however_it_is_typed() {
        let one = shown([0xff; RECOVERY_BYTES]);
        assert_eq!(one, "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        let codes: BTreeSet<String> = (0..80)
            .map(|bit| {
                let mut bytes = [0; RECOVERY_BYTES];
                bytes[bit / 8] |= 1 << (bit % 8);
                shown(bytes)
            })
            .collect();
        assert_eq!(codes.len(), 80);
        let code = shown([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x01, 0x02]);
        for same in [code.to_lowercase(), code.replace('-', ""), format!(" {} ", code.replace('-', " "))] {
            assert_eq!(recovery_hash(&same), recovery_hash(&code), "{same}");
        }
    }
}
