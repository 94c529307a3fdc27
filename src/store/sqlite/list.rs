//! The list of a member's conversations, page by page.

use protocol::MemberId;
use rusqlite::Connection;

use super::{
    conversations::{ConversationRow, ids_of, rows},
    history,
};
use crate::{
    position::Position,
    store::{
        conversations::ConversationPage,
        lists::{Choice, LIST_LOOKED, ListFilter},
        pages::List,
    },
};

/// A page of the conversations that a filter lets through, from `before` on.
pub(super) fn list(
    connection: &Connection,
    member: MemberId,
    filter: ListFilter,
    before: Option<Position>,
    limit: usize,
) -> rusqlite::Result<ConversationPage> {
    let before = before.map_or(history::NEVER, |Position(before)| before.min(history::NEVER));
    let (chosen, stopped) = match filter.unread {
        None => (rows(connection, member, (0, before), filter, limit + 1)?, None),
        Some(unread) => choose(connection, member, filter, before, (limit, Choice::new(unread, limit)))?.into_chosen(),
    };
    let (mut list, mut ids) = (List::default(), ids_of(&chosen, member));
    for row in chosen.iter().take(limit) {
        if !list.push(row.complete(connection, &mut ids, 0, 1)?) {
            break;
        }
    }
    let places: Vec<_> = chosen.iter().map(place_of).collect();
    Ok(list.into_page(&places, stopped))
}

/// Chooses by what is unread. The first part that is read is what a page has if all fit; SQLite sorts what it reads.
fn choose(
    connection: &Connection,
    member: MemberId,
    filter: ListFilter,
    mut before: u64,
    (limit, mut choice): (usize, Choice<ConversationRow>),
) -> rusqlite::Result<Choice<ConversationRow>> {
    let mut most = limit + 1;
    loop {
        let found = rows(connection, member, (0, before), filter, most)?;
        let are_there_more = found.len() == most;
        for row in found {
            if !choice.goes_on() {
                return Ok(choice);
            }
            before = row.last_position;
            choice.look(place_of(&row), row.has_unread(connection)?, row);
        }
        if !are_there_more {
            return Ok(choice);
        }
        most = (most * 4).min(LIST_LOOKED + 1);
    }
}

/// The place of a conversation in the list.
const fn place_of(row: &ConversationRow) -> Position {
    Position(row.last_position)
}
