//! Several nodes that serve one club.

mod administration;
mod clocks;
mod devices;
mod exchanges;
mod limits;
mod mail;
mod missed;
mod presence;
mod redis;
mod replies;
mod schedule;
mod second_factor;
mod settings;
mod strangers;
mod without_bus;
