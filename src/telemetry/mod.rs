//! What operators see: logs ([`logs`]) and metrics ([`metrics`]).
//!
//! Never in either: message content, tokens, passwords, e-mail addresses.

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
