//! Who is in a demo club. Nobody of them exists.

use protocol::model::Tier;

use crate::text;

/// Somebody of the demo club.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) first: &'static str,
    pub(super) last: &'static str,
    pub(super) company: Option<&'static str>,
    pub(super) position: Option<&'static str>,
    pub(super) tier: Tier,
    number: usize,
}

type Row = (&'static str, &'static str, &'static str, &'static str);

/// First name, last name, company, position; empty where they say nothing.
const PEOPLE: [Row; 36] = [
    ("Inês", "Vasconcelos", "Members Book", "Club manager"),
    ("João", "Sá-Carneiro", "Atlântico Capital", "Partner"),
    ("Zoë", "Ångström", "Norrsken Energi", "Head of research"),
    ("Nguyễn", "Minh Anh", "Lotus Logistics", "Founder"),
    ("Chloé", "Lefèvre", "Maison Lefèvre", "Creative director"),
    ("Łukasz", "Wójcik", "Bursztyn Software", "Chief technology officer"),
    ("Amara", "Okonkwo", "Okonkwo & Daughters", "Managing director"),
    ("Jürgen", "Müller-Weiß", "Müller Präzision", "Owner"),
    ("María José", "Núñez", "Viñedos Núñez", "Winemaker"),
    ("Søren", "Kjærgaard", "Havn Architects", "Architect"),
    ("Priya", "Raghunathan", "Indus Health", "Surgeon"),
    ("Yūki", "Tanaka", "Tanaka Keramik", "Ceramist"),
    ("Ayşe", "Yılmaz", "Boğaz Films", "Producer"),
    ("Dmytro", "Kovalenko", "Kovalenko Aero", "Engineer"),
    ("Siobhán", "Ó Súilleabháin", "Dublin Law Chambers", "Barrister"),
    ("Leilani", "Kahananui", "Pacific Reef Trust", "Marine biologist"),
    ("Þórdís", "Guðmundsdóttir", "Aurora Geothermal", "Geologist"),
    ("Mehdi", "Benali", "Atlas Solar", "Founder"),
    ("Ștefan", "Ionescu", "Ionescu Instruments", "Violin maker"),
    ("Thandiwe", "Dlamini", "Ubuntu Ventures", "Investor"),
    ("Matěj", "Dvořák", "Dvořák Quartet", "Cellist"),
    ("Camila", "Gutiérrez", "Andes Coffee", "Buyer"),
    ("Wei", "Zhang", "Jade River Fund", "Analyst"),
    ("Elif", "Demir", "", "Translator"),
    ("Oliver", "Whitcombe", "Whitcombe Books", "Bookseller"),
    ("Hana", "Horáková", "Moravia Glass", "Designer"),
    ("Kwame", "Asante", "Gold Coast Foods", "Chef"),
    ("Giulia", "D'Angelo", "Studio D'Angelo", "Restorer"),
    ("Noa", "Ben-David", "Carmel Robotics", "Chief executive"),
    ("Márton", "Szőke", "", ""),
    ("Aroha", "Ngāta", "Kauri Partners", "Adviser"),
    ("Émile", "Tremblay", "Tremblay Maritime", "Captain"),
    ("Fatou", "Diallo", "Teranga Press", "Editor"),
    ("Kristjan", "Tamm", "Tamm Digital", "Security consultant"),
    ("Ana", "Živković", "Adria Hotels", "Director"),
    ("Rafael", "Conceição", "Conceição Advogados", "Lawyer"),
];

/// The most people there are; from the 36th on, names of some are combined.
pub const MAX: u16 = 500;

impl Person {
    /// The person with this number. The first one runs the club, and the second one is whom a visitor looks at it as.
    pub(super) fn new(number: usize) -> Self {
        let (round, own) = (number / PEOPLE.len(), number % PEOPLE.len());
        // Never their own last name again: the step is less than there are, and not a multiple.
        let family = (own + 5 * round) % PEOPLE.len();
        let row = |index: usize| PEOPLE.get(index).copied().unwrap_or_default();
        let ((first, _, company, position), (_, last, _, _)) = (row(own), row(family));
        let said = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        let tier = match number % 5 {
            0 | 3 => Tier::Infinity,
            1 => Tier::Socio,
            _ => Tier::Disruption,
        };
        Self { first, last, company: said(company), position: said(position), tier, number }
    }

    /// Their name as it is shown.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.first, self.last)
    }

    /// Their address, which leads nowhere: the domain is reserved (RFC 2606).
    pub(super) fn email(&self) -> String {
        let mut local = ascii(self.first) + "." + &ascii(self.last);
        if self.number >= PEOPLE.len() {
            local = format!("{local}.{}", self.number);
        }
        local + DOMAIN
    }

    /// Their phone number, of those that are set aside for stories.
    pub(super) fn phone(&self) -> Option<String> {
        (self.number % 3 != 2).then(|| format!("+44 20 7946 0{:03}", self.number))
    }
}

/// The end of every address in a demo club.
pub(super) const DOMAIN: &str = "@demo.example";

/// A name as a part of an address.
fn ascii(name: &str) -> String {
    let mut plain = String::new();
    for letter in text::fold(name).chars() {
        match letter {
            'a'..='z' | '0'..='9' | '-' => plain.push(letter),
            'ł' => plain.push('l'),
            'ø' => plain.push('o'),
            'ı' => plain.push('i'),
            'đ' | 'ð' => plain.push('d'),
            'æ' => plain.push_str("ae"),
            'ß' => plain.push_str("ss"),
            'þ' => plain.push_str("th"),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::rest::RegisterRequest;
    use serde_json::json;

    use super::*;

    #[test]
    fn everybody_could_register_and_nobody_is_there_twice() {
        let people: Vec<Person> = (0..usize::from(MAX)).map(Person::new).collect();
        for person in &people {
            let body = json!({ "name": person.name(), "email": person.email(), "password": "correct horse" });
            let request = protocol::parse_body::<RegisterRequest>(body);
            assert!(request.is_ok(), "{person:?}: {:?}", request.err());
            assert!(person.email().is_ascii(), "{}", person.email());
            assert!(person.phone().is_none_or(|phone| phone.len() <= 32));
        }
        let distinct = |of: fn(&Person) -> String| people.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(Person::email), people.len());
        assert!(distinct(Person::name) > people.len() * 9 / 10);
        assert_eq!(Person::new(5).email(), "lukasz.wojcik@demo.example");
        assert_eq!(Person::new(16).email(), "thordis.gudmundsdottir@demo.example");
    }
}
