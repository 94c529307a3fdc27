//! Who pushes to devices, and how.

use std::{sync::Arc, time::Duration};

use super::Foundation;
use crate::{
    app::{StartError, start_error},
    push::{
        Courier,
        expo::{self, Expo},
    },
    service::{
        messaging::Messaging,
        push::{Intake, Options, Parts, Push},
    },
};

/// How much longer than a call of the store may take a shared one is behind, at most.
const SKEW: Duration = Duration::from_secs(5);
/// How long a request to a push service may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl Foundation {
    /// Who brings pushes, as the settings say; nobody if they say that nothing is pushed.
    pub(in crate::app) fn couriers(&self) -> Result<Vec<Arc<dyn Courier>>, StartError> {
        let push = &self.settings.push;
        if !push.is_on() {
            return Ok(Vec::new());
        }
        let options = expo::Options {
            url: push.push_expo_url.clone(),
            token: push.expo_access_token.clone(),
            deadline: DEADLINE,
        };
        let (clock, metrics) = (Arc::clone(&self.world.clock), Arc::clone(&self.metrics));
        let expo = Expo::new(&options, clock, metrics).map_err(start_error)?;
        Ok(vec![Arc::new(expo)])
    }

    /// What waits for devices to acknowledge it.
    pub(super) fn intake(&self) -> Arc<Intake> {
        let push = &self.settings.push;
        Arc::new(Intake::new(self.store.log.lanes(), push.push_after, push.is_on()))
    }

    /// What is pushed.
    pub(super) fn push(
        &self,
        couriers: Vec<Arc<dyn Courier>>,
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
            intake,
            published,
            uplink: self.uplink.clone(),
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        };
        let options = Options {
            ttl: settings.push.push_ttl,
            content: settings.push.content(),
            language: settings.mail.mail_language.into(),
            is_shared: store.fleet.is_some(),
            lag: if store.fleet.is_some() { settings.store.store_timeout + SKEW } else { Duration::from_secs(1) },
        };
        Arc::new(Push::new(parts, options))
    }
}
