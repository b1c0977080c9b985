//! HTML of a mail, read once: what a person sees, what is hidden from them, links, forms, scripts (WHATWG tokens).
//!
//! `tokens` gives tags and text as browsers form them; the small element stack here is ours and stops at a fixed depth.
//! Never fails. Not here: a DOM, style sheets, anything fetched.
//!
//! Over 500 lines: one pass with one state, and what each element does to it.

use url::Url;

use super::link::{self, Link, LinkKind};
use super::style::{self, Colour, Style};
use super::tokens::{self, Event};

const MAX_STACK: usize = 256;
const MAX_SHOWN_BYTES: usize = 2_000;
const MAX_FORMS: usize = 100;

/// A form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// `action` as written; empty when there is none.
    pub action: String,
    /// Whether it asks for a password.
    pub password: bool,
    /// Input fields that are not hidden.
    pub inputs: usize,
}

/// What one HTML text holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HtmlContent {
    /// Text a person sees, white space collapsed, a line a block; zero-width characters left out.
    pub visible: String,
    /// Text hidden by style, size or colour.
    pub hidden: String,
    /// `<title>`.
    pub title: String,
    /// Forms, in order.
    pub forms: Vec<Form>,
    /// Password fields, inside forms or not.
    pub passwords: usize,
    /// `<script>` elements, `javascript:` targets and event handlers (`onload=`).
    pub scripts: usize,
    /// Source of the scripts, cut at 64 KiB.
    pub script_text: String,
    /// Frames, objects and embedded things.
    pub frames: usize,
    /// Pictures, tracking pixels counted.
    pub images: usize,
    /// Zero-width characters and soft hyphens inside visible text.
    pub zero_width: usize,
    /// Where `<meta http-equiv=refresh>` leads.
    pub refresh: Option<String>,
    /// `<base href>`.
    pub base: Option<Url>,
    /// Where in `visible` the depth of quotation changes, and to what.
    pub(super) quotes: Vec<(usize, u8)>,
    /// Where in `visible` a quoted message begins that nothing encloses.
    pub(super) replies: Vec<usize>,
    /// Links in order: where in `visible` each stands.
    pub(super) places: Vec<LinkPlace>,
}

/// Where a link stands in the visible text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkPlace {
    /// Index among the links of the message.
    pub(super) link: usize,
    /// Bytes of visible text before it.
    pub(super) at: usize,
    /// Whether words are shown for it, and not a picture alone.
    pub(super) words: bool,
}

impl HtmlContent {
    /// Reads HTML that is no body of a message, such as an attached page. At most `max_links` links are given.
    pub fn read(html: &str, max_links: usize) -> (Self, Vec<Link>) {
        let mut links = Vec::new();
        let (content, _) = scan(html, 0, &mut links, max_links);
        (content, links)
    }
}

/// All text of an HTML source without its tags, hidden text included, scripts and styles not; a line a block.
pub fn inner_text(html: &str) -> String {
    let (mut out, mut silent) = (String::new(), 0);
    let line_end = |out: &mut String, name: u64| {
        if is_block(name) {
            out.truncate(out.trim_end_matches(' ').len());
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
        }
    };
    tokens::tokenize(html, |event| match event {
        Event::Open(name) => {
            let name = tag(name.as_bytes());
            line_end(&mut out, name);
            if matches!(name, SCRIPT | STYLE) {
                silent = name;
            }
        }
        Event::End(name) => {
            let name = tag(name.as_bytes());
            line_end(&mut out, name);
            if name == silent {
                silent = 0;
            }
        }
        Event::Text(text) if silent == 0 => {
            push_collapsed(&mut out, &text);
        }
        _ => {}
    });
    out.truncate(out.trim_end().len());
    out
}

/// Reads one HTML text. Links go to `links` as long as there are fewer than `max_links`; the flag tells it was full.
pub(super) fn scan(html: &str, part: usize, links: &mut Vec<Link>, max_links: usize) -> (HtmlContent, bool) {
    let mut scanner = Scanner::new(part, links, max_links);
    run(&mut scanner, html);
    scanner.end_anchor();
    // What Outlook reads and others take for comments: links only.
    for comment in std::mem::take(&mut scanner.conditional) {
        scanner.only_links = true;
        run(&mut scanner, &comment);
        scanner.end_anchor();
    }
    (scanner.out, scanner.full)
}

fn run(scanner: &mut Scanner<'_>, html: &str) {
    tokens::tokenize(html, |event| scanner.event(event));
}

#[derive(Clone, Copy)]
struct Element {
    name: u64,
    hidden: bool,
    foreground: Colour,
    background: Option<Colour>,
    /// Quotations it stands in.
    quotes: u8,
}

const ROOT: Element = Element { name: 0, hidden: false, foreground: 0, background: Some(0xff_ffff), quotes: 0 };
const MAX_QUOTE_CHANGES: usize = 4_096;
/// Classes and ids that mail programs give to what encloses a quoted message.
const QUOTES: &[&str] = &[
    "gmail_quote",
    "gmail_quote_container",
    "yahoo_quoted",
    "mail-editor-reference-message-container",
    "protonmail_quote",
    "tutanota_quote",
    "zmail_extra",
    "reply-quote",
];
/// Classes and ids of what stands before a quoted message that nothing encloses.
const REPLIES: &[&str] = &["divRplyFwdMsg", "OutlookMessageHeader", "x_divRplyFwdMsg"];

struct Scanner<'l> {
    out: HtmlContent,
    links: &'l mut Vec<Link>,
    max_links: usize,
    full: bool,
    part: usize,
    stack: Vec<Element>,
    tag: u64,
    /// The tag's attributes that matter: name, value.
    attributes: Vec<(Attribute, String)>,
    anchor: Option<Anchor>,
    /// Element whose text is not shown: script, style, title.
    silent: u64,
    conditional: Vec<String>,
    only_links: bool,
}

struct Anchor {
    target: String,
    shown: String,
    image: bool,
    visible: bool,
    words: bool,
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Other,
    Href,
    Src,
    Action,
    FormAction,
    Style,
    Background,
    BgColor,
    Colour,
    Hidden,
    Type,
    HttpEquiv,
    Content,
    Alt,
    Class,
    Id,
}

const ATTRIBUTES: &[(&str, Attribute)] = &[
    ("href", Attribute::Href),
    ("style", Attribute::Style),
    ("src", Attribute::Src),
    ("alt", Attribute::Alt),
    ("bgcolor", Attribute::BgColor),
    ("color", Attribute::Colour),
    ("background", Attribute::Background),
    ("action", Attribute::Action),
    ("formaction", Attribute::FormAction),
    ("xlink:href", Attribute::Href),
    ("data", Attribute::Src),
    ("hidden", Attribute::Hidden),
    ("type", Attribute::Type),
    ("http-equiv", Attribute::HttpEquiv),
    ("content", Attribute::Content),
    ("class", Attribute::Class),
    ("id", Attribute::Id),
];

fn attribute(name: &str) -> Attribute {
    ATTRIBUTES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map_or(Attribute::Other, |(_, kind)| *kind)
}

/// The first eight bytes of a tag's name: enough to tell those apart that matter here.
const fn tag(name: &[u8]) -> u64 {
    let (mut value, mut at) = (0, 0);
    while at < name.len() && at < 8 {
        value = value << 8 | name[at].to_ascii_lowercase() as u64;
        at += 1;
    }
    value
}

macro_rules! tags {
    ($($name:ident = $text:literal),+ $(,)?) => { $(const $name: u64 = tag($text);)+ };
}
tags! {
    A = b"a", AREA = b"area", BASE = b"base", BLOCKQUOTE = b"blockquote",
    BR = b"br", BUTTON = b"button", CENTER = b"center", COL = b"col", DD = b"dd", DIV = b"div", DT = b"dt", EMBED = b"embed",
    FONT = b"font", FORM = b"form", FRAME = b"frame", H1 = b"h1", H2 = b"h2", H3 = b"h3", H4 = b"h4", H5 = b"h5", H6 = b"h6", HR = b"hr",
    IFRAME = b"iframe", IMG = b"img", IMAGE = b"image", INPUT = b"input", LI = b"li", LINK = b"link", META = b"meta",
    OBJECT = b"object", OL = b"ol", P = b"p", PARAM = b"param", PRE = b"pre", SECTION = b"section", SCRIPT = b"script", SOURCE = b"source", STYLE = b"style",
    TABLE = b"table", TD = b"td", TEMPLATE = b"template", TH = b"th", TITLE = b"title", TR = b"tr", TRACK = b"track",
    UL = b"ul", WBR = b"wbr",
}

fn is_void(tag: u64) -> bool {
    matches!(
        tag,
        AREA | BASE | BR | COL | EMBED | HR | IMG | INPUT | LINK | META | PARAM | SOURCE | TRACK | WBR | FRAME
    )
}

fn is_block(tag: u64) -> bool {
    matches!(
        tag,
        BLOCKQUOTE
            | BR
            | CENTER
            | DD
            | DIV
            | DT
            | FORM
            | H1
            | H2
            | H3
            | H4
            | H5
            | H6
            | HR
            | LI
            | OL
            | P
            | PRE
            | SECTION
            | TABLE
            | TD
            | TH
            | TR
            | UL
    )
}

impl<'l> Scanner<'l> {
    fn new(part: usize, links: &'l mut Vec<Link>, max_links: usize) -> Self {
        Self {
            out: HtmlContent::default(),
            links,
            max_links,
            full: false,
            part,
            stack: Vec::with_capacity(64),
            tag: 0,
            attributes: Vec::new(),
            anchor: None,
            silent: 0,
            conditional: Vec::new(),
            only_links: false,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Open(name) => {
                self.tag = tag(name.as_bytes());
                self.attributes.clear();
            }
            Event::Attribute(name, value) => {
                let kind = attribute(name);
                let handler = name.len() > 4 && name.as_bytes()[..2].eq_ignore_ascii_case(b"on");
                self.out.scripts += usize::from(handler);
                if kind != Attribute::Other && (!value.is_empty() || kind == Attribute::Hidden) {
                    self.attributes.push((kind, tokens::unescape(value, true).into_owned()));
                }
            }
            Event::Close { self_closing } => self.start_tag(self_closing),
            Event::End(name) => self.end_tag(tag(name.as_bytes())),
            Event::Text(text) => self.text(&text),
            Event::Comment(text) => {
                let conditional = text.starts_with("[if") && !self.only_links && self.conditional.len() < 64;
                if conditional {
                    self.conditional.push(text.to_owned());
                }
            }
        }
    }

    fn value(&self, wanted: Attribute) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim())
    }

    fn take(&mut self, wanted: Attribute) -> Option<String> {
        self.value(wanted).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn here(&self) -> Element {
        self.stack.last().copied().unwrap_or(ROOT)
    }

    fn start_tag(&mut self, self_closing: bool) {
        let name = self.tag;
        self.close_implied(name);
        if is_block(name) {
            self.line_end();
        }
        let element = self.styled(name);
        self.reply_header();
        match name {
            A => self.start_anchor(element.hidden),
            AREA => self.link_of(Attribute::Href, LinkKind::Area, element.hidden),
            FORM => self.start_form(element.hidden),
            INPUT | BUTTON => self.input(element.hidden),
            IMG | IMAGE => self.picture(element.hidden),
            BASE if self.out.base.is_none() => {
                self.out.base = self.value(Attribute::Href).and_then(|href| Url::parse(href).ok());
            }
            META => self.meta(),
            SCRIPT => {
                self.out.scripts += 1;
                self.link_of(Attribute::Src, LinkKind::Resource, true);
            }
            LINK => self.link_of(Attribute::Href, LinkKind::Resource, true),
            IFRAME | FRAME | OBJECT | EMBED => {
                self.out.frames += 1;
                self.link_of(Attribute::Src, LinkKind::Resource, element.hidden);
            }
            // VML and SVG shapes that are clicked on.
            _ if self.value(Attribute::Href).is_some() => {
                self.link_of(Attribute::Href, LinkKind::Anchor, element.hidden)
            }
            _ => {}
        }
        if self.value(Attribute::Background).is_some() {
            self.link_of(Attribute::Background, LinkKind::Resource, true);
        }
        if matches!(name, SCRIPT | STYLE | TITLE | TEMPLATE) {
            self.silent = name;
        }
        if !is_void(name) && !self_closing && self.stack.len() < MAX_STACK {
            self.stack.push(element);
        }
    }

    /// `p`, `li`, cells and rows end without an end tag when the next one begins.
    fn close_implied(&mut self, name: u64) {
        while let Some(top) = self.stack.last() {
            let ends = match top.name {
                P => is_block(name) && name != BR,
                LI => name == LI,
                TD | TH => matches!(name, TD | TH | TR),
                TR => name == TR,
                _ => false,
            };
            if !ends {
                break;
            }
            self.stack.pop();
        }
    }

    fn styled(&self, name: u64) -> Element {
        let above = self.here();
        let mut style = Style::default();
        let mut quotes = false;
        for (attribute, value) in &self.attributes {
            match attribute {
                Attribute::Style => style.read(value),
                Attribute::BgColor => style.background = Some(style::colour(value)),
                Attribute::Background => style.background = Some(None),
                Attribute::Colour if name == FONT => style.foreground = style::colour(value),
                Attribute::Hidden => style.hidden = true,
                Attribute::Class | Attribute::Id => {
                    let mut words = value.split_ascii_whitespace().take(16);
                    quotes |= words.any(|word| QUOTES.iter().any(|known| word.eq_ignore_ascii_case(known)));
                }
                Attribute::Type => quotes |= name == BLOCKQUOTE && value.eq_ignore_ascii_case("cite"),
                _ => {}
            }
        }
        Element {
            name,
            hidden: (above.hidden && !style.shown) || style.hidden,
            foreground: style.foreground.unwrap_or(above.foreground),
            background: style.background.unwrap_or(above.background),
            quotes: above.quotes.saturating_add(u8::from(quotes)),
        }
    }

    fn end_tag(&mut self, name: u64) {
        if name == self.silent {
            self.silent = 0;
        }
        if name == A {
            self.end_anchor();
        }
        if is_block(name) {
            self.line_end();
        }
        if let Some(place) = self.stack.iter().rposition(|element| element.name == name) {
            self.stack.truncate(place);
        }
    }

    /// Notes the place of a header that begins a quoted message.
    fn reply_header(&mut self) {
        let marks = |(kind, value): &(Attribute, String)| {
            matches!(kind, Attribute::Class | Attribute::Id)
                && REPLIES.iter().any(|known| value.eq_ignore_ascii_case(known))
        };
        if self.out.replies.len() < MAX_QUOTE_CHANGES && self.attributes.iter().any(marks) {
            self.out.replies.push(self.out.visible.len());
        }
    }

    /// Notes where the visible text enters or leaves a quotation.
    fn note_quotes(&mut self, depth: u8) {
        let before = self.out.quotes.last().map_or(0, |(_, depth)| *depth);
        if depth != before && self.out.quotes.len() < MAX_QUOTE_CHANGES {
            self.out.quotes.push((self.out.visible.len(), depth));
        }
    }

    fn text(&mut self, value: &str) {
        match self.silent {
            0 => {}
            TITLE => {
                push_collapsed(&mut self.out.title, value);
                return;
            }
            SCRIPT => {
                if self.out.script_text.len() < 64 << 10 {
                    self.out.script_text.push_str(value);
                    self.out.script_text.push('\n');
                }
                return;
            }
            _ => return,
        }
        let here = self.here();
        let unseen = here.background.is_some_and(|ground| style::same_to_the_eye(here.foreground, ground));
        if self.only_links {
            // The same text stands outside of the comment for other readers.
        } else if here.hidden || unseen {
            push_collapsed(&mut self.out.hidden, value);
        } else {
            if !value.trim_ascii().is_empty() {
                self.note_quotes(here.quotes);
            }
            self.out.zero_width += push_collapsed(&mut self.out.visible, value);
        }
        if let Some(anchor) = &mut self.anchor
            && anchor.shown.len() < MAX_SHOWN_BYTES
        {
            push_collapsed(&mut anchor.shown, value);
            anchor.words = true;
        }
    }

    fn line_end(&mut self) {
        for text in [&mut self.out.visible, &mut self.out.hidden] {
            while text.ends_with(' ') {
                text.pop();
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
        }
    }

    fn start_anchor(&mut self, hidden: bool) {
        self.end_anchor();
        if let Some(target) = self.take(Attribute::Href) {
            self.anchor = Some(Anchor {
                target,
                shown: String::new(),
                image: false,
                visible: !hidden && !self.only_links,
                words: false,
                at: self.out.visible.len(),
            });
        }
    }

    fn end_anchor(&mut self) {
        if let Some(anchor) = self.anchor.take() {
            let shown = anchor.shown.trim().to_owned();
            let known = self.links.len();
            self.push(LinkKind::Anchor, anchor.target, shown, anchor.image, anchor.visible);
            if let Some(place) = self.out.places.last_mut().filter(|place| place.link == known) {
                (place.at, place.words) = (anchor.at, anchor.words);
            }
        }
    }

    fn link_of(&mut self, source: Attribute, kind: LinkKind, hidden: bool) {
        if let Some(target) = self.take(source) {
            let shown = self.take(Attribute::Alt).unwrap_or_default();
            self.push(kind, target, shown, kind == LinkKind::Area, !hidden && !self.only_links);
        }
    }

    fn push(&mut self, kind: LinkKind, text: String, shown: String, image: bool, visible: bool) {
        if self.links.len() >= self.max_links {
            self.full = true;
            return;
        }
        let script = text.len() > 11 && text.as_bytes()[..11].eq_ignore_ascii_case(b"javascript:");
        self.out.scripts += usize::from(script);
        // Pictures inside the message, and places in it, lead nowhere.
        if text.starts_with("cid:") || text.starts_with('#') {
            return;
        }
        let url = link::resolve(&text, self.out.base.as_ref());
        // The alternative text of a picture is no words.
        let words = kind != LinkKind::Area;
        self.out.places.push(LinkPlace { link: self.links.len(), at: self.out.visible.len(), words });
        self.links.push(Link { kind, text, url, shown, image, visible, part: self.part });
    }

    fn start_form(&mut self, hidden: bool) {
        let action = self.take(Attribute::Action).unwrap_or_default();
        if self.out.forms.len() < MAX_FORMS {
            self.out.forms.push(Form { action: action.clone(), ..Form::default() });
        }
        if !action.is_empty() {
            self.push(LinkKind::Form, action, String::new(), false, !hidden);
        }
    }

    fn input(&mut self, hidden: bool) {
        let kind = self.value(Attribute::Type).unwrap_or_default().to_ascii_lowercase();
        let (password, is_field) = (kind == "password", self.tag == INPUT);
        self.out.passwords += usize::from(password);
        if let Some(form) = self.out.forms.last_mut() {
            form.password |= password;
            form.inputs += usize::from(is_field && kind != "hidden" && kind != "submit");
        }
        self.link_of(Attribute::FormAction, LinkKind::Form, hidden);
    }

    fn picture(&mut self, hidden: bool) {
        self.out.images += 1;
        let alt = self.take(Attribute::Alt).unwrap_or_default();
        if let Some(anchor) = &mut self.anchor {
            anchor.image = true;
            if anchor.shown.len() < MAX_SHOWN_BYTES {
                push_collapsed(&mut anchor.shown, &alt);
            }
        }
        self.link_of(Attribute::Src, LinkKind::Image, hidden);
    }

    fn meta(&mut self) {
        let refresh = self.value(Attribute::HttpEquiv).is_some_and(|v| v.eq_ignore_ascii_case("refresh"));
        let Some(content) = self.take(Attribute::Content).filter(|_| refresh) else { return };
        let lower = content.to_ascii_lowercase();
        if let Some(at) = lower.find("url=") {
            let target = content[at + 4..].trim().trim_matches(['\'', '"']).to_owned();
            self.out.refresh.get_or_insert_with(|| target.clone());
            self.push(LinkKind::Refresh, target, String::new(), false, false);
        }
    }
}

/// Appends text with white space collapsed; gives how many characters without width were left out.
fn push_collapsed(out: &mut String, value: &str) -> usize {
    let mut zero_width = 0;
    let mut space = out.is_empty() || out.ends_with([' ', '\n']);
    let mut run = 0;
    for (at, c) in value.char_indices() {
        let blank = c.is_whitespace();
        let none = is_zero_width(c);
        if !blank && !none {
            space = false;
            continue;
        }
        out.push_str(&value[run..at]);
        run = at + c.len_utf8();
        zero_width += usize::from(none);
        if blank && !space {
            out.push(' ');
            space = true;
        }
    }
    out.push_str(&value[run..]);
    zero_width
}

/// Characters that take no room, inside words only used to break them for filters.
pub(super) fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> (HtmlContent, Vec<Link>) {
        let mut links = Vec::new();
        let (content, _) = scan(html, 0, &mut links, 100);
        (content, links)
    }

    #[test]
    fn visible_and_hidden() {
        let cases: &[(&str, &str, &str)] = &[
            ("<p>a  b</p><p>c", "a b\nc", ""),
            ("a<span style='display:none'>x</span>b", "ab", "x"),
            ("a<span style='color:#fff'>x</span>b", "ab", "x"),
            ("<table bgcolor=black><tr><td><font color=white>a</font></table>", "a\n", ""),
            ("<div hidden>x</div>a", "a", "x\n"),
            ("<p style='display:none'>x<p>a", "a", "x\n"),
            ("<div style='font-size:0'>x<b style='font-size:12px'>a</b></div>", "a\n", "x\n"),
            ("<script>x</script><style>y</style><title>t</title>a", "a", ""),
            ("pay\u{200b}pal", "paypal", ""),
            ("&lt;b&gt;", "<b>", ""),
            ("<div style='background:url(x);color:white'>a</div>", "a\n", ""),
        ];
        for (html, visible, hidden) in cases {
            let (content, _) = read(html);
            assert_eq!((content.visible.as_str(), content.hidden.as_str()), (*visible, *hidden), "{html}");
        }
    }

    #[test]
    fn links_of_all_kinds() {
        let (content, links) = read(
            "<base href='https://example.org/'><a href=' /a '>go <b>there</b></a><area href=b alt=map>\
             <form action=https://f.example/><input type=password><input type=hidden></form>\
             <img src=http://i.example/x.png><meta http-equiv=Refresh content='0; URL=\"http://r.example/\"'>\
             <!--[if mso]><a href='http://m.example/'>m</a><![endif]--><iframe src=//fr.example/></iframe>\
             <a href='javascript:x()'>j</a><a href='#top'>t</a><button formaction=https://g.example/>",
        );
        let got: Vec<_> = links.iter().map(|l| (l.kind, l.host().unwrap_or("-"), l.shown.as_str())).collect();
        assert_eq!(
            got,
            [
                (LinkKind::Anchor, "example.org", "go there"),
                (LinkKind::Area, "example.org", "map"),
                (LinkKind::Form, "f.example", ""),
                (LinkKind::Image, "i.example", ""),
                (LinkKind::Refresh, "r.example", ""),
                (LinkKind::Resource, "fr.example", ""),
                (LinkKind::Anchor, "-", "j"),
                (LinkKind::Form, "g.example", ""),
                (LinkKind::Anchor, "m.example", "m"),
            ]
        );
        assert_eq!(content.forms, [Form { action: "https://f.example/".into(), password: true, inputs: 1 }]);
        assert_eq!((content.passwords, content.scripts, content.frames, content.images), (1, 1, 1, 1));
    }

    #[test]
    fn text_without_tags() {
        let cases = [
            ("<p>a <b>b</b></p><p style='display:none'>c</p><script>x</script>d", "a b\nc\nd"),
            ("<style>x</style>&lt;a&gt;<br>b", "<a>\nb"),
            ("", ""),
        ];
        for (html, expected) in cases {
            assert_eq!(inner_text(html), expected, "{html}");
        }
    }

    #[test]
    fn deep_and_unclosed() {
        let html = "<div>".repeat(100_000) + "x" + &"<a href=http://a.example/>".repeat(200);
        let (content, links) = read(&html);
        assert_eq!(content.visible.trim(), "x");
        assert_eq!(links.len(), 100);
    }
}
