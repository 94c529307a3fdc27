//! Push services of our own, and what they and everybody else did: whether every device was told what it had to be told, and nothing else.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`facts`] | what happened, and when: messages, acknowledgements, registrations, pushes, crashes |
//! | [`judge`] | whether that is as the rules have it |
//! | [`trouble`] | what goes wrong at a push service |
//! | [`expo`] | a service that behaves like Expo's |
//! | [`web`] | one that behaves like those of browsers |

pub(crate) mod expo;
pub(crate) mod facts;
pub(crate) mod judge;
pub(crate) mod trouble;
pub(crate) mod web;
