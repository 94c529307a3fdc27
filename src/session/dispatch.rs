//! Calls of the state machine as calls of `service`. Every answer comes back through the connection's outbox.

use std::sync::Arc;

use protocol::{
    RequestId, ServerFrame,
    server::{MessageAccepted, Okay, Pong, PresenceSnapshot},
};

use super::{
    Context,
    machine::{Call, Query},
};
use crate::{
    failure::Failure,
    hub::{Connection, Delivery, Outbox, Reply},
    service::messaging::{Send, Target, Unread},
    store::conversations::{Mark, MarkKind, Outcome, UnreadCount},
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
pub fn dispatch(context: &Arc<Context>, connection: &Arc<Connection>, id: Option<RequestId>, call: Call) {
    match call {
        Call::Send { target, client_id, content } => {
            if let Err(failure) = context.messages.check(&connection.member) {
                return answer(&connection.outbox, id, Err(failure));
            }
            let send = Send { sender: connection.member, origin: Some(connection.id), target, client_id, content };
            let outbox = Arc::clone(&connection.outbox);
            context.messaging.send(send, Box::new(move |outcome| answer(&outbox, id, outcome.map(outcome_frame))));
        }
        Call::Mark { conversation, kind, seq } => {
            let mark = Mark { conversation, member: connection.member, kind, seq };
            let outbox = Arc::clone(&connection.outbox);
            if kind == MarkKind::Read && id.is_some() {
                let respond = move |unread: Result<Unread, _>| answer(&outbox, id, unread.map(unread_frame));
                context.messaging.read(mark, Some(connection.id), Box::new(respond));
            } else {
                // A request without an id gets no reply, so nothing need be counted.
                let respond = move |outcome: Result<_, _>| answer(&outbox, id, outcome.map(outcome_frame));
                context.messaging.mark(mark, Some(connection.id), Box::new(respond));
            }
        }
        Call::SetStatus(status) => {
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
                Ok(_) => return answer_query(&connection.outbox, None, Ok(okay())),
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
pub fn stop_typing(context: &Arc<Context>, connection: &Connection, targets: Vec<Target>) {
    if targets.is_empty() {
        return;
    }
    let (context, member, origin) = (Arc::clone(context), connection.member, connection.id);
    tokio::spawn(async move {
        for target in targets {
            // Where it fails nobody was told that the member is typing either.
            let _ = context.messaging.typing(member, Some(origin), target, false).await;
        }
    });
}

fn outcome_frame(outcome: Outcome) -> ServerFrame {
    match outcome {
        Outcome::Appended { message, duplicate, .. } => {
            ServerFrame::MessageAccepted(MessageAccepted { message, duplicate })
        }
        // No client asks for a refresh.
        Outcome::Marked { .. } | Outcome::Refreshed => okay(),
    }
}

fn unread_frame(Unread { count, last_seq }: Unread) -> ServerFrame {
    let UnreadCount { count, more } = count;
    ServerFrame::Okay(Okay { unread: Some(count), unread_more: more, last_seq: Some(last_seq), expires_at: None })
}
