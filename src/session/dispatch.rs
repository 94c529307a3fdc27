//! Calls of the state machine as calls of `service`. Every answer comes back through the connection's outbox.

use std::sync::Arc;

use protocol::{
    RequestId, ServerFrame,
    server::{MessageAccepted, Okay, Pong, PresenceSnapshot},
};
use tokio::time::Instant;

use super::{
    Context,
    machine::{Call, Query},
    order::Order,
};
use crate::{
    failure::Failure,
    hub::{Connection, Delivery, Outbox, Reply},
    service::messaging::{Send, Target, direct_conversation},
    store::conversations::{Mark, Outcome},
};

fn answer(outbox: &Outbox, id: Option<RequestId>, result: Result<ServerFrame, Failure>) {
    outbox.push(Delivery::Reply(Box::new(Reply { id, to_query: false, result })));
}

fn answer_query(outbox: &Outbox, id: Option<RequestId>, result: Result<ServerFrame, Failure>) {
    outbox.push(Delivery::Reply(Box::new(Reply { id, to_query: true, result })));
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
            let conversation = || match target {
                Target::Member(to) => direct_conversation(connection.member, to),
                Target::Conversation(conversation) => conversation,
            };
            let limit = || context.messages.check(&connection.member);
            if let Err(failure) = order.check((conversation, client_id), Instant::now(), limit) {
                return answer(&connection.outbox, id, Err(failure));
            }
            let send = Send { sender: connection.member, origin: Some(connection.id), target, client_id, content };
            let outbox = Arc::clone(&connection.outbox);
            context.messaging.send(send, Box::new(move |outcome| answer(&outbox, id, outcome.map(outcome_frame))));
        }
        Call::Mark { conversation, kind, seq } => {
            // A request without an id gets no reply.
            let mark = Mark { conversation, member: connection.member, kind, seq, count: id.is_some() };
            let outbox = Arc::clone(&connection.outbox);
            let respond = Box::new(move |outcome: Result<_, _>| answer(&outbox, id, outcome.map(outcome_frame)));
            context.messaging.mark(mark, Some(connection.id), respond);
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
            let pong = Pong { cursor: context.messaging.published(), time: context.clock.now() };
            answer(&connection.outbox, id, Ok(ServerFrame::Pong(pong)));
        }
        Call::Query(query) => {
            if matches!(query, Query::Typing { .. })
                && let Err(failure) = context.typing.check(&connection.member)
            {
                return answer_query(&connection.outbox, id, Err(failure));
            }
            // The number of these tasks is bounded by the requests that a connection may have in flight.
            tokio::spawn(ask(Arc::clone(context), Arc::clone(connection), id, query));
        }
    }
}

/// Does what may have to wait for the store.
async fn ask(context: Arc<Context>, connection: Arc<Connection>, id: Option<RequestId>, query: Query) {
    let member = connection.member;
    let result = match query {
        Query::Watch(members) => return watch(&context, &connection, id, members).await,
        Query::Typing { target, active } => {
            let told = context.messaging.typing(member, Some(connection.id), target, active).await;
            match told {
                // There is no reply to this one, whether it has an id or not.
                Ok(()) => return answer_query(&connection.outbox, None, Ok(okay())),
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
            renewed.map(|expires_at| ServerFrame::Okay(Okay { expires_at: Some(expires_at), unread: None }))
        }
    };
    answer_query(&connection.outbox, id, result);
}

async fn watch(
    context: &Context,
    connection: &Arc<Connection>,
    id: Option<RequestId>,
    members: Vec<protocol::MemberId>,
) {
    match context.watching.watch(connection, members).await {
        Ok(members) => {
            let snapshot = PresenceSnapshot { members: members.clone() };
            answer_query(&connection.outbox, id, Ok(ServerFrame::PresenceSnapshot(snapshot)));
            context.watching.catch_up(connection, &members);
        }
        Err(failure) => answer_query(&connection.outbox, id, Err(failure)),
    }
}

/// Tells the others that the member has stopped typing, as far as they can be told.
pub fn stop_typing(context: &Context, connection: &Connection, targets: Vec<Target>) {
    for target in targets {
        context.messaging.stopped_typing(connection.member, Some(connection.id), target);
    }
}

fn outcome_frame(outcome: Outcome) -> ServerFrame {
    match outcome {
        Outcome::Appended { message, duplicate, .. } => {
            ServerFrame::MessageAccepted(MessageAccepted { message, duplicate })
        }
        Outcome::Marked { unread, .. } => ServerFrame::Okay(Okay { unread, expires_at: None }),
        // No client asks for that.
        Outcome::Refreshed => ServerFrame::Okay(Okay { unread: None, expires_at: None }),
    }
}
