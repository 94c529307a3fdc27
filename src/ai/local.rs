//! The engine that is always there: rules that rank, and say why.

use async_trait::async_trait;
use protocol::{
    limits,
    rest::ai::{AdviceSource, ProfileField, Reason, ReasonKind},
};

use super::{
    Candidate, Circle, Engine, Person, Suggestion, Trouble, Wording, profile, rounded,
    words::{all_capitals, all_small, capitalised, likeness, tidy_spaces, title_case},
};

/// What each likeness adds to the score. Together 1.
const COMPANY: f64 = 0.40;
const POSITION: f64 = 0.25;
const CONTACTS: f64 = 0.15;
const TIER: f64 = 0.10;
/// For those who can be got to know from their profile.
const PROFILE: f64 = 0.10;

/// From so many contacts in common on they are mentioned. With one, its name would be told.
const CONTACTS_TOLD: u32 = 2;
/// So many contacts in common are as good as more.
const CONTACTS_ENOUGH: u32 = 5;

/// The engine of rules. The same circle gives the same answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Local {
    /// Every candidate that there is a reason to meet, the best first. Equal ones in the order of their ids.
    #[must_use]
    pub fn rank(self, circle: &Circle) -> Vec<Suggestion> {
        let mut ranking: Vec<Suggestion> =
            circle.candidates.iter().filter_map(|candidate| suggestion(&circle.own, candidate)).collect();
        ranking.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.member.cmp(&b.member)));
        ranking
    }

    /// What rules can say about company and position.
    #[must_use]
    pub fn wordings(self, own: &Person) -> Vec<Wording> {
        let company = company(own.company.as_deref());
        company.into_iter().chain(position(own.position.as_deref())).collect()
    }
}

#[async_trait]
impl Engine for Local {
    fn source(&self) -> AdviceSource {
        AdviceSource::Local
    }

    async fn recommend(&self, circle: &Circle) -> Result<Vec<Suggestion>, Trouble> {
        Ok(self.rank(circle))
    }

    async fn optimize(&self, own: &Person) -> Result<Vec<Wording>, Trouble> {
        Ok(self.wordings(own))
    }
}

/// What speaks for a candidate; nothing if nothing does.
fn suggestion(own: &Person, candidate: &Candidate) -> Option<Suggestion> {
    let Candidate { person, contacts_in_common } = candidate;
    let company = likeness(own.company.as_deref(), person.company.as_deref());
    let position = likeness(own.position.as_deref(), person.position.as_deref());
    let tier = if own.tier == person.tier { 1.0 } else { 0.0 };
    let told = if *contacts_in_common >= CONTACTS_TOLD { *contacts_in_common.min(&CONTACTS_ENOUGH) } else { 0 };
    let contacts = f64::from(told) / f64::from(CONTACTS_ENOUGH);
    let mut parts = [
        (COMPANY * company, ReasonKind::Company),
        (POSITION * position, ReasonKind::Position),
        (CONTACTS * contacts, ReasonKind::Contacts),
        (TIER * tier, ReasonKind::Tier),
    ];
    // The sort is stable: equal ones stay in this order.
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let reasons: Vec<Reason> = parts
        .iter()
        .filter(|(weight, _)| *weight > 0.0)
        .map(|(_, kind)| Reason { kind: *kind, text: in_words(*kind, person, company, position) })
        .collect();
    if reasons.is_empty() {
        return None;
    }
    let score = parts.iter().map(|(weight, _)| weight).sum::<f64>() + PROFILE * presentation(person);
    Some(Suggestion { member: person.id, reasons, confidence: rounded(score) })
}

fn in_words(kind: ReasonKind, person: &Person, company: f64, position: f64) -> String {
    let of = |text: &Option<String>| text.as_deref().map(tidy_spaces).unwrap_or_default();
    match kind {
        ReasonKind::Company if company >= 1.0 => format!("You both work at {}.", of(&person.company)),
        ReasonKind::Company => format!("Your companies have similar names; theirs is {}.", of(&person.company)),
        ReasonKind::Position if position >= 1.0 => format!("You have the same position: {}.", of(&person.position)),
        ReasonKind::Position => format!("Your positions are alike; theirs is {}.", of(&person.position)),
        ReasonKind::Tier => format!("You are both in the tier {}.", person.tier.as_str()),
        ReasonKind::Contacts => "You talk to some of the same members.".to_owned(),
        ReasonKind::Service => String::new(),
    }
}

/// How much of a person's profile is there to be seen, 0 to 1.
fn presentation(person: &Person) -> f64 {
    let filled = [person.company.is_some(), person.position.is_some(), person.has_picture];
    f64::from(filled.map(u8::from).iter().sum::<u8>()) / 3.0
}

fn company(company: Option<&str>) -> Option<Wording> {
    let Some(current) = company else { return Some(missing(ProfileField::Company)) };
    if all_capitals(current) {
        return better(
            ProfileField::Company,
            current,
            title_case(current),
            "Capitals throughout are hard to read.",
            0.4,
        );
    }
    better(ProfileField::Company, current, tidy_spaces(current), "There are spaces too many.", 0.9)
}

fn position(position: Option<&str>) -> Option<Wording> {
    let Some(current) = position else { return Some(missing(ProfileField::Position)) };
    let tidy = tidy_spaces(current);
    if all_capitals(current) {
        return better(
            ProfileField::Position,
            current,
            title_case(&tidy),
            "Capitals throughout are hard to read.",
            0.6,
        );
    }
    if all_small(current) {
        let reason = "A position begins with a capital letter.";
        return better(ProfileField::Position, current, capitalised(&tidy), reason, 0.6);
    }
    better(ProfileField::Position, current, tidy, "There are spaces too many.", 0.9)
}

/// A wording, if it differs and is valid for the field.
fn better(field: ProfileField, current: &str, suggestion: String, reason: &str, confidence: f64) -> Option<Wording> {
    let fits = (1..=limits::CONTACT_MAX_CHARS).contains(&suggestion.chars().count());
    let wording = Wording { field, suggestion: Some(suggestion), reason: reason.to_owned(), confidence };
    (fits && wording.suggestion.as_deref() != Some(current)).then_some(wording)
}

fn missing(field: ProfileField) -> Wording {
    let (text, confidence) = profile::why(field);
    Wording { field, suggestion: None, reason: text.to_owned(), confidence }
}

#[cfg(test)]
mod tests {
    use protocol::{MemberId, model::Tier};

    use super::*;

    fn person(id: u8, company: &str, position: &str, tier: Tier) -> Person {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let id = MemberId::from_bytes([id; 12]);
        Person { id, tier, company: some(company), position: some(position), has_picture: false }
    }

    fn candidate(id: u8, company: &str, position: &str, tier: Tier, contacts_in_common: u32) -> Candidate {
        Candidate { person: person(id, company, position, tier), contacts_in_common }
    }

    fn ranked(candidates: Vec<Candidate>) -> Vec<(u8, Vec<ReasonKind>)> {
        let own = person(0, "Acme Lda", "Software Engineer", Tier::Infinity);
        let ranking = Local.rank(&Circle { own, candidates });
        assert!(ranking.iter().all(|suggestion| (0.0..=1.0).contains(&suggestion.confidence)));
        let kinds = |suggestion: &Suggestion| suggestion.reasons.iter().map(|reason| reason.kind).collect();
        ranking.iter().map(|suggestion| (suggestion.member.as_bytes()[0], kinds(suggestion))).collect()
    }

    #[test]
    fn the_more_is_shared_the_better_and_every_reason_is_told() {
        use ReasonKind::{Company, Contacts, Position, Tier as SameTier};
        let ranking = ranked(vec![
            candidate(1, "Globex", "Lawyer", Tier::Infinity, 0),
            candidate(2, "ACME", "Sales", Tier::Disruption, 0),
            candidate(3, "Globex", "Engineer", Tier::Disruption, 0),
            candidate(4, "Acme", "Software engineer", Tier::Infinity, 9),
            candidate(5, "Globex", "Lawyer", Tier::Disruption, 3),
            candidate(6, "Globex", "Lawyer", Tier::Disruption, 0),
        ]);
        let expected = [
            (4, vec![Company, Position, Contacts, SameTier]),
            (2, vec![Company]),
            (3, vec![Position]),
            (1, vec![SameTier]),
            (5, vec![Contacts]),
        ];
        assert_eq!(ranking, expected);
    }

    #[test]
    fn one_contact_in_common_is_not_told() {
        assert!(ranked(vec![candidate(1, "Globex", "Lawyer", Tier::Socio, 1)]).is_empty());
    }

    #[test]
    fn equal_ones_are_in_the_order_of_their_ids_whatever_order_they_come_in() {
        let one = |id| candidate(id, "Acme", "", Tier::Socio, 0);
        let ids = |ranking: Vec<(u8, _)>| ranking.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(ranked(vec![one(3), one(1), one(2)])), [1, 2, 3]);
        assert_eq!(ids(ranked(vec![one(2), one(3), one(1)])), [1, 2, 3]);
    }

    #[test]
    fn a_fuller_profile_wins_among_equals() {
        let empty = candidate(1, "Acme", "", Tier::Socio, 0);
        let full = candidate(2, "Acme", "Lawyer", Tier::Socio, 0);
        assert_eq!(ranked(vec![empty, full]).first().unwrap().0, 2);
    }

    #[test]
    fn wordings_are_offered_only_where_something_is_wrong() {
        let wordings = |company: &str, position: &str| {
            let found = Local.wordings(&person(1, company, position, Tier::Socio));
            found.into_iter().map(|wording| (wording.field, wording.suggestion)).collect::<Vec<_>>()
        };
        assert_eq!(wordings("Acme", "Head of Sales"), []);
        assert_eq!(wordings("", ""), [(ProfileField::Company, None), (ProfileField::Position, None)]);
        let better = wordings(" Acme   Lda ", "head of  sales");
        let expected =
            [(ProfileField::Company, Some("Acme Lda".into())), (ProfileField::Position, Some("Head of sales".into()))];
        assert_eq!(better, expected);
        assert_eq!(wordings("IBM", "HEAD OF SALES"), [(ProfileField::Position, Some("Head of Sales".into()))]);
    }
}
