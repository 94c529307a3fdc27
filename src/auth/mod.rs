//! Who is there: passwords ([`password`]), access tokens ([`access`]) and refresh tokens ([`refresh`]).
//!
//! Used by `service` only. Nothing here touches the store.

pub mod access;
pub mod password;
pub mod refresh;

pub use access::AccessTokens;
pub use password::Passwords;
