//! Reference tables inside handwritten pages, between `<!-- generated: NAME -->` and `<!-- end -->`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{fields, frame::Examples, json_schema::schemas};
use crate::{ClientFrame, CloseCode, ErrorCode, ServerFrame, limits};

const START: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// Fills every generated part of a page.
pub(super) fn fill(page: &str, examples: &Examples) -> Result<String, String> {
    let mut filled = String::with_capacity(page.len());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(START) {
        let (name, after) = after.split_once(" -->").ok_or("an unfinished `generated` mark")?;
        let (_, after) = after.split_once(END).ok_or_else(|| format!("`{name}` has no end mark"))?;
        let table = table(name, examples)?;
        let _ = write!(filled, "{before}{START}{name} -->\n{table}{END}");
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn table(name: &str, examples: &Examples) -> Result<String, String> {
    match name {
        "client frames" => Ok(client_frames()),
        "server frames" => Ok(server_frames()),
        "client fields" => Ok(fields::of_frames(&schemas("/$defs").client)),
        "server fields" => Ok(fields::of_frames(&schemas("/$defs").server)),
        "objects" => Ok(fields::of_objects(&schemas("/$defs"))),
        "client examples" => frame_examples("client", ClientFrame::TYPES, examples),
        "server examples" => frame_examples("server", ServerFrame::TYPES, examples),
        "error codes" => Ok(error_codes()),
        "close codes" => Ok(close_codes()),
        "limits" => Ok(limit_table()),
        other => Err(format!("there is no generated part named {other:?}")),
    }
}

fn client_frames() -> String {
    let mut table = String::from("| `type` | what it does | reply |\n| --- | --- | --- |\n");
    for frame in ClientFrame::catalogue() {
        let reply = frame.reply.map_or_else(|| "none".to_owned(), |reply| format!("`{reply}`"));
        let doc = frame.doc.split(" Reply: ").next().unwrap_or(frame.doc).trim_end_matches(" No reply.");
        let _ = writeln!(table, "| `{}` | {doc} | {reply} |", frame.name);
    }
    table
}

fn server_frames() -> String {
    let mut table = String::from("| `type` | when |\n| --- | --- |\n");
    for frame in ServerFrame::catalogue() {
        let _ = writeln!(table, "| `{}` | {} |", frame.name, frame.doc);
    }
    table
}

fn frame_examples(direction: &'static str, types: &[&str], examples: &Examples) -> Result<String, String> {
    let mut text = String::from("```jsonc\n");
    for name in types {
        let example: &Value = examples.get(direction, name)?;
        let _ = writeln!(text, "{example}");
    }
    text.push_str("```\n");
    Ok(text)
}

fn error_codes() -> String {
    let mut table =
        String::from("| `code` | HTTP | closes with | send it again? | meaning |\n| --- | --- | --- | --- | --- |\n");
    for code in ErrorCode::ALL {
        let closes = code.close_code().map_or_else(|| "-".to_owned(), |close| close.number().to_string());
        let (status, again, meaning) = (code.http_status(), code.retry().in_words(), code.meaning());
        let _ = writeln!(table, "| `{code}` | {status} | {closes} | {again} | {meaning} |");
    }
    table
}

fn close_codes() -> String {
    let mut table = String::from("| code | `reason` | meaning | come back? |\n| --- | --- | --- | --- |\n");
    for code in CloseCode::ALL {
        let _ = writeln!(
            table,
            "| {} | `{}` | {} | {} |",
            code.number(),
            code.reason(),
            code.meaning(),
            code.come_back().in_words()
        );
    }
    table
}

fn limit_table() -> String {
    let rows: &[(&str, u64)] = &[
        ("content of a message, characters after trimming", limits::CONTENT_MAX_CHARS as u64),
        ("frame from a client, bytes", limits::FRAME_MAX_BYTES as u64),
        ("first frame from a client (`hello`), bytes", limits::HELLO_MAX_BYTES as u64),
        ("frame from the server, bytes", limits::SERVER_FRAME_MAX_BYTES as u64),
        ("`id` of a request, characters", limits::REQUEST_ID_MAX_CHARS as u64),
        ("`device.id`, characters", limits::DEVICE_ID_MAX_CHARS as u64),
        ("`device.name`, characters", limits::DEVICE_NAME_MAX_CHARS as u64),
        ("requests of a connection worked on at once (more wait unread)", limits::IN_FLIGHT_MAX as u64),
        (
            "of these, requests that read (history, lists, presence, renewals, typing)",
            limits::QUERIES_IN_FLIGHT_MAX as u64,
        ),
        (
            "content of one page of history, or of one conversation in a sync, bytes of JSON (more means fewer entries)",
            limits::PAGE_CONTENT_BYTES as u64,
        ),
        ("one page of `conversations.list`, bytes of JSON (more means fewer conversations)", limits::LIST_BYTES as u64),
        ("one `sync` frame, bytes of JSON; a larger conversation comes alone", limits::SYNC_FRAME_BYTES as u64),
        ("`limit` of a page", limits::PAGE_MAX.into()),
        ("`limit` of a page when none is given", limits::PAGE_DEFAULT.into()),
        ("`unread` of a conversation (`unread_more` says that there are more)", limits::UNREAD_MAX),
        ("members watched by a connection", limits::WATCH_MAX as u64),
        ("conversations a connection is typing in at once", limits::TYPING_MAX as u64),
        ("`typing` lasts, ms", limits::TYPING_TTL_MS),
        ("`auth.expiring` comes before the token expires, ms", limits::AUTH_EXPIRING_MS),
        ("bad frames a minute before 4400", limits::BAD_FRAMES_MAX.into()),
        ("`rate_limited` errors a minute before 4429", limits::RATE_LIMITED_MAX.into()),
        ("a member is refused after 4429, ms at least", limits::TOO_MUCH_WAIT_MS),
        (
            "WebSocket pings, pongs and parts of fragmented messages at once before 4429",
            limits::EXTRA_FRAMES_BURST.into(),
        ),
        ("of these a second", limits::EXTRA_FRAMES_PER_SECOND.into()),
        ("a `rate_limited` message is waited for, ms after `retry_after_ms`", limits::HELD_MS),
        ("conversations in which one is waited for, on one connection", limits::HELD_MAX as u64),
        ("conversations in a full sync", limits::SYNC_FULL_CONVERSATIONS as u64),
        ("latest entries of each conversation in a full sync", limits::SYNC_FULL_ENTRIES as u64),
        (
            "changed conversations in a sync from a cursor (more make it full)",
            limits::SYNC_CHANGED_CONVERSATIONS as u64,
        ),
        ("latest missed entries of each conversation in a sync from a cursor", limits::SYNC_MISSED_ENTRIES as u64),
        ("entries of one sync in all", limits::SYNC_ENTRIES_TOTAL as u64),
    ];
    let mut table = String::from("| limit | value |\n| --- | --- |\n");
    for (what, value) in rows {
        let _ = writeln!(table, "| {what} | {value} |");
    }
    table
}
