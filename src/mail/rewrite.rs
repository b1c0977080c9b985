//! Links that lead through somebody's redirector: security gateways that rewrite, trackers, open redirects.
//!
//! One table says which hosts, which paths, and where in the URL the target is written. Nothing is fetched: what hides
//! its target behind a key is named only. Unwrapping goes on at most five levels. Not in the table: redirects that rules
//! judge by the redirector itself (Bing, DoubleClick, LinkedIn, Slack, YouTube), because unwrapping hides it from them.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::UrlParts;
use super::url_parts::decoded;

/// Rewriters inside one another that are followed.
const MAX_LEVELS: usize = 5;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Where the target stands.
enum Target {
    /// In one of these query parameters, percent-encoded.
    Query(&'static [&'static str]),
    /// In one of these query parameters, in base64.
    QueryBase64(&'static [&'static str]),
    /// In this query parameter, as JSON in base64, dotted pieces each on its own; under one of these keys.
    Json(&'static str, &'static [&'static str]),
    /// The whole query.
    WholeQuery,
    /// The last piece of the path, percent-encoded.
    PathTail,
    /// Between triple underscores in the path.
    Underscores,
    /// Proofpoint's second form: `-` stands for `%`, `_` for `/`.
    ProofpointV2,
    /// Proofpoint's third form: asterisks stand for characters kept aside in base64.
    ProofpointV3,
    /// In the host: dots as hyphens.
    TranslatedHost,
    /// Not in the URL at all.
    Elsewhere,
}

struct Rewriter {
    name: &'static str,
    /// The host, or what it ends in after a dot. `google.*` stands for every country.
    host: &'static str,
    /// What the path starts with, lower case.
    path: &'static str,
    target: Target,
}

const fn row(name: &'static str, host: &'static str, path: &'static str, target: Target) -> Rewriter {
    Rewriter { name, host, path, target }
}

use Target::{
    Elsewhere, Json, PathTail, ProofpointV2, ProofpointV3, Query, QueryBase64, TranslatedHost, Underscores, WholeQuery,
};

const REWRITERS: &[Rewriter] = &[
    row("proofpoint", "urldefense.proofpoint.com", "/v1/", Query(&["u"])),
    row("proofpoint", "urldefense.proofpoint.com", "/v2/", ProofpointV2),
    row("proofpoint", "urldefense.com", "/v2/", ProofpointV2),
    row("proofpoint", "urldefense.com", "/v3/", ProofpointV3),
    row("proofpoint", "urldefense.us", "/v3/", ProofpointV3),
    row("proofpoint", "urldefense.proofpoint.com", "/v3/", ProofpointV3),
    row("azure_safelink", "safelinks.protection.outlook.com", "", Query(&["url"])),
    row("azure_safelink", "safelinks.protection.office365.us", "", Query(&["url"])),
    row("azure_safelink", "safelinks.protection.partner.outlook.cn", "", Query(&["url"])),
    row("azure_safelink", "safelinks.o365filtering.com", "", Query(&["url"])),
    row("barracuda", "linkprotect.cudasvc.com", "", Query(&["a"])),
    row("mimecast", "mimecast.com", "/s/", Elsewhere),
    row("mimecast", "mimecastprotect.com", "/s/", Elsewhere),
    row("cisco", "secure-web.cisco.com", "", PathTail),
    row("symantec", "clicktime.symantec.com", "", Query(&["u"])),
    row("symantec", "clicktime.cloud.postoffice.net", "", Query(&["u"])),
    row("trendmicro", "trendmicro.com", "/wis/clicktime/", Query(&["url"])),
    row("trendmicro", "trendmicro.eu", "/wis/clicktime/", Query(&["url"])),
    row("sophos", "protection.sophos.com", "", QueryBase64(&["u"])),
    row("fireeye", "fireeye.com", "/url", Query(&["u"])),
    row("fireeye", "fireeye.com", "/v1/url", Query(&["u"])),
    row("fireeye", "protect.trellix.com", "", Query(&["u"])),
    row("intermedia", "url.emailprotection.link", "", Elsewhere),
    row("avanan", "url.avanan.click", "/v2/___", Underscores),
    row("checkpoint", "protect.checkpoint.com", "/v2/___", Underscores),
    row("checkpoint", "url-protection.com", "/v1/url", Query(&["o"])),
    row("edgepilot", "link.edgepilot.com", "/s/", Query(&["u"])),
    row("fortimail", "fortimailcloud.com", "/fmlurlsvc", Query(&["url"])),
    row("fortimail", "fortimail.com", "/fmlurlsvc", Query(&["url"])),
    row("hornet_security", "atpscan.global.hornetsecurity.com", "", Elsewhere),
    row("inky", "inky.com", "/link", Elsewhere),
    row("vade_secure", "vadesecure.com", "/v4", Query(&["u"])),
    row("google_open_redirect", "google.*", "/url", Query(&["q", "url"])),
    row("google_adservices", "googleadservices.com", "/pagead/aclk", Query(&["adurl"])),
    row("google_tag_manager", "googletagmanager.com", "/debug/clearcookies", Query(&["url"])),
    row("google_translate_open_redirect", "translate.google.com", "/translate", Query(&["u"])),
    row("google_translate_open_redirect", "translate.goog", "", TranslatedHost),
    row("indeed_open_redirect", "indeed.com", "", Query(&["target", "dest"])),
    row("facebook_open_redirect", "l.facebook.com", "/l.php", Query(&["u"])),
    row("facebook_open_redirect", "lm.facebook.com", "/l.php", Query(&["u"])),
    row("href_li", "href.li", "", WholeQuery),
    row("deref_mail", "deref-mail.com", "/mail/client/", Query(&["redirectUrl"])),
    row("deref_mail", "deref-gmx.net", "/mail/client/", Query(&["redirectUrl"])),
    row("deref_mail", "deref-gmx.com", "/mail/client/", Query(&["redirectUrl"])),
    row("deref_mail", "deref-web.de", "/mail/client/", Query(&["redirectUrl"])),
    row("mandrill", "mandrillapp.com", "/track/click/", Json("p", &["url"])),
    row("monday_tracker", "trackingservice.monday.com", "", Json("token", &["originalUrl", "url"])),
    row("wix", "shoutout.wix.com", "/so/", Json("w", &["u", "r"])),
];

/// A URL after unwrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwrapped {
    /// Where it leads, as far as the URL tells.
    pub target: UrlParts,
    /// The rewriters it went through, outermost first.
    pub encoders: Vec<&'static str>,
    /// The URL as written, when it was unwrapped.
    pub original: Option<String>,
}

/// Takes known rewriters off.
pub fn unwrap_url(url: UrlParts) -> Unwrapped {
    let mut done = Unwrapped { target: url, encoders: Vec::new(), original: None };
    for _ in 0..MAX_LEVELS {
        let Some((name, inner)) = unwrap_once(&done.target) else { break };
        done.encoders.push(name);
        let Some(inner) = inner.and_then(|text| UrlParts::parse(&text, false)) else { break };
        let outer = std::mem::replace(&mut done.target, inner);
        done.original.get_or_insert(outer.url);
    }
    done
}

/// The rewriter's name and the target's text.
fn unwrap_once(url: &UrlParts) -> Option<(&'static str, Option<String>)> {
    let host = url.domain()?;
    let path = url.path().unwrap_or_default();
    for rewriter in REWRITERS {
        if host_matches(host, rewriter.host)
            && path.get(..rewriter.path.len()).is_some_and(|start| start.eq_ignore_ascii_case(rewriter.path))
        {
            let target = find(url, &rewriter.target);
            // A page of the same host that redirects nowhere.
            if target.is_some() || matches!(rewriter.target, Elsewhere) {
                return Some((rewriter.name, target));
            }
        }
    }
    None
}

fn host_matches(host: &str, pattern: &str) -> bool {
    if let Some(name) = pattern.strip_suffix(".*") {
        let host = host.strip_prefix("www.").unwrap_or(host);
        let Some(suffix) = host.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { return false };
        return suffix.len() <= 6 && (!suffix.contains('.') || suffix.starts_with("co.") || suffix.starts_with("com."));
    }
    host.strip_suffix(pattern).is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

fn find(url: &UrlParts, target: &Target) -> Option<String> {
    let found = match target {
        Query(names) => names.iter().find_map(|name| url.parameter(name))?,
        QueryBase64(names) => text_of_base64(&names.iter().find_map(|name| url.parameter(name))?)?,
        Json(name, keys) => url.parameter(name)?.split('.').find_map(|piece| json_target(piece, keys))?,
        WholeQuery => decoded(url.query()?.trim_start_matches('?')),
        PathTail => {
            let tail = url.path()?.trim_end_matches('/').rsplit('/').next()?;
            decoded(tail)
        }
        Underscores => url.path()?.split("___").nth(1).map(|inner| with_query(inner, url))?,
        ProofpointV2 => decoded(&url.parameter("u")?.replace('-', "%").replace('_', "/")),
        ProofpointV3 => proofpoint_v3(&url.url)?,
        TranslatedHost => translated(url)?,
        Elsewhere => return None,
    };
    // Targets are absolute, or at least start with a host; `/search` leads nowhere else.
    let web = found.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"));
    (web || UrlParts::parse(&found, false).is_some_and(|inner| inner.domain().is_some())).then_some(found)
}

fn with_query(inner: &str, url: &UrlParts) -> String {
    match url.query() {
        Some(query) => format!("{inner}?{}", query.split("___").next().unwrap_or_default()),
        None => inner.to_owned(),
    }
}

fn text_of_base64(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .filter_map(|c| match c {
            '+' | ' ' => Some('-'),
            '/' => Some('_'),
            '=' => None,
            c => Some(c),
        })
        .collect();
    String::from_utf8(BASE64.decode(text).ok()?).ok()
}

/// The target in a piece of JSON, also when a string in there is JSON again.
fn json_target(piece: &str, keys: &[&str]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(&text_of_base64(piece)?).ok()?;
    let of = |value: &serde_json::Value| keys.iter().find_map(|key| value.get(key)?.as_str().map(str::to_owned));
    of(&value).or_else(|| {
        let inner = value.as_object()?.values().filter_map(|v| v.as_str());
        inner.filter_map(|text| serde_json::from_str(text).ok()).find_map(|inner| of(&inner))
    })
}

/// `/v3/__URL__;BASE64!!…`: every `*` of the URL is the next character of the base64 text; `**` and a letter are several.
fn proofpoint_v3(url: &str) -> Option<String> {
    let start = url.find("/v3/__")? + 6;
    let rest = &url[start..];
    let end = rest.rfind("__;")?;
    let (inner, aside) = (&rest[..end], &rest[end + 3..]);
    let aside = text_of_base64(aside.split('!').next()?)?;
    let mut aside = aside.chars();
    let mut out = String::with_capacity(inner.len());
    let mut text = inner.chars().peekable();
    while let Some(c) = text.next() {
        if c != '*' {
            out.push(c);
        } else if text.next_if_eq(&'*').is_some() {
            // `**A` stands for two characters, `**B` for three …
            let place = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".find(text.next()?)?;
            out.extend(aside.by_ref().take(place + 2));
        } else {
            out.extend(aside.next());
        }
    }
    // One slash of `://` is lost on the way through some gateways.
    match out.split_once(":/") {
        Some((scheme, rest)) if !rest.starts_with('/') => Some(format!("{scheme}://{rest}")),
        _ => Some(out),
    }
}

/// `www-example--shop-com.translate.goog` is `www.example-shop.com`.
fn translated(url: &UrlParts) -> Option<String> {
    let label = url.domain()?.strip_suffix(".translate.goog")?;
    let host = label.replace("--", "\0").replace('-', ".").replace('\0', "-");
    let query = url
        .query()
        .map(|query| query.split('&').filter(|pair| !pair.starts_with("_x_tr_")).collect::<Vec<_>>().join("&"));
    let query = query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}://{host}{}{query}", url.scheme().unwrap_or("https"), url.path().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(text: &str) -> (String, Vec<&'static str>) {
        let done = unwrap_url(UrlParts::parse(text, false).expect(text));
        assert_eq!(done.original.is_some(), done.target.url != text, "{text}");
        (done.target.url, done.encoders)
    }

    #[test]
    fn table() {
        let payload = BASE64.encode(r#"{"s":"x","v":1,"p":"{\"u\":7,\"url\":\"https:\\/\\/example.com\\/a\"}"}"#);
        let mandrill = format!("https://mandrillapp.com/track/click/7/example.com?p={payload}");
        let token = format!("aGVhZA.{}.c2ln", BASE64.encode(r#"{"originalUrl":"https://example.com/m"}"#));
        let monday = format!("https://trackingservice.monday.com/tracker/link?token={token}");
        let sophos = format!("https://eu.protection.sophos.com/?d=e&u={}", BASE64.encode("https://example.com/s"));
        let cases: &[(&str, &str, &[&str])] = &[
            (
                "https://urldefense.proofpoint.com/v1/url?u=http://example.com/&k=x",
                "http://example.com/",
                &["proofpoint"],
            ),
            (
                "https://urldefense.proofpoint.com/v2/url?u=https-3A__example.com_a-3Fb-3Dc&d=x",
                "https://example.com/a?b=c",
                &["proofpoint"],
            ),
            (
                "https://urldefense.com/v3/__https://example.com/a*b**A__;LSsr!!x$",
                "https://example.com/a-b++",
                &["proofpoint"],
            ),
            ("https://urldefense.com/v3/__https:/example.com/__;!!x$", "https://example.com/", &["proofpoint"]),
            (
                "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Flinkprotect.cudasvc.com%2Furl%3Fa%3Dhttps%253a%252f%252fexample.com&data=1",
                "https://example.com",
                &["azure_safelink", "barracuda"],
            ),
            (
                "https://www.google.co.uk/url?sa=t&q=https://example.com/",
                "https://example.com/",
                &["google_open_redirect"],
            ),
            ("https://www.google.com/url?sa=t", "https://www.google.com/url?sa=t", &[]),
            ("https://google.example.com/url?q=https://a.com", "https://google.example.com/url?q=https://a.com", &[]),
            ("https://secure-web.cisco.com/1abc/https%3A%2F%2Fexample.com%2Fx", "https://example.com/x", &["cisco"]),
            (
                "https://protect-eu.mimecast.com/s/AbC?domain=e.com",
                "https://protect-eu.mimecast.com/s/AbC?domain=e.com",
                &["mimecast"],
            ),
            (
                "https://url.avanan.click/v2/___https://example.com/a?b=1___.YXA=",
                "https://example.com/a?b=1",
                &["avanan"],
            ),
            ("https://href.li/?https://example.com/?a", "https://example.com/?a", &["href_li"]),
            (
                "https://www-example--shop-com.translate.goog/p?_x_tr_sl=auto&a=1",
                "https://www.example-shop.com/p?a=1",
                &["google_translate_open_redirect"],
            ),
            (&mandrill, "https://example.com/a", &["mandrill"]),
            (&monday, "https://example.com/m", &["monday_tracker"]),
            (&sophos, "https://example.com/s", &["sophos"]),
            ("https://example.com/url?q=https://a.com", "https://example.com/url?q=https://a.com", &[]),
        ];
        for (text, target, encoders) in cases {
            assert_eq!(unwrapped(text), ((*target).to_owned(), encoders.to_vec()), "{text}");
        }
    }

    #[test]
    fn levels_are_bounded() {
        let text = "https://href.li/?".repeat(20) + "https://example.com/";
        assert_eq!(unwrapped(&text).1.len(), MAX_LEVELS);
    }
}
