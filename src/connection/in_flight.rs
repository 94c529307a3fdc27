//! The requests of a connection that are being worked on.

use protocol::{
    ClientMessageId, ConversationId, RequestId,
    limits::{IN_FLIGHT_MAX, QUERIES_IN_FLIGHT_MAX},
};

use crate::hub::Ticket;

/// What is known of a request until it is answered.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    /// The id that the client gave it, if it did.
    pub(super) id: Option<RequestId>,
    /// Whether it reads: its answer may be large.
    is_query: bool,
    /// Which message it is, once that was handed on.
    pub(super) message: Option<(ConversationId, ClientMessageId)>,
    /// Whether it is a message that is refused only because one before it is waited for: no sign of a client that is too fast.
    pub(super) held: bool,
}

/// The requests that are being worked on. Allocates only while there are any.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    requests: Vec<Pending>,
    /// Given to the next request. Comes round when the request that had it was answered long ago.
    next: u32,
}

impl InFlight {
    /// Whether there is room for a further request of any kind.
    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < IN_FLIGHT_MAX
            && self.requests.iter().filter(|pending| pending.is_query).count() < QUERIES_IN_FLIGHT_MAX
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// A request begins.
    pub(super) fn begin(&mut self, id: Option<RequestId>, is_query: bool) -> Ticket {
        let ticket = Ticket(self.next);
        self.next = self.next.wrapping_add(1);
        self.requests.push(Pending { ticket, id, is_query, message: None, held: false });
        ticket
    }

    /// A request that is being worked on.
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.requests.iter_mut().find(|pending| pending.ticket == ticket)
    }

    /// A request is answered: what was known of it.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Pending> {
        let place = self.requests.iter().position(|pending| pending.ticket == ticket)?;
        let pending = self.requests.swap_remove(place);
        if self.requests.is_empty() {
            // There is one for every idle connection.
            self.requests = Vec::new();
        }
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_requests_and_for_fewer_that_read() {
        let mut in_flight = InFlight::default();
        let tickets: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| in_flight.begin(None, false)).collect();
        assert!(!in_flight.has_room());
        for ticket in tickets {
            assert!(in_flight.end(ticket).is_some() && in_flight.end(ticket).is_none(), "answered once");
            assert!(in_flight.has_room());
        }
        let queries: Vec<_> = (0..QUERIES_IN_FLIGHT_MAX).map(|_| in_flight.begin(None, true)).collect();
        assert!(!in_flight.has_room());
        in_flight.end(queries[0]);
        assert!(in_flight.has_room() && !in_flight.is_empty());
        assert!(in_flight.requests.capacity() > 0);
        queries.into_iter().for_each(|ticket| drop(in_flight.end(ticket)));
        assert_eq!((in_flight.is_empty(), in_flight.requests.capacity()), (true, 0));
    }
}
