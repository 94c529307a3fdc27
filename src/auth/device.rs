//! Device proofs: what a device shows at its next login, to be known as one on which the member has logged in before.
//!
//! One is a random number with a code that binds it to its member, with a key that belongs to the secret that signs access tokens: every
//! node knows it, and nothing has to be stored. It lets nobody in; it only says whose allowance of wrong passwords a login spends.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::{ErrorCode, MemberId};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

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
    /// Of the secret of now, and of those of before.
    keys: Vec<Hmac<Sha256>>,
}

impl DeviceProofs {
    /// Those that belong to the secrets of access tokens.
    ///
    /// # Errors
    /// `internal`, of a secret that is no key; there is none.
    pub fn new(secret: &SecretString, former: &[SecretString]) -> Result<Self, ErrorCode> {
        let key = |secret: &SecretString| Hmac::new_from_slice(secret.expose_secret().as_bytes());
        let keys = std::iter::once(secret).chain(former).map(key).collect::<Result<_, _>>();
        Ok(Self { keys: keys.map_err(|_| ErrorCode::Internal)? })
    }

    /// A proof for a device on which the member has logged in; one that is known stays the same.
    #[must_use]
    pub fn issue(&self, ids: &Ids, member: MemberId, known: Option<DeviceNumber>) -> Option<String> {
        let number = known.unwrap_or_else(|| ids.secret());
        let code = code(self.keys.first()?, member, number);
        Some(URL_SAFE_NO_PAD.encode([&number[..], &code[..]].concat()))
    }

    /// The device that shows a proof, if the member has logged in on it.
    #[must_use]
    pub fn device(&self, member: MemberId, proof: &str) -> Option<DeviceNumber> {
        let bytes = URL_SAFE_NO_PAD.decode(proof).ok().filter(|bytes| bytes.len() == NUMBER + CODE)?;
        let (number, shown) = bytes.split_first_chunk::<NUMBER>()?;
        let is_own = |key: &Hmac<Sha256>| mac(key, member, *number).verify_truncated_left(shown).is_ok();
        self.keys.iter().any(is_own).then_some(*number)
    }
}

fn mac(key: &Hmac<Sha256>, member: MemberId, number: DeviceNumber) -> Hmac<Sha256> {
    key.clone().chain_update(LABEL).chain_update(member.as_bytes()).chain_update(number)
}

fn code(key: &Hmac<Sha256>, member: MemberId, number: DeviceNumber) -> [u8; CODE] {
    let whole: [u8; 32] = mac(key, member, number).finalize().into_bytes().into();
    std::array::from_fn(|index| whole.get(index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{clock::SystemClock, ids::SystemEntropy};

    const ANA: MemberId = MemberId::from_bytes([1; 12]);

    fn proofs(secret: &str, former: &[&str]) -> DeviceProofs {
        let former: Vec<SecretString> = former.iter().map(|&secret| secret.into()).collect();
        DeviceProofs::new(&secret.into(), &former).unwrap()
    }

    #[test]
    fn a_device_is_known_to_its_member_and_to_nobody_else() {
        let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        let made = proofs("one", &[]);
        let proof = made.issue(&ids, ANA, None).unwrap();
        let number = made.device(ANA, &proof).unwrap();
        assert_eq!(made.issue(&ids, ANA, Some(number)).as_ref(), Some(&proof), "a device stays the same");
        assert_eq!(made.device(MemberId::from_bytes([2; 12]), &proof), None);
        assert_eq!(proofs("two", &["one"]).device(ANA, &proof), Some(number), "after a rotation of the secret");
        assert_eq!(proofs("two", &[]).device(ANA, &proof), None);
        for wrong in ["", "x", &proof[1..], &format!("{proof}A"), "ÄÖÜ", &proof.to_lowercase()] {
            assert_eq!(made.device(ANA, wrong), None, "{wrong}");
        }
    }
}
