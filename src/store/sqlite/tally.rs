//! How many entries of a conversation each participant has sent, up to one of its entries.
//!
//! A conversation has the tally of its newest entry, and so has every entry that the index knows. What a member has not
//! read follows from two of them and at most 31 entries between, however much it is, whoever wrote it, and in
//! conversations of any number of members. It costs no write of its own: both rows are written anyway.
//!
//! The form: for each participant who has sent something their key and the number, as LEB128.

use super::row::inconsistent;

/// Writes a tally.
pub(super) fn encode(sent: impl Iterator<Item = (i64, u64)>) -> Vec<u8> {
    let mut tally = Vec::with_capacity(16);
    for (key, sent) in sent.filter(|(_, sent)| *sent > 0) {
        // Keys are row ids from 1 on.
        put(&mut tally, key.unsigned_abs());
        put(&mut tally, sent);
    }
    tally
}

/// How many entries a member has sent. Without a tally there are no entries.
pub(super) fn of(tally: Option<&[u8]>, member: i64) -> rusqlite::Result<u64> {
    let mut rest = tally.unwrap_or_default();
    while !rest.is_empty() {
        let (key, sent) = (take(&mut rest)?, take(&mut rest)?);
        if key == member.unsigned_abs() {
            return Ok(sent);
        }
    }
    Ok(0)
}

/// A tally with one more entry of a member.
pub(super) fn add(tally: Option<&[u8]>, member: i64) -> rusqlite::Result<Vec<u8>> {
    let mut rest = tally.unwrap_or_default();
    let mut sent = Vec::new();
    while !rest.is_empty() {
        sent.push((i64::try_from(take(&mut rest)?).unwrap_or(i64::MAX), take(&mut rest)?));
    }
    match sent.iter_mut().find(|(key, _)| *key == member) {
        Some((_, sent)) => *sent += 1,
        None => sent.push((member, 1)),
    }
    Ok(encode(sent.into_iter()))
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    loop {
        // The lowest seven bits.
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            to.push(low & 0x7f);
            return;
        }
        to.push(low | 0x80);
    }
}

fn take(from: &mut &[u8]) -> rusqlite::Result<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let Some((&byte, rest)) = from.split_first() else { break };
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(inconsistent("a tally is cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tally = encode([(1, 0), (127, 128), (i64::MAX, u64::MAX), (2, 1)].into_iter());
        let sent = |member| of(Some(&tally), member).unwrap();
        assert_eq!([1, 127, i64::MAX, 2, 3].map(sent), [0, 128, u64::MAX, 1, 0]);
        assert_eq!(of(None, 1).unwrap(), 0);
        assert!(of(Some(&tally[..tally.len() - 1]), 2).is_err(), "cut off");
    }

    #[test]
    fn adding_counts_one_more() {
        let mut tally = None;
        for member in [7, 300, 7, 7] {
            tally = Some(add(tally.as_deref(), member).unwrap());
        }
        assert_eq!((of(tally.as_deref(), 7).unwrap(), of(tally.as_deref(), 300).unwrap()), (3, 1));
    }
}
