//! Charging what HTTP holds for a client to the budget of memory: bodies of requests while they are worked on, bodies of
//! answers until the kernel has taken them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};
use protocol::limits::PHOTO_MAX_BYTES;

use super::{AppState, negotiate::Shared};
use crate::{
    admission::{Place, Stranger},
    budget::Budget,
    failure::Failure,
};

/// Bodies below this are not counted: a connection has one of them, as it has other buffers. Bytes.
const COUNTED_FROM: u64 = 4 * 1024;
/// Bodies from this size on are refused while memory is short. Bytes.
const LARGE_FROM: u64 = 64 * 1024;

/// Charges the bodies of a request and of its answer.
pub(super) async fn charge(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let upload = match upload(&request).map(|bytes| state.budget.reserve(bytes)).transpose() {
        Ok(reserved) => reserved,
        Err(failure) => return failure.into_response(),
    };
    let stranger = request.extensions().get::<Place>().and_then(Place::stranger);
    let response = next.run(request).await;
    drop(upload);
    if response.extensions().get::<Shared>().is_some() {
        return response;
    }
    let size = response.body().size_hint().exact();
    if size.is_some_and(|size| size < COUNTED_FROM) {
        return response;
    }
    if size.is_none_or(|size| size >= LARGE_FROM) && state.budget.is_short() {
        return Failure::overloaded().into_response();
    }
    let account = Account { budget: Arc::clone(&state.budget), stranger };
    let waiting = account.hold(size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0));
    response.map(|body| Body::new(Charged { body, waiting, account }))
}

/// How much a large body may take; one that does not say how long it is may be as long as is allowed at most.
fn upload(request: &Request) -> Option<usize> {
    let size = request.body().size_hint().exact();
    let size = size.map_or(PHOTO_MAX_BYTES, |size| usize::try_from(size).unwrap_or(usize::MAX).min(PHOTO_MAX_BYTES));
    (u64::try_from(size).unwrap_or(u64::MAX) > LARGE_FROM).then_some(size)
}

/// What bytes are charged to.
#[derive(Clone)]
struct Account {
    budget: Arc<Budget>,
    /// The connection, so that the one that holds most can be found.
    stranger: Option<Arc<Stranger>>,
}

impl Account {
    fn hold(&self, bytes: usize) -> Unsent {
        self.budget.charge(bytes);
        if let Some(stranger) = &self.stranger {
            stranger.hold(bytes);
        }
        Unsent { account: self.clone(), bytes }
    }
}

/// Bytes that were not sent yet.
struct Unsent {
    account: Account,
    bytes: usize,
}

impl Unsent {
    fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.budget.release(bytes);
        if let Some(stranger) = &self.account.stranger {
            stranger.release(bytes);
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

/// A body that is charged: as a whole while it waits, piece by piece once they are on their way.
struct Charged {
    body: Body,
    waiting: Unsent,
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
    _unsent: Unsent,
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
