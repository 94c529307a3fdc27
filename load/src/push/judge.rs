//! Whether what happened is as the rules have it. What was under way at a moment may have happened by then or not: nobody is blamed for either.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use protocol::ConversationId;
use tokio::time::Instant;

use super::facts::{Facts, Mark, Message, Notice, Push, Registration, Span};

/// How long a device may go without a message before it has to be pushed to it.
const UNHEARD: Duration = Duration::from_secs(10);
/// How long what a device says may take until it counts, when nothing crashes.
const WRITTEN: Duration = Duration::from_secs(3);
/// How long a service is left alone that has failed, and how long what it has not answered is waited for.
const RESTS: Duration = Duration::from_secs(30);

/// By what is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How long before it arrives at its service a push may have been made.
    pub(crate) slack: Duration,
    /// How old a message may be when it is pushed.
    pub(crate) ttl: Duration,
    /// How long after a crash or an outage things may be late.
    pub(crate) recovery: Duration,
}

/// A message that a device has to be told of.
struct Duty<'a> {
    registration: &'a Registration,
    conversation: ConversationId,
    seq: u64,
    /// When it was known to be stored.
    from: Instant,
    /// When it was not wanted any more, if it is not.
    until: Option<Instant>,
}

/// What happened, sorted.
pub(crate) struct Case<'a> {
    facts: &'a Facts,
    rules: Rules,
    /// By address and conversation, in the order of their arrival.
    pushes: HashMap<(&'a str, ConversationId), Vec<(&'a Push, &'a Notice)>>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(facts: &'a Facts, rules: Rules) -> Self {
        let mut pushes: HashMap<_, Vec<_>> = HashMap::new();
        for push in &facts.pushes {
            if let Some(notice) = &push.notice {
                pushes.entry((push.address.as_str(), notice.conversation)).or_default().push((push, notice));
            }
        }
        Self { facts, rules, pushes }
    }

    /// All broken rules, in words, but those about what has to be told yet.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = self.facts.complaints.clone();
        for push in &self.facts.pushes {
            broken.extend(self.of_push(push).into_iter().map(|rule| format!("{rule}: {}", self.named(push))));
        }
        for pushes in self.pushes.values() {
            broken.extend(self.again(pushes));
        }
        broken
    }

    /// What devices have to be told of and are not, in words: what is late for certain, and what waits.
    pub(crate) fn owed(&self, now: Instant) -> (Vec<String>, usize) {
        let (mut late, mut waiting) = (Vec::new(), 0);
        for duty in self.duties() {
            let end = duty.until.unwrap_or(now);
            let of = (duty.registration.member, duty.conversation);
            let from = duty.from.checked_sub(self.rules.slack).unwrap_or(duty.from);
            let is_short = end.saturating_duration_since(duty.from) < UNHEARD;
            if is_short || self.is_told(&duty, end) || self.may_be_muted(of, from, end) {
                continue;
            }
            if duty.until.is_none() && !self.is_given_up(&duty, end) {
                waiting += 1;
            }
            if end.duration_since(duty.from) > UNHEARD + self.rules.slack && !self.is_excused(&duty, end) {
                let (phone, seq) = (duty.registration.phone, duty.seq);
                let (secs, said) = (
                    end.duration_since(duty.from).as_secs_f64(),
                    if duty.until.is_some() { " then it was not wanted" } else { "" },
                );
                late.push(format!(
                    "phone {phone} was not told of message {seq} of {} in {secs:.1} s{said}",
                    duty.conversation
                ));
            }
        }
        (late, waiting)
    }

    /// From when a message was stored until a push that brings it was taken, of each push; and whether anything failed meanwhile.
    pub(crate) fn latencies(&self) -> Vec<(Duration, bool)> {
        let mut all = Vec::new();
        for pushes in self.pushes.values() {
            for (push, notice) in pushes {
                let (Some(taken), Some(message)) = (push.taken, self.message(notice)) else { continue };
                let Some(stored) = message.stored.done else { continue };
                let failed =
                    pushes.iter().any(|(other, _)| other.taken.is_none() && other.at >= stored && other.at <= taken);
                all.push((taken.saturating_duration_since(stored), failed || self.is_troubled(stored, taken)));
            }
        }
        all
    }

    fn message(&self, notice: &Notice) -> Option<&'a Message> {
        self.facts.messages.get(&notice.conversation)?.get(&notice.seq)
    }

    fn duties(&self) -> impl Iterator<Item = Duty<'a>> + '_ {
        self.facts.messages.iter().flat_map(move |(conversation, messages)| {
            messages.iter().flat_map(move |(seq, message)| {
                let to = self.other(*conversation, message.sender);
                let its = self.facts.registrations.iter().filter(move |known| Some(known.member) == to);
                its.filter_map(move |registration| self.duty(registration, (*conversation, *seq), message))
            })
        })
    }

    fn duty(
        &self,
        registration: &'a Registration,
        (conversation, seq): (ConversationId, u64),
        message: &Message,
    ) -> Option<Duty<'a>> {
        // It has to be registered for certain before the message is sent.
        registration.begun.done.filter(|done| *done < message.stored.begun)?;
        let (from, ended) = (message.stored.done?, registration.ended.map(|ended| ended.begun));
        let first = |marks: Option<&Vec<Mark>>| {
            marks.into_iter().flatten().filter(|mark| mark.seq >= seq).map(|mark| mark.said.begun).min()
        };
        let has = first(self.facts.has.get(&(registration.phone, conversation)));
        let read = first(self.facts.read.get(&(registration.member, conversation)));
        let until = [ended, has, read].into_iter().flatten().min();
        Some(Duty { registration, conversation, seq, from, until })
    }

    fn to_it(&self, duty: &Duty<'a>) -> &[(&'a Push, &'a Notice)] {
        let registration: &'a Registration = duty.registration;
        self.pushes.get(&(registration.address.as_str(), duty.conversation)).map_or(&[], Vec::as_slice)
    }

    fn is_told(&self, duty: &Duty<'a>, by: Instant) -> bool {
        self.to_it(duty).iter().any(|(push, notice)| push.taken.is_some_and(|at| at <= by) && notice.seq >= duty.seq)
    }

    /// Whether something has failed that it had to wait for.
    fn is_excused(&self, duty: &Duty<'a>, end: Instant) -> bool {
        // Whatever a service fails may have it left alone for a while.
        let failed = |push: &Push| push.taken.is_none() && push.at + RESTS >= duty.from && push.at <= end;
        self.is_troubled(duty.from, end) || self.is_given_up(duty, end) || self.facts.pushes.iter().any(failed)
    }

    /// Whether it is too old by then, or not tried again for longer than this lasts.
    fn is_given_up(&self, duty: &Duty<'a>, end: Instant) -> bool {
        end.duration_since(duty.from) + self.rules.slack > self.rules.ttl || self.is_put_off(duty)
    }

    /// Whether the device is told of the conversation later, because of what its service said at any of its addresses: it is put off for the
    /// device, which may have another one since.
    fn is_put_off(&self, duty: &Duty<'a>) -> bool {
        let Registration { phone, member, .. } = duty.registration;
        let same = self.facts.registrations.iter().filter(|known| known.phone == *phone && known.member == *member);
        let pushes = same.filter_map(|known| self.pushes.get(&(known.address.as_str(), duty.conversation)));
        pushes.flatten().any(|(push, _)| push.is_put_off)
    }

    /// Whether a member may have wanted to be told of nothing in a conversation at some moment between two.
    fn may_be_muted(&self, of: (usize, ConversationId), from: Instant, until: Instant) -> bool {
        let choices = self.facts.choices.get(&of).map_or(&[][..], Vec::as_slice);
        choices.iter().enumerate().any(|(place, choice)| {
            let next = choices.get(place + 1).map(|next| next.said);
            let is_over = next.is_some_and(|next| next.is_done_by(from));
            choice.is_muted && choice.said.begun <= until && !is_over
        })
    }

    /// Whether a member wanted to be told of nothing all the time between two moments.
    fn is_muted(&self, of: (usize, ConversationId), from: Instant, until: Instant) -> bool {
        let choices = self.facts.choices.get(&of).map_or(&[][..], Vec::as_slice);
        choices.iter().enumerate().any(|(place, choice)| {
            let is_on = choices.get(place + 1).is_none_or(|next| next.said.begun > until);
            choice.is_muted && choice.said.is_done_by(from) && is_on
        })
    }

    /// Whether something was down, or had been a moment before.
    fn is_troubled(&self, from: Instant, until: Instant) -> bool {
        let recovery = self.rules.recovery;
        let touches = |span: &Span| span.begun <= until && span.done.is_none_or(|done| done + recovery >= from);
        self.facts.crashes.iter().chain(&self.facts.outages).any(touches)
    }

    /// Whether something crashed between two moments.
    fn crashed(&self, from: Instant, until: Instant) -> bool {
        self.facts.crashes.iter().any(|crash| crash.begun <= until && crash.done.is_none_or(|done| done >= from))
    }

    fn other(&self, conversation: ConversationId, member: usize) -> Option<usize> {
        let (one, other) = self.facts.conversations.get(&conversation)?;
        Some(if *one == member { *other } else { *one })
    }

    /// Which rules a push breaks by itself.
    fn of_push(&self, push: &Push) -> Vec<String> {
        let mut broken = Vec::new();
        let mut owners = self.owners(push);
        if let Some(notice) = &push.notice {
            let Some(message) = self.message(notice) else { return self.unknown(push, notice) };
            let to = self.other(notice.conversation, message.sender);
            owners.retain(|owner| Some(owner.member) == to);
            broken.extend(self.of_notice(push, notice, message, &owners));
        }
        if owners.is_empty() {
            broken.push("pushed to an address that its member does not have".to_owned());
        } else if !owners.iter().any(|owner| self.unread(owner.member, push.at).contains(&push.badge)) {
            let ranges = owners.iter().map(|owner| format!("{:?}", self.unread(owner.member, push.at)));
            broken.push(format!("a badge of {} instead of {}", push.badge, ranges.collect::<Vec<_>>().join(" or ")));
        }
        broken
    }

    /// A message that its sender does not know to be stored yet.
    fn unknown(&self, push: &Push, notice: &Notice) -> Vec<String> {
        let is_sent = !self.facts.unanswered.is_empty() && push.at.elapsed() < self.rules.recovery;
        if is_sent { Vec::new() } else { vec![format!("message {} was never sent", notice.seq)] }
    }

    fn of_notice(&self, push: &Push, notice: &Notice, message: &Message, owners: &[&Registration]) -> Vec<String> {
        let mut broken = Vec::new();
        let before = push.at.checked_sub(self.rules.slack).unwrap_or(push.at);
        if notice.sender.is_some_and(|sender| self.facts.members.get(message.sender) != Some(&sender)) {
            broken.push("another sender".to_owned());
        }
        let pushes = self.pushes.get(&(push.address.as_str(), notice.conversation));
        let is_short = pushes.into_iter().flatten().any(|(other, of)| other.is_too_long && of.seq == notice.seq);
        if !notice.body.starts_with(&message.text) && !is_short {
            broken.push("another text".to_owned());
        }
        if message.stored.is_done_by(before.checked_sub(self.rules.ttl).unwrap_or(before)) {
            broken.push("pushed a message that is older than PUSH_TTL".to_owned());
        }
        let by = |marks: Option<&Vec<Mark>>, by: Instant| {
            let known = marks.into_iter().flatten().filter(|mark| mark.seq >= notice.seq && mark.said.is_done_by(by));
            known.filter_map(|mark| mark.said.done).min()
        };
        let all_have =
            |has: &dyn Fn(&Registration) -> bool| !owners.is_empty() && owners.iter().all(|owner| has(owner));
        let read = |owner: &Registration| by(self.facts.read.get(&(owner.member, notice.conversation)), before);
        if all_have(&|owner| read(owner).is_some()) {
            let since = owners.iter().filter_map(|owner| read(owner)).min().map(|at| push.at.duration_since(at));
            broken.push(format!("pushed what was read before, for {:.1} s", since.unwrap_or_default().as_secs_f64()));
        }
        if all_have(&|owner| self.is_muted((owner.member, notice.conversation), before, push.at)) {
            broken.push("pushed what was muted before".to_owned());
        }
        let has = |owner: &Registration| {
            let said = by(
                self.facts.has.get(&(owner.phone, notice.conversation)),
                before.checked_sub(WRITTEN).unwrap_or(before),
            );
            // What was said a moment before a crash need not be known after it.
            said.is_some_and(|said| !self.crashed(said, said + WRITTEN))
        };
        if all_have(&has) {
            broken.push("pushed what the device has".to_owned());
        }
        let is_older = |owner: &Registration| message.stored.is_done_by(self.facts.registered_since(owner));
        if all_have(&is_older) {
            broken.push("pushed what was stored before the device was registered".to_owned());
        }
        broken
    }

    /// Whose an address may have been when a push to it was made.
    fn owners(&self, push: &Push) -> Vec<&'a Registration> {
        let before = push.at.checked_sub(self.rules.slack).unwrap_or(push.at);
        let is_over = |known: &Registration| {
            known
                .ended
                .is_some_and(|ended| ended.is_done_by(before) && !(known.is_gone && self.crashed(ended.begun, push.at)))
        };
        let its = self.facts.registrations.iter().filter(|known| known.address == push.address);
        its.filter(|known| known.begun.begun <= push.at && !is_over(known)).collect()
    }

    /// How many messages a member may not have read at the moment at which a push was made.
    fn unread(&self, member: usize, at: Instant) -> std::ops::RangeInclusive<u32> {
        let before = at.checked_sub(self.rules.slack).unwrap_or(at);
        let (mut least, mut most) = (0, 0);
        for (conversation, (one, other)) in &self.facts.conversations {
            if *one != member && *other != member {
                continue;
            }
            let marks = || self.facts.read.get(&(member, *conversation)).into_iter().flatten();
            let may_be_read = marks().filter(|mark| mark.said.begun <= at).map(|mark| mark.seq).max().unwrap_or(0);
            let is_read = marks().filter(|mark| mark.said.is_done_by(before)).map(|mark| mark.seq).max().unwrap_or(0);
            let messages: &BTreeMap<u64, Message> = match self.facts.messages.get(conversation) {
                Some(messages) => messages,
                None => continue,
            };
            let others = || messages.iter().filter(|(_, message)| message.sender != member);
            least += others().filter(|(seq, message)| **seq > may_be_read && message.stored.is_done_by(before)).count();
            most += others().filter(|(seq, message)| **seq > is_read && message.stored.begun <= at).count();
        }
        most += self.facts.unanswered.values().filter(|unanswered| unanswered.to == member).count();
        u32::try_from(least).unwrap_or(u32::MAX)..=u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// Pushes of one conversation to one address: none again after its ticket, except after a crash.
    fn again(&self, pushes: &[(&'a Push, &'a Notice)]) -> Vec<String> {
        let mut broken = Vec::new();
        for (place, (push, notice)) in pushes.iter().enumerate() {
            let earlier = pushes.get(..place).unwrap_or_default().iter().filter(|(_, of)| {
                // Not where the address has gone to the other member of the conversation since.
                of.seq >= notice.seq && of.sender == notice.sender
            });
            // Tickets that the server had when it sent this: those of requests that were answered before.
            let taken = earlier.filter_map(|(push, _)| push.taken).filter(|taken| *taken < push.at).max();
            if let Some(taken) = taken
                && !self.crashed(taken, push.at)
            {
                let secs = push.at.duration_since(taken).as_secs_f64();
                broken.push(format!("pushed again {secs:.1} s after its ticket: {}", self.named(push)));
            }
        }
        broken
    }

    fn named(&self, push: &Push) -> String {
        let ago = self.facts.pushes.first().map_or(Duration::ZERO, |first| push.at.duration_since(first.at));
        let what = push.notice.as_ref().map_or_else(
            || "a badge".to_owned(),
            |notice| format!("message {} of {}", notice.seq, notice.conversation),
        );
        format!("{what} to {} {:.1} s after the first push", push.address, ago.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
