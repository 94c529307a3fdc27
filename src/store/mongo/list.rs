//! The list of a member's conversations, page by page.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::bson::{Bson, Document, doc};
use protocol::MemberId;

use super::{
    Core,
    conversations::{complete, in_order, place_of},
    db::Db,
    document::{ConversationDoc, member_oid},
    fault::Fault,
    turns::PARALLEL,
    unread::{Counts, range_of},
};
use crate::{
    position::Position,
    store::{
        conversations::ConversationPage,
        lists::{Choice, ListFilter},
        pages::List,
    },
};

/// A page of the conversations that a filter lets through, from `before` on.
pub(super) async fn list(
    core: &Core,
    db: &Db,
    member: MemberId,
    filter: ListFilter,
    before: Option<Position>,
    limit: usize,
) -> Result<ConversationPage, Fault> {
    let counts = Counts::begin(core, db);
    let mut found = in_order(db, with_settings(member, filter)).await?;
    if let Some(Position(before)) = before {
        found.retain(|conversation| place_of(conversation) < before);
    }
    if filter.wants_unread() {
        // The others need no look.
        found.retain(|conversation| {
            let (read, last) = range_of(conversation, member);
            read < last
        });
    }
    let (mut chosen, stopped) = match filter.unread {
        None => (found, None),
        Some(unread) => choose(&counts, member, found, Choice::new(unread, limit)).await?.into_chosen(),
    };
    let places: Vec<_> = chosen.iter().map(|conversation| Position(place_of(conversation))).collect();
    chosen.truncate(limit);
    let completed: Vec<_> = chosen.into_iter().map(|document| complete(&counts, member, document, None, 1)).collect();
    let mut completed = stream::iter(completed).buffered(PARALLEL);
    let mut list = List::default();
    while let Some(conversation) = completed.try_next().await? {
        if !list.push(conversation) {
            break;
        }
    }
    Ok(list.into_page(&places, stopped))
}

/// The conversations of a member with the settings that are wanted: found by the index over who is in them, and no others are read.
fn with_settings(member: MemberId, filter: ListFilter) -> Document {
    let member = member_oid(member);
    // Not there if not.
    let value = |wanted: bool| if wanted { Bson::Boolean(true) } else { doc! { "$ne": true }.into() };
    let mut own = Document::new();
    own.extend(filter.archived.map(|wanted| ("settings.archived".to_owned(), value(wanted))));
    own.extend(filter.pinned.map(|wanted| ("settings.pinned".to_owned(), value(wanted))));
    let mut wanted = doc! { "participants.member_id": member };
    if !own.is_empty() {
        own.insert("member_id", member);
        wanted.insert("participants", doc! { "$elemMatch": own });
    }
    wanted
}

/// Chooses by what is unread.
async fn choose(
    counts: &Counts<'_>,
    member: MemberId,
    found: Vec<ConversationDoc>,
    mut choice: Choice<ConversationDoc>,
) -> Result<Choice<ConversationDoc>, Fault> {
    let places: Vec<_> = found.iter().map(|conversation| Position(place_of(conversation))).collect();
    let looked = found.into_iter().map(|document| async move {
        let has_unread = counts.any(&document, member).await?;
        Ok::<_, Fault>((document, has_unread))
    });
    let mut looked = stream::iter(looked.collect::<Vec<_>>()).buffered(PARALLEL);
    for place in places {
        if !choice.goes_on() {
            break;
        }
        let Some((document, has_unread)) = looked.try_next().await? else { break };
        choice.look(place, has_unread, document);
    }
    Ok(choice)
}
