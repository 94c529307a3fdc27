//! Settings of where problems of security are reported.

use clap::Args;
use reqwest::Url;

use crate::config::InvalidSetting;

/// Where problems of security are reported: what `/.well-known/security.txt` says (RFC 9116).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reporting problems of security")]
pub struct SecuritySettings {
    /// Where whoever finds a problem of security reports it, by commas, the preferred one first: `mailto:security@example.com`, or
    /// `https://example.com/report`. With it there is /.well-known/security.txt.
    #[arg(long, env = "SECURITY_CONTACT", value_delimiter = ',', global = true)]
    pub security_contact: Vec<String>,
    /// A page that says how reports are handled, beginning with https://, for security.txt.
    #[arg(long, env = "SECURITY_POLICY", global = true)]
    pub security_policy: Option<String>,
}

/// Whether a text is a URI of one line, of a scheme that may be named there; pages are read over TLS only (RFC 9116, section 2.3).
fn is_uri(text: &str, schemes: &[&str]) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let url = Url::parse(text).ok().filter(|url| is_plain && schemes.contains(&url.scheme()));
    url.is_some_and(|url| match url.scheme() {
        "mailto" => url.path().split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
        _ => text.starts_with("https://") && url.host_str().is_some_and(|host| !host.is_empty()),
    })
}

impl SecuritySettings {
    /// Checks what the parsers of single settings cannot.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let contacts = self.security_contact.iter().all(|contact| is_uri(contact, &["mailto", "https"]));
        let policy = self.security_policy.iter().all(|policy| is_uri(policy, &["https"]));
        let checks = [
            (
                contacts,
                "SECURITY_CONTACT",
                "mailto:security@example.com or https://example.com/report; several are separated by commas",
            ),
            (policy, "SECURITY_POLICY", "a page such as https://example.com/security"),
            (
                self.security_policy.is_none() || !self.security_contact.is_empty(),
                "SECURITY_CONTACT",
                "needed with SECURITY_POLICY: where problems of security are reported",
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(InvalidSetting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::config::Cli;

    fn problem(flags: &[&str]) -> String {
        let cli = Cli::try_parse_from(std::iter::once("members-book").chain(flags.iter().copied()));
        let settings = cli.map_err(|error| error.to_string()).unwrap().settings;
        settings.validate().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn contacts_are_uris_of_mail_and_of_pages() {
        let good =
            ["mailto:security@example.com", "https://example.com/report", "mailto:a@x.example,https://x.example"];
        for good in good {
            assert_eq!(problem(&["--security-contact", good]), "", "{good}");
        }
        let wrong = [
            "security@example.com",
            "mailto:security",
            "mailto:@example.com",
            "http://example.com/report",
            "https:example.com",
            "tel:+1",
            "mailto:a@x.example, https://x.example",
            "https://example.com/\nContact: mailto:evil@x.example",
        ];
        for wrong in wrong {
            assert!(problem(&["--security-contact", wrong]).starts_with("SECURITY_CONTACT: "), "{wrong}");
        }
    }

    #[test]
    fn a_policy_goes_with_a_contact() {
        let contact = ["--security-contact", "mailto:security@example.com"];
        let with = |policy| problem(&[&contact[..], &["--security-policy", policy]].concat());
        assert_eq!(with("https://example.com/security"), "");
        assert!(with("mailto:security@example.com").starts_with("SECURITY_POLICY: "));
        let alone = problem(&["--security-policy", "https://example.com/security"]);
        assert!(alone.starts_with("SECURITY_CONTACT: needed with SECURITY_POLICY"), "{alone}");
    }
}
