//! The engine that asks a service with OpenAI's chat completions: OpenAI itself, or any of the many that speak the same.
//!
//! [`question`] says what is sent, [`answer`] what is believed of what comes back.

mod answer;
mod question;

use std::time::Duration;

use async_trait::async_trait;
use protocol::rest::ai::{AdviceFallback, AdviceSource};
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::SecretString;

use self::question::Question;
use super::{Circle, Engine, Person, Suggestion, Trouble, Wording};
use crate::outbound::{self, Unread};

/// Longest answer, in bytes: many times what an answer needs.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Where the service is.
pub struct Options {
    /// Its base URL, such as `https://api.openai.com/v1`.
    pub url: Url,
    /// The key, where it wants one.
    pub key: Option<SecretString>,
    /// The model.
    pub model: String,
    /// How long a question may take. The guard keeps the deadline; this gives connections up that hang beyond it.
    pub deadline: Duration,
}

/// The engine that asks a service.
pub struct Remote {
    client: Client,
    endpoint: Url,
    model: String,
}

impl Remote {
    /// An engine that asks this service.
    ///
    /// # Errors
    /// When the key cannot be sent or TLS cannot be set up; the message names the setting.
    pub fn new(options: &Options) -> Result<Self, String> {
        let headers = outbound::bearer(options.key.as_ref()).map_err(|why| format!("OPENAI_API_KEY: {why}"))?;
        let client = outbound::client(headers, options.deadline, options.deadline);
        let client = client.map_err(|error| format!("AI_SERVICE_URL: {error}"))?;
        let mut endpoint = options.url.clone();
        endpoint
            .path_segments_mut()
            .map_err(|()| "AI_SERVICE_URL: not a base URL".to_owned())?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        Ok(Self { client, endpoint, model: options.model.clone() })
    }

    /// Asks, and gives back what the model said.
    async fn ask(&self, question: &Question) -> Result<String, Trouble> {
        let request = self.client.post(self.endpoint.clone()).json(&question.request(&self.model));
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            tracing::warn!(status = status.as_u16(), "the AI service refused a question");
            let pause =
                (status == StatusCode::TOO_MANY_REQUESTS).then(|| outbound::retry_after(response.headers())).flatten();
            return Err(Trouble { fallback: AdviceFallback::Unavailable, pause });
        }
        let body = read(response).await?;
        answer::content(&body).map_err(|problem| nonsense(&problem))
    }
}

#[async_trait]
impl Engine for Remote {
    fn source(&self) -> AdviceSource {
        AdviceSource::Remote
    }

    async fn recommend(&self, circle: &Circle) -> Result<Vec<Suggestion>, Trouble> {
        let content = self.ask(&Question::introductions(circle)).await?;
        answer::suggestions(&content, circle).map_err(|problem| nonsense(&problem))
    }

    async fn optimize(&self, own: &Person) -> Result<Vec<Wording>, Trouble> {
        let question = Question::wordings(own);
        let content = self.ask(&question).await?;
        answer::wordings(&content, own).map_err(|problem| nonsense(&problem))
    }
}

/// Reads an answer as far as it may go.
async fn read(response: Response) -> Result<Vec<u8>, Trouble> {
    outbound::read(response, ANSWER_MAX_BYTES).await.map_err(|unread| match unread {
        Unread::Broken(error) => unreachable(&error),
        Unread::TooLong => nonsense("it is too long"),
    })
}

fn unreachable(error: &reqwest::Error) -> Trouble {
    if error.is_timeout() {
        return AdviceFallback::Timeout.into();
    }
    tracing::warn!(reason = outbound::reason(error), "the AI service could not be reached, or went away");
    AdviceFallback::Unavailable.into()
}

fn nonsense(problem: &str) -> Trouble {
    tracing::warn!(problem, "the AI service gave an answer that cannot be used");
    AdviceFallback::InvalidAnswer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> String {
        let (key, model) = (None, "m".to_owned());
        let options = Options { url: url.parse().unwrap(), key, model, deadline: Duration::from_secs(1) };
        Remote::new(&options).unwrap().endpoint.to_string()
    }

    #[test]
    fn a_base_url_may_end_in_a_slash_and_have_a_query() {
        assert_eq!(endpoint("https://x.example/v1"), "https://x.example/v1/chat/completions");
        assert_eq!(endpoint("https://x.example/v1/"), "https://x.example/v1/chat/completions");
        assert_eq!(endpoint("http://x.example"), "http://x.example/chat/completions");
        assert_eq!(endpoint("https://x.example/v1?v=2"), "https://x.example/v1/chat/completions?v=2");
    }
}
