//! What happened, and when. Everything has a beginning and, once it is known to have happened, an end: in between it may have happened or not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{ClientMessageId, ConversationId, MemberId};
use tokio::time::Instant;

/// How old a registration is before a push service says that it is none any more: younger ones could be under way again.
const SETTLED: Duration = Duration::from_secs(5);

/// When something was asked for, and when it was known to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begun: Instant,
    pub(crate) done: Option<Instant>,
}

impl Span {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), done: None }
    }

    /// Whether it was done by then for certain.
    pub(crate) fn is_done_by(&self, at: Instant) -> bool {
        self.done.is_some_and(|done| done <= at)
    }

    /// The later of both ends, if there is one.
    fn end(&mut self) {
        self.done.get_or_insert_with(Instant::now);
    }
}

/// A message. Members and phones are known by their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sender: usize,
    pub(crate) text: String,
    pub(crate) stored: Span,
}

/// A message whose number is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered {
    pub(crate) to: usize,
    message: Message,
}

/// A device has everything up to a message, or its member has read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) said: Span,
}

/// A member wants to be told of nothing in a conversation, or of everything again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) is_muted: bool,
    pub(crate) said: Span,
}

/// An address that a device was registered with.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) phone: usize,
    pub(crate) member: usize,
    pub(crate) address: String,
    pub(crate) begun: Span,
    pub(crate) ended: Option<Span>,
    /// The push service ended it.
    pub(crate) is_gone: bool,
}

/// What a push says, but the number at the icon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) conversation: ConversationId,
    pub(crate) seq: u64,
    pub(crate) sender: Option<MemberId>,
    pub(crate) body: String,
}

/// A push as its service got it.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub(crate) address: String,
    pub(crate) badge: u32,
    /// Nothing if only the number at the icon is to be changed.
    pub(crate) notice: Option<Notice>,
    pub(crate) at: Instant,
    /// When it was taken, if it was.
    pub(crate) taken: Option<Instant>,
    /// It is not tried again for longer than the run lasts.
    pub(crate) is_put_off: bool,
    /// It was found too long, and comes once more without its text.
    pub(crate) is_too_long: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) members: Vec<MemberId>,
    /// Both members of each conversation.
    pub(crate) conversations: HashMap<ConversationId, (usize, usize)>,
    pub(crate) messages: HashMap<ConversationId, BTreeMap<u64, Message>>,
    pub(crate) unanswered: HashMap<ClientMessageId, Unanswered>,
    /// By phone and conversation.
    pub(crate) has: HashMap<(usize, ConversationId), Vec<Mark>>,
    /// By member and conversation.
    pub(crate) read: HashMap<(usize, ConversationId), Vec<Mark>>,
    /// By member and conversation, in their order.
    pub(crate) choices: HashMap<(usize, ConversationId), Vec<Choice>>,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) pushes: Vec<Push>,
    /// The server or its database was killed; done when it was there again.
    pub(crate) crashes: Vec<Span>,
    /// A push service took nothing.
    pub(crate) outages: Vec<Span>,
    /// What a push service did not like of what it got.
    pub(crate) complaints: Vec<String>,
}

/// What everybody notes.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Facts>);

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// A message is going to be sent.
    pub(crate) fn sending(&mut self, id: ClientMessageId, (sender, to): (usize, usize), text: String) {
        let message = Message { sender, text, stored: Span::begin() };
        self.unanswered.insert(id, Unanswered { to, message });
    }

    /// It was stored.
    pub(crate) fn sent(&mut self, id: &ClientMessageId, conversation: ConversationId, seq: u64) {
        let Some(Unanswered { to, mut message }) = self.unanswered.remove(id) else { return };
        message.stored.end();
        self.conversations.insert(conversation, (message.sender, to));
        self.messages.entry(conversation).or_default().insert(seq, message);
    }

    /// The newest message of a conversation that is known to be stored.
    pub(crate) fn newest(&self, conversation: &ConversationId) -> Option<u64> {
        self.messages.get(conversation)?.last_key_value().map(|(seq, _)| *seq)
    }

    /// A phone is going to say that it has everything up to a message, and, if it is read, that its member has read it. Returns the places of
    /// both marks.
    pub(crate) fn saying(
        &mut self,
        (phone, member): (Option<usize>, usize),
        conversation: ConversationId,
        seq: u64,
        is_read: bool,
    ) -> Said {
        let mark = Mark { seq, said: Span::begin() };
        let note = |marks: &mut Vec<Mark>| {
            marks.push(mark);
            marks.len() - 1
        };
        Said {
            has: phone.map(|phone| ((phone, conversation), note(self.has.entry((phone, conversation)).or_default()))),
            read: is_read.then(|| ((member, conversation), note(self.read.entry((member, conversation)).or_default()))),
        }
    }

    /// That was answered.
    pub(crate) fn said(&mut self, said: &Said) {
        let marks = [(&mut self.has, said.has), (&mut self.read, said.read)];
        for (marks, place) in marks {
            if let Some((key, place)) = place
                && let Some(mark) = marks.get_mut(&key).and_then(|marks| marks.get_mut(place))
            {
                mark.said.end();
            }
        }
    }

    /// A member is going to mute a conversation, or to hear of it again.
    pub(crate) fn choosing(&mut self, of: (usize, ConversationId), is_muted: bool) {
        self.choices.entry(of).or_default().push(Choice { is_muted, said: Span::begin() });
    }

    /// That was answered.
    pub(crate) fn chosen(&mut self, of: (usize, ConversationId)) {
        self.choices.get_mut(&of).into_iter().flatten().for_each(|choice| choice.said.end());
    }

    /// A phone is going to be registered. What it had, and who had the address, may be over from now on.
    pub(crate) fn registering(&mut self, phone: usize, member: usize, address: &str) {
        let (address, begun) = (address.to_owned(), Span::begin());
        self.end_at(begun, |known| known.phone == phone || known.address == address, false);
        self.registrations.push(Registration { phone, member, address, begun, ended: None, is_gone: false });
    }

    /// It was registered; or it was not, and everything is as before.
    pub(crate) fn registered(&mut self, phone: usize, is_done: bool) {
        let Some(place) = self.registrations.iter().rposition(|known| known.phone == phone) else { return };
        if is_done {
            let address = self.registrations.get(place).map(|known| known.address.clone()).unwrap_or_default();
            for (number, known) in self.registrations.iter_mut().enumerate() {
                let is_it = number == place;
                if is_it {
                    known.begun.end();
                } else if (known.phone == phone || known.address == address)
                    && let Some(ended) = &mut known.ended
                {
                    ended.end();
                }
            }
        } else {
            let refused = self.registrations.remove(place);
            for known in &mut self.registrations {
                let is_touched = known.phone == phone || known.address == refused.address;
                if is_touched && known.ended.is_some_and(|ended| ended.done.is_none()) {
                    known.ended = None;
                }
            }
        }
    }

    /// The registration of a phone is going to be over, or is.
    pub(crate) fn ending(&mut self, phone: usize) {
        self.end(|known| known.phone == phone, false);
    }

    /// It is.
    pub(crate) fn ended(&mut self, phone: usize) {
        let open = self.registrations.iter_mut().filter(|known| known.phone == phone);
        open.filter_map(|known| known.ended.as_mut()).for_each(Span::end);
    }

    /// Whether a push service may say that nobody is at an address any more; then it is so.
    pub(crate) fn goes(&mut self, address: &str) -> bool {
        let old = |known: &Registration| known.begun.done.is_some_and(|done| done.elapsed() > SETTLED);
        let mut all = self.registrations.iter().filter(|known| known.address == address).peekable();
        let may =
            all.peek().is_some() && all.all(|known| old(known) && known.ended.is_none_or(|end| end.done.is_some()));
        if may {
            self.end(|known| known.address == address, true);
        }
        may
    }

    /// The address that a phone is registered with at the moment, if it is.
    pub(crate) fn address(&self, phone: usize) -> Option<&Registration> {
        self.registrations.iter().rev().find(|known| known.phone == phone).filter(|known| known.ended.is_none())
    }

    /// Since when a phone is registered by the same member, whatever address it had: what waits is told to the one that it has.
    pub(crate) fn registered_since(&self, registration: &Registration) -> Instant {
        let mut since = registration.begun.begun;
        let of_phone = |known: &&Registration| known.phone == registration.phone;
        for known in self
            .registrations
            .iter()
            .rev()
            .filter(of_phone)
            .filter(|known| known.begun.begun < registration.begun.begun)
        {
            if known.member != registration.member || known.ended.is_none_or(|ended| ended.begun != since) {
                break;
            }
            since = known.begun.begun;
        }
        since
    }

    fn end(&mut self, which: impl Fn(&Registration) -> bool, is_gone: bool) {
        self.end_at(Span::begin(), which, is_gone);
    }

    fn end_at(&mut self, at: Span, which: impl Fn(&Registration) -> bool, is_gone: bool) {
        for known in self.registrations.iter_mut().filter(|known| known.ended.is_none() && which(known)) {
            let mut span = at;
            if is_gone {
                span.end();
            }
            (known.ended, known.is_gone) = (Some(span), is_gone);
        }
    }

    /// Something was killed, or begins to fail.
    pub(crate) fn begin(spans: &mut Vec<Span>) {
        spans.push(Span::begin());
    }

    /// It is there again.
    pub(crate) fn over(spans: &mut [Span]) {
        spans.iter_mut().for_each(Span::end);
    }

    /// Pushes arrived at a service. Returns the place of the first.
    pub(crate) fn arrived(&mut self, pushes: Vec<Push>) -> usize {
        let place = self.pushes.len();
        self.pushes.extend(pushes);
        place
    }

    pub(crate) fn push(&mut self, place: usize) -> Option<&mut Push> {
        self.pushes.get_mut(place)
    }
}

/// Marks that are not answered yet, by their places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    has: Option<((usize, ConversationId), usize)>,
    read: Option<((usize, ConversationId), usize)>,
}
