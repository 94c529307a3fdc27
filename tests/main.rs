//! The integration tests, in one binary: real sockets, real SQLite files, real processes.
//!
//! | module | what it shows |
//! | --- | --- |
//! | [`harness`] | servers and clients; test code reads like a sentence |
//! | [`store`] | the conformance suite that every store passes, and what is SQLite's own |
//! | [`rest`] | accounts over REST |
//! | [`attack`] | what strangers and thieves try |
//! | [`ws`] | the protocol over real sockets |
//! | [`fleet`] | several nodes that serve one club |
//! | [`push`] | devices that are told of messages by a push service |
//! | [`process`] | the server as a process: crashes, a full disk, signals, the command line |
//! | [`layers`] | who may call whom is what ARCHITECTURE.md says |
//! | [`documents`] | what is written about settings and metrics is what the code says |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::large_futures,
    unreachable_pub,
    reason = "a test fails by panicking, lives in real time, and is a binary of its own"
)]

mod attack;
mod documents;
mod fleet;
mod harness;
mod layers;
mod process;
mod push;
mod rest;
mod store;
mod ws;
