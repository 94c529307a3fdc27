//! Runs: keys in order, in pages that a key leads to directly.

use protocol::{ClientMessageId, MessageId};
use rusqlite::{Connection, params};

use super::{super::row::inconsistent, Hashing, Key, filter::Filter};

/// Bytes of a key in a page: its hash, and six of the position.
const KEY: usize = 14;
/// Keys of a page, when it is as full as it may be: it stays within a page of the file.
const PER_PAGE: usize = 240;
/// Entries of a run that is made of a file of before, and its level.
const OLD: usize = 524_288;
/// See [`OLD`].
const LEVEL_OF_OLD: u8 = 1;

/// Where the pages of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub(super) number: u32,
    pub(super) bits: u8,
}

impl Place {
    /// The place of a run of so many keys.
    pub(super) fn for_keys(number: u32, keys: usize) -> Self {
        let pages = keys.div_ceil(PER_PAGE).next_power_of_two();
        Self { number, bits: u8::try_from(pages.trailing_zeros()).unwrap_or(u8::MAX).min(31) }
    }

    /// The page of a key, as a row of `key_pages`.
    pub(super) fn page(self, Key(hash): Key) -> i64 {
        self.at(hash.checked_shr(64 - u32::from(self.bits)).unwrap_or(0))
    }

    /// The page of this number within the run.
    pub(super) fn at(self, page: u64) -> i64 {
        (i64::from(self.number) << 32) | i64::try_from(page).unwrap_or(0)
    }
}

/// A run, as the writer knows it.
pub(in super::super) struct Run {
    pub(super) place: Place,
    pub(super) level: u8,
    pub(super) until: u64,
    pub(super) clients: usize,
    /// None: it is too large to be kept.
    pub(super) filter: Option<Filter>,
}

/// Reads a page of keys. It is there: it has 120 keys on average, or is the only one of its run. If not, ids could be taken for
/// new ones.
pub(super) fn with_page(
    connection: &Connection,
    page: i64,
    take: impl FnOnce(&mut dyn Iterator<Item = (Key, u64)>),
) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached("SELECT keys FROM key_pages WHERE page = ?")?;
    let mut rows = query.query([page])?;
    let row = rows.next()?.ok_or_else(|| inconsistent("a page of a run of keys is missing"))?;
    take(&mut decode(row.get_ref(0)?.as_blob()?));
    Ok(())
}

impl Run {
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Adds positions that a key leads to.
    pub(super) fn find(&self, connection: &Connection, key: Key, found: &mut Vec<u64>) -> rusqlite::Result<()> {
        if key.is_of_client() && self.filter.as_ref().is_some_and(|filter| !filter.may_have(key)) {
            return Ok(());
        }
        let position = |(of, position)| (of == key).then_some(position);
        with_page(connection, self.place.page(key), |keys| found.extend(keys.filter_map(position)))
    }

    /// Writes what is to be known of it.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { place: Place { number, bits }, level, until, clients, filter } = self;
        let filter = filter.as_ref().map(Filter::to_bytes).unwrap_or_default();
        connection
            .prepare_cached(
                "INSERT INTO key_runs (number, level, bits, until, clients, filter) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![number, level, bits, until, clients, filter])
            .map(drop)
    }
}

/// The runs that there are, the oldest first.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<Run>> {
    let mut query = connection.prepare("SELECT * FROM key_runs ORDER BY until, number")?;
    let rows = query.query_map([], |row| {
        Ok(Run {
            place: Place { number: row.get("number")?, bits: row.get("bits")? },
            level: row.get("level")?,
            until: row.get("until")?,
            clients: row.get("clients")?,
            filter: Some(Filter::from_bytes(row.get_ref("filter")?.as_blob()?)),
        })
    })?;
    rows.collect()
}

/// Gives up filters, the largest first, until the others fit.
pub(super) fn fit(runs: &mut [Run], most: usize) {
    let size = |run: &Run| run.filter.as_ref().map_or(0, Filter::size);
    while runs.iter().map(size).sum::<usize>() > most {
        let Some(largest) = runs.iter_mut().max_by_key(|run| size(run)) else { return };
        largest.filter = None;
    }
}

/// Keys of a page, as they are stored.
pub(super) fn encode(keys: &[(Key, u64)]) -> Vec<u8> {
    let mut page = Vec::with_capacity(keys.len() * KEY);
    for (Key(hash), position) in keys {
        page.extend_from_slice(&hash.to_le_bytes());
        page.extend(position.to_le_bytes().iter().take(KEY - 8));
    }
    page
}

/// Keys of a page.
pub(super) fn decode(page: &[u8]) -> impl Iterator<Item = (Key, u64)> {
    page.chunks_exact(KEY).filter_map(|key| {
        let (hash, position) = key.split_first_chunk::<8>()?;
        let [a, b, c, d, e, f] = *<&[u8; KEY - 8]>::try_from(position).ok()?;
        Some((Key(u64::from_le_bytes(*hash)), u64::from_le_bytes([a, b, c, d, e, f, 0, 0])))
    })
}

/// The keys of entries after a position, in their order.
pub(super) fn each_entry(
    connection: &Connection,
    hashing: Hashing,
    position: u64,
    mut with: impl FnMut(u64, [Key; 2]) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut entries = connection.prepare(
        "SELECT position, conversation, sender, client_id, id FROM entries WHERE position > ? ORDER BY position",
    )?;
    let mut rows = entries.query([position])?;
    while let Some(row) = rows.next()? {
        let client = hashing.client_id(row.get(1)?, row.get(2)?, ClientMessageId::from_bytes(row.get(3)?));
        with(row.get(0)?, [client, hashing.message(MessageId::from_bytes(row.get(4)?))])?;
    }
    Ok(())
}

/// Makes runs of all entries that there are, in place of those of a former version.
pub(in super::super) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    let (mut keys, mut number, mut last) = (Vec::new(), 0, 0);
    connection.execute_batch("DELETE FROM key_runs; DELETE FROM key_pages;")?;
    each_entry(connection, Hashing::of(connection)?, 0, |position, [client, message]| {
        keys.extend([(client, position), (message, position)]);
        last = position;
        if keys.len() >= 2 * OLD {
            number += 1;
            write(connection, &mut keys, number, last)?;
        }
        Ok(())
    })?;
    if keys.is_empty() { Ok(()) } else { write(connection, &mut keys, number + 1, last) }
}

fn write(connection: &Connection, keys: &mut Vec<(Key, u64)>, number: u32, until: u64) -> rusqlite::Result<()> {
    keys.sort_unstable();
    let mut insert = connection.prepare_cached("INSERT INTO key_pages VALUES (?, ?)")?;
    let (run, pages) = build(keys, number, LEVEL_OF_OLD, until);
    for (page, keys) in pages {
        insert.execute(params![page, keys])?;
    }
    keys.clear();
    run.insert(connection)
}

/// A run of sorted keys, and its pages.
pub(super) fn build(
    keys: &[(Key, u64)],
    number: u32,
    level: u8,
    until: u64,
) -> (Run, impl Iterator<Item = (i64, Vec<u8>)>) {
    let place = Place::for_keys(number, keys.len());
    let of_clients = || keys.iter().map(|(key, _)| *key).filter(|key| key.is_of_client());
    let clients = of_clients().count();
    let mut filter = Filter::new(clients);
    of_clients().for_each(|key| filter.insert(key));
    (Run { place, level, until, clients, filter: Some(filter) }, pages(place, keys))
}

/// The pages of sorted keys.
pub(super) fn pages(place: Place, keys: &[(Key, u64)]) -> impl Iterator<Item = (i64, Vec<u8>)> {
    let same_page = move |(one, _): &(Key, u64), (other, _): &(Key, u64)| place.page(*one) == place.page(*other);
    keys.chunk_by(same_page).filter_map(move |keys| Some((place.page(keys.first()?.0), encode(keys))))
}
