//! A server in this process, on a port and in a folder of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser as _;
use members_book::{
    app::{App, World},
    clock::{Clock as _, ManualClock, SystemClock},
    config::{Cli, Settings},
    store::{
        MemberStore,
        changes::{Actor, Change},
        turns::Caller,
    },
};
use protocol::{MemberId, model::UserType};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Member, within};

/// A running server.
pub struct Server {
    app: App,
    folder: Arc<TempDir>,
    settings: Settings,
    http: reqwest::Client,
}

/// Settings for tests: a folder of their own, free ports, cheap passwords, no limits.
pub fn settings(folder: &TempDir) -> Settings {
    let flags = |flag: &str, value: String| [format!("--{flag}"), value];
    let path = |name: &str| folder.path().join(name).display().to_string();
    let fixed = [
        ("port", "0"),
        ("metrics-addr", "127.0.0.1:0"),
        ("bcrypt-cost", "4"),
        ("presence-grace", "50ms"),
        ("presence-interval", "0s"),
        ("profile-interval", "0s"),
        // Nobody is there: what is to be pushed in a test goes to a service of its own.
        ("push-expo-url", "http://127.0.0.1:9"),
        ("rate-messages", "0"),
        ("rate-frames", "0"),
        ("rate-hellos", "0"),
        ("rate-hellos-member", "0"),
        ("rate-hellos-address", "0"),
        ("rate-requests", "0"),
        ("rate-address", "0"),
        ("rate-typing", "0"),
        ("rate-statuses", "0"),
        ("rate-new-conversations", "0"),
        ("rate-profiles", "0"),
        ("rate-logins", "0"),
        ("rate-registrations", "0"),
        ("sqlite-readers", "2"),
        // Whatever address a test gives it.
        ("registration", "open"),
    ];
    let command_line = std::iter::once("members-book".to_owned())
        .chain(flags("database-url", format!("sqlite:{}", path("test.db"))))
        .chain(flags("data-dir", path("")))
        .chain(flags("photo-dir", path("photos")))
        .chain(fixed.iter().flat_map(|(flag, value)| flags(flag, (*value).to_owned())));
    Cli::parse_from(command_line).settings
}

impl Server {
    /// A server with settings for tests.
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A server with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::launch(change, World::default()).await
    }

    /// A server that takes its wall clock from the test.
    pub async fn at(clock: &ManualClock, change: impl FnOnce(&mut Settings)) -> Self {
        Self::launch(change, World { clock: Arc::new(clock.clone()), ..World::default() }).await
    }

    /// A server in a world of the test.
    pub async fn launch(change: impl FnOnce(&mut Settings), world: World) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut settings = settings(&folder);
        change(&mut settings);
        let app = App::start(settings.clone(), world).await.unwrap();
        Self { app, folder, settings, http: http() }
    }

    /// Stops this server and starts another one on the same data.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// Stops this server and starts another one on the same data, with some settings changed.
    pub async fn restart_with(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.relaunch(change, World::default()).await
    }

    /// The same, of one that takes its wall clock from the test.
    pub async fn restart_at(self, clock: &ManualClock, change: impl FnOnce(&mut Settings)) -> Self {
        self.relaunch(change, World { clock: Arc::new(clock.clone()), ..World::default() }).await
    }

    async fn relaunch(self, change: impl FnOnce(&mut Settings), world: World) -> Self {
        let Self { app, folder, mut settings, http } = self;
        assert!(app.stop().await, "everything was finished in time");
        change(&mut settings);
        let app = App::start(settings.clone(), world).await.unwrap();
        Self { app, folder, settings, http }
    }

    /// Stops it.
    pub async fn stop(self) {
        assert!(self.app.stop().await, "everything was finished in time");
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.app.addr
    }

    /// An HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// Registers a member.
    pub async fn member(&self, name: &str) -> Member {
        Member::register(self, name).await
    }

    /// Registers two members.
    pub async fn two_members(&self) -> (Member, Member) {
        (self.member("Ana").await, self.member("Ben").await)
    }

    /// An administrator.
    pub async fn admin(&self) -> Member {
        self.admin_named("Root").await
    }

    /// An administrator with a name.
    pub async fn admin_named(&self, name: &str) -> Member {
        let member = self.member(name).await;
        let by = Actor::default();
        let change = Change::Role(UserType::Admin);
        let now = SystemClock.now();
        self.app.accounts.members.change(member.id, change, by, now, CancellationToken::new()).await.unwrap();
        member
    }

    /// Lets an administrator activate or deactivate a member.
    pub async fn set_active(&self, member: MemberId, active: bool) {
        let path = format!("/api/admin/members/{member}/active");
        let admin = self.admin().await;
        let response = admin.request(reqwest::Method::PUT, &path, serde_json::json!({ "is_active": active })).await;
        assert_eq!(response.status(), 200);
    }

    /// The setup code that it prints.
    pub fn setup_code(&self) -> String {
        self.app.setup.code().to_owned()
    }

    /// Has the sessions of its connections checked at once.
    pub fn check_sessions(&self) {
        self.app.check_sessions();
    }

    /// Where its members are.
    pub fn members(&self) -> Arc<dyn MemberStore> {
        Arc::clone(&self.app.accounts.members)
    }

    /// The hash of a member's password.
    pub async fn password_hash(&self, email: &str) -> String {
        self.members().by_email(Caller::System, email).await.unwrap().unwrap().password_hash
    }

    /// The value of a metric without labels, or with `{labels}` in its name.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("membersbook_{name} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Where the metrics are.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.app.metrics_addr.unwrap()
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.metrics_addr());
        within("metrics", self.http.get(url).send()).await.unwrap().text().await.unwrap()
    }
}

/// An HTTP client that gives up at some time.
pub fn http() -> reqwest::Client {
    members_book::tls::install();
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}
