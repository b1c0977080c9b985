//! XPath's function library (4), on values that are already there.

/// The functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Last,
    Position,
    Count,
    LocalName,
    Name,
    NamespaceUri,
    String,
    Concat,
    StartsWith,
    EndsWith,
    Contains,
    SubstringBefore,
    SubstringAfter,
    Substring,
    StringLength,
    NormalizeSpace,
    Translate,
    LowerCase,
    UpperCase,
    Boolean,
    Not,
    True,
    False,
    Number,
    Sum,
    Floor,
    Ceiling,
    Round,
}

/// Name, function, least and most arguments.
const TABLE: &[(&str, Function, usize, usize)] = &[
    ("last", Function::Last, 0, 0),
    ("position", Function::Position, 0, 0),
    ("count", Function::Count, 1, 1),
    ("local-name", Function::LocalName, 0, 1),
    ("name", Function::Name, 0, 1),
    ("namespace-uri", Function::NamespaceUri, 0, 1),
    ("string", Function::String, 0, 1),
    ("concat", Function::Concat, 2, usize::MAX),
    ("starts-with", Function::StartsWith, 2, 2),
    ("ends-with", Function::EndsWith, 2, 2),
    ("contains", Function::Contains, 2, 2),
    ("substring-before", Function::SubstringBefore, 2, 2),
    ("substring-after", Function::SubstringAfter, 2, 2),
    ("substring", Function::Substring, 2, 3),
    ("string-length", Function::StringLength, 0, 1),
    ("normalize-space", Function::NormalizeSpace, 0, 1),
    ("translate", Function::Translate, 3, 3),
    ("lower-case", Function::LowerCase, 1, 1),
    ("upper-case", Function::UpperCase, 1, 1),
    ("boolean", Function::Boolean, 1, 1),
    ("not", Function::Not, 1, 1),
    ("true", Function::True, 0, 0),
    ("false", Function::False, 0, 0),
    ("number", Function::Number, 0, 1),
    ("sum", Function::Sum, 1, 1),
    ("floor", Function::Floor, 1, 1),
    ("ceiling", Function::Ceiling, 1, 1),
    ("round", Function::Round, 1, 1),
];

impl Function {
    /// The function of that name, when it takes so many arguments.
    pub(super) fn find(name: &str, arguments: usize) -> Result<Self, String> {
        let Some((_, function, least, most)) = TABLE.iter().find(|(known, ..)| *known == name) else {
            return Err(format!("there is no function `{name}`"));
        };
        match (*least..=*most).contains(&arguments) {
            true => Ok(*function),
            false => Err(format!("`{name}` does not take {arguments} arguments")),
        }
    }

    pub(super) fn gives_number(self) -> bool {
        matches!(
            self,
            Self::Last
                | Self::Position
                | Self::Count
                | Self::StringLength
                | Self::Number
                | Self::Sum
                | Self::Floor
                | Self::Ceiling
                | Self::Round
        )
    }

    pub(super) fn is_position(self) -> bool {
        matches!(self, Self::Last | Self::Position)
    }
}

/// XPath's white space, which is less than Unicode's.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Without white space around, one space for each inside.
pub(super) fn normalize_space(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Each character of `from` replaced by the one at the same place in `to`, or left out.
pub(super) fn translate(text: &str, from: &str, to: &str) -> String {
    let mut table: Vec<(char, Option<char>)> = Vec::new();
    let mut to = to.chars();
    for c in from.chars().take(1_000) {
        let replacement = to.next();
        if !table.iter().any(|(known, _)| *known == c) {
            table.push((c, replacement));
        }
    }
    text.chars()
        .filter_map(|c| match table.iter().find(|(known, _)| *known == c) {
            Some((_, replacement)) => *replacement,
            None => Some(c),
        })
        .collect()
}

/// `substring`: characters whose place, from 1, lies within the rounded bounds.
pub(super) fn substring(text: &str, start: f64, length: Option<f64>) -> String {
    let start = round(start);
    let end = length.map_or(f64::INFINITY, |length| start + round(length));
    let mut place = 0.0;
    text.chars()
        .filter(|_| {
            place += 1.0;
            place >= start && place < end
        })
        .collect()
}

/// To the nearest integer, halves up.
pub(super) fn round(number: f64) -> f64 {
    (number + 0.5).floor()
}

/// A text as a number; what is none is not-a-number.
pub(super) fn number(text: &str) -> f64 {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.bytes().any(|b| b.is_ascii_digit());
    if plain { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// A number as text.
pub(super) fn text(number: f64) -> String {
    match number {
        n if n.is_nan() => "NaN".to_owned(),
        n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        // Zero has no sign here.
        0.0 => "0".to_owned(),
        n => n.to_string(),
    }
}
