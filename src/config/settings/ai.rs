//! The settings of advice.

use std::time::Duration;

use clap::Args;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{
    InvalidSetting,
    values::{duration, secret, service_url, whole},
};

/// Advice: whom to meet, and how to word a profile better.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Advice (AI)")]
pub struct AiSettings {
    /// The base URL, up to /v1, of a service with OpenAI's chat completions. Without it the server's own rules advise, and nothing leaves the server; docs/ai.md lists what does with it.
    #[arg(long, env = "AI_SERVICE_URL", hide_env_values = true, value_parser = secret, global = true)]
    pub ai_service_url: Option<SecretString>,
    /// The key for the AI service, where it wants one.
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true, value_parser = secret, global = true)]
    pub openai_api_key: Option<SecretString>,
    /// The model that the AI service is to use; one that can follow a JSON schema.
    #[arg(long, env = "AI_MODEL", default_value = "gpt-4o-mini", global = true)]
    pub ai_model: String,
    /// How long the AI service may take before the server's own rules answer.
    #[arg(long, env = "AI_TIMEOUT", value_parser = duration, default_value = "8s", global = true)]
    pub ai_timeout: Duration,
    /// Questions for the AI service at a time; more are answered by the server's own rules at once.
    #[arg(long, env = "AI_CONCURRENCY", default_value_t = 8, value_parser = whole::<usize>, global = true)]
    pub ai_concurrency: usize,
    /// Questions for the AI service of one member a day (UTC).
    #[arg(long, env = "AI_DAILY_BUDGET", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub ai_daily_budget: u32,
    /// Questions for the AI service of all members together a day (UTC).
    #[arg(long, env = "AI_DAILY_BUDGET_CLUB", default_value_t = 2_000, value_parser = whole::<u32>, global = true)]
    pub ai_daily_budget_club: u32,
    /// How long an introduction by the AI service is shown again before the service is asked anew.
    #[arg(long, env = "AI_REFRESH", value_parser = duration, default_value = "6h", global = true)]
    pub ai_refresh: Duration,
    /// Failures in a row after which the AI service is left alone.
    #[arg(long, env = "AI_FAILURES_MAX", default_value_t = 5, value_parser = whole::<u32>, global = true)]
    pub ai_failures_max: u32,
    /// How long it is left alone before it is tried again.
    #[arg(long, env = "AI_COOLDOWN", value_parser = duration, default_value = "30s", global = true)]
    pub ai_cooldown: Duration,
}

impl AiSettings {
    /// Where the AI service is, if there is one.
    ///
    /// # Errors
    /// When it is not the URL of one. The message does not repeat it: there may be a password in it.
    pub fn service(&self) -> Result<Option<Url>, InvalidSetting> {
        let url = self.ai_service_url.as_ref().map(|url| service_url(url.expose_secret()));
        url.transpose().map_err(|problem| InvalidSetting { setting: "AI_SERVICE_URL", problem })
    }

    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub(super) fn validate(&self, request_timeout: Duration) -> Result<(), InvalidSetting> {
        self.service()?;
        let places = 1..=tokio::sync::Semaphore::MAX_PERMITS;
        let checks = [
            // Or the local rules would have no time left to answer.
            (self.ai_timeout < request_timeout, "AI_TIMEOUT", "shorter than REQUEST_TIMEOUT"),
            (places.contains(&self.ai_concurrency), "AI_CONCURRENCY", "at least 1"),
            (self.ai_daily_budget > 0, "AI_DAILY_BUDGET", "at least 1"),
            (self.ai_daily_budget_club > 0, "AI_DAILY_BUDGET_CLUB", "at least 1"),
            (self.ai_failures_max > 0, "AI_FAILURES_MAX", "at least 1"),
            (self.ai_refresh <= Duration::from_secs(7 * 86_400), "AI_REFRESH", "at most 7d"),
            (!self.ai_model.trim().is_empty(), "AI_MODEL", "the name of a model"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(InvalidSetting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}
