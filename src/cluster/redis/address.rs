//! Where the links of the bus lead.

use std::time::Duration;

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, TlsMode,
    aio::{AsyncPushSender, MultiplexedConnection},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

/// How long connecting may take. While a network loses everything, attempts hang for so long, and so it may take to notice that it
/// does not any more.
const CONNECTED: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWERED: Duration = Duration::from_secs(2);
/// How long sentinels may take to name the master, which is asked whether it is.
const NAMED: Duration = Duration::from_secs(2);

/// Where one link leads.
#[derive(Clone)]
pub enum Address {
    /// To one server.
    Server(Box<ConnectionInfo>),
    /// To the master that sentinels name.
    Sentinels {
        /// Where they are.
        sentinels: Vec<ConnectionAddr>,
        /// The name of the master.
        master: String,
        /// How to sign in at the master.
        settings: Box<ConnectionInfo>,
    },
}

impl Address {
    /// Reads `REDIS_URL`: addresses separated by commas, each a link of its own; with the name of a master, all of them are its
    /// sentinels, and user, password and database are those of the master.
    ///
    /// # Errors
    /// When it is none. The message has no password in it.
    pub fn parse(urls: &SecretString, master: Option<&str>) -> Result<Vec<Self>, String> {
        let parse = |url: &str| {
            let parsed = url.trim().into_connection_info();
            let info = parsed.map_err(|_| "it is no address such as redis://host:6379 or rediss://host".to_owned())?;
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            // What is said next does not wait until the other side has what was said before.
            let tcp = info.tcp_settings().clone().set_nodelay(true);
            Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
        };
        let infos = urls.expose_secret().split(',').map(parse).collect::<Result<Vec<_>, String>>()?;
        let Some(master) = master else {
            return Ok(infos.into_iter().map(|info| Self::Server(Box::new(info))).collect());
        };
        let sentinels = infos.iter().map(|info| info.addr().clone()).collect();
        let first = infos.into_iter().next().ok_or("it is empty")?;
        Ok(vec![Self::Sentinels { sentinels, master: master.to_owned(), settings: Box::new(first) }])
    }

    /// One line for people, without credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Server(info) => info.addr().to_string(),
            Self::Sentinels { sentinels, master, .. } => {
                let sentinels: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
                format!("{master} by the sentinels {}", sentinels.join(", "))
            }
        }
    }

    /// Connects, to publish, and to hear what `heard` is given.
    pub(super) async fn connect(&self, heard: impl AsyncPushSender) -> Result<MultiplexedConnection, String> {
        let client = timeout(NAMED, self.client()).await.map_err(|_| "no sentinel answers in time".to_owned())?;
        let client = client.map_err(|error| error.to_string())?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTED))
            .set_response_timeout(Some(ANSWERED))
            .set_push_sender(heard);
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| error.to_string())
    }

    /// The server that is to be connected to now.
    async fn client(&self) -> redis::RedisResult<Client> {
        match self {
            Self::Server(info) => Client::open((**info).clone()),
            Self::Sentinels { .. } => self.sentinels()?.async_get_client().await,
        }
    }

    fn sentinels(&self) -> redis::RedisResult<SentinelClient> {
        let Self::Sentinels { sentinels, master, settings } = self else {
            return Err((redis::ErrorKind::InvalidClientConfig, "no sentinels").into());
        };
        let redis = settings.redis_settings();
        let mut builder = SentinelClientBuilder::new(sentinels.clone(), master, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(redis.db())
            .set_client_to_redis_tcp_settings(settings.tcp_settings().clone());
        if let Some(user) = redis.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if matches!(settings.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &str, master: Option<&str>) -> Result<Vec<String>, String> {
        let addresses = Address::parse(&urls.to_owned().into(), master)?;
        Ok(addresses.iter().map(Address::describe).collect())
    }

    #[test]
    fn each_address_is_a_link_unless_they_are_sentinels() {
        let urls = "redis://:secret@one:6379, rediss://user:secret@two:7000/3";
        assert_eq!(parse(urls, None).unwrap(), ["one:6379", "two:7000"]);
        let sentinels = "redis://user:secret@one:26379,redis://two:26379";
        assert_eq!(parse(sentinels, Some("club")).unwrap(), ["club by the sentinels one:26379, two:26379"]);
    }

    #[test]
    fn what_is_no_address_is_refused_without_telling_it() {
        let error = parse("redis://:secret@one, http://secret", None).unwrap_err();
        assert!(!error.contains("secret") && error.contains("redis://host"), "{error}");
        assert!(parse("", None).is_err());
    }
}
