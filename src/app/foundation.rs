//! The wiring: which piece gets which others.

mod fleet;
mod limits;
mod mail;
mod push;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{fleet::links, limits::shared_rates, push::Couriers};
use super::{StartError, start_error};
use crate::{
    ai::{guard::Guard, local::Local, remote, remote::Remote},
    auth::{AccessTokens, DeviceProofs, Familiar, KeyRing, Passwords, Vault, access, refresh::Successors},
    breaker::Breaker,
    budget::Budget,
    clock::{Clock, SystemClock},
    cluster::{Floor, Subscriptions, Uplink, redis::Address},
    config::{
        Settings, secret,
        settings::{Auth, SecuritySettings},
        values::{DatabaseUrl, SecondFactorPolicy},
    },
    connection::{self, Timing},
    http::security_txt::SecurityTxt,
    hub::{Hub, OutboxLimits},
    ids::{Entropy, Ids, SystemEntropy, host_name},
    photos::Objects,
    presence::Pace,
    service::{
        accounts::{Accounts, REHASHED_AT_ONCE, REMINDED_AT_ONCE},
        administration::{Administration, Counted},
        advice::{Advice, ClubBudget, Service},
        album::Album,
        announcements::Announcements,
        applications::Applications,
        audit::AuditTrail,
        awaited::Awaited,
        clock_watch::ClockWatch,
        codes::Codes,
        connections::Connections,
        credentials::Credentials,
        cursor,
        decisions::InOrder,
        delivered::Delivered,
        directory::Directory,
        documents::Documents,
        effects::Effects,
        enrolment::Enrolment,
        events::Events,
        export::Exports,
        fleet::{Fleet, OpenBus, Told},
        invitations::{self, Invitations},
        jobs::Jobs,
        kicks::Kicks,
        messaging::Messaging,
        own_node::OwnNode,
        photos::Photos,
        post::Post,
        profiles::Profiles,
        recovery::Recovery,
        registration::{Registration, Shares},
        second_factor::SecondFactors,
        sequencer::{Lanes, Sequencer},
        sessions::Sessions,
        setup::Setup,
        shared_clock::SharedClock,
        shared_limits::SharedLimits,
        watching::Watching,
    },
    store::{
        Store, StoreError,
        mongo::{self, Mongo, Nodes},
        sqlite::{self, Sqlite},
    },
    supervisor::Supervisor,
    telemetry::{Metrics, Quiet},
};

/// What comes from outside the program: the time and randomness.
#[derive(Clone)]
pub struct World {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The bus between nodes, in place of the one of the settings.
    pub bus: Option<Arc<dyn OpenBus>>,
}

impl Default for World {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy), bus: None }
    }
}

/// What REST needs beside accounts and sessions.
pub(super) struct Services {
    pub(super) profiles: Arc<Profiles>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) second_factors: Arc<SecondFactors>,
    pub(super) recovery: Arc<Recovery>,
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
    links: Vec<Address>,
    pub(super) uplink: Uplink,
    limits: Arc<SharedLimits>,
    pub(super) own: Arc<OwnNode>,
    pub(super) audit: Arc<AuditTrail>,
    pub(super) floor: Arc<Floor>,
    pub(super) told: Arc<Told>,
    pub(super) delivered: Arc<Delivered>,
    awaited: Arc<Awaited>,
    subscriptions: Arc<Subscriptions>,
    pub(super) budget: Arc<Budget>,
    /// From then on the server takes no further connections.
    pub(super) draining: CancellationToken,
    /// From then on it stops.
    pub(super) shutdown: CancellationToken,
    pub(super) supervisor: Supervisor,
}

impl Foundation {
    /// Checks the settings and opens the store.
    pub(super) fn lay(settings: Settings, world: World, usage: Nodes) -> Result<Self, StartError> {
        settings.validate().map_err(start_error)?;
        let links = links(&settings.cluster).map_err(|why| start_error(format!("REDIS_URL: {why}")))?;
        let metrics = Arc::new(Metrics::new());
        let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), shutdown.clone());
        let pieces = Pieces { world: &world, ids: &ids, metrics: &metrics, supervisor: &supervisor };
        let url = settings.store.database().map_err(start_error)?;
        if matches!(url, DatabaseUrl::Sqlite(_)) && settings.cluster.redis_url.is_some() {
            tracing::warn!("REDIS_URL has no effect with SQLite: several servers need MongoDB (docs/fleet.md)");
        }
        let store = open(url, &settings, &pieces, usage);
        let store = store.map_err(|error| start_error(format!("DATABASE_URL: {error}")))?;
        let hub = Arc::new(Hub::new(settings.connections.max_connections_per_member, Arc::clone(&metrics)));
        let budget = Arc::new(Budget::new(settings.connections.memory_max, Arc::clone(&metrics)));
        let floor = Arc::new(if store.fleet.is_some() { Floor::shared() } else { Floor::default() });
        let (uplink, told, delivered) = (Uplink::default(), Arc::default(), Arc::default());
        let awaited = Arc::new(Awaited::new(uplink.clone()));
        // Who is away for a moment is asked about, and may come back.
        let lingering = settings.connections.presence_grace + Duration::from_secs(1);
        let subscriptions = Arc::new(Subscriptions::new(uplink.clone(), lingering));
        let limits = Arc::new(SharedLimits::new(shared_rates(&settings.rates), &uplink, &metrics));
        let watch = ClockWatch::new(Arc::clone(&world.clock), store.fleet.clone(), Arc::clone(&metrics));
        let own = Arc::new(OwnNode {
            name: settings.cluster.node_name.clone().unwrap_or_else(host_name),
            started_at: world.clock.now(),
            clock: Arc::clone(&world.clock),
            clock_watch: Arc::new(watch),
            metrics: Arc::clone(&metrics),
        });
        let audit = AuditTrail::new(Arc::clone(&store.audit), Arc::clone(&world.clock), Arc::clone(&metrics));
        Ok(Self {
            settings,
            world,
            ids,
            metrics,
            links,
            store,
            hub,
            uplink,
            limits,
            own,
            audit: Arc::new(audit),
            floor,
            told,
            delivered,
            awaited,
            subscriptions,
            budget,
            draining,
            shutdown,
            supervisor,
        })
    }

    /// The secrets that sign access tokens and give the keys of everything else, and the file of the one of now if it was generated.
    pub(super) fn key_ring(&self) -> Result<(KeyRing, Option<PathBuf>), StartError> {
        let former = self.settings.auth.jwt_secret_previous.clone();
        if let Some(secret) = &self.settings.auth.jwt_secret {
            return Ok((KeyRing::new(secret.clone(), former), None));
        }
        let kept = secret::load_or_generate(&self.settings.store.data_dir, &*self.world.entropy);
        let (secret, path) = kept.map_err(start_error)?;
        tracing::info!(file = %path.display(), "JWT_SECRET is not set: the generated one in this file is used");
        Ok((KeyRing::new(secret, former), Some(path)))
    }

    /// Where problems of security are reported.
    pub(super) fn security_txt(&self) -> SecurityTxt {
        let SecuritySettings { security_contact, security_policy } = self.settings.security.clone();
        SecurityTxt { contacts: security_contact, policy: security_policy }
    }

    /// What makes members.
    pub(super) fn enrolment(&self) -> Result<Enrolment, StartError> {
        let Settings { auth, listen, .. } = &self.settings;
        // Half of a request's time at most is spent waiting for the turn to hash.
        let passwords =
            Passwords::new(auth.bcrypt_cost, listen.request_timeout / 2, Arc::clone(&self.metrics), &self.supervisor);
        Ok(Enrolment {
            members: Arc::clone(&self.store.members),
            links: Arc::clone(&self.store.mail),
            passwords: passwords.map_err(start_error)?,
            clock: Arc::clone(&self.world.clock),
            link_clock: SharedClock::new(Arc::clone(&self.world.clock), self.store.fleet.clone()),
            ids: Arc::clone(&self.ids),
        })
    }

    /// Where photos are.
    pub(super) fn photos(&self, quiet: &Arc<Quiet>) -> Result<Objects, StartError> {
        let Settings { photos, store, .. } = &self.settings;
        Objects::open(photos, store.store_timeout, Arc::clone(quiet)).map_err(start_error)
    }

    /// What follows from changes, and what that takes.
    pub(super) fn effects(&self, photos: Objects, post: &Arc<Post>) -> Arc<Effects> {
        let Settings { connections, listen, .. } = &self.settings;
        let Store { members, conversations, jobs, audit, .. } = &self.store;
        let events = Events::new(Arc::clone(&self.hub), self.uplink.clone(), Arc::clone(&self.metrics));
        let events = match &self.store.fleet {
            Some(_) => {
                let (delivered, awaited) = (Arc::clone(&self.delivered), Arc::clone(&self.awaited));
                events.among_others(delivered, awaited, Arc::clone(&self.subscriptions))
            }
            None => events,
        };
        let pace = Pace { grace: connections.presence_grace, interval: connections.presence_interval };
        let watching =
            Watching::new(pace, Arc::clone(members), Arc::clone(conversations), events.clone(), self.uplink.clone());
        let watching = Arc::new(watching);
        let announcements = Announcements::new(
            Arc::clone(conversations),
            Arc::clone(&watching),
            events.clone(),
            connections.profile_interval,
        );
        let album = Album::new(photos, listen.public_url.clone());
        let jobs = Jobs {
            store: Arc::clone(jobs),
            members: Arc::clone(members),
            album: Arc::clone(&album),
            audit: Arc::clone(audit),
            clock: Arc::clone(&self.world.clock),
            metrics: Arc::clone(&self.metrics),
            wanted: Notify::new(),
        };
        Arc::new(Effects {
            hub: Arc::clone(&self.hub),
            stale: Arc::default(),
            watching,
            events,
            announcements: Arc::new(announcements),
            album,
            jobs: Arc::new(jobs),
            post: Arc::clone(post),
            kicks: Kicks::new(Arc::clone(&self.world.clock)),
            uplink: self.uplink.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }

    pub(super) fn accounts(
        &self,
        ring: &KeyRing,
        post: &Arc<Post>,
        effects: &Arc<Effects>,
    ) -> Result<Accounts, StartError> {
        let Settings { auth, .. } = &self.settings;
        let Auth { jwt_issuer, jwt_audience, access_token_ttl, .. } = auth.clone();
        let codes = self.codes(ring);
        let options = access::Options {
            secrets: ring.secrets().clone(),
            issuer: jwt_issuer,
            audience: jwt_audience,
            lifetime: access_token_ttl,
        };
        let clock = Arc::clone(&self.world.clock);
        let sessions = Sessions {
            store: Arc::clone(&self.store.sessions),
            effects: Arc::clone(effects),
            lifetime: auth.session_lifetime,
            confirming: Mutex::default(),
            clock: Arc::clone(&clock),
        };
        Ok(Accounts {
            members: Arc::clone(&self.store.members),
            sessions: Arc::new(sessions),
            successors: Successors::new(ring),
            proofs: DeviceProofs::new(ring),
            guesses: Arc::clone(&self.limits.guesses),
            codes,
            demands_second_factor: auth.admin_second_factor == SecondFactorPolicy::Required,
            audit: Arc::clone(&self.audit),
            tokens: AccessTokens::new(&options, Arc::clone(&clock), Arc::clone(&self.ids)),
            enrolment: self.enrolment()?,
            registration: self.registration(effects),
            familiar: Familiar::default(),
            stale: Arc::clone(&effects.stale),
            rehashing: Arc::new(Semaphore::new(REHASHED_AT_ONCE)),
            reminding: Arc::new(Semaphore::new(REMINDED_AT_ONCE)),
            refresh_lifetime: auth.refresh_token_ttl,
            registrations: Arc::clone(&self.limits.registrations),
            logins: Arc::clone(&self.limits.logins),
            refreshes: Arc::clone(&self.limits.refreshes),
            post: Arc::clone(post),
            effects: Arc::clone(effects),
            clock,
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
            supervisor: self.supervisor.clone(),
        })
    }

    /// What checks codes of second factors.
    fn codes(&self, ring: &KeyRing) -> Codes {
        Codes {
            members: Arc::clone(&self.store.members),
            vault: Vault::new(ring),
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Who may come in.
    fn registration(&self, effects: &Arc<Effects>) -> Arc<Registration> {
        let Settings { listen, registration, auth, .. } = &self.settings;
        let with_factor = auth.admin_second_factor == SecondFactorPolicy::Required;
        let members = || Arc::clone(&self.store.members);
        let policy = self.settings.who_registers().0;
        let invitations = Invitations {
            store: Arc::clone(&self.store.invitations),
            members: members(),
            policy: registration.invitations,
            registration: policy,
            public_url: listen.public_url.clone(),
            attempts: invitations::attempts(Arc::clone(&self.metrics)),
            registrations: Arc::clone(&self.limits.registrations),
            audit: Arc::clone(&self.audit),
            changes: Arc::clone(&self.limits.profiles),
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        };
        Arc::new(Registration {
            policy,
            invitations: Arc::new(invitations),
            shares: Shares::new(&self.metrics),
            applications: Arc::new(Applications::new(members(), effects.events.clone(), with_factor)),
        })
    }

    /// Whether the club is set up, and how it gets so.
    pub(super) fn setup(&self, accounts: &Arc<Accounts>, ring: &KeyRing) -> Arc<Setup> {
        Arc::new(Setup::new(Arc::clone(accounts), ring, Arc::clone(&self.metrics)))
    }

    /// Advice: from the AI service, if the settings name one, and from rules.
    pub(super) fn advice(&self) -> Result<Advice, StartError> {
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
                    club: ClubBudget::new(ai.ai_daily_budget_club),
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

    pub(super) fn connection(
        &self,
        accounts: &Arc<Accounts>,
        cursors: cursor::Keys,
        couriers: Couriers,
    ) -> (Arc<connection::Context>, Lanes) {
        let Settings { connections, rates, store, .. } = &self.settings;
        let (events, watching) = (accounts.effects.events.clone(), Arc::clone(&accounts.effects.watching));
        let conversations = Arc::clone(&self.store.conversations);
        let members = || Arc::clone(&self.store.members);
        let of_lanes = {
            let watching = Arc::clone(&watching);
            events.clone().with_met(move |members| watching.met(members))
        };
        let intake = self.intake();
        let (sequencer, lanes) = Sequencer::start(
            Arc::clone(&self.store.log),
            self.store.recovery.clone(),
            (&of_lanes, &self.told, &self.awaited),
            &intake,
            store.store_timeout,
            &self.metrics,
            &self.supervisor,
        );
        let [second, minute] = [1, 60].map(Duration::from_secs);
        let (limits, metrics) = (Arc::clone(&self.limits), Arc::clone(&self.metrics));
        let cursors = (cursors, Arc::clone(&self.floor));
        let lanes_and_intake = (sequencer, Arc::clone(&intake));
        let messaging =
            Messaging::new(conversations, members(), lanes_and_intake, events.clone(), cursors, limits, metrics);
        let messaging = Arc::new(messaging);
        let push = self.push(couriers, intake, &messaging);
        let context = connection::Context {
            connections: Connections {
                hub: Arc::clone(&self.hub),
                accounts: Arc::clone(accounts),
                subscriptions: Arc::clone(&self.subscriptions),
                uplink: self.uplink.clone(),
                watching: Arc::clone(&watching),
                applications: Arc::clone(&accounts.registration.applications),
                clock: Arc::clone(&self.world.clock),
                ids: Arc::clone(&self.ids),
            },
            messaging,
            push,
            watching,
            events,
            frames: self.limiter("frames", rates.rate_frames, rates.rate_frames_burst, second),
            typing: self.limiter("typing", rates.rate_typing, rates.rate_typing_burst, second),
            statuses: self.limiter("statuses", rates.rate_statuses, rates.rate_statuses_burst, minute),
            hellos: Arc::new(self.hellos()),
            timing: Timing {
                hello: connections.hello_timeout,
                heartbeat: connections.heartbeat_interval,
                write: connections.write_timeout,
                close: connections.close_timeout,
            },
            outbox: OutboxLimits { frames: connections.outbox_max_frames, bytes: connections.outbox_max_bytes },
            budget: Arc::clone(&self.budget),
            clock: Arc::clone(&self.world.clock),
            metrics: Arc::clone(&self.metrics),
            tasks: TaskTracker::new(),
            draining: self.draining.clone(),
        };
        (Arc::new(context), lanes)
    }

    /// What REST needs beside accounts and sessions.
    pub(super) fn services(
        &self,
        connection: &connection::Context,
        (effects, sessions): (&Arc<Effects>, Arc<Sessions>),
        fleet: Option<Arc<Fleet>>,
        advice: Advice,
    ) -> Services {
        let Store { members, conversations, .. } = &self.store;
        let clock = &self.world.clock;
        let listen = &self.settings.listen;
        let profiles = Arc::new(Profiles {
            members: Arc::clone(members),
            album: Arc::clone(&effects.album),
            effects: Arc::clone(effects),
            limit: Arc::clone(&self.limits.profiles),
            audit: Arc::clone(&self.audit),
            in_order: InOrder::default(),
            clock: Arc::clone(clock),
        });
        let documents = Arc::new(Documents {
            messaging: Arc::clone(&connection.messaging),
            conversations: Arc::clone(conversations),
            members: Arc::clone(members),
        });
        let accounts = &connection.connections.accounts;
        let credentials = Arc::new(Credentials::new(Arc::clone(accounts), Arc::clone(&profiles), &self.metrics));
        let second_factors = SecondFactors::new(
            Arc::clone(accounts),
            Arc::clone(&profiles),
            self.settings.auth.jwt_issuer.clone(),
            &self.metrics,
        );
        let recovery = Recovery { accounts: Arc::clone(accounts), profiles: Arc::clone(&profiles) };
        let invitations = Arc::clone(&accounts.registration.invitations);
        let lifetime = self.settings.auth.session_lifetime;
        let audit = || Arc::clone(&self.audit);
        let (clock_of_exports, metrics) = (Arc::clone(clock), Arc::clone(&self.metrics));
        let exports = Exports::new(
            &self.store,
            audit(),
            invitations,
            Arc::clone(&documents),
            lifetime,
            clock_of_exports,
            metrics,
        );
        let administration = Administration {
            profiles: Arc::clone(&profiles),
            sessions,
            store: self.store.clone(),
            audit: audit(),
            applications: Arc::clone(&connection.connections.applications),
            hub: Arc::clone(&self.hub),
            fleet,
            own: Arc::clone(&self.own),
            clock: Arc::clone(clock),
            post: Arc::clone(&effects.post),
            counted: Counted::default(),
        };
        // Half of a request's time at most is spent waiting for the turn to decode.
        let (album, jobs) = (Arc::clone(&effects.album), Arc::clone(&effects.jobs));
        let photos = Photos::new(Arc::clone(&profiles), album, jobs, listen.request_timeout / 2);
        Services {
            profiles,
            credentials,
            second_factors: Arc::new(second_factors),
            recovery: Arc::new(recovery),
            photos: Arc::new(photos),
            directory: Arc::new(Directory { members: Arc::clone(members), audit: audit() }),
            documents,
            exports: Arc::new(exports),
            administration: Arc::new(administration),
            advice: Arc::new(advice),
        }
    }
}

/// What a store needs of the rest.
pub(super) struct Pieces<'a> {
    pub(super) world: &'a World,
    pub(super) ids: &'a Arc<Ids>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) supervisor: &'a Supervisor,
}

/// Opens the store at a URL. A file is for one process, unless that is a command.
pub(super) fn open(
    url: DatabaseUrl,
    settings: &Settings,
    pieces: &Pieces<'_>,
    usage: Nodes,
) -> Result<Store, StoreError> {
    let Pieces { world, ids, metrics, supervisor } = pieces;
    let (clock, ids, metrics) = (Arc::clone(&world.clock), Arc::clone(ids), Arc::clone(metrics));
    let timeout = settings.store.store_timeout;
    match url {
        DatabaseUrl::Sqlite(path) => {
            let options = sqlite::Options {
                path,
                readers: settings.store.sqlite_readers,
                timeout,
                exclusive: usage != Nodes::Command,
            };
            Sqlite::open(options, clock, ids, metrics, supervisor)
        }
        DatabaseUrl::Mongo(uri) => {
            let options = mongo::Options {
                nodes: usage,
                name: settings.cluster.node_name.clone(),
                ..mongo::Options::new(uri, timeout)
            };
            Mongo::open(options, clock, ids, metrics, supervisor)
        }
    }
}

#[cfg(test)]
mod offline;
#[cfg(test)]
mod tests;
