//! The secret that signs access tokens, when no setting gives one: generated once and kept.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use super::{InvalidSetting, settings::SECRET_MIN_BYTES};
use crate::ids::Entropy;

/// The name of the file in `DATA_DIR`.
pub const FILE: &str = "jwt-secret";

/// Reads the kept secret, or generates and keeps one. Its file is readable by its owner only.
///
/// # Errors
/// When it cannot be read or kept, or when others can read it.
pub fn load_or_generate(data_dir: &Path, entropy: &dyn Entropy) -> Result<(SecretString, PathBuf), InvalidSetting> {
    let path = data_dir.join(FILE);
    let problem = |what: &str| InvalidSetting { setting: "JWT_SECRET", problem: format!("{}: {what}", path.display()) };
    fs::create_dir_all(data_dir).map_err(|error| problem(&error.to_string()))?;
    match generate(&path, entropy) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(problem(&error.to_string())),
    }
    let mode = fs::metadata(&path).map_err(|error| problem(&error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(problem("others can read it; make it mode 0600 or set JWT_SECRET"));
    }
    let secret = fs::read_to_string(&path).map_err(|error| problem(&error.to_string()))?;
    let secret = secret.trim();
    if secret.len() < SECRET_MIN_BYTES {
        return Err(problem("it is shorter than 32 bytes; remove it or set JWT_SECRET"));
    }
    Ok((secret.into(), path))
}

/// Writes a new secret beside its place, and puts it there whole: never a half one, and never over an old one.
fn generate(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut bytes = [0; 48];
    entropy.fill(&mut bytes);
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(bytes))?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::ids::SystemEntropy;

    #[test]
    fn a_secret_is_generated_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let (first, path) = load_or_generate(folder.path(), &SystemEntropy).unwrap();
        let (second, _) = load_or_generate(folder.path(), &SystemEntropy).unwrap();
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert!(first.expose_secret().len() >= SECRET_MIN_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = load_or_generate(folder.path(), &SystemEntropy).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_generate(folder.path(), &SystemEntropy).unwrap_err().to_string();
        assert!(error.starts_with("JWT_SECRET: "), "{error}");
    }
}
