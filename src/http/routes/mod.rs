//! The endpoints, one file per group.

pub mod ai;
pub mod auth;
pub mod health;
pub mod members;
