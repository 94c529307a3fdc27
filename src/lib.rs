//! The Members Book server: chat for a private members' club over one WebSocket per device, and a REST API beside it.
//!
//! The road of every change, whether it comes from a socket or over REST:
//!
//! ```text
//! connection, http  ->  service  ->  store (durable)  ->  event  ->  hub  ->  outbox of each live connection
//! ```
//!
//! Dependencies point one way: `connection, http -> service -> store, hub -> protocol`. `ARCHITECTURE.md` draws it.

pub mod admission;
pub mod ai;
pub mod allocator;
pub mod app;
pub mod auth;
pub mod background;
pub mod breaker;
pub mod budget;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod failure;
pub mod http;
pub mod hub;
pub mod ids;
pub mod mail;
pub mod outbound;
pub mod photos;
pub mod position;
pub mod presence;
pub mod push;
pub mod service;
pub mod sources;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod text;
pub mod tls;
