//! What is committed is what the code generates, and it describes the golden examples.
#![cfg(feature = "codegen")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use protocol::{ClientFrame, ServerFrame, codegen};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn generated_files_are_up_to_date() {
    for output in codegen::outputs(root()).unwrap() {
        let committed = fs::read_to_string(root().join(&output.path)).unwrap_or_default();
        assert!(
            committed == output.content,
            "{} is stale: run `cargo run -p protocol --features codegen`",
            output.path.display()
        );
    }
}

#[test]
fn golden_examples_are_valid_by_the_schema_and_broken_ones_are_not() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(root().join("protocol/schema/frames.schema.json")).unwrap()).unwrap();
    for (direction, definition, types) in
        [("client", "ClientFrame", ClientFrame::TYPES), ("server", "ServerFrame", ServerFrame::TYPES)]
    {
        let mut of_direction = schema.clone();
        of_direction.as_object_mut().unwrap().remove("anyOf");
        of_direction["$ref"] = format!("#/$defs/{definition}").into();
        let validator = jsonschema::draft202012::new(&of_direction).unwrap();
        for name in types {
            let path = root().join(format!("protocol/golden/{direction}/{name}.json"));
            let mut example: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            if let Err(error) = validator.validate(&example) {
                panic!("{direction} {name}: {error}");
            }
            example["type"] = "something.else".into();
            assert!(!validator.is_valid(&example), "{direction} {name} with another type");
        }
    }
}

#[test]
fn the_schema_takes_what_the_codec_takes() {
    let text = fs::read_to_string(root().join("protocol/schema/frames.schema.json")).unwrap();
    assert!(!text.contains("\"null\""), "an optional field is left out, and never null");
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema.as_object_mut().unwrap().remove("anyOf");
    schema["$ref"] = "#/$defs/ClientFrame".into();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let member = "0123456789abcdef01234567";
    for (frame, good) in [
        (r#"{"type":"conversations.list","limit":10.0}"#.to_owned(), true),
        (r#"{"type":"conversations.list","limit":101}"#.to_owned(), false),
        (r#"{"type":"conversations.list","limit":1.5}"#.to_owned(), false),
        (format!(r#"{{"type":"message.read","conversation":"{member}","seq":1e0}}"#), true),
        (format!(r#"{{"type":"message.read","conversation":"{member}","seq":9007199254740992}}"#), false),
        (format!(r#"{{"type":"message.read","conversation":"{member}","seq":-1}}"#), false),
        (r#"{"type":"presence.watch","members":[]}"#.to_owned(), false),
    ] {
        let value: Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(validator.is_valid(&value), good, "{frame}");
        assert_eq!(protocol::Request::decode(&frame).is_ok(), good, "{frame}");
    }
}
