//! Several nodes that serve one club.

mod presence;
mod schedule;
mod without_bus;
