//! Every frame has a golden example: it is read, and written back to the letter.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use protocol::{ClientFrame, Envelope, Request, ServerFrame};
use serde_json::Value;

fn golden(direction: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(direction)
}

/// Reads the example of a frame, as it goes over the wire: without white space, fields in their order.
fn example(direction: &str, frame_type: &str) -> String {
    let path = golden(direction).join(format!("{frame_type}.json"));
    let pretty = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut compact = String::new();
    let mut in_string = false;
    let mut escaped = false;
    for c in pretty.chars() {
        if in_string || !c.is_whitespace() {
            compact.push(c);
        }
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    compact
}

fn files(direction: &str) -> BTreeSet<String> {
    let files = fs::read_dir(golden(direction)).unwrap();
    files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn types(types: &[&str]) -> BTreeSet<String> {
    types.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn every_frame_has_an_example_and_every_example_a_frame() {
    assert_eq!(files("client"), types(ClientFrame::TYPES));
    assert_eq!(files("server"), types(ServerFrame::TYPES));
}

#[test]
fn client_frames_are_read_and_written_back() {
    for frame_type in ClientFrame::TYPES {
        let text = example("client", frame_type);
        let request = Request::decode(&text).unwrap_or_else(|error| panic!("{frame_type}: {error}"));
        assert_eq!(request.frame.frame_type(), *frame_type);
        assert_eq!(request.encode(), text);
    }
}

#[test]
fn server_frames_are_read_and_written_back() {
    for frame_type in ServerFrame::TYPES {
        let text = example("server", frame_type);
        let envelope = Envelope::decode(&text).unwrap_or_else(|error| panic!("{frame_type}: {error}"));
        assert_eq!(envelope.frame.frame_type(), *frame_type);
        assert_eq!(envelope.frame.encode(envelope.id.as_ref()), text);
    }
}

#[test]
fn a_field_that_is_taken_away_is_missed_by_name() {
    for frame_type in ClientFrame::TYPES {
        let Value::Object(example) = serde_json::from_str(&example("client", frame_type)).unwrap() else {
            panic!("{frame_type} is not an object")
        };
        for field in example.keys().filter(|field| *field != "id") {
            let mut rest = example.clone();
            rest.remove(field);
            if let Err(error) = Request::decode(&Value::Object(rest).to_string()) {
                let named = error.field.unwrap_or_else(|| panic!("{frame_type} without {field}: no field is named"));
                // A message without `conversation` is told to give either that or `to`.
                assert!(named == *field || named == "to", "{frame_type} without {field}: {named}");
            }
        }
    }
}

#[test]
fn null_is_the_same_as_a_field_that_is_left_out() {
    let decode = |frame: &Value| Request::decode(&frame.to_string());
    for frame_type in ClientFrame::TYPES {
        let example: Value = serde_json::from_str(&example("client", frame_type)).unwrap();
        for path in fields(&example) {
            let (parent, field) = path.rsplit_once('/').unwrap();
            let (mut without, mut with) = (example.clone(), example.clone());
            without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
            *with.pointer_mut(&path).unwrap() = Value::Null;
            assert_eq!(decode(&with), decode(&without), "{frame_type}: {path}");
        }
    }
}

/// Where the fields of an object and of the objects in it are.
fn fields(object: &Value) -> Vec<String> {
    let own = object.as_object().into_iter().flatten();
    own.flat_map(|(name, value)| {
        let inner = fields(value).into_iter().map(move |inner| format!("/{name}{inner}"));
        std::iter::once(format!("/{name}")).chain(inner)
    })
    .collect()
}
