//! Everything that is written to disk from the types of this crate.
//!
//! `cargo run -p protocol --features codegen` writes it; the test `generated` fails when it is stale.

mod asyncapi;
mod fields;
mod frame;
mod json_schema;
mod tables;
mod typescript;

use std::path::{Path, PathBuf};

pub use frame::FrameType;

/// One generated file.
pub struct Output {
    /// Where it lives, relative to the root of the repository.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// Generates every file.
///
/// # Errors
/// When a golden example or a page with generated tables cannot be read.
pub fn outputs(root: &Path) -> Result<Vec<Output>, String> {
    let examples = frame::Examples::read(root)?;
    let mut outputs = vec![
        Output { path: "protocol/schema/frames.schema.json".into(), content: pretty(&json_schema::document()) },
        Output { path: "protocol/schema/asyncapi.json".into(), content: pretty(&asyncapi::document(&examples)?) },
        Output { path: "protocol/typescript/src/protocol.ts".into(), content: typescript::module() },
    ];
    for page in ["docs/protocol.md", "docs/rest.md"] {
        let before = std::fs::read_to_string(root.join(page)).map_err(|error| format!("{page}: {error}"))?;
        outputs.push(Output { path: page.into(), content: tables::fill(&before, &examples)? });
    }
    Ok(outputs)
}

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
