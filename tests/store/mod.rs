//! The conformance suite: every store passes every test of it.

mod addresses;
mod attempts;
mod clocks;
mod conversations;
mod copy;
mod directory;
mod fixture;
mod jobs;
mod lists;
mod mail;
mod mail_changes;
mod mail_links;
mod mail_notices;
mod mail_room;
mod members;
mod model;
mod mongodb;
mod nodes;
mod push;
mod push_reader;
mod recommendations;
mod registration;
mod replies;
mod restore;
mod second_factor;
mod session_races;
mod sessions;
mod settings;
mod sqlite;
mod unverified;

/// Makes a test for each store out of functions that take one.
macro_rules! for_every_store {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                let fixture = crate::store::fixture::Fixture::sqlite();
                super::$test(&fixture).await;
            })*
        }

        mod on_mongodb {
            $(#[tokio::test]
            async fn $test() {
                let fixture = crate::store::fixture::Fixture::mongodb().await;
                super::$test(&fixture).await;
            })*
        }
    };
}

use for_every_store;
