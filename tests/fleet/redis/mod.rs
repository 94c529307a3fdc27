//! The bus over Redis, with real Redis servers that are killed, stopped and cut off.
//!
//! | module | what it shows |
//! | --- | --- |
//! | [`access`] | passwords, users with few rights, certificates |
//! | [`delivery`] | what is published arrives, in its order, on one link or two |
//! | [`outages`] | what the node is told when Redis or the network fails, and that the bus mends itself |
//! | [`sentinels`] | another Redis becomes the master |
//! | [`servers`] | what clients and operators notice of all that |

mod access;
mod delivery;
mod outages;
mod sentinels;
mod servers;

/// The user of Redis that `docs/fleet.md` gives, with a password.
fn user_of_the_docs(password: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user club on >PASSWORD ")).expect("the docs give a user");
    line.replace("PASSWORD", password)
}
