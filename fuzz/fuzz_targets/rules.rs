//! Messages from strangers under our own rules: no panic, and the engine agrees with the naive walk.
#![no_main]

use std::sync::{Arc, LazyLock};

use mailweir::analysis::{Facts, Site, Why};
use mailweir::content::ContentLimits;
use mailweir::mail::Message;
use mailweir::policy::mql::{Budget, Outcome, View};
use mailweir::policy::{BUILT_IN_RULES, Feed, Lists, RuleFile, RuleModes, RuleSet, RuleWeights};

static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let feed = Arc::new(Feed::imported("fuzz", ""));
    let files = BUILT_IN_RULES.iter().filter_map(|(name, text)| RuleFile::parse(name, text).ok());
    let files = files.map(|file| (feed.clone(), file)).collect();
    RuleSet::build(files, Arc::new(Lists::default()), &RuleModes::default(), &RuleWeights::default()).0
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let message = Message::parse(data.to_vec().into(), &Default::default());
    let (facts, site, content) = (Facts::unknown(Why::Disabled), Site::default(), ContentLimits::default());
    let view = View { message: &message, envelope: None, connection: None, facts: &facts, site: &site, content: &content, now: 0 };
    let engine = RULES.engine();
    let found = engine.run(view, Budget::default(), &|| false);
    let walked = engine.run_naive(view, Budget::default());
    for (place, (a, b)) in found.outcomes.iter().zip(&walked.outcomes).enumerate() {
        let agree = a == b || matches!((a, b), (Outcome::Undecided(_) | Outcome::NoMatch, Outcome::Undecided(_)) | (Outcome::Undecided(_), Outcome::NoMatch));
        assert!(agree, "{}: {a:?}, walked {b:?}", engine.programs()[place].source());
    }
});
