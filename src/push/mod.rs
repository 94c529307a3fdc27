//! Couriers: who brings pushes to devices. What is pushed, when and to whom is decided in `service::push`.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`expo`] | Expo's service, for apps |
//! | [`web`] | the push services of browsers |
//! | [`pace`] | so many messages a second |

pub mod expo;
mod pace;
pub mod web;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use protocol::{
    ConversationId, MemberId, MessageId, Timestamp,
    rest::{PushAddress, PushService},
};

use crate::store::push::AddressHash;

/// Brings pushes to devices.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Which service it is.
    fn service(&self) -> PushService;

    /// How long it takes nothing yet, because the service keeps failing; zero if something may be tried.
    fn rests(&self) -> Duration;

    /// Whether a number at an icon can be changed without showing anything.
    fn is_silent(&self) -> bool;

    /// Why nothing can ever be sent to an address of the service, if that is so.
    fn unfit(&self, _: &PushAddress) -> Option<Unfit> {
        None
    }

    /// Hands parcels to the service. Says what became of each, in their order; never takes much longer than the deadline of the service.
    async fn send(&self, parcels: Vec<Parcel>) -> Vec<Handed>;

    /// Addresses at which nobody is any more, as the service has said since it took something for them; with when that was sent. To be called
    /// every few seconds.
    async fn found_gone(&self) -> Vec<(AddressHash, Timestamp)> {
        Vec::new()
    }
}

/// Why nothing can be sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// The field of the address that says why.
    pub field: &'static str,
    /// Why.
    pub why: &'static str,
}

/// One push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Where to.
    pub address: PushAddress,
    /// What it says.
    pub what: What,
    /// The number at the icon.
    pub badge: u32,
    /// How long the service may try to bring it.
    pub ttl: Duration,
}

/// What a push says.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    /// Nothing but the number at the icon.
    Badge,
    /// That there are messages.
    Messages(Box<Notice>),
}

/// What is shown of messages of one conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct Notice {
    /// The conversation.
    pub conversation: ConversationId,
    /// Stands for the conversation on this device, and says nothing of it to who does not know the keys of the club. A later notice with the same
    /// one replaces this.
    pub topic: [u8; 16],
    /// The newest message.
    pub seq: u64,
    /// Its id and sender, unless they are not to be known.
    pub message: Option<(MessageId, MemberId)>,
    /// Who has sent it, unless that is not to be known.
    pub title: Option<String>,
    /// Its text, or that there is one.
    pub body: String,
    /// What `body` is if the service finds the text too long.
    pub without_text: String,
}

impl Notice {
    /// [`Self::topic`] as text: 32 hexadecimal digits.
    #[must_use]
    pub fn topic_name(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.topic))
    }
}

/// Nothing that is said is ever logged.
impl fmt::Debug for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Badge => "Badge",
            Self::Messages(_) => "Messages(…)",
        })
    }
}

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// The service has taken it.
    Taken,
    /// Nobody is at that address any more.
    Gone,
    /// It will never be taken.
    Refused(&'static str),
    /// It is to be tried again.
    Later {
        /// Why, for the metrics.
        why: &'static str,
        /// Not before then, if that is known.
        pause: Option<Duration>,
    },
}

impl Handed {
    /// To be tried again, nobody knows when.
    #[must_use]
    pub const fn later(why: &'static str) -> Self {
        Self::Later { why, pause: None }
    }
}
