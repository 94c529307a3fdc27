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
    let found = |most: usize| rows(connection, member, (0, before), filter, most + 1);
    let (chosen, stopped) = match filter.unread {
        None => (found(limit)?, None),
        Some(unread) => choose(connection, found(LIST_LOOKED)?, Choice::new(unread, limit))?.into_chosen(),
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

/// Chooses by what is unread.
fn choose(
    connection: &Connection,
    found: Vec<ConversationRow>,
    mut choice: Choice<ConversationRow>,
) -> rusqlite::Result<Choice<ConversationRow>> {
    for row in found {
        if !choice.goes_on() {
            break;
        }
        choice.look(place_of(&row), row.has_unread(connection)?, row);
    }
    Ok(choice)
}

/// The place of a conversation in the list.
const fn place_of(row: &ConversationRow) -> Position {
    Position(row.last_position)
}
