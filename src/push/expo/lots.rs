//! Which messages go together in a request: those of one project, as far as Expo has said whose they are, and none that it has refused.

use std::{collections::HashMap, sync::Arc};

use quick_cache::sync::Cache;

use super::{BATCH, DIVISIONS, message::Message};
use crate::store::push::AddressHash;

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
}

impl Known {
    pub(super) fn new() -> Self {
        Self { projects: Cache::new(KNOWN), refused: Cache::new(KNOWN) }
    }

    /// An address was refused alone: it is asked for alone from now on.
    pub(super) fn refuse(&self, address: AddressHash) {
        self.refused.insert(address, ());
    }

    /// Whether it was refused alone, and nothing for it was taken since.
    pub(super) fn is_refused(&self, address: AddressHash) -> bool {
        self.refused.get(&address).is_some()
    }

    /// Something for it was taken.
    pub(super) fn taken(&self, address: AddressHash) {
        self.refused.remove(&address);
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
    /// Both halves.
    pub(super) fn halves(mut self) -> Vec<Self> {
        let second = self.items.split_off(self.items.len() / 2);
        let divisions = self.divisions.saturating_sub(1);
        [self.items, second].map(|items| Self { items, divisions }).into()
    }

    /// Leaves one message, to see whether that is taken; the others are tried later.
    pub(super) fn sample(&mut self) -> Vec<(usize, super::Handed)> {
        let others = self.items.split_off(self.items.len().min(1));
        others.into_iter().map(|(place, _)| (place, super::Handed::later("divided"))).collect()
    }

    /// Whether it is a part of a request that was refused as a whole.
    pub(super) const fn is_part(&self) -> bool {
        self.divisions < DIVISIONS
    }

    /// The same became of all of them.
    pub(super) fn all(&self, handed: super::Handed) -> Vec<(usize, super::Handed)> {
        self.items.iter().map(|(place, _)| (*place, handed)).collect()
    }
}
