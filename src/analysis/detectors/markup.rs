//! How it is written in HTML: forms, scripts, hidden text, broken words, nothing but a picture.

use super::identity::odd_word;
use crate::analysis::Code;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::LinkKind;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let body = view.input.message.body();
    for (_, html) in &body.html {
        if html.passwords > 0 {
            out.add(Code::PasswordInMail, 1.0, "");
        } else if html.forms.iter().any(|form| form.inputs > 0 && !form.action.is_empty()) {
            out.add(Code::FormInMail, 1.0, "");
        }
        if html.scripts > 0 {
            out.add(Code::ScriptInMail, 1.0, "");
        }
        if let Some(target) = &html.refresh {
            out.add(Code::RefreshInMail, 1.0, target);
        }
        hidden(&html.visible, &html.hidden, out);
        // Newsletters fill the preview line with them; inside words they serve nothing but hiding.
        let text = html.visible.len().max(1);
        if html.zero_width > 20 && html.zero_width * 10 > text {
            out.add(Code::BrokenWords, 1.0, format!("{} in {text} bytes", html.zero_width));
        }
    }
    if let Some(odd) = odd_word(view.text.get(..view.text.floor_char_boundary(20_000)).unwrap_or_default()) {
        out.add(Code::OddScriptText, 1.0, odd);
    }
    image_only(view, out);
}

/// A preview line is short; what is hidden beyond that is meant for filters.
fn hidden(visible: &str, hidden: &str, out: &mut Signals) {
    if hidden.len() <= 400 {
        return;
    }
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    let (seen, unseen) = (letters(visible), letters(hidden));
    if unseen > 400 && unseen * 2 > seen {
        let strength = if unseen > seen * 2 { 1.0 } else { 0.6 };
        out.add(Code::HiddenText, strength, format!("{unseen} characters hidden, {seen} shown"));
    }
}

fn image_only(view: &View<'_>, out: &mut Signals) {
    let message = view.input.message;
    let clicked = message.links().iter().any(|l| (l.kind == LinkKind::Anchor && l.image) || l.kind == LinkKind::Area);
    let pictures = message.body().html.iter().any(|(_, html)| html.images > 0);
    if !pictures || !clicked {
        return;
    }
    let letters = message.text().chars().filter(|c| c.is_alphanumeric()).take(201).count();
    if letters < 200 {
        out.add(Code::ImageOnly, if letters < 100 { 1.0 } else { 0.6 }, format!("{letters} letters"));
    }
}
