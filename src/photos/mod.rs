//! Photos: turning what a member uploads into a small clean JPEG, and keeping the files. No rules.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`picture`] | decoding, scaling, encoding |
//! | [`objects`] | the files: in a folder, or in an S3 bucket |

pub mod objects;
pub mod picture;

pub use objects::{Objects, StorageError};
