//! Signing a connection in and out, and renewing its token.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{CloseCode, Cursor, ErrorCode, Timestamp, client::Hello, model::DeviceStatus};

use super::{accounts::Accounts, messaging::Messaging, watching::Watching};
use crate::{
    clock::Clock,
    failure::Failure,
    hub::{Close, Connection, Hub, Outbox},
    ids::Ids,
    store::epochs::Place,
};

/// Signing connections in and out.
pub struct Connections {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Checks tokens.
    pub accounts: Arc<Accounts>,
    /// Reads cursors.
    pub messaging: Arc<Messaging>,
    /// Hears of members who come and go.
    pub watching: Arc<Watching>,
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
    /// Where its sync starts; nowhere, for the full state.
    pub since: Option<Place>,
    /// The cursor of its hello, if the sync starts there.
    pub cursor: Option<Cursor>,
}

impl Connections {
    /// Signs a connection in: from now on it receives events.
    ///
    /// # Errors
    /// A token that is not good, a deactivated member, too many connections, or the store.
    pub async fn sign_in(&self, hello: Hello, outbox: Arc<Outbox>, peer: IpAddr) -> Result<SignedIn, Failure> {
        let authorized = self.accounts.authorize(&hello.token).await?;
        let id = self.ids.connection();
        let connection = Connection::new(id, authorized.member, authorized.session, hello.device.id, outbox);
        let connection = Arc::new(connection);
        let first = self
            .hub
            .register(Arc::clone(&connection))
            .map_err(|_| Failure::of(ErrorCode::TooManyConnections).retry_after(Duration::from_secs(60)))?;
        // Revoked or deactivated between the check and the registration: nobody would have told this connection.
        if let Err(failure) = self.accounts.authorize(&hello.token).await {
            self.sign_out(&connection);
            return Err(failure);
        }
        tracing::debug!(connection = %id, member = %authorized.member, %peer, first, "signed in");
        self.watching.changed(authorized.member);
        let since = hello.cursor.as_ref().and_then(|cursor| self.messaging.place_of(authorized.member, cursor));
        let cursor = hello.cursor.filter(|_| since.is_some());
        Ok(SignedIn { connection, expires_at: authorized.expires_at, since, cursor })
    }

    /// Signs a connection out.
    pub fn sign_out(&self, connection: &Connection) {
        let (member, now) = (connection.member, self.clock.now());
        let status = self.hub.status(member).unwrap_or(DeviceStatus::Online);
        self.watching.leaving(member, status, now);
        let last = self.hub.remove(connection);
        self.watching.forget_watcher(connection);
        if last {
            self.watching.left(member, status, now);
        } else {
            // The rest of the devices may all be away.
            self.watching.changed(member);
        }
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

    /// Tells every connection that the server is going away, each with its own time to come back, spread over so long
    /// that they do not all come at once.
    pub fn drain(&self) {
        // 500 connections a second come back at most, and nobody waits longer than half a minute.
        let members = u64::try_from(self.hub.members()).unwrap_or(u64::MAX);
        let spread = (members * 2).clamp(1_000, 30_000);
        self.hub.close_all(|_| Close { code: CloseCode::GoingAway, retry_after_ms: Some(self.ids.below(spread)) });
    }
}
