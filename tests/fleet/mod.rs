//! Several nodes that serve one club.

mod administration;
mod devices;
mod exchanges;
mod limits;
mod missed;
mod presence;
mod redis;
mod schedule;
mod second_factor;
mod settings;
mod strangers;
mod without_bus;
