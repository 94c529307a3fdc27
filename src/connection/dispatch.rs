//! Calls of the state machine as calls of `service`. Every answer comes back through the connection's outbox.

use std::sync::Arc;

use protocol::{
    ErrorCode, MemberId, RequestId, ServerFrame, limits,
    server::{MessageAccepted, Okay, Pong, PresenceSnapshot},
};
use tokio::time::Instant;

use super::{
    Context,
    machine::{Call, Query},
    order::{Order, Refusal},
};
use crate::{
    failure::Failure,
    hub::{Connection, Delivery, Outbox, Reply},
    service::{
        messaging::{NewMessage, Target, Unread},
        views,
    },
    store::conversations::{Appended, Mark, MarkKind, UnreadCount},
};

fn answer(outbox: &Outbox, id: Option<RequestId>, result: Result<ServerFrame, Failure>) {
    outbox.push(Delivery::Reply(Box::new(Reply { id, to_query: false, result, refused: None, held: false })));
}

fn answer_query(outbox: &Outbox, id: Option<RequestId>, result: Result<ServerFrame, Failure>) {
    outbox.push(Delivery::Reply(Box::new(Reply { id, to_query: true, result, refused: None, held: false })));
}

/// The place of a query among those in flight: it is given back with the answer, and with an answer whatever happens.
struct OwedReply {
    outbox: Arc<Outbox>,
    id: Option<RequestId>,
    answered: bool,
}

impl OwedReply {
    fn answer(mut self, result: Result<ServerFrame, Failure>) {
        self.answered = true;
        answer_query(&self.outbox, self.id.take(), result);
    }

    /// Ends a query to which there is no reply, whether it has an id or not.
    fn end(mut self) {
        self.id = None;
        self.answer(Ok(okay()));
    }
}

impl Drop for OwedReply {
    fn drop(&mut self) {
        if !self.answered {
            // Its task panicked.
            answer_query(&self.outbox, self.id.take(), Err(ErrorCode::Internal.into()));
        }
    }
}

fn okay() -> ServerFrame {
    ServerFrame::Okay(Okay::default())
}

/// Does what a connection asks. Exactly one answer is queued, now or later; never waits.
pub(super) fn dispatch(
    context: &Arc<Context>,
    connection: &Arc<Connection>,
    order: &mut Order,
    id: Option<RequestId>,
    call: Call,
) {
    match call {
        Call::Send { target, client_id, content } => {
            let message =
                NewMessage { sender: connection.member, origin: Some(connection.id), target, client_id, content };
            send_message(context, connection, order, id, message);
        }
        Call::Mark { conversation, kind, seq } => {
            let mark = Mark { conversation, member: connection.member, kind, seq };
            let outbox = Arc::clone(&connection.outbox);
            if kind == MarkKind::Read && id.is_some() {
                let respond = move |unread: Result<Unread, _>| answer(&outbox, id, unread.map(unread_frame));
                context.messaging.read(mark, Some(connection.id), Box::new(respond));
            } else {
                // A request without an id gets no reply, so nothing need be counted.
                let respond = move |marked: Result<_, _>| answer(&outbox, id, marked.map(|_| okay()));
                context.messaging.mark(mark, Some(connection.id), Box::new(respond));
            }
        }
        Call::SetStatus(status) => {
            if let Err(failure) = context.statuses.check(&connection.member) {
                return answer(&connection.outbox, id, Err(failure));
            }
            context.watching.set_status(connection, status);
            answer(&connection.outbox, id, Ok(okay()));
        }
        Call::Unwatch(members) => {
            context.watching.unwatch(connection, &members);
            answer(&connection.outbox, id, Ok(okay()));
        }
        Call::Ping => {
            // Read before it is queued: everything up to this cursor is in the outbox already, before the pong.
            let cursor = context.messaging.published(connection.member, connection.synced());
            let pong = Pong { cursor, time: context.clock.now() };
            answer(&connection.outbox, id, Ok(ServerFrame::Pong(pong)));
        }
        Call::Query(query) => {
            if let Err(failure) = charge(context, connection.member, &query) {
                return answer_query(&connection.outbox, id, Err(failure));
            }
            // The number of these tasks is bounded by the requests that a connection may have in flight.
            tokio::spawn(ask(Arc::clone(context), Arc::clone(connection), id, query));
        }
    }
}

/// Charges what a query costs beyond a frame.
fn charge(context: &Context, member: MemberId, query: &Query) -> Result<(), Failure> {
    match query {
        Query::Typing { .. } => context.typing.check(&member),
        Query::Watch(members) => {
            let further = u32::try_from(members.len() / limits::WATCHED_PER_FRAME).unwrap_or(u32::MAX);
            context.frames.check_further(&member, further.saturating_add(1))
        }
        Query::List { .. } => context.frames.check_further(&member, limits::LIST_FRAMES),
        Query::History { .. } | Query::Renew(_) => Ok(()),
    }
}

/// Hands a message on to be stored, if it is valid and its turn.
fn send_message(
    context: &Context,
    connection: &Connection,
    order: &mut Order,
    id: Option<RequestId>,
    message: NewMessage,
) {
    // Before its order is looked at: only what is handed on takes the place of the message that is waited for.
    let message = match message.validate() {
        Ok(message) => message,
        Err(failure) => return answer(&connection.outbox, id, Err(failure)),
    };
    let key = message.key();
    if let Err(refusal) = order.check(key, Instant::now(), || context.messages.check(&connection.member)) {
        let (failure, held) = match refusal {
            Refusal::Limited(failure) => (failure, false),
            Refusal::Held(failure) => (failure, true),
        };
        let reply = Reply { id, to_query: false, result: Err(failure), refused: None, held };
        return connection.outbox.push(Delivery::Reply(Box::new(reply)));
    }
    let outbox = Arc::clone(&connection.outbox);
    let respond = move |appended: Result<Appended, Failure>| {
        let limited = appended.as_ref().is_err_and(|failure| failure.code == ErrorCode::RateLimited);
        let refused = limited.then_some(key);
        let result = appended.map(accepted);
        outbox.push(Delivery::Reply(Box::new(Reply { id, to_query: false, result, refused, held: false })));
    };
    context.messaging.send(message, Box::new(respond));
}

/// Does what may have to wait for the store.
async fn ask(context: Arc<Context>, connection: Arc<Connection>, id: Option<RequestId>, query: Query) {
    let member = connection.member;
    let asked = OwedReply { outbox: Arc::clone(&connection.outbox), id, answered: false };
    let result = match query {
        Query::Watch(members) => return watch(&context, &connection, asked, members).await,
        Query::Typing { target, active } => {
            let told = context.messaging.typing(member, Some(connection.id), target, active).await;
            match told {
                Ok(()) => return asked.end(),
                Err(failure) => Err(failure),
            }
        }
        Query::List { after, limit } => {
            context.messaging.list(member, after.as_deref(), limit).await.map(ServerFrame::Conversations)
        }
        Query::History { conversation, range, limit } => {
            context.messaging.history(member, conversation, range, limit).await.map(ServerFrame::History)
        }
        Query::Renew(token) => {
            let renewed = context.connections.renew(&connection, &token).await;
            renewed.map(|expires_at| ServerFrame::Okay(Okay { expires_at: Some(expires_at), ..Okay::default() }))
        }
    };
    asked.answer(result);
}

async fn watch(context: &Context, connection: &Arc<Connection>, asked: OwedReply, members: Vec<MemberId>) {
    match context.watching.watch(connection, members).await {
        Ok(members) => {
            let snapshot = PresenceSnapshot { members: members.clone() };
            asked.answer(Ok(ServerFrame::PresenceSnapshot(snapshot)));
            context.watching.catch_up(connection, &members);
        }
        Err(failure) => asked.answer(Err(failure)),
    }
}

/// Tells the others that the member has stopped typing, as far as they can be told.
///
/// Before the first message of a conversation the store has to say who was shown the typing: in a task of its own, for as
/// many targets as a connection may type in.
pub fn stop_typing(context: &Context, connection: &Connection, targets: Vec<Target>) {
    let (member, origin) = (connection.member, Some(connection.id));
    let unknown: Vec<Target> =
        targets.into_iter().filter(|target| !context.messaging.stopped_typing(member, origin, *target)).collect();
    if unknown.is_empty() {
        return;
    }
    let messaging = Arc::clone(&context.messaging);
    tokio::spawn(async move {
        for target in unknown {
            // Those who cannot be told end it themselves after a while.
            let _ = messaging.typing(member, origin, target, false).await;
        }
    });
}

fn accepted(Appended { message, duplicate, .. }: Appended) -> ServerFrame {
    ServerFrame::MessageAccepted(MessageAccepted { message: views::message(message), duplicate })
}

fn unread_frame(Unread { count, last_seq }: Unread) -> ServerFrame {
    let UnreadCount { count, more } = count;
    ServerFrame::Okay(Okay { unread: Some(count), unread_more: more, last_seq: Some(last_seq), expires_at: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, hub::OutboxLimits};

    #[tokio::test]
    async fn a_query_whose_task_panics_is_answered_and_gives_its_place_back() {
        let budget = Arc::new(Budget::new(1_000_000, Arc::default()));
        let outbox = Arc::new(Outbox::new(OutboxLimits { frames: 10, bytes: 10_000 }, budget));
        let asked = OwedReply { outbox: Arc::clone(&outbox), id: Some("7".parse().unwrap()), answered: false };
        let task = tokio::spawn(async move {
            let _asked = asked;
            panic!("on purpose")
        });
        assert!(task.await.is_err());
        let [Delivery::Reply(reply)] = &*outbox.take().into_iter().collect::<Vec<_>>() else { panic!() };
        let Err(failure) = &reply.result else { panic!() };
        assert!(reply.to_query && failure.code == ErrorCode::Internal);
        assert_eq!(reply.id.as_ref().map(RequestId::as_str), Some("7"));
    }
}
