//! The settings of push.

use std::time::Duration;

use clap::Args;
use protocol::rest::PushContent;
use reqwest::Url;
use secrecy::SecretString;

use super::Listen;
use crate::config::{
    InvalidSetting,
    values::{PushShown, Switch, duration, secret, service_url},
};

/// Longest that devices may be given to acknowledge a message.
const AFTER_MAX: Duration = Duration::from_secs(600);
/// Longest that a message may wait to be pushed.
const TTL_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Push: devices that do not take messages in time are told of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Push")]
pub struct PushSettings {
    /// Whether messages are pushed to devices that do not say in time that they have them: on, or off. Nothing leaves the server before a device is registered (docs/push.md).
    #[arg(long, env = "PUSH", value_enum, default_value_t = Switch::On, global = true)]
    pub push: Switch,
    /// How long a device may take to say that it has a message before that is pushed to it, whether it is connected or not.
    #[arg(long, env = "PUSH_AFTER", value_parser = duration, default_value = "4s", global = true)]
    pub push_after: Duration,
    /// How old a message may be when it is pushed; the push service is given up after that, and brings none later. One that came in quiet hours is as old as their end.
    #[arg(long, env = "PUSH_TTL", value_parser = duration, default_value = "4h", global = true)]
    pub push_ttl: Duration,
    /// The most that a push shows: full (who has written, and the beginning of the text), sender, or nothing. Members may choose less.
    #[arg(long, env = "PUSH_CONTENT", value_enum, default_value_t = PushShown::Full, global = true)]
    pub push_content: PushShown,
    /// Who runs this server, for the push services of browsers: mailto:ops@example.com, or an https URL. Without it PUBLIC_URL, if that is one; without both nothing is pushed to browsers.
    #[arg(long, env = "PUSH_CONTACT", global = true)]
    pub push_contact: Option<String>,
    /// Whether pushes to browsers may lead into the own network, and be plain HTTP: for tests, and for nothing else.
    #[arg(long, env = "PUSH_ALLOW_PRIVATE", value_enum, default_value_t = Switch::Off, global = true)]
    pub push_allow_private: Switch,
    /// Where Expo's push service is.
    #[arg(long, env = "PUSH_EXPO_URL", value_parser = service_url, default_value = "https://exp.host", global = true)]
    pub push_expo_url: Url,
    /// The access token of Expo, where the project wants one (Enhanced Security for Push Notifications).
    #[arg(long, env = "EXPO_ACCESS_TOKEN", hide_env_values = true, value_parser = secret, global = true)]
    pub expo_access_token: Option<SecretString>,
}

impl PushSettings {
    /// Whether anything is pushed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.push == Switch::On
    }

    /// The most that a push shows.
    #[must_use]
    pub const fn content(&self) -> PushContent {
        match self.push_content {
            PushShown::Full => PushContent::Full,
            PushShown::Sender => PushContent::Sender,
            PushShown::Nothing => PushContent::Nothing,
        }
    }

    /// Who runs this server, if pushes are brought to browsers.
    #[must_use]
    pub fn contact(&self, listen: &Listen) -> Option<String> {
        let public = Some(&listen.public_url).filter(|url| url.starts_with("https://"));
        self.push_contact.as_ref().or(public).cloned()
    }

    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let after = (Duration::from_millis(10)..=AFTER_MAX).contains(&self.push_after);
        let ttl = (Duration::from_secs(1)..=TTL_MAX).contains(&self.push_ttl) && self.push_ttl > self.push_after;
        let is_url = |contact: &String| contact.starts_with("mailto:") || contact.starts_with("https://");
        let contact = self.push_contact.iter().all(is_url);
        let checks = [
            (after, "PUSH_AFTER", "at least 10ms and at most 10m"),
            (contact, "PUSH_CONTACT", "a mailto: or https: URL"),
            (ttl, "PUSH_TTL", "longer than PUSH_AFTER, and at most 7d"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(InvalidSetting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}
