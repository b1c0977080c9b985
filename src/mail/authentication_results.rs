//! What earlier hops wrote about SPF, DKIM and DMARC: `Authentication-Results` (RFC 8601), its ARC form (RFC 8617),
//! `Received-SPF` (RFC 7208, 9.1), and the tag lists of signatures (RFC 6376, 3.2).
//!
//! Claims, not checks: our own checks are `enrichment`'s. Lenient, linear, bounded.

const MAX_METHODS: usize = 50;
const MAX_PROPERTIES: usize = 50;
const MAX_VALUE_BYTES: usize = 32 << 10;

/// One result of one method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MethodResult {
    /// `spf`, `dkim`, `dmarc`, `compauth` …, lower case.
    pub method: String,
    /// `pass`, `fail`, `softfail` …, lower case.
    pub verdict: String,
    /// Comments, without their parentheses, one space between them.
    pub comment: Option<String>,
    /// `header.from`, `smtp.mailfrom`, `reason`, `action` …: names in lower case, values as written, in order.
    pub properties: Vec<(String, String)>,
}

impl MethodResult {
    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A `name=value` of the comment, such as `p=REJECT` in `(p=REJECT sp=NONE dis=NONE)`.
    pub fn in_comment(&self, name: &str) -> Option<&str> {
        let words = self.comment.as_deref()?.split([' ', ',', ';']);
        words.filter_map(|word| word.split_once('=')).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }
}

/// One `Authentication-Results` field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthenticationResults {
    /// The field's name, as sent.
    pub field: String,
    /// Who says it (authserv-id), lower case.
    pub server: Option<String>,
    /// `i=` of ARC.
    pub instance: Option<String>,
    /// The results, in order.
    pub methods: Vec<MethodResult>,
}

impl AuthenticationResults {
    /// Reads an unfolded value.
    pub fn parse(field: &str, value: &str) -> Self {
        let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        let mut out = Self { field: field.to_owned(), ..Self::default() };
        for (place, piece) in split(value).into_iter().enumerate() {
            let (words, comment) = words(piece);
            let Some((first, rest)) = words.split_first() else { continue };
            match first.split_once('=') {
                Some((name, value)) if place < 2 && name == "i" => out.instance = Some(value.to_owned()),
                Some((name, verdict)) => {
                    if out.methods.len() >= MAX_METHODS {
                        break;
                    }
                    let method = name.split('/').next().unwrap_or_default().to_ascii_lowercase();
                    let pairs = rest.iter().take(MAX_PROPERTIES).filter_map(|word| word.split_once('='));
                    let properties =
                        pairs.map(|(n, v)| (n.to_ascii_lowercase(), v.trim_matches('"').to_owned())).collect();
                    out.methods.push(MethodResult {
                        method,
                        verdict: verdict.to_ascii_lowercase(),
                        comment,
                        properties,
                    });
                }
                None if out.server.is_none() && out.methods.is_empty() => out.server = Some(first.to_ascii_lowercase()),
                None => {}
            }
        }
        out
    }

    /// The first result of a method.
    pub fn method(&self, name: &str) -> Option<&MethodResult> {
        self.methods.iter().find(|result| result.method == name)
    }

    /// The verdict of a method; of several signatures, a pass when there is one.
    pub fn verdict(&self, name: &str) -> Option<&str> {
        let of = || self.methods.iter().filter(|result| result.method == name);
        of().find(|result| result.verdict == "pass").or_else(|| of().next()).map(|result| result.verdict.as_str())
    }

    /// What the SPF result says.
    pub fn spf(&self) -> Option<SpfRecord> {
        let result = self.method("spf")?;
        let designator = result.property("smtp.mailfrom").or(result.property("smtp.from")).map(str::to_owned);
        let description = result.comment.clone();
        let client_ip = description.as_deref().and_then(designated).or_else(|| result.in_comment("client-ip"));
        Some(SpfRecord {
            verdict: result.verdict.clone(),
            designator,
            client_ip: client_ip.map(str::to_owned),
            helo: result.property("smtp.helo").map(str::to_owned),
            server: self.server.clone(),
            description,
        })
    }
}

/// An SPF result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpfRecord {
    /// `pass`, `softfail` …, lower case.
    pub verdict: String,
    /// The comment.
    pub description: Option<String>,
    /// The domain or address it was asked for.
    pub designator: Option<String>,
    /// The address that sent.
    pub client_ip: Option<String>,
    /// What it called itself.
    pub helo: Option<String>,
    /// Who checked.
    pub server: Option<String>,
}

impl SpfRecord {
    /// Reads an unfolded `Received-SPF` value.
    pub fn parse(value: &str) -> Self {
        let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        let (words, description) = words(value);
        let property = |name: &str| {
            let pairs = words.iter().filter_map(|word| word.trim_end_matches(';').split_once('='));
            pairs
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.trim_matches(['"', '<', '>']).to_owned())
                .next()
        };
        let named = description.as_deref().and_then(|text| text.split_once(": ")).map(|(server, _)| server);
        let client_ip =
            property("client-ip").or_else(|| description.as_deref().and_then(designated).map(str::to_owned));
        Self {
            verdict: words.first().map(|word| word.trim_end_matches(';').to_ascii_lowercase()).unwrap_or_default(),
            designator: property("envelope-from").or_else(|| property("identity")),
            client_ip,
            helo: property("helo"),
            server: property("receiver").or_else(|| named.filter(|n| !n.contains(' ')).map(str::to_owned)),
            description,
        }
    }
}

/// The address in `… designates 192.0.2.1 as permitted sender`.
fn designated(comment: &str) -> Option<&str> {
    let after = comment.split_once("designate")?.1;
    after.split(' ').find(|word| word.parse::<std::net::IpAddr>().is_ok())
}

/// Pieces at `;` outside of comments and quotes.
fn split(value: &str) -> Vec<&str> {
    let (mut out, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0usize, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth = depth.saturating_sub(1),
            b';' if depth == 0 && !quoted => {
                out.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&value[start..]);
    out
}

/// Words outside of comments, and the comments.
fn words(piece: &str) -> (Vec<String>, Option<String>) {
    let (mut outside, mut comment, mut depth) = (String::new(), String::new(), 0usize);
    for c in piece.chars() {
        match c {
            '(' => {
                depth += 1;
                if depth == 1 {
                    outside.push(' ');
                    if !comment.is_empty() {
                        comment.push(' ');
                    }
                    continue;
                }
            }
            ')' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    continue;
                }
            }
            _ => {}
        }
        if depth > 0 { comment.push(c) } else { outside.push(c) }
    }
    let words = outside.split_whitespace().map(str::to_owned).collect();
    let comment = comment.trim();
    (words, (!comment.is_empty()).then(|| comment.to_owned()))
}

/// `a=b; c=d`: names in lower case, white space inside values removed.
pub(super) fn tags(value: &str) -> Vec<(String, String)> {
    let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
    let pairs = value.split(';').take(MAX_PROPERTIES).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.split_whitespace().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results() {
        let got = AuthenticationResults::parse(
            "ARC-Authentication-Results",
            "i=2; mx.Example.net; dkim=fail (bad; body) header.i=@a.example; dkim=pass header.d=b.example; \
             spf=softfail (mx.example.net: domain of x@y.example does not designate 192.0.2.1 as permitted sender) \
             smtp.mailfrom=x@y.example; dmarc=fail (p=REJECT sp=NONE dis=NONE) header.from=y.example; compauth=fail reason=001",
        );
        assert_eq!((got.instance.as_deref(), got.server.as_deref()), (Some("2"), Some("mx.example.net")));
        assert_eq!((got.verdict("dkim"), got.verdict("spf"), got.verdict("x")), (Some("pass"), Some("softfail"), None));
        let spf = got.spf().unwrap();
        assert_eq!((spf.client_ip.as_deref(), spf.designator.as_deref()), (Some("192.0.2.1"), Some("x@y.example")));
        let dmarc = got.method("dmarc").unwrap();
        assert_eq!((dmarc.in_comment("p"), dmarc.property("header.from")), (Some("REJECT"), Some("y.example")));
        assert_eq!(got.method("compauth").unwrap().property("reason"), Some("001"));
    }

    #[test]
    fn received_spf() {
        let got = SpfRecord::parse(
            "Pass (example.net: domain of a.example designates 192.0.2.1 as permitted sender) receiver=example.net; \
             client-ip=192.0.2.1; helo=mx.a.example;",
        );
        assert_eq!((got.verdict.as_str(), got.helo.as_deref()), ("pass", Some("mx.a.example")));
        assert_eq!(got.client_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(SpfRecord::parse("").verdict, "");
    }

    #[test]
    fn every_cut_is_read() {
        let text = "i=1; é; spf=pass (a (b) \"c;\" p=q) smtp.mailfrom=\"x;y\"; dkim/1=fail";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            AuthenticationResults::parse("x", &text[..end]);
            SpfRecord::parse(&text[end..]);
            tags(&text[end..]);
        }
    }
}
