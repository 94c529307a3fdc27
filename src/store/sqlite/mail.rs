//! Mail that is to be sent, and the links in it.

use std::sync::LazyLock;

use async_trait::async_trait;
use protocol::{InvitationId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite, audit, claims, email_change,
    memory::Tx,
    row::{inconsistent, optional_time, time},
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    audit::AuditRecord,
    changes::Change,
    mail::{
        ASIDE, ASIDE_OF_MEMBERS, ASIDE_OF_STRANGERS, Asked, AskedChange, AskedFrom, Claim, DISPLACED, Expired,
        FIRST_TURN, GoodLink, Issue, Kind, LINK_LIFETIME, LinkHash, MEMBERS_MAX, Mail, NEW_DEVICES_MAX,
        NOTICE_LIFETIME, NewChange, NewLink, Part, Purpose, Room, SHARE_MAX, STRANGERS_MAX, TO_FORMER, TakenMail,
        TokenId, WaitingMail, aside, ended_links, forgotten_at, keys_of_address, notice_of, outlives, turn,
    },
    members::{MemberRecord, email_key},
    turns::{Caller, Turn},
};

/// Of a kind that this server knows.
static KNOWN: LazyLock<String> = LazyLock::new(|| among(&Kind::names_of(|_| true)));

/// Takes the first that is due: of those that no stranger has asked for, of those for members, and of those of strangers.
static TAKE: LazyLock<[String; 3]> = LazyLock::new(|| {
    [
        take_first("turn IS NULL", |_| true),
        take_first("turn >= 0", |kind| !kind.is_of_strangers()),
        take_first("turn >= 0", Kind::is_of_strangers),
    ]
});

/// Takes the first that is due of those that were set aside.
static TAKE_ASIDE: LazyLock<String> = LazyLock::new(|| {
    let turns = ASIDE.map(|turn| firsts(&format!("turn = {turn}"), |_| true));
    take_of(&turns.join(" UNION ALL "), "due")
});

/// How many of a share wait.
const OF_SHARE: &str = "SELECT count(*) FROM mail WHERE share = ?";

/// The highest turn of a share: of what costs no mail, and of what does.
static LAST_TURN: LazyLock<[String; 2]> = LazyLock::new(|| {
    [Kind::ForgotPassword, Kind::VerifyEmail]
        .map(|kind| format!("SELECT max(turn) FROM mail WHERE share = ? AND {}", among(&kind.in_turn_with())))
});

/// The lowest turn of what strangers have written.
static NEXT_TURN: LazyLock<String> = LazyLock::new(|| of_strangers("ASC"));

/// The highest one, and what has it.
static LAST: LazyLock<String> = LazyLock::new(|| of_strangers("DESC"));

/// How many strangers have written, and how many no stranger has.
static OF_PART: LazyLock<[String; 2]> = LazyLock::new(|| {
    let (strangers, known) = (among(&Kind::names_of(Kind::is_of_strangers)), &*KNOWN);
    [
        format!("SELECT count(*) FROM mail WHERE turn >= {ASIDE_OF_STRANGERS} AND {strangers}"),
        format!(
            "SELECT (SELECT count(*) FROM mail WHERE turn IS NULL AND {known})
                 + (SELECT count(*) FROM mail WHERE turn = {ASIDE_OF_MEMBERS} AND {known})"
        ),
    ]
});

/// What would be sent last of what strangers have written and was set aside.
static LAST_ASIDE: LazyLock<String> = LazyLock::new(|| {
    let strangers = among(&Kind::names_of(Kind::is_of_strangers));
    format!("SELECT key, kind FROM mail WHERE turn = {ASIDE_OF_STRANGERS} AND {strangers} LIMIT 1")
});

/// The first of what strangers have written, in an order of its turns.
fn of_strangers(order: &str) -> String {
    let firsts = Kind::names_of(Kind::is_of_strangers).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT turn, key, kind FROM mail WHERE kind = '{name}' AND turn >= 0 ORDER BY turn {order} LIMIT 1)"
        )
    });
    let firsts = firsts.collect::<Vec<_>>().join(" UNION ALL ");
    let first = if order == "ASC" { "min" } else { "max" };
    // The other columns are of the row that has it.
    format!("SELECT {first}(turn) AS turn, key, kind FROM ({firsts})")
}

/// Of a kind with one of these names. Names are words: nothing in them has to be quoted.
fn among(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("kind IN ({})", names.join(", "))
}

/// One look into the index for each kind, however many wait.
fn take_first(turn: &str, which: impl Fn(Kind) -> bool) -> String {
    take_of(&firsts(turn, which), "turn, due")
}

fn firsts(turn: &str, which: impl Fn(Kind) -> bool) -> String {
    let firsts = Kind::names_of(which).into_iter().map(|name| {
        format!(
            "SELECT * FROM
                 (SELECT key, turn, due FROM mail WHERE kind = '{name}' AND {turn} AND due <= ?1
                  ORDER BY turn, due LIMIT 1)"
        )
    });
    firsts.collect::<Vec<_>>().join(" UNION ALL ")
}

fn take_of(firsts: &str, order: &str) -> String {
    format!(
        "UPDATE mail SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM ({firsts}) ORDER BY {order} LIMIT 1)
         RETURNING key, kind, body, attempts, until, revision"
    )
}

const PURPOSES: &[(&str, Purpose)] = &[
    (Purpose::VerifyEmail.as_str(), Purpose::VerifyEmail),
    (Purpose::ResetPassword.as_str(), Purpose::ResetPassword),
    (Purpose::ChangeEmail.as_str(), Purpose::ChangeEmail),
];

fn mail(row: &Row<'_>) -> rusqlite::Result<Mail> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|_| inconsistent("a mail"))
}

fn body(mail: &Mail) -> rusqlite::Result<String> {
    serde_json::to_string(mail).map_err(|_| inconsistent("a mail"))
}

/// Whether there is room for a further mail of a kind, after another one has given way where that is what the room is for.
pub(super) fn make_room(tx: &Tx<'_>, kind: Kind, Room { part, share }: Room) -> rusqlite::Result<bool> {
    let connection = tx.connection;
    let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    let [strangers, members] = &*OF_PART;
    let share = match (part, share) {
        (Part::Made, _) => return Ok(true),
        (Part::Members, _) | (Part::Strangers, None) => return Ok(count(members)? < MEMBERS_MAX),
        (Part::Strangers, Some(share)) => share,
    };
    let of_share: u64 = connection.prepare_cached(OF_SHARE)?.query_row([share.to_string()], |row| row.get(0))?;
    if of_share >= SHARE_MAX {
        return Ok(false);
    }
    if count(strangers)? < STRANGERS_MAX {
        return Ok(true);
    }
    let set_aside = connection
        .prepare_cached(&LAST_ASIDE)?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    if let Some((key, kind)) = set_aside.optional()? {
        return displace(tx, &key, &kind).map(|()| true);
    }
    let own = turn_of(connection, kind, share)?;
    let last = connection.prepare_cached(&LAST)?.query_row([], |row| {
        let Some(turn) = row.get::<_, Option<i64>>("turn")? else { return Ok(None) };
        Ok(Some((turn, row.get::<_, String>("key")?, row.get::<_, String>("kind")?)))
    })?;
    let Some((_, key, kind)) = last.filter(|(turn, ..)| own < *turn) else { return Ok(false) };
    displace(tx, &key, &kind).map(|()| true)
}

/// Removes a mail that gives way to one that is sent sooner.
fn displace(tx: &Tx<'_>, key: &str, kind: &str) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE key = ? RETURNING body")?;
    let gone = delete.query_row([key], |row| Ok(mail(row).ok()))?;
    gone.map_or(Ok(()), |gone| not_sent(connection, &gone))?;
    tx.metrics.mail(Kind::of(kind).map_or("unknown", Kind::as_str), DISPLACED);
    Ok(())
}

/// Has the link that a mail was to bring which nobody gets count as not sent.
fn not_sent(connection: &Connection, mail: &Mail) -> rusqlite::Result<()> {
    let Some((member, TokenId(token))) = mail.link() else { return Ok(()) };
    let mut unsent =
        connection.prepare_cached("UPDATE links SET sent = 0, asked = '' WHERE member = ? AND token = ?")?;
    unsent.execute(params![member.as_bytes(), token]).map(drop)
}

fn is_there(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM mail WHERE key = ?")?.exists([key])
}

/// Writes a mail that is due now. False, and nothing is written, if there is no room.
pub(super) fn add(tx: &Tx<'_>, mail: &Mail, room: Room, at: Timestamp) -> rusqlite::Result<bool> {
    if !has_room(tx, mail, room)? {
        return Ok(false);
    }
    write(tx.connection, mail, room, at)?;
    Ok(true)
}

/// Whether a mail can be written: in place of one that waits, or because there is room, which is made where that is what the room is for.
pub(super) fn has_room(tx: &Tx<'_>, mail: &Mail, room: Room) -> rusqlite::Result<bool> {
    Ok(is_there(tx.connection, &mail.key())? || make_room(tx, mail.kind(), room)?)
}

/// The turn of a mail that is of a share.
fn turn_of(connection: &Connection, kind: Kind, share: AskedFrom) -> rusqlite::Result<i64> {
    let [free, costly] = &*LAST_TURN;
    let last = if kind == Kind::ForgotPassword { free } else { costly };
    let last = connection.prepare_cached(last)?.query_row([share.to_string()], |row| row.get(0))?;
    let next = connection.prepare_cached(&NEXT_TURN)?.query_row([], |row| row.get("turn"))?;
    Ok(turn(kind, last, next))
}

/// The share and the turn of a mail that takes the place of one that waits: its own, so that whoever else asks for it does not have it sent
/// later.
fn place_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<(Option<String>, Option<i64>)>> {
    // What was set aside has a place like others again.
    let mut place = connection.prepare_cached("SELECT share, turn FROM mail WHERE key = ? AND ifnull(turn, 0) >= 0")?;
    place.query_row([key], |row| Ok((row.get("share")?, row.get("turn")?))).optional()
}

/// Writes a mail that is due now, whether there is room or not.
pub(super) fn write(connection: &Connection, mail: &Mail, room: Room, at: Timestamp) -> rusqlite::Result<()> {
    let key = mail.key();
    let former = if room == Room::MEMBERS { None } else { place_of(connection, &key)? };
    let (share, turn) = match (former, room.share) {
        (Some(place), _) => place,
        (None, Some(share)) => (Some(share.to_string()), Some(turn_of(connection, mail.kind(), share)?)),
        (None, None) => (None, (room.part == Part::Made).then_some(FIRST_TURN)),
    };
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO mail (key, kind, member, body, due, until, share, turn, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, random())",
    )?;
    let (member, until) = (mail.member(), at.after(mail.lifetime()));
    let member = member.as_ref().map(MemberId::as_bytes);
    let (kind, at, until) = (mail.kind().as_str(), at.as_millis(), until.as_millis());
    insert.execute(params![key, kind, member, body(mail)?, at, until, share, turn]).map(drop)
}

/// Writes what something that happens tells its member, in the transaction of that, whether there is room or not: a queue that a
/// stranger has filled must not hide it. A member has one of each kind, and so many of new devices.
pub(super) fn tell(connection: &Connection, notice: &Mail, at: Timestamp) -> rusqlite::Result<()> {
    if let Mail::NewDevice { member, .. } = notice {
        let mut waiting = connection.prepare_cached("SELECT count(*) FROM mail WHERE member = ? AND kind = ?")?;
        let name = notice.kind().as_str();
        let waiting: u64 = waiting.query_row(params![member.as_bytes(), name], |row| row.get(0))?;
        if waiting >= NEW_DEVICES_MAX {
            let mut last = connection.prepare_cached(
                "SELECT body FROM mail WHERE member = ? AND kind = ? ORDER BY until DESC, key DESC LIMIT 1",
            )?;
            let last = last.query_row(params![member.as_bytes(), name], |row| Ok(mail(row).ok()))?;
            return last.and_then(Mail::and_more).map_or(Ok(()), |last| write(connection, &last, Room::MEMBERS, at));
        }
    }
    write(connection, notice, Room::MEMBERS, at)
}

/// Nothing if the queue is full, true if a mail was written, false if none was.
fn issue(tx: &Tx<'_>, by: Caller, link: &NewLink) -> rusqlite::Result<Option<bool>> {
    let NewLink { member, purpose, at, .. } = link;
    let connection = tx.connection;
    forget_old(connection, *member, *at)?;
    let mut must_verify = connection.prepare_cached("SELECT must_verify FROM members WHERE id = ?")?;
    let must_verify = must_verify.query_row([member.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false);
    let theirs = links_of(connection, *member)?;
    let room = Room::of_link(by, must_verify, link.asked);
    match link.issue(must_verify, &theirs) {
        Issue::Nothing => Ok(Some(false)),
        Issue::New => {
            if !add(tx, &link.mail(), room, *at)? {
                return Ok(None);
            }
            write_link(connection, &link.row()).map(|()| Some(true))
        }
        Issue::Again(hash, token) => {
            if !add(tx, &purpose.mail(*member, token), room, *at)? {
                return Ok(None);
            }
            let mut again =
                connection.prepare_cached("UPDATE links SET sent = sent + 1, asked = asked || ? WHERE hash = ?")?;
            again.execute(params![link.asked.to_string(), hash])?;
            Ok(Some(true))
        }
        Issue::Unsent(hash, token) => {
            if !add(tx, &purpose.mail(*member, token), room, *at)? {
                return Ok(None);
            }
            let mut sent =
                connection.prepare_cached("UPDATE links SET sent = 1, asked = ?, expires_at = ? WHERE hash = ?")?;
            sent.execute(params![link.asked.to_string(), link.good_until().as_millis(), hash])?;
            Ok(Some(true))
        }
        Issue::Longer(hash, token) => {
            let mut longer = connection.prepare_cached("UPDATE links SET expires_at = ? WHERE hash = ?")?;
            longer.execute(params![link.good_until().as_millis(), hash])?;
            let mail = purpose.mail(*member, token);
            if is_there(connection, &mail.key())? {
                write(connection, &mail, room, *at)?;
            }
            Ok(Some(false))
        }
    }
}

/// Forgets links of a member that have ended and count for nobody any more.
pub(super) fn forget_old(connection: &Connection, member: MemberId, at: Timestamp) -> rusqlite::Result<()> {
    let mut forget =
        connection.prepare_cached("DELETE FROM links WHERE member = ? AND made_at <= ? AND expires_at <= ?")?;
    forget.execute(params![member.as_bytes(), forgotten_at(at).as_millis(), at.as_millis()]).map(drop)
}

/// The links of a member.
pub(super) fn links_of(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<LinkRow>> {
    let mut theirs = connection.prepare_cached("SELECT * FROM links WHERE member = ?")?;
    theirs.query_map([member.as_bytes()], link_record)?.collect()
}

/// Whether a link is known, good or not.
pub(super) fn is_link(connection: &Connection, hash: LinkHash) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM links WHERE hash = ?")?.exists([hash])
}

fn link(
    connection: &Connection,
    hash: LinkHash,
    purpose: Purpose,
    at: Timestamp,
) -> rusqlite::Result<Option<GoodLink>> {
    let mut query = connection.prepare_cached(
        "SELECT member, expires_at, token IS NOT NULL AS was_mailed, email, credentials FROM links
         WHERE hash = ? AND purpose = ? AND expires_at > ? AND is_over = 0",
    )?;
    let found = query.query_row(params![hash, purpose.as_str(), at.as_millis()], |row| {
        let member = MemberId::from_bytes(row.get("member")?);
        let (until, was_mailed) = (time(row, "expires_at")?, row.get("was_mailed")?);
        Ok(GoodLink { member, until, was_mailed, email: row.get("email")?, credentials: row.get("credentials")? })
    });
    found.optional()
}

/// Uses up the link that a change of a member takes, if it takes one, and all others of its purpose. False if that is not good for them.
pub(super) fn use_up(
    connection: &Connection,
    change: &Change,
    before: &MemberRecord,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    let is_good = link(connection, hash, purpose, at)?.is_some_and(|link| link.is_for(before, at));
    if is_good {
        end_all(connection, before.profile.id, purpose)?;
    }
    Ok(is_good)
}

/// Ends the links of a member for a purpose.
pub(super) fn end_all(connection: &Connection, member: MemberId, purpose: Purpose) -> rusqlite::Result<()> {
    let mut end = connection.prepare_cached("UPDATE links SET is_over = 1 WHERE member = ? AND purpose = ?")?;
    end.execute(params![member.as_bytes(), purpose.as_str()]).map(drop)
}

/// What a change of a member does to their links and their mail.
pub(super) fn follow(
    connection: &Connection,
    change: &Change,
    before: &MemberRecord,
    after: &MemberRecord,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let member = after.profile.id;
    if after.is_erased {
        if outlives(before) {
            pin_notices(connection, member, &before.profile.email, at)?;
        }
        forget(connection, member, &before.profile.email)?;
        claims::forget(connection, &before.profile.email)?;
    } else {
        for purpose in ended_links(change, before, after) {
            end_all(connection, member, *purpose)?;
        }
    }
    if !after.is_erased && before.profile.email != after.profile.email {
        pin_notices(connection, member, &before.profile.email, at)?;
    }
    notice_of(change, before, after, at).map_or(Ok(()), |notice| tell(connection, &notice, at))
}

/// Has the notices that wait for a member sent to the address that they were written for, though it is theirs no more. They are due at once: who
/// has one in hand does not finish with it any more.
fn pin_notices(connection: &Connection, member: MemberId, former: &str, at: Timestamp) -> rusqlite::Result<()> {
    let mut waiting = connection.prepare_cached("SELECT key, body FROM mail WHERE member = ?")?;
    let waiting = waiting.query_map([member.as_bytes()], |row| Ok((row.get::<_, String>("key")?, mail(row).ok())))?;
    for (key, notice) in waiting.collect::<rusqlite::Result<Vec<_>>>()? {
        let Some(pinned) = notice.and_then(|notice| notice.for_former(former)) else { continue };
        let mut pin = connection.prepare_cached(
            "UPDATE OR REPLACE mail SET key = ?, kind = ?, body = ?, due = ?, revision = random() WHERE key = ?",
        )?;
        pin.execute(params![pinned.key(), pinned.kind().as_str(), body(&pinned)?, at.as_millis(), key])?;
    }
    Ok(())
}

/// Removes the links of a member who is gone, and the mail to them and about their address; not what tells former addresses.
pub(super) fn forget(connection: &Connection, member: MemberId, email: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM links WHERE member = ?")?.execute([member.as_bytes()])?;
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE member = ? AND kind NOT IN (?, ?)")?;
    let [changed, notice] = TO_FORMER;
    delete.execute(params![member.as_bytes(), changed, notice])?;
    // The zero is what comes after a slash.
    let mut delete = connection.prepare_cached("DELETE FROM mail WHERE key >= ?1 AND key < ?1 || '0'")?;
    for key in keys_of_address(email) {
        delete.execute([key])?;
    }
    Ok(())
}

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<MailRow> {
    Ok(MailRow { mail: mail(row)?, due: time(row, "due")?, until: time(row, "until")?, attempts: row.get("attempts")? })
}

/// Stores a mail of another store, unless it is there.
pub(super) fn restore(connection: &Connection, row: &MailRow) -> rusqlite::Result<()> {
    let MailRow { mail, due, until, attempts } = row;
    let (member, share) = (mail.member(), mail.asked());
    let turn = share.map(|share| turn_of(connection, mail.kind(), share)).transpose()?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO mail (key, kind, member, body, due, until, attempts, share, turn, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, random()) ON CONFLICT DO NOTHING",
    )?;
    let member = member.as_ref().map(MemberId::as_bytes);
    let (due, until, share) = (due.as_millis(), until.as_millis(), share.as_ref().map(ToString::to_string));
    insert
        .execute(params![mail.key(), mail.kind().as_str(), member, body(mail)?, due, until, attempts, share, turn])
        .map(drop)
}

fn claim(row: &Row<'_>) -> rusqlite::Result<Option<Claim>> {
    if !row.get::<_, bool>("is_claim")? {
        return Ok(None);
    }
    let invitation = row.get::<_, Option<[u8; 12]>>("invitation")?.map(InvitationId::from_bytes);
    Ok(Some(Claim { invitation, address: row.get("address")? }))
}

pub(super) fn link_record(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    Ok(LinkRow {
        hash: row.get("hash")?,
        member: MemberId::from_bytes(row.get("member")?),
        purpose: super::row::word(row, "purpose", PURPOSES)?,
        made_at: time(row, "made_at")?,
        expires_at: time(row, "expires_at")?,
        is_over: row.get("is_over")?,
        token: row.get::<_, Option<[u8; 16]>>("token")?.map(TokenId),
        sent: row.get("sent")?,
        asked: AskedFrom::all_of(row.get_ref("asked")?.as_str()?),
        claim: claim(row)?,
        email: row.get("email")?,
        credentials: row.get("credentials")?,
    })
}

/// Writes a link alone, of this store or another one, unless it is there.
pub(super) fn write_link(connection: &Connection, row: &LinkRow) -> rusqlite::Result<()> {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, .. } = row;
    let LinkRow { claim, email, credentials, .. } = row;
    let (invitation, address) = claim.map_or((None, None), |claim| (claim.invitation, claim.address));
    let asked: String = asked.iter().map(ToString::to_string).collect();
    let mut insert = connection.prepare_cached(
        "INSERT INTO links (hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, is_claim, invitation, address, email, email_key,
             credentials)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    let (made_at, expires_at, token) = (made_at.as_millis(), expires_at.as_millis(), token.map(|token| token.0));
    let (member, purpose, is_claim) = (member.as_bytes(), purpose.as_str(), claim.is_some());
    let invitation = invitation.as_ref().map(InvitationId::as_bytes);
    insert
        .execute(params![
            hash,
            member,
            purpose,
            made_at,
            expires_at,
            is_over,
            token,
            sent,
            asked,
            is_claim,
            invitation,
            address,
            email,
            email.as_deref().map(email_key),
            credentials
        ])
        .map(drop)
}

/// What is due at a time that nobody waits for: later than `?2`, or later than now (`?1`) though nobody has taken it yet.
const LATE: &str = "(due > ?2 OR (due > ?1 AND attempts = 0))";

fn take(connection: &Connection, now: Timestamp, until: Timestamp) -> rusqlite::Result<Option<TakenMail>> {
    for sql in TAKE.iter().chain([&*TAKE_ASIDE]) {
        if let Some(taken) = take_with(connection, sql, now, until)? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

fn take_with(
    connection: &Connection,
    sql: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<TakenMail>> {
    let mut take = connection.prepare_cached(sql)?;
    let taken: Option<TakenMail> = take
        .query_row([now.as_millis(), until.as_millis()], |row| {
            let kind = Kind::of(row.get_ref("kind")?.as_str()?).ok_or_else(|| inconsistent("the kind of a mail"))?;
            let (key, attempts, revision) = (row.get("key")?, row.get("attempts")?, row.get("revision")?);
            // What cannot be read must not stay the first that is due: it is taken like others.
            Ok(TakenMail { key, kind, mail: mail(row).ok(), attempts, until: time(row, "until")?, revision })
        })
        .optional()?;
    let Some(mut taken) = taken else { return Ok(None) };
    if let Some(until) = taken.longer_until(now) {
        let mut prolong = connection.prepare_cached("UPDATE mail SET until = ? WHERE key = ?")?;
        prolong.execute(params![until.as_millis(), taken.key])?;
        taken.until = until;
    }
    Ok(Some(taken))
}

#[async_trait]
impl MailStore for Sqlite {
    async fn add(&self, _: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(move |tx| add(tx, &mail, Room::of(&mail), at)).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError> {
        self.write(move |tx| issue(tx, by, &link)).await?.ok_or(StoreError::Overloaded)
    }

    async fn issue_change(&self, change: NewChange) -> Result<Asked, StoreError> {
        self.write(move |tx| email_change::issue(tx, &change)).await?.ok_or(StoreError::Overloaded)
    }

    async fn asked_changes(&self, member: MemberId) -> Result<Vec<AskedChange>, StoreError> {
        self.read(Turn::light(member), move |connection| email_change::asked(connection, member)).await
    }

    async fn hand_out(&self, link: LinkRow, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(move |tx| {
            write_link(tx.connection, &link)?;
            audit::append(tx.connection, &entry)
        })
        .await
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<GoodLink>, StoreError> {
        self.read(Turn::of(by), move |connection| link(connection, hash, purpose, at)).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(move |tx| take(tx.connection, now, until)).await
    }

    async fn take_aside(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(move |tx| take_with(tx.connection, &TAKE_ASIDE, now, until)).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            let is_gone = delete.execute(params![taken.key, taken.revision])? > 0;
            tx.memory.erased |= is_gone && taken.kind.is_to_former();
            Ok(())
        })
        .await
    }

    async fn give_up(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM mail WHERE key = ? AND revision = ?")?;
            let is_gone = delete.execute(params![taken.key, taken.revision])? > 0;
            tx.memory.erased |= is_gone && taken.kind.is_to_former();
            taken.mail.filter(|_| is_gone).map_or(Ok(()), |mail| not_sent(tx.connection, &mail))
        })
        .await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached("UPDATE mail SET due = ? WHERE key = ? AND revision = ?")?;
            update.execute(params![due.as_millis(), taken.key, taken.revision]).map(drop)
        })
        .await
    }

    async fn set_aside(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut turn = tx.connection.prepare_cached("SELECT turn FROM mail WHERE key = ? AND revision = ?")?;
            let turn = turn.query_row(params![taken.key, taken.revision], |row| row.get(0)).optional()?;
            let Some(turn) = turn else { return Ok(()) };
            let mut update = tx.connection.prepare_cached("UPDATE mail SET due = ?, turn = ? WHERE key = ?")?;
            update.execute(params![due.as_millis(), aside(taken.kind, turn), taken.key]).map(drop)
        })
        .await
    }

    async fn hasten(&self, after: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let times = [now.as_millis(), after.as_millis()];
        let is_late = move |connection: &Connection| {
            connection.prepare_cached(&format!("SELECT 1 FROM mail WHERE {LATE}"))?.exists(times)
        };
        if !self.read(Turn::SYSTEM, is_late).await? {
            return Ok(0);
        }
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached(&format!("UPDATE mail SET due = ?1 WHERE {LATE}"))?;
            let rows = update.execute(times)?;
            Ok(u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    async fn waiting(&self) -> Result<WaitingMail, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sql = format!("SELECT count(*) AS waiting, min(due) AS due FROM mail WHERE {}", *KNOWN);
            connection
                .prepare_cached(&sql)?
                .query_row([], |row| Ok(WaitingMail { count: row.get("waiting")?, next: optional_time(row, "due")? }))
        })
        .await
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let mut firsts = Vec::new();
            for lifetime in [LINK_LIFETIME, NOTICE_LIFETIME] {
                let of_kind = among(&Kind::names_of(|kind| kind.lifetime() == lifetime));
                let mut first =
                    connection.prepare_cached(&format!("SELECT min(until) AS until FROM mail WHERE {of_kind}"))?;
                firsts.push((lifetime, first.query_row([], |row| optional_time(row, "until"))?));
            }
            Ok(Kind::oldest(firsts))
        })
        .await
    }

    async fn expire(&self, now: Timestamp, which: Expired) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let of_kind = match which {
                Expired::All => "TRUE".to_owned(),
                Expired::Unknown => format!("NOT {}", *KNOWN),
            };
            let mut delete =
                tx.connection.prepare_cached(&format!("DELETE FROM mail WHERE until <= ? AND {of_kind}"))?;
            delete.execute([now.as_millis()]).map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| {
            let mut delete = tx
                .connection
                .prepare_cached("DELETE FROM links WHERE made_at <= ? AND expires_at <= ? AND is_claim = 0")?;
            delete
                .execute([forgotten_at(now).as_millis(), now.as_millis()])
                .map(|rows| u64::try_from(rows).unwrap_or(0))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_is_known() {
        assert_eq!(PURPOSES.len(), Purpose::ALL.len());
    }

    /// However many mails wait.
    #[test]
    fn what_is_next_and_whose_share_is_used_up_is_found_in_an_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::migrations::run(&mut connection).unwrap();
        let ([own, members, strangers], [free, costly]) = (&*TAKE, &*LAST_TURN);
        let [of_strangers, of_members] = &*OF_PART;
        let counted = [of_strangers, of_members, free, costly];
        let taken = [own, members, strangers, &*TAKE_ASIDE];
        for sql in taken
            .into_iter()
            .map(|sql| &**sql)
            .chain([&**NEXT_TURN, &**LAST, &**LAST_ASIDE, OF_SHARE])
            .chain(counted.map(|sql| &**sql))
        {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            let steps = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap();
            let plan = steps.join("; ");
            assert!(!plan.contains("SCAN mail") && plan.contains("mail_by_"), "{sql}: {plan}");
            // One to put the firsts of the kinds into order.
            assert!(steps.iter().filter(|step| step.contains("TEMP B-TREE")).count() <= 1, "{sql}: {plan}");
        }
    }
}
