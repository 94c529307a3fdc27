//! The contract between the Members Book server and every client, version 1.
//!
//! This crate is the one source of the wire protocol: the frames of the WebSocket, the bodies of the REST API, ids,
//! error codes, close codes and limits. The JSON Schema, the AsyncAPI document, the TypeScript types and the
//! reference tables under `docs/` are written from it by `cargo run -p protocol --features codegen`.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`ids`] | opaque ids as newtypes |
//! | [`time`] | the one timestamp of the wire |
//! | [`limits`] | every limit as a named constant |
//! | [`error`], [`close`] | error codes, problem documents, close codes |
//! | [`model`] | what frames and bodies are made of: messages, entries, conversations, presence, members |
//! | [`client`], [`server`] | the frames of each direction, with their codec |
//! | [`encoded`] | a message that goes out in two frames, encoded once |
//! | [`photo`] | the names of photos |
//! | [`shown`] | what text has to be that members show to each other |
//! | [`size`] | encoded sizes, which bound the frames of the server |
//! | [`rest`] | request and response bodies of the REST API |
//!
//! It depends on no runtime and no web framework, so that any client written in Rust can use it.

pub mod client;
pub mod close;
mod codec;
#[cfg(feature = "codegen")]
pub mod codegen;
pub mod encoded;
pub mod error;
pub mod ids;
pub mod limits;
pub mod model;
#[cfg(feature = "openapi")]
mod openapi;
pub mod photo;
pub mod rest;
mod rules;
pub mod server;
pub mod shown;
pub mod size;
pub mod time;

pub use client::{ClientFrame, Request};
pub use close::CloseCode;
pub use codec::{DecodeError, json_problem, parse_body, peek_id};
pub use error::{ErrorCode, FieldError, Problem};
pub use ids::{
    ClientMessageId, ConnectionId, ConversationId, Cursor, DeviceId, InvitationId, MemberId, MessageId,
    RecommendationId, RequestId, SessionId,
};
pub use photo::PhotoName;
pub use server::{Envelope, ServerFrame};
pub use time::Timestamp;

/// The WebSocket subprotocol that names this version (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "membersbook.v1";
