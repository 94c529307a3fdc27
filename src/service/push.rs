//! Push: devices that have not said in time that they have a message are told of it by whoever brings pushes to them.
//!
//! Three stages, each of which loses nothing in a crash. What a lane has stored waits in memory until devices have had their time; then those
//! that have not acknowledged it, and are registered, get a *task* in the store; a worker takes what is due, looks again whether it is still
//! wanted, and hands it to a courier. Up to where this node has looked is in the store beside the tasks, so that what waited in memory is looked
//! for in the log after a crash, by this node or by another.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`intake`] | what was stored and not looked at yet, in memory |
//! | [`acks`] | what devices have said lately |
//! | [`devices`] | which devices are registered |
//! | [`watch`] | who has to be told, of what was stored here |
//! | [`look`] | the same, of what nodes that are gone have stored, and of what there was no room for |
//! | [`dispatch`] | taking tasks that are due, trying them again |
//! | [`lease`] | for how long what was taken is in hand |
//! | [`held`] | what this process has in hand |
//! | [`hand`] | handing them over to couriers |
//! | [`refusals`] | addresses for which everything is refused |
//! | [`compose`] | whether a task is wanted still, and what it says |
//! | [`numbers`] | numbers at icons that may be wrong |
//! | [`quiet`], [`words`] | quiet hours; texts |

mod acks;
mod compose;
mod devices;
mod dispatch;
mod hand;
mod held;
mod intake;
mod lease;
mod look;
mod numbers;
mod quiet;
mod refusals;
mod turns;
mod watch;
mod words;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use protocol::{
    DeviceId, ErrorCode, MemberId, Timestamp,
    rest::{ClubPush, Language, PushContent, PushDevice, PushPatch, PushRegistration, PushService, PushSettings},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use self::{devices::Devices, held::Held, refusals::Refusals};
pub use self::{
    intake::{Intake, Stored},
    turns::{Turn, Turns},
};
use super::{
    accounts::Authorized,
    limiter::{Limiter, Rate},
};
use crate::{
    auth::keys::Keyed,
    clock::Clock,
    cluster::{Channel, Uplink, event::Note},
    failure::Failure,
    hub::Connection,
    ids::Ids,
    position::Position,
    push::{Courier, Unfit},
    store::{
        ConversationStore, MemberStore, PushStore, SessionStore, StoreError,
        push::{DeviceRecord, Ended, PushChoice, RegistrationId, Unlooked},
        turns::Caller,
    },
    telemetry::{Metrics, Minutely},
};

/// How often a member may register devices and change what they have chosen: 30 times at once, and then once a minute.
const CHANGES: Rate = Rate { per_period: 60, period: Duration::from_secs(3_600), burst: 30 };
/// How many pushes a member is sent: nobody's devices take what is there for all.
const PACE: Rate = Rate { per_period: 20, period: Duration::from_secs(1), burst: 100 };
/// A registration that is repeated unchanged is not stored again before it is that old: an app repeats it at each start. No longer: who repeats it
/// says that the address is good, and what was pushed to it before may be told to be gone a quarter of an hour later.
const UNCHANGED: Duration = Duration::from_secs(120);

/// What is pushed, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How old a message may be when it is pushed; of one from quiet hours it counts from their end.
    pub ttl: Duration,
    /// The most that a push shows.
    pub content: PushContent,
    /// The language of members who have chosen none.
    pub language: Language,
    /// Whether other nodes use the store.
    pub is_shared: bool,
    /// How long after something was stored it is certain to be seen by who looks through the log.
    pub lag: Duration,
    /// How long a call of the store may take: how long what is under way is in hand follows from it.
    pub store_timeout: Duration,
    /// How long what is under way may take when the server stops.
    pub finishing: Duration,
}

/// Who registers a device.
#[derive(Clone, Copy)]
pub enum Registrant<'a> {
    /// Who has asked over REST.
    Authorized(&'a Authorized),
    /// A connection.
    Connection(&'a Connection),
}

/// What push needs of the rest.
pub struct Parts {
    /// Devices and tasks.
    pub store: Arc<dyn PushStore>,
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Their sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Messages.
    pub conversations: Arc<dyn ConversationStore>,
    /// Who brings pushes; nobody: nothing is pushed, and no device can be registered.
    pub couriers: Vec<Arc<dyn Courier>>,
    /// The key with which browsers subscribe, if pushes are brought to them.
    pub web_key: Option<String>,
    /// The key of what stands for conversations, for push services.
    pub topics: Keyed,
    /// What was stored and not looked at yet.
    pub intake: Arc<Intake>,
    /// Up to where what this node has stored was handed to `intake`.
    pub published: Box<dyn Fn() -> Position + Send + Sync>,
    /// The way to other nodes.
    pub uplink: Uplink,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Pushes to devices.
pub struct Push {
    /// The turns of registrations of one connection.
    pub turns: Turns,
    parts: Parts,
    options: Options,
    devices: Devices,
    /// There are new tasks.
    wanted: Notify,
    /// What was stored up to here was stored by processes before this one.
    begun: Position,
    /// Up to where this process has looked, as it has written last.
    written: AtomicU64,
    /// What the process before this one has left was looked through.
    has_looked_back: AtomicBool,
    /// Whose log was taken over last, and the numbers at icons compared.
    compared: Mutex<Option<Unlooked>>,
    limit: Limiter<MemberId>,
    pace: Limiter<MemberId>,
    held: Held,
    refusals: Refusals,
    /// How often a courier may be handed something at a time, in the order of the couriers; nothing: as often as there is something.
    rooms: Vec<Option<Semaphore>>,
    /// How often it is found out at a time what tasks say.
    composing: Semaphore,
    /// That pushes are given up.
    given_up: Minutely,
}

impl Push {
    /// With these, before anything is stored.
    #[must_use]
    pub fn new(parts: Parts, options: Options) -> Self {
        let begun = (parts.published)();
        Self {
            options,
            devices: Devices::new(Arc::clone(&parts.store), options.is_shared),
            wanted: Notify::new(),
            begun,
            written: AtomicU64::new(begun.0),
            has_looked_back: AtomicBool::new(false),
            compared: Mutex::default(),
            limit: Limiter::new("push", CHANGES, Arc::clone(&parts.metrics)),
            pace: Limiter::new("push_pace", PACE, Arc::clone(&parts.metrics)),
            held: Held::default(),
            turns: Turns::default(),
            refusals: Refusals::new(),
            rooms: parts.couriers.iter().map(|courier| courier.batches().map(Semaphore::new)).collect(),
            composing: Semaphore::new(dispatch::AT_ONCE),
            given_up: Minutely::default(),
            parts,
        }
    }

    /// What anybody may know of it.
    #[must_use]
    pub fn about(&self) -> ClubPush {
        ClubPush { enabled: !self.parts.couriers.is_empty(), web_key: self.parts.web_key.clone() }
    }

    /// Works until the stop. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        if self.parts.couriers.is_empty() {
            let _ = stop.run_until_cancelled(self.pass_on()).await;
            return;
        }
        tokio::join!(
            // Calls of the store run in tasks of their own: whoever stops waiting interrupts none.
            stop.run_until_cancelled(self.watch()),
            stop.run_until_cancelled(self.look_for_more()),
            stop.run_until_cancelled(self.ask_for_receipts()),
            self.dispatch(&stop),
        );
        // What devices have said would otherwise be asked of them again.
        self.finish().await;
    }

    /// Registers a device of a member for pushes, whoever had it or its address before.
    ///
    /// # Errors
    /// `push_unavailable`, `validation_failed` for an address to which nothing can be sent, `token_expired` if the tokens of the session were replaced or ended meanwhile, a rate limit, or the store.
    pub async fn register(
        &self,
        registrant: Registrant<'_>,
        device: DeviceId,
        registration: PushRegistration,
    ) -> Result<(), Failure> {
        let (member, session) = match registrant {
            Registrant::Authorized(Authorized { member, session, .. }) => (*member, *session),
            Registrant::Connection(Connection { member, session, .. }) => (*member, *session),
        };
        let PushRegistration { address, platform } = registration;
        let Some(courier) = self.courier(address.service()) else {
            return Err(ErrorCode::PushUnavailable.into());
        };
        if let Some(Unfit { field, why }) = courier.unfit(&address) {
            return Err(Failure::field(ErrorCode::ValidationFailed, &format!("address.{field}"), why));
        }
        let now = self.parts.clock.now();
        let known = self.parts.store.devices(Caller::Member(member), vec![member]).await?;
        // One of the future was written while a clock was ahead.
        let is_recent = |at: Timestamp| at <= now && now.since(at) < UNCHANGED;
        let is_same = |known: &DeviceRecord| {
            (&known.device, known.session, &known.address, known.platform) == (&device, session, &address, platform)
        };
        match known.iter().find(|known| is_same(known)) {
            Some(known) if is_recent(known.registered_at) => return Ok(()),
            // It renews its place among the devices of the member, which is no change.
            Some(_) => {}
            None => self.limit.check(&member)?,
        }
        let good_from = self.good_from(registrant).await?;
        self.leave_behind().await;
        // Whatever is stored from now on may be for it.
        self.turn_on();
        // After that: what was stored before is not for it, so nobody has to look for it.
        let (registered_at, since, revision) = (self.parts.clock.now(), Position::default(), RegistrationId::default());
        let record =
            DeviceRecord { member, device, session, address, platform, registered_at, since, badge: None, revision };
        let registered = self.parts.store.register(record, good_from).await;
        // Again: it may have been asked whether any device is registered while this one was not yet.
        self.turn_on();
        // It may have happened all the same.
        self.changed(member);
        if registered? { Ok(()) } else { Err(ErrorCode::TokenExpired.into()) }
    }

    /// The generation from which on tokens of a session were good when who registers was let in.
    async fn good_from(&self, registrant: Registrant<'_>) -> Result<u64, Failure> {
        let connection = match registrant {
            Registrant::Authorized(authorized) => return Ok(authorized.good_from),
            Registrant::Connection(connection) => connection,
        };
        let view = self.parts.sessions.views(vec![connection.session]).await?.pop().flatten();
        let good_from = view.map(|view| view.good_from).filter(|good_from| connection.is_good_from(*good_from));
        good_from.ok_or_else(|| ErrorCode::TokenExpired.into())
    }

    /// Ends the registration of a device, if there is one. Whether there is one costs the store as much as ending it.
    ///
    /// # Errors
    /// A rate limit, or the store.
    pub async fn unregister(&self, member: MemberId, device: &DeviceId) -> Result<(), Failure> {
        self.limit.check(&member)?;
        let unregistered = self.parts.store.unregister(member, device).await;
        if !matches!(unregistered, Ok(false)) {
            self.changed(member);
        }
        unregistered?;
        Ok(())
    }

    /// What a member has chosen, and their devices.
    ///
    /// # Errors
    /// The store.
    pub async fn settings(&self, member: MemberId) -> Result<PushSettings, Failure> {
        let settings = settings_of(&*self.parts.store, member).await?;
        Ok(PushSettings { content_max: Some(self.options.content), ..settings })
    }

    /// Changes what a member has chosen.
    ///
    /// # Errors
    /// `validation_failed` for a time zone that nobody knows, a rate limit, or the store.
    pub async fn change(&self, member: MemberId, patch: PushPatch) -> Result<PushSettings, Failure> {
        let PushPatch { content, quiet_hours } = patch;
        if let Some(Some(quiet)) = &quiet_hours
            && !quiet::is_zone(&quiet.time_zone)
        {
            let message = "the name of a time zone, such as Europe/Lisbon";
            return Err(Failure::field(ErrorCode::ValidationFailed, "quiet_hours.time_zone", message));
        }
        let mut choice = self.parts.store.choice(Caller::Member(member), member).await?;
        let before = choice.clone();
        choice.content = content.unwrap_or(choice.content);
        let quiet_hours = quiet_hours.unwrap_or_else(|| choice.quiet_hours.clone());
        let was = std::mem::replace(&mut choice.quiet_hours, quiet_hours);
        if choice == before {
            return self.settings(member).await;
        }
        self.limit.check(&member)?;
        let now = self.parts.clock.now();
        let until = was.filter(|was| Some(was) != choice.quiet_hours.as_ref()).and_then(|was| quiet::until(&was, now));
        self.parts.store.choose(member, choice, until.map(|until| Ended { until, now })).await?;
        if until.is_some() {
            self.wanted.notify_one();
        }
        self.settings(member).await
    }

    /// The devices of a member are others than before, says another node.
    pub fn changed_elsewhere(&self, member: MemberId) {
        self.devices.forget(member);
        if !self.parts.couriers.is_empty() {
            self.turn_on();
        }
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.limit.tidy();
        self.pace.tidy();
    }

    fn turn_on(&self) {
        self.parts.intake.turn_on();
        self.wanted.notify_one();
    }

    /// The devices of a member are others than before, here and for other nodes.
    fn changed(&self, member: MemberId) {
        self.devices.forget(member);
        self.parts.uplink.publish(Channel::Everybody, || Note::PushDevices { member }.into());
    }

    fn courier(&self, service: PushService) -> Option<&Arc<dyn Courier>> {
        self.parts.couriers.iter().find(|courier| courier.service() == service)
    }
}

/// What a member has chosen, and their devices.
///
/// # Errors
/// The store.
pub(super) async fn settings_of(store: &dyn PushStore, member: MemberId) -> Result<PushSettings, StoreError> {
    let by = Caller::Member(member);
    let PushChoice { content, quiet_hours } = store.choice(by, member).await?;
    let devices = store.devices(by, vec![member]).await?.into_iter().map(view).collect();
    Ok(PushSettings { content, quiet_hours, content_max: None, devices })
}

fn view(DeviceRecord { device, address, platform, registered_at, .. }: DeviceRecord) -> PushDevice {
    PushDevice { device, platform, service: address.service(), registered_at }
}
