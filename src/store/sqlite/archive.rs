//! Everything as rows, in the order of their keys.

use async_trait::async_trait;
use protocol::{ConversationId, MemberId, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::{
    Sqlite, addresses, audit, history, invitations, jobs, log, mail, members,
    memory::Tx,
    push, recommendations,
    row::{kind, optional_time, time},
    sessions, settings, tally,
};
use crate::store::{
    Archive, StoreError,
    archive::{ConversationRow, Key, MemberRow, Part, ParticipantRow, ReceiptRow, Row, SessionRow, TokenRow},
    conversations::{StoreId, StoredSettings},
    entries::StoredEntry,
    push::DeviceKey,
    sessions::platform_word,
    turns::Turn,
};

const fn table(part: Part) -> &'static str {
    match part {
        Part::Members => "members",
        Part::Invitations => "invitations",
        Part::Sessions => "sessions",
        Part::RefreshTokens => "refresh_tokens",
        Part::Conversations => "conversations",
        Part::Messages => "entries",
        Part::Receipts => "receipts",
        Part::Audit => "audit",
        Part::Recommendations => "recommendations",
        Part::Budgets => "ai_budgets",
        Part::Jobs => "jobs",
        Part::Links => "links",
        Part::Mail => "mail",
        Part::Secrets => "secrets",
        Part::BarredAddresses => "barred_addresses",
        Part::PushDevices => "push_devices",
        Part::PushMarks => "push_marks",
        Part::PushTasks => "push_tasks",
        Part::PushChoices => "push_choices",
    }
}

const MEMBERS: &str = "SELECT * FROM members WHERE id > ? ORDER BY id LIMIT ?";
const INVITATIONS: &str = "SELECT * FROM invitations WHERE id > ? ORDER BY id LIMIT ?";
const SESSIONS: &str = "SELECT s.*, m.id AS member_id
    FROM sessions s JOIN members m ON m.key = s.member WHERE s.id > ? ORDER BY s.id LIMIT ?";
const TOKENS: &str = "SELECT t.hash, s.id AS session_id, t.expires_at, t.used_at, t.attempt
    FROM refresh_tokens t JOIN sessions s ON s.key = t.session WHERE t.hash > ? ORDER BY t.hash LIMIT ?";
const CONVERSATIONS: &str = "SELECT * FROM conversations WHERE id > ? ORDER BY id LIMIT ?";
const RECEIPTS: &str = "SELECT c.id AS conversation_id, m.id AS member_id, r.kind, r.seq, r.at
    FROM conversations c CROSS JOIN receipts r ON r.conversation = c.key JOIN members m ON m.key = r.member";
const RECOMMENDATIONS: &str = "SELECT r.*, m.id AS user_id FROM recommendations r JOIN members m ON m.key = r.user
    WHERE r.id > ? ORDER BY r.id LIMIT ?";
const BUDGETS: &str = "SELECT m.id, b.day, b.spent FROM members m CROSS JOIN ai_budgets b ON b.member = m.key
    WHERE m.id > ? ORDER BY m.id LIMIT ?";
const AUDIT: &str = "SELECT * FROM audit WHERE place > ? ORDER BY place LIMIT ?";
const LINKS: &str = "SELECT * FROM links WHERE hash > ? ORDER BY hash LIMIT ?";
const MAIL: &str = "SELECT * FROM mail WHERE key > ? ORDER BY key LIMIT ?";
const SECRETS: &str = "SELECT * FROM secrets WHERE name > ? ORDER BY name LIMIT ?";
const BARRED_ADDRESSES: &str = "SELECT * FROM barred_addresses WHERE hash > ? ORDER BY hash LIMIT ?";
const DEVICES: &str =
    "SELECT d.*, d.device AS name, m.id AS member_id FROM push_devices d CROSS JOIN members m ON m.key = d.member
    WHERE d.id > ? ORDER BY d.id LIMIT ?";
const CHOICES: &str = "SELECT c.*, m.id AS member_id FROM members m CROSS JOIN push_choices c ON c.member = m.key
    WHERE m.id > ? ORDER BY m.id LIMIT ?";
const JOBS: &str = "SELECT * FROM jobs WHERE key > ? ORDER BY key LIMIT ?";

/// The tables of what hangs on devices, and what tells rows of one device apart in them.
const MARKS: (&str, &str) = ("push_marks", "conversation");
const TASKS: (&str, &str) = ("push_tasks", "subject");

fn member(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row::Member(Box::new(MemberRow { record: members::record(row)?, last_seen: optional_time(row, "last_seen")? })))
}

fn session(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row::Session(SessionRow {
        id: SessionId::from_bytes(row.get("id")?),
        member: MemberId::from_bytes(row.get("member_id")?),
        created_at: time(row, "created_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        device: sessions::device(row)?,
        address: sessions::address(row, "address")?,
        last_address: sessions::address(row, "last_address")?,
        last_used_at: optional_time(row, "last_used_at")?,
        ends_at: optional_time(row, "ends_at")?,
        generation: row.get("generation")?,
        good_from: row.get("good_from")?,
        newest: row.get("newest")?,
        confirmed_at: optional_time(row, "confirmed_at")?,
        attempt: row.get("attempt")?,
        proved_at: optional_time(row, "proved_at")?,
        known_device: row.get("known_device")?,
    }))
}

fn token(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row::RefreshToken(TokenRow {
        hash: row.get("hash")?,
        session: SessionId::from_bytes(row.get("session_id")?),
        expires_at: time(row, "expires_at")?,
        used_at: optional_time(row, "used_at")?,
        attempt: row.get("attempt")?,
    }))
}

fn conversation(connection: &Connection, row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let key: i64 = row.get("key")?;
    let mut query = connection.prepare_cached(
        "SELECT m.id, p.delivered, p.read, p.notify, p.muted_until, p.archived, p.pinned, p.settings_revision
         FROM participants p JOIN members m ON m.key = p.member WHERE p.conversation = ? ORDER BY m.id",
    )?;
    let participants = query.query_map([key], |row| {
        let (member, stored) = (MemberId::from_bytes(row.get(0)?), settings::stored(row)?);
        Ok(ParticipantRow { member, delivered: row.get(1)?, read: row.get(2)?, stored })
    })?;
    Ok(Row::Conversation(ConversationRow {
        id: ConversationId::from_bytes(row.get("id")?),
        kind: kind(row)?,
        participants: participants.collect::<rusqlite::Result<_>>()?,
        last_seq: row.get("last_seq")?,
        last_at: time(row, "last_at")?,
    }))
}

/// Messages in the order of their conversations, and within them of `seq`, after one of them.
fn messages(connection: &Connection, after: Option<&Key>, limit: usize) -> rusqlite::Result<Vec<Row>> {
    let mut begun = match after {
        Some(Key::Message(conversation, seq)) => Some((*conversation, *seq)),
        _ => None,
    };
    let mut found = Vec::new();
    let mut key_of = connection.prepare_cached("SELECT key FROM conversations WHERE id = ?")?;
    let mut next = connection.prepare_cached("SELECT id FROM conversations WHERE id > ? ORDER BY id LIMIT 1")?;
    let mut between = connection.prepare_cached(history::BETWEEN)?;
    loop {
        if let Some((conversation, seq)) = begun {
            let key: Option<i64> = key_of.query_row([conversation.as_bytes()], |row| row.get(0)).optional()?;
            let room = u64::try_from(limit - found.len()).unwrap_or(history::NEVER);
            let rows = between.query_map(params![key, seq.saturating_add(room).saturating_add(1), seq], |row| {
                history::entry(row, conversation).map(Row::Message)
            })?;
            for row in rows {
                found.push(row?);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
        let before = begun.map_or(Vec::new(), |(conversation, _)| conversation.as_bytes().to_vec());
        let id: Option<[u8; 12]> = next.query_row([before], |row| row.get(0)).optional()?;
        let Some(id) = id else { return Ok(found) };
        begun = Some((ConversationId::from_bytes(id), 0));
    }
}

fn receipt(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row::Receipt(ReceiptRow {
        conversation: ConversationId::from_bytes(row.get("conversation_id")?),
        member: MemberId::from_bytes(row.get("member_id")?),
        kind: row.get("kind")?,
        seq: row.get("seq")?,
        at: time(row, "at")?,
    }))
}

/// What hangs on devices, in the order of these, after one of them: from a table, with the column that tells the rows of one device apart.
fn of_devices(
    connection: &Connection,
    (table, column): (&str, &str),
    after: Option<&Key>,
    limit: usize,
    read: impl Fn(&SqlRow<'_>) -> rusqlite::Result<Row>,
) -> rusqlite::Result<Vec<Row>> {
    let rows = format!(
        "SELECT t.*, d.device AS name, m.id AS member_id FROM push_devices d CROSS JOIN {table} t ON t.device = d.key
         CROSS JOIN members m ON m.key = d.member"
    );
    let (mut found, mut begun) = (Vec::new(), Vec::new());
    if let Some(Key::OfDevice(DeviceKey(device), last)) = after {
        let rest = format!("{rows} WHERE d.id = ? AND t.{column} > ? ORDER BY t.{column} LIMIT ?");
        found = collect(connection, &rest, params![device, last, limit], &read)?;
        begun = device.to_vec();
    }
    let next = format!("{rows} WHERE d.id > ? ORDER BY d.id, t.{column} LIMIT ?");
    let room = limit - found.len();
    found.extend(collect(connection, &next, params![begun, room], &read)?);
    Ok(found)
}

fn collect(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<Row>,
) -> rusqlite::Result<Vec<Row>> {
    connection.prepare_cached(sql)?.query_map(values, read)?.collect()
}

fn rows(connection: &Connection, part: Part, after: Option<&Key>, limit: usize) -> rusqlite::Result<Vec<Row>> {
    let after_id = match after {
        Some(Key::Id(id)) => id.to_vec(),
        Some(Key::Hash(hash)) => hash.to_vec(),
        Some(Key::Message(conversation, _) | Key::Receipt(conversation, ..)) => conversation.as_bytes().to_vec(),
        Some(Key::Device(DeviceKey(key))) => key.to_vec(),
        Some(Key::Place(_) | Key::Job(_) | Key::OfDevice(..)) | None => Vec::new(),
    };
    let one = params![after_id, limit];
    match part {
        Part::Members => collect(connection, MEMBERS, one, member),
        Part::Invitations => collect(connection, INVITATIONS, one, |row| invitations::record(row).map(Row::Invitation)),
        Part::Sessions => collect(connection, SESSIONS, one, session),
        Part::RefreshTokens => collect(connection, TOKENS, one, token),
        Part::Conversations => collect(connection, CONVERSATIONS, one, |row| conversation(connection, row)),
        Part::Recommendations => {
            let read = |row: &SqlRow<'_>| Ok(Row::Recommendation(Box::new(recommendations::record(row)?)));
            collect(connection, RECOMMENDATIONS, one, read)
        }
        Part::Budgets => {
            let read = |row: &SqlRow<'_>| Ok(Row::Budget(MemberId::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?));
            collect(connection, BUDGETS, one, read)
        }
        Part::Messages => messages(connection, after, limit),
        Part::Receipts => {
            let mut found = Vec::new();
            if let Some(Key::Receipt(_, member, kind, seq)) = after {
                let rest = format!(
                    "{RECEIPTS} WHERE c.id = ? AND (m.id, r.kind, r.seq) > (?, ?, ?) ORDER BY m.id, r.kind, r.seq LIMIT ?"
                );
                found = collect(connection, &rest, params![after_id, member.as_bytes(), kind, seq, limit], receipt)?;
            }
            let next = format!("{RECEIPTS} WHERE c.id > ? ORDER BY c.id, m.id, r.kind, r.seq LIMIT ?");
            let room = limit - found.len();
            found.extend(collect(connection, &next, params![after_id, room], receipt)?);
            Ok(found)
        }
        Part::Audit => {
            let place = if let Some(Key::Place(place)) = after { *place } else { 0 };
            let entry = |row: &SqlRow<'_>| audit::record(row).map(|(place, entry)| Row::Audit(place, entry));
            collect(connection, AUDIT, params![place, limit], entry)
        }
        Part::Jobs => {
            let key = if let Some(Key::Job(key)) = after { key.as_str() } else { "" };
            collect(connection, JOBS, params![key, limit], |row| jobs::record(row).map(Row::Job))
        }
        Part::Links => collect(connection, LINKS, one, |row| mail::link_record(row).map(Row::Link)),
        Part::Mail => {
            let key = if let Some(Key::Job(key)) = after { key.as_str() } else { "" };
            collect(connection, MAIL, params![key, limit], |row| mail::record(row).map(Row::Mail))
        }
        Part::Secrets => {
            let name = if let Some(Key::Job(name)) = after { name.as_str() } else { "" };
            let secret = |row: &SqlRow<'_>| Ok(Row::Secret(row.get("name")?, row.get("value")?));
            collect(connection, SECRETS, params![name, limit], secret)
        }
        Part::BarredAddresses => {
            collect(connection, BARRED_ADDRESSES, one, |row| row.get("hash").map(Row::BarredAddress))
        }
        Part::PushDevices => collect(connection, DEVICES, one, |row| Ok(Row::PushDevice(Box::new(push::record(row)?)))),
        Part::PushMarks => of_devices(connection, MARKS, after, limit, |row| push::mark(row).map(Row::PushMark)),
        Part::PushTasks => {
            of_devices(connection, TASKS, after, limit, |row| Ok(Row::PushTask(Box::new(push::task(row)?))))
        }
        Part::PushChoices => collect(connection, CHOICES, one, |row| {
            push::choice_record(row).map(|(member, choice)| Row::PushChoice(member, choice))
        }),
    }
}

fn last_key(connection: &Connection, part: Part) -> rusqlite::Result<Option<Key>> {
    let id = |sql: &str| {
        let found: Option<[u8; 12]> = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(found.map(Key::Id))
    };
    match part {
        Part::Members => id("SELECT max(id) FROM members"),
        Part::Invitations => id("SELECT max(id) FROM invitations"),
        Part::Sessions => id("SELECT max(id) FROM sessions"),
        Part::Conversations => id("SELECT max(id) FROM conversations"),
        Part::Recommendations => id("SELECT max(id) FROM recommendations"),
        Part::Budgets => id("SELECT max(m.id) FROM ai_budgets b JOIN members m ON m.key = b.member"),
        Part::PushChoices => id("SELECT max(m.id) FROM push_choices c JOIN members m ON m.key = c.member"),
        Part::PushDevices => {
            let found: Option<[u8; 16]> =
                connection.query_row("SELECT max(id) FROM push_devices", [], |row| row.get(0))?;
            Ok(found.map(|key| Key::Device(DeviceKey(key))))
        }
        Part::PushMarks => last_of_devices(connection, MARKS),
        Part::PushTasks => last_of_devices(connection, TASKS),
        Part::RefreshTokens | Part::Links | Part::BarredAddresses => {
            let sql = format!("SELECT max(hash) FROM {}", table(part));
            let found: Option<[u8; 32]> = connection.query_row(&sql, [], |row| row.get(0))?;
            Ok(found.map(Key::Hash))
        }
        Part::Messages => {
            let last = "SELECT c.id, e.seq FROM conversations c CROSS JOIN entries e ON e.position = c.newest
                ORDER BY c.id DESC LIMIT 1";
            let key = |row: &SqlRow<'_>| Ok(Key::Message(ConversationId::from_bytes(row.get(0)?), row.get(1)?));
            connection.query_row(last, [], key).optional()
        }
        Part::Receipts => {
            let last = format!("{RECEIPTS} ORDER BY c.id DESC, m.id DESC, r.kind DESC, r.seq DESC LIMIT 1");
            Ok(connection.query_row(&last, [], receipt).optional()?.map(|row| row.key()))
        }
        Part::Audit => {
            let found: Option<u64> = connection.query_row("SELECT max(place) FROM audit", [], |row| row.get(0))?;
            Ok(found.map(Key::Place))
        }
        Part::Jobs | Part::Mail | Part::Secrets => {
            let name = if part == Part::Secrets { "name" } else { "key" };
            let sql = format!("SELECT max({name}) FROM {}", table(part));
            let found: Option<String> = connection.query_row(&sql, [], |row| row.get(0))?;
            Ok(found.map(Key::Job))
        }
    }
}

fn last_of_devices(connection: &Connection, (table, column): (&str, &str)) -> rusqlite::Result<Option<Key>> {
    let last = format!(
        "SELECT d.id, t.{column} FROM push_devices d CROSS JOIN {table} t ON t.device = d.key
         ORDER BY d.id DESC, t.{column} DESC LIMIT 1"
    );
    let key = |row: &SqlRow<'_>| Ok(Key::OfDevice(DeviceKey(row.get(0)?), row.get(1)?));
    connection.query_row(&last, [], key).optional()
}

fn insert(tx: &mut Tx<'_>, row: Row) -> rusqlite::Result<()> {
    let execute = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        tx.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values))
    };
    match row {
        Row::Member(row) => return members::restore(tx, &row.record, row.last_seen),
        Row::Invitation(record) => return invitations::insert(tx.connection, &record),
        Row::Session(row) => execute(
            "INSERT INTO sessions (id, member, created_at, revoked_at, device_name, device_platform, address, last_address,
                 last_used_at, ends_at, generation, good_from, newest, confirmed_at, attempt, proved_at,
                 known_device)
             SELECT ?, key, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM members WHERE id = ? ON CONFLICT DO NOTHING",
            params![
                row.id.as_bytes(),
                row.created_at.as_millis(),
                row.revoked_at.map(Timestamp::as_millis),
                row.device.name,
                row.device.platform.map(platform_word),
                row.address.map(|address| address.to_string()),
                row.last_address.map(|address| address.to_string()),
                row.last_used_at.map(Timestamp::as_millis),
                row.ends_at.map(Timestamp::as_millis),
                row.generation,
                row.good_from,
                row.newest,
                row.confirmed_at.map(Timestamp::as_millis),
                row.attempt,
                row.proved_at.map(Timestamp::as_millis),
                row.known_device,
                row.member.as_bytes(),
            ],
        )?,
        Row::RefreshToken(TokenRow { hash, session, expires_at, used_at, attempt }) => execute(
            "INSERT INTO refresh_tokens (hash, session, expires_at, used_at, attempt)
             SELECT ?, key, ?, ?, ? FROM sessions WHERE id = ? ON CONFLICT DO NOTHING",
            params![hash, expires_at.as_millis(), used_at.map(Timestamp::as_millis), attempt, session.as_bytes()],
        )?,
        Row::Conversation(ConversationRow { id, participants, last_seq, last_at, .. }) => {
            let inserted = execute(
                "INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed)
                 VALUES (?, 'direct', ?, ?, 0, 0) ON CONFLICT DO NOTHING",
                params![id.as_bytes(), last_seq, last_at.as_millis()],
            )?;
            for ParticipantRow { member, delivered, read, stored: StoredSettings { settings, revision } } in participants {
                execute(
                    "INSERT INTO participants
                         (conversation, member, delivered, read, notify, muted_until, archived, pinned, settings_revision)
                     SELECT c.key, m.key, ?, ?, ?, ?, ?, ?, ? FROM conversations c, members m WHERE c.id = ? AND m.id = ?
                     ON CONFLICT DO NOTHING",
                    params![
                        delivered,
                        read,
                        settings.notify.as_str(),
                        settings.muted_until.map(Timestamp::as_millis),
                        settings.archived,
                        settings.pinned,
                        revision,
                        id.as_bytes(),
                        member.as_bytes()
                    ],
                )?;
            }
            inserted
        }
        Row::Message(message) => return insert_message(tx, &message),
        Row::Receipt(ReceiptRow { conversation, member, kind, seq, at }) => execute(
            "INSERT INTO receipts (conversation, member, kind, seq, at)
             SELECT c.key, m.key, ?, ?, ? FROM conversations c, members m WHERE c.id = ? AND m.id = ?
             ON CONFLICT DO NOTHING",
            params![kind, seq, at.as_millis(), conversation.as_bytes(), member.as_bytes()],
        )?,
        Row::Recommendation(record) => return recommendations::restore(tx.connection, &record),
        Row::Budget(member, day, spent) => execute(
            "INSERT INTO ai_budgets (member, day, spent) SELECT key, ?, ? FROM members WHERE id = ?
             ON CONFLICT DO NOTHING",
            params![day, spent, member.as_bytes()],
        )?,
        Row::Audit(place, entry) => return audit::restore(tx.connection, place, &entry),
        Row::Job(row) => return jobs::restore(tx.connection, &row),
        Row::Link(row) => return mail::write_link(tx.connection, &row),
        Row::Mail(row) => return mail::restore(tx.connection, &row),
        Row::Secret(name, value) => return addresses::restore_secret(tx.connection, &name, &value),
        Row::PushDevice(record) => return push::restore(tx.connection, &record),
        Row::PushMark(mark) => return push::acknowledge(tx.connection, &mark),
        Row::PushTask(stored) => return push::restore_task(tx.connection, &stored),
        Row::PushChoice(member, choice) => return push::choose(tx.connection, member, &choice),
        Row::BarredAddress(hash) => {
            execute("INSERT INTO barred_addresses (hash) VALUES (?) ON CONFLICT DO NOTHING", params![hash])?
        }
    };
    Ok(())
}

/// Appends a message of another store to its log, unless it is there. They come in the order of `seq`.
fn insert_message(tx: &mut Tx<'_>, message: &StoredEntry) -> rusqlite::Result<()> {
    let mut log = tx.connection.prepare_cached(
        "SELECT c.key, c.newest, c.tally, m.key FROM conversations c, members m WHERE c.id = ? AND m.id = ?",
    )?;
    let found = log
        .query_row([message.conversation.as_bytes(), message.sender.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<u64>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((conversation, newest, tally, sender)) = found else { return Ok(()) };
    let hashing = tx.memory.keys.hashing;
    let client = hashing.client_id(conversation, sender, message.client_id);
    let (known, id) = (tx.memory.keys.find(tx.connection, client)?, message.id);
    if history::message(tx.connection, id, &known)?.is_some() {
        return Ok(());
    }
    let (position, tally) = (tx.memory.position + 1, tally::add(tally.as_deref(), sender)?);
    let indexed = message.seq.is_multiple_of(history::INDEXED).then(|| tally.clone());
    log::insert(
        tx.connection,
        position,
        message,
        &log::Links { conversation, sender, previous: newest, tally: indexed },
    )?;
    tx.memory.position = position;
    tx.memory.keys.insert(position, client, hashing.message(id));
    let mut update = tx.connection.prepare_cached("UPDATE conversations SET newest = ?, tally = ? WHERE key = ?")?;
    update.execute(params![position, tally, conversation]).map(drop)
}

fn begin(connection: &Connection, source: StoreId) -> rusqlite::Result<Option<bool>> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS copying (source BLOB NOT NULL)")?;
    let from: Option<[u8; 8]> = connection.query_row("SELECT source FROM copying", [], |row| row.get(0)).optional()?;
    if let Some(from) = from {
        return Ok((from == source.0).then_some(true));
    }
    let has_data: bool =
        connection
            .query_row("SELECT EXISTS (SELECT 1 FROM members) OR EXISTS (SELECT 1 FROM audit)", [], |row| row.get(0))?;
    if has_data {
        connection.execute_batch("DROP TABLE copying")?;
        return Ok(None);
    }
    connection.execute("INSERT INTO copying VALUES (?)", [source.0])?;
    Ok(Some(false))
}

/// The order of the list follows from positions, and those of another store from nothing here but the times.
fn finish(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    let changed = tx.connection.execute(
        "UPDATE conversations SET last_position = ?1 + ranked.place, changed = ?1 + ranked.place
         FROM (SELECT key, row_number() OVER (ORDER BY last_at, id) AS place FROM conversations) AS ranked
         WHERE ranked.key = conversations.key",
        [tx.memory.position],
    )?;
    tx.memory.position += u64::try_from(changed).unwrap_or(0);
    // Of what was stored in the other store there are tasks.
    push::reach(tx.connection, tx.memory.position)?;
    tx.connection.execute_batch("DROP TABLE IF EXISTS copying")
}

#[async_trait]
impl Archive for Sqlite {
    async fn count(&self, part: Part) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {}", table(part));
        self.read_log(Turn::HEAVY_SYSTEM, move |connection| connection.query_row(&sql, [], |row| row.get(0))).await
    }

    async fn rows(&self, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.read_log(Turn::HEAVY_SYSTEM, move |connection| rows(connection, part, after.as_ref(), limit)).await
    }

    async fn last_key(&self, part: Part) -> Result<Option<Key>, StoreError> {
        self.read_log(Turn::HEAVY_SYSTEM, move |connection| last_key(connection, part)).await
    }

    async fn begin_copy(&self, source: StoreId) -> Result<Option<bool>, StoreError> {
        self.write(move |tx| begin(tx.connection, source)).await
    }

    async fn insert_rows(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.write(move |tx| {
            // What is inserted here are rows: none may be behind the log.
            tx.memory.flush(tx.connection)?;
            rows.into_iter().try_for_each(|row| insert(tx, row))
        })
        .await
    }

    async fn finish_copy(&self) -> Result<(), StoreError> {
        self.write(finish).await
    }
}
