//! Where pushes for browsers may go: a member says the address, so it must not lead into the operator's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Whether an address is one of the public Internet.
#[must_use]
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared by the customers of a provider, for protocols, and for measuring networks.
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // 64:ff9b::/96 (RFC 6052) and 2002::/16 lead to an address of IPv4, as do mapped ones. 64:ff9b:1::/48 (RFC 8215) is for translators of an
    // operator's own network, which may put the address of IPv4 anywhere: none of it is public, as nothing else outside 2000::/3.
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let embedded = match (a, b, (c, d, e, f)) {
        (0x64, 0xff9b, (0, 0, 0, 0)) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => address.to_ipv4_mapped(),
    };
    if let Some(embedded) = embedded {
        return is_public_v4(embedded);
    }
    // What is given out is in 2000::/3; of that, 2001:db8::/32 is for documents and 2001::/23 for protocols.
    (0x2000..0x4000).contains(&a) && (a, b) != (0x2001, 0x0db8) && !(a == 0x2001 && b < 0x200)
}

/// Whether a push may go to a URL, as far as that tells: https, at its usual port, no address of another network.
#[must_use]
pub(super) fn may_go_to(url: &Url) -> bool {
    let is_plain =
        url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
    let Some(host) = url.host_str().filter(|_| is_plain) else { return false };
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => is_public(address),
        // One part alone, or an empty last one, is for a resolver of the own network.
        Err(_) => host.contains('.') && !host.ends_with('.') && !host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached() {
        for address in ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.1.2.3",
            "64:ff9b::172.16.0.1",
            "64:ff9b::192.168.1.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.64.0.1",
            // For translators of a network of one's own: whatever is embedded, and wherever.
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1::10.1.2.3",
            "64:ff9b:1:a01:2:300::",
            "64:ff9b:1:ffff:ffff:ffff:808:808",
            "64:ff9b:2::8.8.8.8",
            "64:ff9b::1:808:808",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn only_https_at_its_port_is_a_place_for_pushes() {
        let may = |url: &str| may_go_to(&Url::parse(url).unwrap());
        assert!(may("https://push.example.com/s/abc?x=1") && may("https://push.example.com:443/"));
        for url in [
            "http://push.example.com/",
            "https://push.example.com:8443/",
            "https://localhost/",
            "https://localhost./",
            "https://push.localhost/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://u:p@push.example.com/",
            "https://169.254.169.254/latest/",
        ] {
            assert!(!may(url), "{url}");
        }
    }
}
