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
        Err(error) => Err(explain(&error, &std::fs::read_to_string(".env").unwrap_or_default())),
    }
}

/// What is wrong with `.env`. Names the line and repeats nothing of it: it may be a secret.
fn explain(error: &dotenvy::Error, content: &str) -> String {
    let dotenvy::Error::LineParse(bad, _) = error else { return format!(".env: {error}") };
    let first = bad.lines().next().unwrap_or_default().trim();
    // It may be the whole line or its value only.
    let number = content.lines().position(|line| line.contains(first)).filter(|_| !first.is_empty());
    let number = number.map(|at| format!(", line {}", at + 1));
    format!(
        ".env{}: not NAME=value; a value with spaces, quotes, # or $ has to be within single quotes",
        number.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_parsed_is_named_and_not_repeated() {
        let content = "PORT=8000\nJWT_SECRET=correct horse battery staple\n";
        let error = dotenvy::from_read_iter(content.as_bytes()).find_map(Result::err).unwrap();
        assert!(error.to_string().contains("battery"), "what dotenvy says");
        let problem = explain(&error, content);
        assert!(problem.starts_with(".env, line 2: "), "{problem}");
        assert!(!problem.contains("horse") && !problem.contains("battery"), "{problem}");
    }
}
