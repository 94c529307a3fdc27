//! The server under load, over REST.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{
    MemberId, Problem,
    rest::{AuthResponse, LoginRequest, PushRegistration, RefreshRequest, RegisterRequest},
};

/// The password of every member that is made for a run.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The longest that a server may ask us to wait before we give up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server.
#[derive(Clone)]
pub(crate) struct Target {
    http: reqwest::Client,
    base: String,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Whether it was told that the server makes us wait.
    told: Arc<AtomicBool>,
}

/// A member who is signed in.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: MemberId,
    pub(crate) token: String,
    /// For a new token, where the token does not outlive the run.
    pub(crate) refresh: Option<String>,
    pub(crate) email: String,
}

impl From<AuthResponse> for Account {
    fn from(auth: AuthResponse) -> Self {
        let AuthResponse { member, access_token, refresh_token, .. } = auth;
        Self { id: member.id, token: access_token, refresh: Some(refresh_token), email: member.email }
    }
}

impl Target {
    /// The server at a base URL such as `http://127.0.0.1:8000`.
    pub(crate) async fn at(url: &str) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let host = base.strip_prefix("http://").ok_or_else(|| format!("{url}: an http:// URL is needed"))?;
        let addr = tokio::net::lookup_host(host).await.map_err(|error| format!("{url}: {error}"))?.next();
        let addr = addr.ok_or_else(|| format!("{url}: no such host"))?;
        // Without TLS here, but the library wants to know.
        members_book::tls::install();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
        Ok(Self { http: http.map_err(|error| error.to_string())?, base, addr, told: Arc::default() })
    }

    /// Registers a member; waits when the server asks to.
    pub(crate) async fn register(&self, name: &str) -> Result<Account, String> {
        let unique = uuid::Uuid::now_v7().simple();
        let request = RegisterRequest {
            name: name.to_owned(),
            email: format!("{unique}@load.example.com"),
            password: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        let mut waited = Duration::ZERO;
        loop {
            let sent = self.http.post(format!("{}/api/auth/register", self.base)).json(&request).send().await;
            let response = sent.map_err(|error| self.unreached(&error))?;
            let status = response.status();
            let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
            if status.is_success() {
                return response.json::<AuthResponse>().await.map(Account::from).map_err(|error| error.to_string());
            }
            let problem =
                response.json::<Problem>().await.map_or_else(|_| status.to_string(), |problem| problem.detail);
            match wait.map(Duration::from_secs) {
                Some(wait) if waited + wait <= PATIENCE => {
                    if !self.told.swap(true, Ordering::Relaxed) {
                        eprintln!(
                            "waiting: the server lets only so many register from one address (RATE_REGISTRATIONS; 0 is no limit)"
                        );
                    }
                    tokio::time::sleep(wait).await;
                    waited += wait;
                }
                _ => return Err(format!("registering a member: {problem}")),
            }
        }
    }

    fn unreached(&self, error: &reqwest::Error) -> String {
        if error.is_connect() {
            return format!("no connection to {}: is the server running there?", self.base);
        }
        format!("{}: {error}", self.base)
    }

    /// Logs a member in with the password that they all have. Returns how long to wait when the server asks to come back later.
    pub(crate) async fn log_in(&self, account: &Account) -> Result<Option<Duration>, String> {
        let request =
            LoginRequest { email: account.email.clone(), password: PASSWORD.to_owned(), ..LoginRequest::default() };
        let sent = self.http.post(format!("{}/api/auth/login", self.base)).json(&request).send().await;
        let response = sent.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => {
                let auth: AuthResponse = response.json().await.map_err(|error| error.to_string())?;
                if auth.member.id == account.id { Ok(None) } else { Err("somebody else is logged in".to_owned()) }
            }
            429 | 503 => {
                let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
                Ok(Some(Duration::from_secs(wait.unwrap_or(1).max(1))))
            }
            status => Err(format!("a login was answered {status}")),
        }
    }

    /// Logs a member in anew, with a session of its own.
    pub(crate) async fn begin_session(&self, account: &Account) -> Result<Account, String> {
        let request =
            LoginRequest { email: account.email.clone(), password: PASSWORD.to_owned(), ..LoginRequest::default() };
        let sent = self.http.post(format!("{}/api/auth/login", self.base)).json(&request).send().await;
        let response = sent.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        response.json::<AuthResponse>().await.map(Account::from).map_err(|error| error.to_string())
    }

    /// Ends the session of a member. Whether it is over: also if it was before.
    pub(crate) async fn log_out(&self, account: &Account) -> Result<bool, String> {
        let asking = self.http.post(format!("{}/api/auth/logout", self.base)).bearer_auth(&account.token);
        let response = asking.timeout(Duration::from_secs(10)).send().await.map_err(|error| error.to_string())?;
        Ok(matches!(response.status().as_u16(), 200..=299 | 401))
    }

    /// Has messages pushed to a device of a member, over the session of this account. Whether the server has taken that; not if there
    /// were too many lately.
    pub(crate) async fn register_device(
        &self,
        account: &Account,
        device: &str,
        registration: &PushRegistration,
    ) -> Result<bool, String> {
        let url = format!("{}/api/members/me/devices/{device}/push", self.base);
        let asking = self.http.put(url).bearer_auth(&account.token).json(registration).timeout(Duration::from_secs(10));
        let response = asking.send().await.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200..=299 => Ok(true),
            429 => Ok(false),
            status => Err(format!("registering a device was answered {status}")),
        }
    }

    /// Changes a member's name.
    pub(crate) async fn rename(&self, account: &Account, name: &str) -> Result<(), String> {
        let url = format!("{}/api/members/me", self.base);
        let body = serde_json::json!({ "name": name });
        let sent = self.http.patch(url).bearer_auth(&account.token).json(&body).send().await;
        sent.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| error.to_string())
    }

    /// Lets everybody see a member's presence: strangers see none by default.
    pub(crate) async fn show_to_everybody(&self, account: &Account) -> Result<(), String> {
        let url = format!("{}/api/members/me", self.base);
        let body = serde_json::json!({ "visibility": { "presence": "members" } });
        let sent = self.http.patch(url).bearer_auth(&account.token).json(&body).send().await;
        sent.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| error.to_string())
    }

    /// Asks for a page over REST and gives back its body; none if the server has no such thing.
    pub(crate) async fn get(&self, account: &Account, path: &str) -> Result<Option<serde_json::Value>, String> {
        let sent = self.http.get(format!("{}{path}", self.base)).bearer_auth(&account.token).send().await;
        let response = sent.map_err(|error| error.to_string())?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(|error| error.to_string())?;
        response.json().await.map(Some).map_err(|error| error.to_string())
    }

    /// Gets a new token for a member whose token has expired, if that is possible.
    pub(crate) async fn refresh(&self, account: &mut Account) -> Result<(), String> {
        let refresh_token = account.refresh.clone().ok_or("the token has expired, and there is no other")?;
        let request = RefreshRequest { refresh_token, attempt: None };
        let sent = self.http.post(format!("{}/api/auth/refresh", self.base)).json(&request).send().await;
        let response = sent.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        let auth: AuthResponse = response.json().await.map_err(|error| error.to_string())?;
        *account = auth.into();
        Ok(())
    }
}
