//! What can be said about a member's own profile without asking anybody: name, phone number and picture are looked at
//! here and nowhere else.

use protocol::{
    limits,
    rest::{
        Member,
        ai::{FieldSuggestion, ProfileField},
    },
};

use super::words::{all_capitals, all_small, tidy_spaces, title_case};

/// The fields that a profile can do without, in the order of a profile.
pub const OPTIONAL: &[ProfileField] =
    &[ProfileField::Phone, ProfileField::Company, ProfileField::Position, ProfileField::Picture];

/// Fewest digits of a phone number that can be called from anywhere.
pub const PHONE_DIGITS_MIN: usize = 7;

/// What a field holds.
#[must_use]
pub fn value(member: &Member, field: ProfileField) -> Option<&str> {
    match field {
        ProfileField::Name => Some(&member.name),
        ProfileField::Phone => member.contact_info.phone.as_deref(),
        ProfileField::Company => member.contact_info.company.as_deref(),
        ProfileField::Position => member.contact_info.position.as_deref(),
        ProfileField::Picture => member.profile_image_url.as_deref(),
    }
}

/// Why a field should be filled in, and how much that matters, 0 to 1.
#[must_use]
pub const fn why(field: ProfileField) -> (&'static str, f64) {
    match field {
        ProfileField::Name => ("Say what you are called.", 1.0),
        ProfileField::Phone => ("Add a phone number, so that members can reach you outside the app.", 0.5),
        ProfileField::Company => ("Say where you work: it is what members look for first.", 0.9),
        ProfileField::Position => ("Say what you do, so that members know what to talk to you about.", 0.8),
        ProfileField::Picture => ("Add a picture: members recognise you at the next event.", 0.7),
    }
}

/// The fields that are empty.
pub fn missing(member: &Member) -> impl Iterator<Item = ProfileField> {
    OPTIONAL.iter().copied().filter(|field| value(member, *field).is_none())
}

/// How complete a profile is, 0 to 1: the share of its optional fields that are filled in.
#[must_use]
pub fn completeness(member: &Member) -> f64 {
    // A handful of fields.
    let count = |fields: usize| f64::from(u8::try_from(fields).unwrap_or(u8::MAX));
    1.0 - count(missing(member).count()) / count(OPTIONAL.len())
}

/// What could be better about name and phone number, and whether there is a picture.
#[must_use]
pub fn suggestions(member: &Member) -> Vec<FieldSuggestion> {
    let phone = member.contact_info.phone.as_deref().map_or_else(|| Some(empty(ProfileField::Phone)), phone);
    let picture = member.profile_image_url.is_none().then(|| empty(ProfileField::Picture));
    [name(&member.name), phone, picture].into_iter().flatten().collect()
}

fn empty(field: ProfileField) -> FieldSuggestion {
    let (reason, confidence_score) = why(field);
    FieldSuggestion { field, current: None, suggestion: None, reason: reason.to_owned(), confidence_score }
}

fn name(current: &str) -> Option<FieldSuggestion> {
    let tidy = tidy_spaces(current);
    let (better, reason) = if all_small(&tidy) || all_capitals(&tidy) {
        (title_case(&tidy), "Names begin with capital letters.")
    } else {
        (tidy, "There are spaces too many.")
    };
    let fits = better.chars().count() <= limits::NAME_MAX_CHARS;
    suggest(ProfileField::Name, current, Some(better).filter(|_| fits)?, reason, 0.8)
}

fn phone(current: &str) -> Option<FieldSuggestion> {
    let digits = current.chars().filter(char::is_ascii_digit).count();
    let trimmed = current.trim();
    let only_suggest = |reason: &str| {
        let (field, reason) = (ProfileField::Phone, reason.to_owned());
        let current = Some(current.to_owned());
        Some(FieldSuggestion { field, current, suggestion: None, reason, confidence_score: 0.6 })
    };
    if digits < PHONE_DIGITS_MIN {
        return only_suggest("This does not look like a whole phone number.");
    }
    // ITU-T E.123: a plus sign, the country code, and spaces between the groups.
    let international = trimmed.strip_prefix("00").map(|rest| format!("+{rest}"));
    let Some(number) = international.or_else(|| trimmed.starts_with('+').then(|| trimmed.to_owned())) else {
        return only_suggest("Begin with the country code, such as +351, so that members abroad can call you.");
    };
    let groups = number.replace(|c: char| !c.is_ascii_digit() && c != '+', " ");
    suggest(ProfileField::Phone, current, tidy_spaces(&groups), "This is how numbers are written internationally.", 0.7)
}

/// A suggestion, if it differs.
fn suggest(
    field: ProfileField,
    current: &str,
    better: String,
    reason: &str,
    confidence_score: f64,
) -> Option<FieldSuggestion> {
    let (suggestion, reason) = (Some(better), reason.to_owned());
    let current = Some(current.to_owned());
    (suggestion != current).then_some(FieldSuggestion { field, current, suggestion, reason, confidence_score })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cased_and_good_ones_left_alone() {
        let better = |current: &str| name(current).and_then(|suggestion| suggestion.suggestion);
        assert_eq!(better("ana de lima").as_deref(), Some("Ana de Lima"));
        assert_eq!(better("ANABELA LIMA").as_deref(), Some("Anabela Lima"));
        assert_eq!(better("Ana  Lima").as_deref(), Some("Ana Lima"));
        assert_eq!(better("Ana Lima"), None);
        assert_eq!(better("bell hooks III"), None);
    }

    #[test]
    fn phone_numbers_are_international() {
        let better = |current: &str| phone(current).map(|suggestion| suggestion.suggestion);
        assert_eq!(better("+351 912 345 678"), None);
        assert_eq!(better("00351-912-345-678"), Some(Some("+351 912 345 678".to_owned())));
        assert_eq!(better("+351 (912) 345.678"), Some(Some("+351 912 345 678".to_owned())));
        assert_eq!(better("912 345 678"), Some(None), "only the member knows the country");
        assert_eq!(better("1234"), Some(None));
    }
}
