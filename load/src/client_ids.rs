//! The client's own ids of messages: a store may find one kind cheaper than the other, so it is said which it was.

use clap::ValueEnum;
use protocol::ClientMessageId;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Which version of UUID the ids of messages are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientIds {
    /// Random, what `crypto.randomUUID()` of a browser makes: each falls somewhere else in an index.
    #[default]
    V4,
    /// Beginning with the time: each falls behind the one before, in the same page of an index.
    V7,
}

impl ClientIds {
    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V7 => "v7",
        }
    }

    /// An id that there has not been.
    pub(crate) fn next(self, random: &mut impl Rng) -> ClientMessageId {
        ClientMessageId::from_uuid(match self {
            Self::V4 => uuid::Builder::from_random_bytes(random.random()).into_uuid(),
            Self::V7 => uuid::Uuid::now_v7(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn an_id_has_the_version_that_was_asked_for() {
        let mut random = StdRng::seed_from_u64(1);
        for (ids, version) in [(ClientIds::V4, '4'), (ClientIds::V7, '7')] {
            let (one, other) = (ids.next(&mut random).to_string(), ids.next(&mut random).to_string());
            // xxxxxxxx-xxxx-Vxxx-…
            assert_eq!(one.chars().nth(14), Some(version), "{one}");
            assert_ne!(one, other);
        }
    }
}
