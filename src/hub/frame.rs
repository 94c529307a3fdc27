//! A frame, encoded once for everybody who gets it.

use protocol::{RequestId, ServerFrame};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A frame as it goes over the wire. A clone shares the bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    text: Utf8Bytes,
    /// [`ServerFrame::index`], for the metrics.
    index: u8,
}

impl Frame {
    /// Encodes a push.
    #[must_use]
    pub fn push(frame: &ServerFrame) -> Self {
        Self::encode(frame, None)
    }

    /// Encodes a frame with the id of the request that it answers.
    #[must_use]
    pub fn encode(frame: &ServerFrame, id: Option<&RequestId>) -> Self {
        Self { text: frame.encode(id).into(), index: u8::try_from(frame.index()).unwrap_or(u8::MAX) }
    }

    /// The text of the frame.
    #[must_use]
    pub fn text(&self) -> &Utf8Bytes {
        &self.text
    }

    /// The place of its type in [`ServerFrame::TYPES`].
    #[must_use]
    pub fn index(&self) -> usize {
        self.index.into()
    }

    /// Its length, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Never: a frame has a type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}
