//! The settings of mail.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::Listen;
use crate::config::{
    InvalidSetting,
    values::{MailLanguage, duration, secret},
};

/// Mail: links that show that an address is a member's and that set a new password, and notices.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Mail")]
pub struct MailSettings {
    /// The server that takes mail: smtp://USER:PASSWORD@HOST:587 (STARTTLS is required), or smtps://USER:PASSWORD@HOST:465 (TLS
    /// from the start). ?tls=none sends in the clear, to this machine only; with ?tls=none&plaintext=allowed to any. With it
    /// members show that their address is theirs before they sign in for the first time. Without it nothing is sent.
    #[arg(long, env = "SMTP_URL", hide_env_values = true, value_parser = secret, global = true)]
    pub smtp_url: Option<SecretString>,
    /// Who mails come from: club@example.com, or The Club <club@example.com>. Needed with SMTP_URL.
    #[arg(long, env = "MAIL_FROM", global = true)]
    pub mail_from: Option<String>,
    /// The language of mails to members who have chosen none.
    #[arg(long, env = "MAIL_LANGUAGE", value_enum, default_value_t = MailLanguage::En, global = true)]
    pub mail_language: MailLanguage,
    /// How long the server that takes mail may take to be connected to, and to answer a command; twice that to take a mail.
    #[arg(long, env = "SMTP_TIMEOUT", value_parser = duration, default_value = "30s", global = true)]
    pub smtp_timeout: Duration,
    /// A file with further certificates (PEM) that the server of SMTP_URL may have its own from.
    #[arg(long, env = "SMTP_CA_FILE", global = true)]
    pub smtp_ca_file: Option<PathBuf>,
}

/// How what goes to the mail server is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS from the start.
    Tls,
    /// TLS after a greeting; without it nothing is said.
    StartTls,
    /// In the clear.
    None,
}

/// The server that takes mail.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: Security,
    /// Who signs in to it.
    pub user: Option<(String, SecretString)>,
}

impl Relay {
    /// One line for people. No credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        let how = match self.security {
            Security::Tls => "TLS",
            Security::StartTls => "STARTTLS",
            Security::None => "in the clear",
        };
        format!("{}:{} ({how})", self.host, self.port)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let form =
            "smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465, with user and password percent-encoded";
        let url = Url::parse(text).map_err(|_| form)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(form)?.trim_matches(['[', ']']).to_owned();
        let (mut security, port) = match url.scheme() {
            "smtp" => (Security::StartTls, 587),
            "smtps" => (Security::Tls, 465),
            _ => return Err(form),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(form);
        }
        let mut allowed = is_here(&host);
        for (name, value) in url.query_pairs() {
            match (&*name, &*value) {
                ("tls", "none") if url.scheme() == "smtp" => security = Security::None,
                ("plaintext", "allowed") => allowed = true,
                _ => return Err("after the ? there may be tls=none (of smtp://), and plaintext=allowed"),
            }
        }
        if security == Security::None && !allowed {
            return Err("tls=none sends links and the password in the clear, so it is for a server on this machine; \
                if it is to be so for another one, add &plaintext=allowed");
        }
        let user = decoded(url.username());
        let user = (!user.is_empty()).then(|| (user, decoded(url.password().unwrap_or_default()).into()));
        Ok(Self { host, port: url.port().unwrap_or(port), security, user })
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Without the escapes of a URL.
fn decoded(text: &str) -> String {
    // As a query, in which a plus would be a space.
    let query = text.replace('+', "%2B");
    form_urlencoded::parse(query.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
}

impl MailSettings {
    /// The server that takes mail, if there is one.
    ///
    /// # Errors
    /// When it is not the URL of one. The message does not repeat it: there may be a password in it.
    pub fn relay(&self) -> Result<Option<Relay>, InvalidSetting> {
        let relay = self.smtp_url.as_ref().map(|url| Relay::parse(url.expose_secret()));
        relay.transpose().map_err(|problem| InvalidSetting { setting: "SMTP_URL", problem: problem.to_owned() })
    }

    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub(super) fn validate(&self, listen: &Listen) -> Result<(), InvalidSetting> {
        let from = self.mail_from.as_deref().unwrap_or_default();
        let is_mailbox = from.is_empty() || from.parse::<lettre::message::Mailbox>().is_ok();
        let sends = self.relay()?.is_some();
        let timeout = !self.smtp_timeout.is_zero() && self.smtp_timeout <= Duration::from_secs(300);
        let checks = [
            (timeout, "SMTP_TIMEOUT", "more than 0 and at most 5m"),
            (is_mailbox, "MAIL_FROM", "an address such as club@example.com, or The Club <club@example.com>"),
            (!sends || !from.is_empty(), "MAIL_FROM", "needed with SMTP_URL: the address that mails come from"),
            (
                !sends || !listen.public_url.is_empty(),
                "PUBLIC_URL",
                "needed with SMTP_URL: links in mails lead to it, such as https://api.example.com",
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(InvalidSetting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_its_server_is_spoken_to() {
        let relay = Relay::parse("smtp://club%40x.example:a%2Bb+c%20d@mail.example.com").unwrap();
        assert_eq!((relay.host.as_str(), relay.port, relay.security), ("mail.example.com", 587, Security::StartTls));
        let (user, password) = relay.user.unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("club@x.example", "a+b+c d"));
        let relay = Relay::parse("smtps://mail.example.com").unwrap();
        assert_eq!((relay.port, relay.security, relay.user.is_none()), (465, Security::Tls, true));
        for here in ["localhost:2525", "127.0.0.1:2525", "[::1]:2525"] {
            let relay = Relay::parse(&format!("smtp://{here}?tls=none")).unwrap();
            assert_eq!((relay.port, relay.security), (2525, Security::None));
        }
        let relay = Relay::parse("smtp://relay.internal:25?tls=none&plaintext=allowed").unwrap();
        assert_eq!(relay.security, Security::None);
    }

    #[test]
    fn what_is_no_such_url_is_refused_and_not_repeated() {
        for wrong in [
            "mail.example.com:587",
            "https://hunter2:hunter2@mail.example.com",
            "smtp://",
            "smtp://hunter2:hunter2@mail.example.com/hunter2",
            "smtp://mail.example.com?tls=none",
            "smtps://mail.example.com?tls=none",
            "smtp://mail.example.com?tls=maybe",
            "smtp://hunter2:hunter2@mail.example.com:hunter2",
        ] {
            let problem = Relay::parse(wrong).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
