//! Members.

use async_trait::async_trait;
use protocol::{
    InvitationId, MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{Audience, Language, MemberStatus, SharedWith},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio_util::sync::CancellationToken;

use super::{
    Sqlite, addresses, audit, invitations, jobs, mail,
    memory::Tx,
    push, recommendations, registration,
    row::{optional_time, time, word},
    search,
};
use crate::store::{
    MemberStore, StoreError,
    addresses::{Allowed, barred_by},
    changes::{Actor, Change, Changed, Overtaken, creation, rejection},
    jobs::of_change,
    members::{
        Contact, DirectoryPosition, EmailTaken, Filter, Invited, LastSeen, MemberCounts, MemberRecord, NewMember,
        NotFirst, NotRegistered, Registration, Rejected, StoredProfile, StoredVisibility, Suspension, cost_of,
        email_key, hashes, hashes_above,
    },
    second_factor::{RecoveryHash, StoredFactor},
    turns::{Caller, Turn},
};

pub(super) const TIERS: &[(&str, Tier)] = &[
    (Tier::Disruption.as_str(), Tier::Disruption),
    (Tier::Infinity.as_str(), Tier::Infinity),
    (Tier::Socio.as_str(), Tier::Socio),
];
pub(super) const USER_TYPES: &[(&str, UserType)] =
    &[(UserType::Member.as_str(), UserType::Member), (UserType::Admin.as_str(), UserType::Admin)];

const SHARED_WITH: &[(&str, SharedWith)] =
    &[(SharedWith::Members.as_str(), SharedWith::Members), (SharedWith::Nobody.as_str(), SharedWith::Nobody)];

const AUDIENCES: &[(&str, Audience)] = &[
    (Audience::Members.as_str(), Audience::Members),
    (Audience::Partners.as_str(), Audience::Partners),
    (Audience::Nobody.as_str(), Audience::Nobody),
];

const LANGUAGES: &[(&str, Language)] = &[(Language::En.as_str(), Language::En), (Language::Pt.as_str(), Language::Pt)];

/// The language of a member, if they have one.
fn language(row: &Row<'_>) -> rusqlite::Result<Option<Language>> {
    let text: Option<String> = row.get("language")?;
    text.map(|_| word(row, "language", LANGUAGES)).transpose()
}

/// Reads a member from a row of `SELECT * FROM members`.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<MemberRecord> {
    Ok(MemberRecord {
        profile: StoredProfile {
            id: MemberId::from_bytes(row.get("id")?),
            name: row.get("name")?,
            email: row.get("email")?,
            tier: word(row, "tier", TIERS)?,
            contact: Contact { phone: row.get("phone")?, company: row.get("company")?, position: row.get("position")? },
            visibility: StoredVisibility {
                email: word(row, "email_to", SHARED_WITH)?,
                phone: word(row, "phone_to", SHARED_WITH)?,
                company: word(row, "company_to", SHARED_WITH)?,
                position: word(row, "position_to", SHARED_WITH)?,
                presence: word(row, "presence_to", AUDIENCES)?,
            },
            profile_image_url: row.get("profile_image_url")?,
            user_type: word(row, "user_type", USER_TYPES)?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
            last_login: optional_time(row, "last_login")?,
            is_active: row.get("is_active")?,
            is_pending: row.get("is_pending")?,
            must_verify: row.get("must_verify")?,
            suspension: suspension(row)?,
            invited: invited(row)?,
            language: language(row)?,
            email_verified_at: optional_time(row, "email_verified_at")?,
        },
        password_hash: row.get("password_hash")?,
        version: row.get("version")?,
        is_erased: row.get("is_erased")?,
        second_factor: second_factor(row)?,
        credentials: row.get("credentials")?,
    })
}

fn suspension(row: &Row<'_>) -> rusqlite::Result<Option<Suspension>> {
    let Some(until) = optional_time(row, "suspended_until")? else { return Ok(None) };
    Ok(Some(Suspension { until, reason: row.get("suspension_reason")? }))
}

fn second_factor(row: &Row<'_>) -> rusqlite::Result<Option<StoredFactor>> {
    let Some(enabled_at) = optional_time(row, "second_factor_at")? else { return Ok(None) };
    let codes: Vec<u8> = row.get("recovery_codes")?;
    let (codes, _): (&[RecoveryHash], _) = codes.as_chunks();
    Ok(Some(StoredFactor {
        secret: row.get("second_factor_secret")?,
        enabled_at,
        last_step: row.get("second_factor_step")?,
        recovery_codes: codes.to_vec(),
    }))
}

fn invited(row: &Row<'_>) -> rusqlite::Result<Option<Invited>> {
    let (by, invitation): (Option<[u8; 12]>, Option<[u8; 12]>) = (row.get("invited_by")?, row.get("invitation")?);
    let both = by.zip(invitation);
    Ok(both.map(|(by, invitation)| Invited {
        by: MemberId::from_bytes(by),
        invitation: InvitationId::from_bytes(invitation),
    }))
}

pub(super) fn by_id(connection: &Connection, id: MemberId) -> rusqlite::Result<Option<MemberRecord>> {
    let mut query = connection.prepare_cached("SELECT * FROM members WHERE id = ?")?;
    query.query_row([id.as_bytes()], record).optional()
}

/// The hash of the highest cost between two: its beginning, which is as long as [`COST_ENDS`] says.
///
/// [`COST_ENDS`]: crate::store::members::COST_ENDS
pub(super) const HIGHEST_COST: &str = "SELECT substr(password_hash, 1, 6) AS beginning FROM members
    WHERE substr(password_hash, 1, 6) >= ? AND substr(password_hash, 1, 6) < ?
    ORDER BY substr(password_hash, 1, 6) DESC LIMIT 1";

fn highest_cost(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let mut query = connection.prepare_cached(HIGHEST_COST)?;
    let mut highest = None;
    for (from, to) in hashes() {
        let beginning: Option<String> = query.query_row([from, to], |row| row.get("beginning")).optional()?;
        highest = highest.max(beginning.as_deref().and_then(cost_of));
    }
    Ok(highest)
}

/// How many hashes are between two, as [`HIGHEST_COST`], counted up to a number.
pub(super) const COSTLIER: &str = "SELECT count(*) FROM (SELECT 1 FROM members
    WHERE substr(password_hash, 1, 6) >= ? AND substr(password_hash, 1, 6) < ? LIMIT ?)";

fn count_costlier(connection: &Connection, than: u32, most: u64) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(COSTLIER)?;
    let mut count = 0;
    for (from, to) in hashes_above(than) {
        count += query.query_row(params![from, to, most], |row| row.get::<_, u64>(0))?;
    }
    Ok(count.min(most))
}

pub(super) fn by_email(connection: &Connection, key: &str) -> rusqlite::Result<Option<MemberRecord>> {
    let mut query = connection.prepare_cached("SELECT * FROM members WHERE email_key = ?")?;
    query.query_row([key], record).optional()
}

fn insert(
    tx: &Tx<'_>,
    member: NewMember,
    created_by: Option<Actor>,
) -> rusqlite::Result<Result<MemberRecord, EmailTaken>> {
    let record = member.into_record();
    let inserted = insert_record(tx, &record)?;
    if let (Ok(()), Some(by)) = (inserted, created_by) {
        audit::append(tx.connection, &creation(record.profile.id, by, record.profile.created_at))?;
    }
    Ok(inserted.map(|()| record))
}

/// Stores a record that is new.
pub(super) fn insert_record(tx: &Tx<'_>, record: &MemberRecord) -> rusqlite::Result<Result<(), EmailTaken>> {
    let key = email_key(&record.profile.email);
    if by_email(tx.connection, &key)?.is_some() {
        return Ok(Err(EmailTaken));
    }
    let StoredProfile { id, name, email, tier, user_type, created_at, updated_at, is_active, is_pending, .. } =
        &record.profile;
    let (invited, language) = (record.profile.invited, record.profile.language);
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO members (id, name, name_key, email, email_key, password_hash, tier, user_type, created_at,
                              updated_at, is_active, is_pending, invited_by, invitation, language, must_verify)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let row = insert.insert(params![
        id.as_bytes(),
        name,
        record.name_key(),
        email,
        key,
        record.password_hash,
        tier.as_str(),
        user_type.as_str(),
        created_at.as_millis(),
        updated_at.as_millis(),
        is_active,
        is_pending,
        invited.map(|invited| *invited.by.as_bytes()),
        invited.map(|invited| *invited.invitation.as_bytes()),
        language.map(Language::as_str),
        record.profile.must_verify,
    ])?;
    search::index(tx.connection, row, record).map(Ok)
}

pub(super) fn count_waiting(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(
        "SELECT count(*) FROM members INDEXED BY members_pending
             WHERE is_pending = 1 AND must_verify = 0",
    )?;
    query.query_row([], |row| row.get(0))
}

/// Whether what somebody asks for was overtaken by what became of who asks.
pub(super) fn overtaken(
    connection: &Connection,
    by: Actor,
    needs_admin: bool,
    at: Timestamp,
) -> rusqlite::Result<Option<Overtaken>> {
    let Some(asking) = by.session else { return Ok(None) };
    Ok(by.overtaken(needs_admin, super::sessions::view(connection, asking.id)?.as_ref(), at))
}

fn reject(tx: &mut Tx<'_>, id: MemberId, by: Actor, at: Timestamp) -> rusqlite::Result<Rejected> {
    let Some(record) = by_id(tx.connection, id)?.filter(|record| !record.is_erased) else {
        return Ok(Rejected::NotFound);
    };
    if record.profile.must_verify {
        // Nobody knows yet that it was they who applied.
        return Ok(Rejected::NotFound);
    }
    if !record.profile.is_pending {
        return Ok(Rejected::Decided);
    }
    if let Some(overtaken) = overtaken(tx.connection, by, by.is_other_than(id), at)? {
        return Ok(Rejected::Overtaken(overtaken));
    }
    tx.connection.prepare_cached("DELETE FROM members WHERE id = ?")?.execute([id.as_bytes()])?;
    mail::forget(tx.connection, id, &record.profile.email)?;
    tx.memory.erased = true;
    audit::append(tx.connection, &rejection(id, by, at))?;
    Ok(Rejected::Done)
}

fn purge_waiting(connection: &Connection, before: Timestamp) -> rusqlite::Result<usize> {
    // Nobody has written to them, and they are not in the search index.
    let mut purge = connection.prepare_cached(
        "DELETE FROM members WHERE key IN (
            SELECT key FROM members INDEXED BY members_pending
            WHERE is_pending = 1 AND must_verify = 0 AND created_at < ?)
         RETURNING id, email",
    )?;
    let purged = purge.query_map([before.as_millis()], |row| {
        Ok((MemberId::from_bytes(row.get("id")?), row.get::<_, String>("email")?))
    })?;
    let purged = purged.collect::<rusqlite::Result<Vec<_>>>()?;
    for (member, email) in &purged {
        mail::forget(connection, *member, email)?;
    }
    Ok(purged.len())
}

fn admins(connection: &Connection, limit: usize, with_factor: bool) -> rusqlite::Result<Vec<MemberId>> {
    let mut query = connection.prepare_cached(
        "SELECT id FROM members WHERE user_type = 'admin' AND is_active = 1 AND (NOT ?2 OR second_factor_at IS NOT NULL)
         ORDER BY key LIMIT ?1",
    )?;
    query.query_map(params![limit, with_factor], |row| row.get(0).map(MemberId::from_bytes))?.collect()
}

fn insert_first_admin(
    tx: &Tx<'_>,
    member: NewMember,
    created_by: Actor,
) -> rusqlite::Result<Result<MemberRecord, NotFirst>> {
    if has_other_admin(tx.connection, member.id, member.created_at)? {
        return Ok(Err(NotFirst::HasAdmin));
    }
    Ok(insert(tx, member, Some(created_by))?.map_err(|EmailTaken| NotFirst::EmailTaken))
}

pub(super) fn change(
    tx: &mut Tx<'_>,
    id: MemberId,
    change: &Change,
    by: Actor,
    at: Timestamp,
) -> rusqlite::Result<Changed> {
    let before = by_id(tx.connection, id)?.filter(|record| change.finds(record));
    let Some(before) = before else { return Ok(Changed::NotFound) };
    if change.is_stale(&before) {
        return Ok(Changed::Stale);
    }
    let mut squatter = None;
    if let Some((email, is_kept_out)) = change.new_email() {
        match availability(tx.connection, id, email, is_kept_out)? {
            Availability::Taken => return Ok(Changed::EmailTaken),
            Availability::Unverified(owner) if change.displaces_unverified() => squatter = Some(owner),
            Availability::Unverified(_) => return Ok(Changed::EmailTaken),
            Availability::Free => {}
        }
    }
    if !mail::use_up(tx.connection, change, &before, at)? {
        return Ok(Changed::Stale);
    }
    if change.takes_admin(&before, at) && !has_other_admin(tx.connection, id, at)? {
        return Ok(Changed::LastAdmin);
    }
    let Some(after) = change.apply(&before, at) else {
        return Ok(Changed::Done { after: Box::new(before.clone()), before: Box::new(before), ended: Vec::new() });
    };
    if let Some(overtaken) = overtaken(tx.connection, by, by.is_other_than(id), at)? {
        return Ok(Changed::Overtaken(overtaken));
    }
    if let Some(squatter) = squatter {
        registration::remove(tx, &squatter, at)?;
    }
    // The log remembers whether a member may be written to.
    tx.memory.members.remove(&id);
    write(tx.connection, &after)?;
    tx.memory.erased |= after.is_erased;
    let ended = super::sessions::revoke_by_change(tx.connection, id, change.revokes(), at)?;
    if let Some(kept) = change.keeps() {
        super::sessions::replace_tokens(tx.connection, id, kept, at)?;
    }
    if let Some(session) = change.proves() {
        super::sessions::prove(tx.connection, id, session, at)?;
    }
    if let Some(entry) = change.audit(&before, &after, by, at) {
        audit::append(tx.connection, &entry)?;
    }
    if let Some(email) = barred_by(change, &before) {
        addresses::bar(tx.connection, email)?;
    }
    invitations::follow(tx.connection, change, &before, by, at)?;
    jobs::apply(tx.connection, &of_change(&before, &after), at)?;
    mail::follow(tx.connection, change, &before, &after, at)?;
    Ok(Changed::Done { before: Box::new(before), after: Box::new(after), ended })
}

/// Whether a member may have an address.
enum Availability {
    Free,
    /// Somebody has it, or, for who is kept out by that, it is one that nobody registers with.
    Taken,
    /// Somebody has registered with it who has not verified it, and nobody has written to.
    Unverified(Box<MemberRecord>),
}

fn availability(
    connection: &Connection,
    id: MemberId,
    email: &str,
    is_kept_out: bool,
) -> rusqlite::Result<Availability> {
    let owner = by_email(connection, &email_key(email))?.filter(|owner| owner.profile.id != id);
    Ok(match owner {
        _ if is_kept_out && addresses::is_barred(connection, email)? => Availability::Taken,
        None => Availability::Free,
        Some(owner) if registration::is_unverified(connection, &owner)? => Availability::Unverified(Box::new(owner)),
        Some(_) => Availability::Taken,
    })
}

fn has_admin(connection: &Connection) -> rusqlite::Result<bool> {
    let mut query = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM members WHERE user_type = 'admin' AND is_active = 1)")?;
    query.query_row([], |row| row.get(0))
}

/// Whether there is another administrator who may sign in.
fn has_other_admin(connection: &Connection, id: MemberId, at: Timestamp) -> rusqlite::Result<bool> {
    let mut query = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM members WHERE user_type = 'admin' AND is_active = 1 AND id <> ?
             AND ifnull(suspended_until, 0) <= ?)",
    )?;
    query.query_row(params![id.as_bytes(), at.as_millis()], |row| row.get(0))
}

/// Writes everything of a member that can change, except for times of logins and visits.
fn write(connection: &Connection, record: &MemberRecord) -> rusqlite::Result<()> {
    let StoredProfile { contact, visibility, .. } = &record.profile;
    let (profile, factor) = (&record.profile, record.second_factor.as_ref());
    let mut update = connection.prepare_cached(
        "UPDATE members SET name = ?, name_key = ?, email = ?, email_key = ?, password_hash = ?, tier = ?, phone = ?,
             company = ?, position = ?, email_to = ?, phone_to = ?, company_to = ?, position_to = ?, presence_to = ?,
             profile_image_url = ?, user_type = ?, updated_at = ?, is_active = ?, version = ?, is_erased = ?,
             is_pending = ?, suspended_until = ?, suspension_reason = ?, invited_by = ?, invitation = ?,
             language = ?, email_verified_at = ?, must_verify = ?, second_factor_secret = ?, second_factor_at = ?,
             second_factor_step = ?, recovery_codes = ?, credentials = ?
         WHERE id = ? RETURNING key",
    )?;
    let values = params![
        profile.name,
        record.name_key(),
        profile.email,
        record.email_key(),
        record.password_hash,
        profile.tier.as_str(),
        contact.phone,
        contact.company,
        contact.position,
        visibility.email.as_str(),
        visibility.phone.as_str(),
        visibility.company.as_str(),
        visibility.position.as_str(),
        visibility.presence.as_str(),
        profile.profile_image_url,
        profile.user_type.as_str(),
        profile.updated_at.as_millis(),
        profile.is_active,
        record.version,
        record.is_erased,
        profile.is_pending,
        profile.suspension.as_ref().map(|suspension| suspension.until.as_millis()),
        profile.suspension.as_ref().and_then(|suspension| suspension.reason.as_deref()),
        profile.invited.map(|invited| *invited.by.as_bytes()),
        profile.invited.map(|invited| *invited.invitation.as_bytes()),
        profile.language.map(Language::as_str),
        profile.email_verified_at.map(Timestamp::as_millis),
        profile.must_verify,
        factor.map(|factor| &factor.secret),
        factor.map(|factor| factor.enabled_at.as_millis()),
        factor.map(|factor| factor.last_step),
        factor.map(|factor| factor.recovery_codes.concat()),
        record.credentials,
        profile.id.as_bytes(),
    ];
    let key: i64 = update.query_row(values, |row| row.get(0))?;
    if record.is_erased {
        let mut forget =
            connection.prepare_cached("UPDATE members SET last_login = NULL, last_seen = NULL WHERE key = ?")?;
        forget.execute([key])?;
        recommendations::forget(connection, key)?;
        super::settings::forget(connection, key)?;
        super::sessions::forget_devices(connection, key)?;
        push::forget(connection, key)?;
    }
    search::index(connection, key, record)
}

/// Stores a member of another store as they are, unless they are there.
pub(super) fn restore(tx: &Tx<'_>, record: &MemberRecord, last_seen: Option<Timestamp>) -> rusqlite::Result<()> {
    let profile = &record.profile;
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at,
             last_login, last_seen, is_active)
         VALUES (?, '', ?, ?, '', ?, ?, ?, 0, ?, ?, 0) ON CONFLICT DO NOTHING",
    )?;
    let inserted = insert.execute(params![
        profile.id.as_bytes(),
        profile.email,
        record.email_key(),
        profile.tier.as_str(),
        profile.user_type.as_str(),
        profile.created_at.as_millis(),
        profile.last_login.map(Timestamp::as_millis),
        last_seen.map(Timestamp::as_millis),
    ])?;
    if inserted == 0 { Ok(()) } else { write(tx.connection, record) }
}

/// Members by name, along an index in that order. The index is chosen here, and not by the planner.
fn list(
    connection: &Connection,
    filter: Filter,
    after: Option<&DirectoryPosition>,
    limit: usize,
) -> rusqlite::Result<Vec<MemberRecord>> {
    let (index, of_tier) = match (filter.status, filter.tier) {
        (Some((MemberStatus::Pending, _)), _) => ("members_pending", "(?3 IS NULL OR tier = ?3)"),
        (Some((MemberStatus::Unverified, _)), _) => ("members_unverified", "(?3 IS NULL OR tier = ?3)"),
        (_, Some(_)) => ("members_by_tier_and_name", "tier = ?3"),
        (_, None) => ("members_by_name", "?3 IS NULL"),
    };
    let (of_status, at) = match filter.status {
        None => ("is_pending = 0 AND must_verify = 0 AND ?7 IS NULL", None),
        Some((MemberStatus::Unverified, _)) => ("must_verify = 1 AND ?7 IS NULL", None),
        Some((MemberStatus::Pending, _)) => ("is_pending = 1 AND must_verify = 0 AND ?7 IS NULL", None),
        Some((MemberStatus::Deactivated, _)) => {
            ("is_pending = 0 AND must_verify = 0 AND is_active = 0 AND ?7 IS NULL", None)
        }
        Some((MemberStatus::Suspended, at)) => ("is_active = 1 AND suspended_until > ?7", Some(at.as_millis())),
        Some((MemberStatus::Active, at)) => {
            ("is_active = 1 AND ifnull(suspended_until, 0) <= ?7", Some(at.as_millis()))
        }
    };
    let mut query = connection.prepare_cached(&format!(
        "SELECT * FROM members INDEXED BY {index}
         WHERE (name_key, id) > (?1, ?2) AND is_erased = 0 AND {of_tier}
           AND {of_status}
           AND (?4 IS NULL OR user_type = ?4) AND (?5 IS NULL OR is_active = ?5)
         ORDER BY name_key, id LIMIT ?6"
    ))?;
    let (name_key, id) = after.map_or(("", &[][..]), |place| (&place.name_key, place.id.as_bytes()));
    let tier = filter.tier.map(Tier::as_str);
    let user_type = filter.user_type.map(UserType::as_str);
    let rows = query.query_map(params![name_key, id, tier, user_type, filter.is_active, limit, at], record)?;
    rows.collect()
}

fn count(connection: &Connection, at: Timestamp) -> rusqlite::Result<MemberCounts> {
    let mut query = connection.prepare_cached(
        "SELECT count(*) - ifnull(sum(is_pending OR must_verify), 0),
             ifnull(sum(is_active AND ifnull(suspended_until, 0) <= ?), 0),
             ifnull(sum(is_pending AND NOT must_verify), 0) FROM members",
    )?;
    query.query_row([at.as_millis()], |row| {
        Ok(MemberCounts { all: row.get(0)?, active: row.get(1)?, waiting: row.get(2)? })
    })
}

fn last_seen(connection: &Connection, members: &[MemberId]) -> rusqlite::Result<Vec<LastSeen>> {
    let mut query = connection
        .prepare_cached("SELECT last_seen, presence_to, version FROM members WHERE id = ? AND is_active = 1")?;
    let mut found = Vec::with_capacity(members.len());
    for &member in members {
        let seen = query.query_row([member.as_bytes()], |row| {
            let (at, audience) = (optional_time(row, "last_seen")?, word(row, "presence_to", AUDIENCES)?);
            Ok(LastSeen { member, at, audience, version: row.get("version")? })
        });
        found.extend(seen.optional()?);
    }
    Ok(found)
}

#[async_trait]
impl MemberStore for Sqlite {
    async fn insert(
        &self,
        member: NewMember,
        created_by: Option<Actor>,
    ) -> Result<Result<MemberRecord, EmailTaken>, StoreError> {
        self.write(move |tx| insert(tx, member, created_by)).await
    }

    async fn register(&self, new: Registration) -> Result<Result<MemberRecord, NotRegistered>, StoreError> {
        self.write(move |tx| registration::register(tx, new)).await?.ok_or(StoreError::Overloaded)
    }

    async fn purge_unverified(&self, before: Timestamp, at: Timestamp) -> Result<usize, StoreError> {
        self.write(move |tx| registration::purge_unverified(tx, before, at)).await
    }

    async fn allow_address(&self, email: &str, by: Actor, at: Timestamp) -> Result<Allowed, StoreError> {
        let email = email.to_owned();
        self.write(move |tx| addresses::allow(tx.connection, &email, by, at)).await
    }

    async fn reject(&self, id: MemberId, by: Actor, at: Timestamp) -> Result<Rejected, StoreError> {
        let rejected = self.write(move |tx| reject(tx, id, by, at)).await?;
        if rejected == Rejected::Done {
            self.scrub().await;
        }
        Ok(rejected)
    }

    async fn purge_waiting(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.write(move |tx| {
            let purged = purge_waiting(tx.connection, before)?;
            tx.memory.erased |= purged > 0;
            Ok(purged)
        })
        .await
    }

    async fn count_waiting(&self, by: Caller) -> Result<u64, StoreError> {
        self.read(Turn::of(by), count_waiting).await
    }

    async fn admins(&self, limit: usize, with_factor: bool) -> Result<Vec<MemberId>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| admins(connection, limit, with_factor)).await
    }

    async fn insert_first_admin(
        &self,
        member: NewMember,
        created_by: Actor,
    ) -> Result<Result<MemberRecord, NotFirst>, StoreError> {
        self.write(move |tx| insert_first_admin(tx, member, created_by)).await
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        self.read(Turn::HEAVY_SYSTEM, has_admin).await
    }

    async fn by_id(&self, by: Caller, id: MemberId) -> Result<Option<MemberRecord>, StoreError> {
        self.read(Turn::of(by), move |connection| by_id(connection, id)).await
    }

    async fn by_email(&self, by: Caller, email: &str) -> Result<Option<MemberRecord>, StoreError> {
        let key = email_key(email);
        self.read(Turn::of(by), move |connection| by_email(connection, &key)).await
    }

    async fn change(
        &self,
        id: MemberId,
        wanted: Change,
        by: Actor,
        at: Timestamp,
        given_up: CancellationToken,
    ) -> Result<Changed, StoreError> {
        let erases = matches!(wanted, Change::Erase);
        let change = move |tx: &mut Tx<'_>| {
            if given_up.is_cancelled() { Ok(Changed::GivenUp) } else { change(tx, id, &wanted, by, at) }
        };
        let changed = self.write(change).await?;
        if erases {
            self.scrub().await;
        }
        Ok(changed)
    }

    async fn replace_hash(&self, id: MemberId, from: String, to: String) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let sql = "UPDATE members SET password_hash = ?1 WHERE id = ?2 AND password_hash = ?3";
            let mut update = tx.connection.prepare_cached(sql)?;
            update.execute(params![to, id.as_bytes(), from]).map(|rows| rows == 1)
        })
        .await
    }

    async fn highest_cost(&self, by: Caller) -> Result<Option<u32>, StoreError> {
        self.read(Turn::of(by), highest_cost).await
    }

    async fn count_costlier(&self, than: u32, most: u64) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, move |connection| count_costlier(connection, than, most)).await
    }

    async fn list(
        &self,
        by: Caller,
        filter: Filter,
        after: Option<DirectoryPosition>,
        limit: usize,
    ) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(filter.turn(by), move |connection| list(connection, filter, after.as_ref(), limit)).await
    }

    async fn search(&self, by: MemberId, words: Vec<String>, limit: usize) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(Turn::heavy(by), move |connection| search::find(connection, &words, limit)).await
    }

    async fn count(&self, at: Timestamp) -> Result<MemberCounts, StoreError> {
        self.read(Turn::HEAVY_SYSTEM, move |connection| count(connection, at)).await
    }

    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached(
                "UPDATE members SET last_seen = ?1 WHERE id = ?2 AND is_erased = 0 AND (last_seen IS NULL OR last_seen < ?1)",
            )?;
            for (member, at) in seen {
                update.execute(params![at.as_millis(), member.as_bytes()])?;
            }
            Ok(())
        })
        .await
    }

    async fn last_seen(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError> {
        self.read(Turn::look_ups(by, members.len()), move |connection| last_seen(connection, &members)).await
    }
}
