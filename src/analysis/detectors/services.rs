//! What services found, as evidence. A service that could not be asked says nothing here; [`Code::ServiceUnknown`] is for rules.

use crate::analysis::signal::Signals;
use crate::analysis::{Code, ListingOf, ServiceFacts, UrlVerdict};

/// Whoever registered a domain for one wave of mail uses it within days.
const YOUNG_DAYS: u32 = 30;
/// Below this the text analyser sees nothing to speak of.
const TEXT_FLOOR: u8 = 50;

pub(super) fn detect(services: &ServiceFacts, out: &mut Signals) {
    for name in services.malware.known().into_iter().flatten() {
        out.add(Code::MalwareFound, 1.0, name);
    }
    for listing in services.lists.known().into_iter().flat_map(|lists| &lists.listings) {
        let code = match listing.of {
            ListingOf::Client => Code::ListedClient,
            ListingOf::Sender => Code::ListedSender,
            ListingOf::Link => Code::ListedLink,
        };
        out.add(code, share(listing.percent), format!("{} in {}: {}", listing.name, listing.zone, listing.meaning));
    }
    for reading in services.urls.known().into_iter().flatten() {
        let strength = match reading.verdict {
            UrlVerdict::Clean => continue,
            UrlVerdict::Suspicious => 0.3,
            UrlVerdict::Phishing | UrlVerdict::Malware => 1.0,
        };
        out.add(Code::UrlBad, strength * share(reading.percent), &reading.url);
    }
    if let Some(text) = services.text.known().filter(|text| text.percent >= TEXT_FLOOR) {
        out.add(Code::TextPhishing, share(text.percent), &text.intent);
    }
    let ages = services.domains.known().into_iter().flatten();
    for (age, days) in ages.filter_map(|age| Some((age, age.days.filter(|days| *days < YOUNG_DAYS)?))) {
        let code = if age.sender { Code::YoungSender } else { Code::YoungLink };
        // A week old tells the most; it fades to the half.
        let strength = if days < 7 { 1.0 } else { 0.5 };
        out.add(code, strength, format!("{} is {days} days old", age.domain));
    }
    for (what, why) in services.unknowns().filter(|(_, why)| why.is_failure()) {
        out.add(Code::ServiceUnknown, 1.0, [what, ": ", why.as_str()].concat());
    }
}

fn share(percent: u8) -> f32 {
    f32::from(percent.min(100)) / 100.0
}
