//! Keeping the order of messages when one of them is refused by the rate limit.
//!
//! A client may send many messages without waiting for replies. If one is `rate_limited`, those after it would overtake it as
//! soon as the limit allows them. So later messages of the connection into the same conversation are refused too, until the
//! refused one is sent again and handed on, or has not been for so long that it will not be.

use std::time::Duration;

use protocol::{
    ClientMessageId, ConversationId,
    limits::{HELD_MAX, HELD_MS},
};
use tokio::time::Instant;

use crate::failure::Failure;

/// What a message that is held back waits at least: until the one before it is through, and not in a tight loop.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// A message that was refused.
#[derive(Debug, Clone, Copy)]
struct Held {
    conversation: ConversationId,
    client_id: ClientMessageId,
    /// When it may be sent again.
    ready: Instant,
}

impl Held {
    fn ends(&self) -> Instant {
        self.ready + Duration::from_millis(HELD_MS)
    }

    fn refusal(&self, now: Instant) -> Failure {
        let wait = self.ready.saturating_duration_since(now).max(LEAST_WAIT);
        Failure::earlier_one_first(wait)
    }
}

/// Why a message may not be sent now.
#[derive(Debug, PartialEq)]
pub(super) enum Blocked {
    /// The limit does not allow it.
    Limited(Failure),
    /// One before it is waited for, whatever the limit allows.
    Held(Failure),
}

/// The messages of one connection that were refused and not sent again. Allocates with the first.
#[derive(Debug, Default)]
pub(super) struct Order {
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24, for every idle connection")]
    held: Option<Box<Vec<Held>>>,
}

impl Order {
    /// Whether a valid message may be sent now: if none before it is missing, and the limit allows it. Then it is handed
    /// on.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub(super) fn check(
        &mut self,
        (conversation, client_id): (ConversationId, ClientMessageId),
        now: Instant,
        limit: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Blocked> {
        let Some(held) = &mut self.held else {
            return limit().map_err(|failure| {
                let held = Held { conversation, client_id, ready: now + wait(&failure) };
                self.held = Some(Box::new(vec![held]));
                Blocked::Limited(failure)
            });
        };
        held.retain(|held| now < held.ends());
        let place = held.iter().position(|held| held.conversation == conversation);
        let full = held.first().filter(|_| held.len() >= HELD_MAX).map(|first| Failure {
            message: "Refused messages into too many conversations wait. Send one of those again first.".into(),
            ..first.refusal(now)
        });
        let checked = match place.and_then(|place| held.get_mut(place)) {
            Some(held) if held.client_id != client_id => Err(Blocked::Held(held.refusal(now))),
            Some(held) => limit().map_err(|failure| {
                held.ready = now + wait(&failure);
                Blocked::Limited(failure)
            }),
            None if full.is_some() => full.map_or(Ok(()), |failure| Err(Blocked::Held(failure))),
            None => limit().map_err(|failure| {
                held.push(Held { conversation, client_id, ready: now + wait(&failure) });
                Blocked::Limited(failure)
            }),
        };
        if let (Ok(()), Some(place)) = (&checked, place) {
            held.swap_remove(place);
        }
        if held.is_empty() {
            self.held = None;
        }
        checked
    }
}

impl Order {
    /// A message was refused by the limit of new conversations, after it was handed on. The first of a conversation counts:
    /// those behind it are refused alike.
    pub(super) fn refused(
        &mut self,
        (conversation, client_id): (ConversationId, ClientMessageId),
        now: Instant,
        failure: &Failure,
    ) {
        let held = self.held.get_or_insert_default();
        held.retain(|held| now < held.ends());
        if held.len() < HELD_MAX && !held.iter().any(|held| held.conversation == conversation) {
            held.push(Held { conversation, client_id, ready: now + wait(failure) });
        }
    }
}

fn wait(failure: &Failure) -> Duration {
    failure.retry_after.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use protocol::ErrorCode;

    use super::*;

    const WAIT: Duration = Duration::from_millis(50);

    fn limited() -> Result<(), Failure> {
        Err(Failure::of(ErrorCode::RateLimited).retry_after(WAIT))
    }

    fn message(conversation: u8, number: u8) -> (ConversationId, ClientMessageId) {
        (ConversationId::from_bytes([conversation; 12]), ClientMessageId::from_bytes([number; 16]))
    }

    #[test]
    fn what_comes_after_a_refused_message_is_refused_until_that_is_sent_again() {
        let (mut order, now) = (Order::default(), Instant::now());
        assert_eq!(order.check(message(1, 1), now, || Ok(())), Ok(()));
        assert!(order.held.is_none(), "nothing is allocated for a client within its limit");
        assert!(order.check(message(1, 2), now, limited).is_err());
        let later = order.check(message(1, 3), now + WAIT * 2, || Ok(())).unwrap_err();
        let Blocked::Held(later) = later else { panic!("the limit allows it: {later:?}") };
        assert_eq!(later.code, ErrorCode::RateLimited);
        assert_eq!(later.retry_after, Some(LEAST_WAIT), "the refused one may be sent already");
        assert_eq!(order.check(message(2, 4), now, || Ok(())), Ok(()), "into another conversation");
        assert!(order.check(message(1, 2), now, limited).is_err(), "refused once more");
        assert_eq!(order.check(message(1, 2), now + WAIT, || Ok(())), Ok(()));
        assert_eq!(order.check(message(1, 3), now + WAIT, || Ok(())), Ok(()));
        assert!(order.held.is_none());
    }

    #[test]
    fn a_refusal_that_comes_later_holds_back_what_comes_after_it_too() {
        let (mut order, now) = (Order::default(), Instant::now());
        let failure = limited().unwrap_err();
        for number in [1, 2] {
            assert_eq!(order.check(message(1, number), now, || Ok(())), Ok(()));
        }
        order.refused(message(1, 1), now, &failure);
        order.refused(message(1, 2), now, &failure);
        assert!(order.check(message(1, 2), now + WAIT, || Ok(())).is_err(), "the first has to come first");
        assert_eq!(order.check(message(1, 1), now + WAIT, || Ok(())), Ok(()));
        assert_eq!(order.check(message(1, 2), now + WAIT, || Ok(())), Ok(()));
    }

    #[test]
    fn a_message_that_was_given_up_holds_back_nothing_for_ever() {
        let (mut order, now) = (Order::default(), Instant::now());
        assert!(order.check(message(1, 1), now, limited).is_err());
        let end = now + WAIT + Duration::from_millis(HELD_MS);
        assert!(order.check(message(1, 2), end - Duration::from_millis(1), || Ok(())).is_err());
        assert_eq!(order.check(message(1, 2), end, || Ok(())), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_order_holds_even_so() {
        let (mut order, now) = (Order::default(), Instant::now());
        let conversations = u8::try_from(HELD_MAX).unwrap() + 3;
        for number in 0..conversations {
            assert!(order.check(message(number, number), now, limited).is_err());
        }
        assert_eq!(order.held.as_ref().unwrap().len(), HELD_MAX);
        let last = conversations - 1;
        assert!(order.check(message(last, 100), now, || Ok(())).is_err(), "nothing overtakes what is not remembered");
        assert_eq!(order.check(message(0, 0), now, || Ok(())), Ok(()));
        assert_eq!(order.check(message(last, last), now, || Ok(())), Ok(()));
    }
}
