//! The wiring: which piece gets which others.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, start_error};
use crate::{
    ai::{breaker::Breaker, guard::Guard, local::Local, remote, remote::Remote},
    auth::{AccessTokens, Passwords, access},
    clock::{Clock, SystemClock},
    config::{
        Settings, secret,
        settings::{Auth, Rates},
        values::DatabaseUrl,
    },
    http::limits::RequestLimits,
    hub::{Hub, OutboxLimits},
    ids::{Entropy, Ids, SystemEntropy},
    photos::Objects,
    presence::Presence,
    service::{
        accounts::Accounts,
        administration::Administration,
        advice::{Advice, Service},
        album::Album,
        connections::Connections,
        directory::Directory,
        documents::Documents,
        events::Events,
        export::Exports,
        limiter::{Limiter, Rate},
        messaging::Messaging,
        photos::Photos,
        profiles::Profiles,
        sequencer::{Lanes, Sequencer},
        watching::Watching,
    },
    session::{self, Timing},
    store::{
        Store, StoreError,
        mongo::{self, Mongo},
        sqlite::{self, Sqlite},
    },
    telemetry::Metrics,
};

/// What comes from outside the program: the time and randomness.
#[derive(Clone)]
pub struct World {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for World {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

/// What REST needs beside accounts and sessions.
pub(super) struct Services {
    pub(super) profiles: Arc<Profiles>,
    pub(super) photos: Arc<Photos>,
    pub(super) directory: Arc<Directory>,
    pub(super) documents: Arc<Documents>,
    pub(super) exports: Arc<Exports>,
    pub(super) administration: Arc<Administration>,
    pub(super) advice: Arc<Advice>,
}

/// What everything else stands on.
pub(super) struct Foundation {
    pub(super) settings: Settings,
    pub(super) world: World,
    pub(super) ids: Arc<Ids>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) shutdown: CancellationToken,
}

impl Foundation {
    /// Checks the settings and opens the store; `exclusive`: no other server may have it open.
    pub(super) fn lay(settings: Settings, world: World, exclusive: bool) -> Result<Self, StartError> {
        settings.validate().map_err(start_error)?;
        let metrics = Arc::new(Metrics::new());
        let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
        let store = open_store(&settings, &world, &ids, &metrics, exclusive)?;
        let hub = Arc::new(Hub::new(settings.connections.max_connections_per_member, Arc::clone(&metrics)));
        Ok(Self { settings, world, ids, metrics, store, hub, shutdown: CancellationToken::new() })
    }

    /// The secret that signs access tokens, and its file if it was generated.
    pub(super) fn signing_secret(&self) -> Result<(SecretString, Option<PathBuf>), StartError> {
        if let Some(secret) = &self.settings.auth.jwt_secret {
            return Ok((secret.clone(), None));
        }
        let kept = secret::load_or_generate(&self.settings.store.data_dir, &*self.world.entropy);
        let (secret, path) = kept.map_err(start_error)?;
        tracing::warn!(file = %path.display(), "using a generated secret; set JWT_SECRET in production");
        Ok((secret, Some(path)))
    }

    pub(super) fn accounts(&self, secret: SecretString) -> Result<Accounts, StartError> {
        let Settings { auth, rates, listen, .. } = &self.settings;
        let Auth { jwt_secret_previous, jwt_issuer, jwt_audience, access_token_ttl, .. } = auth.clone();
        let options = access::Options {
            secret,
            previous: jwt_secret_previous,
            issuer: jwt_issuer,
            audience: jwt_audience,
            lifetime: access_token_ttl,
        };
        let clock = Arc::clone(&self.world.clock);
        // Half of a request's time at most is spent waiting for the turn to hash.
        let passwords = Passwords::new(auth.bcrypt_cost, listen.request_timeout / 2, Arc::clone(&self.metrics));
        let minute = Duration::from_secs(60);
        Ok(Accounts {
            members: Arc::clone(&self.store.members),
            sessions: Arc::clone(&self.store.sessions),
            tokens: AccessTokens::new(&options, Arc::clone(&clock), Arc::clone(&self.ids)),
            passwords: passwords.map_err(start_error)?,
            refresh_lifetime: auth.refresh_token_ttl,
            registrations: self.limiter(
                "registrations",
                rates.rate_registrations,
                rates.rate_registrations_burst,
                minute,
            ),
            logins: self.limiter("logins", rates.rate_logins, rates.rate_logins_burst, minute),
            hub: Arc::clone(&self.hub),
            clock,
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Advice: from the AI service, if the settings name one, and from rules.
    fn advice(&self) -> Result<Advice, StartError> {
        let ai = &self.settings.ai;
        let metrics = || Arc::clone(&self.metrics);
        let service = match ai.service().map_err(start_error)? {
            None => None,
            Some(url) => {
                let options = remote::Options {
                    url,
                    key: ai.openai_api_key.clone(),
                    model: ai.ai_model.clone(),
                    deadline: ai.ai_timeout,
                };
                let breaker = Breaker::new(ai.ai_failures_max, ai.ai_cooldown);
                Some(Service {
                    engine: Arc::new(Remote::new(&options).map_err(start_error)?),
                    guard: Guard::new(breaker, ai.ai_concurrency, ai.ai_timeout, metrics()),
                    daily_budget: ai.ai_daily_budget,
                    refresh: ai.ai_refresh,
                    metrics: metrics(),
                })
            }
        };
        Ok(Advice {
            members: Arc::clone(&self.store.members),
            recommendations: Arc::clone(&self.store.recommendations),
            local: Local,
            service,
            clock: Arc::clone(&self.world.clock),
        })
    }

    pub(super) fn session(&self, accounts: &Arc<Accounts>) -> (Arc<session::Context>, Lanes) {
        let Settings { connections, rates, store, .. } = &self.settings;
        let events = Events::new(Arc::clone(&self.hub), Arc::clone(&self.metrics));
        let conversations = Arc::clone(&self.store.conversations);
        let (sequencer, lanes) =
            Sequencer::start(Arc::clone(&conversations), &events, store.store_timeout, &self.metrics);
        let messaging = Arc::new(Messaging::new(conversations, sequencer, events.clone()));
        let presence = Presence::new(Arc::clone(&self.hub), connections.presence_grace);
        let watching = Arc::new(Watching::new(presence, Arc::clone(&self.store.members), events.clone()));
        let second = Duration::from_secs(1);
        let context = session::Context {
            connections: Connections {
                hub: Arc::clone(&self.hub),
                accounts: Arc::clone(accounts),
                messaging: Arc::clone(&messaging),
                watching: Arc::clone(&watching),
                clock: Arc::clone(&self.world.clock),
                ids: Arc::clone(&self.ids),
            },
            messaging,
            watching,
            events,
            frames: self.limiter("frames", rates.rate_frames, rates.rate_frames_burst, second),
            messages: Arc::new(self.limiter("messages", rates.rate_messages, rates.rate_messages_burst, second)),
            timing: Timing {
                hello: connections.hello_timeout,
                heartbeat: connections.heartbeat_interval,
                write: connections.write_timeout,
                close: connections.close_timeout,
            },
            outbox: OutboxLimits { frames: connections.outbox_max_frames, bytes: connections.outbox_max_bytes },
            clock: Arc::clone(&self.world.clock),
            metrics: Arc::clone(&self.metrics),
            tasks: TaskTracker::new(),
            shutdown: self.shutdown.clone(),
        };
        (Arc::new(context), lanes)
    }

    /// What REST needs beside accounts and sessions.
    pub(super) fn services(&self, session: &session::Context, photos: Objects) -> Result<Services, StartError> {
        let Store { members, sessions, conversations, recommendations, .. } = &self.store;
        let clock = &self.world.clock;
        let listen = &self.settings.listen;
        let album = Album::new(photos, Arc::clone(members), listen.public_url.clone(), session.tasks.clone());
        let album = Arc::new(album);
        let profiles = Arc::new(Profiles {
            members: Arc::clone(members),
            conversations: Arc::clone(conversations),
            album: Arc::clone(&album),
            watching: Arc::clone(&session.watching),
            events: session.events.clone(),
            hub: Arc::clone(&self.hub),
            clock: Arc::clone(clock),
        });
        let documents = Arc::new(Documents {
            messaging: Arc::clone(&session.messaging),
            conversations: Arc::clone(conversations),
            members: Arc::clone(members),
            limit: Arc::clone(&session.messages),
        });
        let exports = Exports::new(
            Arc::clone(members),
            Arc::clone(sessions),
            Arc::clone(recommendations),
            Arc::clone(&self.store.audit),
            Arc::clone(&documents),
            Arc::clone(clock),
        );
        let administration = Administration {
            profiles: Arc::clone(&profiles),
            store: self.store.clone(),
            hub: Arc::clone(&self.hub),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(clock),
            started_at: clock.now(),
        };
        // Half of a request's time at most is spent waiting for the turn to decode.
        let photos = Photos::new(Arc::clone(&profiles), album, listen.request_timeout / 2);
        Ok(Services {
            profiles,
            photos: Arc::new(photos),
            directory: Arc::new(Directory { members: Arc::clone(members) }),
            documents,
            exports: Arc::new(exports),
            administration: Arc::new(administration),
            advice: Arc::new(self.advice()?),
        })
    }

    /// How many requests are allowed.
    pub(super) fn request_limits(&self) -> RequestLimits {
        let (rates, second) = (&self.settings.rates, Duration::from_secs(1));
        let Rates { rate_address, rate_address_burst, rate_requests, rate_requests_burst, .. } = rates;
        RequestLimits {
            by_address: self.limiter("address", *rate_address, *rate_address_burst, second),
            by_member: self.limiter("member", *rate_requests, *rate_requests_burst, second),
        }
    }

    fn limiter<K: std::hash::Hash + Eq + Clone>(
        &self,
        name: &'static str,
        per_period: u32,
        burst: u32,
        period: Duration,
    ) -> Limiter<K> {
        Limiter::new(name, Rate { per_period, period, burst }, Arc::clone(&self.metrics))
    }
}

fn open_store(
    settings: &Settings,
    world: &World,
    ids: &Arc<Ids>,
    metrics: &Arc<Metrics>,
    exclusive: bool,
) -> Result<Store, StartError> {
    let url = settings.store.database().map_err(start_error)?;
    open(url, settings, world, ids, metrics, exclusive).map_err(|error| start_error(format!("DATABASE_URL: {error}")))
}

/// Opens the store at a URL.
pub(super) fn open(
    url: DatabaseUrl,
    settings: &Settings,
    world: &World,
    ids: &Arc<Ids>,
    metrics: &Arc<Metrics>,
    exclusive: bool,
) -> Result<Store, StoreError> {
    let (clock, ids, metrics) = (Arc::clone(&world.clock), Arc::clone(ids), Arc::clone(metrics));
    let timeout = settings.store.store_timeout;
    match url {
        DatabaseUrl::Sqlite(path) => {
            let options = sqlite::Options { path, readers: settings.store.sqlite_readers, timeout, exclusive };
            Sqlite::open(options, clock, ids, metrics)
        }
        DatabaseUrl::Mongo(uri) => Mongo::open(mongo::Options::new(uri, timeout), clock, ids, metrics),
    }
}
