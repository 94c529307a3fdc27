//! Several nodes that serve one club.

mod presence;
mod redis;
mod schedule;
mod without_bus;
