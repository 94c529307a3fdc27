//! What devices have said lately: that they have messages, and that a message was read. In memory, for the few seconds in which it is asked for,
//! and until it is written.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{ConversationId, DeviceId, MemberId};
use smallvec::SmallVec;

use crate::store::push::{DEVICES_MAX, DeviceMark};

/// Parts that are locked for themselves.
const SHARDS: usize = 16;
/// Members of conversations that a part remembers of one generation, and that wait in it to be written. What is beyond is forgotten, and looked
/// for in the store.
const REMEMBERED: usize = 8_192;

/// Up to which entry each device of a member has everything. A connection may call itself what it likes, so there are no more than may be
/// registered: of more, the one that has said something for the first time longest ago is forgotten.
type UpTo = SmallVec<[(DeviceId, u64); 1]>;

/// A device has everything up to an entry.
fn note(devices: &mut UpTo, device: &DeviceId, seq: u64) {
    if let Some((_, known)) = devices.iter_mut().find(|(known, _)| known == device) {
        *known = seq.max(*known);
        return;
    }
    if devices.len() >= DEVICES_MAX {
        devices.remove(0);
    }
    devices.push((device.clone(), seq));
}

/// A member of a conversation.
type Place = (ConversationId, MemberId);

/// How far the devices of a member have got in a conversation, as far as was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What the member has read.
    read: u64,
    /// What each device has.
    devices: UpTo,
}

impl Heard {
    /// Whether a device need not be told of a message any more.
    pub(super) fn has(&self, device: &DeviceId, seq: u64) -> bool {
        self.read >= seq || self.devices.iter().any(|(known, up_to)| known == device && *up_to >= seq)
    }
}

/// On which device a member has read something; nothing if it were several, or none that is known.
pub(super) type Reader = Option<DeviceId>;

#[derive(Default)]
struct Shard {
    /// Of this generation, and of the one before.
    young: HashMap<Place, Heard>,
    old: HashMap<Place, Heard>,
    /// What is not written yet.
    unwritten: HashMap<Place, UpTo>,
    readers: HashMap<MemberId, Reader>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// What devices have.
    pub(super) marks: Vec<DeviceMark>,
    /// Who has read something.
    pub(super) readers: Vec<(MemberId, Reader)>,
}

/// What devices have said lately.
#[derive(Default)]
pub(super) struct Acks {
    shards: [Mutex<Shard>; SHARDS],
}

impl Acks {
    /// A member's device has everything up to an entry, or the member has read it. Never waits.
    pub(super) fn hear(&self, (conversation, member): Place, device: Option<&DeviceId>, seq: u64, is_read: bool) {
        let Some(mut shard) = self.shard(conversation) else { return };
        let Shard { young, old, unwritten, readers } = &mut *shard;
        if young.len() >= REMEMBERED {
            *old = std::mem::take(young);
        }
        let place = (conversation, member);
        let heard = young.entry(place).or_insert_with(|| old.remove(&place).unwrap_or_default());
        if is_read {
            heard.read = heard.read.max(seq);
            if readers.len() < REMEMBERED {
                let reader = readers.entry(member).or_insert_with(|| device.cloned());
                if reader.as_ref() != device {
                    *reader = None;
                }
            }
        }
        let Some(device) = device else { return };
        note(&mut heard.devices, device, seq);
        if unwritten.len() < REMEMBERED || unwritten.contains_key(&place) {
            note(unwritten.entry(place).or_default(), device, seq);
        }
    }

    /// How far a member's devices have got in a conversation, as far as was heard.
    pub(super) fn of(&self, member: MemberId, conversation: ConversationId) -> Option<Heard> {
        let shard = self.shard(conversation)?;
        let place = (conversation, member);
        shard.young.get(&place).or_else(|| shard.old.get(&place)).cloned()
    }

    /// Begins a new generation: what was not heard again in the last one is forgotten.
    pub(super) fn turn(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.old = std::mem::take(&mut shard.young);
        }
    }

    /// Takes what is to be written.
    pub(super) fn take(&self) -> Unwritten {
        let mut taken = Unwritten::default();
        for shard in &self.shards {
            let (unwritten, readers) = {
                let mut shard = lock(shard);
                (std::mem::take(&mut shard.unwritten), std::mem::take(&mut shard.readers))
            };
            taken.readers.extend(readers);
            for ((conversation, member), devices) in unwritten {
                let mark = |(device, seq)| DeviceMark { member, device, conversation, seq };
                taken.marks.extend(devices.into_iter().map(mark));
            }
        }
        taken
    }

    /// Takes back what was not written: what devices have said stays true, and of who has read something nobody was told. As far as there is room
    /// beside what was heard since.
    pub(super) fn put_back(&self, Unwritten { marks, readers }: Unwritten) {
        for DeviceMark { member, device, conversation, seq } in marks.into_iter().rev() {
            let Some(mut shard) = self.shard(conversation) else { continue };
            let (place, unwritten) = ((conversation, member), &mut shard.unwritten);
            if unwritten.len() >= REMEMBERED && !unwritten.contains_key(&place) {
                continue;
            }
            let devices = unwritten.entry(place).or_default();
            let has_room = devices.len() < DEVICES_MAX;
            match devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, known)) => *known = seq.max(*known),
                None if has_room => devices.insert(0, (device, seq)),
                None => {}
            }
        }
        for (member, device) in readers {
            let [.., last] = *member.as_bytes();
            let Some(mut shard) = self.shards.get(usize::from(last) % SHARDS).map(lock) else { continue };
            if shard.readers.len() < REMEMBERED {
                let reader = shard.readers.entry(member).or_insert_with(|| device.clone());
                if *reader != device {
                    *reader = None;
                }
            }
        }
    }

    fn shard(&self, conversation: ConversationId) -> Option<MutexGuard<'_, Shard>> {
        // The id is a hash.
        let [.., last] = *conversation.as_bytes();
        self.shards.get(usize::from(last) % SHARDS).map(lock)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: MemberId = MemberId::from_bytes([7; 12]);
    const HERE: ConversationId = ConversationId::from_bytes([1; 12]);

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[test]
    fn a_device_has_what_it_said_and_all_have_what_was_read() {
        let (acks, phone, laptop) = (Acks::default(), device("phone"), device("laptop"));
        assert_eq!(acks.of(ANA, HERE), None);
        acks.hear((HERE, ANA), Some(&phone), 5, false);
        acks.hear((HERE, ANA), Some(&phone), 3, false);
        let has = |device: &DeviceId, seq| acks.of(ANA, HERE).unwrap().has(device, seq);
        assert!(has(&phone, 5) && !has(&phone, 6) && !has(&laptop, 1));
        acks.hear((HERE, ANA), Some(&laptop), 2, true);
        assert!(has(&laptop, 2) && !has(&laptop, 3), "what was read is read everywhere");
        acks.hear((HERE, ANA), None, 9, true);
        assert!(has(&phone, 9) && has(&laptop, 9));
    }

    #[test]
    fn it_is_forgotten_after_two_generations_unless_it_is_heard_again() {
        let (acks, phone) = (Acks::default(), device("phone"));
        acks.hear((HERE, ANA), Some(&phone), 5, false);
        acks.turn();
        assert!(acks.of(ANA, HERE).unwrap().has(&phone, 5));
        acks.hear((HERE, ANA), Some(&phone), 4, false);
        acks.turn();
        assert!(acks.of(ANA, HERE).unwrap().has(&phone, 5), "the later one does not undo the earlier one");
        acks.turn();
        assert_eq!(acks.of(ANA, HERE), None);
    }

    #[test]
    fn what_is_written_is_the_last_word_of_each_device_and_taken_once() {
        let (acks, phone, laptop) = (Acks::default(), device("phone"), device("laptop"));
        for seq in 1..=9 {
            acks.hear((HERE, ANA), Some(&phone), seq, false);
        }
        acks.hear((HERE, ANA), Some(&laptop), 4, true);
        let Unwritten { mut marks, readers } = acks.take();
        marks.sort_by_key(|mark| mark.seq);
        let seqs: Vec<(&str, u64)> = marks.iter().map(|mark| (mark.device.as_str(), mark.seq)).collect();
        assert_eq!(seqs, [("laptop", 4), ("phone", 9)]);
        assert_eq!(readers, [(ANA, Some(laptop.clone()))]);
        let Unwritten { marks, readers } = acks.take();
        assert!(marks.is_empty() && readers.is_empty());
        acks.hear((HERE, ANA), Some(&laptop), 5, true);
        acks.hear((HERE, ANA), Some(&phone), 6, true);
        assert_eq!(acks.take().readers, [(ANA, None)], "read on both");
    }

    #[test]
    fn who_has_read_is_taken_back_until_somebody_was_told() {
        let (acks, phone, laptop) = (Acks::default(), device("phone"), device("laptop"));
        acks.hear((HERE, ANA), Some(&phone), 5, true);
        acks.put_back(acks.take());
        assert_eq!(acks.take().readers, [(ANA, Some(phone.clone()))]);
        let readers = vec![(ANA, Some(phone)), (ANA, Some(laptop))];
        acks.put_back(Unwritten { readers, ..Unwritten::default() });
        assert_eq!(acks.take().readers, [(ANA, None)], "read on both");
    }

    #[test]
    fn what_was_not_written_is_taken_back_and_undoes_nothing_that_was_heard_since() {
        let (acks, phone) = (Acks::default(), device("phone"));
        let marks = || -> Vec<(String, u64)> {
            acks.take().marks.into_iter().map(|mark| (mark.device.to_string(), mark.seq)).collect()
        };
        let known = |name: &str, seq| (name.to_owned(), seq);
        acks.hear((HERE, ANA), Some(&phone), 5, false);
        acks.hear((HERE, ANA), Some(&device("tablet")), 4, false);
        let failed = acks.take();
        acks.hear((HERE, ANA), Some(&device("laptop")), 7, false);
        acks.hear((HERE, ANA), Some(&phone), 6, false);
        acks.put_back(failed);
        assert_eq!(marks(), [known("tablet", 4), known("laptop", 7), known("phone", 6)]);
        acks.hear((HERE, ANA), Some(&phone), 8, false);
        let failed = acks.take();
        for number in 0..DEVICES_MAX {
            acks.hear((HERE, ANA), Some(&device(&number.to_string())), 9, false);
        }
        acks.put_back(failed);
        assert!(marks().iter().all(|(_, seq)| *seq == 9), "there is no room for it");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (acks, phone) = (Acks::default(), device("phone"));
        for number in 0..400_000_u32 {
            let mut member = [0; 12];
            member[..4].copy_from_slice(&number.to_be_bytes());
            acks.hear((HERE, MemberId::from_bytes(member)), Some(&phone), 1, true);
        }
        let shard = acks.shard(HERE).unwrap();
        assert!(shard.young.len() + shard.old.len() <= 2 * REMEMBERED);
        assert!(shard.unwritten.len() <= REMEMBERED && shard.readers.len() <= REMEMBERED);
    }

    /// A client may connect under one name after the other.
    #[test]
    fn of_one_member_no_more_devices_are_remembered_than_may_be_registered() {
        let acks = Acks::default();
        for number in 0..10_000 {
            acks.hear((HERE, ANA), Some(&device(&number.to_string())), number, false);
        }
        let heard = acks.of(ANA, HERE).unwrap();
        assert_eq!(heard.devices.len(), DEVICES_MAX);
        assert!(heard.has(&device("9999"), 9_999) && !heard.has(&device("1"), 1));
        assert_eq!(acks.take().marks.len(), DEVICES_MAX);
    }
}
