//! Several nodes that serve one club: the bus between them, and what a node knows of the others.
//!
//! The store is the truth and the bus is speed. Nothing that is stored needs the bus: an event that it loses is found by a sweep
//! of the store (`service::fleet`), and while anything may have been lost, the cursor that clients keep stands still.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`event`] | what crosses nodes, and its form on the bus |
//! | [`bus`] | what a bus is: the trait, its channels, and the inbox of a node |
//! | [`redis`] | the bus over Redis |
//! | [`Floor`] | how far cursors may go |
//! | [`Uplink`], [`Subscriptions`] | what the rest of the server has of the bus |
//! | [`roster`] | what a node knows of the others: floors, doubts; a state machine without I/O |

pub mod bus;
pub mod event;
mod floor;
pub mod redis;
pub mod roster;
mod uplink;

pub use bus::{Beat, Bus, Channel, Inbox, Loss, NodeId};
pub use event::Event;
pub use floor::Floor;
pub use roster::{Doubt, Roster};
pub use uplink::{Subscriptions, Uplink};
