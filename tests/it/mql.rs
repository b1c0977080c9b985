//! The semantics of MQL, table by table, over a message of our own; the engine against its naive self.

use std::sync::Arc;

use mailweir::analysis::{Fact, Facts, History, Membership, Prevalence, Profile, Site, Why};
use mailweir::content::ContentLimits;
use mailweir::mail::{Message, MessageLimits};
use mailweir::policy::Lists;
use mailweir::policy::mql::{Budget, Builder, Capability, Needs, Outcome, View};

const MESSAGE: &str = "From: \"Ann Example\" <Ann@Mail.Example.co.uk>\r\nTo: Bob <bob@b.example>\r\nSubject: Re: [EXTERNAL] Your invoice\r\n\
    Message-ID: <1@mail.example.co.uk>\r\nReferences: <0@b.example>\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
    <p>Please pay the Invoice now.</p><a href=\"https://www.pay.example.com/a/b?x=1&amp;y=%20z#top\">Click here</a>\
    <a href=\"https://evil.example.net/\">https://good.example.org/</a>";

/// What becomes of a source over the message, with nothing known from outside.
fn outcome(source: &str) -> Outcome {
    outcome_with(source, &Facts::unknown(Why::Disabled))
}

/// What becomes of a source over the message.
fn outcome_with(source: &str, facts: &Facts) -> Outcome {
    let mut builder = Builder::new(Arc::new(Lists::default()));
    builder.rule(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let engine = builder.build();
    let message = Message::parse(MESSAGE.as_bytes().to_vec().into(), &MessageLimits::default());
    let (site, content) = (Site::default(), ContentLimits::default());
    let view =
        View { message: &message, envelope: None, connection: None, facts, site: &site, content: &content, now: 0 };
    let outcome = engine.run(view, Budget::default(), &|| false).outcomes[0];
    assert_eq!(engine.run_naive(view, Budget::default()).outcomes[0], outcome, "{source}: naive run differs");
    outcome
}

/// `null` as a bool: there is no In-Reply-To.
const NULL: &str = "strings.contains(headers.in_reply_to, 'x')";
/// Not available: nobody classifies texts here.
const UNKNOWN: &str = "ml.nlu_classifier(body.current_thread.text).language == 'english'";

fn value(letter: char) -> &'static str {
    match letter {
        'T' => "true",
        'F' => "false",
        'N' => NULL,
        _ => UNKNOWN,
    }
}

/// T, F, N, or U when the outcome is open: asked by three rules, since a rule only tells true from the rest.
fn letter(source: &str) -> char {
    let is_null = outcome(&format!("({source}) is null"));
    match (outcome(source), outcome(&format!("not ({source})")), is_null) {
        (Outcome::Match, Outcome::NoMatch, Outcome::NoMatch) => 'T',
        (Outcome::NoMatch, Outcome::Match, Outcome::NoMatch) => 'F',
        (Outcome::NoMatch, Outcome::NoMatch, Outcome::Match) => 'N',
        _ => 'U',
    }
}

#[test]
fn connectives() {
    let and = ["TFNU", "FFFF", "NFNU", "UFUU"];
    let or = ["TTTT", "TFNU", "TNNU", "TUUU"];
    for (i, a) in "TFNU".chars().enumerate() {
        for (j, b) in "TFNU".chars().enumerate() {
            let (x, y) = (value(a), value(b));
            assert_eq!(letter(&format!("({x}) and ({y})")), and[i].as_bytes()[j] as char, "{a} and {b}");
            assert_eq!(letter(&format!("({x}) or ({y})")), or[i].as_bytes()[j] as char, "{a} or {b}");
        }
        assert_eq!(letter(&format!("not ({})", value(a))), "FTNU".as_bytes()[i] as char, "not {a}");
    }
}

#[test]
fn texts_have_a_length_as_lists_have() {
    assert_eq!(outcome("length(subject.subject) > 3"), Outcome::Match);
    assert_eq!(
        outcome("any(body.links, length(.display_text) >= 1 and length(.href_url.fragment) > 0)"),
        Outcome::Match
    );
    assert_eq!(outcome("length(subject.subject) > 300"), Outcome::NoMatch);
}

#[test]
fn null_and_unknown_can_no_longer_match() {
    assert_eq!(outcome(&format!("({NULL}) and ({UNKNOWN})")), Outcome::NoMatch);
    assert!(matches!(outcome(UNKNOWN), Outcome::Undecided(needs) if needs.has(Capability::Nlu)));
    assert!(matches!(outcome(&format!("not ({UNKNOWN})")), Outcome::Undecided(_)), "absence is not a clearing");
}

#[test]
fn thresholds() {
    for (source, expected) in [
        ("2 of (T, T, F)", 'T'),
        ("2 of (T, F, F)", 'F'),
        ("2 of (T, N, F)", 'N'),
        ("2 of (T, U, F)", 'U'),
        ("2 of (T, T, U)", 'T'),
        ("3 of (T, T, N)", 'N'),
        // Null or false, and certainly no match.
        ("2 of (F, F, U)", 'U'),
    ] {
        let mut written = String::new();
        for c in source.chars() {
            if c.is_ascii_uppercase() { written += value(c) } else { written.push(c) }
        }
        assert_eq!(letter(&written), expected, "{source}");
    }
    assert_eq!(outcome(&format!("2 of (false, false, {UNKNOWN})")), Outcome::NoMatch);
}

#[test]
fn arrays_empty_and_null() {
    for (source, expected) in [
        ("any(attachments, true)", 'F'),
        ("all(attachments, false)", 'T'),
        ("length(filter(attachments, true)) == 0", 'T'),
        ("length(map(attachments, .size)) == 0", 'T'),
        ("ratio(attachments, true) > 0.0", 'N'),
        ("attachments[0].size > 0", 'N'),
        ("sum([1, 2]) == 3", 'T'),
        ("sum(map(attachments, .size)) == 0", 'T'),
        ("any(['a'], strings.contains(headers.in_reply_to, .))", 'F'),
        ("all(['a'], strings.contains(headers.in_reply_to, .))", 'T'),
        ("length(distinct(['a', 'A', 'a'])) == 2", 'T'),
        ("length(flatten([['a'], ['b', 'c']])) == 3", 'T'),
        ("any(body.links, any(['x'], ..href_url.domain.root_domain == 'example.com' and . == 'x'))", 'T'),
        ("coalesce(headers.in_reply_to, 'none') == 'none'", 'T'),
        ("length(headers.in_reply_to) > 0", 'N'),
    ] {
        assert_eq!(letter(source), expected, "{source}");
    }
}

#[test]
fn comparisons_texts_numbers() {
    for (source, expected) in [
        ("null == null", 'N'),
        ("headers.in_reply_to == 'x'", 'N'),
        ("headers.in_reply_to in ('x')", 'N'),
        ("headers.in_reply_to not in ('x')", 'N'),
        ("headers.in_reply_to is null", 'T'),
        ("'a' in (headers.in_reply_to, 'a')", 'T'),
        ("'a' == 'A'", 'F'),
        ("'a' =~ 'A'", 'T'),
        ("'A' in~ ('a', 'b')", 'T'),
        ("not 'A' in ('a')", 'T'),
        ("0 < length(sender.display_name) <= 11", 'T'),
        ("0 < length(sender.display_name) <= 10", 'F'),
        ("5 / 2 == 2", 'T'),
        ("5 / 2.0 == 2.5", 'T'),
        ("1 / 0 == 0", 'N'),
        ("2 + 3 * 2 == 8", 'T'),
        ("strings.ilike(subject.subject, '*INVOICE')", 'T'),
        ("strings.like(subject.subject, '*INVOICE')", 'F'),
        ("strings.starts_with(subject.subject, 'Re')", 'T'),
        ("strings.concat('a', headers.in_reply_to) == 'a'", 'N'),
        ("regex.match('ab', 'a')", 'F'),
        ("regex.contains('ab', 'a')", 'T'),
        ("regex.imatch('AB', 'a[b]')", 'T'),
        ("regex.count('banana', 'an') == 2", 'T'),
        ("any(regex.extract('k=v', '(?P<key>.)=(.)'), .named_groups['key'] == 'k' and .groups[1] == 'v')", 'T'),
        ("strings.ilevenshtein('Paypal', 'paypa1') == 1", 'T'),
        ("strings.replace_confusables('p\u{430}yp\u{430}l') == 'paypal'", 'T'),
        ("any(strings.scan_base64('x aGVsbG8gd29ybGQ= y'), . == 'hello world')", 'T'),
        ("beta.ip_in('192.0.2.7', '192.0.2.0/29', '2001:db8::/32')", 'T'),
        ("beta.ip_in('192.0.2.8', '192.0.2.0/29')", 'F'),
        ("'abc'[1:] == 'bc'", 'T'),
        ("$no_such_list == null", 'U'),
    ] {
        if source.starts_with('$') {
            assert!(matches!(outcome("'a' in $no_such_list"), Outcome::Undecided(n) if n.has(Capability::List)));
            continue;
        }
        assert_eq!(letter(source), expected, "{source}");
    }
}

#[test]
fn the_model() {
    for source in [
        "sender.display_name == 'Ann Example'",
        "sender.email.domain.root_domain == 'example.co.uk' and sender.email.domain.tld == 'co.uk'",
        "sender.email.domain.subdomain == 'mail' and sender.email.domain.sld == 'example'",
        "subject.is_reply and subject.base == 'Your invoice' or strings.icontains(subject.base, 'invoice')",
        "length(recipients.to) == 1 and recipients.to[0].email.email == 'bob@b.example'",
        "any(headers.references, . == '0@b.example') and headers.message_id == '1@mail.example.co.uk'",
        "strings.icontains(body.current_thread.text, 'pay the invoice')",
        "any(body.links, .href_url.path == '/a/b' and .href_url.query_params == 'x=1&y=%20z' and .href_url.fragment == 'top')",
        "any(body.links, any(.href_url.query_params_decoded['y'], . == ' z'))",
        "any(body.links, .mismatched and .display_url.domain.domain == 'good.example.org')",
        "any(html.xpath(body.html, '//a/@href').nodes, strings.contains(.raw, 'evil'))",
        "type.inbound and not type.outbound",
    ] {
        assert_eq!(outcome(source), Outcome::Match, "{source}");
    }
    assert!(matches!(outcome("headers.auth_summary.dmarc.pass"), Outcome::Undecided(n) if n.has(Capability::Facts)));
    assert!(matches!(outcome("profile.by_sender().solicited"), Outcome::Undecided(n) if n.has(Capability::History)));
}

#[test]
fn mistakes_have_a_place_and_a_mend() {
    for (source, place, words) in [
        ("sender.email.domain.root_domian == 'x'", (1, 21), "root_domain"),
        ("true and\n  subjct.subject == 'x'", (2, 3), "subject"),
        ("strings.icontain(subject.subject, 'x')", (1, 1), "strings.icontains"),
        ("strings.icontains(subject.subject)", (1, 1), "at least 2"),
        ("body.links.href_url.url == 'x'", (1, 12), "any("),
        ("subject.subject + 'x' == 'y'", (1, 1), "strings.concat"),
        ("length(attachments)", (1, 1), "true or false"),
        (".size > 1", (1, 1), "element"),
        ("regex.contains(subject.subject, '(?=x)')", (1, 33), "look-around"),
        ("subject.subject == \"\\d\"", (1, 21), "escapes"),
        ("any of (true, false)", (1, 5), "expected"),
    ] {
        let error = Builder::new(Arc::new(Lists::default())).rule(source).expect_err(source);
        assert_eq!(error.place(source), place, "{source}: {error}");
        assert!(error.to_string().contains(words), "{source}: {error}");
    }
}

#[test]
fn long_is_fine_and_deep_is_refused() {
    let long = vec!["subject.subject == 'x'"; 20_000].join(" or ");
    assert_eq!(outcome(&long), Outcome::NoMatch);
    let deep = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Builder::new(Arc::new(Lists::default())).rule(&deep).is_err());
    let negated = format!("{}true", "not ".repeat(5_000));
    assert!(Builder::new(Arc::new(Lists::default())).rule(&negated).is_err());
}

#[test]
fn history_and_its_lists() {
    let profile = Profile {
        prevalence: Prevalence::Outlier,
        solicited: true,
        any_messages_benign: true,
        any_messages_malicious_or_spam: false,
        any_false_positives: false,
        auth_failed: false,
        days_known: 12,
        days_since_first_contact: Some(12),
        days_since_last_contact: Some(3),
        days_since_last_inbound: Some(3),
        days_since_last_outbound: None,
    };
    let on = |sender, recipient| Membership { sender, recipient };
    let members = [
        ("ann@mail.example.co.uk".to_owned(), on(true, false)),
        ("bob@b.example".to_owned(), on(false, true)),
        ("b.example".to_owned(), on(false, true)),
    ];
    let history = History {
        by_sender: Some(profile),
        by_sender_email: None,
        by_sender_domain: None,
        by_reply_to: None,
        members: members.into(),
    };
    let facts = Facts { history: Fact::Known(history), ..Facts::unknown(Why::Disabled) };
    for source in [
        "profile.by_sender().prevalence in ('outlier', 'rare') and profile.by_sender().solicited",
        "profile.by_sender().days_known == 12 and profile.by_sender().days_since.last_contact < 4",
        "profile.by_sender().days_since.last_outbound is null and profile.by_sender_email().solicited is null",
        "sender.email.email in $sender_emails and not sender.email.email in $recipient_emails",
        "any(recipients.to, .email.email in $recipient_emails and .email.domain.domain in $recipient_domains)",
        "any($recipient_emails, strings.starts_with(., 'bob@'))",
    ] {
        assert_eq!(outcome_with(source, &facts), Outcome::Match, "{source}");
    }
    assert_eq!(outcome_with("profile.by_sender().prevalence == 'new'", &facts), Outcome::NoMatch);
    let open = |source: &str, facts: &Facts| matches!(outcome_with(source, facts), Outcome::Undecided(needs) if needs.has(Capability::History));
    // Nobody asked about these: they may be on the list or not.
    assert!(open("'eve@c.example' in $recipient_emails", &facts));
    assert!(open("not any($recipient_emails, strings.starts_with(., 'eve@'))", &facts));
    // While it warms up history says nothing: nobody is new then.
    let cold = Facts { history: Fact::Unknown(Why::WarmingUp), ..facts };
    assert!(open("profile.by_sender().prevalence == 'new'", &cold));
    assert!(open("sender.email.email not in $sender_emails", &cold));
}

#[test]
fn answers_of_services() {
    let mut facts = Facts::unknown(Why::Disabled);
    let found =
        serde_json::json!({"found": true, "days_old": 4, "registrar_name": 7, "name_servers": ["ns.evil.example.net"]});
    facts.answers.insert("network.whois", "evil.example.net".into(), found);
    for source in [
        "any(body.links, network.whois(.href_url.domain).days_old < 5)",
        "any(body.links, network.whois(.href_url.domain).found and network.whois(.href_url.domain).registrar_name is null)",
        "any(body.links, any(network.whois(.href_url.domain).name_servers, .root_domain == 'example.net'))",
    ] {
        assert_eq!(outcome_with(source, &facts), Outcome::Match, "{source}");
    }
    // The other link was not asked about.
    let all = outcome_with("all(body.links, network.whois(.href_url.domain).days_old < 5)", &facts);
    assert!(matches!(all, Outcome::Undecided(needs) if needs.has(Capability::Whois)), "{all:?}");
}

/// Time is asked before each file that a rule looks into: what it did not come to is not known.
#[test]
fn no_time_for_one_more_file() {
    let part = |name: &str| {
        format!(
            "--b\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"{name}\"\n\n{name} text\n"
        )
    };
    let text = format!(
        "From: a@a.example\nContent-Type: multipart/mixed; boundary=b\n\n{}{}{}--b--\n",
        part("a.txt"),
        part("b.txt"),
        part("c.txt")
    );
    let message = Message::parse(text.into_bytes().into(), &MessageLimits::default());
    let (facts, site, content) = (Facts::unknown(Why::Disabled), Site::default(), ContentLimits::default());
    let view = View {
        message: &message,
        envelope: None,
        connection: None,
        facts: &facts,
        site: &site,
        content: &content,
        now: 0,
    };
    let outcome = |source: &str, questions: usize| {
        let mut builder = Builder::new(Arc::new(Lists::default()));
        builder.rule(source).unwrap();
        let asked = std::cell::Cell::new(0);
        let out_of_time = || asked.replace(asked.get() + 1) >= questions;
        builder.build().run(view, Budget::default(), &out_of_time).outcomes[0]
    };
    let last = "any(attachments, any(file.explode(.), any(.scan.strings.strings, . == 'c.txt text')))";
    assert_eq!(outcome(last, 1_000), Outcome::Match);
    // One question for the rule, one for the first attachment: no more.
    assert!(matches!(outcome(last, 2), Outcome::Undecided(needs) if needs.has(Capability::Budget)));
    let first = "any(attachments, .file_name == 'a.txt')";
    assert_eq!(outcome(first, 2), Outcome::Match);
}

/// An answer that says it is partial gives what stands in it; the rest is not known, neither null nor empty.
#[test]
fn a_partial_answer_leaves_the_rest_unknown() {
    let message = Message::parse("Subject: x\r\n\r\nhttps://a.example/x\r\n".into(), &MessageLimits::default());
    let outcome = |source: &str, partial: bool| {
        let mut facts = Facts::unknown(Why::Disabled);
        let answer = serde_json::json!({"partial": partial, "effective_url": "https://evil.test/login"});
        facts.answers.insert("ml.link_analysis", "https://a.example/x".into(), answer);
        let (site, content) = (Site::default(), ContentLimits::default());
        let view = View {
            message: &message,
            envelope: None,
            connection: None,
            facts: &facts,
            site: &site,
            content: &content,
            now: 0,
        };
        let mut builder = Builder::new(Arc::new(Lists::default()));
        builder.rule(source).unwrap();
        builder.build().run(view, Budget::default(), &|| false).outcomes[0]
    };
    let leads = "any(body.links, ml.link_analysis(.).effective_url.domain.root_domain == 'evil.test')";
    assert_eq!(outcome(leads, true), Outcome::Match);
    let unknown = |source: &str| {
        let undecided = outcome(source, true);
        assert!(matches!(undecided, Outcome::Undecided(needs) if needs.has(Capability::LinkAnalysis)), "{undecided:?}");
    };
    let clean = "any(body.links, ml.link_analysis(.).credphish.disposition != 'benign')";
    unknown(clean);
    let loads = "any(body.links, length(ml.link_analysis(.).files_downloaded) == 0)";
    unknown(loads);
    assert_eq!(outcome(loads, false), Outcome::Match, "a whole answer without files: none were loaded");
}

/// What is looked for before a rule is run has to let through all that is near enough, and no more is true than is.
#[test]
fn texts_so_many_changes_apart() {
    // The name is `Ann Example`.
    let near = [("ann example", 0), ("an example", 1), ("ann exampel", 2), ("ann xample!", 2), ("bnn ezampl", 3)];
    for (text, apart) in near {
        for most in 0..5_i64 {
            let source = format!("strings.ilevenshtein(sender.display_name, '{text}') <= {most}");
            assert_eq!(letter(&source), if apart <= most { 'T' } else { 'F' }, "{source}");
            let source = format!("strings.ilevenshtein('{text}', sender.display_name) < {most}");
            assert_eq!(letter(&source), if apart < most { 'T' } else { 'F' }, "{source}");
            let source = format!("strings.ilevenshtein(sender.display_name, '{text}') == {most}");
            assert_eq!(letter(&source), if apart == most { 'T' } else { 'F' }, "{source}");
        }
    }
    assert_eq!(letter("strings.levenshtein(sender.display_name, 'ann example') <= 2"), 'T');
    assert_eq!(letter("strings.levenshtein(sender.display_name, 'ann example') < 2"), 'F');
}

#[test]
fn any_of_constants() {
    let cases = [
        ("any(['zebra', 'INVOICE'], strings.icontains(subject.subject, .))", 'T'),
        ("any(['zebra', 'INVOICE'], strings.contains(subject.subject, .))", 'F'),
        ("any(['zebra', 'e'], strings.iends_with(subject.subject, .))", 'T'),
        ("any(['*your*', 'x'], strings.ilike(subject.subject, .))", 'T'),
        // A null predicate makes `any` neither true nor null.
        ("any(['x', 'y'], strings.contains(headers.in_reply_to, .))", 'F'),
        ("all(['your', 'invoice'], strings.icontains(subject.subject, .))", 'T'),
    ];
    for (source, expected) in cases {
        assert_eq!(letter(source), expected, "{source}");
    }
}

/// A rule that could only match by what is never there is not run, and does not say that it did not match.
#[test]
fn what_is_never_there_is_not_waited_for() {
    let message = Message::parse(MESSAGE.as_bytes().to_vec().into(), &MessageLimits::default());
    let (facts, site, content) = (Facts::unknown(Why::Disabled), Site::default(), ContentLimits::default());
    let view = View {
        message: &message,
        envelope: None,
        connection: None,
        facts: &facts,
        site: &site,
        content: &content,
        now: 0,
    };
    let nlu = Needs::of(Capability::Nlu);
    for (source, expected, run) in [
        (format!("strings.contains(subject.subject, 'invoice') or {UNKNOWN}"), Outcome::Match, 1),
        (format!("strings.contains(subject.subject, 'zebra') or {UNKNOWN}"), Outcome::Undecided(nlu), 0),
        (format!("strings.contains(subject.subject, 'zebra') and {UNKNOWN}"), Outcome::NoMatch, 0),
        (format!("strings.contains(subject.subject, 'invoice') and {UNKNOWN}"), Outcome::Undecided(nlu), 0),
        (format!("strings.contains(subject.subject, 'zebra') or not {UNKNOWN}"), Outcome::Undecided(nlu), 0),
        (format!("2 of (strings.contains(subject.subject, 'invoice'), type.inbound, {UNKNOWN})"), Outcome::Match, 1),
    ] {
        let mut builder = Builder::new(Arc::new(Lists::default())).without(nlu);
        builder.rule(&source).unwrap();
        let verdicts = builder.build().run(view, Budget::default(), &|| false);
        assert_eq!((verdicts.outcomes[0], verdicts.run), (expected, run), "{source}");
    }
}
