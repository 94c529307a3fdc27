//! Every setting, with its default and what it does.

mod ai;
mod cluster;
mod mail;
mod photos;
mod push;
mod rates;
mod registration;
mod security;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use axum::http::HeaderValue;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use protocol::rest::RegistrationPolicy;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::{
    ai::AiSettings,
    cluster::ClusterSettings,
    mail::{MailSettings, Relay, Security},
    photos::{Bucket, PhotoSettings},
    push::PushSettings,
    rates::Rates,
    registration::{Because, RegistrationSettings},
    security::SecuritySettings,
};
use super::{
    InvalidSetting,
    values::{
        DatabaseUrl, OptionalAddr, SecondFactorPolicy, bytes, duration, host, network, origin, public_url, secret,
        whole, whole_between,
    },
};
use crate::telemetry::logs::LogFormat;

/// Shortest secret, in bytes: the length of the hash that it keys (RFC 7518, section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// Longest life of a session: ten years.
const SESSION_LIFETIME_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// The messaging server of a private members' club.
///
/// Without a command it serves. Every setting is a flag, an environment variable, or a line in `.env`.
#[derive(Parser)]
#[command(name = "members-book", version, max_term_width = 110)]
pub struct Cli {
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Subcommand)]
pub enum Command {
    /// Administer the club from the command line.
    Admin {
        /// What to do.
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Bring the schema of the database up to date. Serving does that at its start, too.
    Migrate {
        /// Only tell what is missing; ends with 1 if something is.
        #[arg(long)]
        check: bool,
    },
    /// Copy everything from one store to another, empty one, and verify it. Stop the servers of both first. Run it
    /// again if it was interrupted: it goes on where it was.
    Copy {
        /// The store to read: sqlite:PATH, mongodb://… or mongodb+srv://…
        #[arg(long)]
        from: String,
        /// The store to write.
        #[arg(long)]
        to: String,
    },
    /// Fill an empty store with a club to look at: members, conversations, and two accounts whose passwords are printed. Stop
    /// its server first. Run again, it adds what is missing and prints new passwords.
    Demo {
        /// How many members the club has, 3 to 500.
        #[arg(long, default_value_t = 24, value_parser = whole_between(3_u16, 500))]
        members: u16,
    },
}

/// Administration from the command line.
#[derive(Subcommand)]
pub enum AdminCommand {
    /// Create an administrator. The password is asked for, or read from standard input if that is no terminal.
    Create {
        /// The name to show.
        #[arg(long)]
        name: String,
        /// The e-mail address.
        #[arg(long)]
        email: String,
    },
    /// Print a link that sets the password of a member who has lost it: good for 30 minutes, and once. Hand it over to nobody else: it lets
    /// in whoever has it.
    ResetLink {
        /// The e-mail address that the member registered with.
        #[arg(long)]
        email: String,
    },
    /// Give a member another e-mail address, who has lost the one that they have and cannot change it themselves. It is not verified, their
    /// sessions stay, and a mail to the former address tells of it.
    SetEmail {
        /// The e-mail address that the member has.
        old: String,
        /// The one that they are to have. With `--taken-over` it may be the same.
        new: String,
        /// Somebody has taken the account: end all of its sessions and links, let nobody in with its password, and print a link that sets
        /// another one.
        #[arg(long)]
        taken_over: bool,
    },
    /// Remove the second factor of a member who has lost it, and end their sessions.
    ResetSecondFactor {
        /// The e-mail address that the member registered with.
        #[arg(long)]
        email: String,
    },
    /// End what a restored backup has brought back: all sessions (everybody signs in again), links of mails, mails that wait, and open
    /// invitations. Stop all servers first, and run it after the restore, before they start.
    AfterRestore {
        /// Leave invitations open that were open when the backup was made.
        #[arg(long)]
        keep_invitations: bool,
    },
    /// Make an existing member an administrator.
    Promote {
        /// The e-mail address that the member registered with.
        #[arg(long)]
        email: String,
    },
}

/// The settings of a server.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where to listen.
    #[command(flatten)]
    pub listen: Listen,
    /// Where the data is.
    #[command(flatten)]
    pub store: StoreSettings,
    /// Several nodes that serve one club.
    #[command(flatten)]
    pub cluster: ClusterSettings,
    /// Where photos are.
    #[command(flatten)]
    pub photos: PhotoSettings,
    /// Who may come in.
    #[command(flatten)]
    pub registration: RegistrationSettings,
    /// Tokens and passwords.
    #[command(flatten)]
    pub auth: Auth,
    /// Mail.
    #[command(flatten)]
    pub mail: MailSettings,
    /// Push.
    #[command(flatten)]
    pub push: PushSettings,
    /// Where problems of security are reported.
    #[command(flatten)]
    pub security: SecuritySettings,
    /// The waits and bounds of connections.
    #[command(flatten)]
    pub connections: ConnectionSettings,
    /// How much is allowed.
    #[command(flatten)]
    pub rates: Rates,
    /// Advice.
    #[command(flatten)]
    pub ai: AiSettings,
    /// What operators see.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// Where to listen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct Listen {
    /// The address to listen on; 0.0.0.0 for every interface.
    #[arg(long, env = "HOST", value_parser = host, default_value = "127.0.0.1", global = true)]
    pub host: IpAddr,
    /// The port to listen on; 0 for any free one.
    #[arg(long, env = "PORT", default_value_t = 8000, value_parser = whole::<u16>, global = true)]
    pub port: u16,
    /// Where clients reach the API, such as `https://api.example.com`: what the addresses of photos begin with (without
    /// it, they are paths), and an origin whose pages may open the socket.
    #[arg(long, env = "PUBLIC_URL", value_parser = public_url, default_value = "", global = true)]
    pub public_url: String,
    /// Origins of browser pages that may use the API, separated by commas.
    #[arg(
        long,
        env = "CORS_ORIGINS",
        value_delimiter = ',',
        value_parser = origin,
        default_value = "http://localhost:8081,http://localhost:19006,http://127.0.0.1:8081",
        global = true
    )]
    pub cors_origins: Vec<HeaderValue>,
    /// Reverse proxies whose X-Forwarded-For is believed: addresses or networks (10.0.0.0/8), separated by commas.
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',', value_parser = network, global = true)]
    pub trusted_proxies: Vec<IpNet>,
    /// How long a REST request may take.
    #[arg(long, env = "REQUEST_TIMEOUT", value_parser = duration, default_value = "15s", global = true)]
    pub request_timeout: Duration,
    /// Over how long SIGTERM sends the connections away, one after the other, when another node is there to take them; 0s: all
    /// at once.
    #[arg(long, env = "DRAIN_TIME", value_parser = duration, default_value = "10s", global = true)]
    pub drain_time: Duration,
    /// How long a shutdown may take before it is forced, after the drain.
    #[arg(long, env = "SHUTDOWN_TIMEOUT", value_parser = duration, default_value = "10s", global = true)]
    pub shutdown_timeout: Duration,
}

impl Listen {
    /// Whether anybody but who sits at this machine reaches the server: it listens on more than a loopback address, or something passes
    /// requests on to it.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        !self.host.is_loopback() || !self.public_url.is_empty() || !self.trusted_proxies.is_empty()
    }
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreSettings {
    /// Where the data is: sqlite:PATH, mongodb://… or mongodb+srv://… [default: sqlite:./data/members-book.db]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret, global = true)]
    pub database_url: Option<SecretString>,
    /// Another name of DATABASE_URL, used when that is not given.
    #[arg(long, env = "MONGODB_URI", hide_env_values = true, value_parser = secret, global = true)]
    pub mongodb_uri: Option<SecretString>,
    /// The folder of what the server keeps beside the database: a generated JWT_SECRET.
    #[arg(long, env = "DATA_DIR", default_value = "./data", global = true)]
    pub data_dir: PathBuf,
    /// How long a call of the store may take.
    #[arg(long, env = "STORE_TIMEOUT", value_parser = duration, default_value = "5s", global = true)]
    pub store_timeout: Duration,
    /// Threads that read the SQLite file.
    #[arg(long, env = "SQLITE_READERS", default_value_t = 4, value_parser = whole::<usize>, global = true)]
    pub sqlite_readers: usize,
}

/// Where the data is when no setting says so.
pub const DEFAULT_DATABASE_URL: &str = "sqlite:./data/members-book.db";

impl StoreSettings {
    /// Where the data is.
    ///
    /// # Errors
    /// When the URL is not one of a store that this version has.
    pub fn database(&self) -> Result<DatabaseUrl, InvalidSetting> {
        let (setting, url) = match (&self.database_url, &self.mongodb_uri) {
            (Some(url), _) => ("DATABASE_URL", url.expose_secret()),
            (None, Some(url)) => ("MONGODB_URI", url.expose_secret()),
            (None, None) => ("DATABASE_URL", DEFAULT_DATABASE_URL),
        };
        url.parse().map_err(|problem| InvalidSetting { setting, problem })
    }
}

/// Tokens and passwords.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens and passwords")]
pub struct Auth {
    /// The secret that signs access tokens, at least 32 bytes, without a comma. Without one, it is generated and kept in DATA_DIR.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_parser = secret, global = true)]
    pub jwt_secret: Option<SecretString>,
    /// Former secrets, separated by commas, accepted while their tokens run out.
    #[arg(
        long,
        env = "JWT_SECRET_PREVIOUS",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = secret,
        global = true
    )]
    pub jwt_secret_previous: Vec<SecretString>,
    /// The issuer in access tokens.
    #[arg(long, env = "JWT_ISSUER", default_value = "members-book", global = true)]
    pub jwt_issuer: String,
    /// The audience in access tokens.
    #[arg(long, env = "JWT_AUDIENCE", default_value = "members-book-app", global = true)]
    pub jwt_audience: String,
    /// How long an access token lives.
    #[arg(long, env = "ACCESS_TOKEN_TTL", value_parser = duration, default_value = "15m", global = true)]
    pub access_token_ttl: Duration,
    /// How long a refresh token lives.
    #[arg(long, env = "REFRESH_TOKEN_TTL", value_parser = duration, default_value = "30d", global = true)]
    pub refresh_token_ttl: Duration,
    /// How long a session lives, however often its tokens are refreshed: then its member logs in again. At least REFRESH_TOKEN_TTL, at most 3650d. Sessions that are there keep the one with which they were started.
    #[arg(long, env = "SESSION_LIFETIME", value_parser = duration, default_value = "180d", global = true)]
    pub session_lifetime: Duration,
    /// The bcrypt cost of new passwords: 2^cost rounds, 4 to 16.
    #[arg(long, env = "BCRYPT_COST", default_value_t = 12, value_parser = whole_between(4_u32, 16), global = true)]
    pub bcrypt_cost: u32,
    /// Whether administrators need a second factor: optional, or required. Who has none then may do what a member may, until they have turned one on.
    #[arg(long, env = "ADMIN_SECOND_FACTOR", value_enum, default_value_t = SecondFactorPolicy::Optional, global = true)]
    pub admin_second_factor: SecondFactorPolicy,
}

/// The waits and bounds of connections.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionSettings {
    /// Most connections at a time; more are answered 503. 0: as many as the process may have files, less a reserve.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 0, value_parser = whole::<usize>, global = true)]
    pub max_connections: usize,
    /// Most connections from one address (a /64 of IPv6) that nobody has signed in on: HTTP, and WebSockets before hello. Reverse proxies in TRUSTED_PROXIES are not limited, the sockets of each client behind them are. 0: no limit.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 512, value_parser = whole::<usize>, global = true)]
    pub max_connections_per_address: usize,
    /// The same for one network: a /24 of IPv4, a /48 of IPv6. 0: no limit.
    #[arg(long, env = "MAX_CONNECTIONS_PER_NETWORK", default_value_t = 2048, value_parser = whole::<usize>, global = true)]
    pub max_connections_per_network: usize,
    /// Most WebSocket connections of one member, each on a device of its own.
    #[arg(long, env = "MAX_CONNECTIONS_PER_MEMBER", default_value_t = 10, value_parser = whole::<usize>, global = true)]
    pub max_connections_per_member: usize,
    /// How long a new connection may take to say hello.
    #[arg(long, env = "HELLO_TIMEOUT", value_parser = duration, default_value = "10s", global = true)]
    pub hello_timeout: Duration,
    /// How often clients are asked to send a heartbeat; after 2.5 times that in silence a connection is closed.
    #[arg(long, env = "HEARTBEAT_INTERVAL", value_parser = duration, default_value = "30s", global = true)]
    pub heartbeat_interval: Duration,
    /// How long a client may take nothing of what is written before it counts as too slow, over HTTP and WebSocket.
    #[arg(long, env = "WRITE_TIMEOUT", value_parser = duration, default_value = "10s", global = true)]
    pub write_timeout: Duration,
    /// How long a connection that is being closed may finish what is under way, and then wait for the other side.
    #[arg(long, env = "CLOSE_TIMEOUT", value_parser = duration, default_value = "2s", global = true)]
    pub close_timeout: Duration,
    /// How long a member who has left still shows as present.
    #[arg(long, env = "PRESENCE_GRACE", value_parser = duration, default_value = "10s", global = true)]
    pub presence_grace: Duration,
    /// The least time between two changes of one member's presence that watchers are told of; 0s: they are told of each.
    #[arg(long, env = "PRESENCE_INTERVAL", value_parser = duration, default_value = "1s", global = true)]
    pub presence_interval: Duration,
    /// The least time between two changes of one member's profile that others are told of; 0s: they are told of each.
    #[arg(long, env = "PROFILE_INTERVAL", value_parser = duration, default_value = "5s", global = true)]
    pub profile_interval: Duration,
    /// Frames that wait for one connection before it is cut as too slow.
    #[arg(long, env = "OUTBOX_MAX_FRAMES", default_value_t = 1024, value_parser = whole::<usize>, global = true)]
    pub outbox_max_frames: usize,
    /// Bytes that wait for one connection before it is cut as too slow.
    #[arg(long, env = "OUTBOX_MAX_BYTES", default_value_t = 1_048_576, value_parser = whole::<usize>, global = true)]
    pub outbox_max_bytes: usize,
    /// Memory for what waits for clients (outboxes, syncs, answers) and for uploads, in bytes or as 512MiB, 1GiB. Above three quarters of it those that hold most are cut, and large answers and uploads are refused. What the process needs anyway is not in it.
    #[arg(long, env = "MEMORY_MAX", value_parser = bytes, default_value = "1GiB", global = true)]
    pub memory_max: usize,
}

/// What operators see.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs and metrics")]
pub struct TelemetrySettings {
    /// What is logged: error, warn, info, debug or trace, also by module (tracing's filter syntax).
    #[arg(long, env = "LOG", default_value = "info", global = true)]
    pub log: String,
    /// How it is logged: auto is pretty on a terminal and json otherwise.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto, global = true)]
    pub log_format: LogFormat,
    /// Where metrics are served at /metrics, or off. Never the address of the API.
    #[arg(long, env = "METRICS_ADDR", default_value = "127.0.0.1:9464", global = true)]
    pub metrics_addr: OptionalAddr,
}

impl Settings {
    /// Who may register, and why it is so.
    #[must_use]
    pub fn who_registers(&self) -> (RegistrationPolicy, Because) {
        self.registration.policy(&self.listen)
    }

    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let check = |holds: bool, setting, problem: &str| {
            if holds { Ok(()) } else { Err(InvalidSetting { setting, problem: problem.to_owned() }) }
        };
        self.store.database()?;
        self.photos.validate()?;
        self.mail.validate(&self.listen)?;
        self.push.validate()?;
        self.security.validate()?;
        self.ai.validate(self.listen.request_timeout)?;
        let Auth { jwt_secret, jwt_secret_previous, access_token_ttl, refresh_token_ttl, session_lifetime, .. } =
            &self.auth;
        let long_enough = |secret: &SecretString| secret.expose_secret().len() >= SECRET_MIN_BYTES;
        check(jwt_secret.iter().all(long_enough), "JWT_SECRET", "at least 32 bytes")?;
        // JWT_SECRET_PREVIOUS, where it goes when it is replaced, separates by commas.
        let one_secret = |secret: &SecretString| !secret.expose_secret().contains(',');
        check(jwt_secret.iter().all(one_secret), "JWT_SECRET", "without a comma")?;
        check(jwt_secret_previous.iter().all(long_enough), "JWT_SECRET_PREVIOUS", "at least 32 bytes each")?;
        let minute = Duration::from_secs(60);
        check(*access_token_ttl >= minute, "ACCESS_TOKEN_TTL", "at least 1m")?;
        check(refresh_token_ttl > access_token_ttl, "REFRESH_TOKEN_TTL", "longer than ACCESS_TOKEN_TTL")?;
        check(session_lifetime >= refresh_token_ttl, "SESSION_LIFETIME", "at least REFRESH_TOKEN_TTL")?;
        check(*session_lifetime <= SESSION_LIFETIME_MAX, "SESSION_LIFETIME", "at most 3650d")?;
        let connections = &self.connections;
        check(connections.max_connections_per_member > 0, "MAX_CONNECTIONS_PER_MEMBER", "at least 1")?;
        check(connections.outbox_max_frames > 0, "OUTBOX_MAX_FRAMES", "at least 1")?;
        check(connections.outbox_max_bytes >= 65_536, "OUTBOX_MAX_BYTES", "at least 65536, the largest frame")?;
        check(connections.memory_max >= 8 << 20, "MEMORY_MAX", "at least 8MiB")?;
        check(self.store.sqlite_readers > 0, "SQLITE_READERS", "at least 1")?;
        for (wait, setting) in [
            (self.listen.request_timeout, "REQUEST_TIMEOUT"),
            (self.listen.shutdown_timeout, "SHUTDOWN_TIMEOUT"),
            (self.store.store_timeout, "STORE_TIMEOUT"),
            (connections.hello_timeout, "HELLO_TIMEOUT"),
            (connections.heartbeat_interval, "HEARTBEAT_INTERVAL"),
            (connections.write_timeout, "WRITE_TIMEOUT"),
            (connections.close_timeout, "CLOSE_TIMEOUT"),
            (self.ai.ai_timeout, "AI_TIMEOUT"),
            (self.ai.ai_cooldown, "AI_COOLDOWN"),
        ] {
            check(!wait.is_zero() && wait <= 60 * minute, setting, "more than 0 and at most 1h")?;
        }
        check(self.listen.drain_time <= 60 * minute, "DRAIN_TIME", "at most 1h")?;
        check(connections.presence_interval <= minute, "PRESENCE_INTERVAL", "at most 1m")?;
        check(connections.profile_interval <= 60 * minute, "PROFILE_INTERVAL", "at most 1h")?;
        check(connections.presence_grace <= 60 * minute, "PRESENCE_GRACE", "at most 1h")
    }
}

#[cfg(test)]
mod tests;
