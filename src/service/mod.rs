//! The rules of the club: everything that can be done, each in one function, whoever asks.
//!
//! `connection` and `http` translate requests into calls of these and answers back; what they decide is about a connection or a
//! request as such. Only these call the store, and only [`events`] hands an event to the hub.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`accounts`], [`enrolment`] | register, who a token speaks for; making a member |
//! | [`login`] | what somebody shows who logs in |
//! | [`session_tokens`] | starting a session, exchanging its refresh token |
//! | [`sessions`] | where members are signed in, ending that, logging out |
//! | [`credentials`] | changing the password |
//! | [`second_factor`], [`codes`] | turning the second factor on and off, proving again who is at a device; its codes |
//! | [`registration`], [`invitations`], [`applications`] | who may come in; who brings whom in; who waits for an administrator |
//! | [`post`], [`recovery`] | sending mail; what the links in it do |
//! | [`push`] | telling devices of messages that they do not take in time, by couriers |
//! | [`setup`] | the first administrator, made by whoever has the code that the server prints |
//! | [`profiles`] | a member's record: reading one's own, changing it, leaving |
//! | [`effects`] | what follows from a change besides what is stored |
//! | [`jobs`] | what follows from a change though the process ends |
//! | [`announcements`] | telling others of changed profiles, not too often |
//! | [`photos`], [`album`] | a member's photo: uploading and removing it; which file is whose, and who can see it |
//! | [`directory`] | finding members and reading what they share |
//! | [`administration`], [`own_node`] | what administrators do; this node, as they see it |
//! | [`audit`] | writing to the audit log what goes with no change |
//! | [`advice`] | whom to meet, and how to word one's profile better |
//! | [`documents`] | messages as documents with their status, for REST |
//! | [`export`] | everything that is stored about a member |
//! | [`attempts`] | how many passwords and codes are tried by who is signed in |
//! | [`guesses`] | how many passwords and codes are tried at one account |
//! | [`hellos`] | how often connections may be opened |
//! | [`connections`] | signing a connection in and out, renewing its token |
//! | [`delivered`], [`awaited`] | which entries were pushed here already, and which their authors have not told of yet, on a node among others |
//! | [`session_check`], [`kicks`] | closing connections whose session ended on another node |
//! | [`leaving`] | sending all connections away when the node stops |
//! | [`messaging`] | sending, watermarks, typing, conversations, history |
//! | [`beginnings`] | who may begin a conversation now, in the order of their messages |
//! | [`catch_up`] | the sync after hello, part by part |
//! | [`sequencer`], [`asker`], [`backlog`] | the one road of durable changes: gather, commit, publish in order, answer |
//! | [`room`] | room for what is on its way through that; who finds none waits |
//! | [`watching`] | presence: who watches whom, who has gone |
//! | [`events`] | the one place where events go to the hub |
//! | [`views`] | what is stored, as clients see it |
//! | [`transfer`] | moving everything from one store to another |
//! | [`demo`] | a club to look at, with members who talk |
//! | [`base32`] | codes and passwords that people read out |
//! | [`limiter`], [`shared_limits`] | rate limits; those that all nodes share |
//! | [`shared_clock`] | when it is, for links and mails |
//! | [`slots`] | bounded concurrency, in all and of one member or address |
//! | [`decisions`] | changes that take effect even when the store confirms them late |
//! | [`cursor`], [`pages`] | positions of the store and places in lists as opaque text |

pub mod accounts;
pub mod administration;
pub mod advice;
pub mod album;
pub mod announcements;
pub mod applications;
pub mod asker;
mod attempts;
pub mod audit;
pub mod awaited;
mod backlog;
mod base32;
mod beginnings;
pub mod catch_up;
pub mod clock_watch;
pub mod codes;
pub mod connections;
pub mod credentials;
pub mod cursor;
pub mod decisions;
pub mod delivered;
pub mod demo;
pub mod directory;
pub mod documents;
pub mod effects;
pub mod enrolment;
pub mod events;
pub mod export;
pub mod fleet;
pub mod guesses;
pub mod hellos;
pub mod invitations;
pub mod jobs;
pub mod kicks;
pub mod leaving;
pub mod limiter;
mod login;
pub mod messaging;
pub mod own_node;
pub mod pages;
pub mod photos;
pub mod post;
pub mod profiles;
pub mod push;
pub mod recovery;
pub mod registration;
pub mod room;
pub mod second_factor;
pub mod sequencer;
pub mod session_check;
mod session_tokens;
pub mod sessions;
pub mod setup;
pub mod shared_clock;
pub mod shared_limits;
pub mod slots;
pub mod transfer;
pub mod views;
pub mod watching;

use protocol::ErrorCode;
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Takes the answer to a request that is not waited for. Called once, from whichever task has it.
pub type Respond<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

/// Waits for the answer of something that answers through a callback. What it waits for goes on without it.
async fn answered<T: Send + 'static>(ask: impl FnOnce(Respond<T>)) -> Result<T, Failure> {
    let (sender, receiver) = oneshot::channel();
    ask(Box::new(move |outcome| {
        // Whoever stopped waiting needs no answer.
        let _ = sender.send(outcome);
    }));
    receiver.await.unwrap_or_else(|_| Err(ErrorCode::Internal.into()))
}
