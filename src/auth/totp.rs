//! Codes of authenticator apps (TOTP, RFC 6238): six digits, a new code every 30 seconds, by HMAC-SHA-1, which is what all apps have. A code
//! is good in its 30 seconds and in those before and after them, because clocks differ.

use protocol::{ErrorCode, Timestamp};
use totp_rs::{Builder, Secret, Totp};

/// Bytes of a secret: those of the hash (RFC 4226, section 4).
pub const SECRET: usize = 20;
/// Digits of a code.
const DIGITS: usize = 6;

/// What an authenticator app is given.
pub struct Setup {
    /// The secret, in base32.
    pub secret: String,
    /// The same as a link.
    pub uri: String,
    /// The link as a QR code, a PNG in base64.
    pub qr: String,
}

/// The digits of a code, if what was typed may be one: spaces do not matter.
#[must_use]
pub fn typed(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    (digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(digits)
}

/// The time step that a code belongs to, if it is good now.
#[must_use]
pub fn step(secret: &[u8], code: &str, now: Timestamp) -> Option<u64> {
    let now = u64::try_from(now.as_secs()).ok()?;
    totp(secret, None).ok()?.check(code, now)
}

/// What an app is given of a secret: `issuer` and `account` are what it calls it.
///
/// # Errors
/// `internal`, of names that make no link; there are none.
pub fn setup(secret: &[u8; SECRET], issuer: &str, account: &str) -> Result<Setup, ErrorCode> {
    let totp = totp(secret, Some((&named(issuer), &named(account))))?;
    Ok(Setup {
        secret: totp.secret().to_base32(),
        uri: totp.to_url().map_err(|_| ErrorCode::Internal)?,
        qr: totp.to_qr_base64().map_err(|_| ErrorCode::Internal)?,
    })
}

fn totp(secret: &[u8], names: Option<(&str, &str)>) -> Result<Totp, ErrorCode> {
    let builder = Builder::new().with_secret(Secret::from(secret.to_vec()));
    let builder = match names {
        Some((issuer, account)) => builder.with_issuer(Some(issuer)).with_account_name(account),
        None => builder,
    };
    builder.build().map_err(|_| ErrorCode::Internal)
}

/// A name as a link may have it: a colon ends one (of an issuer that is a URL, its scheme is left out).
fn named(name: &str) -> String {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the last six of eight digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            let at = Timestamp::from_millis(seconds * 1_000);
            assert_eq!(step(b"12345678901234567890", code, at), Some(u64::try_from(seconds).unwrap() / 30));
        }
    }

    #[test]
    fn a_code_is_good_half_a_minute_before_and_after_its_time() {
        let of = |seconds: i64| step(b"12345678901234567890", "287082", Timestamp::from_millis(seconds * 1_000));
        assert_eq!((of(-1), of(0), of(30), of(89), of(90)), (None, Some(1), Some(1), Some(1), None));
    }

    #[test]
    fn how_it_is_typed_does_not_matter() {
        assert_eq!(typed(" 492 039 ").as_deref(), Some("492039"));
        for other in ["49203", "4920399", "+92039", "49203a", "４９２０３９", ""] {
            assert_eq!(typed(other), None, "{other}");
        }
    }

    #[test]
    fn whatever_names_it_has_an_app_gets_a_link_and_a_picture() {
        let Setup { secret, uri, qr } =
            setup(&[7; SECRET], "https://club.example:8443", "\"a:b\"@example.com").unwrap();
        assert_eq!(secret.len(), 32);
        assert!(
            uri.starts_with("otpauth://totp/club.example-8443:") && uri.contains(&format!("secret={secret}")),
            "{uri}"
        );
        assert!(uri.contains("issuer=club.example-8443") && !qr.is_empty(), "{uri}");
        let longest = format!("{}@{}.example", "a".repeat(64), "b".repeat(180));
        assert!(setup(&[7; SECRET], &"c".repeat(200), &longest).is_ok());
    }
}
