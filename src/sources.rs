//! Where something comes from, for limits: an address alone says too little, since one customer of a provider has many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What counts as one address: a subscriber has a whole /64 of IPv6 (RFC 6177).
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    masked(address, 32, 64)
}

/// What counts as one network: what a provider gives to one site, or lets it choose from. A /24 of IPv4, a /48 of IPv6.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    masked(address, 24, 48)
}

/// What counts as one provider: the least that one is given to pass on to others. A /16 of IPv4, a /32 of IPv6.
#[must_use]
pub fn provider(address: IpAddr) -> IpAddr {
    masked(address, 16, 32)
}

/// The first bits of an address, as many as its family has in a prefix of that kind (1 to all of them).
fn masked(address: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - v4)))),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - v6)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_subscriber_has_one_address_of_ipv4_and_a_64_of_ipv6() {
        assert_ne!(subscriber(ip("192.0.2.1")), subscriber(ip("192.0.2.2")));
        assert_eq!(subscriber(ip("2001:db8:1:2::1")), subscriber(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(subscriber(ip("2001:db8:1:2::1")), subscriber(ip("2001:db8:1:3::1")));
    }

    #[test]
    fn a_network_is_a_24_of_ipv4_and_a_48_of_ipv6() {
        assert_eq!(network(ip("192.0.2.1")), network(ip("192.0.2.254")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.3.1")));
        assert_eq!(network(ip("2001:db8:1:ffff::1")), ip("2001:db8:1::"));
        assert_ne!(network(ip("2001:db8:1::1")), network(ip("2001:db8:2::1")));
    }

    #[test]
    fn a_provider_is_a_16_of_ipv4_and_a_32_of_ipv6() {
        assert_eq!(provider(ip("192.0.2.1")), ip("192.0.0.0"));
        assert_ne!(provider(ip("192.0.2.1")), provider(ip("192.1.2.1")));
        assert_eq!(provider(ip("2001:db8:ffff::1")), ip("2001:db8::"));
        assert_ne!(provider(ip("2001:db8::1")), provider(ip("2001:db9::1")));
    }
}
