//! The `Authentication-Results` header (RFC 8601): ours is written, forged ones that claim to be ours are taken out.

use std::fmt::Write;

use crate::analysis::{ArcResult, DkimResult, DmarcPolicy, DmarcResult, Fact, Facts, SpfResult};
use crate::mail::{Edit, Path};

/// The value of our header; lines are folded with LF and a tab.
pub fn authentication_results(authserv_id: &str, facts: &Facts, helo: Option<&str>, sender: &Path) -> String {
    let mut value = authserv_id.to_owned();
    let spf = match &facts.spf {
        Fact::Known(spf) => Some(spf_word(spf.result)),
        Fact::Unknown(crate::analysis::Why::Disabled) => None,
        Fact::Unknown(_) => Some("temperror"),
    };
    if let Some(word) = spf {
        let (property, name) = if sender.is_null() {
            ("smtp.helo", helo.unwrap_or_default().to_owned())
        } else {
            ("smtp.mailfrom", sender.address().map(|a| a.domain).unwrap_or_default())
        };
        let _ = write!(value, ";\n\tspf={word} {property}={}", token(&name));
    }
    match &facts.dkim {
        Fact::Known(signatures) if signatures.is_empty() => value.push_str(";\n\tdkim=none"),
        Fact::Known(signatures) => {
            for signature in signatures {
                let _ = write!(value, ";\n\tdkim={}", dkim_word(signature.result));
                if let Some(reason) = &signature.reason {
                    let _ = write!(value, " reason=\"{}\"", quoted(reason));
                }
                if !signature.domain.is_empty() {
                    let _ =
                        write!(value, " header.d={} header.s={}", token(&signature.domain), token(&signature.selector));
                }
            }
        }
        Fact::Unknown(crate::analysis::Why::Disabled) => {}
        Fact::Unknown(_) => value.push_str(";\n\tdkim=temperror"),
    }
    match &facts.dmarc {
        Fact::Known(dmarc) => {
            let _ = write!(value, ";\n\tdmarc={}", dmarc_word(dmarc.result));
            if dmarc.policy != DmarcPolicy::Unspecified {
                let _ = write!(value, " (p={})", policy_word(dmarc.policy));
            }
            if !dmarc.domain.is_empty() {
                let _ = write!(value, " header.from={}", token(&dmarc.domain));
            }
        }
        Fact::Unknown(crate::analysis::Why::Disabled) => {}
        Fact::Unknown(_) => value.push_str(";\n\tdmarc=temperror"),
    }
    if let Fact::Known(arc) = &facts.arc
        && arc.result != ArcResult::None
    {
        let _ = write!(value, ";\n\tarc={}", if arc.result == ArcResult::Pass { "pass" } else { "fail" });
    }
    if !value.contains(';') {
        value.push_str("; none");
    }
    value
}

/// Removes every `Authentication-Results` that bears our name: only ours is ours.
///
/// `fields` are the values of all fields of this name, from the top.
pub fn forged_results<'h>(authserv_id: &str, fields: impl Iterator<Item = &'h [u8]>) -> Vec<Edit> {
    fields
        .zip(1u32..)
        .filter(|(value, _)| bears_name(value, authserv_id))
        .map(|(_, occurrence)| Edit::Remove { name: "Authentication-Results".into(), occurrence })
        .collect()
}

/// Whether the authserv-id of a field is this one, after comments and white space.
fn bears_name(value: &[u8], authserv_id: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut depth = 0u32;
    let mut bare = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if depth > 0 => drop(characters.next()),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => break,
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let id = bare.split_whitespace().next().unwrap_or_default().trim_matches('"');
    id.trim_end_matches('.').eq_ignore_ascii_case(authserv_id)
}

/// Whether an `ARC-Authentication-Results` says that DMARC passed.
pub(super) fn says_dmarc_pass(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).to_lowercase();
    text.split(';').skip(1).any(|result| result.trim_start().starts_with("dmarc=pass"))
}

/// A name from a stranger as a token: anything else becomes `_`.
fn token(text: &str) -> String {
    let fine = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+' | '=' | '[' | ']' | ':') || !c.is_ascii()
    };
    let token: String = text.chars().take(255).map(|c| if fine(c) && !c.is_control() { c } else { '_' }).collect();
    if token.is_empty() { "_".into() } else { token }
}

/// A text of the library's as the inside of a quoted string.
fn quoted(text: &str) -> String {
    text.chars().take(120).filter(|c| (' '..='~').contains(c) && *c != '"' && *c != '\\').collect()
}

fn spf_word(result: SpfResult) -> &'static str {
    match result {
        SpfResult::None => "none",
        SpfResult::Neutral => "neutral",
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
    }
}

fn dkim_word(result: DkimResult) -> &'static str {
    match result {
        DkimResult::None => "none",
        DkimResult::Neutral => "neutral",
        DkimResult::Pass => "pass",
        DkimResult::Fail => "fail",
        DkimResult::TempError => "temperror",
        DkimResult::PermError => "permerror",
    }
}

fn dmarc_word(result: DmarcResult) -> &'static str {
    match result {
        DmarcResult::None => "none",
        DmarcResult::Pass => "pass",
        DmarcResult::Fail => "fail",
        DmarcResult::TempError => "temperror",
        DmarcResult::PermError => "permerror",
    }
}

fn policy_word(policy: DmarcPolicy) -> &'static str {
    match policy {
        DmarcPolicy::Unspecified => "unspecified",
        DmarcPolicy::None => "none",
        DmarcPolicy::Quarantine => "quarantine",
        DmarcPolicy::Reject => "reject",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{DkimSignature, Dmarc, Spf, Why};

    #[test]
    fn forged_ones_are_found() {
        let fields: [&[u8]; 8] = [
            b" mx.example.org; spf=pass",
            b" (comment; (nested)) MX.Example.org 1; dkim=pass",
            b"\r\n\t\"mx.example.org\"; none",
            b" mx.example.org",
            b" other.example; x=mx.example.org",
            b" mx.example.org.evil.example; none",
            b"",
            b" mx.example.org.;spf=pass",
        ];
        let removed: Vec<u32> = forged_results("mx.example.org", fields.into_iter())
            .into_iter()
            .map(|edit| match edit {
                Edit::Remove { occurrence, .. } => occurrence,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(removed, [1, 2, 3, 4, 8]);
    }

    #[test]
    fn names_of_strangers_stay_tokens() {
        let mut facts = Facts::unknown(Why::Disabled);
        facts.spf = Fact::Known(Spf { result: SpfResult::Pass, domain: "x".into() });
        facts.dkim = Fact::Known(vec![DkimSignature {
            result: DkimResult::Fail,
            domain: "a;dmarc=pass\r\nX: y".into(),
            selector: "s".into(),
            reason: Some("bad \"hash\"\r\n".into()),
        }]);
        facts.dmarc = Fact::Known(Dmarc {
            result: DmarcResult::Fail,
            policy: DmarcPolicy::Reject,
            domain: "example.com".into(),
            spf_aligned: false,
            dkim_aligned: false,
        });
        let value = authentication_results("mx.example.org", &facts, Some("h"), &Path::new("a@b.example"));
        assert_eq!(
            value,
            "mx.example.org;\n\tspf=pass smtp.mailfrom=b.example;\n\tdkim=fail reason=\"bad hash\" \
             header.d=a_dmarc=pass__X:_y header.s=s;\n\tdmarc=fail (p=reject) header.from=example.com"
        );
    }

    #[test]
    fn nothing_known_is_said() {
        let value = authentication_results("mx", &Facts::unknown(Why::Disabled), None, &Path::default());
        assert_eq!(value, "mx; none");
        let value = authentication_results("mx", &Facts::unknown(Why::Timeout), Some("h.example"), &Path::default());
        assert_eq!(value, "mx;\n\tspf=temperror smtp.helo=h.example;\n\tdkim=temperror;\n\tdmarc=temperror");
    }
}
