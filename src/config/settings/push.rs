//! The settings of push.

use std::time::Duration;

use clap::Args;
use protocol::rest::PushContent;
use reqwest::Url;
use secrecy::SecretString;

use crate::config::{
    InvalidSetting,
    values::{PushPolicy, PushShown, duration, secret, service_url},
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
    #[arg(long, env = "PUSH", value_enum, default_value_t = PushPolicy::On, global = true)]
    pub push: PushPolicy,
    /// How long a device may take to say that it has a message before that is pushed to it, whether it is connected or not.
    #[arg(long, env = "PUSH_AFTER", value_parser = duration, default_value = "4s", global = true)]
    pub push_after: Duration,
    /// How old a message may be when it is pushed; the push service is given up after that, and brings none later. One that came in quiet hours is as old as their end.
    #[arg(long, env = "PUSH_TTL", value_parser = duration, default_value = "4h", global = true)]
    pub push_ttl: Duration,
    /// The most that a push shows: full (who has written, and the beginning of the text), sender, or nothing. Members may choose less.
    #[arg(long, env = "PUSH_CONTENT", value_enum, default_value_t = PushShown::Full, global = true)]
    pub push_content: PushShown,
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
        self.push == PushPolicy::On
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

    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let after = (Duration::from_millis(10)..=AFTER_MAX).contains(&self.push_after);
        let ttl = (Duration::from_secs(1)..=TTL_MAX).contains(&self.push_ttl) && self.push_ttl > self.push_after;
        let checks = [
            (after, "PUSH_AFTER", "at least 10ms and at most 10m"),
            (ttl, "PUSH_TTL", "longer than PUSH_AFTER, and at most 7d"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(InvalidSetting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}
