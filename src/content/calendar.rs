//! iCalendar (RFC 5545): unfolded lines, parameters, components; properties stay as written, text is decoded on demand.
//!
//! Never fails: a line without a colon is skipped, an unclosed component ends with the file. Limits: properties in all
//! (`max_properties` of the caller). Components inside others (alarms) stand in the same list. Not here: recurrence,
//! time zones.

/// One property of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Name in upper case.
    pub name: String,
    /// Parameters: name in upper case, value without quotes.
    pub parameters: Vec<(String, String)>,
    /// Value as written, unfolded.
    pub value: String,
}

impl Property {
    /// The value of a parameter, by its name in upper case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value as text: `\n`, `\,`, `\;` and `\\` decoded (3.3.11).
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(self.value.len());
        let mut chars = self.value.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n' | 'N') => out.push('\n'),
                    Some(other) => out.push(other),
                    None => out.push('\\'),
                },
                c => out.push(c),
            }
        }
        out
    }
}

/// A person of an event: organizer or attendee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// `CN`.
    pub name: Option<String>,
    /// The address without `mailto:`.
    pub address: String,
}

/// An event, task, alarm, …
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component {
    /// `VEVENT`, `VTODO`, …, in upper case.
    pub kind: String,
    /// Properties in order.
    pub properties: Vec<Property>,
}

impl Component {
    /// The first property of that name (upper case).
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|p| p.name == name)
    }

    /// The decoded text of the first property of that name.
    pub fn text(&self, name: &str) -> Option<String> {
        self.property(name).map(Property::text)
    }

    /// `UID`.
    pub fn uid(&self) -> Option<&str> {
        self.property("UID").map(|p| p.value.as_str())
    }

    /// `SUMMARY`.
    pub fn summary(&self) -> Option<String> {
        self.text("SUMMARY")
    }

    /// `DESCRIPTION`.
    pub fn description(&self) -> Option<String> {
        self.text("DESCRIPTION")
    }

    /// `LOCATION`.
    pub fn location(&self) -> Option<String> {
        self.text("LOCATION")
    }

    /// The description as HTML: `X-ALT-DESC;FMTTYPE=text/html`, or a description that is HTML itself.
    pub fn description_html(&self) -> Option<String> {
        let html = |p: &&Property| {
            let declared = p.parameter("FMTTYPE").is_some_and(|t| t.eq_ignore_ascii_case("text/html"));
            matches!(p.name.as_str(), "X-ALT-DESC" | "DESCRIPTION" | "STYLED-DESCRIPTION") && declared
        };
        self.properties.iter().find(html).map(Property::text).or_else(|| {
            self.description().filter(|d| {
                let start = d.trim_start().get(..1).unwrap_or_default();
                start == "<" || d.contains("<html") || d.contains("<a ") || d.contains("</")
            })
        })
    }

    /// `ORGANIZER`, usually one.
    pub fn organizers(&self) -> impl Iterator<Item = Participant> {
        self.participants("ORGANIZER")
    }

    /// `ATTENDEE`.
    pub fn attendees(&self) -> impl Iterator<Item = Participant> {
        self.participants("ATTENDEE")
    }

    fn participants(&self, name: &'static str) -> impl Iterator<Item = Participant> {
        self.properties.iter().filter(move |p| p.name == name).map(|p| {
            let value = p.value.trim();
            let mail = value.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("mailto:"));
            let address = if mail { &value[7..] } else { value }.to_owned();
            Participant { name: p.parameter("CN").map(str::to_owned), address }
        })
    }

    /// Targets of `ATTACH` that are no inline data.
    pub fn attachments(&self) -> impl Iterator<Item = &str> {
        let inline = |p: &Property| p.parameter("VALUE").is_some_and(|v| v.eq_ignore_ascii_case("BINARY"));
        self.properties.iter().filter(move |p| p.name == "ATTACH" && !inline(p)).map(|p| p.value.as_str())
    }
}

/// One calendar object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    /// Properties of the calendar itself: `PRODID`, `METHOD`, `CALSCALE`, `VERSION`, …
    pub properties: Vec<Property>,
    /// Components in order of their beginning, inner ones included.
    pub components: Vec<Component>,
}

impl Calendar {
    fn value(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|p| p.name == name).map(|p| p.value.as_str())
    }

    /// `PRODID`.
    pub fn product_id(&self) -> Option<&str> {
        self.value("PRODID")
    }

    /// `METHOD`.
    pub fn method(&self) -> Option<&str> {
        self.value("METHOD")
    }

    /// `CALSCALE`.
    pub fn scale(&self) -> Option<&str> {
        self.value("CALSCALE")
    }

    /// The events.
    pub fn events(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|c| c.kind == "VEVENT")
    }
}

/// Reads all calendars of a file; at most `max_properties` properties and as many components.
pub(super) fn read(text: &str, max_properties: usize) -> Vec<Calendar> {
    let mut out: Vec<Calendar> = Vec::new();
    let (mut open, mut count): (Vec<usize>, usize) = (Vec::new(), 0);
    for line in unfold(text) {
        let Some(property) = property(&line) else { continue };
        count += 1;
        if count > max_properties {
            break;
        }
        match (property.name.as_str(), out.last_mut()) {
            ("BEGIN", _) if property.value.trim().eq_ignore_ascii_case("VCALENDAR") => {
                out.push(Calendar::default());
                open.clear();
            }
            ("BEGIN", Some(calendar)) => {
                open.push(calendar.components.len());
                let kind = property.value.trim().to_ascii_uppercase();
                calendar.components.push(Component { kind, properties: Vec::new() });
            }
            ("END", _) => {
                open.pop();
            }
            (_, Some(calendar)) => match open.last() {
                Some(at) => calendar.components[*at].properties.push(property),
                None => calendar.properties.push(property),
            },
            (_, None) => {}
        }
    }
    out
}

/// Joins folded lines (3.1): a line that begins with a blank goes on.
fn unfold(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in text.trim_start_matches('\u{feff}').split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (line.strip_prefix([' ', '\t']), out.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => out.push(line.to_owned()),
        }
    }
    out
}

/// `NAME;PARAM="a:b";P=c:value`.
fn property(line: &str) -> Option<Property> {
    let mut quoted = false;
    let colon = line.bytes().position(|b| {
        quoted ^= b == b'"';
        b == b':' && !quoted
    });
    // An unclosed quote: the first colon after all.
    let (head, value) = line.split_at(colon.or_else(|| line.find(':'))?);
    let mut pieces = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, byte) in head.bytes().enumerate() {
        quoted ^= byte == b'"';
        if byte == b';' && !quoted {
            pieces.push(&head[start..at]);
            start = at + 1;
        }
    }
    pieces.push(&head[start..]);
    let mut pieces = pieces.into_iter();
    let name = pieces.next()?.trim().to_ascii_uppercase();
    let parameters = pieces.filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        Some((name.trim().to_ascii_uppercase(), value.trim().trim_matches('"').to_owned()))
    });
    (!name.is_empty()).then(|| Property { name, parameters: parameters.collect(), value: value[1..].to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "\u{feff}BEGIN:VCALENDAR\r\nPRODID:-//x//EN\r\nMETHOD:REQUEST\r\nCALSCALE:GREGORIAN\r\n\
        BEGIN:VEVENT\r\nUID:1@example.com\r\nSUMMARY;LANGUAGE=en:Pay\\, now\r\n\
        DESCRIPTION:See https://exam\r\n ple.com/a\\nbye\r\nORGANIZER;CN=\"A; B: C\":MAILTO:a@example.com\r\n\
        ATTENDEE;CN=X:mailto:x@example.org\r\nATTENDEE:mailto:y@example.org\r\n\
        ATTACH;FMTTYPE=text/html:https://example.net/f\r\nATTACH;VALUE=BINARY:AAAA\r\n\
        X-ALT-DESC;FMTTYPE=text/html:<p>hi\\, there</p>\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nEND:VALARM\r\n\
        LOCATION:Room\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    #[test]
    fn an_invitation() {
        let calendars = read(EVENT, 1_000);
        let calendar = &calendars[0];
        assert_eq!((calendar.product_id(), calendar.method()), (Some("-//x//EN"), Some("REQUEST")));
        assert_eq!(calendar.scale(), Some("GREGORIAN"));
        let event = calendar.events().next().unwrap();
        assert_eq!(event.uid(), Some("1@example.com"));
        assert_eq!(event.summary().as_deref(), Some("Pay, now"));
        assert_eq!(event.description().as_deref(), Some("See https://example.com/a\nbye"));
        assert_eq!(event.description_html().as_deref(), Some("<p>hi, there</p>"));
        assert_eq!(event.location().as_deref(), Some("Room"));
        let organizer = event.organizers().next().unwrap();
        assert_eq!((organizer.name.as_deref(), organizer.address.as_str()), (Some("A; B: C"), "a@example.com"));
        assert_eq!(event.attendees().count(), 2);
        assert_eq!(event.attachments().collect::<Vec<_>>(), ["https://example.net/f"]);
        assert_eq!(calendar.components[1].kind, "VALARM");
    }

    #[test]
    fn cut_anywhere() {
        for at in (0..EVENT.len()).filter(|at| EVENT.is_char_boundary(*at)) {
            read(&EVENT[..at], 1_000);
        }
        assert!(read("BEGIN:VEVENT\nA:b\n", 9).is_empty());
        assert_eq!(read(EVENT, 3)[0].components.len(), 0);
        assert_eq!(read("BEGIN:VCALENDAR\nX;A=\"b:c\n:\nEND:", 9)[0].properties[0].name, "X");
    }
}
