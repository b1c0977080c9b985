//! A subject without what mail programs put in front of it: `Re:`, `Fwd:` and the like in the languages in use, and tags
//! such as `[External]`. Linear, never fails. Not here: what the rest of the subject says.

/// Prefixes taken off one subject; a subject of nothing but prefixes stays bounded.
const MAX_PREFIXES: usize = 64;
const MAX_TAG_BYTES: usize = 60;

const REPLIES: &[&str] = &[
    "re",
    "r",
    "aw",
    "antw",
    "sv",
    "vs",
    "rif",
    "ri",
    "res",
    "odp",
    "ynt",
    "atb",
    "vá",
    "rép",
    "réf",
    "απ",
    "σχετ",
    "回复",
    "回覆",
    "答复",
    "返信",
    "답장",
    "отв",
    "ответ",
    "תשובה",
    "השב",
    "رد",
];
const FORWARDS: &[&str] = &[
    "fw",
    "fwd",
    "wg",
    "tr",
    "rv",
    "enc",
    "i",
    "pd",
    "vb",
    "vl",
    "vid",
    "doorst",
    "fs",
    "továbbítás",
    "πρθ",
    "inoltra",
    "ilt",
    "yml",
    "转发",
    "轉寄",
    "転送",
    "전달",
    "пересл",
    "הועבר",
    "إعادة توجيه",
    "wtr",
    "i fwd",
    "lanjut",
];
const AUTOMATIC: &[&str] = &[
    "automatic reply",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto",
    "out of office",
    "out of office autoreply",
    "automatische antwort",
    "abwesenheitsnotiz",
    "abwesenheit",
    "réponse automatique",
    "respuesta automática",
    "risposta automatica",
    "resposta automática",
    "automatisch antwoord",
    "automatiskt svar",
    "automatisk svar",
    "autosvar",
    "automaattinen vastaus",
    "odpowiedź automatyczna",
    "automatická odpověď",
    "自动回复",
    "自動回覆",
    "自動返信",
    "자동 회신",
    "автоответ",
    "otomatik yanıt",
    "automatikus válasz",
];

/// A subject in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectParts {
    /// What is left, trimmed. May be empty.
    pub base: String,
    /// Whether a reply's prefix was there.
    pub is_reply: bool,
    /// Whether a forward's prefix was there.
    pub is_forward: bool,
    /// Whether it says that a program answered.
    pub is_auto_reply: bool,
    /// Tags before the text, without their brackets, in order.
    pub tags: Vec<String>,
}

impl SubjectParts {
    /// Takes a decoded subject apart.
    pub fn of(subject: &str) -> Self {
        let mut parts = Self::default();
        let mut rest = subject.trim();
        for _ in 0..MAX_PREFIXES {
            rest = match parts.tag(rest).or_else(|| parts.prefix(rest)) {
                Some(after) => after.trim_start(),
                None => break,
            };
        }
        parts.base = rest.to_owned();
        parts
    }

    fn tag<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let (open, close) = match text.chars().next()? {
            '[' => ('[', ']'),
            '【' => ('【', '】'),
            _ => return None,
        };
        let inner = &text[open.len_utf8()..];
        let end = inner.find(close).filter(|end| *end <= MAX_TAG_BYTES)?;
        let after = &inner[end + close.len_utf8()..];
        // A subject that is nothing but its brackets says something.
        if after.trim().is_empty() {
            return None;
        }
        self.tags.push(inner[..end].trim().to_owned());
        Some(after)
    }

    fn prefix<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let colon = text.char_indices().take(40).find(|(_, c)| matches!(c, ':' | '：'))?;
        let after = &text[colon.0 + colon.1.len_utf8()..];
        // `Re[2]:`, `RE (3):`, `Fwd :`
        let word = text[..colon.0].trim_end();
        let word = word.trim_end_matches([']', ')']).trim_end_matches(|c: char| c.is_ascii_digit());
        let word = word.trim_end_matches(['[', '(', '^', '*']).trim_end().to_lowercase();
        if REPLIES.contains(&word.as_str()) {
            self.is_reply = true;
        } else if FORWARDS.contains(&word.as_str()) {
            self.is_forward = true;
        } else if AUTOMATIC.contains(&word.as_str()) {
            self.is_auto_reply = true;
        } else {
            return None;
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        // Subject, base, reply, forward, automatic, tags.
        #[allow(clippy::type_complexity)]
        let cases: &[(&str, &str, bool, bool, bool, &[&str])] = &[
            ("Lunch on Friday", "Lunch on Friday", false, false, false, &[]),
            ("Re: Lunch", "Lunch", true, false, false, &[]),
            ("RE: FW: [External] AW: Lunch", "Lunch", true, true, false, &["External"]),
            ("[EXT][List] re[2]: Lunch", "Lunch", true, false, false, &["EXT", "List"]),
            ("WG: Angebot", "Angebot", false, true, false, &[]),
            ("回复：会议", "会议", true, false, false, &[]),
            ("转发: 会议", "会议", false, true, false, &[]),
            ("Automatic reply: Lunch", "Lunch", false, false, true, &[]),
            ("Re:", "", true, false, false, &[]),
            ("[Important]", "[Important]", false, false, false, &[]),
            ("Report: numbers", "Report: numbers", false, false, false, &[]),
            ("Reminder", "Reminder", false, false, false, &[]),
            ("[open", "[open", false, false, false, &[]),
            ("", "", false, false, false, &[]),
        ];
        for (subject, base, reply, forward, automatic, tags) in cases {
            let got = SubjectParts::of(subject);
            assert_eq!((got.base.as_str(), got.is_reply, got.is_forward), (*base, *reply, *forward), "{subject}");
            assert_eq!(
                (got.is_auto_reply, got.tags.as_slice()),
                (*automatic, &tags.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{subject}"
            );
        }
        assert!(SubjectParts::of(&"Re: ".repeat(10_000)).base.len() > 1);
    }
}
