//! The protocol of a signed-in connection as a plain state machine, without I/O: frames, answers, orders and ticks in, actions
//! out. What comes before is [`Stranger`](super::stranger::Stranger)'s, which has no way to ask for anything.

use std::time::Duration;

use protocol::{
    ClientFrame, ClientMessageId, CloseCode, ConversationId, DecodeError, ErrorCode, MemberId, Request, RequestId,
    ServerFrame, Timestamp,
    client::{ConversationsList, HistoryGet, PushRegister},
    limits::{AUTH_EXPIRING_MS, BAD_FRAMES_MAX, Limits, PAGE_DEFAULT, RATE_LIMITED_MAX, TOO_MUCH_WAIT_MS},
    model::{ConversationSettings, DeviceStatus},
    rest::PushRegistration,
    server::{AuthExpiring, Okay, Welcome},
};
use tokio::time::Instant;

use super::{
    Timing,
    charge::Charge,
    in_flight::{InFlight, Pending},
    millis,
    order::{Blocked, Order},
    silence::Silence,
    stranger::{decode_error, error, violation},
    typing::Typing,
    window::Window,
};
use crate::{
    failure::Failure,
    hub::{Answer, Close, Frame, Reply, Ticket},
    service::{
        connections::SignedIn,
        messaging::{Draft, Target},
    },
    store::{
        conversations::{MarkKind, Range},
        lists::ListFilter,
    },
};

/// What a connection asks of the services.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Send a message.
    Send(Draft),
    /// Move a watermark.
    Mark {
        /// The conversation.
        conversation: ConversationId,
        /// Which watermark.
        kind: MarkKind,
        /// Where to.
        seq: u64,
        /// Whether to say what is unread then.
        count: bool,
    },
    /// Set what the member wants of a conversation.
    Configure {
        /// The conversation.
        conversation: ConversationId,
        /// The settings.
        settings: ConversationSettings,
    },
    /// Set what the device shows.
    SetStatus(DeviceStatus),
    /// Watch members no longer.
    Unwatch(Vec<MemberId>),
    /// Answer a heartbeat.
    Ping,
    /// Something that may have to wait for the store to be read.
    Query(Query),
}

/// What a connection asks of the services that may have to wait for the store to be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// Tell that the member is typing, or has stopped.
    Typing {
        /// Where.
        target: Target,
        /// Whether.
        active: bool,
    },
    /// Watch members.
    Watch(Vec<MemberId>),
    /// A page of conversations.
    List {
        /// Which ones.
        filter: ListFilter,
        /// `next` of the page before.
        after: Option<String>,
        /// How many.
        limit: u32,
    },
    /// A page of entries.
    History {
        /// The conversation.
        conversation: ConversationId,
        /// Which entries.
        range: Range,
        /// How many.
        limit: u32,
    },
    /// Take a fresh token.
    Renew(String),
    /// Register the device for pushes.
    PushRegister(Box<PushRegistration>),
    /// End that.
    PushUnregister,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Say something to the client.
    Say(Frame),
    /// Do something; exactly one answer comes as [`Machine::reply`].
    Call(Ticket, Call),
    /// Tell the others that the member has stopped typing; no answer.
    StopTyping(Target),
    /// A text frame was one too many: to be given to [`Machine::too_much`] in its turn, after what came before it.
    Refuse(Box<Refused>),
    /// Say goodbye and close.
    Close(Close),
}

/// A text frame that was one too many for the member's rate limit.
#[derive(Debug)]
pub struct Refused {
    /// The id of the request, if it was found.
    pub id: Option<RequestId>,
    /// Which message it is, if it is one.
    pub message: Option<(ConversationId, ClientMessageId)>,
    /// What the limit says.
    pub failure: Failure,
}

/// The time at which something happened.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For durations.
    pub instant: Instant,
    /// For what is shown.
    pub time: Timestamp,
}

/// What a text frame was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The place of its type in [`ClientFrame::TYPES`].
    pub index: usize,
    /// Whether it moves a watermark.
    pub is_mark: bool,
}

/// The token of a connection.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    at: Instant,
    time: Timestamp,
}

impl Expiry {
    fn new(time: Timestamp, now: Moment) -> Self {
        Self { at: now.instant + time.since(now.time), time }
    }

    /// When the client is to be told.
    fn warning(&self) -> Instant {
        self.at.checked_sub(Duration::from_millis(AUTH_EXPIRING_MS)).unwrap_or(self.at)
    }
}

/// One signed-in connection.
pub struct Machine {
    /// It is to be closed; whatever comes is ignored.
    closing: bool,
    silence: Silence,
    expiry: Expiry,
    /// The client knows that its token expires soon.
    is_warned: bool,
    /// What it has paid for frames too much.
    pub(super) charge: Charge,
    in_flight: InFlight,
    order: Order,
    bad_frames: Window,
    rate_limited: Window,
    typing: Typing,
}

impl Machine {
    /// Hello was good: welcomes the client, as the answer to the request `id`.
    #[must_use]
    pub fn welcome(timing: &Timing, now: Moment, id: Option<&RequestId>, signed_in: &SignedIn) -> (Self, Frame) {
        let welcome = Welcome {
            connection: signed_in.connection.id,
            member: signed_in.connection.member,
            time: now.time,
            heartbeat_ms: u32::try_from(timing.heartbeat.as_millis()).unwrap_or(u32::MAX),
            limits: Limits::V1,
            expires_at: signed_in.expires_at,
        };
        let machine = Self {
            closing: false,
            silence: Silence::new(timing.silence(), timing.silence(), now.instant),
            expiry: Expiry::new(signed_in.expires_at, now),
            is_warned: false,
            charge: Charge::default(),
            in_flight: InFlight::default(),
            order: Order::default(),
            bad_frames: Window::default(),
            rate_limited: Window::default(),
            typing: Typing::default(),
        };
        (machine, Frame::encode(&ServerFrame::Welcome(welcome), id))
    }

    /// Whether a further frame may be read: not while too many requests are being worked on.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.in_flight.has_room() && !self.closing
    }

    /// Whether requests are being worked on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let due = self.silence.due().min(self.expiry_due());
        self.typing.deadline().map_or(due, |typing| typing.min(due))
    }

    /// A text frame came. Returns what it was; nothing for one that is not valid.
    pub fn text(&mut self, now: Moment, text: &str, actions: &mut Vec<Action>) -> Option<Received> {
        let request = Request::decode(text);
        let received = request.as_ref().ok().map(|request| Received {
            index: request.frame.index(),
            is_mark: match request.frame {
                ClientFrame::MessageDelivered(_) => true,
                // One that is answered is counted for.
                ClientFrame::MessageRead(_) => request.id.is_none(),
                _ => false,
            },
        });
        if !self.closing {
            self.silence.heard(now.instant);
            match request {
                Ok(request) => self.request(request, now.instant, actions),
                Err(error) => self.bad_frame(error, now.instant, actions),
            }
        }
        received
    }

    /// A text frame came, and was one too many for the member's rate limit. If it was a message, later ones wait for it.
    pub fn too_much(&mut self, now: Moment, refused: Refused, actions: &mut Vec<Action>) {
        let Refused { id, message, failure } = refused;
        self.silence.heard(now.instant);
        let refused = message.map(|message| self.order.check(message, now.instant, || Err(failure.clone())));
        let failure = match refused {
            Some(Err(Blocked::Limited(failure) | Blocked::Held(failure))) => failure,
            Some(Ok(())) | None => failure,
        };
        self.fail(id.as_ref(), failure, now.instant, actions);
    }

    /// It is read again, after a sync was sent or room was waited for. What the client has said meanwhile waits in the socket.
    pub fn reads_again(&mut self, now: Instant) {
        self.silence.heard(now);
    }

    /// Something came that no client of this protocol sends.
    pub fn violation(&mut self, code: CloseCode, actions: &mut Vec<Action>) {
        self.close(violation(code), actions);
    }

    /// Whether a valid message may be handed on now: it is its turn, and the limit allows it.
    ///
    /// # Errors
    /// Why not; the answer to the request.
    pub fn admit(
        &mut self,
        ticket: Ticket,
        message: (ConversationId, ClientMessageId),
        now: Instant,
        limit: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let admitted = self.order.check(message, now, limit);
        if let Some(pending) = self.in_flight.get_mut(ticket) {
            pending.message = admitted.is_ok().then_some(message);
            pending.held = matches!(admitted, Err(Blocked::Held(_)));
        }
        admitted.map_err(|(Blocked::Limited(failure) | Blocked::Held(failure))| failure)
    }

    /// The answer to a call.
    pub fn reply(&mut self, now: Moment, Reply { ticket, result }: Reply, actions: &mut Vec<Action>) {
        let Some(Pending { id, message, held, .. }) = self.in_flight.end(ticket) else { return };
        match result {
            Ok(None) => {}
            Ok(Some(answer)) => {
                if let Answer::Frame(ServerFrame::Okay(Okay { expires_at: Some(expires_at), .. })) = answer {
                    (self.expiry, self.is_warned) = (Expiry::new(expires_at, now), false);
                }
                // A request without an id gets no reply; a heartbeat is answered all the same.
                if id.is_some() || matches!(answer, Answer::Frame(ServerFrame::Pong(_))) {
                    actions.push(Action::Say(answer.encode(id.as_ref())));
                }
            }
            // A client that keeps many messages under way cannot help it.
            Err(failure) if held => actions.push(Action::Say(error(id.as_ref(), failure))),
            Err(failure) => {
                // Refused after it was handed on: those behind it wait for it.
                if let Some(message) = message.filter(|_| failure.code == ErrorCode::RateLimited) {
                    self.order.refused(message, now.instant, &failure);
                }
                self.fail(id.as_ref(), failure, now.instant, actions);
            }
        }
    }

    /// The connection is to close.
    pub fn close(&mut self, close: Close, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.closing, true) {
            actions.push(Action::Close(close));
        }
    }

    /// The connection has ended: where the member has to stop typing.
    pub fn end(&mut self) -> Vec<Target> {
        self.closing = true;
        self.typing.end()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        actions.extend(self.typing.expire(now).into_iter().map(Action::StopTyping));
        if self.expiry.at <= now {
            return self.close(Close::with(CloseCode::Unauthorized), actions);
        }
        if self.expiry_due() <= now {
            self.is_warned = true;
            let expiring = AuthExpiring { expires_at: self.expiry.time };
            actions.push(Action::Say(Frame::push(&ServerFrame::AuthExpiring(expiring))));
        }
        if !self.closing && self.silence.is_over(now) {
            self.close(Close::with(CloseCode::TimedOut), actions);
        }
    }

    /// When the client is told that its token expires, and then when it is over.
    fn expiry_due(&self) -> Instant {
        if self.is_warned { self.expiry.at } else { self.expiry.warning() }
    }

    fn request(&mut self, request: Request, now: Instant, actions: &mut Vec<Action>) {
        let Request { id, frame } = request;
        let call = match frame {
            ClientFrame::Hello(_) => return self.fail(id.as_ref(), ErrorCode::HelloRepeated.into(), now, actions),
            ClientFrame::MessageSend(send) => {
                let Some(target) = target(send.to, send.conversation) else { return };
                // A message ends its sender's typing, at the receivers too.
                self.typing.stop(target);
                Call::Send(Draft { target, client_id: send.client_id, content: send.content, reply_to: send.reply_to })
            }
            ClientFrame::MessageDelivered(mark) => {
                let (kind, count) = (MarkKind::Delivered, false);
                Call::Mark { conversation: mark.conversation, kind, seq: mark.seq, count }
            }
            ClientFrame::MessageRead(mark) => {
                // Without an id there is no reply, so nothing need be counted.
                let (kind, count) = (MarkKind::Read, id.is_some());
                Call::Mark { conversation: mark.conversation, kind, seq: mark.seq, count }
            }
            ClientFrame::Typing(typing) => {
                let Some(target) = target(typing.to, typing.conversation) else { return };
                if typing.active {
                    actions.extend(self.typing.start(target, now).map(Action::StopTyping));
                } else {
                    self.typing.stop(target);
                }
                Call::Query(Query::Typing { target, active: typing.active })
            }
            ClientFrame::PresenceSet(set) => Call::SetStatus(set.status),
            ClientFrame::PresenceWatch(watch) => Call::Query(Query::Watch(watch.members)),
            ClientFrame::PresenceUnwatch(unwatch) => Call::Unwatch(unwatch.members),
            ClientFrame::ConversationConfigure(wanted) => {
                Call::Configure { conversation: wanted.conversation, settings: wanted.settings }
            }
            ClientFrame::ConversationsList(list) => {
                let ConversationsList { limit, after, archived, pinned, unread } = list;
                let filter = ListFilter { archived, pinned, unread };
                Call::Query(Query::List { filter, after, limit: limit.unwrap_or(PAGE_DEFAULT) })
            }
            ClientFrame::HistoryGet(get) => Call::Query(Query::History {
                conversation: get.conversation,
                range: range(&get),
                limit: get.limit.unwrap_or(PAGE_DEFAULT),
            }),
            ClientFrame::AuthRenew(renew) => Call::Query(Query::Renew(renew.token)),
            ClientFrame::PushRegister(PushRegister { address, platform }) => {
                Call::Query(Query::PushRegister(Box::new(PushRegistration { address, platform })))
            }
            ClientFrame::PushUnregister(_) => Call::Query(Query::PushUnregister),
            ClientFrame::Ping(_) => Call::Ping,
        };
        let ticket = self.in_flight.begin(id, matches!(call, Call::Query(_)));
        actions.push(Action::Call(ticket, call));
    }

    fn bad_frame(&mut self, bad: DecodeError, now: Instant, actions: &mut Vec<Action>) {
        // A type that we do not know may be from a newer client; what is not JSON is no client of ours.
        let foreign = bad.code == ErrorCode::Malformed;
        actions.push(Action::Say(decode_error(bad)));
        if foreign && self.bad_frames.exceeds(BAD_FRAMES_MAX, now) {
            self.close(Close::with(CloseCode::NotTheProtocol), actions);
        }
    }

    fn fail(&mut self, id: Option<&RequestId>, failure: Failure, now: Instant, actions: &mut Vec<Action>) {
        let (code, retry_after_ms) = (failure.code, failure.retry_after.map(millis));
        actions.push(Action::Say(error(id, failure)));
        if let Some(code) = code.close_code() {
            self.close(Close { code, retry_after_ms }, actions);
        } else if code == ErrorCode::RateLimited && self.rate_limited.exceeds(RATE_LIMITED_MAX, now) {
            let retry_after_ms = Some(retry_after_ms.unwrap_or_default().max(TOO_MUCH_WAIT_MS));
            self.close(Close { code: CloseCode::TooMuch, retry_after_ms }, actions);
        }
    }
}

pub(super) fn target(to: Option<MemberId>, conversation: Option<ConversationId>) -> Option<Target> {
    // Decoding has seen to it that it is one of them.
    to.map(Target::Member).or_else(|| conversation.map(Target::Conversation))
}

fn range(get: &HistoryGet) -> Range {
    match (get.before, get.after) {
        (Some(before), _) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (None, None) => Range::Newest,
    }
}

#[cfg(test)]
mod tests;
