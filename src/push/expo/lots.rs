//! Which messages go together in a request: those of one project, as far as Expo has said whose they are, and none that it has refused.

use std::{collections::HashMap, sync::Arc};

use quick_cache::sync::Cache;

use super::{BATCH, DIVISIONS, message::Message};
use crate::{
    push::{DIVIDED, Handed},
    store::push::AddressHash,
};

/// Addresses of which something is remembered.
const KNOWN: usize = 10_000;

/// Messages of one request, each with its place.
pub(super) struct Lot {
    pub(super) items: Vec<(usize, Message)>,
    /// How often it may still be divided.
    pub(super) divisions: u32,
}

/// What Expo has said of addresses.
pub(super) struct Known {
    projects: Cache<AddressHash, Arc<str>>,
    /// Those that it has refused without anything else in the request.
    refused: Cache<AddressHash, ()>,
    /// Those for which it has taken something, and refused nothing alone since.
    good: Cache<AddressHash, ()>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { projects: Cache::new(KNOWN), refused: Cache::new(KNOWN), good: Cache::new(KNOWN) }
    }

    /// An address was refused alone: it is asked for alone from now on.
    pub(super) fn refuse(&self, address: AddressHash) {
        self.good.remove(&address);
        self.refused.insert(address, ());
    }

    /// Whether it was refused alone, and nothing for it was taken since.
    pub(super) fn is_refused(&self, address: AddressHash) -> bool {
        self.refused.get(&address).is_some()
    }

    /// Something for it was taken.
    pub(super) fn taken(&self, address: AddressHash) {
        self.refused.remove(&address);
        self.good.insert(address, ());
    }

    /// Whether something for it was taken lately.
    pub(super) fn is_good(&self, address: AddressHash) -> bool {
        self.good.get(&address).is_some()
    }

    /// Divides a request that was refused: what goes to addresses for which something was taken lately is sent first, and waits for nothing else.
    pub(super) fn parts(&self, lot: Lot) -> Vec<Lot> {
        let divisions = lot.divisions.saturating_sub(1);
        let (good, others): (Vec<_>, Vec<_>) =
            lot.items.into_iter().partition(|(_, message)| self.is_good(message.hash));
        if good.is_empty() || others.is_empty() {
            return Lot { items: [good, others].concat(), divisions }.halves();
        }
        [good, others].map(|items| Lot { items, divisions }).into()
    }

    /// The requests that these make, the largest first: many small ones of one member keep no others waiting.
    pub(super) fn lots(&self, messages: impl Iterator<Item = (usize, Message)>) -> Vec<Lot> {
        let (mut by_project, mut lots) = (HashMap::<Option<Arc<str>>, Vec<(usize, Message)>>::new(), Vec::new());
        for (place, message) in messages {
            if self.is_refused(message.hash) {
                lots.push(vec![(place, message)]);
            } else {
                by_project.entry(self.projects.get(&message.hash)).or_default().push((place, message));
            }
        }
        for mut items in by_project.into_values() {
            while !items.is_empty() {
                let rest = items.split_off(items.len().min(BATCH));
                lots.push(std::mem::replace(&mut items, rest));
            }
        }
        lots.sort_by_key(|items| std::cmp::Reverse(items.len()));
        lots.into_iter().map(|items| Lot { items, divisions: DIVISIONS }).collect()
    }

    /// One part for each project, which is remembered; those of no project that was named are one more.
    pub(super) fn by_project(&self, lot: Lot, projects: Vec<(String, Vec<String>)>) -> Vec<Lot> {
        let mut of: HashMap<String, Arc<str>> = HashMap::new();
        for (project, tokens) in projects {
            let project: Arc<str> = project.into();
            of.extend(tokens.into_iter().map(|token| (token, Arc::clone(&project))));
        }
        let mut parts: HashMap<Option<Arc<str>>, Vec<(usize, Message)>> = HashMap::new();
        for (place, message) in lot.items {
            let project = of.get(&message.to).cloned();
            if let Some(project) = &project {
                self.projects.insert(message.hash, Arc::clone(project));
            }
            parts.entry(project).or_default().push((place, message));
        }
        parts.into_values().map(|items| Lot { items, divisions: lot.divisions.saturating_sub(1) }).collect()
    }
}

impl Lot {
    /// Two parts of about the same size, of which no member has messages in both unless they are all theirs: whose messages are refused is found
    /// with few requests, whatever they have registered.
    fn halves(self) -> Vec<Self> {
        let Self { mut items, divisions } = self;
        items.sort_by_key(|(_, message)| message.member);
        let middle = items.len() / 2;
        let members = items.windows(2).enumerate();
        let ends = members.filter_map(|(place, pair)| match pair {
            [(_, one), (_, next)] if one.member != next.member => Some(place + 1),
            _ => None,
        });
        let second = items.split_off(ends.min_by_key(|end| end.abs_diff(middle)).unwrap_or(middle));
        [items, second].map(|items| Self { items, divisions }).into()
    }

    /// Leaves one message, to see whether that is taken: the first of those that are most likely to be, which have the lowest `doubt`. The others
    /// are tried later.
    pub(super) fn sample(&mut self, doubt: impl Fn(&Message) -> u8) -> Vec<(usize, Handed)> {
        let first = self.items.iter().enumerate().min_by_key(|(_, (_, message))| doubt(message));
        let Some((first, _)) = first else { return Vec::new() };
        let chosen = self.items.remove(first);
        let others = std::mem::replace(&mut self.items, vec![chosen]);
        others.into_iter().map(|(place, _)| (place, Handed::later(DIVIDED))).collect()
    }

    /// Whether it is a part of a request that was refused as a whole.
    pub(super) const fn is_part(&self) -> bool {
        self.divisions < DIVISIONS
    }

    /// The same became of all of them.
    pub(super) fn all(&self, handed: Handed) -> Vec<(usize, Handed)> {
        self.items.iter().map(|(place, _)| (*place, handed)).collect()
    }
}
