//! Who it says it is from: brands, our own people, roles, names made by chance.

use std::borrow::Cow;

use memchr::memmem;

use crate::analysis::Code;
use crate::analysis::brands::{BRANDS, BrandSet};
use crate::analysis::hosts;
use crate::analysis::names::{Spoken, has_word, spoken};
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::{Address, registrable_domain};

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let folded = folded(&view.display);
    let named = spoken(&folded);
    brands(view, &named, out);
    own(view, out);
    // Roles and organisations stand as they are written: no letters of other scripts.
    match folded {
        Cow::Borrowed(_) => display(view, &named, out),
        Cow::Owned(_) => display(view, &spoken(&view.display), out),
    }
    address(view, out);
}

/// A brand in the name, subject or text, from elsewhere. Mail of the brand itself, and answers that quote, say nothing.
fn brands(view: &View<'_>, display: &Spoken, out: &mut Signals) {
    if view.from_domain.is_empty() || view.is_own() {
        return;
    }
    let ours = view.from_owners;
    if let Some(place) = ours.first() {
        // The brand's own address: only whether that is proved matters. Mailboxes that anybody gets are no brand's word.
        let (brand, free) = (&BRANDS[place], hosts::is_free_mail(view.from_host));
        if view.proved == Some(false) && !free {
            out.add(Code::BrandSpoofed, 1.0, format!("{} claims {}", view.from_host, brand.name()));
        }
        if !free {
            return;
        }
        if display.in_name().contains(place) {
            out.add(Code::BrandDisplay, 0.5, format!("{} from {}", brand.name(), view.from_host));
        }
    }
    // All links lead to the brand's own pages: a partner writes about it, there is nothing to steal.
    let others = BrandSet::all().without(ours).without(view.owners_of_all_links());
    if let Some(place) = display.in_name().and(others).first() {
        // A person's address in the name of a company is common ("Ann at Google"): a person's name is long.
        let long = folded(&view.display).split_whitespace().count() > 4;
        let evidence = format!("{} from {}", BRANDS[place].name(), view.from_host);
        out.add(Code::BrandDisplay, if long { 0.6 } else { 1.0 }, evidence);
    }
    if view.is_reply() {
        return;
    }
    if let Some(place) = spoken(&folded(&view.subject_lower)).in_text().and(others).first() {
        out.add(Code::BrandSubject, 1.0, format!("{} from {}", BRANDS[place].name(), view.from_host));
    }
    body(view, out, others);
}

/// The text speaks for one brand while neither sender nor links are the brand's, and it asks for something.
fn body(view: &View<'_>, out: &mut Signals, others: BrandSet) {
    let asks = [Code::CredentialWords, Code::ParcelWords, Code::PaymentWords, Code::MailboxWords, Code::PrizeWords];
    if view.links.is_empty() || asks.iter().all(|code| view.phrases(*code) == 0) || view.text.len() > 12_000 {
        return;
    }
    let named: Vec<usize> = spoken(&view.text).in_text().and(others).places().take(4).collect();
    let foreign = |place| view.hosts.iter().all(|host| !host.owners.contains(place));
    if let [place] | [place, _] = *named.as_slice()
        && foreign(place)
    {
        out.add(Code::BrandBody, if named.len() == 1 { 1.0 } else { 0.5 }, BRANDS[place].name());
    }
}

/// Letters made to look like others are read as those.
fn folded(text: &str) -> Cow<'_, str> {
    use unicode_normalization::UnicodeNormalization;
    if text.is_ascii() {
        return text.into();
    }
    text.nfkc()
        .filter(|c| !('\u{200b}'..='\u{200f}').contains(c))
        .map(|c| match c {
            'а' => 'a',
            'е' => 'e',
            'о' => 'o',
            'р' => 'p',
            'с' => 'c',
            'у' => 'y',
            'х' => 'x',
            'і' => 'i',
            'ո' => 'n',
            'ɑ' | 'α' => 'a',
            'ο' => 'o',
            'ı' => 'i',
            other => other,
        })
        .collect::<String>()
        .to_lowercase()
        .into()
}

fn own(view: &View<'_>, out: &mut Signals) {
    let site = view.input.site;
    let outside = view.input.connection.login.is_none();
    if view.is_own() {
        if outside && view.proved == Some(false) {
            out.add(Code::OwnDomainSpoof, 1.0, view.from_host);
        }
        return;
    }
    let is_theirs = |vip: &crate::analysis::Vip| vip.address.as_ref().is_some_and(|a| Some(a) == view.from);
    if let Some(vip) = site.vips.iter().find(|v| same_name(&v.name, &view.display) && !is_theirs(v)) {
        out.add(Code::VipName, 1.0, format!("{} from {}", vip.name, view.from_host));
    }
    let local_names = |domain: &str| domain.split('.').next().filter(|l| l.len() >= 4).map(str::to_owned);
    let ours: Vec<String> =
        site.own_domains.iter().cloned().chain(view.recipients.iter().map(|r| r.domain.clone())).collect();
    let names_us = |own: &String| {
        own.as_str() != view.from_host
            && !hosts::is_free_mail(own)
            && registrable_domain(own) != registrable_domain(view.from_host)
            && (has_word(&view.display, own) || local_names(own).is_some_and(|name| view.display == name))
    };
    if let Some(own) = ours.iter().find(|own| names_us(own)) {
        out.add(Code::OwnNameDisplay, 1.0, own);
    }
}

/// The same words in any order.
fn same_name(a: &str, b: &str) -> bool {
    let words = |text: &str| {
        let mut list: Vec<String> = text.split([' ', ',', '.']).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        list.sort();
        list
    };
    let (a, b) = (words(a), words(b));
    !a.is_empty() && a == b
}

fn display(view: &View<'_>, named: &Spoken, out: &mut Signals) {
    let display = view.display.as_str();
    // An address in the name, of another organisation than the address behind it.
    let mut words = display.split(|c: char| c.is_whitespace() || "<>()[]\"',;".contains(c));
    if let Some(shown) = words.find_map(|word| word.contains('@').then(|| Address::parse(word)).flatten()) {
        let foreign = registrable_domain(&shown.domain).is_some_and(|d| d != view.from_domain);
        let recipient = view.recipients.contains(&shown);
        if foreign && !view.from_domain.is_empty() {
            out.add(
                Code::DisplayAddress,
                if recipient { 1.0 } else { 0.8 },
                format!("{shown} from {}", view.from_host),
            );
        }
    }
    let inside = view.is_own();
    if !inside && !display.is_empty() && named.role() {
        let strength = if hosts::is_free_mail(view.from_domain) { 1.0 } else { 0.6 };
        out.add(Code::RoleDisplay, strength, display);
    }
    if let Some(word) = named.organisation().filter(|_| hosts::is_free_mail(view.from_host)) {
        out.add(Code::OrganisationFreemail, 1.0, format!("{word} from {}", view.from_host));
    }
    if let Some(odd) = odd_word(view.sender.map_or("", |m| m.display.as_str())) {
        out.add(Code::DisplayOddScript, 1.0, odd);
    }
    if let Some(odd) = odd_word(&view.subject) {
        out.add(Code::OddScriptText, 1.0, odd);
    }
}

/// A word that mixes Latin with Cyrillic or Greek, or is written in mathematical or enclosed letters.
pub(super) fn odd_word(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let between = |c: char| c.is_whitespace() || matches!(c, '-' | '/' | '|' | ',' | ';' | ':' | '.' | '(' | ')');
    text.split(between).find(|word| is_odd(word)).map(str::to_owned)
}

fn is_odd(word: &str) -> bool {
    if word.is_ascii() {
        return false;
    }
    let latin = word.chars().any(|c| c.is_ascii_alphabetic());
    let other =
        word.chars().any(|c| matches!(c, '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{52f}' | '\u{531}'..='\u{58f}'));
    let fancy = word
        .chars()
        .filter(|c| matches!(c, '\u{1d400}'..='\u{1d7ff}' | '\u{1f130}'..='\u{1f189}' | '\u{24b6}'..='\u{24e9}'));
    // `µm`, `Ωs`: one Greek letter beside a unit is ordinary.
    let mixed = latin && other && word.chars().filter(|c| c.is_alphabetic()).count() > 3;
    mixed || fancy.count() >= 3
}

fn address(view: &View<'_>, out: &mut Signals) {
    let Some(from) = view.from else { return };
    let label = view.from_domain.split('.').next().unwrap_or_default();
    if hosts::looks_random(&from.local) || hosts::looks_random(label) {
        out.add(Code::RandomSender, if hosts::looks_random(label) { 1.0 } else { 0.7 }, from.to_string());
    }
    if view.display.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 9) {
        out.add(Code::RandomSender, 1.0, &view.display);
    }
    let last = view.subject.split([' ', '-', '_', '#', ':', '[', ']']).rfind(|w| !w.is_empty()).unwrap_or_default();
    if !view.is_reply() && is_tag(last) {
        out.add(Code::RandomSubject, 1.0, last);
    }
    if hosts::is_risky_suffix(view.from_host) {
        out.add(Code::SenderRiskyTld, 1.0, view.from_host);
    }
    if hosts::is_free_hosting(view.from_host) && !view.from_host.ends_with("sharepoint.com") {
        out.add(Code::SenderFreeHosting, 1.0, view.from_host);
    }
    as_name(view, out);
    let to_self = view.recipients.iter().any(|r| r == from);
    if to_self && view.input.connection.login.is_none() && view.proved == Some(false) {
        out.add(Code::FromIsRecipient, 1.0, from.to_string());
    }
}

/// Capital and small letters and digits in one word of eight or more: no word, and no number that people give.
fn is_tag(word: &str) -> bool {
    let any = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    let kinds = any(u8::is_ascii_lowercase) && any(|b| b.is_ascii_uppercase()) && any(u8::is_ascii_digit);
    (8..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric()) && kinds
}

/// "user@example.org, you have won", "Dear user@example.org": whoever writes knows nothing but the address.
fn as_name(view: &View<'_>, out: &mut Signals) {
    const GREETINGS: &[&str] =
        &["dear", "hello", "hi", "hallo", "hey", "bonjour", "hola", "olá", "ciao", "beste", "attn", "guten tag"];
    if view.is_reply() {
        return;
    }
    for address in view.recipients.iter().take(5).map(|r| r.to_string().to_lowercase()) {
        if view.subject_lower.contains(&address) {
            out.add(Code::RecipientAsName, 1.0, "in the subject");
        } else if memmem::find_iter(view.text.as_bytes(), &address).take(20).any(|at| {
            let before = view.text[..at].trim_end_matches([' ', ',', ':', '.', '<', '(']);
            GREETINGS.iter().any(|g| before.ends_with(g))
        }) {
            out.add(Code::RecipientAsName, 0.8, "in the greeting");
        }
    }
}
