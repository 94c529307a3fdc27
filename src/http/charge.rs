//! Charging what HTTP holds for a client to the budget of memory: bodies of requests from when their bytes arrive, bodies
//! of answers until the kernel has taken them. Each is charged to its connection as well, so that the one that holds most
//! can be cut.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::Extensions,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};

use super::{AppState, negotiate::Shared};
use crate::{
    admission::{Place, Stranger},
    budget::Budget,
    failure::Failure,
};

/// Bodies below this are not counted: a connection has one of them, as it has other buffers. Bytes.
const COUNTED_FROM: u64 = 4 * 1024;
/// Bodies from this size on are refused while memory is short. Bytes.
pub(super) const LARGE_FROM: usize = 64 * 1024;

/// Charges the body of an answer.
pub(super) async fn charge(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let account = Account::of(&state.budget, request.extensions());
    let response = next.run(request).await;
    if response.extensions().get::<Shared>().is_some() {
        return response;
    }
    let size = response.body().size_hint().exact();
    if size.is_some_and(|size| size < COUNTED_FROM) {
        return response;
    }
    if size.is_none_or(|size| size >= LARGE_FROM as u64) && state.budget.is_short() {
        return Failure::overloaded().into_response();
    }
    let waiting = account.hold(size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0));
    response.map(|body| Body::new(Charged { body, waiting, account }))
}

/// What bytes are charged to.
#[derive(Clone)]
pub(super) struct Account {
    budget: Arc<Budget>,
    /// The connection, so that the one that holds most can be found.
    stranger: Option<Arc<Stranger>>,
}

impl Account {
    /// That of the connection that a request came on.
    pub(super) fn of(budget: &Arc<Budget>, request: &Extensions) -> Self {
        let stranger = request.get::<Place>().and_then(Place::stranger);
        Self { budget: Arc::clone(budget), stranger }
    }

    pub(super) fn hold(&self, bytes: usize) -> Held {
        let mut held = Held { account: self.clone(), bytes: 0 };
        held.add(bytes);
        held
    }
}

/// Bytes that are held, charged until this is dropped.
pub(super) struct Held {
    account: Account,
    bytes: usize,
}

impl Held {
    /// So many more have arrived.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.account.budget.charge(bytes);
        if let Some(stranger) = &self.account.stranger {
            stranger.hold(bytes);
        }
    }

    /// Whether so much is held, of all together, that nothing large may be.
    pub(super) fn is_short(&self) -> bool {
        self.account.budget.is_short()
    }

    fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.budget.release(bytes);
        if let Some(stranger) = &self.account.stranger {
            stranger.release(bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

/// A body that is charged: as a whole while it waits, piece by piece once they are on their way.
struct Charged {
    body: Body,
    waiting: Held,
    account: Account,
}

impl HttpBody for Charged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    self.waiting.release(bytes.len());
                    let unsent = self.account.hold(bytes.len());
                    Bytes::from_owner(Piece { bytes, _unsent: unsent })
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of a body, charged until whoever writes it lets it go.
struct Piece {
    bytes: Bytes,
    _unsent: Held,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_body_is_charged_until_its_last_piece_has_gone() {
        let budget = Arc::new(Budget::new(1_000_000, Arc::new(Metrics::new())));
        let charged = || budget.metrics().memory_charged.get();
        let account = Account { budget: Arc::clone(&budget), stranger: None };
        let body = Body::from(vec![1; 10_000]);
        let mut body = Body::new(Charged { body, waiting: account.hold(10_000), account });
        assert_eq!((charged(), body.size_hint().exact()), (10_000, Some(10_000)));
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((charged(), piece.len()), (10_000, 10_000));
        let rest = piece.slice(5_000..);
        drop((piece, body));
        assert_eq!(charged(), 10_000, "a part of it is not sent yet");
        drop(rest);
        assert_eq!(charged(), 0);
    }
}
