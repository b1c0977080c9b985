//! Commands of a client (RFC 5321, 4.1), parsed from one strict line.
//!
//! Own parser rather than smtp-proto's: addresses and parameters must be passed on exactly as sent, and that crate
//! hands them over decoded (quotes removed, ORCPT as text). Pure functions; a line that is no command is an error value
//! that says which reply is due. Not here: what is allowed when (`server`).

use crate::mail::Path;

use super::identity::{Attribute, decode_xtext};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO name`.
    Helo(String),
    /// `EHLO name`.
    Ehlo(String),
    /// `MAIL FROM:<path> params`.
    Mail(Path),
    /// `RCPT TO:<path> params`.
    Rcpt(Path),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]` (RFC 3030).
    Bdat {
        /// Octets that follow the command line.
        size: u64,
        /// Whether the message ends with them.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP [anything]`.
    Noop,
    /// `VRFY anything`.
    Vrfy,
    /// `HELP [anything]`.
    Help,
    /// `QUIT`.
    Quit,
    /// `STARTTLS`.
    StartTls,
    /// `XCLIENT attribute=value ...`, values decoded.
    Xclient(Vec<(Attribute, String)>),
    /// `XFORWARD attribute=value ...`, values decoded.
    Xforward(Vec<(Attribute, String)>),
}

/// A line that is no command we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The verb is none of ours (500 5.5.2).
    #[error("command not recognized")]
    Unknown,
    /// A verb of SMTP that is not offered (502 5.5.1).
    #[error("command not implemented")]
    NotImplemented,
    /// The arguments are wrong (501 5.5.4).
    #[error("{0}")]
    Syntax(&'static str),
    /// The path between the angle brackets is wrong (501 5.1.3 or 5.1.7).
    #[error("bad address syntax")]
    BadPath,
}

impl Command {
    /// Parses one line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let line = str::from_utf8(line).map_err(|_| CommandError::Syntax("Syntax: not UTF-8"))?;
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_matches(' ');
        let bare =
            |command| if rest.is_empty() { Ok(command) } else { Err(CommandError::Syntax("No arguments allowed")) };
        match verb.to_ascii_uppercase().as_str() {
            "HELO" => host(rest).map(Self::Helo),
            "EHLO" => host(rest).map(Self::Ehlo),
            "MAIL" => path(rest, "FROM:", "Syntax: MAIL FROM:<address>").map(Self::Mail),
            "RCPT" => path(rest, "TO:", "Syntax: RCPT TO:<address>")
                .and_then(|path| if path.is_null() { Err(CommandError::BadPath) } else { Ok(Self::Rcpt(path)) }),
            "DATA" => bare(Self::Data),
            "BDAT" => chunk(rest),
            "RSET" => bare(Self::Rset),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "QUIT" => bare(Self::Quit),
            "STARTTLS" => bare(Self::StartTls),
            "VRFY" if rest.is_empty() => Err(CommandError::Syntax("Syntax: VRFY address")),
            "VRFY" => Ok(Self::Vrfy),
            "XCLIENT" => attributes(rest, &Attribute::XCLIENT).map(Self::Xclient),
            "XFORWARD" => attributes(rest, &Attribute::XFORWARD).map(Self::Xforward),
            "EXPN" | "ETRN" | "AUTH" | "TURN" | "ATRN" | "BURL" | "LHLO" | "SEND" | "SOML" | "SAML" => {
                Err(CommandError::NotImplemented)
            }
            _ => Err(CommandError::Unknown),
        }
    }
}

fn host(rest: &str) -> Result<String, CommandError> {
    let fits = !rest.is_empty() && rest.len() <= 255 && rest.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if fits { Ok(rest.to_owned()) } else { Err(CommandError::Syntax("Syntax: EHLO hostname")) }
}

fn path(rest: &str, prefix: &str, syntax: &'static str) -> Result<Path, CommandError> {
    let error = CommandError::Syntax(syntax);
    let head = rest.get(..prefix.len()).ok_or(error)?;
    if !head.eq_ignore_ascii_case(prefix) {
        return Err(error);
    }
    // A space after the colon is against the standard and common.
    let inner = rest[prefix.len()..].trim_start_matches(' ').strip_prefix('<').ok_or(error)?;
    let end = path_end(inner).ok_or(CommandError::BadPath)?;
    let (text, params) = (&inner[..end], &inner[end + 1..]);
    if !params.is_empty() && !params.starts_with(' ') {
        return Err(error);
    }
    Ok(Path { text: without_route(text)?.to_owned(), params: parameters(params)? })
}

/// Place of the `>` that ends the path: quoted strings may hold `>` and spaces; controls never.
fn path_end(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (place, c) in text.char_indices() {
        match c {
            _ if c.is_control() => return None,
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(place),
            '<' | ' ' if !quoted => return None,
            _ if !quoted && c.is_whitespace() => return None,
            _ => {}
        }
    }
    None
}

/// Source routes are accepted and ignored (RFC 5321, appendix C).
fn without_route(text: &str) -> Result<&str, CommandError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    text.split_once(':').map(|(_, rest)| rest).filter(|rest| !rest.is_empty()).ok_or(CommandError::BadPath)
}

fn parameters(text: &str) -> Result<Vec<String>, CommandError> {
    let mut found: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)));
        let keyword_fits = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        // esmtp-value is printable without `=`; ENVID and ORCPT of real senders hold `=` all the same.
        let value_fits =
            value.is_none_or(|v| !v.is_empty() && v.chars().all(|c| !c.is_control() && !c.is_whitespace()));
        let twice = found.iter().any(|other| other.split('=').next().is_some_and(|k| k.eq_ignore_ascii_case(keyword)));
        if !keyword_fits || !value_fits || twice {
            return Err(CommandError::Syntax("Syntax: bad parameter"));
        }
        found.push(word.to_owned());
    }
    Ok(found)
}

fn chunk(rest: &str) -> Result<Command, CommandError> {
    let error = CommandError::Syntax("Syntax: BDAT size [LAST]");
    let (digits, end) = rest.split_once(' ').unwrap_or((rest, ""));
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error);
    }
    let last = match end.trim() {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(error),
    };
    Ok(Command::Bdat { size: digits.parse().map_err(|_| error)?, last })
}

fn attributes(rest: &str, known: &[Attribute]) -> Result<Vec<(Attribute, String)>, CommandError> {
    let error = CommandError::Syntax("Syntax: attribute=value ...");
    let mut found = Vec::new();
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').ok_or(error)?;
        let attribute = Attribute::parse(name).filter(|a| known.contains(a)).ok_or(error)?;
        found.push((attribute, decode_xtext(value).filter(|v| v.len() <= 255 && !v.is_empty()).ok_or(error)?));
    }
    if found.is_empty() { Err(error) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn mail(line: &str) -> (String, Vec<String>) {
        match parse(line) {
            Ok(Command::Mail(path) | Command::Rcpt(path)) => (path.text, path.params),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn paths_are_kept_as_sent() {
        let cases = [
            ("MAIL FROM:<a@b.example>", "a@b.example", vec![]),
            ("mail from: <A@B.example> SIZE=100 BODY=8BITMIME", "A@B.example", vec!["SIZE=100", "BODY=8BITMIME"]),
            ("MAIL FROM:<>", "", vec![]),
            ("MAIL FROM:<\"a> b\"@c.example> RET=HDRS", "\"a> b\"@c.example", vec!["RET=HDRS"]),
            ("MAIL FROM:<\"a\\\"> b\"@c.example>", "\"a\\\"> b\"@c.example", vec![]),
            ("RCPT TO:<postmaster>", "postmaster", vec![]),
            ("RCPT TO:<@x.example,@y.example:u@z.example>", "u@z.example", vec![]),
            (
                "RCPT TO:<u@z.example>  NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;u+2Bx@z.example",
                "u@z.example",
                vec!["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;u+2Bx@z.example"],
            ),
            ("MAIL FROM:<用户@例え.example> SMTPUTF8", "用户@例え.example", vec!["SMTPUTF8"]),
        ];
        for (line, text, params) in cases {
            assert_eq!(mail(line), (text.to_owned(), params.iter().map(|p| (*p).to_owned()).collect()), "{line}");
        }
    }

    #[test]
    fn verbs() {
        let cases = [
            ("HELO a.example", Ok(Command::Helo("a.example".into()))),
            ("ehlo [192.0.2.1]", Ok(Command::Ehlo("[192.0.2.1]".into()))),
            ("DATA", Ok(Command::Data)),
            ("DATA ", Ok(Command::Data)),
            ("NOOP anything goes", Ok(Command::Noop)),
            ("BDAT 10", Ok(Command::Bdat { size: 10, last: false })),
            ("BDAT 0 last", Ok(Command::Bdat { size: 0, last: true })),
            (
                "XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE] HELO=a+20b",
                Ok(Command::Xclient(vec![
                    (Attribute::Addr, "192.0.2.1".into()),
                    (Attribute::Name, "[UNAVAILABLE]".into()),
                    (Attribute::Helo, "a b".into()),
                ])),
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_wrong() {
        for line in ["", "FOO", " NOOP", "MAILFROM:<a@b.example>", "GET / HTTP/1.1", "\u{e9}"] {
            assert_eq!(parse(line), Err(CommandError::Unknown), "{line}");
        }
        for line in [
            "HELO",
            "EHLO a b",
            "DATA x",
            "MAIL",
            "MAIL FROM a@b.example",
            "MAIL FROM:a@b.example",
            "MAIL TO:<a@b.example>",
            "MAIL FROM:<a@b.example>SIZE=1",
            "MAIL FROM:<a@b.example> SIZE=1 size=2",
            "MAIL FROM:<a@b.example> =1",
            "MAIL FROM:<a@b.example> SIZE=",
            "BDAT",
            "BDAT -1",
            "BDAT 1 FIRST",
            "BDAT 99999999999999999999",
            "XFORWARD",
            "XFORWARD ADDR",
            "XFORWARD LOGIN=x",
            "XCLIENT NAME=a+0D+0Ab",
        ] {
            assert!(matches!(parse(line), Err(CommandError::Syntax(_))), "{line}: {:?}", parse(line));
        }
        for line in [
            "RCPT TO:<>",
            "RCPT TO:<a b@c.example>",
            "RCPT TO:<a@b.example",
            "RCPT TO:<<a@b.example>>",
            "RCPT TO:<@x:>",
            "MAIL FROM:<a\u{85}@b.example>",
        ] {
            assert_eq!(parse(line), Err(CommandError::BadPath), "{line}");
        }
        assert!(Command::parse(b"MAIL FROM:<\xff@b.example>").is_err());
    }
}
