//! Parsers of single settings.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use axum::http::HeaderValue;
use clap::ValueEnum;
use ipnet::IpNet;
use jiff::SignedDuration;
use protocol::rest::{InvitationPolicy, Language, RegistrationPolicy};
use reqwest::Url;
use secrecy::SecretString;

/// An address, or a network in CIDR notation.
///
/// # Errors
/// When it is neither.
pub fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| "an address such as 10.0.0.1 or a network such as 10.0.0.0/8".to_owned())
}

/// An address to listen on. Of names only `localhost` is known: nothing is looked up.
///
/// # Errors
/// When it is something else.
pub fn host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "an IP address such as 127.0.0.1 or 0.0.0.0, or localhost".to_owned())
}

/// A duration with its unit: `250ms`, `30s`, `15m`, `30d`.
///
/// # Errors
/// When it has no unit, or is negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    // A day is 24 hours here; jiff leaves it to the calendar.
    let (text, times) = match text.strip_suffix('d') {
        Some(days) => (format!("{days}h"), 24),
        None => (text.to_owned(), 1),
    };
    let parsed: Result<SignedDuration, _> = text.parse();
    let duration = parsed.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.map(|duration| duration * times).ok_or_else(|| "a duration such as 250ms, 30s, 15m or 30d".to_owned())
}

/// An amount of memory: bytes, or `512KiB`, `64MiB`, `2GiB`.
///
/// # Errors
/// When it is something else, or more than there can be.
pub fn bytes(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1_usize << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let bytes = number.trim().parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| "an amount of memory such as 268435456, 256MiB or 1GiB".to_owned())
}

/// The type of a setting that is a whole number from 0 on.
pub trait Whole: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static {
    /// The least of them.
    const LEAST: Self;
    /// The largest of them.
    const MOST: Self;
}

macro_rules! whole {
    ($($number:ty),+) => {
        $(impl Whole for $number {
            const LEAST: Self = 0;
            const MOST: Self = Self::MAX;
        })+
    };
}

whole!(u16, u32, usize);

/// A whole number.
///
/// # Errors
/// When it is something else, or more than there can be.
pub fn whole<T: Whole>(text: &str) -> Result<T, String> {
    whole_between(T::LEAST, T::MOST)(text)
}

/// A whole number within bounds.
pub fn whole_between<T: Whole>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| (&least..=&most).contains(&number));
        number.ok_or_else(|| format!("a whole number from {least} to {most}"))
    }
}

/// Where the data is.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// The embedded store, in this file.
    Sqlite(PathBuf),
    /// MongoDB, at this connection string.
    Mongo(SecretString),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
            let uri = SecretString::from(text);
            // The reason may have the password in it.
            let is_uri = mongodb::options::ConnectionString::parse(text).is_ok();
            return if is_uri {
                Ok(Self::Mongo(uri))
            } else {
                Err("not a MongoDB connection string such as mongodb://host:27017/club".to_owned())
            };
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
        match path {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err("sqlite:PATH, such as sqlite:./data/members-book.db, or mongodb://…".to_owned()),
        }
    }
}

/// Who may register.
///
/// # Errors
/// When it is none of the four words.
pub fn registration(text: &str) -> Result<RegistrationPolicy, String> {
    Ok(match text {
        "open" => RegistrationPolicy::Open,
        "invite" => RegistrationPolicy::Invite,
        "approval" => RegistrationPolicy::Approval,
        "closed" => RegistrationPolicy::Closed,
        _ => return Err("open, invite, approval or closed".to_owned()),
    })
}

/// Who may invite.
///
/// # Errors
/// When it is none of the two words.
pub fn invitations(text: &str) -> Result<InvitationPolicy, String> {
    Ok(match text {
        "admins" => InvitationPolicy::Admins,
        "members" => InvitationPolicy::Members,
        _ => return Err("admins or members".to_owned()),
    })
}

/// The language of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MailLanguage {
    /// English.
    En,
    /// Portuguese.
    Pt,
}

impl From<MailLanguage> for Language {
    fn from(language: MailLanguage) -> Self {
        match language {
            MailLanguage::En => Self::En,
            MailLanguage::Pt => Self::Pt,
        }
    }
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// The most that a push shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PushShown {
    /// Who has written, and the beginning of the text.
    Full,
    /// Who has written.
    Sender,
    /// That somebody has.
    Nothing,
}

/// Whether administrators need a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecondFactorPolicy {
    /// They may have one.
    Optional,
    /// Without one they may do what a member may.
    Required,
}

/// A secret; never printed.
///
/// # Errors
/// Never.
pub fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

/// The origin of a browser page: a scheme and a host, without a path.
///
/// # Errors
/// When it is something else.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.contains('/'));
    match HeaderValue::from_str(text) {
        Ok(value) if is_origin => Ok(value),
        _ => Err("an origin such as https://app.example.com".to_owned()),
    }
}

/// The base URL of a service.
///
/// # Errors
/// When it is not an `http` or `https` URL, or has a password in it.
pub fn service_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
    url.ok_or_else(|| {
        "an http or https URL such as https://api.openai.com/v1, without a user and a password".to_owned()
    })
}

/// The address that clients reach the API at: `http` or `https` and a host, without a path. Empty when there is none.
///
/// # Errors
/// When it is something else.
pub fn public_url(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let url =
        service_url(text).ok().filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none());
    let problem = || "http or https and a host, without a path: https://api.example.com".to_owned();
    url.map(|url| url.origin().ascii_serialization()).ok_or_else(problem)
}

/// An address to listen on, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalAddr(pub Option<SocketAddr>);

impl FromStr for OptionalAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let problem = || "an IP address and a port such as 127.0.0.1:9464, or off".to_owned();
        let (name, port) = text.rsplit_once(':').ok_or_else(problem)?;
        let addr = match host(name.trim_start_matches('[').trim_end_matches(']')) {
            Ok(host) => port.parse().ok().map(|port| SocketAddr::new(host, port)),
            Err(_) => None,
        };
        addr.map(|addr| Self(Some(addr))).ok_or_else(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_are_ip_addresses_or_localhost() {
        assert_eq!(host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(host("::1").map(|addr| addr.is_loopback()), Ok(true));
        assert!(host("example.com").is_err() && host("").is_err());
        for (text, addr) in [("localhost:9464", "127.0.0.1:9464"), ("[::1]:1", "[::1]:1"), ("0.0.0.0:0", "0.0.0.0:0")] {
            assert_eq!(text.parse(), Ok(OptionalAddr(addr.parse().ok())), "{text}");
        }
        for wrong in ["", "9464", ":9464", "example.com:9464", "127.0.0.1", "127.0.0.1:x"] {
            assert!(wrong.parse::<OptionalAddr>().is_err(), "{wrong}");
        }
        assert_eq!("off".parse(), Ok(OptionalAddr(None)));
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "15", "-1s", "soon", "d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_may_have_a_unit() {
        assert_eq!(bytes("1048576"), Ok(1_048_576));
        assert_eq!((bytes("512KiB"), bytes("64MiB"), bytes("2GiB")), (Ok(524_288), Ok(67_108_864), Ok(2_147_483_648)));
        for wrong in ["", "1GB", "-1", "GiB", "1.5GiB", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_database_is_a_file_or_a_mongodb() {
        for (url, path) in [("sqlite:./data/x.db", "./data/x.db"), ("sqlite:///var/lib/x.db", "/var/lib/x.db")] {
            assert!(matches!(url.parse(), Ok(DatabaseUrl::Sqlite(found)) if found.as_os_str() == path), "{url}");
        }
        for url in ["mongodb://localhost", "mongodb+srv://user:secret@cluster.example.net/club?maxPoolSize=50"] {
            assert!(matches!(url.parse(), Ok(DatabaseUrl::Mongo(_))), "{url}");
        }
        for wrong in ["", "sqlite:", "postgres://x", "mongodb://", "mongodb:x", "mongodb://u:p:p@h/?w=x=y"] {
            assert!(wrong.parse::<DatabaseUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_public_address_is_a_web_origin_or_nothing() {
        assert_eq!(public_url("https://api.example.com/").as_deref(), Ok("https://api.example.com"));
        assert_eq!(public_url("http://192.168.1.5:8000").as_deref(), Ok("http://192.168.1.5:8000"));
        assert_eq!(public_url("").as_deref(), Ok(""));
        let wrong =
            ["api.example.com", "https://", "ftp://x", "https://x/api", "https://a b", "https://u:p@x", "https://x?y"];
        for wrong in wrong {
            assert!(public_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn services_are_reached_by_http() {
        assert!(service_url("https://api.openai.com/v1").is_ok() && service_url("http://localhost:11434/v1").is_ok());
        for wrong in ["", "api.openai.com", "ftp://x.example", "file:///etc/passwd", "https://u:p@x.example"] {
            assert!(service_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        assert!(origin("http://localhost:8081").is_ok());
        assert!(origin("exp://192.168.1.5:8081").is_ok());
        for wrong in ["localhost", "https://example.com/app", "*"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
