//! How access tokens are signed: HMAC-SHA256 (`HS256`, RFC 7518, section 3.2), and nothing else.
//!
//! The library of tokens leaves cryptography to a provider. Those that come with it bring RSA and elliptic curves, of which
//! this server would have to be sure that no token is ever checked with one.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature,
};
use sha2::Sha256;

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Tells the library of tokens how they are signed, for the whole process. To be called before the first token; again does
/// nothing.
pub(super) fn install() {
    // It is there already: ours, there is no other.
    let _ = PROVIDER.install_default();
}

/// A secret, ready to sign and to check with.
struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Self> {
        if algorithm != Algorithm::HS256 || family != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Hmac::new_from_slice(secret).map(Self).map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Ok(Box::new(Hs256::new(*algorithm, key.family(), key.as_bytes())?))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    Ok(Box::new(Hs256::new(*algorithm, key.family(), key.try_get_as_bytes()?)?))
}

impl signature::Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl signature::Verifier<Vec<u8>> for Hs256 {
    /// In a time that does not depend on where the signature differs.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.0.clone().chain_update(message).verify_slice(signature).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Header, Validation, decode, encode};
    use serde_json::{Value, json};

    use super::*;

    /// RFC 7515, appendix A.1: its key, its token.
    #[test]
    fn the_example_of_the_standard_is_good_and_no_other_signature_is() {
        install();
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, key).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let check = |token: &str| decode::<Value>(token, &DecodingKey::from_secret(&key), &validation);
        assert_eq!(check(token).unwrap().claims["iss"], "joe");
        let end = token.len() - 43;
        for other in [token[..end].to_owned(), format!("{}AAAA", &token[..end]), token.replace("dBjf", "dBjg")] {
            assert!(check(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn no_other_algorithm_signs_or_is_believed() {
        install();
        let secret = b"secret";
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let signed = encode(&Header::new(algorithm), &json!({}), &EncodingKey::from_secret(secret));
            assert!(matches!(signed.unwrap_err().kind(), ErrorKind::InvalidAlgorithm));
        }
        let rsa = EncodingKey::from_rsa_der(secret);
        assert!(encode(&Header::new(Algorithm::HS256), &json!({}), &rsa).is_err());
    }
}
