//! Macros: what the MTA tells beside the events. Each set replaces the set of the same stage.
//!
//! Claims by the MTA, as trustworthy as its socket. An empty list, an odd count and an unknown stage are passed over, as real MTAs
//! send all of these. Kept as they came and looked up when wanted: most are never asked for.

use super::Limits;
use super::command::smfic;

/// Stages in the order of a session; a later one knows better.
const STAGES: [u8; 10] = [
    smfic::CONNECT,
    smfic::HELO,
    smfic::MAIL,
    smfic::RCPT,
    smfic::DATA,
    smfic::HEADER,
    smfic::EOH,
    smfic::BODY,
    smfic::BODYEOB,
    smfic::UNKNOWN,
];

/// How many of [`STAGES`] belong to the connection and survive a message.
const OF_CONNECTION: usize = 2;

/// The macros of one session, by stage.
#[derive(Debug, Default)]
pub(super) struct Macros {
    /// `name NUL value NUL …`, as sent.
    sets: [Vec<u8>; STAGES.len()],
}

impl Macros {
    /// Takes the data of `SMFIC_MACRO`.
    pub(super) fn take(&mut self, data: &[u8], limits: &Limits) {
        let Some((stage, list)) = data.split_first() else { return };
        let Some(place) = STAGES.iter().position(|s| s == stage) else { return };
        let set = &mut self.sets[place];
        set.clear();
        let mut count = 0;
        for (name, value) in Pairs(list) {
            let length = name.len() + value.len() + 2;
            count += 1;
            if count > limits.macro_count || set.len() + length > limits.macro_bytes {
                return;
            }
            set.extend_from_slice(name);
            set.push(0);
            set.extend_from_slice(value);
            set.push(0);
        }
    }

    /// The latest value of a macro, by its name without braces. An empty value is none.
    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.sets.iter().rev().find_map(|set| lookup(set, name))
    }

    /// The value of a macro as sent with recipients.
    pub(super) fn of_recipient(&self, name: &str) -> Option<&[u8]> {
        STAGES.iter().position(|s| *s == smfic::RCPT).and_then(|place| lookup(&self.sets[place], name))
    }

    /// The same as text; what is not UTF-8 is replaced.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Forgets what belongs to a message.
    pub(super) fn forget_message(&mut self) {
        self.sets[OF_CONNECTION..].iter_mut().for_each(Vec::clear);
    }

    /// Forgets what came after MAIL: a second MAIL begins another message, and its own macros came just before it.
    pub(super) fn forget_after_mail(&mut self) {
        self.sets[OF_CONNECTION + 1..].iter_mut().for_each(Vec::clear);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&mut self) {
        self.sets.iter_mut().for_each(Vec::clear);
    }
}

fn lookup<'a>(set: &'a [u8], name: &str) -> Option<&'a [u8]> {
    Pairs(set).find(|(n, value)| bare(n) == name.as_bytes() && !value.is_empty()).map(|(_, value)| value)
}

/// `{name}` and `name` mean the same.
fn bare(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"{").and_then(|n| n.strip_suffix(b"}")).unwrap_or(name)
}

/// Name and value, as long as both are there with their NUL.
struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let name_end = self.0.iter().position(|b| *b == 0)?;
        let after = &self.0[name_end + 1..];
        let value_end = after.iter().position(|b| *b == 0)?;
        let pair = (&self.0[..name_end], &after[..value_end]);
        self.0 = &after[value_end + 1..];
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sets_are_passed_over() {
        let limits = Limits::default();
        let cases: [(&[u8], Option<&[u8]>); 8] = [
            (b"", None),
            (b"M", None),
            (b"Mi\0", None),
            (b"Mi\0\0", None),
            (b"?i\0QID\0", None),
            (b"Mi\0QID\0", Some(b"QID")),
            (b"M{i}\0QID\0j\0", Some(b"QID")),
            (b"Mx\0y\0i\0QID\0", Some(b"QID")),
        ];
        for (data, expected) in cases {
            let mut macros = Macros::default();
            macros.take(data, &limits);
            assert_eq!(macros.value("i"), expected, "{data:?}");
        }
    }

    #[test]
    fn a_set_replaces_its_stage_and_later_stages_win() {
        let limits = Limits::default();
        let mut macros = Macros::default();
        macros.take(b"Cj\0mx.example\0", &limits);
        macros.take(b"Hi\0OLD\0", &limits);
        macros.take(b"Ei\0NEW\0", &limits);
        assert_eq!(macros.value("i"), Some(&b"NEW"[..]));
        macros.take(b"E", &limits);
        assert_eq!(macros.value("i"), Some(&b"OLD"[..]));
        macros.take(b"R{rcpt_mailer}\0error\0", &limits);
        macros.forget_message();
        assert_eq!((macros.value("j"), macros.of_recipient("rcpt_mailer")), (Some(&b"mx.example"[..]), None));
        macros.forget_all();
        assert_eq!(macros.value("j"), None);
    }

    #[test]
    fn bounded() {
        let limits = Limits { macro_count: 2, macro_bytes: 20, ..Limits::default() };
        let mut macros = Macros::default();
        macros.take(b"Ma\x001\0b\x002\0c\x003\0", &limits);
        assert_eq!((macros.value("b"), macros.value("c")), (Some(&b"2"[..]), None));
        macros.take(b"Ma\x001\0b\x00a value too long to be kept\0", &limits);
        assert_eq!((macros.value("a"), macros.value("b")), (Some(&b"1"[..]), None));
    }
}
