//! The limits of what a member or an address may do in the whole club, whatever node they do it at.
//!
//! Others are of one node, and protect it: frames, typing, statuses, hellos, requests.

use std::{net::IpAddr, sync::Arc};

use protocol::MemberId;

use super::{
    guesses::{self, Allowance, Guesses, News},
    limiter::{Limiter, Parts, Rate, Tell},
};
use crate::{
    cluster::{
        Channel, Uplink,
        event::{Note, Spent},
    },
    failure::Failure,
    telemetry::Metrics,
};

/// The limits that nodes share.
pub struct SharedLimits {
    /// How many messages a member sends. Others hear of those that are sent over connections as entries, where the member is
    /// connected; of those over REST they are told ([`Self::message_over_rest`]).
    pub messages: Arc<Limiter<MemberId>>,
    /// How many conversations a member begins.
    pub beginnings: Arc<Limiter<MemberId>>,
    /// How often a member changes their profile.
    pub profiles: Arc<Limiter<MemberId>>,
    /// How often a member refreshes tokens.
    pub refreshes: Arc<Limiter<MemberId>>,
    /// How many logins an address tries.
    pub logins: Arc<Limiter<IpAddr>>,
    /// How many accounts an address registers.
    pub registrations: Arc<Limiter<IpAddr>>,
    /// How many passwords are tried at an account.
    pub guesses: Arc<Guesses>,
    parts: Parts,
    uplink: Uplink,
}

/// How much of each is allowed.
#[derive(Debug, Clone, Copy)]
pub struct SharedRates {
    /// Messages of a member.
    pub messages: Rate,
    /// Conversations that a member begins.
    pub beginnings: Rate,
    /// Changes of profiles by a member.
    pub profiles: Rate,
    /// Exchanges of refresh tokens by a member.
    pub refreshes: Rate,
    /// Logins from an address.
    pub logins: Rate,
    /// Registrations from an address.
    pub registrations: Rate,
}

impl SharedLimits {
    /// With these rates.
    #[must_use]
    pub fn new(rates: SharedRates, uplink: &Uplink, metrics: &Arc<Metrics>) -> Self {
        let parts = Parts::default();
        let member = |name, rate, spent: Option<fn(MemberId) -> Spent>| {
            let limiter = Limiter::new(name, rate, Arc::clone(metrics));
            Arc::new(limiter.shared(parts.clone(), spent.map(|spent| tell(uplink, spent))))
        };
        let address = |name, rate, spent: fn(IpAddr) -> Spent| {
            let limiter = Limiter::new(name, rate, Arc::clone(metrics));
            Arc::new(limiter.shared(parts.clone(), Some(tell(uplink, spent))))
        };
        Self {
            messages: member("messages", rates.messages, None),
            beginnings: member("new_conversations", rates.beginnings, Some(Spent::Beginning)),
            profiles: member("profiles", rates.profiles, Some(Spent::Profile)),
            refreshes: member("refreshes", rates.refreshes, Some(Spent::Refresh)),
            logins: address("logins", rates.logins, Spent::Login),
            registrations: address("registrations", rates.registrations, Spent::Registration),
            guesses: Arc::new(Guesses::new(parts.clone(), tell_guess(uplink), Arc::clone(metrics))),
            parts,
            uplink: uplink.clone(),
        }
    }

    /// Charges a message that a member sends over REST.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn message_over_rest(&self, sender: MemberId) -> Result<(), Failure> {
        self.messages.check(&sender)?;
        self.uplink.publish(Channel::Everybody, || Note::Spent { by: Spent::Message(sender) }.into());
        Ok(())
    }

    /// Another node has allowed something.
    pub fn spent(&self, spent: Spent) {
        match spent {
            Spent::Message(member) => self.messages.taken_elsewhere(&member),
            Spent::Beginning(member) => self.beginnings.taken_elsewhere(&member),
            Spent::Profile(member) => self.profiles.taken_elsewhere(&member),
            Spent::Refresh(member) => self.refreshes.taken_elsewhere(&member),
            Spent::Login(address) => self.logins.taken_elsewhere(&address),
            Spent::Registration(address) => self.registrations.taken_elsewhere(&address),
            Spent::Guess(allowance) => self.guesses.taken_elsewhere(Allowance(allowance)),
        }
    }

    /// At another node the right password was given, by the hash of whose allowance that is.
    pub fn forgiven(&self, allowance: u64) {
        self.guesses.forgiven_elsewhere(Allowance(allowance));
    }

    /// At another node a try was charged that does not count, by the hash of whose allowance that is.
    pub fn given_back(&self, allowance: u64) {
        self.guesses.given_back_elsewhere(Allowance(allowance));
    }

    /// How many nodes there are, this one included, and whether they hear of what the others allow.
    pub fn divide(&self, nodes: usize, is_heard: bool) {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        self.parts.set(if is_heard { 1 } else { nodes });
        self.guesses.divide(nodes);
    }
}

fn tell<K: Copy + 'static>(uplink: &Uplink, spent: fn(K) -> Spent) -> Box<Tell<K>> {
    let uplink = uplink.clone();
    Box::new(move |key| uplink.publish(Channel::Everybody, || Note::Spent { by: spent(*key) }.into()))
}

fn tell_guess(uplink: &Uplink) -> Box<guesses::Tell> {
    let uplink = uplink.clone();
    Box::new(move |Allowance(of), news| {
        let note = match news {
            News::Taken => Note::Spent { by: Spent::Guess(of) },
            News::GivenBack => Note::GivenBack { allowance: of },
            News::Forgiven => Note::Forgiven { allowance: of },
        };
        uplink.publish(Channel::Everybody, || note.into());
    })
}
