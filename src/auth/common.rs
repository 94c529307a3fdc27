//! Passwords that are guessed first: the most common ones, and what everybody knows of a member (NIST SP 800-63B, section 3.1.1.2).

use sha2::{Digest as _, Sha256};

use crate::store::members::email_key;

/// The first four bytes of the SHA-256 of each of some 65,000 common passwords of at least eight characters, in lower case,
/// ascending. Made by `common-passwords.py` beside it, which says of what.
static COMMON: &[u8] = include_bytes!("common-passwords.bin");
/// Bytes of one of them.
const PREFIX: usize = 4;

/// Why a password would be guessed at once, for its owner; nothing if it would not. A password that nobody uses is taken for a
/// common one with a chance of one in 65,000.
#[must_use]
pub fn weakness(password: &str, name: &str, email: &str) -> Option<&'static str> {
    let (password, email) = (email_key(password), email_key(email));
    let local = email.split('@').next().unwrap_or_default();
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    if is_common(&password) {
        Some("is one of the most common passwords; take another")
    } else if [email.as_str(), local].contains(&password.as_str())
        || squeezed(&password) == squeezed(&name.to_lowercase())
    {
        Some("must not be the name or the e-mail address")
    } else {
        None
    }
}

/// Whether a password in lower case is one of the common ones.
fn is_common(password: &str) -> bool {
    let hash: [u8; 32] = Sha256::digest(password.as_bytes()).into();
    let (prefixes, _) = COMMON.as_chunks::<PREFIX>();
    hash.first_chunk::<PREFIX>().is_some_and(|prefix| prefixes.binary_search(prefix).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_tries_first_is_weak_in_any_case() {
        for common in ["password", "Password", "12345678", "QWERTYUIOP", "iloveyou", "password123", "trustno1 "] {
            assert!(weakness(common, "Ana Lima", "ana@example.com").is_some(), "{common}");
        }
        for own in ["ana lima x", "AnaLimaX", "ana.lima@example.com", "ANA.LIMA"] {
            assert!(weakness(own, "Ana Lima X", "Ana.Lima@example.com").is_some(), "{own}");
        }
        for good in ["correct horse", "ana lima is my name", "Tr0ub4dor&3x"] {
            assert_eq!(weakness(good, "Ana Lima", "ana@example.com"), None, "{good}");
        }
    }

    #[test]
    fn the_list_is_whole_and_in_order() {
        let (prefixes, rest) = COMMON.as_chunks::<PREFIX>();
        assert!(rest.is_empty() && prefixes.len() > 60_000, "{}", prefixes.len());
        assert!(prefixes.is_sorted());
    }
}
