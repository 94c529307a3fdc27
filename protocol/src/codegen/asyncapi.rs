//! The AsyncAPI 3.0 document of the WebSocket.

use serde_json::{Map, Value, json};

use super::{
    frame::Examples,
    json_schema::{Schemas, schemas},
};
use crate::SUBPROTOCOL;

/// The document.
pub(super) fn document(examples: &Examples) -> Result<Value, String> {
    let Schemas { client, server, definitions } = schemas("/components/schemas");
    let mut messages = Map::new();
    let mut channel_messages = Map::new();
    let mut operations = Map::new();
    for (direction, frames) in [("client", &client), ("server", &server)] {
        for (frame, schema) in frames {
            let key = format!("{direction}.{}", frame.name);
            messages.insert(
                key.clone(),
                json!({
                    "name": frame.name,
                    "title": frame.name,
                    "summary": frame.doc,
                    "contentType": "application/json",
                    "payload": schema,
                    "examples": [{ "name": frame.name, "payload": examples.get(direction, frame.name)? }],
                }),
            );
            channel_messages.insert(key.clone(), json!({ "$ref": format!("#/components/messages/{key}") }));
            operations.insert(key.clone(), operation(direction, &key, frame));
        }
    }
    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Members Book",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The WebSocket of the Members Book server. The rules are in docs/protocol.md.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "club": {
                "host": "{host}",
                "protocol": "wss",
                "description": "The server of a club. One on the own machine, as `cargo run --release` starts it, speaks `ws`.",
                "variables": {
                    "host": {
                        "default": "club.example",
                        "description": "Where the club is, with the port unless it is 443: the host of PUBLIC_URL.",
                        "examples": ["club.example", "127.0.0.1:8000"],
                    },
                },
            },
        },
        "channels": {
            "socket": {
                "address": "/ws",
                "title": "The socket",
                "description": format!(
                    "One connection per device, WebSocket subprotocol `{SUBPROTOCOL}`, text frames with one JSON object each."
                ),
                "messages": channel_messages,
                "bindings": { "ws": { "method": "GET", "bindingVersion": "0.1.0" } },
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": definitions },
    }))
}

fn operation(direction: &str, key: &str, frame: &super::FrameType) -> Value {
    let message = |key: &str| json!([{ "$ref": format!("#/channels/socket/messages/{key}") }]);
    // AsyncAPI speaks from the side of the application that it describes, which is the server.
    let action = if direction == "client" { "receive" } else { "send" };
    let mut operation = json!({
        "action": action,
        "channel": { "$ref": "#/channels/socket" },
        "summary": frame.doc,
        "messages": message(key),
    });
    if let (Some(reply), Some(operation)) = (frame.reply, operation.as_object_mut()) {
        let reply = message(&format!("server.{reply}"));
        operation.insert("reply".to_owned(), json!({ "channel": { "$ref": "#/channels/socket" }, "messages": reply }));
    }
    operation
}
