//! What is done with stores from the command line.

use std::{net::Ipv4Addr, sync::Arc};

use protocol::{ErrorCode, model::UserType, rest::RegisterRequest};
use tokio_util::sync::CancellationToken;

use super::{
    StartError, World,
    foundation::{self, Foundation, Pieces},
    start_error,
};
use crate::{
    auth::Source,
    clock::{Clock as _, ManualClock, SystemClock},
    config::{Settings, values::DatabaseUrl},
    failure::Failure,
    ids::Ids,
    mail::reach::is_public,
    service::{
        demo::{Demo, DemoClub},
        enrolment::Enrolment,
        transfer::{self, Step, Verified},
    },
    store::{
        Store, StoreError,
        changes::Actor,
        members::MemberRecord,
        mongo,
        mongo::Nodes,
        restore::{Ended, Ending},
        sqlite,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Creates an administrator beside a server that may be running. Returns the member, and in which store, in words.
///
/// # Errors
/// When the store cannot be opened, the address is taken, or no mail goes to it where mail is sent.
pub async fn create_admin(settings: Settings, request: RegisterRequest) -> Result<(MemberRecord, String), StartError> {
    can_be_written_to(&settings, &request.email)?;
    let base = Foundation::lay(settings, World::default(), Nodes::Command)?;
    let here = Source { address: Ipv4Addr::LOCALHOST.into(), familiar: false };
    let created = base.enrolment()?.create(request, UserType::Admin, Some(Actor::default()), here).await.map_err(
        |Failure { code, message, .. }| match code {
            ErrorCode::EmailTaken => {
                let instead = "`admin promote --email` makes an existing member an administrator";
                StartError(format!("{message} {instead}."))
            }
            _ => StartError(message),
        },
    );
    let store = base.store.backend.describe();
    base.store.backend.close().await;
    created.map(|admin| (admin, store))
}

/// Where mail is sent, nobody is given an address that it does not go to.
fn can_be_written_to(settings: &Settings, email: &str) -> Result<(), StartError> {
    let email = email.trim();
    if settings.mail.smtp_url.is_none() || is_public(email) {
        return Ok(());
    }
    Err(StartError(format!("no mail goes to {email} with this SMTP_URL: it must be an address like ana@example.com")))
}

/// Makes an existing member an administrator, beside a server that may be running. Returns the member, and in which store, in
/// words.
///
/// # Errors
/// When there is no store or it cannot be opened, or nobody has the address.
pub async fn promote(settings: Settings, email: &str) -> Result<(MemberRecord, String), StartError> {
    at_member(settings, World::default(), email, async |enrolment| enrolment.promote(email).await).await
}

/// Removes the second factor of a member who has lost it, beside a server that may be running. Returns the member, and in which store, in
/// words.
///
/// # Errors
/// When there is no store or it cannot be opened, or nobody has the address.
pub async fn reset_second_factor(settings: Settings, email: &str) -> Result<(MemberRecord, String), StartError> {
    at_member(settings, World::default(), email, async |enrolment| enrolment.reset_second_factor(email).await).await
}

/// Gives a member who has lost their address another one, beside a server that may be running. Returns the member, and in which store, in
/// words.
///
/// # Errors
/// When there is no store or it cannot be opened, nobody has the address, somebody has the new one, or no mail goes to that where mail is
/// sent.
pub async fn set_email(settings: Settings, email: &str, new: &str) -> Result<(MemberRecord, String), StartError> {
    can_be_written_to(&settings, new)?;
    at_member(settings, World::default(), email, async |enrolment| enrolment.set_email(email, new).await).await
}

/// The same of an account that somebody has taken: whoever is signed in there is out, and a link sets its password. Returns the member with the
/// token of that, if they may sign in, and in which store, in words.
///
/// # Errors
/// As [`set_email`].
pub async fn take_back(
    settings: Settings,
    email: &str,
    new: &str,
) -> Result<((MemberRecord, Option<String>), String), StartError> {
    can_be_written_to(&settings, new)?;
    at_member(settings, World::default(), email, async |enrolment| enrolment.take_back(email, new).await).await
}

/// A link's token that sets the password of a member who has lost it, made beside a server that may be running. Returns the member with the
/// token, and in which store, in words.
///
/// # Errors
/// When there is no store or it cannot be opened, nobody has the address, or who has it may not sign in.
pub async fn reset_link(
    settings: Settings,
    world: World,
    email: &str,
) -> Result<((MemberRecord, String), String), StartError> {
    at_member(settings, world, email, async |enrolment| enrolment.reset_link(email).await).await
}

/// Ends what a restored backup has brought back in the configured store, which nobody may use meanwhile. Returns how much, and in which
/// store, in words. Takes the time that it needs, whatever the settings say of the store's.
///
/// # Errors
/// When there is no store, it cannot be opened or is in use, or fails: some of it may be ended then.
pub async fn after_restore(settings: Settings, keep_invitations: bool) -> Result<(Ended, String), StartError> {
    let database = settings.store.database().map_err(start_error)?;
    let named = |error: StoreError| start_error(format!("DATABASE_URL: {error}"));
    has_store(&database).map_err(named)?;
    let base = Foundation::lay(settings, World::default(), Nodes::Exclusive)?;
    let ended = async {
        base.store.backend.opened().await.map_err(named)?;
        let at = base.world.clock.now();
        let ended = base.store.backend.end_after_restore(Ending { at, invitations: !keep_invitations }).await;
        let again = "not all is ended that the backup has brought back: run it again before a server starts";
        ended.map_err(|error| start_error(format!("{}; {again}", named(error))))
    };
    let ended = ended.await;
    let store = base.store.backend.describe();
    base.store.backend.close().await;
    ended.map(|ended| (ended, store))
}

/// Does something about the member with an address, in a store that is there.
async fn at_member<T>(
    settings: Settings,
    world: World,
    email: &str,
    act: impl AsyncFnOnce(Enrolment) -> Result<T, Failure>,
) -> Result<(T, String), StartError> {
    let database = settings.store.database().map_err(start_error)?;
    has_store(&database).map_err(|error| start_error(format!("DATABASE_URL: {error}")))?;
    let base = Foundation::lay(settings, world, Nodes::Command)?;
    let store = base.store.backend.describe();
    let done = act(base.enrolment()?).await;
    base.store.backend.close().await;
    match done {
        Ok(member) => Ok((member, store)),
        Err(Failure { code: ErrorCode::MemberNotFound, .. }) => {
            Err(start_error(format!("nobody has the address {email} in {store}")))
        }
        Err(Failure { message, .. }) => Err(StartError(message)),
    }
}

/// Fills the configured store with a club to look at. Nobody may use the store meanwhile: a server remembers what it has written into
/// conversations, and what is written here is from before now. Returns the club, and in which store, in words.
///
/// # Errors
/// When the store cannot be opened, is in use, or has members of another club.
pub async fn demo(settings: Settings, members: u16) -> Result<(DemoClub, String), StartError> {
    let now = SystemClock.now();
    let clock = ManualClock::at(now);
    let world = World { clock: Arc::new(clock.clone()), ..World::default() };
    let base = Foundation::lay(settings, world, Nodes::Exclusive)?;
    let filled = async {
        let opened = base.store.backend.opened().await;
        opened.map_err(|error| start_error(format!("DATABASE_URL: {error}")))?;
        let demo = Demo { store: base.store.clone(), enrolment: base.enrolment()?, clock, ids: Arc::clone(&base.ids) };
        demo.fill(members, now).await.map_err(start_error)
    };
    let filled = filled.await;
    let store = base.store.backend.describe();
    base.store.backend.close().await;
    filled.map(|club| (club, store))
}

/// Tells that a file is missing where a new, empty store would be made in its place. Of MongoDB nothing is asked.
fn has_store(database: &DatabaseUrl) -> Result<(), StoreError> {
    match database {
        DatabaseUrl::Sqlite(path) => sqlite::has_file(path),
        DatabaseUrl::Mongo(_) => Ok(()),
    }
}

/// What the schema of the configured store lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the store cannot be reached, or is from a newer version.
pub async fn migrate(settings: &Settings, check_only: bool) -> Result<Vec<String>, StartError> {
    settings.validate().map_err(start_error)?;
    let timeout = settings.store.store_timeout;
    let missing = match settings.store.database().map_err(start_error)? {
        DatabaseUrl::Sqlite(path) => sqlite::migrate(&path, check_only),
        DatabaseUrl::Mongo(uri) => mongo::migrate(&uri, timeout, check_only).await,
    };
    missing.map_err(|error| start_error(format!("DATABASE_URL: {error}")))
}

/// Copies everything from one store to another, and verifies it.
///
/// # Errors
/// A URL that is none, a store that cannot be opened, a target that is in use, or a difference at the end.
pub async fn copy(
    settings: &Settings,
    from: &str,
    to: &str,
    progress: impl FnMut(Step, u64, u64) + Send,
) -> Result<Vec<Verified>, StartError> {
    let is_there = from.parse().map_or(Ok(()), |database| has_store(&database));
    is_there.map_err(|error| start_error(format!("--from: {error}")))?;
    let source = open(settings, "--from", from).await?;
    let target = open(settings, "--to", to).await?;
    let copied = transfer::copy(&source, &target, progress).await;
    source.backend.close().await;
    target.backend.close().await;
    copied.map_err(start_error)
}

/// Opens a store for itself alone.
async fn open(settings: &Settings, flag: &str, url: &str) -> Result<Store, StartError> {
    let named = |problem: String| start_error(format!("{flag}: {problem}"));
    let url: DatabaseUrl = url.parse().map_err(named)?;
    let world = World::default();
    let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
    let pieces = Pieces { world: &world, ids: &ids, metrics: &metrics, supervisor: &supervisor };
    let opened =
        foundation::open(url, settings, &pieces, Nodes::Exclusive).map_err(|error| named(error.to_string()))?;
    opened.backend.opened().await.map_err(|error| named(error.to_string()))?;
    Ok(opened)
}
