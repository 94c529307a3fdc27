//! The endpoints, one file per group.

pub mod auth;
pub mod health;
pub mod members;
