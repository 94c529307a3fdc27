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
use futures_util::stream::BoxStream;
use protocol::{
    ConversationId, MemberId, MessageId,
    rest::{PushAddress, PushService},
};

use tokio::time::Instant;

use crate::store::push::{AddressHash, RegistrationId};

/// How old what was found out about a push may be when its request begins: something may be read, or somebody log out, every moment.
pub const FRESH: Duration = Duration::from_secs(2);

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

    /// How many times parcels may be handed over to it at a time; nothing: as often as there are some, it puts off what is too much itself.
    fn batches(&self) -> Option<usize>;

    /// Hands parcels to the service. Says what became of each, with its place among them, as soon as that is known; whoever stops listening
    /// cuts what is under way. No request begins with a parcel that is not fresh any more: that is [`Handed::late`].
    fn send(&self, parcels: Vec<Parcel>) -> BoxStream<'_, (usize, Handed)>;

    /// Addresses at which nobody is any more, as the service has said since it took something for them; with the registration that was for. To be
    /// called every few seconds.
    async fn found_gone(&self) -> Vec<(AddressHash, RegistrationId)> {
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
    /// Whose device it is for.
    pub member: MemberId,
    /// When it was found out what it says.
    pub composed: Instant,
    /// Where to.
    pub address: PushAddress,
    /// Which registration of that.
    pub registration: RegistrationId,
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

    /// Nothing was sent, because it has waited too long for its turn, or would have to: it is found out again what it says.
    #[must_use]
    pub const fn late() -> Self {
        Self::later("late")
    }

    /// Whether the service has refused it and would refuse every other one for that address as well, as far as that is known.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Refused(REFUSED) | Self::Later { why: REFUSED, .. })
    }
}

/// Why something was refused: a service does not want what this server sends to an address.
pub(crate) const REFUSED: &str = "refused";

/// Why something was not sent alone: a request with it was refused, and something else is tried first.
pub(crate) const DIVIDED: &str = "divided";

/// Whether a push that is tried again for this reason was not tried at all: then its pauses become no longer.
pub(crate) fn is_untried(why: &str) -> bool {
    matches!(why, "late" | "pace" | "resting" | DIVIDED)
}

/// Whether a push that is tried again for this reason may have been taken all the same: then nobody knows which number the device shows.
pub(crate) fn may_be_taken(why: &str) -> bool {
    matches!(why, "timeout" | "cut" | "server_error" | "no_ticket")
}

impl Parcel {
    /// Whether what it says may be sent still.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.composed.elapsed() <= FRESH
    }
}

/// What became of all parcels, in their order.
#[cfg(test)]
pub(crate) async fn send_all(courier: &dyn Courier, parcels: Vec<Parcel>) -> Vec<Handed> {
    use futures_util::StreamExt as _;
    let count = parcels.len();
    let mut handed: Vec<(usize, Handed)> = courier.send(parcels).collect().await;
    handed.sort_by_key(|(place, _)| *place);
    assert!(handed.iter().map(|(place, _)| *place).eq(0..count), "each once: {handed:?}");
    handed.into_iter().map(|(_, handed)| handed).collect()
}
