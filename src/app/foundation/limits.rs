//! How much each may do.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use super::Foundation;
use crate::{
    admission::{self, Places},
    config::settings::Rates,
    http::limits::{OUTSIDE, RequestLimits},
    service::{
        hellos::Hellos,
        limiter::{Limiter, Rate},
        shared_limits::SharedRates,
    },
};

impl Foundation {
    /// The connections that there is room for.
    pub(in crate::app) fn places(&self, total: usize, proxies: Arc<[IpNet]>) -> Arc<Places> {
        let connections = &self.settings.connections;
        let limits = admission::Limits {
            total,
            per_address: connections.max_connections_per_address,
            per_network: connections.max_connections_per_network,
        };
        Places::new(limits, proxies, Arc::clone(&self.metrics))
    }

    /// How many hellos are allowed.
    pub(super) fn hellos(&self) -> Hellos {
        let (rates, second, minute) = (&self.settings.rates, Duration::from_secs(1), Duration::from_secs(60));
        let (session, member) = (rates.rate_hellos, rates.rate_hellos_member);
        Hellos::new(
            self.limiter("hellos_address", rates.rate_hellos_address, rates.rate_hellos_address_burst, second),
            self.limiter("hellos_session", session, rates.rate_hellos_burst, minute),
            self.limiter("hellos_member", member, rates.rate_hellos_member_burst, minute),
        )
    }

    /// How many requests are allowed.
    pub(in crate::app) fn request_limits(&self) -> RequestLimits {
        let (rates, second) = (&self.settings.rates, Duration::from_secs(1));
        let Rates { rate_address, rate_address_burst, rate_requests, rate_requests_burst, .. } = rates;
        RequestLimits {
            by_address: self.limiter("address", *rate_address, *rate_address_burst, second),
            by_member: self.limiter("member", *rate_requests, *rate_requests_burst, second),
            outside: self.limiter("outside", OUTSIDE.0, OUTSIDE.1, second),
            by_stale_session: self.limiter("stale_session", *rate_requests, *rate_requests_burst, second),
        }
    }

    pub(super) fn limiter<K: std::hash::Hash + Eq + Clone>(
        &self,
        name: &'static str,
        per_period: u32,
        burst: u32,
        period: Duration,
    ) -> Limiter<K> {
        Limiter::new(name, Rate { per_period, period, burst }, Arc::clone(&self.metrics))
    }
}

/// The rates that all nodes share.
pub(super) fn shared_rates(rates: &Rates) -> SharedRates {
    let rate = |per_period, burst, seconds| Rate { per_period, period: Duration::from_secs(seconds), burst };
    SharedRates {
        messages: rate(rates.rate_messages, rates.rate_messages_burst, 1),
        beginnings: rate(rates.rate_new_conversations, rates.rate_new_conversations_burst, 3600),
        profiles: rate(rates.rate_profiles, rates.rate_profiles_burst, 60),
        refreshes: rate(rates.rate_refreshes, rates.rate_refreshes_burst, 60),
        logins: rate(rates.rate_logins, rates.rate_logins_burst, 60),
        registrations: rate(rates.rate_registrations, rates.rate_registrations_burst, 60),
    }
}
