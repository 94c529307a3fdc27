//! JSON Schema (draft 2020-12) of every frame.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::FrameType;
use crate::{ClientFrame, ServerFrame};

/// The schemas of the frames of one direction, and what they refer to.
pub(super) struct Schemas {
    pub(super) client: Vec<(FrameType, Value)>,
    pub(super) server: Vec<(FrameType, Value)>,
    pub(super) definitions: Map<String, Value>,
}

/// The schemas of all frames; references point below `definitions_path`.
pub(super) fn schemas(definitions_path: &'static str) -> Schemas {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = definitions_path.into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let client = frames(ClientFrame::catalogue(), &mut generator, true);
    let server = frames(ServerFrame::catalogue(), &mut generator, false);
    let mut definitions = generator.take_definitions(true);
    definitions.values_mut().for_each(absent_and_not_null);
    Schemas { client, server, definitions }
}

/// An optional field is left out when it has no value, and never written as `null`.
fn absent_and_not_null(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(variants)) = property.get_mut("anyOf") {
            variants.retain(|variant| variant.get("type") != Some(&Value::from("null")));
            if variants.len() == 1
                && let Some(Value::Object(only)) = variants.pop()
            {
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}

fn frames(catalogue: Vec<FrameType>, generator: &mut SchemaGenerator, requests: bool) -> Vec<(FrameType, Value)> {
    let with_schema = |frame: FrameType| {
        let mut schema = frame.schema(generator, requests);
        absent_and_not_null(&mut schema);
        (frame, schema)
    };
    catalogue.into_iter().map(with_schema).collect()
}

/// The document.
pub(super) fn document() -> Value {
    let Schemas { client, server, definitions } = schemas("/$defs");
    let mut defs = definitions;
    let mut directions = Map::new();
    for (direction, frames) in [("ClientFrame", client), ("ServerFrame", server)] {
        let mut references = Vec::new();
        for (frame, schema) in frames {
            let name = format!("{}Frame", frame.rust_name);
            references.push(json!({ "$ref": format!("#/$defs/{name}") }));
            defs.insert(name, schema);
        }
        directions.insert(direction.to_owned(), json!({ "oneOf": references }));
    }
    defs.extend(directions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:members-book:protocol:v1",
        "title": "Members Book protocol, version 1",
        "description": "Every frame of the WebSocket. Validate what a client sends against #/$defs/ClientFrame and \
                        what the server sends against #/$defs/ServerFrame. Unknown fields are ignored by both sides.",
        "anyOf": [{ "$ref": "#/$defs/ClientFrame" }, { "$ref": "#/$defs/ServerFrame" }],
        "$defs": defs,
    })
}
