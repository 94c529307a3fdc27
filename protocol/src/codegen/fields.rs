//! Tables of the fields of frames and objects, out of their schemas.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{FrameType, json_schema::Schemas};

/// A table for each frame that has fields of its own.
pub(super) fn of_frames(frames: &[(FrameType, Value)]) -> String {
    let mut text = String::new();
    for (frame, schema) in frames {
        let rows = rows(schema, &["type", "id"]);
        if !rows.is_empty() {
            let _ = write!(text, "\n**`{}`**\n\n{HEADER}{rows}", frame.name);
        }
    }
    text.push('\n');
    text
}

/// A table for each object that frames are made of, and a line for each set of words.
pub(super) fn of_objects(schemas: &Schemas) -> String {
    let (mut objects, mut words) = (String::new(), String::new());
    for (name, schema) in &schemas.definitions {
        let description = first_line(schema);
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            if variants.iter().all(|variant| variant.get("const").is_some()) {
                let _ = writeln!(words, "- **{name}**: {description}");
                for variant in variants {
                    let _ = writeln!(words, "  - `{}`: {}", variant["const"], first_line(variant));
                }
            } else {
                for variant in variants {
                    let rows = rows(variant, &[]);
                    let _ = write!(objects, "\n**{name}**: {description}\n\n{HEADER}{rows}");
                }
            }
        } else if schema.get("properties").is_some() {
            let rows = rows(schema, &[]);
            let _ = write!(objects, "\n**{name}**: {description}\n\n{HEADER}{rows}");
        }
    }
    // The error codes have a table of their own.
    let words = words.split("- **").filter(|part| !part.is_empty() && !part.starts_with("ErrorCode"));
    let words: String = words.map(|part| format!("- **{part}")).collect();
    format!("{objects}\n{words}")
}

const HEADER: &str = "| field | type | |\n| --- | --- | --- |\n";

fn rows(schema: &Value, without: &[&str]) -> String {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut rows = String::new();
    for (name, property) in properties.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
        let optional = if required.iter().any(|field| field == name) { "" } else { ", optional" };
        let _ = writeln!(rows, "| `{name}` | {}{optional} | {} |", type_name(property), first_line(property));
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let _ = writeln!(rows, "| … | | And the fields of {}. |", reference.rsplit('/').next().unwrap_or_default());
    }
    rows
}

/// What a value may be, in words.
fn type_name(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    if let Some(variants) = schema.get("anyOf").or_else(|| schema.get("allOf")).and_then(Value::as_array) {
        let named = variants.iter().filter(|variant| variant.get("type") != Some(&Value::from("null")));
        return named.map(type_name).collect::<Vec<_>>().join(" or ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ => "any",
    };
    match (name, schema.get("items"), schema.get("format").and_then(Value::as_str)) {
        ("array", Some(items), _) => format!("array of {}", type_name(items)),
        ("string", _, Some("date-time")) => "time".to_owned(),
        (name, ..) => name.to_owned(),
    }
}

fn first_line(schema: &Value) -> String {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    description.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}
