//! The texts of mails: a file for each of them in each language, of which the first line is the subject.

use protocol::rest::Language;

/// What a mail says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A link that shows that the address is the member's.
    VerifyEmail,
    /// A link that sets a new password.
    ResetPassword,
    /// A link that changes the address of a member to the one that it is sent to.
    ChangeEmail,
    /// The address was changed; to the former one.
    EmailChanged,
    /// The password was changed.
    PasswordChanged,
    /// The password was set with a link.
    PasswordReset,
    /// Somebody tried to register with the address.
    AddressTaken,
    /// A device signed in that had not before.
    NewDevice,
    /// Whoever waited for an administrator may come in.
    Approved,
    /// The account was deleted; to the address that it had.
    Left,
    /// The second factor was turned on.
    SecondFactorEnabled,
    /// The second factor was turned off.
    SecondFactorDisabled,
    /// The second factor was removed by somebody else.
    SecondFactorReset,
    /// The recovery codes were replaced.
    RecoveryCodesReplaced,
    /// A recovery code was used.
    RecoveryCodeUsed,
}

/// What stands in for a placeholder `{{name}}`.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Whom it is for; nobody is named who has not shown that the address is theirs, because whoever registered it has chosen the name.
    pub name: Option<String>,
    /// Where a link leads.
    pub link: String,
    /// For how many minutes it is good.
    pub minutes: String,
    /// The device, as it calls itself; not named to an address that nobody has shown to be theirs: whoever logs in has chosen it.
    pub device: String,
    /// Whether further devices signed in that no mail tells of.
    pub more: bool,
    /// When it happened.
    pub at: String,
    /// How many recovery codes are left.
    pub left: String,
}

/// A mail as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

macro_rules! texts {
    ($language:literal, $template:expr) => {
        match $template {
            Template::VerifyEmail => include_str!(concat!("templates/", $language, "/verify_email.txt")),
            Template::ResetPassword => include_str!(concat!("templates/", $language, "/reset_password.txt")),
            Template::ChangeEmail => include_str!(concat!("templates/", $language, "/change_email.txt")),
            Template::EmailChanged => include_str!(concat!("templates/", $language, "/email_changed.txt")),
            Template::PasswordChanged => include_str!(concat!("templates/", $language, "/password_changed.txt")),
            Template::PasswordReset => include_str!(concat!("templates/", $language, "/password_reset.txt")),
            Template::AddressTaken => include_str!(concat!("templates/", $language, "/address_taken.txt")),
            Template::NewDevice => include_str!(concat!("templates/", $language, "/new_device.txt")),
            Template::Approved => include_str!(concat!("templates/", $language, "/approved.txt")),
            Template::Left => include_str!(concat!("templates/", $language, "/left.txt")),
            Template::SecondFactorEnabled => {
                include_str!(concat!("templates/", $language, "/second_factor_enabled.txt"))
            }
            Template::SecondFactorDisabled => {
                include_str!(concat!("templates/", $language, "/second_factor_disabled.txt"))
            }
            Template::SecondFactorReset => include_str!(concat!("templates/", $language, "/second_factor_reset.txt")),
            Template::RecoveryCodesReplaced => {
                include_str!(concat!("templates/", $language, "/recovery_codes_replaced.txt"))
            }
            Template::RecoveryCodeUsed => include_str!(concat!("templates/", $language, "/recovery_code_used.txt")),
        }
    };
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::ChangeEmail,
        Self::EmailChanged,
        Self::PasswordChanged,
        Self::PasswordReset,
        Self::AddressTaken,
        Self::NewDevice,
        Self::Approved,
        Self::Left,
        Self::SecondFactorEnabled,
        Self::SecondFactorDisabled,
        Self::SecondFactorReset,
        Self::RecoveryCodesReplaced,
        Self::RecoveryCodeUsed,
    ];

    const fn text(self, language: Language) -> &'static str {
        match language {
            Language::En => texts!("en", self),
            Language::Pt => texts!("pt", self),
        }
    }

    /// The mail in a language.
    #[must_use]
    pub fn render(self, language: Language, fields: &Fields) -> Letter {
        let text = self.text(language);
        let (subject, body) = text.split_once('\n').unwrap_or((text, ""));
        let fill = |text: &str| filled(text, |name| field(name, language, fields));
        Letter { subject: fill(subject.trim()), body: fill(body.trim()) + "\n" }
    }
}

/// What a placeholder stands for; nothing if there is no such one.
fn field(name: &str, language: Language, fields: &Fields) -> Option<String> {
    Some(match (name, language, &fields.name) {
        ("greeting", Language::En, Some(name)) => format!("Hello {},", one_line(name)),
        ("greeting", Language::En, None) => "Hello,".to_owned(),
        ("greeting", Language::Pt, Some(name)) => format!("Olá {},", one_line(name)),
        ("greeting", Language::Pt, None) => "Olá,".to_owned(),
        ("more", ..) if !fields.more => String::new(),
        ("more", Language::En, _) => {
            "\n\nMore devices logged in after it. Look in the settings where you are signed in.".to_owned()
        }
        ("more", Language::Pt, _) => {
            "\n\nDepois dele entraram mais dispositivos. Veja nas definições onde tem sessão.".to_owned()
        }
        ("link", ..) => one_line(&fields.link),
        ("minutes", ..) => one_line(&fields.minutes),
        ("device", ..) if fields.device.is_empty() => String::new(),
        ("device", ..) => format!(": {}", one_line(&fields.device)),
        ("at", ..) => one_line(&fields.at),
        ("left", ..) => one_line(&fields.left),
        _ => return None,
    })
}

/// Without what would begin another line.
fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

/// A text with its placeholders filled in, once: what is filled in is not looked at again.
fn filled(text: &str, field: impl Fn(&str) -> Option<String>) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("{{") {
        whole.push_str(before);
        let Some((name, after)) = from.split_once("}}") else {
            whole.push_str("{{");
            rest = from;
            continue;
        };
        match field(name.trim()) {
            Some(value) => whole.push_str(&value),
            None => whole.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = after;
    }
    whole.push_str(rest);
    whole
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fields() -> Fields {
        let text = str::to_owned;
        Fields {
            name: Some(text("Ana Lima")),
            link: text("https://club.example.com/app/reset?token=x"),
            minutes: text("30"),
            device: text("Firefox on Linux"),
            more: true,
            at: text("2026-11-29 17:58 UTC"),
            left: text("9"),
        }
    }

    /// Which placeholders a text has.
    fn placeholders(text: &str) -> BTreeSet<&str> {
        text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim()).collect()
    }

    #[test]
    fn every_text_is_there_in_every_language_and_nothing_is_left_open() {
        for template in Template::ALL {
            for language in Language::ALL {
                let Letter { subject, body } = template.render(language, &fields());
                assert!((5..=78).contains(&subject.chars().count()), "{template:?} {language:?}: {subject}");
                for text in [&subject, &body] {
                    assert!(!text.contains("{{") && !text.contains("}}"), "{template:?} {language:?}: {text}");
                }
                assert!(body.len() > 100 && body.contains("Ana Lima"), "{template:?} {language:?}: {body}");
                let long = body.lines().filter(|line| !line.contains("https://")).any(|line| line.chars().count() > 78);
                assert!(!long, "{template:?} {language:?}: a line is longer than 78 characters");
            }
            let used: Vec<_> = Language::ALL.iter().map(|language| placeholders(template.text(*language))).collect();
            assert!(
                used.windows(2).all(|pair| pair[0] == pair[1]),
                "{template:?}: other placeholders in another language"
            );
        }
        let all: BTreeSet<_> = Template::ALL.iter().flat_map(|each| placeholders(each.text(Language::En))).collect();
        assert_eq!(
            all.into_iter().collect::<Vec<_>>(),
            ["at", "device", "greeting", "left", "link", "minutes", "more"],
            "every field is used"
        );
    }

    #[test]
    fn no_file_is_left_over() {
        for language in Language::ALL {
            let folder = format!("{}/src/mail/templates/{}", env!("CARGO_MANIFEST_DIR"), language.as_str());
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), Template::ALL.len());
        }
    }

    #[test]
    fn what_is_filled_in_is_no_placeholder_and_no_further_line() {
        let name = Some("{{link}}\r\nBcc: everybody@example.com".to_owned());
        let Letter { subject, body } = Template::PasswordReset.render(Language::En, &Fields { name, ..fields() });
        assert!(body.contains("Hello {{link}}  Bcc: everybody@example.com,"), "{body}");
        assert!(!subject.contains('\n'));
        let nobody = Template::VerifyEmail.render(Language::Pt, &Fields { name: None, ..fields() });
        assert!(nobody.body.starts_with("Olá,\n"), "{}", nobody.body);
    }
}
