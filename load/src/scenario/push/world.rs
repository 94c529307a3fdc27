//! What everybody in a run of push shares: who there is, where things are, and what has happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::rest::PushAddress;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    link::{Link, Opening},
    push::{facts::Ledger, web::Web},
    recorder::{Count, Tally},
    target::{Account, Target},
};

/// How long before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(300);
/// How long somebody tries to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// What phones are called; the last of them is a browser.
pub(super) const PHONES: [&str; 4] = ["phone", "tablet", "browser", "watch"];
/// The number of the browser.
const BROWSER: usize = 2;

/// What everybody shares.
pub(super) struct World {
    pub(super) target: Target,
    pub(super) ledger: Arc<Ledger>,
    pub(super) web: Arc<Web>,
    pub(super) accounts: Vec<Account>,
    /// Phones of each member.
    pub(super) each: usize,
    /// Whoever registers a device or ends a session holds it, so that it is known in which order that happens.
    pub(super) registrar: Mutex<()>,
    pub(super) stop: AtomicBool,
    addresses: AtomicUsize,
}

impl World {
    pub(super) fn new(target: Target, ledger: Arc<Ledger>, web: Arc<Web>, accounts: Vec<Account>, each: usize) -> Self {
        let (registrar, stop, addresses) = Default::default();
        Self { target, ledger, web, accounts, each, registrar, stop, addresses }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The member whose a phone is.
    pub(super) const fn owner(&self, phone: usize) -> usize {
        phone / self.each
    }

    /// What a phone is called.
    pub(super) fn name(&self, phone: usize) -> &'static str {
        PHONES.get(phone % self.each).copied().unwrap_or("phone")
    }

    pub(super) const fn is_browser(&self, phone: usize) -> bool {
        phone % self.each == BROWSER
    }

    /// An address that nobody has had.
    pub(super) fn fresh(&self, phone: usize) -> String {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        if self.is_browser(phone) {
            match self.web.subscription(&number.to_string()) {
                PushAddress::Web { endpoint, .. } => endpoint,
                PushAddress::Expo { token } => token,
            }
        } else {
            format!("ExponentPushToken[load-{number}]")
        }
    }

    /// An address as it is registered.
    pub(super) fn address(&self, address: &str) -> PushAddress {
        match address.rsplit_once("/s/") {
            Some((_, name)) => self.web.subscription(name),
            None => PushAddress::Expo { token: address.to_owned() },
        }
    }

    /// Opens a connection of a device, again and again until there is one.
    ///
    /// # Errors
    /// When there is none for long.
    pub(super) async fn connect(&self, token: &str, device: &'static str, tally: &Tally) -> Result<Link, String> {
        let opening = Opening::new(self.target.addr).on(device);
        let begun = Instant::now();
        loop {
            match opening.open(token, None).await {
                Ok(link) => {
                    tally.count(Count::Connected);
                    return Ok(link);
                }
                Err(problem) if begun.elapsed() > PATIENCE => return Err(format!("no way back: {problem}")),
                Err(_) => tally.count(Count::Refused),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Does something of REST, again and again until the server answers.
    ///
    /// # Errors
    /// When it does not for long.
    pub(super) async fn insist<T, F: Future<Output = Result<T, String>>>(ask: impl Fn() -> F) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(problem) if begun.elapsed() > PATIENCE => return Err(problem),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}
