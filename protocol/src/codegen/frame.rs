//! What the generators know of a frame.

use std::{collections::BTreeMap, path::Path};

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};
use ts_rs::TS;

use super::typescript::Declarations;

/// A frame of the protocol, as the generators see it.
pub struct FrameType {
    /// Its `type` on the wire.
    pub name: &'static str,
    /// What it is for, in a sentence or two.
    pub doc: &'static str,
    /// The `type` of its reply, for requests that have one.
    pub reply: Option<&'static str>,
    /// The name of the Rust type of its body.
    pub rust_name: String,
    schema: fn(&mut SchemaGenerator) -> schemars::Schema,
    declare: fn(&mut Declarations),
}

impl FrameType {
    /// Describes the frame with body `T`.
    #[must_use]
    pub fn of<T: JsonSchema + TS + 'static>(
        name: &'static str,
        doc: &'static str,
        reply: Option<&'static str>,
    ) -> Self {
        Self {
            name,
            doc,
            reply,
            rust_name: T::schema_name().into_owned(),
            schema: T::json_schema,
            declare: Declarations::add::<T>,
        }
    }

    /// The schema of the whole frame: its body with `type` and `id`.
    pub(super) fn schema(&self, generator: &mut SchemaGenerator, is_request: bool) -> Value {
        let mut schema = (self.schema)(generator);
        let mut properties = serde_json::Map::new();
        properties.insert("type".to_owned(), json!({ "type": "string", "const": self.name }));
        if is_request || REPLIES.contains(&self.name) {
            properties.insert("id".to_owned(), generator.subschema_for::<crate::RequestId>().to_value());
        }
        let mut required = vec![json!("type")];
        if let Some(Value::Object(body)) = schema.remove("properties") {
            properties.extend(body);
        }
        if let Some(Value::Array(body)) = schema.remove("required") {
            required.extend(body);
        }
        schema.insert("properties".to_owned(), properties.into());
        schema.insert("required".to_owned(), required.into());
        schema.insert("description".to_owned(), self.doc.into());
        schema.to_value()
    }

    pub(super) fn declare(&self, declarations: &mut Declarations) {
        (self.declare)(declarations);
    }
}

/// Frames of the server that may carry the `id` of a request.
pub(super) const REPLIES: &[&str] =
    &["welcome", "message.accepted", "ok", "conversations", "history", "presence.snapshot", "pong", "error"];

/// The golden examples by direction and `type`.
pub(super) struct Examples(BTreeMap<(&'static str, String), Value>);

impl Examples {
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        let mut examples = BTreeMap::new();
        for direction in ["client", "server"] {
            let folder = root.join("protocol/golden").join(direction);
            let files = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for file in files {
                let path = file.map_err(|error| error.to_string())?.path();
                let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                let value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                examples.insert((direction, name), value);
            }
        }
        Ok(Self(examples))
    }

    pub(super) fn get(&self, direction: &'static str, name: &str) -> Result<&Value, String> {
        self.0
            .get(&(direction, name.to_owned()))
            .ok_or_else(|| format!("protocol/golden/{direction}/{name}.json is missing"))
    }
}
