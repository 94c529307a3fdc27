//! A WebSocket client that says hello and then does what it likes; it checks nothing and asks no more than how it was
//! turned away.

use std::net::IpAddr;

use protocol::{
    ClientFrame, Cursor,
    client::Hello,
    model::{Device, Platform},
};
use tokio::net::TcpStream;

use super::field::Field;
use crate::{
    target::Account,
    wire::{Ended, Wire},
};

/// Who says hello, and with what.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) account: Account,
    pub(super) device: String,
    pub(super) from: Option<IpAddr>,
    pub(super) cursor: Option<String>,
    /// Bytes that the kernel keeps for a client that does not read, if that matters.
    pub(super) kernel_buffer: Option<u32>,
}

impl Guest {
    pub(super) fn new(account: &Account, device: String, from: Option<IpAddr>) -> Self {
        Self { account: account.clone(), device, from, cursor: None, kernel_buffer: None }
    }

    /// Connects and sends hello; does not wait for the answer. An error is how it was turned away.
    pub(super) async fn knock(&self, field: &Field) -> Result<Wire<TcpStream>, String> {
        let mut opening = field.opening(self.from);
        opening.kernel_buffer = self.kernel_buffer;
        let mut wire = opening.socket("/ws").await.map_err(|ended| turned_away(&ended))?;
        let cursor: Option<Cursor> = match &self.cursor {
            Some(cursor) => Some(cursor.parse().map_err(|_| "no cursor".to_owned())?),
            None => None,
        };
        let id = self.device.parse().map_err(|_| "no device id".to_owned())?;
        let device = Device { id, platform: Platform::Other, name: None };
        let hello = ClientFrame::Hello(Hello { token: self.account.token.clone(), device, cursor });
        wire.queue(&[&hello.encode(None)]);
        wire.flush().await.map_err(|ended| turned_away(&ended))?;
        Ok(wire)
    }

    /// Connects, says hello and reads until the end of the sync; tells how many bytes that was.
    pub(super) async fn enter(&self, field: &Field) -> Result<(Wire<TcpStream>, Sync), String> {
        let mut wire = self.knock(field).await?;
        let mut sync = Sync::default();
        loop {
            let text = wire.next().await.map_err(|ended| turned_away(&ended))?;
            sync.bytes += text.len() as u64;
            match kind(&text) {
                "sync.done" => {
                    sync.cursor = member(&text, "cursor").map(ToOwned::to_owned);
                    return Ok((wire, sync));
                }
                "sync" if sync.conversation.is_none() => {
                    sync.conversation = member(&text, "id").map(ToOwned::to_owned);
                }
                "error" => return Err(format!("hello refused: {}", member(&text, "code").unwrap_or("?"))),
                _ => {}
            }
        }
    }
}

/// What a hello brought.
#[derive(Debug, Default)]
pub(super) struct Sync {
    pub(super) bytes: u64,
    /// The first conversation in it.
    pub(super) conversation: Option<String>,
    pub(super) cursor: Option<String>,
}

/// How a connection ended, in a few words of which there are few kinds.
pub(super) fn turned_away(ended: &Ended) -> String {
    match ended {
        Ended::Closed(code) => format!("closed {code}"),
        Ended::Broken(what) if what.starts_with("the upgrade:") => {
            format!("upgrade refused: {}", what.split(' ').nth(3).unwrap_or("?"))
        }
        Ended::Broken(_) => "connection broken".to_owned(),
        Ended::Foreign(_) => "not understood".to_owned(),
    }
}

/// The type of a frame.
pub(super) fn kind(text: &str) -> &str {
    member(text, "type").unwrap_or_default()
}

/// The first text member of this name: enough for frames of the server, which begin with their type.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(&format!("\"{name}\":\""))?;
    text.get(at + name.len() + 4..)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_frame_is_found() {
        let text = r#"{"type":"error","id":"1","code":"rate_limited","message":"no"}"#;
        assert_eq!((kind(text), member(text, "code"), member(text, "cursor")), ("error", Some("rate_limited"), None));
    }

    #[test]
    fn ways_to_be_turned_away_are_few() {
        assert_eq!(turned_away(&Ended::Closed(4429)), "closed 4429");
        let refused = Ended::Broken("the upgrade: HTTP/1.1 503 Service Unavailable".to_owned());
        assert_eq!(turned_away(&refused), "upgrade refused: 503");
        assert_eq!(turned_away(&Ended::Broken("os error 104".to_owned())), "connection broken");
    }
}
