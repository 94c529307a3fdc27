//! Which addresses a mail server is asked to deliver to.

use std::net::{Ipv4Addr, Ipv6Addr};

use lettre::Address;

/// Whether an address is one of the public mail system: its domain has several labels, and is neither an address of a machine nor this
/// one (`root@localhost`, `a@127.0.0.1`, `a@[::1]`), and nothing before the `@` has the mail server pass it on to another one
/// (`a%b@example.com`, `b!a@example.com`). A stranger who registers with such an address would have the server's own mail server write to
/// whom it trusts. Nor is one of it that no mail can be written to (`a..b@example.com`, `.a@example.com`).
#[must_use]
pub fn is_public(email: &str) -> bool {
    let email = email.trim();
    let Some((local, domain)) = email.rsplit_once('@') else { return false };
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let top = domain.rsplit_once('.').map(|(_, top)| top);
    let is_machine =
        domain.starts_with('[') || domain.parse::<Ipv4Addr>().is_ok() || domain.parse::<Ipv6Addr>().is_ok();
    let is_name = top.is_some_and(|top| {
        !top.is_empty() && !top.eq_ignore_ascii_case("localhost") && !top.bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_plain = !local.is_empty() && !local.contains(['%', '!', '@', ':', '"']);
    is_plain && is_name && !is_machine && email.parse::<Address>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_goes_to_addresses_of_the_public_mail_system_only() {
        for public in [
            "ana@example.com",
            "ana.lima+club@mail.example.pt",
            " Ana@EXAMPLE.com ",
            "ana@xn--bcher-kva.example",
            "jo\u{e3}o@bu\u{fc}cher.example",
        ] {
            assert!(is_public(public), "{public}");
        }
        for other in [
            "root@localhost",
            "root@LOCALHOST.",
            "a@mail.localhost",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a@127.1",
            "a%b@example.com",
            "b!a@example.com",
            "\"a@b\"@example.com",
            "@relay:a@example.com",
            "a@intranet",
            "ana",
            "@example.com",
            "a@.",
            "a@example..",
            "ana..x@example.com",
            ".ana@example.com",
            "ana.@example.com",
            "ana x@example.com",
            "ana@-.example.com",
            "ana@example..com",
        ] {
            assert!(!is_public(other), "{other}");
        }
    }
}
