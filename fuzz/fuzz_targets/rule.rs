//! Rule text from strangers: read as a file and as a source, formatted, compiled, and run over a message.
#![no_main]

use std::sync::{Arc, LazyLock};

use mailweir::analysis::{Facts, Site, Why};
use mailweir::content::ContentLimits;
use mailweir::mail::Message;
use mailweir::policy::mql::{Budget, Builder, View, format, parse};
use mailweir::policy::{Lists, RuleFile};

static MESSAGE: LazyLock<Message> = LazyLock::new(|| {
    let raw: &[u8] = b"From: Ada <ada@sender.example>\r\nTo: bob@example.org\r\nSubject: Re: invoice\r\n\
        Content-Type: text/html\r\n\r\n<p id=x>Pay <a href=\"https://a.example/p?q=1\">here</a></p>\r\n";
    Message::parse(raw.into(), &Default::default())
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = RuleFile::parse("fuzz.yml", text);
    let Ok(tree) = parse(text) else { return };
    if let Ok(formatted) = format(text) {
        assert!(parse(&formatted).is_ok(), "{formatted}");
    }
    drop(tree);
    let mut builder = Builder::new(Arc::new(Lists::default()));
    if builder.rule(text).is_err() {
        return;
    }
    let engine = builder.build();
    let (facts, site, content) = (Facts::unknown(Why::Disabled), Site::default(), ContentLimits::default());
    let view = View { message: &MESSAGE, envelope: None, connection: None, facts: &facts, site: &site, content: &content, now: 0 };
    let budget = Budget {
        max_rule_steps: 200_000,
        max_message_steps: 200_000,
        max_value_bytes: 16 << 20,
        ..Budget::default()
    };
    engine.run(view, budget, &|| false);
    engine.explain(0, view, budget);
});
