//! Device proofs: what a device shows at its next login, to be known as one on which the member has logged in before.
//!
//! One is a random number with a code that binds it to its member, with a key that belongs to the secret that signs access tokens: every
//! node knows it, and nothing has to be stored. It lets nobody in; it says whose allowance of wrong passwords a login spends, and that
//! its member need not be told of a new device.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac as _;
use protocol::MemberId;

use super::keys::{KeyRing, Keyed, Keys, first_bytes};
use crate::ids::Ids;

/// What the code is made with, so that it is good for nothing else.
const LABEL: &[u8] = b"members-book device proof 1";
/// Bytes of the number.
const NUMBER: usize = 12;
/// Bytes of the code: 128 bits.
const CODE: usize = 16;

/// The number of a device, the same as long as it shows its proof.
pub type DeviceNumber = [u8; NUMBER];

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

    /// A proof for a device on which the member has logged in; one that is known stays the same.
    #[must_use]
    pub fn issue(&self, ids: &Ids, member: MemberId, known: Option<DeviceNumber>) -> String {
        let number = known.unwrap_or_else(|| ids.secret());
        let code: [u8; CODE] = first_bytes(mac(&self.keys.present, member, number));
        URL_SAFE_NO_PAD.encode([&number[..], &code[..]].concat())
    }

    /// The device that shows a proof, if the member has logged in on it.
    #[must_use]
    pub fn device(&self, member: MemberId, proof: &str) -> Option<DeviceNumber> {
        let bytes = URL_SAFE_NO_PAD.decode(proof).ok().filter(|bytes| bytes.len() == NUMBER + CODE)?;
        let (number, shown) = bytes.split_first_chunk::<NUMBER>()?;
        let is_own = |key: &Keyed| mac(key, member, *number).verify_truncated_left(shown).is_ok();
        self.keys.all().any(is_own).then_some(*number)
    }
}

fn mac(key: &Keyed, member: MemberId, number: DeviceNumber) -> Keyed {
    key.clone().chain_update(member.as_bytes()).chain_update(number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{auth::keys::ring, clock::SystemClock, ids::SystemEntropy};

    const ANA: MemberId = MemberId::from_bytes([1; 12]);

    fn proofs(secret: &str, former: &[&str]) -> DeviceProofs {
        DeviceProofs::new(&ring(secret, former))
    }

    /// Proofs are on members' devices.
    #[test]
    fn a_proof_is_what_it_has_always_been() {
        let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        let proof = proofs("one", &[]).issue(&ids, ANA, Some([7; 12]));
        assert_eq!(proof, "BwcHBwcHBwcHBwcHqrE47R0rBIVPew_0MDIYgQ");
    }

    #[test]
    fn a_device_is_known_to_its_member_and_to_nobody_else() {
        let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        let made = proofs("one", &[]);
        let proof = made.issue(&ids, ANA, None);
        let number = made.device(ANA, &proof).unwrap();
        assert_eq!(made.issue(&ids, ANA, Some(number)), proof, "a device stays the same");
        assert_eq!(made.device(MemberId::from_bytes([2; 12]), &proof), None);
        assert_eq!(proofs("two", &["one"]).device(ANA, &proof), Some(number), "after a rotation of the secret");
        assert_eq!(proofs("two", &[]).device(ANA, &proof), None);
        for wrong in ["", "x", &proof[1..], &format!("{proof}A"), "ÄÖÜ", &proof.to_lowercase()] {
            assert_eq!(made.device(ANA, wrong), None, "{wrong}");
        }
    }
}
