//! What operators see: logs ([`logs`], [`quiet`]) and metrics ([`metrics`], in
//! the formats of [`exposition`]).
//!
//! Never in either: message content, tokens, passwords, e-mail addresses.

pub mod exposition;
pub mod logs;
pub mod metrics;
pub mod quiet;

pub use metrics::Metrics;
pub use quiet::{Hourly, Minutely, Quiet};
