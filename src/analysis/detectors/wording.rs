//! What it says: subjects of wording by the number of different phrases, and a few patterns.

use crate::analysis::Code;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;

/// Subject, phrases for full strength, and whether it needs something to click, call or answer to mean anything.
const SUBJECTS: &[(Code, usize, Needs)] = &[
    (Code::CredentialWords, 2, Needs::Way),
    (Code::MailboxWords, 2, Needs::Way),
    (Code::UrgencyWords, 3, Needs::Nothing),
    (Code::ParcelWords, 3, Needs::Way),
    (Code::PaymentWords, 3, Needs::Nothing),
    (Code::FortuneWords, 3, Needs::Nothing),
    (Code::PrizeWords, 2, Needs::Nothing),
    (Code::ExtortionWords, 3, Needs::Nothing),
    (Code::CryptoWords, 2, Needs::Nothing),
    (Code::GiftCardWords, 2, Needs::Nothing),
    (Code::OfferWords, 3, Needs::Nothing),
];

#[derive(PartialEq)]
enum Needs {
    Nothing,
    Way,
}

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    // In an answer the words are mostly somebody else's.
    let damp = if view.is_reply() { 0.3 } else { 1.0 };
    // A long text holds phrases of every kind.
    let damp = if view.text.len() > 15_000 { damp * 0.5 } else { damp };
    let way = !view.links.is_empty() || !view.files.is_empty();
    for (code, full, needs) in SUBJECTS {
        let mut count = view.phrases(*code);
        // A sum of millions belongs to the tale; alone it is only a number.
        if *code == Code::FortuneWords && count > 0 && has_fortune(&view.text) {
            count += 1;
        }
        if count == 0 || (*needs == Needs::Way && !way) {
            continue;
        }
        out.add(*code, damp * (count as f32 / *full as f32).min(1.0), format!("{count} phrases"));
    }
    if view.phrases(Code::ExtortionWords) > 0 && has_coin_address(&view.text) {
        out.add(Code::ExtortionWords, damp, "with an address for coins");
    }
    let count = view.phrases(Code::CallbackWords);
    if count > 0 && has_phone(&view.text) {
        out.add(Code::CallbackWords, damp * (count as f32 / 2.0).min(1.0), format!("{count} phrases and a number"));
    }
}

/// A Bitcoin address by its shape: 26 to 62 letters and digits behind `1`, `3` or `bc1`.
fn has_coin_address(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        let shape = (26..=62).contains(&word.len()) && (word.starts_with("bc1") || word.starts_with(['1', '3']));
        shape && word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().filter(u8::is_ascii_alphabetic).count() > 6
    })
}

/// Seven digits or more in groups of three, beside a currency: `$ 3,500,000.00`.
fn has_fortune(text: &str) -> bool {
    let money = ["$", "usd", "€", "eur", "£", "gbp", "dollar", "million"].iter().any(|word| text.contains(word));
    money
        && text.split([' ', '$', '€', '£']).any(|word| {
            let groups: Vec<&str> =
                word.split([',', '.']).take_while(|g| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit())).collect();
            groups.len() >= 3 && groups[0].len() <= 3 && groups[1..3].iter().all(|g| g.len() == 3)
        })
}

/// A telephone number as North America writes it, which is where these letters come from: `+1 (800) 555-0100`.
fn has_phone(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_digit() || bytes[at] == b'+' || bytes[at] == b'(') {
            at += 1;
            continue;
        }
        let rest = &bytes[at..bytes.len().min(at + 24)];
        let run = rest.iter().take_while(|b| b.is_ascii_digit() || b"+()-. ".contains(b)).count();
        let digits = rest[..run].iter().filter(|b| b.is_ascii_digit()).count();
        // Groups of three or more: a date and a time are groups of two.
        let groups = rest[..run].split(|b| !b.is_ascii_digit()).filter(|g| !g.is_empty());
        let grouped = groups.clone().count() >= 3 && groups.clone().filter(|g| g.len() >= 3).count() >= 3;
        if (10..=11).contains(&digits) && (grouped || rest[0] == b'+') {
            return true;
        }
        at += run.max(1);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(has_phone("call +1 (800) 555-0100 now") && has_phone("800-555-0100") && !has_phone("order 12345678"));
        assert!(!has_phone("2024-03-01 10:00") && !has_phone("1234567890"));
        assert!(has_coin_address("send to bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh."));
        assert!(
            has_coin_address("1a1zp1ep5qgefi2dmptftl5slmv7divfna")
                && !has_coin_address("123456789012345678901234567890")
        );
    }
}
