//! The sync after hello, part by part.
//!
//! A sync is a list of conversations, those with the newest entry first, that is read from the store in parts, because a
//! slow client takes minutes for it. Each part has a cursor: a client that is cut off goes on below what it has got.
//!
//! While the list is read the world goes on, and a conversation that changes moves to its top, past the place where the
//! reading is. So a list that took more than one part, or that was begun on an earlier connection, is followed by another
//! round: what changed since the snapshot in which the list was begun. The last round is one part, read after the moment
//! from which events are queued for the connection; then nothing is missing.

use std::collections::HashMap;

use protocol::{ConversationId, ErrorCode, MemberId, limits, model::Conversation};

use super::{cursor::Partial, messaging::Messaging, views};
use crate::{
    failure::Failure,
    position::StreamPosition,
    store::{
        conversations::ConversationState,
        sync::{Delta, SyncPart},
    },
};

/// Conversations of which a sync remembers what it has sent: 20 bytes each.
const SENT_MAX: usize = 2_000;

/// Where a sync starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the full state: there is no cursor.
    Full,
    /// With the full state: the cursor was not made here for this member, or the store has gone back behind it.
    Reset,
    /// With what changed after a place.
    Since(StreamPosition),
    /// Within a list that was begun on an earlier connection.
    Within(Partial),
}

/// A sync that is under way.
pub struct CatchUp {
    member: MemberId,
    round: Round,
    /// Whether there are conversations that the full state had no room for.
    more: bool,
    /// The newest entry of each conversation that was sent on this connection, of [`SENT_MAX`] at most: a later round brings
    /// only what came after it, so that rounds get shorter even on a slow link.
    sent: HashMap<ConversationId, u64>,
    /// Whether what the client has may have vanished.
    reset: bool,
    /// Whether the full state was begun because what a cursor asked for was too much.
    fell_back: bool,
}

/// One walk down the list.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Where the walk is, once its first part was read.
    place: Option<Partial>,
    /// What it starts with: what changed after this position, or the full state.
    since: Option<StreamPosition>,
    /// Entries that there is still room for.
    entries: usize,
    /// Whether everything up to now was read in one snapshot.
    whole: bool,
}

impl Round {
    fn first(since: Option<StreamPosition>) -> Self {
        Self { place: None, since, entries: limits::SYNC_ENTRIES_TOTAL, whole: true }
    }

    fn at(place: Partial) -> Self {
        Self { place: Some(place), since: None, entries: limits::SYNC_ENTRIES_TOTAL, whole: false }
    }
}

/// A part of a sync.
pub struct Part {
    /// The conversations.
    pub conversations: Vec<Conversation>,
    /// For each, where a sync goes on that has got it and those before it.
    pub places: Vec<Partial>,
    /// Whether the list is at its end.
    pub ends_round: bool,
}

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Everything up to here was sent.
    pub place: StreamPosition,
    /// Whether it was the full state.
    pub full: bool,
    /// Whether there are conversations that the full state had no room for.
    pub more: bool,
    /// Whether the store has gone back behind what the client had.
    pub reset: bool,
}

impl CatchUp {
    /// A sync of a member.
    #[must_use]
    pub fn new(member: MemberId, start: Start) -> Self {
        let round = match start {
            Start::Full | Start::Reset => Round::first(None),
            Start::Since(place) => Round::first(Some(place)),
            Start::Within(place) => Round::at(place),
        };
        let (reset, more) = match start {
            Start::Full | Start::Since(_) => (false, false),
            Start::Reset => (true, false),
            Start::Within(place) => (place.reset, place.more),
        };
        Self { member, round, more, fell_back: false, reset, sent: HashMap::new() }
    }

    /// The next part of the list.
    ///
    /// # Errors
    /// The store.
    pub async fn next(&mut self, messaging: &Messaging) -> Result<Part, Failure> {
        let member = self.member;
        let part = match self.round.place {
            None => messaging.delta(member, self.round.since).await?,
            Some(place) => messaging.delta_below(member, part_after(&place, self.round.entries)).await?,
        };
        let usable = match (part, self.round.place) {
            // What this connection was sent may have vanished, and the client could not tell that from what comes now: it comes
            // back, and hears of a reset.
            (None, _) if !self.sent.is_empty() => return Err(ErrorCode::Unavailable.into()),
            (None, _) => {
                self.reset = true;
                None
            }
            (Some(part), None) => Some(part),
            (Some(rest), Some(place)) => self.usable(place, rest),
        };
        let changes = match usable {
            Some(changes) => changes,
            None => {
                (self.fell_back, self.more) = (true, false);
                self.round = Round::first(None);
                // The full state is good in any state of the store.
                messaging.delta(member, None).await?.ok_or(ErrorCode::Internal)?
            }
        };
        Ok(self.take(changes))
    }

    /// Begins the next round: what changed since the list was begun.
    pub fn again(&mut self) {
        if let Some(place) = self.round.place {
            self.round = Round::at(Partial { changed: Some(place.begun), begun: place.begun, below: None, ..place });
            // What it reads first is a snapshot of its own.
            self.round.whole = true;
        }
    }

    /// How it ended, if everything is sent that was there when the last round was read.
    #[must_use]
    pub fn done(&self) -> Option<Done> {
        let place = self.round.place.filter(|_| self.round.whole)?;
        Some(Done { place: place.start(), full: place.since.is_none(), more: self.more, reset: self.reset })
    }

    /// What of a part can be sent; nothing if the sync has to begin anew with the full state, because more has changed than
    /// a sync of changes may have.
    fn usable(&self, place: Partial, rest: Delta) -> Option<Delta> {
        if rest.more && place.changed.is_some() {
            // A sync ends with a cursor that what it had no room for must not lie behind. So it goes on below.
            return self.fell_back.then_some(Delta { more: false, partial: true, ..rest });
        }
        Some(rest)
    }

    fn leave_out_what_was_sent(&mut self, conversation: &mut ConversationState) {
        if let Some(sent) = self.sent.get(&conversation.id) {
            conversation.entries.retain(|entry| entry.seq > *sent);
        }
        if self.sent.len() < SENT_MAX || self.sent.contains_key(&conversation.id) {
            self.sent.insert(conversation.id, conversation.last_seq);
        }
    }

    fn take(&mut self, changes: Delta) -> Part {
        let Delta { mut conversations, places, epoch, position, full, more, partial } = changes;
        conversations.iter_mut().for_each(|conversation| self.leave_out_what_was_sent(conversation));
        let mut place = match self.round.place {
            // A round begins with the snapshot of its first part.
            Some(place) if place.below.is_none() => Partial { epoch, begun: position, ..place },
            Some(place) => place,
            None => {
                let since = self.round.since.filter(|_| !full).map(|since| since.position);
                let (reset, more) = (self.reset, false);
                Partial { epoch, since, changed: since, begun: position, below: None, listed: 0, reset, more }
            }
        };
        self.round.whole &= !partial;
        self.more |= more;
        place.more = self.more;
        let mut after = Vec::with_capacity(places.len());
        for below in places {
            place.below = Some(below);
            place.listed = place.listed.saturating_add(1);
            after.push(place);
        }
        let entries: usize = conversations.iter().map(|conversation| conversation.entries.len()).sum();
        self.round.entries = self.round.entries.saturating_sub(entries);
        self.round.place = Some(place);
        let conversations = conversations.into_iter().map(views::conversation).collect();
        Part { conversations, places: after, ends_round: !partial }
    }
}

/// The part of the list that comes after a place.
fn part_after(place: &Partial, entries: usize) -> SyncPart {
    let first = SyncPart::first(place.start(), place.since);
    let conversations = if place.changed.is_none() {
        limits::SYNC_FULL_CONVERSATIONS.saturating_sub(place.listed.into())
    } else {
        limits::SYNC_CHANGED_CONVERSATIONS
    };
    SyncPart { changed: place.changed, below: place.below, conversations, entries, ..first }
}

#[cfg(test)]
mod tests {
    use protocol::{
        ClientMessageId, MessageId, Timestamp,
        model::{ConversationKind, Entry},
    };

    use super::*;
    use crate::{
        position::{Epoch, Position},
        store::{
            conversations::{StoredSettings, UnreadCount},
            entries::{EntryBody, StoredEntry},
        },
    };

    fn conversation(seqs: std::ops::RangeInclusive<u64>) -> ConversationState {
        let (id, at) = (ConversationId::from_bytes([1; 12]), Timestamp::from_millis(0));
        let message = |seq| StoredEntry {
            id: MessageId::from_bytes([1; 12]),
            conversation: id,
            seq,
            sender: MemberId::from_bytes([2; 12]),
            client_id: ClientMessageId::from_bytes([1; 16]),
            at,
            body: EntryBody::Text("x".to_owned()),
            reply_to: None,
        };
        ConversationState {
            id,
            kind: ConversationKind::Direct,
            members: Vec::new(),
            last_seq: *seqs.end(),
            unread: UnreadCount::default(),
            last_at: at,
            settings: StoredSettings::default(),
            entries: seqs.map(message).collect(),
        }
    }

    fn changes(position: u64, seqs: std::ops::RangeInclusive<u64>, partial: bool) -> Delta {
        let place = StreamPosition { epoch: Epoch([1; 8]), position: Position(position) };
        let conversations = vec![conversation(seqs)];
        Delta { conversations, places: vec![Position(position)], partial, ..Delta::none(place, true) }
    }

    #[test]
    fn a_later_round_brings_only_what_came_after_what_was_sent() {
        let mut sync = CatchUp::new(MemberId::from_bytes([2; 12]), Start::Full);
        let seqs = |part: &Part| -> Vec<u64> { part.conversations[0].entries.iter().map(Entry::seq).collect() };
        assert_eq!(seqs(&sync.take(changes(20, 1..=20, true))), (1..=20).collect::<Vec<_>>());
        sync.again();
        let again = sync.take(changes(22, 3..=22, false));
        assert_eq!(seqs(&again), [21, 22]);
        assert_eq!(again.conversations[0].last_seq, 22);
        assert!(sync.done().is_some_and(|done| done.full));
    }

    #[test]
    fn the_rest_of_a_reset_says_that_it_is_one() {
        let member = MemberId::from_bytes([2; 12]);
        let first = CatchUp::new(member, Start::Reset).take(changes(20, 1..=20, true));
        let mut rest = CatchUp::new(member, Start::Within(first.places[0]));
        rest.take(changes(20, 1..=20, false));
        rest.again();
        rest.take(changes(22, 21..=22, false));
        assert!(rest.done().is_some_and(|done| done.reset), "the client has to drop what has vanished");
    }

    #[test]
    fn the_rest_of_a_full_state_says_that_there_is_more() {
        let member = MemberId::from_bytes([2; 12]);
        let mut first = CatchUp::new(member, Start::Full);
        first.take(changes(20, 1..=20, true));
        first.take(Delta { more: true, ..changes(19, 1..=20, false) });
        first.again();
        let cut = first.take(changes(22, 21..=22, false));
        let mut rest = CatchUp::new(member, Start::Within(cut.places[0]));
        rest.take(changes(20, 1..=20, false));
        rest.again();
        rest.take(changes(22, 21..=22, false));
        assert!(rest.done().is_some_and(|done| done.full && done.more));
    }

    #[test]
    fn a_round_after_the_full_state_goes_on_below_what_it_has_room_for() {
        let mut sync = CatchUp::new(MemberId::from_bytes([2; 12]), Start::Full);
        sync.fell_back = true;
        sync.take(changes(20, 1..=20, true));
        sync.again();
        let too_many = Delta { more: true, ..changes(30, 21..=30, false) };
        let usable = sync.usable(sync.round.place.unwrap(), too_many.clone()).unwrap();
        let part = sync.take(usable);
        assert!(!part.ends_round && sync.done().is_none(), "some of what changed is still to be sent");
        assert_eq!(sync.round.place.unwrap().below, Some(Position(30)), "and lies below");
        sync.fell_back = false;
        assert_eq!(sync.usable(sync.round.place.unwrap(), too_many), None, "the full state is shorter");
    }
}
