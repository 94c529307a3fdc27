//! Who pushes to devices, and how.

use std::{sync::Arc, time::Duration};

use super::Foundation;
use crate::{
    app::{StartError, start_error},
    auth::{KeyRing, keys::Keyed},
    config::values::Switch,
    push::{
        Courier,
        expo::{self, Expo},
        web::{Vapid, WebPush},
    },
    service::{
        messaging::Messaging,
        push::{Intake, Options, Parts, Push},
    },
};

/// How much longer than a call of the store may take a shared one is behind, at most.
const SKEW: Duration = Duration::from_secs(5);
/// What the key of what stands for conversations is derived for.
const TOPICS: &[u8] = b"members-book push topics 1";
/// How long a request to the push service of a browser may take. It is of a member's choice, and answers within a moment if it is one.
const WEB_DEADLINE: Duration = Duration::from_secs(3);
/// How long a request to Expo's push service may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of the time for stopping is left to closing the store.
const CLOSING: Duration = Duration::from_secs(1);

/// Who brings pushes.
pub(in crate::app) struct Couriers {
    all: Vec<Arc<dyn Courier>>,
    /// The key with which browsers subscribe.
    web_key: Option<String>,
    /// The key of what stands for conversations.
    topics: Keyed,
}

#[cfg(test)]
impl Couriers {
    /// Nobody brings any.
    pub(in crate::app) fn none() -> Self {
        let topics = crate::auth::keys::ring("a secret of the club", &[]).derive(TOPICS).present;
        Self { all: Vec::new(), web_key: None, topics }
    }
}

impl Foundation {
    /// Who brings pushes, as the settings say; nobody if they say that nothing is pushed.
    pub(in crate::app) fn couriers(&self, ring: &KeyRing) -> Result<Couriers, StartError> {
        let (push, topics) = (&self.settings.push, ring.derive(TOPICS).present);
        if !push.is_on() {
            return Ok(Couriers { all: Vec::new(), web_key: None, topics });
        }
        let options = expo::Options {
            url: push.push_expo_url.clone(),
            token: push.expo_access_token.clone(),
            deadline: DEADLINE,
        };
        let clock = || Arc::clone(&self.world.clock);
        let expo = Expo::new(&options, clock(), Arc::clone(&self.metrics)).map_err(start_error)?;
        let mut couriers = Couriers { all: vec![Arc::new(expo)], web_key: None, topics };
        if let Some(contact) = push.contact(&self.settings.listen) {
            let vapid = Vapid::new(ring, contact).map_err(start_error)?;
            couriers.web_key = Some(vapid.public().to_owned());
            let entropy = Arc::clone(&self.world.entropy);
            let anywhere = push.push_allow_private == Switch::On;
            let metrics = Arc::clone(&self.metrics);
            let web = WebPush::new(vapid, clock(), entropy, WEB_DEADLINE, anywhere, metrics).map_err(start_error)?;
            couriers.all.push(Arc::new(web));
        }
        Ok(couriers)
    }

    /// What waits for devices to acknowledge it.
    pub(super) fn intake(&self) -> Arc<Intake> {
        let push = &self.settings.push;
        Arc::new(Intake::new(self.store.log.lanes(), push.push_after, push.is_on()))
    }

    /// What is pushed.
    pub(super) fn push(
        &self,
        Couriers { all: couriers, web_key, topics }: Couriers,
        intake: Arc<Intake>,
        messaging: &Arc<Messaging>,
    ) -> Arc<Push> {
        let Self { settings, store, .. } = self;
        let published = {
            let messaging = Arc::clone(messaging);
            Box::new(move || messaging.published_here().position)
        };
        let parts = Parts {
            store: Arc::clone(&store.push),
            members: Arc::clone(&store.members),
            sessions: Arc::clone(&store.sessions),
            conversations: Arc::clone(&store.conversations),
            couriers,
            web_key,
            topics,
            intake,
            published,
            uplink: self.uplink.clone(),
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        };
        let store_timeout = settings.store.store_timeout;
        let options = Options {
            store_timeout,
            finishing: settings.listen.shutdown_timeout.saturating_sub(CLOSING),
            ttl: settings.push.push_ttl,
            content: settings.push.content(),
            language: settings.mail.mail_language.into(),
            is_shared: store.fleet.is_some(),
            lag: if store.fleet.is_some() { store_timeout + SKEW } else { Duration::from_secs(1) },
        };
        Arc::new(Push::new(parts, options))
    }
}
