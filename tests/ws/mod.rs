//! The protocol over real sockets.

mod auth;
mod chat;
mod devices;
mod fuzz;
mod handshake;
mod late;
mod limits;
mod lists;
mod presence;
mod session_check;
mod settings;
mod slow;
mod sync;
mod typing;
mod untold;
