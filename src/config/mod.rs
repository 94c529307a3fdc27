//! Settings: from flags, from the environment, from `.env` in the working directory; in this order.
//!
//! [`settings`] has them all, with their defaults and what they do; `--help`, `.env.example` and
//! `docs/configuration.md` say the same, and a test keeps it so. [`values`] parses them, [`secret`] keeps the generated
//! secret of a laptop, [`names`] finds names that are misspelt.

pub mod names;
pub mod secret;
pub mod settings;
pub mod values;

use clap::{Arg, CommandFactory as _, FromArgMatches as _, builder::Resettable};
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

/// Reads `.env` in the working directory into the environment, where it does not overrule what is set already. Returns the
/// names that are in it.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn read_dotenv() -> Result<Vec<String>, String> {
    let read = || {
        dotenvy::from_path(".env")?;
        dotenvy::from_path_iter(".env")?.map(|line| line.map(|(name, _)| name)).collect()
    };
    match read() {
        Ok(names) => Ok(names),
        Err(error) if dotenvy::Error::not_found(&error) => Ok(Vec::new()),
        Err(error) => Err(explain(&error, &std::fs::read_to_string(".env").unwrap_or_default())),
    }
}

/// Reads the command line. The help of a command shows its own flags: it takes all settings too, which would bury them.
#[must_use]
pub fn command_line() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command() -> clap::Command {
    let mut command = Cli::command().mut_args(without_empty);
    // Only then do commands have the flags that are theirs too.
    command.build();
    command.mut_subcommands(without_settings)
}

/// A variable that is empty, in the environment or in `.env`, is as good as none.
fn without_empty(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(std::env::var_os);
    if value.is_some_and(|value| value.is_empty()) { arg.env(Resettable::Reset) } else { arg }
}

fn without_settings(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    let takes = "It takes the settings of the server too (members-book --help), and has to be given the same ones.";
    command.mut_subcommands(without_settings).after_help(takes)
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
    fn the_help_of_a_command_shows_its_own_flags_and_the_command_takes_all() {
        let line = ["members-book", "admin", "create", "--name", "Ana", "--email", "a@x.example", "--port", "1"];
        let matches = command().get_matches_from(line);
        assert_eq!(Cli::from_arg_matches(&matches).unwrap().settings.listen.port, 1);
        let help = |line: &[&str]| command().try_get_matches_from(line).unwrap_err().to_string();
        let create = help(&["members-book", "admin", "create", "--help"]);
        assert!(create.contains("--email") && create.contains("members-book --help"), "{create}");
        assert!(!create.contains("RATE_"), "{create}");
        assert!(help(&["members-book", "--help"]).contains("RATE_MESSAGES"));
    }

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
