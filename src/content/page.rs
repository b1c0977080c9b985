//! HTML and SVG files as a browser's tokenizer reads them: title, scripts, links, data in links.
//!
//! Tokens only (HTML 13.2.5, by html5ever), no tree: nothing recurses. Limits: entries of each kind (`most`).

use std::cell::RefCell;

use base64::Engine;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::{Rawtext, Rcdata, ScriptData};
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

/// A `<script>` of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// `language`, or what `type` says.
    pub language: Option<String>,
    /// `src`.
    pub source: Option<String>,
    /// Its text.
    pub text: String,
}

/// A `<span>` of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// `class`.
    pub class: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `style`.
    pub style: Option<String>,
}

/// What an HTML or SVG file shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The first `<title>`, white space trimmed.
    pub title: Option<String>,
    /// Scripts in order.
    pub scripts: Vec<Script>,
    /// Targets of `href`, `src`, `action`, `data`, `xlink:href`, as written, each once.
    pub hyperlinks: Vec<String>,
    /// Spans in order.
    pub spans: Vec<Span>,
    /// Source of event handlers (`onload=`) and of `javascript:` targets.
    pub handlers: Vec<String>,
    /// Element names, each once, in order.
    pub tags: Vec<String>,
}

impl Page {
    /// Data URIs among the links that are pictures, pages or files: declared type and content, at most `most` bytes each.
    pub(super) fn data(&self, most: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.hyperlinks.iter().filter_map(move |link| {
            let (head, body) = link.trim_start().split_once(',')?;
            let kind = head.get(..5).filter(|s| s.eq_ignore_ascii_case("data:")).map(|_| &head[5..])?;
            let content = match kind.to_ascii_lowercase().strip_suffix(";base64") {
                Some(_) => {
                    let clean: Vec<u8> =
                        percent(body).into_iter().filter(|b| !b.is_ascii_whitespace() && *b != b'=').collect();
                    base64::engine::general_purpose::STANDARD_NO_PAD.decode(&clean[..clean.len().min(most * 2)]).ok()?
                }
                None => percent(body),
            };
            let declared = kind.split(';').next().unwrap_or_default().to_owned();
            (!content.is_empty() && content.len() <= most).then_some((declared, content))
        })
    }
}

fn percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Nothing,
    Script,
    Title,
}

struct State {
    page: Page,
    inside: Inside,
    most: usize,
    seen: std::collections::HashSet<String>,
}

struct Sink(RefCell<State>);

/// Reads a page; at most `most` entries of each kind.
pub(super) fn read(text: &str, most: usize) -> Page {
    let state = State { page: Page::default(), inside: Inside::Nothing, most, seen: Default::default() };
    let tokenizer = Tokenizer::new(Sink(RefCell::new(state)), TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(text));
    // Only a sink that asks for scripts to run stops the tokenizer; ours does not.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let mut page = tokenizer.sink.0.into_inner().page;
    page.title = page.title.map(|title| title.trim().to_owned());
    page
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return state.start(&tag),
            Token::TagToken(_) => state.inside = Inside::Nothing,
            Token::CharacterTokens(text) => match state.inside {
                Inside::Script => {
                    if let Some(script) = state.page.scripts.last_mut() {
                        script.text.push_str(&text);
                    }
                }
                Inside::Title => state.page.title.get_or_insert_default().push_str(&text),
                Inside::Nothing => {}
            },
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl State {
    fn start(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let value = |wanted: &str| tag.attrs.iter().find(|a| &*a.name.local == wanted).map(|a| a.value.to_string());
        let page = &mut self.page;
        if page.tags.len() < self.most && !page.tags.iter().any(|t| t == name) {
            page.tags.push(name.to_owned());
        }
        for attribute in &tag.attrs {
            let (key, value) = (&*attribute.name.local, &*attribute.value);
            let script = value.trim_start().get(..11).is_some_and(|s| s.eq_ignore_ascii_case("javascript:"));
            if script || (key.starts_with("on") && key.len() > 3) {
                if page.handlers.len() < self.most {
                    page.handlers.push(if script { value.trim_start()[11..].to_owned() } else { value.to_owned() });
                }
            } else if matches!(key, "href" | "src" | "action" | "data" | "xlink:href" | "formaction" | "background")
                && !value.is_empty()
                && page.hyperlinks.len() < self.most
                && self.seen.insert(value.to_owned())
            {
                page.hyperlinks.push(value.to_owned());
            }
        }
        match name {
            "script" if page.scripts.len() < self.most => {
                let language = value("language").or_else(|| {
                    value("type").map(|t| t.rsplit('/').next().unwrap_or_default().trim_start_matches("x-").to_owned())
                });
                let source = value("src").or_else(|| value("href")).or_else(|| value("xlink:href"));
                page.scripts.push(Script { language, source, text: String::new() });
                if tag.self_closing {
                    return TokenSinkResult::Continue;
                }
                self.inside = Inside::Script;
                TokenSinkResult::RawData(ScriptData)
            }
            "title" if page.title.is_none() => {
                self.inside = Inside::Title;
                TokenSinkResult::RawData(Rcdata)
            }
            "textarea" => TokenSinkResult::RawData(Rcdata),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" if !tag.self_closing => {
                TokenSinkResult::RawData(Rawtext)
            }
            "span" if page.spans.len() < self.most => {
                page.spans.push(Span { class: value("class"), id: value("id"), style: value("style") });
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "<!doctype html><title> Sign in &amp; go </title><body onload=\"go()\"><script language=VBScript \
        src=a.vbs></script><script type=text/javascript>if (a<b) document.write('</p>')</script><span class=x id=y>\
        <a href='https://example.com/?a&amp;b'>x</a><img src=\"data:image/png;base64,iVBO Rw0KGgo=\">\
        <a href=javascript:run()>y</a><embed src='data:text/plain,a%20b'>";

    #[test]
    fn a_page() {
        let page = read(TEXT, 100);
        assert_eq!(page.title.as_deref(), Some("Sign in & go"));
        assert_eq!(page.scripts[0].language.as_deref(), Some("VBScript"));
        assert_eq!(page.scripts[0].source.as_deref(), Some("a.vbs"));
        assert_eq!(page.scripts[1].text, "if (a<b) document.write('</p>')");
        assert_eq!(page.hyperlinks[1], "https://example.com/?a&b");
        assert_eq!(page.handlers, ["go()", "run()"]);
        assert_eq!(page.spans[0].id.as_deref(), Some("y"));
        let data: Vec<_> = page.data(100).collect();
        assert_eq!(data[0], ("image/png".to_owned(), b"\x89PNG\r\n\x1a\n".to_vec()));
        assert_eq!(data[1], ("text/plain".to_owned(), b"a b".to_vec()));
    }

    #[test]
    fn bounded_and_forgiving() {
        for at in 0..TEXT.len() {
            read(&TEXT[..at], 100);
        }
        let many = "<span><script></script><a href=1>".repeat(50);
        let page = read(&many, 10);
        assert_eq!((page.spans.len(), page.scripts.len(), page.hyperlinks.len()), (10, 10, 1));
    }
}
