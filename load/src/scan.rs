//! Reading the hot frames without a JSON parser.
//!
//! Two of them come for every message, and reading them is most of what a client costs. A frame that is written exactly as
//! this server writes it is scanned; any other goes the long way, through `protocol`. So a server that wrote them
//! differently would be slower to read and nothing else.

/// A frame that comes for every message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hot<'a> {
    /// `message.accepted`
    Accepted { id: &'a str, message: Scanned<'a>, duplicate: bool },
    /// `entry` of a message, without `conversation`
    Pushed { message: Scanned<'a> },
    /// `receipt`
    Receipt { conversation: &'a str, member: &'a str, delivered: u64, read: u64 },
}

/// A message as it stands in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    pub(crate) id: &'a str,
    pub(crate) conversation: &'a str,
    pub(crate) seq: u64,
    pub(crate) sender: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) content: &'a str,
    pub(crate) reply_to: Option<u64>,
}

/// Reads a hot frame; none if it is another one, or written in another way.
pub(crate) fn scan(text: &str) -> Option<Hot<'_>> {
    let mut scanner = Scanner { rest: text };
    scanner.literal(r#"{"type":""#)?;
    let hot = match scanner.string()? {
        "message.accepted" => {
            scanner.literal(r#","id":""#)?;
            let id = scanner.string()?;
            scanner.literal(r#","message":{"#)?;
            let message = scanner.message_fields()?;
            scanner.literal(r#","duplicate":"#)?;
            let duplicate =
                scanner.literal("false").map(|()| false).or_else(|| scanner.literal("true").map(|()| true))?;
            Hot::Accepted { id, message, duplicate }
        }
        "entry" => {
            scanner.literal(r#","entry":{"kind":"message","#)?;
            Hot::Pushed { message: scanner.message_fields()? }
        }
        "receipt" => {
            scanner.literal(r#","conversation":""#)?;
            let conversation = scanner.string()?;
            scanner.literal(r#","member":""#)?;
            let member = scanner.string()?;
            scanner.literal(r#","delivered":"#)?;
            let delivered = scanner.number()?;
            scanner.literal(r#","read":"#)?;
            let read = scanner.number()?;
            scanner.literal(r#","at":""#)?;
            scanner.string()?;
            Hot::Receipt { conversation, member, delivered, read }
        }
        _ => return None,
    };
    (scanner.rest == "}").then_some(hot)
}

/// A message of ours on its way: what the relay sends back as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sent<'a> {
    pub(crate) id: &'a str,
    pub(crate) to: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) content: &'a str,
}

/// Reads a message of ours as it was sent.
pub(crate) fn scan_sent(text: &str) -> Option<Sent<'_>> {
    let mut scanner = Scanner { rest: text };
    scanner.literal(r#"{"type":"message.send","id":""#)?;
    let id = scanner.string()?;
    scanner.literal(r#","to":""#)?;
    let to = scanner.string()?;
    scanner.literal(r#","client_id":""#)?;
    let client_id = scanner.string()?;
    scanner.literal(r#","content":""#)?;
    let content = scanner.string()?;
    Some(Sent { id, to, client_id, content })
}

/// To whom a message of ours goes, without reading more of it.
pub(crate) fn scan_receiver(text: &str) -> Option<&str> {
    let mut scanner = Scanner { rest: text };
    scanner.literal(r#"{"type":"message.send","id":""#)?;
    scanner.string()?;
    scanner.literal(r#","to":""#)?;
    scanner.string()
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn literal(&mut self, literal: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// Up to the next quotation mark. A string with an escape in it is left to the parser.
    fn string(&mut self) -> Option<&'a str> {
        let (string, rest) = self.rest.split_once('"')?;
        self.rest = rest;
        (!string.contains('\\')).then_some(string)
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }

    /// The fields of a message, and the brace that ends them.
    fn message_fields(&mut self) -> Option<Scanned<'a>> {
        self.literal(r#""id":""#)?;
        let id = self.string()?;
        self.literal(r#","conversation":""#)?;
        let conversation = self.string()?;
        self.literal(r#","seq":"#)?;
        let seq = self.number()?;
        self.literal(r#","sender":""#)?;
        let sender = self.string()?;
        self.literal(r#","client_id":""#)?;
        let client_id = self.string()?;
        self.literal(r#","content":""#)?;
        let content = self.string()?;
        self.literal(r#","at":""#)?;
        self.string()?;
        let reply_to = match self.literal(r#","reply_to":"#) {
            Some(()) => Some(self.number()?),
            None => None,
        };
        self.literal("}")?;
        Some(Scanned { id, conversation, seq, sender, client_id, content, reply_to })
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        ClientMessageId, ConversationId, MemberId, MessageId, ServerFrame, Timestamp,
        model::{Entry, Message},
        server::{EntryPush, MessageAccepted, Receipt},
    };

    use super::*;

    fn message(content: &str) -> Message {
        Message {
            id: MessageId::from_bytes([1; 12]),
            conversation: ConversationId::from_bytes([2; 12]),
            seq: 17,
            sender: MemberId::from_bytes([3; 12]),
            client_id: ClientMessageId::from_bytes([4; 16]),
            content: content.to_owned(),
            at: Timestamp::from_millis(1_795_370_633_120),
            reply_to: None,
        }
    }

    /// If this fails, the clients still read every frame, but slowly.
    #[test]
    fn the_frames_of_this_server_are_read_without_a_parser() {
        let frame = ServerFrame::MessageAccepted(MessageAccepted { message: message("12 x"), duplicate: true });
        let text = frame.encode(Some(&"s5".parse().unwrap()));
        let Some(Hot::Accepted { id, message: scanned, duplicate }) = scan(&text) else { panic!("{text}") };
        assert_eq!((id, scanned.seq, scanned.content, duplicate), ("s5", 17, "12 x", true));
        assert_eq!((scanned.client_id, scanned.reply_to), (&*message("").client_id.to_string(), None));

        let answer = Message { reply_to: Some(16), ..message("12 x") };
        let frame = ServerFrame::MessageAccepted(MessageAccepted { message: answer.clone(), duplicate: false });
        let text = frame.encode(Some(&"s5".parse().unwrap()));
        assert!(
            matches!(scan(&text), Some(Hot::Accepted { message: Scanned { reply_to: Some(16), .. }, .. })),
            "{text}"
        );
        let text = ServerFrame::EntryPush(EntryPush { entry: Entry::Message(answer), conversation: None }).encode(None);
        assert!(matches!(scan(&text), Some(Hot::Pushed { message: Scanned { reply_to: Some(16), .. } })), "{text}");

        let push = EntryPush { entry: Entry::Message(message("12 x")), conversation: None };
        let text = ServerFrame::EntryPush(push).encode(None);
        let Some(Hot::Pushed { message: scanned }) = scan(&text) else { panic!("{text}") };
        assert_eq!(scanned.sender, message("").sender.to_string());

        let (member, at) = (message("").sender, message("").at);
        let receipt = Receipt { conversation: message("").conversation, member, delivered: 9, read: 8, at };
        let text = ServerFrame::Receipt(receipt).encode(None);
        assert!(matches!(scan(&text), Some(Hot::Receipt { delivered: 9, read: 8, .. })), "{text}");
    }

    #[test]
    fn what_needs_a_parser_is_left_to_it() {
        let frame = EntryPush { entry: Entry::Message(message("a \"quoted\" word")), conversation: None };
        assert_eq!(scan(&ServerFrame::EntryPush(frame).encode(None)), None);
        for text in ["", "{}", r#"{"type":"pong","cursor":"x"}"#, r#"{"type":"receipt"}"#, "{\"type\":\"entry\""] {
            assert_eq!(scan(text), None, "{text}");
        }
    }
}
