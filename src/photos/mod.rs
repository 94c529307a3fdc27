//! Photos: turning what a member uploads into a small clean JPEG, and keeping the files. No rules.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`picture`] | decoding, scaling, encoding |
//! | [`portraits`] | that, a few at a time |
//! | [`objects`] | the files: in a folder, or in an S3 bucket |

pub mod objects;
pub mod picture;
pub mod portraits;

pub use objects::{Objects, StorageError};
pub use portraits::{NoPortrait, Portraits};
