//! A club with an address of every kind that a stranger may ask about.

use members_book::{
    clock::{Clock as _, SystemClock},
    config::Settings,
};
use protocol::rest::RegistrationPolicy;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::post;
use crate::harness::{
    Member, Server,
    database::Database,
    eventually,
    smtp::{How, MailServer, Received},
};

/// What an address may be to a club.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody has it.
    Unknown,
    /// A member who may sign in.
    Member,
    /// An administrator.
    Admin,
    Deactivated,
    Suspended,
    /// Nobody has it any more: its member has left.
    Erased,
    /// Waits for an administrator.
    Pending,
    /// Has registered, and not shown that the address is theirs.
    Unverified,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Member,
        Self::Admin,
        Self::Deactivated,
        Self::Suspended,
        Self::Erased,
        Self::Pending,
        Self::Unverified,
    ];
}

/// The password of everybody who has one.
pub const PASSWORD: &str = "correct horse battery";

/// A club that sends mail. Its addresses are `KIND.NUMBER@example.com`.
pub struct Club {
    pub server: Server,
    pub mail: MailServer,
    /// Keeps what the club is stored in.
    _database: Option<Database>,
}

impl Club {
    /// A club on the embedded store, with one address of each kind.
    pub async fn gather() -> Self {
        Self::on(None, 1).await
    }

    /// A club on a store, with so many addresses of each kind.
    pub async fn on(database: Option<Database>, each: usize) -> Self {
        let uri = database.as_ref().map(|database| database.uri.clone());
        let with_store = |settings: &mut Settings| {
            if let Some(uri) = uri {
                settings.store.database_url = Some(uri.into());
            }
        };
        let server = Server::with(with_store).await;
        let admin = server.admin().await;
        for number in 0..each {
            fill(&server, &admin, number).await;
        }
        let waits = |settings: &mut Settings| settings.registration.registration = Some(RegistrationPolicy::Approval);
        let server = server.restart_with(waits).await;
        for number in 0..each {
            assert_eq!(register(&server, &address(Kind::Pending, number)).await.status(), 202);
        }
        let mail = MailServer::start(How::Plain).await;
        let server = server.restart_with(|settings| {
            mail.set(settings);
            settings.registration.registration = Some(RegistrationPolicy::Open);
        });
        let server = server.await;
        for number in 0..each {
            let email = address(Kind::Unverified, number);
            assert_eq!(register(&server, &email).await.status(), 202);
            // Who has left may be told just now.
            let is_sent = async || mail.all().iter().any(|mail| mail.to == email).then_some(());
            eventually("the mail of a registration", is_sent).await;
        }
        Self { server, mail, _database: database }
    }

    /// Tries to log in.
    pub async fn log_in(&self, email: &str, password: &str) -> Response {
        post(&self.server, "/api/auth/login", json!({ "email": email, "password": password })).await
    }

    /// Registers with [`PASSWORD`].
    pub async fn register(&self, email: &str) -> Response {
        register(&self.server, email).await
    }

    /// What has come for an address, by now.
    pub fn mails_to(&self, kind: Kind) -> Vec<Received> {
        let to = address(kind, 0);
        self.mail.all().into_iter().filter(|mail| mail.to.eq_ignore_ascii_case(&to)).collect()
    }

    /// The mail for an address with this number, from zero on, as soon as it is there.
    pub async fn mail_to(&self, kind: Kind, number: usize) -> Received {
        eventually("a mail", async || self.mails_to(kind).into_iter().nth(number)).await
    }

    /// Waits until so much has come of mails of a kind.
    pub async fn has_sent(&self, kind: &str, outcome: &str, times: f64) {
        let name = format!("mail_total{{mail=\"{kind}\",outcome=\"{outcome}\"}}");
        eventually(&name, async || (self.server.metric(&name).await >= times).then_some(())).await;
    }

    /// Says that the password is forgotten.
    pub async fn forgot(&self, email: &str) -> Response {
        post(&self.server, "/api/auth/password/forgot", json!({ "email": email })).await
    }
}

/// The address of a kind with a number, from zero on.
pub fn address(kind: Kind, number: usize) -> String {
    format!("{kind:?}.{number}@example.com").to_lowercase()
}

/// Those who are there before the club sends mail.
async fn fill(server: &Server, admin: &Member, number: usize) {
    for kind in [Kind::Member, Kind::Admin, Kind::Deactivated, Kind::Suspended, Kind::Erased] {
        let registered = register(server, &address(kind, number)).await;
        assert_eq!(registered.status(), 201, "{kind:?}");
        let member = Member::of(server, registered.json().await.unwrap(), PASSWORD);
        let path = |what: &str| format!("/api/admin/members/{}/{what}", member.id);
        match kind {
            Kind::Admin => {
                let role = json!({ "user_type": "admin" });
                assert_eq!(admin.request(Method::PUT, &path("role"), role).await.status(), 200);
            }
            Kind::Deactivated => deactivate(admin, &member.id.to_string()).await,
            Kind::Suspended => {
                let until = SystemClock.now().after(std::time::Duration::from_secs(86_400));
                let body = json!({ "until": until, "reason": "shouted" });
                assert_eq!(admin.request(Method::PUT, &path("suspension"), body).await.status(), 200);
            }
            Kind::Erased => {
                assert_eq!(member.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
            }
            _ => {}
        }
    }
}

async fn deactivate(admin: &Member, id: &str) {
    let path = format!("/api/admin/members/{id}/active");
    assert_eq!(admin.request(Method::PUT, &path, json!({ "is_active": false })).await.status(), 200);
}

async fn register(server: &Server, email: &str) -> Response {
    post(server, "/api/auth/register", json!({ "name": "Ana", "email": email, "password": PASSWORD })).await
}
