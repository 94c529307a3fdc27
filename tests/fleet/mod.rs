//! Several nodes that serve one club.

mod presence;
mod without_bus;
