//! A frame, encoded once for everybody who gets it.

use std::ops::Range;

use protocol::{
    RequestId, ServerFrame, encoded,
    server::{EntryPush, MessageAccepted},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::{
    Event,
    event::{EntryPlace, Relayed},
};

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
        Self::new(frame.encode(id), frame.index())
    }

    /// A frame that another node has encoded; nothing if it is not UTF-8.
    #[must_use]
    pub fn of_another_node(Relayed { index, text, .. }: Relayed) -> Option<Self> {
        let index = index.min(u8::try_from(ServerFrame::TYPES.len() - 1).unwrap_or(u8::MAX));
        Some(Self { text: text.try_into().ok()?, index })
    }

    /// The frame as it goes to other nodes, with the entry that it tells of. Shares the bytes.
    #[must_use]
    pub fn relayed(&self, entry: Option<EntryPlace>) -> Event {
        Event::Frame(Relayed { index: self.index, entry, text: self.text.clone().into() })
    }

    fn new(text: String, index: usize) -> Self {
        Self { text: text.into(), index: u8::try_from(index).unwrap_or(u8::MAX) }
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

/// An entry as it is pushed; if it is a message, its sender gets its bytes too.
#[derive(Debug, Clone)]
pub struct EntryFrame {
    frame: Frame,
    /// Where the fields of the message are.
    message: Range<usize>,
}

impl EntryFrame {
    /// Encodes the push of an entry.
    #[must_use]
    pub fn push(push: &EntryPush) -> Self {
        let (text, message) = encoded::entry(push);
        Self { frame: Frame::new(text, EntryPush::INDEX), message }
    }

    /// The push.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// What the sender gets, as the answer to the request `id`: a message that is pushed is no duplicate.
    #[must_use]
    pub fn accepted(&self, id: Option<&RequestId>) -> Frame {
        let fields = self.frame.text.get(self.message.clone()).unwrap_or_default();
        Frame::new(encoded::accepted(id, fields, false), MessageAccepted::INDEX)
    }
}
