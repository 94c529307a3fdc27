//! What is said of settings that do not fit.

use super::*;

fn problem(flags: &[&str]) -> String {
    let command_line = std::iter::once("members-book").chain(flags.iter().copied());
    match Cli::try_parse_from(command_line) {
        Ok(cli) => cli.settings.validate().err().map(|error| error.to_string()).unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(problem(&[]), "");
}

#[test]
fn a_setting_that_does_not_fit_is_named() {
    assert!(problem(&["--jwt-secret", "short"]).starts_with("JWT_SECRET: "));
    let comma = ["--jwt-secret", "one half of a long secret, and the other half"];
    assert_eq!(problem(&comma), "JWT_SECRET: without a comma");
    assert!(problem(&["--database-url", "postgres://x"]).starts_with("DATABASE_URL: "));
    assert_eq!(problem(&["--mongodb-uri", "mongodb://user:hunter2@db/club"]), "");
    assert!(problem(&["--mongodb-uri", "mongodb://user:hunter2@db:port/club"]).starts_with("MONGODB_URI: "));
    assert!(problem(&["--refresh-token-ttl", "1m"]).starts_with("REFRESH_TOKEN_TTL: "));
    assert!(problem(&["--session-lifetime", "29d"]).starts_with("SESSION_LIFETIME: "));
    assert!(problem(&["--session-lifetime", "0s"]).starts_with("SESSION_LIFETIME: "));
    assert!(problem(&["--session-lifetime", "3651d"]).starts_with("SESSION_LIFETIME: "));
    assert!(problem(&["--presence-interval", "61s"]).starts_with("PRESENCE_INTERVAL: "));
    assert!(problem(&["--profile-interval", "61m"]).starts_with("PROFILE_INTERVAL: "));
    assert!(problem(&["--outbox-max-bytes", "1"]).starts_with("OUTBOX_MAX_BYTES: "));
    assert!(problem(&["--memory-max", "1MiB"]).starts_with("MEMORY_MAX: "));
    assert!(problem(&["--memory-max", "1GB"]).contains("--memory-max"));
    assert!(problem(&["--public-url", "https://api.example.com/api"]).contains("--public-url"));
}

#[test]
fn a_setting_of_another_service_that_does_not_fit_is_named() {
    let bucket = ["--aws-s3-bucket", "club"];
    let with = |flag, value| problem(&[&bucket[..], &[flag, value]].concat());
    assert!(with("--aws-access-key-id", "x").starts_with("AWS_SECRET_ACCESS_KEY: "));
    assert!(with("--aws-secret-access-key", "x").starts_with("AWS_ACCESS_KEY_ID: "));
    assert!(with("--aws-endpoint-url", "s3.example.com").starts_with("AWS_ENDPOINT_URL: "));
    assert!(problem(&["--ai-service-url", "api.openai.com"]).starts_with("AI_SERVICE_URL: "));
    assert!(problem(&["--ai-timeout", "15s"]).starts_with("AI_TIMEOUT: "));
    assert!(problem(&["--ai-concurrency", "0"]).starts_with("AI_CONCURRENCY: "));
    assert!(problem(&["--ai-refresh", "8d"]).starts_with("AI_REFRESH: "));
    assert!(problem(&["--port", "80000"]).contains("--port <PORT>': a whole number from 0 to 65535"));
    let said = problem(&["--port", "abc"]);
    assert!(said.contains("'abc' for '--port <PORT>': a whole number from 0 to 65535"), "{said}");
    let said = problem(&["--rate-logins=-1"]);
    assert!(said.contains("'-1' for '--rate-logins <RATE_LOGINS>': a whole number from 0 to 4294967295"), "{said}");
    assert!(problem(&["--bcrypt-cost", "x"]).contains("a whole number from 4 to 16"));
    assert!(problem(&["--memory-max", "much"]).contains("an amount of memory such as"));
    assert!(problem(&["--heartbeat-interval", "30"]).contains("--heartbeat-interval"));
    assert!(problem(&["--bcrypt-cost", "3"]).contains("--bcrypt-cost"));
}

#[test]
fn a_setting_of_mail_that_does_not_fit_is_named() {
    let mail = ["--smtp-url", "smtps://user:hunter2@mail.example.com"];
    assert!(problem(&["--smtp-url", "mail.example.com"]).starts_with("SMTP_URL: "));
    assert!(problem(&mail).starts_with("MAIL_FROM: needed with SMTP_URL"));
    let with = |further: &[&'static str]| problem(&[&mail[..], further].concat());
    assert!(with(&["--mail-from", "The Club"]).starts_with("MAIL_FROM: an address"));
    assert!(with(&["--mail-from", "The Club <club@example.com>"]).starts_with("PUBLIC_URL: needed with SMTP_URL"));
    assert_eq!(with(&["--mail-from", "club@example.com", "--public-url", "https://club.example.com"]), "");
    assert!(problem(&["--mail-language", "fr"]).contains("--mail-language"));
}

#[test]
fn secrets_are_never_printed() {
    let secret = "correct-horse-battery-staple-0123456789";
    let url = "mongodb://user:hunter2@db/club";
    let flags = ["--jwt-secret", secret, "--database-url", url, "--openai-api-key", "sk-hunter3"];
    let cli = Cli::try_parse_from(std::iter::once("members-book").chain(flags)).ok().unwrap();
    let printed = format!("{:?}", cli.settings);
    assert!(!printed.contains("correct-horse") && !printed.contains("hunter"), "{printed}");
    assert!(!problem(&["--ai-service-url", "https://user:hunter2@x.example"]).contains("hunter2"));
    assert!(!problem(&["--database-url", "mongodb://user:hunter2@db:port"]).contains("hunter2"));
    let cli =
        Cli::try_parse_from(["members-book", "--smtp-url", "smtps://user:hunter2@mail.example.com"]).ok().unwrap();
    assert!(!format!("{:?}", cli.settings).contains("hunter"));
    let cli = Cli::try_parse_from(["members-book", "--aws-secret-access-key", secret]).ok().unwrap();
    assert!(!format!("{:?}", cli.settings).contains("correct-horse"));
}
