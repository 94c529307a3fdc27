//! Whom a request is for, where the server listens on this machine only.
//!
//! Such a server trusts that whoever reaches it sits at this machine, and takes new members without being told to. Two things break
//! that: a page of any site whose name leads to a loopback address (DNS rebinding: the browser takes the server for the site's own, so no
//! rule about origins helps), and a reverse proxy whose operator has not told the server of it. The first always says in `Host` which name it
//! is for, and the second does if it is set up to pass that on; one that does not looks like this machine. So only names that cannot be another's are answered: an IP address, `localhost` and what ends in it (RFC 6761, section
//! 6.3), and the host of `PUBLIC_URL`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::ErrorCode;

use super::{AppState, limits::closing};
use crate::{failure::Failure, telemetry::Hourly};

/// The names by which requests reach the server.
pub struct Hosts {
    /// Whether the server listens on a loopback address, so that names count.
    is_here_only: bool,
    /// The host of `PUBLIC_URL`, if that is set.
    public: Option<String>,
    warned: Hourly,
}

impl Hosts {
    /// Those of a server that listens at an address. `public_url`: where clients reach it; empty if that is not set.
    #[must_use]
    pub fn new(listens_at: IpAddr, public_url: &str) -> Self {
        let public = public_url.split_once("://").map(|(_, authority)| name_in(authority).to_owned());
        Self { is_here_only: listens_at.to_canonical().is_loopback(), public, warned: Hourly::default() }
    }

    /// Whether the server answers to the host of an authority (`club.example.com:443`).
    fn takes(&self, authority: &str) -> bool {
        let host = name_in(authority);
        let is_local = |host: &str| {
            let label = host.len().checked_sub("localhost".len()).and_then(|start| host.split_at_checked(start));
            label.is_some_and(|(before, end)| {
                end.eq_ignore_ascii_case("localhost") && (before.is_empty() || before.ends_with('.'))
            })
        };
        let is_public = self.public.as_ref().is_some_and(|public| public.eq_ignore_ascii_case(host));
        is_address(host) || is_local(host) || is_public
    }

    /// Whether every name that a request gives is one that the server answers to. One of HTTP/1.0 need not give any, and no browser
    /// sends that.
    fn take(&self, request: &Request) -> bool {
        let target = request.uri().authority().map(Authority::as_str);
        let mut fields = request.headers().get_all(header::HOST).iter().map(HeaderValue::to_str).peekable();
        if fields.peek().is_none() && target.is_none() {
            return request.version() < Version::HTTP_11;
        }
        target.is_none_or(|target| self.takes(target)) && fields.all(|host| host.is_ok_and(|host| self.takes(host)))
    }
}

/// The host of an authority, without a port and the dot of a complete name.
fn name_in(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

fn is_address(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.parse::<Ipv4Addr>().is_ok() || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// Answers 421 (RFC 9110, section 15.5.20) to requests for another name, and closes their connection.
pub(super) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let hosts = &state.hosts;
    if !hosts.is_here_only || hosts.take(&request) {
        return next.run(request).await;
    }
    if hosts.warned.allows() {
        tracing::warn!(
            host = request.headers().get(header::HOST).map(tracing::field::debug),
            "a request is for a name that this server does not answer to: behind a reverse proxy set PUBLIC_URL, REGISTRATION and \
             TRUSTED_PROXIES; without one, a web page tried to reach this machine"
        );
    }
    closing(Failure::of(ErrorCode::Misdirected).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn hosts(public_url: &str) -> Hosts {
        Hosts::new(IpAddr::V4(Ipv4Addr::LOCALHOST), public_url)
    }

    #[test]
    fn a_name_that_can_be_another_s_is_not_the_server_s() {
        let here = hosts("");
        for taken in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.168.1.5:8000",
            "[::1]:8000",
            "[::1]",
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "club.localhost:80",
        ] {
            assert!(here.takes(taken), "{taken}");
        }
        for refused in [
            "evil.com",
            "evil.com:8000",
            "notlocalhost",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "evil.com:80:127",
            "",
            ":8000",
            "[evil.com]",
            "0x7f.1",
            "2130706433",
            "user@127.0.0.1",
            "club.example.com",
            "\u{fc}localhost",
        ] {
            assert!(!here.takes(refused), "{refused}");
        }
        let known = hosts("https://Club.example.com");
        assert!(known.takes("club.example.com") && known.takes("CLUB.example.com.:443") && known.takes("localhost"));
        assert!(!known.takes("example.com") && !known.takes("evil.club.example.com"));
    }

    #[test]
    fn every_name_counts_wherever_it_stands() {
        let request = |version, uri: &str, fields: &[&str]| {
            let request = Request::builder().version(version).uri(uri);
            let request = fields.iter().fold(request, |request, host| request.header(header::HOST, *host));
            hosts("").take(&request.body(Body::empty()).unwrap())
        };
        assert!(request(Version::HTTP_11, "/", &["localhost"]));
        assert!(request(Version::HTTP_11, "http://localhost/", &["localhost"]));
        assert!(!request(Version::HTTP_11, "http://evil.com/", &["localhost"]));
        assert!(!request(Version::HTTP_11, "/", &["localhost", "evil.com"]));
        assert!(!request(Version::HTTP_11, "/", &[]));
        assert!(request(Version::HTTP_10, "/", &[]) && !request(Version::HTTP_10, "/", &["evil.com"]));
    }
}
