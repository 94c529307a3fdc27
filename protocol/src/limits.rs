//! Every limit of the protocol, as a named constant with its unit.
//!
//! Those that a client must know before it hits them are sent in `welcome` as [`Limits`].

use serde::{Deserialize, Serialize};

/// Longest content of a message, in characters (Unicode scalar values), after trimming.
pub const CONTENT_MAX_CHARS: usize = 4_000;
/// Largest frame from a client, in bytes. Holds the longest content with every character escaped (`\uXXXX\uXXXX`).
pub const FRAME_MAX_BYTES: usize = 64 * 1024;
/// Largest first frame of a connection, which is `hello`, in bytes.
pub const HELLO_MAX_BYTES: usize = 8 * 1024;
/// Largest frame from the server, in bytes.
pub const SERVER_FRAME_MAX_BYTES: usize = 256 * 1024;
/// Bytes of a frame in which the `id` is looked for when the frame is refused by a rate limit and not decoded.
pub const REFUSED_SCAN_BYTES: usize = 1024;
/// WebSocket frames that are no whole text message (pings, pongs, parts of a fragmented message) which one connection may
/// send at once, after a pause.
pub const EXTRA_FRAMES_BURST: u32 = 500;
/// How many of these frames one connection may send in a second.
pub const EXTRA_FRAMES_PER_SECOND: u32 = 50;
/// Longest `id` of a request, in characters.
pub const REQUEST_ID_MAX_CHARS: usize = 64;
/// Longest `device.id`, in characters.
pub const DEVICE_ID_MAX_CHARS: usize = 64;
/// Longest `device.name`, in characters.
pub const DEVICE_NAME_MAX_CHARS: usize = 100;
/// Longest cursor, in characters.
pub const CURSOR_MAX_CHARS: usize = 128;
/// Largest integer on the wire: 2^53 - 1, the largest that JavaScript holds exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Content of one page of history, or of one conversation in a sync, in bytes as it is encoded in JSON: with more, it has
/// fewer entries, at least one.
pub const PAGE_CONTENT_BYTES: usize = 64 * 1024;
/// Largest `limit` of a page.
pub const PAGE_MAX: u32 = 100;
/// `limit` of a page when the request names none.
pub const PAGE_DEFAULT: u32 = 50;
/// Largest number of unread messages that is told of a conversation; `unread_more` says that there are more.
pub const UNREAD_MAX: u64 = 1_000;
/// Most members that one connection watches.
pub const WATCH_MAX: usize = 500;
/// Members named in a `presence.watch` that cost one further frame of the member's rate limit.
pub const WATCHED_PER_FRAME: usize = 10;
/// What a `conversations.list` costs of the member's rate limit of frames: all conversations of the member are looked at.
pub const LIST_FRAMES: u32 = 5;
/// What a `history.get` costs of it: a page may be 64 KiB.
pub const HISTORY_FRAMES: u32 = 4;
/// Requests of one connection that are worked on at the same time; the server reads no further until one is answered.
pub const IN_FLIGHT_MAX: usize = 64;
/// Of these, requests that read: `history.get`, `conversations.list`, `presence.watch`, `auth.renew`, `typing`.
pub const QUERIES_IN_FLIGHT_MAX: usize = 8;
/// How long `typing` lasts without being repeated, in milliseconds.
pub const TYPING_TTL_MS: u64 = 6_000;
/// Conversations in which one connection can be typing at the same time.
pub const TYPING_MAX: usize = 8;
/// How long before the token expires `auth.expiring` is sent, in milliseconds.
pub const AUTH_EXPIRING_MS: u64 = 60_000;
/// Frames that are not the protocol, per minute, before the connection is closed with 4400.
pub const BAD_FRAMES_MAX: u32 = 10;
/// `rate_limited` errors, per minute, before the connection is closed with 4429.
pub const RATE_LIMITED_MAX: u32 = 1_000;
/// How long a member whose connection was closed with 4429 is refused at least, in milliseconds.
pub const TOO_MUCH_WAIT_MS: u64 = 10_000;
/// Conversations of one connection in which later messages are refused until a message that was `rate_limited` is sent
/// again. With more, every message is.
pub const HELD_MAX: usize = 16;
/// How long after its `retry_after_ms` such a message is waited for, in milliseconds.
/// Longer than a link stands still that comes back: what was sent before the refusal could be read is still on its way then.
pub const HELD_MS: u64 = 30_000;
/// Encoded conversations of one page of `conversations.list`, in bytes: with more, it has fewer, at least one.
pub const LIST_BYTES: usize = 192 * 1024;
/// Encoded conversations of one `sync` frame, in bytes: one larger conversation has a frame of its own.
pub const SYNC_FRAME_BYTES: usize = 8 * 1024;
/// Conversations in a full sync.
pub const SYNC_FULL_CONVERSATIONS: usize = 50;
/// Latest entries of each conversation in a full sync.
pub const SYNC_FULL_ENTRIES: usize = 20;
/// Changed conversations that a sync from a cursor lists; when more changed, the sync is full.
pub const SYNC_CHANGED_CONVERSATIONS: usize = 500;
/// Latest missed entries of each conversation in a sync from a cursor; a longer gap shows in `seq`.
pub const SYNC_MISSED_ENTRIES: usize = 50;
/// Entries of one sync over all its conversations; conversations after that come without entries.
pub const SYNC_ENTRIES_TOTAL: usize = 1_000;

/// Longest name of a member, in characters.
pub const NAME_MAX_CHARS: usize = 100;
/// Longest e-mail address, in characters (RFC 5321, section 4.5.3.1.3).
pub const EMAIL_MAX_CHARS: usize = 254;
/// Longest token of a link in a mail. Those of today have 43 characters.
pub const LINK_TOKEN_MAX_CHARS: usize = 128;
/// Shortest password, in characters.
pub const PASSWORD_MIN_CHARS: usize = 8;
/// Longest password, in bytes of UTF-8: bcrypt reads 72, and the last one is its terminator.
pub const PASSWORD_MAX_BYTES: usize = 71;
/// Longest phone number, in characters.
pub const PHONE_MAX_CHARS: usize = 32;
/// Longest company or position, in characters.
pub const CONTACT_MAX_CHARS: usize = 100;
/// Longest URL of a profile image, in characters.
pub const URL_MAX_CHARS: usize = 2_048;
/// Longest text to search for, in characters.
pub const SEARCH_MAX_CHARS: usize = 100;
/// Most members that a search finds.
pub const SEARCH_RESULTS_MAX: usize = 200;
/// Longest `cursor` of a list over REST, in characters.
pub const PAGE_CURSOR_MAX_CHARS: usize = 512;
/// Longest `Idempotency-Key`, in characters.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 255;
/// Longest reason that the AI service may give, in characters.
pub const REASON_MAX_CHARS: usize = 300;
/// Most members that are recommended at a time.
pub const INTRODUCTIONS_MAX: usize = 10;
/// Largest body of a REST request, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// Largest photo that can be uploaded, in bytes.
pub const PHOTO_MAX_BYTES: usize = 5 * 1024 * 1024;
/// Longest side of a photo that can be uploaded, in pixels.
pub const PHOTO_UPLOAD_MAX_SIDE: u32 = 12_000;
/// Most pixels of a photo that can be uploaded.
pub const PHOTO_UPLOAD_MAX_PIXELS: u64 = 32_000_000;
/// Longest side of a photo as it is served, in pixels.
pub const PHOTO_MAX_SIDE: u32 = 512;

/// The limits that `welcome` tells a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct Limits {
    /// Longest content of a message, in characters.
    pub content_max_chars: u32,
    /// Largest frame from a client, in bytes.
    pub frame_max_bytes: u32,
    /// Requests worked on at the same time; more wait.
    pub in_flight_max: u32,
    /// Largest `limit` of a page.
    pub page_max: u32,
    /// Most members that this connection can watch.
    pub watch_max: u32,
    /// How long `typing` lasts without being repeated, in milliseconds.
    pub typing_ttl_ms: u32,
}

impl Limits {
    /// The limits of this version of the protocol.
    pub const V1: Self = Self {
        content_max_chars: 4_000,
        frame_max_bytes: 65_536,
        in_flight_max: 64,
        page_max: PAGE_MAX,
        watch_max: 500,
        typing_ttl_ms: 6_000,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welcome_tells_the_limits_that_are_applied() {
        let told = Limits::V1;
        assert_eq!(told.content_max_chars as usize, CONTENT_MAX_CHARS);
        assert_eq!(told.frame_max_bytes as usize, FRAME_MAX_BYTES);
        assert_eq!(told.in_flight_max as usize, IN_FLIGHT_MAX);
        assert_eq!(told.watch_max as usize, WATCH_MAX);
        assert_eq!(u64::from(told.typing_ttl_ms), TYPING_TTL_MS);
    }

    #[test]
    fn the_largest_frame_of_the_server_has_room_for_the_largest_page_of_each_kind() {
        let (encoded_character, rest_of_an_entry, rest_of_a_frame) = (r"\u0001".len(), 320, 1024);
        let entry = CONTENT_MAX_CHARS * encoded_character + rest_of_an_entry;
        let history = PAGE_CONTENT_BYTES.max(entry) + PAGE_MAX as usize * rest_of_an_entry;
        let conversation = PAGE_CONTENT_BYTES.max(entry) + SYNC_MISSED_ENTRIES * rest_of_an_entry;
        let list = LIST_BYTES + entry;
        let snapshot = WATCH_MAX * 120;
        for frame in [entry, history, conversation + SYNC_FRAME_BYTES, list, snapshot] {
            assert!(frame + rest_of_a_frame <= SERVER_FRAME_MAX_BYTES, "{frame}");
        }
    }

    #[test]
    fn the_longest_content_fits_into_a_frame_however_it_is_escaped() {
        let escaped_character = r"\ud83d\ude00".len();
        let rest_of_the_frame = 512;
        assert!(CONTENT_MAX_CHARS * escaped_character + rest_of_the_frame <= FRAME_MAX_BYTES);
    }
}
