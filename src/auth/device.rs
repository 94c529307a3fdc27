//! Device proofs: what a device shows at its next login, to be known as one on which the member has logged in before.
//!
//! One is a number with a code that binds it to its member and to their present password, with a key that belongs to the secret that signs
//! access tokens: every node knows it, and nothing has to be stored. It lets nobody in; it says whose allowance of wrong passwords a
//! login spends, and that its member need not be told of a new device. Whoever knew a former password has as many as they like, and with a new password they are all worth nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac as _;
use protocol::MemberId;

use super::keys::{KeyRing, Keyed, Keys, first_bytes};
use crate::store::members::MemberRecord;

/// What the code is made with, so that it is good for nothing else.
const LABEL: &[u8] = b"members-book device proof 1";
/// Bytes of the number.
const NUMBER: usize = 12;
/// Bytes of the code: 128 bits.
const CODE: usize = 16;

/// The number of a device, the same as long as it shows its proof.
pub type DeviceNumber = [u8; NUMBER];

/// Whose device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The member.
    pub member: MemberId,
    /// Their [`MemberRecord::credentials`].
    pub credentials: u64,
}

impl Holder {
    /// Who holds no proof that is good for anything: a login of nobody takes as long as one of a member.
    pub const NOBODY: Self = Self { member: MemberId::from_bytes([0; 12]), credentials: 0 };
}

impl From<&MemberRecord> for Holder {
    fn from(record: &MemberRecord) -> Self {
        Self { member: record.profile.id, credentials: record.credentials }
    }
}

/// Makes device proofs, and knows them again.
pub struct DeviceProofs {
    keys: Keys<Keyed>,
}

impl DeviceProofs {
    /// Those that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.labelled(LABEL) }
    }

    /// The proof of a device on which the member has logged in: the same one for the same number, as long as the password is the same.
    #[must_use]
    pub fn issue(&self, holder: Holder, number: DeviceNumber) -> String {
        let code: [u8; CODE] = first_bytes(mac(&self.keys.present, holder, number));
        URL_SAFE_NO_PAD.encode([&number[..], &code[..]].concat())
    }

    /// The device that shows a proof, if the member has logged in on it with their present password.
    #[must_use]
    pub fn device(&self, holder: Holder, proof: &str) -> Option<DeviceNumber> {
        let bytes = URL_SAFE_NO_PAD.decode(proof).ok().filter(|bytes| bytes.len() == NUMBER + CODE)?;
        let (number, shown) = bytes.split_first_chunk::<NUMBER>()?;
        let is_own = |key: &Keyed| mac(key, holder, *number).verify_truncated_left(shown).is_ok();
        self.keys.all().any(is_own).then_some(*number)
    }
}

fn mac(key: &Keyed, Holder { member, credentials }: Holder, number: DeviceNumber) -> Keyed {
    let mac = key.clone().chain_update(member.as_bytes()).chain_update(number);
    // Of the first password there are proofs from before anything was counted.
    if credentials == 0 { mac } else { mac.chain_update(credentials.to_be_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ring;

    const ANA: Holder = Holder { member: MemberId::from_bytes([1; 12]), credentials: 0 };
    const NUMBER: DeviceNumber = [7; 12];

    fn proofs(secret: &str, former: &[&str]) -> DeviceProofs {
        DeviceProofs::new(&ring(secret, former))
    }

    /// Proofs are on members' devices.
    #[test]
    fn a_proof_is_what_it_has_always_been() {
        let proof = proofs("one", &[]).issue(ANA, NUMBER);
        assert_eq!(proof, "BwcHBwcHBwcHBwcHqrE47R0rBIVPew_0MDIYgQ");
    }

    #[test]
    fn a_device_is_known_to_its_member_and_to_nobody_else() {
        let made = proofs("one", &[]);
        let proof = made.issue(ANA, NUMBER);
        assert_eq!(made.device(ANA, &proof), Some(NUMBER));
        assert_eq!(made.device(Holder { member: MemberId::from_bytes([2; 12]), ..ANA }, &proof), None);
        assert_eq!(proofs("two", &["one"]).device(ANA, &proof), Some(NUMBER), "after a rotation of the secret");
        assert_eq!(proofs("two", &[]).device(ANA, &proof), None);
        for wrong in ["", "x", &proof[1..], &format!("{proof}A"), "ÄÖÜ", &proof.to_lowercase()] {
            assert_eq!(made.device(ANA, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn with_a_new_password_the_proofs_of_before_are_good_no_more() {
        let made = proofs("one", &[]);
        let [first, second, third] = [0, 1, 2].map(|credentials| Holder { credentials, ..ANA });
        let proof = made.issue(second, NUMBER);
        assert_eq!([first, second, third].map(|now| made.device(now, &proof)), [None, Some(NUMBER), None]);
    }
}
