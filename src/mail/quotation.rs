//! The lines that stand before a quoted message: header blocks (`From: … Sent: …`), `On … wrote:`, separators.
//!
//! Works on visible text, a line a block, in the languages that mail programs are used in. Looks a bounded number of
//! lines ahead, so the whole is linear. Not here: what belongs to which message (`threads.rs`).

use mail_parser::DateTime;

use super::{Address, Mailbox};

/// Lines of a header block at most, empty ones counted.
const MAX_HEADER_LINES: usize = 16;
const MAX_ATTRIBUTION_BYTES: usize = 500;
const MAX_MAILBOXES: usize = 200;

/// What a quoted message's header says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotedHeader {
    /// Who is said to have written it; an address may be missing.
    pub sender: Option<Mailbox>,
    /// To whom it is said to have gone.
    pub to: Vec<Mailbox>,
    /// Copies.
    pub cc: Vec<Mailbox>,
    /// Blind copies.
    pub bcc: Vec<Mailbox>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its date in seconds since 1970, when written as mail programs write it in headers.
    pub date: Option<i64>,
}

/// A preamble found: how many lines it takes, and what they say.
pub(super) struct Preamble {
    pub(super) lines: usize,
    pub(super) header: QuotedHeader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    From,
    Date,
    To,
    Cc,
    Bcc,
    Subject,
    Other,
}

#[rustfmt::skip]
const LABELS: &[(Label, &[&str])] = &[
    (Label::From, &["from", "von", "de", "da", "van", "od", "från", "fra", "lähettäjä", "от", "от кого", "kimden",
        "发件人", "差出人", "寄件者", "보낸 사람", "expéditeur", "remitente", "mittente", "feladó", "מאת", "من"]),
    (Label::Date, &["sent", "date", "gesendet", "datum", "envoyé", "envoyé le", "enviado", "enviado el", "enviada em",
        "enviado em", "fecha", "data", "inviato", "verzonden", "skickat", "sendt", "dato", "lähetetty", "wysłano",
        "отправлено", "дата", "gönderildi", "gönderilme", "tarih", "发送时间", "日期", "送信日時", "日付", "寄件日期", "보낸 날짜",
        "날짜", "odesláno", "küldve", "sent on", "gesendet am"]),
    (Label::To, &["to", "an", "à", "a", "para", "aan", "do", "till", "til", "vastaanottaja", "кому", "kime", "收件人",
        "收件者", "宛先", "받는 사람", "destinataire", "destinatario", "komu", "címzett", "אל", "إلى"]),
    (Label::Cc, &["cc", "kopie", "copie", "kopia", "dw", "kopi", "копия", "抄送", "副本", "bilgi", "참조"]),
    (Label::Bcc, &["bcc", "cci", "cco", "密送", "ccn"]),
    (Label::Subject, &["subject", "betreff", "objet", "asunto", "assunto", "oggetto", "onderwerp", "temat", "ämne",
        "emne", "aihe", "тема", "konu", "主题", "主旨", "件名", "제목", "tárgy", "předmět", "re", "נושא", "الموضوع"]),
    (Label::Other, &["reply-to", "importance", "wichtigkeit", "attachments", "anlagen", "priority", "sensitivity",
        "message-id", "organization"]),
];

#[rustfmt::skip]
const SEPARATORS: &[&str] = &["original message", "forwarded message", "original appointment", "ursprüngliche nachricht",
    "originalnachricht", "weitergeleitete nachricht", "message d'origine", "message original", "message transféré",
    "mensaje original", "mensaje reenviado", "mensagem original", "mensagem encaminhada", "messaggio originale",
    "messaggio inoltrato", "oorspronkelijk bericht", "doorgestuurd bericht", "originalmeddelande", "oprindelig meddelelse",
    "opprinnelig melding", "alkuperäinen viesti", "wiadomość oryginalna", "исходное сообщение", "пересылаемое сообщение",
    "orijinal mesaj", "原始邮件", "原始郵件", "转发邮件", "転送メッセージ", "元のメッセージ", "원본 메시지", "replied message", "reply message"];

#[rustfmt::skip]
const FORWARDS: &[&str] = &["begin forwarded message", "anfang der weitergeleiteten nachricht", "début du message réexpédié",
    "début du message transféré", "inicio del mensaje reenviado", "inizio messaggio inoltrato", "início da mensagem encaminhada",
    "begin doorgestuurd bericht", "vidarebefordrat brev", "start på videresendt besked", "początek przekazywanej wiadomości",
    "начало переадресованного сообщения", "下面是被转发的邮件", "转发的邮件", "転送されたメッセージ"];

/// How an attribution begins, what it says, in lower case.
#[rustfmt::skip]
const ATTRIBUTIONS: &[(&str, &[&str])] = &[
    ("on ", &["wrote", "sent", "writes"]), ("am ", &["schrieb"]), ("le ", &["écrit"]), ("el ", &["escribió", "escribio"]),
    ("il ", &["scritto"]), ("op ", &["schreef", "het volgende geschreven"]), ("em ", &["escreveu"]), ("w dniu ", &["pisze", "napisał"]),
    ("den ", &["skrev"]), ("dne ", &["napsal"]), ("ti ", &["kirjoitti"]), ("ma ", &["kirjoitti"]), ("в ", &["написал", "пишет"]),
    ("tarihinde ", &["yazdı"]), ("在", &["写道", "寫道"]), ("于", &["写道"]), ("20", &["写道", "wrote", "пишет", "작성", "書き", "írta"]),
    ("pe ", &["a scris"]), ("a(z) ", &["írta"]), ("dana ", &["napisao", "je napisal"]), ("στις ", &["έγραψε"]),
];

/// The preamble that begins with the first of `lines`, which is not empty.
pub(super) fn preamble(lines: &[&str]) -> Option<Preamble> {
    let first = *lines.first()?;
    separator(first)
        .then(|| Preamble { lines: 1, header: QuotedHeader::default() })
        .or_else(|| header_block(lines))
        .or_else(|| attribution(lines))
}

fn separator(line: &str) -> bool {
    if line.len() > 200 {
        return false;
    }
    let inner = line.trim_matches(['-', '_', '=', '*', '—', '–', ' ', '\u{a0}']);
    let dashes = line.starts_with(['-', '_', '=', '—']) && inner.len() + 3 < line.len();
    let ends = inner.ends_with([':', '：']);
    if inner.is_empty() || !(dashes || ends) {
        return false;
    }
    let words = inner.trim_end_matches([':', '：', ' ']).to_lowercase();
    dashes && SEPARATORS.iter().any(|known| words.starts_with(known))
        || ends && FORWARDS.iter().any(|known| words == *known)
}

fn label(line: &str) -> Option<(Label, &str)> {
    let line = line.trim_start_matches(['*', ' ']);
    let (colon, c) = line.char_indices().take(26).find(|(_, c)| matches!(c, ':' | '：'))?;
    let name = line[..colon].trim_end_matches([' ', '*', '\u{a0}']).to_lowercase();
    let (kind, _) = LABELS.iter().find(|(_, names)| names.contains(&name.as_str()))?;
    Some((*kind, line[colon + c.len_utf8()..].trim_start_matches(['*', ' ']).trim()))
}

fn header_block(lines: &[&str]) -> Option<Preamble> {
    let (Label::From, _) = label(lines.first()?)? else { return None };
    let mut fields: Vec<(Label, String)> = Vec::new();
    let mut end = 0;
    for (place, line) in lines.iter().take(MAX_HEADER_LINES).enumerate() {
        let next = || lines.get(place + 1).is_some_and(|next| label(next).is_some());
        match label(line) {
            Some((Label::From, _)) if place > 0 => break,
            Some((kind, value)) => fields.push((kind, value.to_owned())),
            // A long list of recipients goes on, an empty line between fields is layout.
            None if place == end && next() && line.len() < 1_000 => {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line);
                }
            }
            None => break,
        }
        end = place + 1;
    }
    let has = |wanted: &[Label]| usize::from(fields.iter().any(|(kind, _)| wanted.contains(kind)));
    if has(&[Label::Date]) + has(&[Label::To, Label::Cc]) + has(&[Label::Subject]) < 2 {
        return None;
    }
    let mut header = QuotedHeader::default();
    for (kind, value) in fields {
        match kind {
            Label::From => header.sender = mailboxes(&value).into_iter().next(),
            Label::To => header.to.extend(mailboxes(&value)),
            Label::Cc => header.cc.extend(mailboxes(&value)),
            Label::Bcc => header.bcc.extend(mailboxes(&value)),
            Label::Subject => header.subject = Some(value),
            Label::Date => header.date = date(&value),
            Label::Other => {}
        }
    }
    Some(Preamble { lines: end, header })
}

fn date(text: &str) -> Option<i64> {
    let text = text.get(..100).unwrap_or(text);
    DateTime::parse_rfc822(text).filter(DateTime::is_valid).map(|date| date.to_timestamp())
}

/// `On …, Somebody <a@example.org> wrote:`, on up to four lines.
fn attribution(lines: &[&str]) -> Option<Preamble> {
    let first = lines.first()?;
    let start: String = first.chars().take(12).collect::<String>().to_lowercase();
    let mut verbs =
        ATTRIBUTIONS.iter().filter(|(intro, _)| start.starts_with(intro)).map(|(_, verbs)| *verbs).peekable();
    verbs.peek()?;
    let verbs: Vec<&str> = verbs.flatten().copied().collect();
    let mut text = String::new();
    for (place, line) in lines.iter().take(4).enumerate() {
        if text.len() + line.len() > MAX_ATTRIBUTION_BYTES || line.is_empty() {
            return None;
        }
        text.push_str(line);
        text.push(' ');
        let whole = text.trim_end();
        if whole.ends_with([':', '：']) {
            let lower = whole.to_lowercase();
            let said = verbs.iter().any(|verb| lower.contains(verb));
            let dated = whole.contains(|c: char| c.is_ascii_digit());
            let header = QuotedHeader { sender: attributed(whole), ..QuotedHeader::default() };
            return (said && dated).then_some(Preamble { lines: place + 1, header });
        }
    }
    None
}

/// Who is named in an attribution: the address, and the words between it and the date before it.
fn attributed(text: &str) -> Option<Mailbox> {
    let at = text.rfind('@')?;
    let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '[' | ']' | '(' | ')' | ':' | ';' | ',' | '"');
    let start =
        text[..at].rfind(ends).map_or(0, |place| place + text[place..].chars().next().map_or(1, char::len_utf8));
    let end = text[at..].find(ends).map_or(text.len(), |offset| at + offset);
    let address = Address::parse(&text[start..end])?;
    let before = text[..start].trim_end_matches(['<', '[', '(', ' ', '"']);
    let before = before.trim_end_matches("mailto:").trim_end_matches(['<', '[', ' ']);
    let name = before.rfind(|c: char| c.is_ascii_digit()).map_or(before, |digit| &before[digit + 1..]);
    let mut name = name.trim_matches([',', ' ', ':', '"', '\u{202f}', '\u{a0}']);
    for word in ["AM", "PM", "am", "pm", "a.m.", "p.m.", "Uhr", "schrieb", "schreef", "skrev", "UTC", "GMT"] {
        if let Some(rest) = name.strip_prefix(word).filter(|rest| rest.is_empty() || rest.starts_with([' ', ','])) {
            name = rest.trim_matches([',', ' ', ':', '"', '\u{202f}']);
        }
    }
    Some(Mailbox { display: name.to_owned(), text: text[start..end].to_owned(), address: Some(address) })
}

/// The mailboxes of a shown header line: `;` and `,` between them, commas inside names as well.
fn mailboxes(value: &str) -> Vec<Mailbox> {
    let mut out = Vec::new();
    for item in value.split(';') {
        let mut start = 0;
        let commas = item.match_indices(',').map(|(at, _)| at).chain(std::iter::once(item.len()));
        for end in commas {
            if out.len() >= MAX_MAILBOXES {
                return out;
            }
            let piece = item[start..end].trim();
            // `Doe, Jane <jane@example.org>`: the name goes on until an address was there.
            if piece.contains('@') || end == item.len() {
                out.extend(mailbox(piece));
                start = (end + 1).min(item.len());
            }
        }
    }
    out
}

fn mailbox(text: &str) -> Option<Mailbox> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let open = text.rfind(['<', '[']);
    let (display, address) = match open.filter(|open| text[*open..].contains('@')) {
        Some(open) => (&text[..open], &text[open + 1..]),
        None if text.contains('@') && !text.contains(char::is_whitespace) => ("", text),
        None => (text, ""),
    };
    let address = address.trim_start_matches("mailto:").trim_end_matches(['>', ']', ' ']);
    let display = display.trim().trim_matches(['"', '\'', '*']).trim();
    Some(Mailbox { display: display.to_owned(), text: address.to_owned(), address: Address::parse(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).collect()
    }

    #[test]
    fn how_many_lines() {
        let cases = [
            ("-----Original Message-----\nx", Some(1)),
            ("---------- Forwarded message ---------", Some(1)),
            ("-----Ursprüngliche Nachricht-----", Some(1)),
            ("Begin forwarded message:", Some(1)),
            ("----- Invoice -----", None),
            ("--", None),
            ("On Mon, 1 Jan 2024 at 10:00, Ann <ann@example.org> wrote:\nx", Some(1)),
            ("On Mon, 1 Jan 2024 at 10:00, Ann\n<ann@example.org>\nwrote:\nx", Some(3)),
            ("Am 01.01.2024 um 10:00 schrieb Ann <ann@example.org>:", Some(1)),
            ("Le lun. 1 janv. 2024 à 10:00, Ann <ann@example.org> a écrit :", Some(1)),
            ("On Monday we meet at 10:\nx", None),
            ("On the other hand", None),
            ("From: Ann\nSent: Monday\nTo: Bob\nSubject: Hi\n\nText", Some(4)),
            ("*Von:* Ann\n*Gesendet:* Montag\n*An:* Bob\n*Betreff:* Hi\nText", Some(4)),
            ("From : Ann\nTo : Bob\nSubject : Hi", Some(3)),
            ("From: Ann\nTo: Bob,\nCarl\nSubject: Hi", Some(4)),
            ("From: the beginning\nto the end", None),
            ("From: a\nFrom: b\nTo: c\nSubject: d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(preamble(&lines(text)).map(|p| p.lines), expected, "{text}");
        }
    }

    #[test]
    fn what_they_say() {
        let text = "From: Doe, Jane [mailto:jane@example.org]\nDate: Mon, 01 Jan 2024 10:00:00 +0100\n\
                    To: Roe, Bob <bob@example.net>; carl@example.com\nCc: Dan\nSubject: Re: Hi";
        let header = preamble(&lines(text)).unwrap().header;
        let sender = header.sender.unwrap();
        assert_eq!((sender.display.as_str(), sender.text.as_str()), ("Doe, Jane", "jane@example.org"));
        let to: Vec<_> = header.to.iter().map(|m| (m.display.as_str(), m.text.as_str())).collect();
        assert_eq!(to, [("Roe, Bob", "bob@example.net"), ("", "carl@example.com")]);
        assert_eq!((header.cc[0].display.as_str(), header.cc[0].address.as_ref()), ("Dan", None));
        assert_eq!((header.subject.as_deref(), header.date), (Some("Re: Hi"), Some(1_704_099_600)));
        let text = "On Mon, Jan 1, 2024 at 3:00 PM Ann Lee <ann@example.org> wrote:";
        let sender = preamble(&[text]).unwrap().header.sender.unwrap();
        assert_eq!((sender.display.as_str(), sender.text.as_str()), ("Ann Lee", "ann@example.org"));
    }

    #[test]
    fn every_cut_is_read() {
        let text = "On 1 Jän 2024, Ännä <ä@exämple.org> wrote:\nFrom: é <[mailto:a@b.c]>, x;\nSent: x\nTo: ,;,@\nRe: é";
        for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            for part in [&text[..at], &text[at..]] {
                let all = lines(part);
                for start in 0..all.len() {
                    preamble(&all[start..]);
                }
            }
        }
    }
}
