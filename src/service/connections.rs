//! Signing a connection in and out, and renewing its token.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{ErrorCode, MemberId, Timestamp, client::Hello, model::UserType};

use super::{accounts::Accounts, applications::Applications, leaving, watching::Watching};
use crate::{
    auth::access::Verified,
    clock::Clock,
    cluster::{Channel, Subscriptions, Uplink, event::Note},
    failure::Failure,
    hub::{Connection, Hub, Outbox},
    ids::Ids,
};

/// Signing connections in and out.
pub struct Connections {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Checks tokens.
    pub accounts: Arc<Accounts>,
    /// The channels of the members who are here.
    pub subscriptions: Arc<Subscriptions>,
    /// The way to other nodes.
    pub uplink: Uplink,
    /// Hears of members who come and go.
    pub watching: Arc<Watching>,
    /// Tells administrators who connect how many wait to be let in.
    pub applications: Arc<Applications>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes connection ids and jitter.
    pub ids: Arc<Ids>,
}

/// A connection that was signed in.
pub struct SignedIn {
    /// The connection; events are queued for it already.
    pub connection: Arc<Connection>,
    /// When its token expires.
    pub expires_at: Timestamp,
}

impl Connections {
    /// Signs a connection in whose token was verified just now: from now on it receives events.
    ///
    /// # Errors
    /// A token that is not good, a deactivated member, too many connections, or the store.
    pub async fn sign_in(
        &self,
        (hello, verified): (Hello, Result<Verified, ErrorCode>),
        outbox: Arc<Outbox>,
        peer: IpAddr,
    ) -> Result<SignedIn, Failure> {
        // First of all: what other nodes do to this member, and publish, is heard from here on. What they did before is in the
        // store by now.
        let held = match &verified {
            Ok(verified) => Some(self.subscriptions.hold(verified.member).await),
            Err(_) => None,
        };
        let orders = self.hub.orders_to_close();
        let authorized = self.accounts.authorize_verified(verified).await?;
        let id = self.ids.connection();
        let connection = Connection::new(id, authorized.member, authorized.session, hello.device.id, outbox);
        let opened_at = self.clock.now();
        let connection = Arc::new(connection.opened(peer, opened_at).with_good_from(authorized.good_from));
        let registered = self
            .hub
            .register(Arc::clone(&connection))
            .map_err(|_| Failure::of(ErrorCode::TooManyConnections).retry_after(Duration::from_secs(60)))?;
        // Revoked or deactivated between the check and the registration, perhaps: nobody would have told this connection.
        if self.hub.orders_to_close() != orders
            && let Err(failure) = self.accounts.authorize(&hello.token).await
        {
            // Nobody has seen it yet: the member was not here, as far as others are concerned.
            self.hub.remove(&connection);
            self.hub.forget(&connection);
            return Err(failure);
        }
        if let Some(held) = held {
            held.keep();
        }
        self.uplink.publish(Channel::Member(connection.member), || {
            Note::DeviceConnected { device: connection.device.clone(), connection: id, at: opened_at }.into()
        });
        tracing::debug!(connection = %id, member = %authorized.member, %peer, registered.first, "signed in");
        self.watching.arrived(&connection, registered);
        if authorized.user_type == UserType::Admin {
            self.applications.greet(&connection);
        }
        Ok(SignedIn { connection, expires_at: authorized.expires_at })
    }

    /// Signs a connection out. One that was replaced is gone from the hub already, and does not count for presence.
    pub fn sign_out(&self, connection: &Connection) {
        self.hub.remove(connection);
        self.subscriptions.release(connection.member);
        self.watching.forget_watcher(connection);
        self.watching.left(connection, self.clock.now());
    }

    /// Takes a fresh token for a connection. Returns when it expires.
    ///
    /// # Errors
    /// A token that is not good or not of this connection's session.
    pub async fn renew(&self, connection: &Connection, token: &str) -> Result<Timestamp, Failure> {
        let authorized = self.accounts.authorize(token).await?;
        if (authorized.member, authorized.session) != (connection.member, connection.session) {
            return Err(Failure::new(ErrorCode::TokenInvalid, "The token belongs to another session."));
        }
        Ok(authorized.expires_at)
    }

    /// Other nodes are to keep a member out for so long, too.
    pub fn tell_kept_out(&self, member: MemberId, wait: Duration) {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.uplink.publish(Channel::Everybody, || Note::KeptOut { member, wait_ms }.into());
    }

    /// Sends every connection away, one after the other over so long: there are other nodes to go to.
    pub async fn drain(&self, over: Duration) {
        leaving::one_after_the_other(&self.hub, &self.ids, over).await;
    }

    /// Sends every connection away that is left, all at once.
    pub fn send_away(&self) {
        leaving::all_at_once(&self.hub, &self.ids);
    }
}
