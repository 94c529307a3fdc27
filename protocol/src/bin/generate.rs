//! Writes everything that is generated from the protocol: `cargo run -p protocol --features codegen`.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let written = protocol::codegen::outputs(&root).and_then(|outputs| {
        outputs.iter().try_for_each(|output| {
            let path = root.join(&output.path);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            }
            std::fs::write(&path, &output.content).map_err(|error| format!("{}: {error}", path.display()))
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
