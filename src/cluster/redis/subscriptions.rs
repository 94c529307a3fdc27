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
    /// It is not, and nobody waits for it: whoever wanted it was told so. The link is not up before it is heard.
    owed: bool,
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
    /// There is a connection that subscribes.
    connected: bool,
    wanted: HashMap<Channel, Wanted>,
    /// Those whose subscription is to be made, or ended.
    changed: HashSet<Channel>,
    /// How many are owed.
    owed: usize,
}

/// What is to be asked of Redis.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
}

impl Subscriptions {
    /// A channel is wanted. Resolves when it is heard, or with false when the link is down or goes down.
    pub(super) fn want(&self, channel: Channel) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let State { connected, wanted, changed, owed } = &mut *state;
        let known = wanted.entry(channel).or_insert_with(|| {
            changed.insert(channel);
            Wanted::default()
        });
        if known.active || !*connected {
            *owed += usize::from(!known.active && !std::mem::replace(&mut known.owed, true));
            // The receiver is here still.
            let _ = sender.send(known.active);
        } else {
            known.waiting.push(sender);
        }
        drop(state);
        self.changed.notify_one();
        receiver
    }

    /// Nobody waits for a channel any longer. False if it is heard, or not wanted.
    pub(super) fn late(&self, channel: Channel) -> bool {
        let mut state = self.lock();
        let State { wanted, owed, .. } = &mut *state;
        let Some(known) = wanted.get_mut(&channel).filter(|known| !known.active) else { return false };
        *owed += usize::from(!std::mem::replace(&mut known.owed, true));
        true
    }

    /// A channel is wanted no longer.
    pub(super) fn drop_channel(&self, channel: Channel) {
        let mut state = self.lock();
        if let Some(known) = state.wanted.remove(&channel) {
            state.owed -= usize::from(known.owed);
            state.changed.insert(channel);
            drop(state);
            self.wake();
        }
    }

    /// Lets [`Self::next`] return.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Every channel that is wanted: there is a connection, which hears none of them. Who wants one from now on waits for it.
    pub(super) fn all(&self) -> Vec<Channel> {
        let mut state = self.lock();
        state.connected = true;
        state.changed.clear();
        state.wanted.keys().copied().collect()
    }

    /// Whether all that is owed is heard.
    pub(super) fn settled(&self) -> bool {
        self.lock().owed == 0
    }

    /// The connection is gone: everything is owed.
    pub(super) fn down(&self) {
        let mut state = self.lock();
        state.connected = false;
        state.owed = state.wanted.len();
        for wanted in state.wanted.values_mut() {
            (wanted.active, wanted.owed) = (false, true);
            for waiting in wanted.waiting.drain(..) {
                let _ = waiting.send(false);
            }
        }
    }

    /// These are heard from now on, unless that has changed meanwhile.
    pub(super) fn confirm(&self, heard: &[Channel]) {
        let mut state = self.lock();
        let State { wanted, changed, owed, .. } = &mut *state;
        for channel in heard.iter().filter(|channel| !changed.contains(channel)) {
            let Some(known) = wanted.get_mut(channel) else { continue };
            known.active = true;
            *owed -= usize::from(std::mem::take(&mut known.owed));
            for waiting in known.waiting.drain(..) {
                let _ = waiting.send(true);
            }
        }
    }

    /// Waits for something to be changed, or for [`Self::wake`].
    pub(super) async fn next(&self) -> Changes {
        self.changed.notified().await;
        self.take()
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
        assert!(subscriptions.all().is_empty());
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
    fn nobody_waits_for_a_link_that_is_down_and_it_is_not_up_before_all_that_is_owed_is_heard() {
        let subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(false));
        let all = subscriptions.all();
        assert_eq!(all, [ANA]);
        assert!(!subscriptions.settled());
        // Who comes now waits, and the link does not wait for them.
        let other = Channel::Everybody;
        let mut waiting = subscriptions.want(other);
        assert!(waiting.try_recv().is_err());
        subscriptions.confirm(&all);
        assert!(subscriptions.settled());
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(true));
        subscriptions.down();
        assert_eq!(waiting.try_recv(), Ok(false));
        assert_eq!(subscriptions.want(ANA).try_recv(), Ok(false));
        subscriptions.confirm(&subscriptions.all());
        assert!(subscriptions.settled());
    }

    #[test]
    fn what_nobody_waits_for_any_longer_is_owed_until_it_is_heard_or_dropped() {
        let subscriptions = Subscriptions::default();
        subscriptions.all();
        drop(subscriptions.want(ANA));
        assert!(subscriptions.settled());
        assert!(subscriptions.late(ANA) && subscriptions.late(ANA) && !subscriptions.settled());
        subscriptions.confirm(&subscriptions.take().subscribe);
        assert!(subscriptions.settled() && !subscriptions.late(ANA));
        drop(subscriptions.want(Channel::Everybody));
        assert!(subscriptions.late(Channel::Everybody));
        subscriptions.drop_channel(Channel::Everybody);
        assert!(subscriptions.settled() && !subscriptions.late(Channel::Everybody));
    }
}
