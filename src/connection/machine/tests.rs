//! The protocol without a network: frames, answers and time in, actions out.

use std::{collections::VecDeque, sync::Arc};

use protocol::{
    ConnectionId, Envelope, SessionId,
    limits::{IN_FLIGHT_MAX, QUERIES_IN_FLIGHT_MAX},
    server::Pong,
};

use super::*;
use crate::{
    budget::Budget,
    connection::TIMING,
    hub::{Connection, Outbox, OutboxLimits},
    telemetry::Metrics,
};

const MEMBER: MemberId = MemberId::from_bytes([1; 12]);
const OTHER: MemberId = MemberId::from_bytes([2; 12]);
const CONVERSATION: ConversationId = ConversationId::from_bytes([3; 12]);
const HELLO: &str = r#"{"type":"hello","id":"h","token":"t","device":{"id":"d","platform":"ios"}}"#;

/// A state machine with a clock of its own.
struct Bench {
    machine: Machine,
    now: Moment,
    actions: Vec<Action>,
    tickets: VecDeque<Ticket>,
}

impl Bench {
    /// With a token that lives for an hour.
    fn open() -> Self {
        Self::welcome(Duration::from_secs(3600)).0
    }

    /// With a token that lives for so long, and its welcome.
    fn welcome(lifetime: Duration) -> (Self, Envelope) {
        let now = Moment { instant: Instant::now(), time: Timestamp::from_millis(1_795_370_633_000) };
        let outbox = Outbox::new(
            OutboxLimits { frames: 1, bytes: 1 },
            Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new()))),
        );
        let connection = Connection::new(
            ConnectionId::from_bytes([9; 12]),
            MEMBER,
            SessionId::from_bytes([8; 12]),
            "d".parse().unwrap(),
            Arc::new(outbox),
        );
        let signed_in = SignedIn { connection: Arc::new(connection), expires_at: now.time.after(lifetime) };
        let (machine, welcome) = Machine::welcome(&TIMING, now, Some(&"h".parse().unwrap()), &signed_in);
        (
            Self { machine, now, actions: Vec::new(), tickets: VecDeque::new() },
            Envelope::decode(welcome.text()).unwrap(),
        )
    }

    fn text(&mut self, text: &str) -> Vec<Seen> {
        self.machine.text(self.now, text, &mut self.actions);
        self.seen()
    }

    /// Sends a message that the limit says this of. It is on its way, or refused with what is seen.
    fn send(&mut self, number: u8, limit: Result<(), Failure>) -> Result<(), Vec<Seen>> {
        let client_id = ClientMessageId::from_bytes([number; 16]);
        let to = format!(r#""conversation":"{CONVERSATION}","client_id":"{client_id}""#);
        self.text(&format!(r#"{{"type":"message.send",{to},"content":"hi"}}"#));
        let ticket = self.tickets.pop_back().unwrap();
        match self.machine.admit(ticket, (CONVERSATION, client_id), self.now.instant, || limit) {
            Ok(()) => {
                self.tickets.push_back(ticket);
                Ok(())
            }
            Err(failure) => {
                self.machine.reply(self.now, Reply { ticket, result: Err(failure) }, &mut self.actions);
                Err(self.seen())
            }
        }
    }

    /// Answers the oldest request that was not answered yet.
    fn reply(&mut self, result: Result<ServerFrame, Failure>) -> Vec<Seen> {
        let ticket = self.tickets.pop_front().unwrap();
        self.machine.reply(
            self.now,
            Reply { ticket, result: result.map(|frame| Some(frame.into())) },
            &mut self.actions,
        );
        self.seen()
    }

    /// Lets time pass, with a tick whenever one is due.
    fn wait(&mut self, duration: Duration) -> Vec<Seen> {
        let until = self.now.instant + duration;
        let mut seen = Vec::new();
        while self.machine.deadline() <= until && !seen.iter().any(|seen| matches!(seen, Seen::Close(_))) {
            self.pass_to(self.machine.deadline());
            self.machine.tick(self.now.instant, &mut self.actions);
            seen.extend(self.seen());
        }
        self.pass_to(until);
        seen
    }

    fn pass_to(&mut self, instant: Instant) {
        let passed = instant.saturating_duration_since(self.now.instant);
        self.now = Moment { instant: self.now.instant + passed, time: self.now.time.after(passed) };
    }

    fn seen(&mut self) -> Vec<Seen> {
        let tickets = self.actions.iter().filter_map(|action| match action {
            Action::Call(ticket, _) => Some(*ticket),
            _ => None,
        });
        self.tickets.extend(tickets);
        self.actions.drain(..).map(Seen::from).collect()
    }
}

/// An action in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Seen {
    Sent(Option<String>, ServerFrame),
    Call(Call),
    StopTyping(Target),
    Close(u16),
}

impl From<Action> for Seen {
    fn from(action: Action) -> Self {
        let text = |id: RequestId| id.as_str().to_owned();
        match action {
            Action::Say(frame) => {
                let Envelope { id, frame } = Envelope::decode(frame.text()).unwrap();
                Self::Sent(id.map(text), frame)
            }
            Action::Call(_, call) => Self::Call(call),
            Action::StopTyping(target) => Self::StopTyping(target),
            Action::Refuse(refused) => panic!("{refused:?}"),
            Action::Close(close) => Self::Close(close.code.number()),
        }
    }
}

fn error_code(seen: &Seen) -> ErrorCode {
    match seen {
        Seen::Sent(_, ServerFrame::Error(error)) => error.code,
        other => panic!("not an error: {other:?}"),
    }
}

fn okay() -> ServerFrame {
    ServerFrame::Okay(Okay::default())
}

fn pong() -> ServerFrame {
    ServerFrame::Pong(Pong { cursor: "c".parse().unwrap(), time: Timestamp::from_millis(0) })
}

#[test]
fn hello_is_answered_with_welcome() {
    let (_, Envelope { id, frame }) = Bench::welcome(Duration::from_secs(900));
    let ServerFrame::Welcome(welcome) = frame else { panic!("{frame:?}") };
    let id = id.as_ref().map(RequestId::as_str);
    assert_eq!((id, welcome.member, welcome.heartbeat_ms), (Some("h"), MEMBER, 30_000));
}

#[test]
fn a_second_hello_is_an_error_and_the_connection_stays() {
    let mut bench = Bench::open();
    let seen = bench.text(HELLO);
    assert_eq!(error_code(&seen[0]), ErrorCode::HelloRepeated);
    assert_eq!(seen.len(), 1);
}

#[test]
fn silence_closes_with_4408_after_two_and_a_half_heartbeats_and_any_frame_breaks_it() {
    let mut bench = Bench::open();
    assert_eq!(bench.wait(Duration::from_secs(74)), []);
    bench.text("even nonsense is a sign of life");
    assert_eq!(bench.wait(Duration::from_secs(74)), []);
    assert_eq!(bench.wait(Duration::from_secs(1)), [Seen::Close(4408)]);
    assert!(!bench.machine.can_read());
}

#[test]
fn after_a_stall_of_the_process_what_waits_in_the_socket_is_read_before_the_connection_is_given_up() {
    let mut bench = Bench::open();
    bench.pass_to(bench.now.instant + Duration::from_secs(120));
    bench.machine.tick(bench.now.instant, &mut bench.actions);
    assert_eq!(bench.seen(), [], "its heartbeats may be there already");
    assert!(bench.machine.can_read());
    bench.text(r#"{"type":"ping"}"#);
    assert_eq!(bench.wait(Duration::from_secs(74)), []);
    assert_eq!(bench.wait(Duration::from_secs(1)), [Seen::Close(4408)]);

    let mut silent = Bench::open();
    silent.pass_to(silent.now.instant + Duration::from_secs(120));
    assert_eq!(silent.wait(Duration::from_millis(999)), []);
    assert_eq!(silent.wait(Duration::from_millis(1)), [Seen::Close(4408)]);
}

#[test]
fn an_error_with_a_close_code_closes_whatever_it_answers() {
    for (code, close) in [(ErrorCode::TokenInvalid, 4401), (ErrorCode::MemberDeactivated, 4403)] {
        let mut bench = Bench::open();
        bench.text(r#"{"type":"auth.renew","id":"1","token":"u"}"#);
        let seen = bench.reply(Err(code.into()));
        assert_eq!((error_code(&seen[0]), &seen[1]), (code, &Seen::Close(close)));
    }
}

#[test]
fn a_request_with_an_id_is_answered_and_one_without_only_when_it_fails() {
    let mut bench = Bench::open();
    let read = |id: &str| format!(r#"{{"type":"message.read"{id},"conversation":"{CONVERSATION}","seq":5}}"#);
    let call = |count| Call::Mark { conversation: CONVERSATION, kind: MarkKind::Read, seq: 5, count };
    assert_eq!(bench.text(&read(r#","id":"7""#)), [Seen::Call(call(true))]);
    assert_eq!(bench.reply(Ok(okay())), [Seen::Sent(Some("7".into()), okay())]);
    assert_eq!(bench.text(&read("")), [Seen::Call(call(false))], "nobody is told what is unread");
    assert_eq!(bench.reply(Ok(okay())), []);
    bench.text(&read(""));
    let seen = bench.reply(Err(ErrorCode::ConversationNotFound.into()));
    assert_eq!(error_code(&seen[0]), ErrorCode::ConversationNotFound);
}

#[test]
fn a_heartbeat_is_answered_even_without_an_id() {
    let mut bench = Bench::open();
    assert_eq!(bench.text(r#"{"type":"ping"}"#), [Seen::Call(Call::Ping)]);
    assert_eq!(bench.reply(Ok(pong())), [Seen::Sent(None, pong())]);
}

#[test]
fn no_more_is_read_while_too_many_requests_are_being_worked_on() {
    let mut bench = Bench::open();
    for _ in 0..IN_FLIGHT_MAX {
        assert!(bench.machine.can_read());
        bench.text(r#"{"type":"ping","id":"1"}"#);
    }
    assert!(!bench.machine.can_read() && bench.machine.is_busy());
    bench.reply(Ok(pong()));
    assert!(bench.machine.can_read());
}

#[test]
fn fewer_requests_that_read_are_worked_on_at_the_same_time() {
    let mut bench = Bench::open();
    for _ in 0..QUERIES_IN_FLIGHT_MAX {
        assert!(bench.machine.can_read());
        bench.text(r#"{"type":"conversations.list","id":"1"}"#);
    }
    assert!(!bench.machine.can_read());
    bench.reply(Ok(okay()));
    assert!(bench.machine.can_read());
}

#[test]
fn the_end_of_the_token_is_announced_and_a_renewal_puts_it_off() {
    let (mut bench, _) = Bench::welcome(Duration::from_secs(100));
    assert_eq!(bench.wait(Duration::from_secs(39)), []);
    let seen = bench.wait(Duration::from_secs(1));
    assert!(matches!(seen[..], [Seen::Sent(None, ServerFrame::AuthExpiring(_))]), "{seen:?}");
    assert_eq!(bench.text(r#"{"type":"auth.renew","id":"1","token":"u"}"#).len(), 1);
    let expires_at = Some(bench.now.time.after(Duration::from_secs(100)));
    bench.reply(Ok(ServerFrame::Okay(Okay { expires_at, ..Okay::default() })));
    assert_eq!(bench.wait(Duration::from_secs(39)), [], "announced anew, a minute before the new end");
    assert_eq!(bench.wait(Duration::from_secs(1)).len(), 1);
    bench.text(r#"{"type":"ping"}"#);
    assert_eq!(bench.wait(Duration::from_secs(60)), [Seen::Close(4401)]);
}

#[test]
fn bad_frames_are_answered_until_they_are_too_many() {
    let mut bench = Bench::open();
    for _ in 0..BAD_FRAMES_MAX {
        let seen = bench.text("{");
        assert_eq!((error_code(&seen[0]), seen.len()), (ErrorCode::Malformed, 1));
    }
    assert_eq!(bench.text("{")[1], Seen::Close(4400));
}

#[test]
fn a_bad_frame_now_and_then_is_forgiven() {
    let mut bench = Bench::open();
    for _ in 0..10 * BAD_FRAMES_MAX {
        assert_eq!(bench.text("{").len(), 1);
        bench.wait(Duration::from_secs(10));
    }
}

#[test]
fn unknown_types_never_close_the_connection() {
    let mut bench = Bench::open();
    for _ in 0..1000 {
        let seen = bench.text(r#"{"type":"from.the.future","id":"1"}"#);
        assert_eq!((error_code(&seen[0]), seen.len()), (ErrorCode::UnknownType, 1));
    }
}

#[test]
fn too_much_too_fast_closes_with_4429_after_errors_said_so() {
    let mut bench = Bench::open();
    let limited = || Failure::of(ErrorCode::RateLimited).retry_after(Duration::from_millis(1_500));
    for _ in 0..RATE_LIMITED_MAX {
        let refused = Refused { id: Some("9".parse().unwrap()), message: None, failure: limited() };
        bench.machine.too_much(bench.now, refused, &mut bench.actions);
        let seen = bench.seen();
        let [Seen::Sent(Some(id), ServerFrame::Error(error))] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((id.as_str(), error.code, error.retry_after_ms), ("9", ErrorCode::RateLimited, Some(1_500)));
    }
    let refused = Refused { id: None, message: None, failure: limited() };
    bench.machine.too_much(bench.now, refused, &mut bench.actions);
    assert_eq!(bench.seen()[1], Seen::Close(4429));
}

#[test]
fn messages_that_only_wait_for_an_earlier_one_never_close_the_connection() {
    let mut bench = Bench::open();
    let limited = || Err(Failure::of(ErrorCode::RateLimited));
    let refused = bench.send(1, limited()).unwrap_err();
    assert_eq!((error_code(&refused[0]), refused.len()), (ErrorCode::RateLimited, 1));
    for _ in 0..2 * RATE_LIMITED_MAX {
        let refused = bench.send(2, Ok(())).unwrap_err();
        assert_eq!((error_code(&refused[0]), refused.len()), (ErrorCode::RateLimited, 1), "though there is room");
    }
    for _ in 1..RATE_LIMITED_MAX {
        assert_eq!(bench.send(1, limited()).unwrap_err().len(), 1);
    }
    assert_eq!(bench.send(1, limited()).unwrap_err()[1], Seen::Close(4429));
}

#[test]
fn messages_behind_one_that_was_refused_after_it_was_handed_on_wait_for_it() {
    let mut bench = Bench::open();
    bench.send(1, Ok(())).unwrap();
    bench.send(2, Ok(())).unwrap();
    let refused = bench.reply(Err(Failure::of(ErrorCode::RateLimited)));
    assert_eq!(error_code(&refused[0]), ErrorCode::RateLimited);
    // The second is refused by the same limit, and waits for the first.
    bench.reply(Err(Failure::of(ErrorCode::RateLimited)));
    assert!(bench.send(2, Ok(())).is_err());
    bench.send(1, Ok(())).unwrap();
    bench.send(2, Ok(())).unwrap();
}

#[test]
fn a_success_without_anything_to_be_said_is_not_answered_and_makes_room() {
    let mut bench = Bench::open();
    bench.text(&format!(r#"{{"type":"typing","id":"1","to":"{OTHER}","active":true}}"#));
    assert!(bench.machine.is_busy());
    let ticket = bench.tickets.pop_front().unwrap();
    for _ in 0..2 {
        bench.machine.reply(bench.now, Reply { ticket, result: Ok(None) }, &mut bench.actions);
        assert_eq!(bench.seen(), []);
    }
    assert!(!bench.machine.is_busy());
}

#[test]
fn typing_expires_unless_it_is_repeated() {
    let mut bench = Bench::open();
    let typing = |active: bool| format!(r#"{{"type":"typing","to":"{OTHER}","active":{active}}}"#);
    let target = Target::Member(OTHER);
    let call = |active| Seen::Call(Call::Query(Query::Typing { target, active }));
    assert_eq!(bench.text(&typing(true)), [call(true)]);
    bench.wait(Duration::from_secs(5));
    bench.text(&typing(true));
    assert_eq!(bench.wait(Duration::from_millis(5_999)), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [Seen::StopTyping(target)]);
    assert_eq!(bench.wait(Duration::from_secs(10)), [], "told once");
    bench.text(&typing(true));
    assert_eq!(bench.text(&typing(false)), [call(false)]);
    assert_eq!(bench.wait(Duration::from_secs(10)), [], "stopped by the member");
}

#[test]
fn a_message_ends_typing_and_so_does_the_end_of_the_connection() {
    let mut bench = Bench::open();
    bench.text(&format!(r#"{{"type":"typing","to":"{OTHER}","active":true}}"#));
    bench.text(&format!(r#"{{"type":"typing","conversation":"{CONVERSATION}","active":true}}"#));
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    bench.text(&format!(r#"{{"type":"message.send","to":"{OTHER}","client_id":"{uuid}","content":"hi"}}"#));
    assert_eq!(bench.machine.end(), [Target::Conversation(CONVERSATION)]);
}

#[test]
fn typing_in_too_many_places_stops_the_oldest() {
    let mut bench = Bench::open();
    let typing = |n: usize| format!(r#"{{"type":"typing","to":"{n:024}","active":true}}"#);
    for n in 1..=protocol::limits::TYPING_MAX {
        assert_eq!(bench.text(&typing(n)).len(), 1);
    }
    let seen = bench.text(&typing(99));
    let oldest = Target::Member(format!("{:024}", 1).parse().unwrap());
    assert_eq!(seen[0], Seen::StopTyping(oldest));
}

#[test]
fn after_the_order_to_close_nothing_is_taken() {
    let mut bench = Bench::open();
    bench.machine.violation(CloseCode::UnsupportedData, &mut bench.actions);
    assert_eq!(bench.seen(), [Seen::Close(1003)]);
    assert_eq!(bench.text(r#"{"type":"ping","id":"1"}"#), []);
    bench.machine.violation(CloseCode::TooLarge, &mut bench.actions);
    assert_eq!(bench.seen(), [], "the first reason counts");
}

#[test]
fn pages_have_a_default_size() {
    let mut bench = Bench::open();
    let get = |rest: &str| format!(r#"{{"type":"history.get","conversation":"{CONVERSATION}"{rest}}}"#);
    for (rest, range, limit) in [
        ("", Range::Newest, PAGE_DEFAULT),
        (r#","before":7,"limit":3"#, Range::Before(7), 3),
        (r#","after":7"#, Range::After(7), PAGE_DEFAULT),
    ] {
        let call = Call::Query(Query::History { conversation: CONVERSATION, range, limit });
        assert_eq!(bench.text(&get(rest)), [Seen::Call(call)]);
    }
}
