//! The channels that a node wants to hear on one link, and whether it does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::cluster::Channel;

/// How a channel is.
#[derive(Default)]
struct Wanted {
    /// It is heard.
    active: bool,
    /// Who waits for that.
    waiting: Vec<oneshot::Sender<bool>>,
}

/// The channels of one link.
#[derive(Default)]
pub(super) struct Subscriptions {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    up: bool,
    wanted: HashMap<Channel, Wanted>,
    /// Those whose subscription is to be made, or ended.
    changed: HashSet<Channel>,
}

/// What is to be asked of Redis.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
}

impl Subscriptions {
    /// A channel is wanted. Resolves when it is heard, or with false when the link goes down.
    pub(super) fn want(&self, channel: Channel) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let State { up, wanted, changed } = &mut *state;
        let known = wanted.entry(channel).or_insert_with(|| {
            changed.insert(channel);
            Wanted::default()
        });
        if known.active || !*up {
            // The receiver is here still.
            let _ = sender.send(known.active && *up);
        } else {
            known.waiting.push(sender);
        }
        drop(state);
        self.changed.notify_one();
        receiver
    }

    /// A channel is wanted no longer.
    pub(super) fn drop_channel(&self, channel: Channel) {
        let mut state = self.lock();
        if state.wanted.remove(&channel).is_some() {
            state.changed.insert(channel);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Every channel that is wanted: the link comes up, and knows of none.
    pub(super) fn all(&self) -> Vec<Channel> {
        let mut state = self.lock();
        state.changed.clear();
        state.wanted.keys().copied().collect()
    }

    /// The link is up, and hears these.
    pub(super) fn up(&self, heard: &[Channel]) {
        self.lock().up = true;
        self.confirm(heard);
        self.changed.notify_one();
    }

    /// The link is down.
    pub(super) fn down(&self) {
        let mut state = self.lock();
        state.up = false;
        for wanted in state.wanted.values_mut() {
            wanted.active = false;
            for waiting in wanted.waiting.drain(..) {
                let _ = waiting.send(false);
            }
        }
    }

    /// These are heard from now on, unless that has changed meanwhile.
    pub(super) fn confirm(&self, heard: &[Channel]) {
        let mut state = self.lock();
        let State { wanted, changed, .. } = &mut *state;
        for channel in heard.iter().filter(|channel| !changed.contains(channel)) {
            let Some(known) = wanted.get_mut(channel) else { continue };
            known.active = true;
            for waiting in known.waiting.drain(..) {
                let _ = waiting.send(true);
            }
        }
    }

    /// Waits for something to be changed.
    pub(super) async fn next(&self) -> Changes {
        loop {
            let changed = self.changed.notified();
            let changes = self.take();
            if !changes.subscribe.is_empty() || !changes.unsubscribe.is_empty() {
                return changes;
            }
            changed.await;
        }
    }

    fn take(&self) -> Changes {
        let mut state = self.lock();
        let changed = std::mem::take(&mut state.changed);
        let (subscribe, unsubscribe) = changed.into_iter().partition(|channel| state.wanted.contains_key(channel));
        Changes { subscribe, unsubscribe }
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::MemberId;

    use super::*;

    const ANA: Channel = Channel::Member(MemberId::from_bytes([1; 12]));

    #[test]
    fn a_channel_that_is_dropped_and_wanted_again_is_heard_in_the_end() {
        let subscriptions = Subscriptions::default();
        subscriptions.up(&[]);
        let mut first = subscriptions.want(ANA);
        let changes = subscriptions.take();
        assert_eq!((changes.subscribe.len(), changes.unsubscribe.len()), (1, 0));
        // While that is under way.
        subscriptions.drop_channel(ANA);
        let mut second = subscriptions.want(ANA);
        subscriptions.confirm(&changes.subscribe);
        assert!(second.try_recv().is_err(), "what was confirmed is of before");
        assert!(first.try_recv().is_err(), "nobody waits for it any more");
        let changes = subscriptions.take();
        assert_eq!((changes.subscribe.len(), changes.unsubscribe.len()), (1, 0));
        subscriptions.confirm(&changes.subscribe);
        assert_eq!(second.try_recv(), Ok(true));
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(true), "it is heard already");
    }

    #[test]
    fn nobody_waits_for_a_link_that_is_down_and_all_is_wanted_again_when_it_comes_up() {
        let subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(false));
        assert_eq!(subscriptions.all(), [ANA]);
        subscriptions.up(&[ANA]);
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(true));
        let other = Channel::Everybody;
        let mut waiting = subscriptions.want(other);
        subscriptions.down();
        assert_eq!(waiting.try_recv(), Ok(false));
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(false));
    }
}
