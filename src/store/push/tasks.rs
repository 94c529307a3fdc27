//! Tasks as they are stored, and what becomes of one when it is written again, taken, and settled. The same for every store.

use std::collections::{BTreeMap, btree_map::Entry};

use protocol::Timestamp;

use super::{DeviceKey, NewTask, Settled, Subject, TakenTask};

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// What is to be told, and when it is due.
    pub task: NewTask,
    /// How often it was taken since it was last written anew.
    pub attempts: u32,
    /// When what was added is due that came after it was taken.
    pub next_due: Option<Timestamp>,
    /// How often it was taken without it being known what became of it: while it is in hand for the first time 1, and more if somebody had it in
    /// hand before who has never said what became of it.
    pub unsettled: u32,
    /// How often it was tried and failed since it was last written anew: what was put off without having been tried is not tried later for that.
    pub failures: u32,
    /// Another number each time that it is written; drawn by the store.
    pub(in crate::store) revision: i64,
}

impl StoredTask {
    /// One that nobody has taken.
    pub(in crate::store) const fn new(task: NewTask, revision: i64) -> Self {
        Self { task, attempts: 0, next_due: None, unsettled: 0, failures: 0, revision }
    }

    /// It is written again while it waits. Who has it in hand, or has put it off, goes on with that: what is added is due after it.
    pub(in crate::store) fn add(mut self, new: &NewTask, revision: i64) -> Self {
        let due = self.task.due;
        self.task.extend(new);
        if self.attempts > 0 {
            self.task.due = due;
            self.next_due = Some(self.next_due.map_or(new.due, |next| next.min(new.due)));
        }
        Self { revision, ..self }
    }

    /// It is taken: all that is in it is in hand now.
    pub(in crate::store) fn take(mut self, until: Timestamp) -> Self {
        self.task.due = until;
        let (attempts, unsettled) = (self.attempts.saturating_add(1), self.unsettled.saturating_add(1));
        Self { attempts, next_due: None, unsettled, ..self }
    }

    /// What is left of it; nothing if it is over.
    pub(in crate::store) fn settle(mut self, taken: &TakenTask, settled: &Settled) -> Option<Self> {
        // Not if another one has taken it since, because it took too long.
        let is_in_hand = self.attempts == taken.attempts;
        // Not counted down: the same may be said twice.
        let doubts = u32::from(taken.is_in_doubt);
        match settled {
            Settled::Kept { until } if is_in_hand => self.task.due = *until,
            Settled::Postponed { due, failures } if is_in_hand => {
                (self.task.due, self.failures) = (*due, *failures);
                self.unsettled = doubts;
            }
            Settled::Kept { .. } | Settled::Postponed { .. } => {}
            Settled::Finished { .. } if self.revision == taken.revision => return None,
            Settled::Finished { badge } => {
                if self.task.subject != Subject::Badge {
                    if self.task.last <= taken.task.last {
                        return None;
                    }
                    self.task.first = self.task.first.max(taken.task.last + 1);
                }
                if is_in_hand {
                    self.task.due = self.next_due.take().unwrap_or(self.task.due);
                    (self.attempts, self.failures) = (0, 0);
                    self.unsettled = if badge.is_some() { 0 } else { doubts };
                }
            }
        }
        Some(self)
    }

    /// What whoever takes it gets.
    pub(in crate::store) fn into_taken(self) -> TakenTask {
        let is_in_doubt = self.unsettled > 1;
        TakenTask {
            task: self.task,
            attempts: self.attempts,
            failures: self.failures,
            is_in_doubt,
            revision: self.revision,
        }
    }
}

impl NewTask {
    /// The device that it is for.
    pub(in crate::store) fn device_key(&self) -> DeviceKey {
        DeviceKey::of(self.member, &self.device)
    }

    /// Takes in another one of the same device and subject.
    fn extend(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.at = self.at.max(other.at);
        self.due = self.due.min(other.due);
    }
}

/// Tasks, each device and subject once.
pub(in crate::store) fn merged(tasks: Vec<NewTask>) -> BTreeMap<(DeviceKey, Subject), NewTask> {
    let mut merged = BTreeMap::new();
    for task in tasks {
        match merged.entry((task.device_key(), task.subject)) {
            Entry::Vacant(place) => {
                place.insert(task);
            }
            Entry::Occupied(mut known) => known.get_mut().extend(&task),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use protocol::{ConversationId, MemberId};

    use super::{super::ToldBadge, *};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn task((first, last): (u64, u64), due: i64) -> NewTask {
        let subject = if last == 0 { Subject::Badge } else { Subject::Messages(ConversationId::from_bytes([9; 12])) };
        let (member, device) = (MemberId::from_bytes([1; 12]), "phone".parse().unwrap());
        NewTask { member, device, subject, first, last, at: at(due), due: at(due) }
    }

    const FINISHED: Settled = Settled::Finished { badge: None };

    #[test]
    fn what_comes_while_a_task_waits_is_in_it_and_due_at_the_earlier_time() {
        let merged = merged(vec![task((3, 3), 30), task((4, 6), 10), task((0, 0), 5)]);
        let both: Vec<_> = merged.into_values().collect();
        assert_eq!(both.len(), 2);
        let of_messages = NewTask { at: at(30), ..task((3, 6), 10) };
        assert!(both.contains(&of_messages), "{both:?}");
        let waiting = StoredTask::new(task((3, 3), 30), 1).add(&task((4, 6), 10), 2);
        assert_eq!(waiting, StoredTask::new(of_messages, 2));
    }

    #[test]
    fn what_comes_while_a_task_is_in_hand_is_told_after_it_and_at_its_own_time() {
        let stored = StoredTask::new(task((3, 4), 10), 1).take(at(70));
        let taken = stored.clone().into_taken();
        assert_eq!(stored.clone().settle(&taken, &FINISHED), None);
        let again = stored.add(&task((5, 5), 13), 2).add(&task((6, 6), 14), 3);
        assert_eq!((again.task.due, again.attempts), (at(70), 1));
        let put_off = again.clone().settle(&taken, &Settled::Postponed { due: at(30), failures: 1 }).unwrap();
        assert_eq!(put_off.task, NewTask { at: at(14), ..task((3, 6), 30) });
        assert_eq!(put_off.take(at(90)).next_due, None, "all of it is in hand then");
        let left = again.settle(&taken, &FINISHED).unwrap();
        assert_eq!(left, StoredTask::new(NewTask { at: at(14), ..task((5, 6), 13) }, 3));
    }

    #[test]
    fn what_was_told_already_is_not_left_but_a_number_is_told_once_more() {
        let stored = StoredTask::new(task((3, 4), 10), 1).take(at(70));
        let taken = stored.clone().into_taken();
        assert_eq!(stored.add(&task((4, 4), 12), 2).settle(&taken, &FINISHED), None);
        let badge = StoredTask::new(task((0, 0), 10), 1).take(at(70));
        let taken = badge.clone().into_taken();
        let left = badge.add(&task((0, 0), 12), 2).settle(&taken, &FINISHED).unwrap();
        assert_eq!((left.task.due, left.attempts), (at(12), 0));
    }

    #[test]
    fn what_somebody_had_in_hand_and_never_settled_is_in_doubt_until_a_push_is_known_to_be_taken() {
        let stored = StoredTask::new(task((3, 4), 10), 1).take(at(70));
        let first = stored.clone().into_taken();
        assert!(!first.is_in_doubt);
        let kept = stored.settle(&first, &Settled::Kept { until: at(80) }).unwrap();
        assert_eq!((kept.task.due, kept.unsettled), (at(80), 1), "it is in hand still");
        let put_off = Settled::Postponed { due: at(30), failures: 1 };
        let known = kept.clone().settle(&first, &put_off).unwrap().take(at(90)).into_taken();
        assert!(!known.is_in_doubt, "it is known that nothing was taken");
        let lost = kept.take(at(90));
        let second = lost.clone().into_taken();
        assert!(second.is_in_doubt, "whoever had it in hand is gone");
        let twice = lost.settle(&second, &put_off).unwrap().settle(&second, &put_off).unwrap();
        let third = twice.take(at(120));
        let taken = third.clone().into_taken();
        assert!(taken.is_in_doubt, "whatever it is put off for");
        let more = third.add(&task((5, 5), 95), 2);
        let dropped = more.clone().settle(&taken, &FINISHED).unwrap().take(at(150)).into_taken();
        assert!(dropped.is_in_doubt);
        let told = more
            .settle(&taken, &Settled::Finished { badge: Some(ToldBadge { badge: 2, before: None }) })
            .unwrap()
            .take(at(150))
            .into_taken();
        assert!(!told.is_in_doubt, "it is known what the device shows");
    }

    #[test]
    fn who_was_too_slow_does_not_disturb_who_took_it_after() {
        let stored = StoredTask::new(task((3, 4), 10), 1).take(at(70));
        let slow = stored.clone().into_taken();
        let in_hand = stored.add(&task((5, 5), 13), 2).take(at(130));
        let put_off = in_hand.clone().settle(&slow, &Settled::Postponed { due: at(75), failures: 1 }).unwrap();
        assert_eq!(put_off, in_hand);
        let left = in_hand.settle(&slow, &FINISHED).unwrap();
        assert_eq!((left.task.first, left.task.due, left.attempts), (5, at(130), 2));
    }
}
