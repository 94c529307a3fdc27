//! Who sends mail, and how.

use std::sync::Arc;

use super::Foundation;
use crate::{
    app::{StartError, start_error},
    auth::KeyRing,
    mail::{Smtp, TokenKeys, Transport},
    service::post::{Parts, Post},
};

impl Foundation {
    /// The one who sends mail: to the mail server of the settings; without one to the log, if nobody else can reach this server.
    pub(in crate::app) fn post(&self, ring: &KeyRing) -> Result<Arc<Post>, StartError> {
        let mail = &self.settings.mail;
        let transport = match (mail.relay().map_err(start_error)?, &mail.mail_from) {
            (Some(relay), Some(from)) => {
                let smtp =
                    Smtp::new(relay, from, mail.smtp_ca_file.as_deref(), mail.smtp_timeout).map_err(start_error)?;
                Transport::Smtp(Box::new(smtp))
            }
            _ if !self.settings.listen.is_reached() => Transport::Log,
            _ => Transport::Nowhere,
        };
        let parts = Parts {
            store: Arc::clone(&self.store.mail),
            members: Arc::clone(&self.store.members),
            keys: TokenKeys::new(ring),
            language: mail.mail_language.into(),
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
            shared: self.store.fleet.clone(),
        };
        Ok(Arc::new(Post::new(parts, &transport)))
    }
}
