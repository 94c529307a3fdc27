//! Who is there: passwords ([`password`], no [`common`] ones, in the order of [`turns`], where [`familiar`] members go first), access tokens
//! ([`access`]), the keys that their secret gives ([`keys`]), devices that were there before ([`device`]), which sessions were seen and for which tokens ([`stale`]), and refresh tokens ([`refresh`]);
//! codes of authenticator apps ([`totp`]), and what seals their secrets ([`vault`]).
//!
//! Nothing here touches the store.

pub mod access;
pub mod common;
pub mod device;
pub mod familiar;
pub mod keys;
pub mod password;
pub mod refresh;
mod signing;
pub mod stale;
pub mod totp;
pub mod turns;
pub mod vault;

pub use access::AccessTokens;
pub use device::DeviceProofs;
pub use familiar::Familiar;
pub use keys::KeyRing;
pub use password::{Masking, Passwords};
pub use stale::{Known, Stale};
pub use turns::Source;
pub use vault::Vault;
