//! Settings: from flags, from the environment, from `.env` in the working directory; in this order.
//!
//! [`settings`] has them all, with their defaults and what they do; `--help`, `.env.example` and
//! `docs/configuration.md` say the same, and a test keeps it so. [`values`] parses them, [`secret`] keeps the generated
//! secret of a laptop.

pub mod secret;
pub mod settings;
pub mod values;

pub use settings::{Cli, Command, Settings};

/// A setting that does not fit. The message names it.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct InvalidSetting {
    /// The name of the environment variable.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads `.env` in the working directory into the environment, where it does not overrule what is set already.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn read_dotenv() -> Result<(), String> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(format!(".env: {error}")),
    }
}
