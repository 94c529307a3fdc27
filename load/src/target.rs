//! The server under load: registering members there.

use std::{net::SocketAddr, time::Duration};

use protocol::{
    MemberId, Problem,
    rest::{AuthResponse, RefreshRequest, RegisterRequest},
};

/// The longest that a server may ask us to wait before we give up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server.
#[derive(Clone)]
pub(crate) struct Target {
    http: reqwest::Client,
    base: String,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

/// A registered member.
pub(crate) struct Account {
    pub(crate) id: MemberId,
    pub(crate) auth: AuthResponse,
}

impl Target {
    /// The server at a base URL such as `http://127.0.0.1:8000`.
    pub(crate) async fn at(url: &str) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let host = base.strip_prefix("http://").ok_or_else(|| format!("{url}: an http:// URL is needed"))?;
        let addr = tokio::net::lookup_host(host).await.map_err(|error| format!("{url}: {error}"))?.next();
        let addr = addr.ok_or_else(|| format!("{url}: no such host"))?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
        Ok(Self { http: http.map_err(|error| error.to_string())?, base, addr })
    }

    /// Registers a member; waits when the server asks to.
    pub(crate) async fn register(&self, name: &str) -> Result<Account, String> {
        let unique = uuid::Uuid::now_v7().simple();
        let request = RegisterRequest {
            name: name.to_owned(),
            email: format!("{unique}@load.example.com"),
            password: unique.to_string(),
        };
        let mut waited = Duration::ZERO;
        loop {
            let sent = self.http.post(format!("{}/api/auth/register", self.base)).json(&request).send().await;
            let response = sent.map_err(|error| format!("{}: {error}", self.base))?;
            let status = response.status();
            let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
            if status.is_success() {
                let auth: AuthResponse = response.json().await.map_err(|error| error.to_string())?;
                return Ok(Account { id: auth.member.id, auth });
            }
            let problem =
                response.json::<Problem>().await.map_or_else(|_| status.to_string(), |problem| problem.detail);
            match wait.map(Duration::from_secs) {
                Some(wait) if waited + wait <= PATIENCE => {
                    tokio::time::sleep(wait).await;
                    waited += wait;
                }
                _ => return Err(format!("registering a member: {problem}")),
            }
        }
    }

    /// Exchanges a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Result<AuthResponse, String> {
        let request = RefreshRequest { refresh_token: token.to_owned() };
        let sent = self.http.post(format!("{}/api/auth/refresh", self.base)).json(&request).send().await;
        let response = sent.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        response.json().await.map_err(|error| error.to_string())
    }
}
