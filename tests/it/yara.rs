//! YARA rules over attachments: what detectors, rules and settings make of them. With the feature; without it, that it is not there.

use mailweir::content::{Yara, YaraConfig, YaraError, YaraSource};

/// A rule in MQL that rests on one of them.
const FEED_RULE: &str = "name: Weir program in MQL\ntype: rule\nseverity: high\nsource: |\n  \
    any(attachments, any(file.explode(.), any(.scan.yara.matches, .name == 'weir_program')))\n";

/// `mailweir scan` with rules of this text; whether it went well, and all that it wrote.
fn scan(rules: &str, message: &[u8]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("yara")).unwrap();
    std::fs::write(at("yara/own.yar"), rules).unwrap();
    std::fs::write(at("yara/notes.txt"), "no rules").unwrap();
    std::fs::write(at("m.eml"), message).unwrap();
    std::fs::create_dir(at("rules")).unwrap();
    std::fs::write(at("rules/own.yml"), FEED_RULE).unwrap();
    let settings = format!(
        "[inspection.yara]\npaths = [{:?}]\n[[policy.rules.paths]]\npath = {:?}\nname = \"own\"\nmode = \"enforce\"\n",
        at("yara"),
        at("rules")
    );
    std::fs::write(at("mailweir.toml"), settings).unwrap();
    #[allow(clippy::disallowed_methods)] // Starts the program under test; nothing here comes from mail.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mailweir"));
    command.args(["scan", "--json", "--offline", "--config"]).arg(at("mailweir.toml")).arg(at("m.eml"));
    let output = command.env_remove("MAILWEIR_CONFIG").output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.success(), text)
}

#[cfg(not(feature = "yara"))]
#[test]
fn a_build_without_it_says_so() {
    let sources = [YaraSource { name: "a.yar", text: "rule a { condition: true }" }];
    assert!(matches!(Yara::compile(&sources, &YaraConfig::default()), Err(YaraError::Absent)));
    let (well, text) = scan("rule a { condition: true }", b"From: a@a.example\n\ntext\n");
    assert!(!well && text.contains("this build has no YARA"), "{text}");
}

#[cfg(feature = "yara")]
mod with {
    use std::io::{Cursor, Write};
    use std::sync::Arc;

    use bytes::Bytes;
    use mailweir::analysis::{Code, Facts, Input, Site, Why, analyse};
    use mailweir::content::{ContentLimits, Means, YaraValue, explode_file_with, explode_with};
    use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits};
    use mailweir::policy::Lists;
    use mailweir::policy::mql::{Budget, Builder, Outcome, View};
    use zip::write::SimpleFileOptions;

    use super::*;

    const RULES: &str = r#"
        rule weir_program : sample {
            meta:
                severity = "High"
                score = 70
                tested = true
            strings:
                $a = "MZ"
                $b = "open the weir"
            condition:
                $a at 0 and $b
        }
        rule weir_note { strings: $a = "written by the river" nocase condition: $a }
        private rule hidden { condition: true }
    "#;

    fn rules(text: &str, config: &YaraConfig) -> Arc<Yara> {
        Arc::new(Yara::compile(&[YaraSource { name: "own.yar", text }], config).unwrap())
    }

    fn packed() -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in [("a.exe", &b"MZ open the weir"[..]), ("b.txt", b"nothing")] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn message(name: &str, bytes: &[u8]) -> Message {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let text = format!(
            "From: a@a.example\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{text}\n"
        );
        Message::parse(Bytes::from(text), &MessageLimits::default())
    }

    #[test]
    fn members_are_scanned() {
        let (limits, yara) = (ContentLimits::default(), rules(RULES, &YaraConfig::default()));
        assert_eq!(yara.rules(), 3);
        let files = explode_with(&message("a.zip", &packed()), &limits, &Means::new(&limits, Some(&yara)));
        let found = files[1].yara().unwrap();
        assert_eq!((found.matches.len(), found.cut), (1, false));
        let one = &found.matches[0];
        assert_eq!((one.name.as_str(), one.severity().as_deref()), ("weir_program", Some("high")));
        assert_eq!(
            one.meta[1..],
            [("score".to_owned(), YaraValue::Int(70)), ("tested".to_owned(), YaraValue::Bool(true))]
        );
        assert!(files[2].yara().unwrap().matches.is_empty());
        // Without rules it is not known.
        let files = explode_with(&message("a.zip", &packed()), &limits, &Means::new(&limits, None));
        assert!(files[1].yara().is_none());
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, place) in [
            ("rule a {\n  condition: $b\n}", "own.yar:2:14: "),
            ("rule a { condition: true }\nrule a { condition: true }", "own.yar:2:6: "),
            ("\n\nrule {", "own.yar:3:6: "),
            ("include \"/etc/passwd\"", "own.yar:1:1: "),
            ("import \"cuckoo\"", "own.yar:1:1: "),
            ("import \"console\"", "own.yar:1:1: "),
            ("import \"time\"", "own.yar:1:1: "),
        ] {
            let error = Yara::compile(&[YaraSource { name: "own.yar", text }], &YaraConfig::default()).unwrap_err();
            let YaraError::Broken(said) = &error else { panic!("{error}") };
            assert!(said.starts_with(place), "{said}");
        }
        // Each file has names of its own.
        let same = ["a.yar", "b.yar"].map(|name| YaraSource { name, text: "rule a { condition: true }" });
        assert_eq!(Yara::compile(&same, &YaraConfig::default()).unwrap().rules(), 2);
        let modules = "import \"pe\"\nimport \"elf\"\nimport \"math\"\nimport \"hash\"\nimport \"string\"\n\
             rule a { condition: pe.is_pe or math.entropy(0, filesize) > 7 or hash.md5(0, 1) == \"x\" }";
        rules(modules, &YaraConfig::default());
    }

    #[test]
    fn bounds_of_bytes() {
        let limits = ContentLimits::default();
        let scan = |config: &YaraConfig| {
            let yara = rules(RULES, config);
            let bytes = Bytes::from_static(b"MZ open the weir");
            let means = Means::new(&limits, Some(&yara));
            [(); 3].map(|()| {
                let files = explode_file_with("a.exe", "", bytes.clone(), &limits, &means, &|| false);
                let found = files[0].yara().unwrap();
                (found.matches.len(), found.cut)
            })
        };
        let whole = YaraConfig::default();
        assert_eq!(scan(&whole), [(1, false); 3]);
        assert_eq!(scan(&YaraConfig { max_file_bytes: 10, ..whole.clone() }), [(0, true); 3]);
        // The second file is beyond what one message may take.
        assert_eq!(scan(&YaraConfig { max_message_bytes: 20, ..whole.clone() }), [(1, false), (0, true), (0, true)]);
    }

    /// A rule that would run for minutes is stopped, and after three files none is scanned any more.
    #[test]
    fn bounds_of_time() {
        let limits = ContentLimits::default();
        let config = YaraConfig { max_file_ms: 1, ..YaraConfig::default() };
        let endless =
            "rule endless { condition: for all i in (0..2000000000) : (for all j in (0..2000000000) : (i + j >= 0)) }";
        let means = Means::new(&limits, Some(&rules(endless, &config)));
        for _ in 0..5 {
            let files = explode_file_with("a.txt", "", Bytes::from_static(b"text"), &limits, &means, &|| false);
            let found = files[0].yara().unwrap();
            assert_eq!((found.matches.len(), found.cut), (0, true));
        }
    }

    fn outcome(source: &str, yara: Option<Arc<Yara>>) -> Outcome {
        let message = message("a.zip", &packed());
        let (facts, content) = (Facts::unknown(Why::Disabled), ContentLimits::default());
        let site = Site { yara, ..Site::default() };
        let mut builder = Builder::new(Arc::new(Lists::default()));
        builder.rule(source).unwrap();
        let view = View {
            message: &message,
            envelope: None,
            connection: None,
            facts: &facts,
            site: &site,
            content: &content,
            now: 0,
        };
        builder.build().run(view, Budget::default(), &|| false).outcomes[0]
    }

    #[test]
    fn in_mql() {
        let yara = || Some(rules(RULES, &YaraConfig::default()));
        let named = "any(attachments, any(file.explode(.), any(.scan.yara.matches, .name == 'weir_program')))";
        assert_eq!(outcome(named, yara()), Outcome::Match);
        let severe = "any(attachments, any(file.explode(.), any(.scan.yara.matches, .meta.severity == 'High' and .meta.score == 70)))";
        assert_eq!(outcome(severe, yara()), Outcome::Match);
        let other = "any(attachments, any(file.explode(.), any(.scan.yara.matches, .name == 'weir_note')))";
        assert_eq!(outcome(other, yara()), Outcome::NoMatch);
        assert!(matches!(outcome(named, None), Outcome::Undecided(_)));
        // What was not looked at whole does not clear.
        let short = Some(rules(RULES, &YaraConfig { max_file_bytes: 3, ..YaraConfig::default() }));
        assert!(matches!(outcome(named, short), Outcome::Undecided(_)));
    }

    #[test]
    fn as_evidence() {
        let signals = |text: &str| {
            let site = Site { yara: Some(rules(text, &YaraConfig::default())), ..Site::default() };
            let (message, facts) = (message("a.zip", &packed()), Facts::unknown(Why::Disabled));
            let (envelope, connection) = (Envelope::default(), Connection::unknown(Door::Relay));
            let input =
                Input { message: &message, envelope: &envelope, connection: &connection, facts: &facts, site: &site };
            let found = analyse(&input).into_iter().find(|signal| signal.code == Code::YaraMatch);
            found.map(|signal| (signal.strength, signal.evidence.clone()))
        };
        let (strength, evidence) = signals(RULES).unwrap();
        assert!((strength - 0.85).abs() < 1e-6);
        assert_eq!(evidence, ["weir_program in a.exe"]);
        assert_eq!(signals("rule none { strings: $a = \"not in there\" condition: $a }"), None);
        let quiet = "rule told { meta: severity = \"info\" strings: $a = \"weir\" condition: $a }";
        assert_eq!(signals(quiet), None);
    }

    #[test]
    fn from_the_settings() {
        let message = message("a.zip", &packed());
        let (well, text) = scan(RULES, message.raw());
        assert!(well && text.contains("YARA_MATCH") && text.contains("weir_program in a.exe"), "{text}");
        assert!(text.contains("Weir program in MQL"), "{text}");
        let (well, text) = scan("rule other { condition: true }", message.raw());
        assert!(well && !text.contains("Weir program in MQL") && !text.contains("\"yara\""), "{text}");
        let (well, text) = scan("rule a {\n  condition: $b\n}", message.raw());
        assert!(!well && text.contains("own.yar:2:14: ") && text.contains("inspection.yara.paths"), "{text}");
        assert!(!text.contains("YARA_MATCH"), "{text}");
    }
}
