//! Names that are no setting: most likely misspelt, and without effect then.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::Cli;

/// How many characters a name may be away from that of a setting to be taken for it.
const TYPOS_MAX: usize = 2;
/// Shorter names of settings are like too many others to be taken for meant.
const COMPARED_FROM: usize = 8;
/// Names that begin so are for the program's own libraries.
const FOR_LIBRARIES: &str = "RUST_";

/// A name that is no setting.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    name: String,
    nearest: Option<String>,
}

/// Warns of names in `.env` that are no settings, and of names in the environment that are nearly one.
pub fn warn(in_dotenv: &[String]) {
    let in_environment = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let (file, environment) = unknown(in_dotenv, in_environment.collect());
    for Unknown { name, nearest } in file {
        tracing::warn!(name, did_you_mean = nearest, "a name in .env is no setting, and has no effect");
    }
    for Unknown { name, nearest } in environment {
        tracing::warn!(name, did_you_mean = nearest, "an environment variable is nearly a setting, and has no effect");
    }
}

/// Those in `.env`, and those in the environment that are not in `.env`, which was read into it.
fn unknown(in_dotenv: &[String], in_environment: Vec<String>) -> (Vec<Unknown>, Vec<Unknown>) {
    let command = Cli::command();
    let settings: BTreeSet<&str> = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).collect();
    let file: BTreeSet<&String> = in_dotenv.iter().collect();
    let others = in_environment.into_iter().filter(|name| !file.contains(name)).collect();
    let unknown = |names: BTreeSet<String>| {
        let names =
            names.into_iter().filter(|name| !settings.contains(name.as_str()) && !name.starts_with(FOR_LIBRARIES));
        names.map(|name| Unknown { nearest: nearest(&name, &settings), name }).collect::<Vec<_>>()
    };
    let mut environment = unknown(others);
    environment.retain(|unknown| unknown.nearest.is_some());
    (unknown(file.into_iter().cloned().collect()), environment)
}

/// The setting that a name is nearly the name of.
fn nearest(name: &str, settings: &BTreeSet<&str>) -> Option<String> {
    let name = name.to_uppercase();
    // Other letters only: that is meant, however short it is.
    if let Some(same) = settings.get(name.as_str()) {
        return Some((*same).to_owned());
    }
    let compared = settings.iter().filter(|setting| setting.len() >= COMPARED_FROM);
    let near = compared.map(|setting| (strsim::osa_distance(&name, setting), *setting));
    let (_, nearest) = near.filter(|(distance, _)| *distance <= TYPOS_MAX).min()?;
    Some(nearest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_found_in_the_file_and_near_ones_in_the_environment() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let dotenv = names(&["RATE_MESAGES", "PORT", "EXPO_TOKEN", "RUST_BACKTRACE", "port"]);
        let environment = names(&["HOME", "PATH", "JWT_SECRETS", "RATE_MESAGES", "DATABASE_URL", "HOSTS"]);
        let is = |name: &str, nearest: Option<&str>| Unknown { name: name.into(), nearest: nearest.map(Into::into) };
        let (file, environment) = unknown(&dotenv, environment);
        assert_eq!(file, [is("EXPO_TOKEN", None), is("RATE_MESAGES", Some("RATE_MESSAGES")), is("port", Some("PORT"))]);
        assert_eq!(environment, [is("JWT_SECRETS", Some("JWT_SECRET"))]);
    }
}
