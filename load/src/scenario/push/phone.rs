//! A device that is registered for pushes: it acknowledges, freezes, vanishes, comes back, is logged out, and is given to somebody else.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use protocol::{
    ClientFrame, ConversationId, Envelope, ServerFrame,
    client::{MessageDelivered, MessageRead, PresenceSet},
    model::{DeviceStatus, Entry, Platform},
    rest::PushRegistration,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout_at};

use super::world::World;
use crate::{link::Link, recorder::Tally, target::Account, wire::Ended};

/// How long a device does one thing, in seconds.
const SPAN: std::ops::Range<f64> = 3.0..15.0;
/// The share of times at which a device that is in use reads what it gets, instead of only having it.
const READING: f64 = 0.15;

/// What a device does next, and the weight of each.
const DEEDS: [(Deed, u32); 7] = [
    (Deed::Awake, 35),
    (Deed::Away, 8),
    (Deed::Frozen, 20),
    (Deed::Gone, 30),
    (Deed::LogOut, 4),
    (Deed::TakeOver, 3),
    (Deed::Renew, 3),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// It is connected, and says what it has.
    Awake,
    /// It is connected and says what it has, but nobody looks at it: it has to be told all the same.
    Away,
    /// It is connected, and says nothing.
    Frozen,
    /// It is not connected.
    Gone,
    /// It is logged out, and a while later logged in.
    LogOut,
    /// It is one that somebody else had before.
    TakeOver,
    /// It gets another address.
    Renew,
}

/// A device.
pub(super) struct Phone {
    world: Arc<World>,
    number: usize,
    /// Its session.
    account: Account,
    tally: Tally,
    random: StdRng,
}

impl Phone {
    /// Logs it in and registers it.
    pub(super) async fn new(world: Arc<World>, number: usize, tally: Tally, seed: u64) -> Result<Self, String> {
        let account = world.accounts.get(world.owner(number)).ok_or("no such member")?;
        let account = World::insist(|| world.target.begin_session(account)).await?;
        let phone = Self { world, number, account, tally, random: StdRng::seed_from_u64(seed) };
        phone.register(phone.world.fresh(number)).await?;
        Ok(phone)
    }

    /// Lives until the run is over. Then it is not connected any more.
    pub(super) async fn run(mut self) -> Result<(), String> {
        while !self.world.is_over() {
            let until = Instant::now() + Duration::from_secs_f64(self.random.random_range(SPAN));
            match self.draw() {
                Deed::Awake => self.awake(until, false).await?,
                Deed::Away => self.awake(until, true).await?,
                Deed::Frozen => self.frozen(until).await?,
                Deed::Gone => self.rest(until).await,
                Deed::LogOut => self.log_out(until).await?,
                Deed::TakeOver => self.take_over().await?,
                Deed::Renew => self.register(self.world.fresh(self.number)).await?,
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> Deed {
        let mut left = self.random.random_range(0..DEEDS.iter().map(|(_, weight)| weight).sum());
        for (deed, weight) in DEEDS {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        Deed::Awake
    }

    /// Passes time, and ends soon when the run is over.
    async fn rest(&self, until: Instant) {
        while Instant::now() < until && !self.world.is_over() {
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn connect(&self) -> Result<Link, String> {
        self.world.connect(&self.account.token, self.world.name(self.number), &self.tally).await
    }

    /// Registers an address, unless the server says that there were too many lately.
    async fn register(&self, address: String) -> Result<(), String> {
        let _registrar = self.world.registrar.lock().await;
        let world = &self.world;
        let platform = if world.is_browser(self.number) { Platform::Web } else { Platform::Ios };
        let registration = PushRegistration { address: world.address(&address), platform };
        world.ledger.lock().registering(self.number, world.owner(self.number), &address);
        let name = world.name(self.number);
        let taken = World::insist(|| world.target.register_device(&self.account, name, &registration)).await?;
        world.ledger.lock().registered(self.number, taken);
        Ok(())
    }

    /// As an app does at its start: registers anew if nobody is at its address any more, and says again what it has else.
    async fn start(&self) -> Result<(), String> {
        let known = self.world.ledger.lock().address(self.number).map(|known| known.address.clone());
        match known {
            None => self.register(self.world.fresh(self.number)).await,
            Some(_) => Ok(()),
        }
    }

    /// Takes an address of the same kind that somebody else has.
    async fn take_over(&mut self) -> Result<(), String> {
        let world = Arc::clone(&self.world);
        let members = world.accounts.len();
        let member = (world.owner(self.number) + self.random.random_range(1..members.max(2))) % members;
        let other = member * world.each + self.number % world.each;
        let address = world.ledger.lock().address(other).map(|known| known.address.clone());
        match address {
            Some(address) if member != world.owner(self.number) => self.register(address).await,
            _ => Ok(()),
        }
    }

    async fn log_out(&mut self, until: Instant) -> Result<(), String> {
        let world = Arc::clone(&self.world);
        let address = {
            let _registrar = world.registrar.lock().await;
            let address = {
                let mut facts = world.ledger.lock();
                let address = facts.address(self.number).map(|known| known.address.clone());
                facts.ending(self.number);
                address
            };
            let logged_out = || async {
                let is_over = world.target.log_out(&self.account).await?;
                is_over.then_some(()).ok_or_else(|| "a logout was refused".to_owned())
            };
            World::insist(logged_out).await?;
            world.ledger.lock().ended(self.number);
            address
        };
        self.rest(until).await;
        let account = world.accounts.get(world.owner(self.number)).ok_or("no such member")?;
        self.account = World::insist(|| world.target.begin_session(account)).await?;
        // The address stays the same as long as the app is installed, unless somebody has it now.
        let is_free = |address: &String| {
            let facts = world.ledger.lock();
            let mut those = facts.registrations.iter().filter(|known| known.address == *address);
            those.all(|known| known.ended.is_some() && !known.is_gone)
        };
        let again = address.filter(|_| self.random.random_bool(0.5)).filter(is_free);
        self.register(again.unwrap_or_else(|| world.fresh(self.number))).await
    }

    async fn frozen(&self, until: Instant) -> Result<(), String> {
        self.start().await?;
        let link = self.connect().await?;
        self.rest(until).await;
        drop(link);
        Ok(())
    }

    /// Connected, and saying what it has.
    async fn awake(&mut self, until: Instant, is_away: bool) -> Result<(), String> {
        self.start().await?;
        let mut link = self.connect().await?;
        if is_away {
            let away = ClientFrame::PresenceSet(PresenceSet { status: DeviceStatus::Away });
            match link.ask(&away, |_| ()).await {
                Ok(_) => {}
                Err(Ended::Foreign(what)) => return Err(what),
                Err(_) => return Ok(()),
            }
        }
        let (states, pushes) = match link.states().await {
            Ok(states) => states,
            Err(Ended::Foreign(what)) => return Err(what),
            Err(_) => return Ok(()),
        };
        let mut inbox: VecDeque<(ConversationId, u64)> = VecDeque::new();
        inbox.extend(states.into_iter().map(|state| (state.id, state.last_seq)));
        inbox.extend(pushes.into_iter().filter_map(arrived));
        while Instant::now() < until && !self.world.is_over() {
            let heard = match inbox.pop_front() {
                Some((conversation, seq)) => self.say(&mut link, (conversation, seq, is_away), &mut inbox).await,
                None => match timeout_at(until, link.next()).await {
                    Ok(envelope) => envelope.map(|envelope| inbox.extend(arrived(envelope))),
                    Err(_) => break,
                },
            };
            match heard {
                Ok(()) => {}
                Err(Ended::Foreign(what)) => return Err(what),
                // It is gone for as long as it would have been there.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Says that it has everything up to a message, or that its member has read it.
    async fn say(
        &mut self,
        link: &mut Link,
        (conversation, seq, is_away): (ConversationId, u64, bool),
        inbox: &mut VecDeque<(ConversationId, u64)>,
    ) -> Result<(), Ended> {
        let is_read = !is_away && self.random.random_bool(READING);
        let who = ((!is_away).then_some(self.number), self.world.owner(self.number));
        let said = self.world.ledger.lock().saying(who, conversation, seq, is_read);
        let frame = if is_read {
            ClientFrame::MessageRead(MessageRead { conversation, seq })
        } else {
            ClientFrame::MessageDelivered(MessageDelivered { conversation, seq })
        };
        let answer = link.ask(&frame, |envelope| inbox.extend(arrived(envelope))).await?;
        if matches!(answer, ServerFrame::Okay(_)) {
            self.world.ledger.lock().said(&said);
        }
        Ok(())
    }
}

/// Messages that a frame brings.
fn arrived(envelope: Envelope) -> Option<(ConversationId, u64)> {
    match envelope.frame {
        ServerFrame::EntryPush(push) => Some((push.entry.conversation(), push.entry.seq())),
        ServerFrame::Sync(sync) => {
            let newest = sync.conversations.into_iter().next()?;
            newest.entries.last().map(Entry::seq).map(|seq| (newest.id, seq))
        }
        _ => None,
    }
}
