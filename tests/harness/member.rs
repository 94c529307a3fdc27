//! A registered member.

use std::net::SocketAddr;

use protocol::{
    Cursor, DeviceId, MemberId,
    rest::{self, AuthResponse, RegisterRequest},
};

use super::{Client, Server, within};

/// A registered member with their newest tokens.
#[derive(Clone)]
pub struct Member {
    /// Their id.
    pub id: MemberId,
    /// Their newest tokens.
    pub auth: AuthResponse,
    /// Their password.
    pub password: String,
    addr: SocketAddr,
    http: reqwest::Client,
}

impl Member {
    /// Registers a member.
    pub async fn register(server: &Server, name: &str) -> Self {
        Self::register_at(server.addr(), server.http(), name).await
    }

    /// A member whom a server has answered so.
    pub fn of(server: &Server, auth: AuthResponse, password: &str) -> Self {
        let (addr, http) = (server.addr(), server.http().clone());
        Self { id: auth.member.id, auth, password: password.to_owned(), addr, http }
    }

    /// Registers a member at a server that runs somewhere.
    pub async fn register_at(addr: SocketAddr, http: &reqwest::Client, name: &str) -> Self {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let email = format!("{unique}@example.com");
        let password = format!("the password of {name}");
        let request =
            RegisterRequest { name: name.to_owned(), email, password: password.clone(), ..RegisterRequest::default() };
        let sent = http.post(format!("http://{addr}/api/auth/register")).json(&request).send();
        let response = within("registration", sent).await.unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        let auth: AuthResponse = response.json().await.unwrap();
        Self { id: auth.member.id, auth, password, addr, http: http.clone() }
    }

    /// The same member at another address: the server was restarted.
    pub fn at(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// The same member with other tokens.
    pub fn with(&self, auth: AuthResponse) -> Self {
        Self { auth, ..self.clone() }
    }

    /// Connects, signs in and syncs.
    pub async fn connect(&self) -> Client {
        self.connect_as("phone", None).await
    }

    /// Connects from a device, with a cursor if there is one.
    pub async fn connect_as(&self, device: &str, cursor: Option<Cursor>) -> Client {
        let mut client = Client::open(self.addr).await;
        client.hello(self.id, &self.auth.access_token, &device.parse::<DeviceId>().unwrap(), cursor).await;
        client
    }

    /// Sends a request as this member.
    pub async fn request(&self, method: reqwest::Method, path: &str, body: serde_json::Value) -> reqwest::Response {
        let request = self.http.request(method, format!("http://{}{path}", self.addr));
        let request = request.bearer_auth(&self.auth.access_token);
        let request = if body.is_null() { request } else { request.json(&body) };
        within(path, request.send()).await.unwrap()
    }

    /// Chooses who may see the member's presence: `members`, `partners` or `nobody`.
    pub async fn show_presence_to(&self, audience: &str) {
        let patch = serde_json::json!({ "visibility": { "presence": audience } });
        assert_eq!(self.request(reqwest::Method::PATCH, "/api/members/me", patch).await.status(), 200);
    }

    /// Logs in again, from another device.
    pub async fn log_in(&self) -> Self {
        let request = rest::LoginRequest {
            email: self.auth.member.email.clone(),
            password: self.password.clone(),
            ..Default::default()
        };
        let sent = self.http.post(format!("http://{}/api/auth/login", self.addr)).json(&request).send();
        let response = within("login", sent).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { auth: response.json().await.unwrap(), ..self.clone() }
    }

    /// Exchanges the refresh token, as a client that does not name its exchanges.
    pub async fn refresh(&self) -> reqwest::Response {
        self.exchange(None).await
    }

    /// Exchanges the refresh token by an attempt.
    pub async fn refresh_by(&self, attempt: &str) -> reqwest::Response {
        self.exchange(Some(attempt.to_owned())).await
    }

    async fn exchange(&self, attempt: Option<String>) -> reqwest::Response {
        let request = rest::RefreshRequest { refresh_token: self.auth.refresh_token.clone(), attempt };
        let sent = self.http.post(format!("http://{}/api/auth/refresh", self.addr)).json(&request).send();
        within("refresh", sent).await.unwrap()
    }
}
