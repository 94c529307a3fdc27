//! What operators see: logs ([`logs`], [`quiet`]) and metrics ([`metrics`]).
//!
//! Never in either: message content, tokens, passwords, e-mail addresses.

pub mod logs;
pub mod metrics;
pub mod quiet;

pub use metrics::Metrics;
pub use quiet::Quiet;
