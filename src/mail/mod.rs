//! Mail: how it is written, and how it is handed to the server that takes it. What is sent, and when, is decided in
//! `service::post`.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`letters`] | every text in every language, from files |
//! | [`tokens`] | the tokens of links, derived from their ids |
//! | [`smtp`] | the connection to the server of `SMTP_URL` |
//! | [`reach`] | which addresses are mailed to |
//! | [`transport`] | where mails go: to that server, to the log, or nowhere |

pub mod letters;
pub mod reach;
pub mod smtp;
pub mod tokens;
pub mod transport;

pub use letters::{Letter, Template};
pub use smtp::{Smtp, Undelivered};
pub use tokens::TokenKeys;
pub use transport::Transport;
