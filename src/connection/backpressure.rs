//! A connection whose requests find no room on their way to the store: they wait, in their order, and nothing further is read.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::dispatch::Storing;
use crate::{
    failure::Failure,
    service::room::{Permit, Room},
};

/// Requests that wait for room, all of them together.
pub(super) struct Parked {
    requests: VecDeque<Storing>,
    since: Instant,
    /// The place among those who wait. What comes to its turn is held for it, so it is given up while it cannot be taken.
    turn: Option<BoxFuture<'static, Result<Permit, Failure>>>,
}

/// The requests, and room for all of them, or why there is none.
pub(super) type Turn = (Result<Permit, Failure>, VecDeque<Storing>);

impl Parked {
    /// The first one, which has waited since then.
    pub(super) fn new(request: Storing, since: Instant) -> Box<Self> {
        Box::new(Self { requests: VecDeque::from([request]), since, turn: None })
    }

    /// One more.
    pub(super) fn push(&mut self, request: Storing) {
        self.requests.push_back(request);
        self.turn = None;
    }

    /// Bytes of content that wait.
    pub(super) fn bytes(&self) -> usize {
        self.requests.iter().map(Storing::content_bytes).sum()
    }

    /// Gives the place up: it waits for something else, and nobody may have to wait for that.
    pub(super) fn step_aside(&mut self) {
        self.turn = None;
    }

    /// The requests, when there is room for them, or when they have waited too long.
    pub(super) fn poll_turn(parked: &mut Option<Box<Self>>, room: &Room, context: &mut Context<'_>) -> Poll<Turn> {
        let Some(Self { requests, since, turn }) = parked.as_deref_mut() else { return Poll::Pending };
        let contents = requests.iter().map(Storing::content_bytes);
        let turn = turn.get_or_insert_with(|| Box::pin(room.clone().wait(contents, *since)));
        turn.as_mut().poll(context).map(|room| (room, parked.take().map(|parked| parked.requests).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use futures_util::FutureExt as _;
    use protocol::ErrorCode;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn parked(requests: u32) -> Box<Parked> {
        let mut parked = Parked::new(Storing::mark(0), Instant::now());
        (1..requests).for_each(|ticket| parked.push(Storing::mark(ticket)));
        parked
    }

    async fn turn(parked: &mut Option<Box<Parked>>, room: &Room) -> Turn {
        poll_fn(|context| Parked::poll_turn(parked, room, context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_gets_its_room_together() {
        let room = Room::for_commands(3, PATIENCE);
        let taken = room.take(0);
        let mut parked = Some(parked(3));
        assert!(turn(&mut parked, &room).now_or_never().is_none());
        drop(taken);
        let (permit, requests) = turn(&mut parked, &room).await;
        let mut permit = permit.ok().unwrap();
        assert_eq!((requests.len(), parked.is_none()), (3, true));
        assert!((0..3).all(|_| permit.split(0).is_some()) && permit.split(0).is_none());
    }

    /// Found by reading: room was granted to connections that were not looking, because their clients read slowly.
    #[tokio::test(start_paused = true)]
    async fn who_steps_aside_keeps_nothing_from_others() {
        let room = Room::for_commands(1, PATIENCE);
        let taken = room.take(0);
        let (mut slow, mut other) = (Some(parked(1)), Some(parked(1)));
        assert!(turn(&mut slow, &room).now_or_never().is_none());
        assert!(turn(&mut other, &room).now_or_never().is_none());
        slow.as_mut().unwrap().step_aside();
        drop(taken);
        assert!(turn(&mut other, &room).await.0.is_ok());
        assert!(turn(&mut slow, &room).await.0.is_ok(), "it is given back, and comes to everybody");
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_have_waited_too_long_at_the_same_time() {
        let room = Room::for_commands(64, PATIENCE);
        let _taken: Vec<_> = (0..64).map(|_| room.take(0)).collect();
        let (began, mut parked) = (Instant::now(), Some(parked(64)));
        let (refused, requests) = turn(&mut parked, &room).await;
        assert_eq!(refused.err().map(|failure| failure.code), Some(ErrorCode::Overloaded));
        assert_eq!((requests.len(), began.elapsed()), (64, PATIENCE));
    }
}
