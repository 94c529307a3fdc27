//! Several nodes that serve one club.

mod without_bus;
