//! The bus over Redis, with real Redis servers that are killed, stopped and cut off.
//!
//! | module | what it shows |
//! | --- | --- |
//! | [`delivery`] | what is published arrives, in its order, on one link or two |
//! | [`outages`] | what the node is told when Redis or the network fails, and that the bus mends itself |
//! | [`servers`] | what clients and operators notice of all that |

mod delivery;
mod outages;
mod servers;
