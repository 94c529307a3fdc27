//! Calls of the state machine as calls of `service`. Every answer comes back through the connection's outbox.

use std::sync::Arc;

use protocol::{
    ClientFrame, ClientMessageId, ConversationId, ErrorCode, MemberId, Request, ServerFrame,
    client::MessageSend,
    limits,
    server::{MessageAccepted, Okay, Pong, PresenceSnapshot},
};
use tokio::time::Instant;

use super::{
    Context,
    machine::{Call, Machine, Query, target},
};
use crate::{
    failure::Failure,
    hub::{Answer, Connection, Delivery, Outbox, Reply, Ticket},
    service::{
        asker::Sent,
        messaging::{Draft, Target, Unread},
        push::{Registrant, Turn},
        room::Permit,
        views,
    },
    store::conversations::{Append, Configure, Configured, Mark, UnreadCount},
};

fn reply(outbox: &Outbox, ticket: Ticket, result: Result<Option<Answer>, Failure>) {
    outbox.push(Delivery::Reply(Box::new(Reply { ticket, result })));
}

/// The place of a query among those in flight: it is given back with the answer, and with an answer whatever happens.
struct OwedReply {
    outbox: Arc<Outbox>,
    ticket: Ticket,
    given: bool,
}

impl OwedReply {
    fn give(mut self, result: Result<Option<Answer>, Failure>) {
        self.given = true;
        reply(&self.outbox, self.ticket, result);
    }
}

impl Drop for OwedReply {
    fn drop(&mut self) {
        if !self.given {
            // Its task panicked.
            reply(&self.outbox, self.ticket, Err(ErrorCode::Internal.into()));
        }
    }
}

fn okay() -> Answer {
    ServerFrame::Okay(Okay::default()).into()
}

/// What a call is about: who asks, and its place among the requests in flight.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) connection: &'a Arc<Connection>,
    pub(super) ticket: Ticket,
}

/// Which message a frame is that the rate limit has refused: it must not be overtaken. Nothing else is decoded then:
/// refusing must not cost more than doing.
pub(super) fn refused_message(sender: MemberId, text: &str) -> Option<(ConversationId, ClientMessageId)> {
    if !text.contains(MessageSend::TYPE) {
        return None;
    }
    let ClientFrame::MessageSend(MessageSend { to, conversation, client_id, content, reply_to }) =
        Request::decode(text).ok()?.frame
    else {
        return None;
    };
    let draft = Draft { target: target(to, conversation)?, client_id, content, reply_to };
    draft.validate(sender).ok().map(|message| message.key())
}

/// What is to be stored: valid, its turn, and charged. It needs room on its way.
pub(super) struct Storing {
    ticket: Ticket,
    what: Stored,
}

enum Stored {
    Message(Append),
    /// A watermark, and whether it is to be said what is unread then.
    Mark(Mark, bool),
    /// What the member wants.
    Configure(Configure),
}

impl Storing {
    pub(super) fn conversation(&self) -> ConversationId {
        match &self.what {
            Stored::Message(message) => message.conversation,
            Stored::Mark(mark, _) => mark.conversation,
            Stored::Configure(configure) => configure.conversation,
        }
    }

    /// Bytes of its content.
    pub(super) fn content_bytes(&self) -> usize {
        match &self.what {
            Stored::Message(message) => message.content.len(),
            Stored::Mark(..) | Stored::Configure(_) => 0,
        }
    }
}

#[cfg(test)]
impl Storing {
    /// A move of a watermark.
    pub(super) fn mark(ticket: u32) -> Self {
        use crate::store::conversations::MarkKind;

        let (conversation, member) = (ConversationId::from_bytes([1; 12]), MemberId::from_bytes([2; 12]));
        let mark = Mark { conversation, member, kind: MarkKind::Read, seq: 1 };
        Self { ticket: Ticket(ticket), what: Stored::Mark(mark, false) }
    }
}

/// Hands on what is to be stored. Its one answer is queued later; never waits.
pub(super) fn store(
    context: &Context,
    connection: &Arc<Connection>,
    Storing { ticket, what }: Storing,
    permit: Permit,
) {
    let (origin, outbox) = (Some(connection.id), Arc::clone(&connection.outbox));
    match what {
        Stored::Message(message) => {
            let respond =
                move |sent: Result<Sent, Failure>| reply(&outbox, ticket, sent.map(|sent| Some(accepted(sent))));
            context.messaging.send(message, permit, origin, Box::new(respond));
        }
        Stored::Mark(mark, true) => {
            let respond = move |unread: Result<Unread, _>| {
                reply(&outbox, ticket, unread.map(|unread| Some(unread_frame(unread))));
            };
            context.messaging.read(mark, permit, Some(connection), Box::new(respond));
        }
        Stored::Mark(mark, false) => {
            let respond = move |marked: Result<_, _>| reply(&outbox, ticket, marked.map(|_| Some(okay())));
            context.messaging.mark(mark, permit, Some(connection), Box::new(respond));
        }
        Stored::Configure(configure) => {
            let frame = |configured| ServerFrame::ConversationSettingsPush(views::settings(&configured)).into();
            let respond = move |configured: Result<Configured, _>| {
                reply(&outbox, ticket, configured.map(|configured| Some(frame(configured))));
            };
            context.messaging.configure(configure, permit, origin, Box::new(respond));
        }
    }
}

/// Refuses what was to be stored.
pub(super) fn refuse(context: &Context, connection: &Connection, storing: &Storing, failure: Failure) {
    if matches!(storing.what, Stored::Message(_)) {
        context.metrics.messages_failed.inc();
    }
    reply(&connection.outbox, storing.ticket, Err(failure));
}

/// Does what a connection asks, but for what is to be stored: that is returned, and is for [`store`]. Exactly one answer is
/// queued, now or later; never waits.
pub(super) fn dispatch(asked: Asked<'_>, machine: &mut Machine, call: Call) -> Option<Storing> {
    let Asked { context, connection, ticket } = asked;
    let outbox = &connection.outbox;
    match call {
        Call::Send(draft) => match message(asked, machine, draft) {
            Ok(message) => return Some(Storing { ticket, what: Stored::Message(message) }),
            Err(failure) => reply(outbox, ticket, Err(failure)),
        },
        Call::Mark { conversation, kind, seq, count } => {
            let mark = Mark { conversation, member: connection.member, kind, seq };
            return Some(Storing { ticket, what: Stored::Mark(mark, count) });
        }
        Call::Configure { conversation, settings } => {
            let configure = Configure { conversation, member: connection.member, settings };
            return Some(Storing { ticket, what: Stored::Configure(configure) });
        }
        Call::SetStatus(status) => {
            let allowed = context.statuses.check(&connection.member);
            let set = allowed.map(|()| {
                context.watching.set_status(connection, status);
                Some(okay())
            });
            reply(outbox, ticket, set);
        }
        Call::Unwatch(members) => {
            context.watching.unwatch(connection, &members);
            reply(outbox, ticket, Ok(Some(okay())));
        }
        Call::Ping => {
            // Read before it is queued: everything up to this cursor is in the outbox already, before the pong.
            let cursor = context.messaging.published(connection.member, connection.synced());
            let pong = Pong { cursor, time: context.clock.now() };
            reply(outbox, ticket, Ok(Some(ServerFrame::Pong(pong).into())));
        }
        Call::Query(query) => match charge(context, connection.member, &query) {
            // The number of these tasks is bounded by the requests that a connection may have in flight.
            Ok(()) => {
                let (context, connection) = (Arc::clone(context), Arc::clone(connection));
                let registers = matches!(query, Query::PushRegister(_) | Query::PushUnregister);
                let turn = registers.then(|| context.push.turns.next(connection.id));
                drop(asked.context.tasks.spawn(ask(context, connection, ticket, (query, turn))));
            }
            Err(failure) => reply(outbox, ticket, Err(failure)),
        },
    }
    None
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
        Query::History { .. } => context.frames.check_further(&member, limits::HISTORY_FRAMES),
        Query::Renew(_) | Query::PushRegister(_) | Query::PushUnregister => Ok(()),
    }
}

/// A message that may be stored: it is valid and its turn, and was charged.
fn message(
    Asked { context, connection, ticket }: Asked<'_>,
    machine: &mut Machine,
    draft: Draft,
) -> Result<Append, Failure> {
    let member = connection.member;
    // Before its order is looked at: only what is handed on takes the place of the message that is waited for.
    let message = draft.validate(member)?;
    machine.admit(ticket, message.key(), Instant::now(), || context.messaging.charge(member))?;
    Ok(message)
}

/// Does what may have to wait for the store.
async fn ask(
    context: Arc<Context>,
    connection: Arc<Connection>,
    ticket: Ticket,
    (query, mut turn): (Query, Option<Turn>),
) {
    let member = connection.member;
    let owed = OwedReply { outbox: Arc::clone(&connection.outbox), ticket, given: false };
    if let Some(turn) = &mut turn {
        turn.comes().await;
    }
    let result = match query {
        Query::Watch(members) => return watch(&context, &connection, owed, members).await,
        // There is no reply to it, whether it has an id or not.
        Query::Typing { target, active } => {
            context.messaging.typing(member, Some(connection.id), target, active).await.map(|()| None)
        }
        Query::List { filter, after, limit } => {
            let page = context.messaging.list(member, filter, after.as_deref(), limit).await;
            page.map(|page| Some(ServerFrame::Conversations(page).into()))
        }
        Query::History { conversation, range, limit } => {
            let page = context.messaging.history(member, conversation, range, limit).await;
            page.map(|page| Some(ServerFrame::History(page).into()))
        }
        Query::PushRegister(registration) => {
            let device = connection.device.clone();
            let registered = context.push.register(Registrant::Connection(&connection), device, *registration).await;
            registered.map(|()| Some(okay()))
        }
        Query::PushUnregister => context.push.unregister(member, &connection.device).await.map(|()| Some(okay())),
        Query::Renew(token) => {
            let renewed = context.connections.renew(&connection, &token).await;
            let okay = |expires_at| ServerFrame::Okay(Okay { expires_at: Some(expires_at), ..Okay::default() });
            renewed.map(|expires_at| Some(okay(expires_at).into()))
        }
    };
    owed.give(result);
}

async fn watch(context: &Context, connection: &Arc<Connection>, owed: OwedReply, members: Vec<MemberId>) {
    match context.watching.watch(connection, members).await {
        Ok(members) => {
            let snapshot = PresenceSnapshot { members: members.clone() };
            owed.give(Ok(Some(ServerFrame::PresenceSnapshot(snapshot).into())));
            context.watching.catch_up(connection, &members);
        }
        Err(failure) => owed.give(Err(failure)),
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
    drop(context.tasks.spawn(async move {
        for target in unknown {
            // Those who cannot be told end it themselves after a while.
            let _ = messaging.typing(member, origin, target, false).await;
        }
    }));
}

fn accepted(Sent { message, duplicate, pushed }: Sent) -> Answer {
    match pushed {
        Some(pushed) => Answer::Accepted(pushed),
        None => ServerFrame::MessageAccepted(MessageAccepted { message: views::message(message), duplicate }).into(),
    }
}

fn unread_frame(Unread { count, last_seq }: Unread) -> Answer {
    let UnreadCount { count, more } = count;
    let (unread, last_seq) = (Some(count), Some(last_seq));
    ServerFrame::Okay(Okay { unread, unread_more: more, last_seq, expires_at: None }).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, hub::OutboxLimits};

    #[tokio::test]
    async fn a_query_whose_task_panics_is_answered_and_gives_its_place_back() {
        let budget = Arc::new(Budget::new(1_000_000, Arc::default()));
        let outbox = Arc::new(Outbox::new(OutboxLimits { frames: 10, bytes: 10_000 }, budget));
        let owed = OwedReply { outbox: Arc::clone(&outbox), ticket: Ticket(7), given: false };
        let task = tokio::spawn(async move {
            let _owed = owed;
            panic!("on purpose")
        });
        assert!(task.await.is_err());
        let [Delivery::Reply(reply)] = &*outbox.take().into_iter().collect::<Vec<_>>() else { panic!() };
        let Err(failure) = &reply.result else { panic!() };
        assert_eq!((reply.ticket, failure.code), (Ticket(7), ErrorCode::Internal));
    }
}
