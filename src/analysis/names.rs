//! Names and words that a text speaks for: brands, roles, organisations. All in one pass (Aho–Corasick).
//!
//! A name counts with no letter or digit on either side. The text comes in lower case; where letters of other scripts
//! must be read as Latin, the caller folds them before.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::brands::{BRANDS, BrandSet};

/// Words of service beside which an ordinary word is a brand.
const SERVICE: &[&str] = &[
    "support",
    "team",
    "service",
    "services",
    "security",
    "account",
    "accounts",
    "alert",
    "alerts",
    "bank",
    "online",
    "delivery",
    "notification",
    "notifications",
    "rewards",
    "customer",
    "care",
    "billing",
    "id",
    "center",
    "help",
    "card",
    "update",
    "verification",
    "kundenservice",
    "sicherheit",
    "express",
    "store",
    "shipment",
    "tracking",
    "mail",
    "wallet",
];

/// Service desks and mail systems.
const ROLES: &[&str] = &[
    "administrator",
    "admin",
    "webmaster",
    "help desk",
    "helpdesk",
    "it support",
    "it department",
    "it-support",
    "mail support",
    "email support",
    "mail admin",
    "webmail",
    "mail server",
    "mailserver",
    "server admin",
    "mail delivery",
    "email administrator",
    "mailbox",
    "postmaster",
    "security team",
    "account team",
    "support team",
    "notification",
    "notifications",
    "voicemail",
    "hr department",
    "human resources",
    "payroll",
    "email security",
    "mail security",
    "quarantine",
    "storage",
    "cloud storage",
    "system administrator",
    "customer support",
    "customer service",
    "kundenservice",
    "kundendienst",
    "service client",
    "atendimento",
    "servicio al cliente",
    "delivery",
    "shipping",
    "rewards",
    "reward",
    "winner",
    "survey",
    "account services",
    "billing",
];

/// Who never writes from a free mailbox.
const ORGANISATIONS: &[&str] = &[
    "bank",
    "banco",
    "banque",
    "ministry",
    "federal",
    "united nations",
    "african union",
    "european union",
    "imf",
    "fbi",
    "interpol",
    "police",
    "court",
    "foundation",
    "lottery",
    "customs",
    "embassy",
    "government",
    "treasury",
    "corporation",
    "insurance",
    "department",
    "compensation",
    "inspector",
    "director general",
    "attorney",
    "solicitor",
    "barrister",
    "receita",
    "consulate",
    "world health",
];

/// What a word means; one word may mean several things.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// A brand.
    Brand(usize),
    /// A brand, and a word of every day.
    Ordinary(usize),
    Service,
    Role,
    Organisation(usize),
}

static MATCHER: LazyLock<Option<(AhoCorasick, Vec<Vec<Meaning>>)>> = LazyLock::new(|| {
    let mut words: BTreeMap<&str, Vec<Meaning>> = BTreeMap::new();
    for (place, brand) in BRANDS.iter().enumerate() {
        for name in brand.names {
            match name.strip_prefix('~') {
                Some(word) => words.entry(word).or_default().push(Meaning::Ordinary(place)),
                None => words.entry(name).or_default().push(Meaning::Brand(place)),
            }
        }
    }
    SERVICE.iter().for_each(|word| words.entry(word).or_default().push(Meaning::Service));
    ROLES.iter().for_each(|word| words.entry(word).or_default().push(Meaning::Role));
    for (place, word) in ORGANISATIONS.iter().enumerate() {
        words.entry(word).or_default().push(Meaning::Organisation(place));
    }
    let matcher = AhoCorasick::new(words.keys()).ok()?;
    Some((matcher, words.into_values().collect()))
});

/// What a text speaks for.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    brands: BrandSet,
    running: BrandSet,
    ordinary: BrandSet,
    alone: BrandSet,
    service: bool,
    role: bool,
    organisation: Option<usize>,
}

impl Spoken {
    /// Brands, when the text is a name: an ordinary word counts alone or beside a word of service.
    pub(super) fn in_name(&self) -> BrandSet {
        let sure = self.brands.or(self.alone);
        if self.service { sure.or(self.ordinary) } else { sure }
    }

    /// Brands, when it is running text: ordinary words and names of two letters do not count.
    pub(super) fn in_text(&self) -> BrandSet {
        self.running
    }

    /// Whether a service desk's or mail system's name is in it.
    pub(super) fn role(&self) -> bool {
        self.role
    }

    /// The authority, bank or firm in it; the first of our list.
    pub(super) fn organisation(&self) -> Option<&'static str> {
        self.organisation.map(|place| ORGANISATIONS[place])
    }
}

/// Reads a text in lower case.
pub(super) fn spoken(text: &str) -> Spoken {
    let mut found = Spoken::default();
    let Some((matcher, meanings)) = &*MATCHER else { return found };
    for place in matcher.find_overlapping_iter(text) {
        let (start, end) = (place.start(), place.end());
        if !stands_alone(text, start, end) {
            continue;
        }
        for meaning in &meanings[place.pattern().as_usize()] {
            match *meaning {
                Meaning::Brand(brand) => {
                    found.brands.insert(brand);
                    if end - start > 2 {
                        found.running.insert(brand);
                    }
                }
                Meaning::Ordinary(brand) => {
                    found.ordinary.insert(brand);
                    if end - start == text.len() {
                        found.alone.insert(brand);
                    }
                }
                Meaning::Service => found.service = true,
                Meaning::Role => found.role = true,
                Meaning::Organisation(at) => {
                    found.organisation = Some(found.organisation.map_or(at, |known| known.min(at)));
                }
            }
        }
    }
    found
}

/// Whether the word (or words) stands in the text with no letter or digit on either side.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| stands_alone(text, at, at + word.len()))
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let (before, after) = (text[..start].chars().next_back(), text[end..].chars().next());
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, text: &str) -> bool {
        spoken(text).in_name().contains(BRANDS.iter().position(|b| b.name() == name).unwrap())
    }

    #[test]
    fn brands_in_names() {
        assert!(named("paypal", "paypal service") && !named("paypal", "paypalooza") && !named("paypal", "épaypal"));
        assert!(named("chase", "chase alerts") && named("chase", "chase"));
        assert!(!named("chase", "chase miller") && !named("chase", "chase purchase-cards"));
        assert!(spoken("visa card").in_text().is_empty() && spoken("paypal").in_text().first().is_some());
        assert!(spoken("").in_name().is_empty());
    }

    #[test]
    fn roles_and_organisations() {
        assert!(spoken("the it-support").role() && !spoken("bit-supporter").role());
        // "delivery" is a role and a word of service.
        assert!(spoken("ups delivery").role() && named("ups", "ups delivery"));
        assert_eq!(spoken("treasury of the bank").organisation(), Some("bank"));
        assert_eq!(spoken("banker").organisation(), None);
    }

    #[test]
    fn one_pass_finds_what_each_word_finds() {
        let text =
            "american express la poste swiss post, la posta; disney+ at&t! dick's sporting goods crédit agricole itaú";
        for (place, brand) in BRANDS.iter().enumerate() {
            let strong = brand.names.iter().any(|name| !name.starts_with('~') && has_word(text, name));
            assert_eq!(spoken(text).brands.contains(place), strong, "{}", brand.name());
        }
        assert!(spoken(text).brands.places().count() >= 8);
    }
}
