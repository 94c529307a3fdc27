//! Where a request comes from: the address of the connection, or what a trusted proxy says.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;

use crate::telemetry::Hourly;

/// The address that a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// Reverse proxies.
pub struct Proxies {
    /// Those that are believed.
    trusted: Arc<[IpNet]>,
    warned: Hourly,
}

impl Proxies {
    /// Those that are believed when they say where a request comes from.
    #[must_use]
    pub fn new(trusted: Arc<[IpNet]>) -> Self {
        Self { trusted, warned: Hourly::default() }
    }

    /// Warns of a request that seems to come from a proxy that nobody has told the server of.
    fn warn(&self, peer: IpAddr, headers: &HeaderMap) {
        let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
        if is_forwarded && !self.trusted.iter().any(|network| network.contains(&peer)) && self.warned.allows() {
            tracing::warn!(
                %peer,
                "a request has X-Forwarded-For or Forwarded, and TRUSTED_PROXIES does not name where it comes from: if that is a \
                 reverse proxy of yours, all clients behind it look like one, and share its limits"
            );
        }
    }
}

/// Headers by which a proxy says where a request comes from.
const FORWARDED: [&str; 2] = ["x-forwarded-for", "forwarded"];

/// Finds the address of every request out.
pub async fn resolve(State(proxies): State<Arc<Proxies>>, mut request: Request, next: Next) -> Response {
    // Put there by `serve` for every connection.
    if let Some(peer) = request.extensions().get::<SocketAddr>() {
        let peer = peer.ip().to_canonical();
        proxies.warn(peer, request.headers());
        let address = client(peer, request.headers(), &proxies.trusted);
        request.extensions_mut().insert(ClientAddress(address));
    }
    next.run(request).await
}

/// The nearest address that is not a trusted proxy's, read from the right: what stands further left anybody can have
/// written.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_proxy = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_proxy(&peer) {
        return peer;
    }
    // As bytes: a proxy appends to whatever the client wrote, and that need not be text.
    let forwarded = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
    let hops: Vec<&[u8]> = forwarded.flat_map(|value| value.split(|byte| *byte == b',')).collect();
    let mut nearest = peer;
    for hop in hops.iter().rev() {
        // What is not an address was not written by a proxy that we trust.
        let Some(address) = address_in(hop) else { break };
        nearest = address;
        if !is_proxy(&nearest) {
            break;
        }
    }
    nearest
}

/// The address in a hop; some proxies write the port, too.
fn address_in(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let address = hop.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[&str]) -> String {
        from_bytes(peer, &forwarded.iter().map(|value| value.as_bytes()).collect::<Vec<_>>())
    }

    fn from_bytes(peer: &str, forwarded: &[&[u8]]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(value).unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    /// Found by an attacker: one byte that is no ASCII, and the client counted as the proxy, which has no limit.
    #[test]
    fn whatever_the_client_wrote_the_proxy_s_own_hop_is_read() {
        for value in [&b"\xff, 198.51.100.7"[..], b"\xff\xfe,198.51.100.7", b"1.2.3.4\xe9,,198.51.100.7 "] {
            assert_eq!(from_bytes("10.0.0.1", &[value]), "198.51.100.7");
            assert_eq!(from_bytes("10.0.0.1", &[b"\xff", value]), "198.51.100.7");
        }
        assert_eq!(from("10.0.0.1", &["198.51.100.7:51234"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["[2001:db8::7]:51234, 10.0.0.2"]), "2001:db8::7");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        assert_eq!(from("10.0.0.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9", "198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"]), "10.0.0.2");
    }
}
