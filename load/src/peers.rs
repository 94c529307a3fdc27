//! Peers: servers that others have made and anybody can start, doing what the relay does.
//!
//! Their scripts and the exact versions of their packages are part of this program; npm installs them beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::server::Launch;

/// What npm needs to install them, and their scripts.
const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../peers/package.json")),
    (LOCK, include_str!("../peers/package-lock.json")),
    ("ws.mjs", include_str!("../peers/ws.mjs")),
    ("bun.mjs", include_str!("../peers/bun.mjs")),
];
const LOCK: &str = "package-lock.json";
/// The lock file that npm leaves behind when everything is installed.
const INSTALLED: &str = "node_modules/.package-lock.json";

/// A server that does what the relay does, and stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The package `ws` on Node.
    Ws,
    /// uWebSockets, as Bun brings it.
    Bun,
}

impl Peer {
    pub(crate) const ALL: [Self; 2] = [Self::Ws, Self::Bun];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws on Node",
            Self::Bun => "uWebSockets in Bun",
        }
    }

    /// How it is started, once all are installed.
    pub(crate) fn launch(self) -> Result<Launch, String> {
        let folder = folder()?;
        let (binary, script) = match self {
            Self::Ws => (on_path("node")?, "ws.mjs"),
            Self::Bun => (bun(&folder)?, "bun.mjs"),
        };
        let arguments = vec![folder.join(script).display().to_string()];
        Ok(Launch { binary: Some(binary), arguments, settings: Vec::new(), defaults: false, logs: false })
    }
}

/// Installs all of them, unless these very versions are.
///
/// # Errors
/// Says what is missing: npm, a package, a place to write.
pub(crate) fn install() -> Result<(), String> {
    let folder = folder()?;
    let failed = |error: io::Error| format!("the peers cannot be installed in {}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let same = fs::read_to_string(folder.join(LOCK)).is_ok_and(|lock| FILES.contains(&(LOCK, &lock)));
    for (name, text) in FILES {
        fs::write(folder.join(name), text).map_err(failed)?;
    }
    if same && folder.join(INSTALLED).exists() {
        return Ok(());
    }
    eprintln!("installing the peers in {}", folder.display());
    // Their own scripts are not needed, and not run.
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    let ran = Command::new(on_path("npm")?).args(arguments).current_dir(&folder).output();
    let Output { status, stderr, .. } = ran.map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the peers cannot be installed: npm {}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr)))
    }
}

/// A folder beside this program, in `target`.
fn folder() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(this.with_file_name("load-peers"))
}

/// A program that is installed on this machine.
fn on_path(name: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|program| program.is_file());
    program.ok_or_else(|| format!("the peers need {name}, which is not installed"))
}

/// Bun comes built for several kinds of processors and libraries: the first one that runs here.
fn bun(folder: &Path) -> Result<PathBuf, String> {
    let kinds =
        fs::read_dir(folder.join("node_modules/@oven")).map_err(|error| format!("Bun is not installed: {error}"))?;
    let mut programs: Vec<_> = kinds.flatten().map(|kind| kind.path().join("bin/bun")).collect();
    programs.sort();
    let runs =
        |program: &PathBuf| Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    programs.into_iter().find(runs).ok_or_else(|| "Bun is installed and does not run on this machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert!(on_path("no-such-program-anywhere").unwrap_err().contains("no-such-program-anywhere"));
        let empty = tempfile::tempdir().unwrap();
        assert!(bun(empty.path()).unwrap_err().contains("not installed"));
    }

    #[test]
    fn every_version_is_fixed() {
        let package: serde_json::Value = serde_json::from_str(FILES[0].1).unwrap();
        let lock: serde_json::Value = serde_json::from_str(FILES[1].1).unwrap();
        for (name, version) in package["dependencies"].as_object().unwrap() {
            assert_eq!(lock["packages"][format!("node_modules/{name}")]["version"], *version, "{name}");
        }
    }
}
