//! Who may begin a conversation now: a limit by member, which keeps the order of what it refuses.
//!
//! A client may send several messages into a conversation that does not exist yet, without waiting for replies. If the limit
//! refused the first and allowed a later one, because its time had come in between, that one would overtake it. So the first
//! one that was refused goes first, for as long as it is waited for; whichever batch of the store they are in.

use std::{sync::Arc, time::Duration};

use protocol::{ClientMessageId, ConversationId, MemberId, limits::HELD_MS, model::UserType};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::limiter::Limiter;
use crate::store::conversations::{Admission, Beginning, NotYet};

/// Conversations whose first message was refused and is waited for; of more the least used is forgotten.
const WAITED_FOR: usize = 10_000;
/// What a message waits at least whose turn it is not.
const LEAST_WAIT: Duration = Duration::from_secs(2);

/// A first message that was refused.
#[derive(Debug, Clone, Copy)]
struct First {
    client_id: ClientMessageId,
    /// When it may be sent again.
    ready: Instant,
}

/// The beginnings of conversations.
pub(super) struct Beginnings {
    limit: Arc<Limiter<MemberId>>,
    refused: Cache<(MemberId, ConversationId), First>,
}

impl Beginnings {
    /// With this limit; administrators are exempt.
    pub(super) fn new(limit: Arc<Limiter<MemberId>>) -> Arc<Self> {
        Arc::new(Self { limit, refused: Cache::new(WAITED_FOR) })
    }

    /// What stores ask.
    pub(super) fn admission(self: &Arc<Self>) -> Admission {
        let beginnings = Arc::clone(self);
        Admission::new(move |beginning| beginnings.admit(beginning, Instant::now()))
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub(super) fn tidy(&self) {
        self.limit.tidy();
    }

    fn admit(&self, beginning: &Beginning, now: Instant) -> Result<(), NotYet> {
        let Beginning { member, user_type, conversation, client_id, begun } = *beginning;
        if user_type == UserType::Admin {
            return Ok(());
        }
        let key = (member, conversation);
        let first = self.refused.get(&key).filter(|first| now < first.ready + Duration::from_millis(HELD_MS));
        if let Some(first) = first.filter(|first| first.client_id != client_id) {
            return Err(NotYet::EarlierOneFirst(first.ready.saturating_duration_since(now).max(LEAST_WAIT)));
        }
        if begun {
            if first.is_some() {
                self.refused.remove(&key);
            }
            return Ok(());
        }
        let checked = self.limit.check(&member).map_err(|refused| refused.retry_after.unwrap_or_default());
        match checked {
            Ok(()) => drop(self.refused.remove(&key)),
            Err(wait) => self.refused.insert(key, First { client_id, ready: now + wait }),
        }
        checked.map_err(NotYet::TooMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::limiter::Rate;

    /// Found under faults: first messages of one window, and the limit's time came between two of them.
    #[tokio::test]
    async fn a_later_message_does_not_overtake_the_first_that_was_refused() {
        // As good as unlimited between two looks at it: what refuses from then on is the order alone.
        let limit = |burst| {
            Limiter::new("test", Rate { per_period: 1, period: Duration::from_secs(3600), burst }, Arc::default())
        };
        let id = |byte: u8| ClientMessageId::from_bytes([byte; 16]);
        let ask_in = |beginnings: &Beginnings, conversation: u8, client_id: u8, at: Instant, begun: bool| {
            let beginning = Beginning {
                member: MemberId::from_bytes([1; 12]),
                user_type: UserType::Member,
                conversation: ConversationId::from_bytes([conversation; 12]),
                client_id: id(client_id),
                begun,
            };
            beginnings.admit(&beginning, at)
        };
        let ask = |beginnings: &Beginnings, conversation: u8, client_id: u8, at: Instant| {
            ask_in(beginnings, conversation, client_id, at, false)
        };
        let mut beginnings = Arc::into_inner(Beginnings::new(Arc::new(limit(1)))).unwrap();
        let now = Instant::now();
        ask(&beginnings, 1, 1, now).unwrap();
        assert!(ask(&beginnings, 2, 2, now).is_err(), "nothing is left");
        beginnings.limit = Arc::new(limit(2));
        let refused = ask(&beginnings, 2, 3, now).unwrap_err();
        assert!(
            matches!(refused, NotYet::EarlierOneFirst(_)),
            "the first is waited for, and that is said: {refused:?}"
        );
        ask(&beginnings, 3, 4, now).unwrap();
        ask(&beginnings, 2, 2, now).unwrap();
        beginnings.limit = Arc::new(limit(1));
        ask(&beginnings, 2, 3, now).unwrap();
        let NotYet::TooMany(wait) = ask(&beginnings, 4, 5, now).unwrap_err() else { panic!("nothing is left") };
        beginnings.limit = Arc::new(limit(1));
        ask(&beginnings, 4, 6, now + wait + Duration::from_millis(HELD_MS)).unwrap();
        // The other member begins the conversation meanwhile: that changes nothing about the order of this one's.
        ask(&beginnings, 5, 7, now).unwrap_err();
        assert!(ask_in(&beginnings, 5, 8, now, true).is_err(), "the first is waited for");
        ask_in(&beginnings, 5, 7, now, true).unwrap();
        ask_in(&beginnings, 5, 8, now, true).unwrap();
    }
}
