//! Campaigns: messages that say the same, told by a digest that stays alike when names, numbers and addresses change.
//!
//! The digest is a SimHash (Charikar 2002) over pairs of neighbouring words, 64 bits, with what differs from copy to copy folded
//! away, and a hash of the shapes of all links with their hosts folded. Two that differ in at most three bits are equal in one
//! of four bands of sixteen, which is how they are looked up. Short texts count as alike only when their links have the same
//! shape. Pure; not here: where digests are kept and counted (`records`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::HistoryKeys;
use crate::mail::{Envelope, Link, Message, MessageId};

/// Most bits in which two digests may differ: four bands find no more.
pub const MAX_DISTANCE: u32 = 3;
/// Bands of a digest.
pub const BANDS: usize = 4;

/// Fewer words say nothing.
const LEAST_WORDS: u32 = 6;
/// From here on the text alone is enough.
const ENOUGH_WORDS: u32 = 20;
/// Links looked at.
const MAX_LINKS: usize = 50;
/// A longer word is a token: no language writes such words often.
const LONGEST_WORD: usize = 28;

/// What makes a campaign: section `[campaigns]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CampaignConfig {
    /// Whether messages are compared with those that came before them.
    pub enabled: bool,
    /// How far back, in hours.
    pub window_hours: u32,
    /// Bits of 64 in which the digests of two messages of a campaign may differ, 0 to 3.
    pub distance: u32,
    /// Messages alike that make a campaign. The one that makes it orders a second look at those before it.
    pub members: u32,
    /// Different senders (domains; addresses at free mail providers) of a campaign that are evidence.
    pub senders: u32,
    /// Different recipients of a campaign at first contact that are evidence.
    pub recipients: u32,
    /// Earlier messages that one message is compared with, by each of four bands; the newest count.
    pub max_candidates: u32,
    /// Bytes of the text that the digest is made of.
    pub max_text_bytes: usize,
    /// Keep the bytes of delivered mail that nobody vouches for as long as the window, so that a campaign can be looked at
    /// again. They take at most half of `reassess.max_kept_bytes`.
    pub keep: bool,
}

impl Default for CampaignConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            window_hours: 24,
            distance: MAX_DISTANCE,
            members: 5,
            senders: 3,
            recipients: 5,
            max_candidates: 100,
            max_text_bytes: 16 * 1024,
            keep: true,
        }
    }
}

impl CampaignConfig {
    /// The window in milliseconds.
    pub fn window_ms(&self) -> i64 {
        i64::from(self.window_hours).saturating_mul(60 * 60 * 1_000)
    }
}

/// What was found of messages like this one, itself counted. All zero: the message has no digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Messages within the window.
    pub messages: u32,
    /// Their different senders.
    pub senders: u32,
    /// Their different recipients.
    pub recipients: u32,
    /// Those before it that were judged without knowing of the campaign, once it is one; at most [`Self::MAX_UNTOLD`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<MessageId>,
}

impl Campaign {
    /// Messages named at most.
    pub const MAX_UNTOLD: usize = 50;
}

/// The digest of a message, and who it counts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likeness {
    /// SimHash of the text.
    #[serde(with = "hex")]
    pub text: u64,
    /// Words that it is made of.
    pub words: u32,
    /// Hash of the links' shapes; 0 without links.
    #[serde(with = "hex")]
    pub links: u64,
    /// The sender as one of a campaign: domain, at free mail providers the address; empty without one.
    pub sender: String,
}

impl Likeness {
    /// The digest of a message; `None` when it says too little.
    pub fn of(message: &Message, envelope: &Envelope, config: &CampaignConfig) -> Option<Self> {
        let keys = HistoryKeys::of(message, envelope, 0);
        let text = message.text();
        let text = &text[..text.floor_char_boundary(config.max_text_bytes)];
        let words = words(text, &Names::of(message, envelope));
        let count = u32::try_from(words.len()).unwrap_or(u32::MAX);
        let links = shapes(message.links());
        if count < LEAST_WORDS || (count < ENOUGH_WORDS && links == 0) {
            return None;
        }
        let sender = if keys.free_mail { keys.sender_email } else { keys.sender_domain };
        Some(Self { text: simhash(&words), words: count, links, sender: sender.unwrap_or_default() })
    }

    /// Whether two messages say the same.
    pub fn is_like(&self, other: &Self, distance: u32) -> bool {
        let (few, many) = (self.words.min(other.words), self.words.max(other.words));
        let near = (self.text ^ other.text).count_ones() <= distance && many <= few.saturating_mul(2);
        near && (few >= ENOUGH_WORDS || (self.links != 0 && self.links == other.links))
    }

    /// The four bands.
    pub fn bands(&self) -> [i64; BANDS] {
        std::array::from_fn(|band| ((self.text >> (16 * band)) & 0xffff) as i64)
    }
}

/// Names that differ from copy to copy: words of names and addresses.
struct Names {
    recipients: BTreeSet<String>,
    /// The sender's count as names only where they are written large: a made-up name is often what the text speaks of.
    sender: BTreeSet<String>,
}

impl Names {
    fn of(message: &Message, envelope: &Envelope) -> Self {
        let mut names = Self { recipients: BTreeSet::new(), sender: BTreeSet::new() };
        for mailbox in message.from().iter().take(5) {
            add(&mut names.sender, &mailbox.display);
            if let Some(address) = &mailbox.address {
                add(&mut names.sender, &address.local);
                add(&mut names.sender, address.domain.split('.').next().unwrap_or_default());
            }
        }
        for mailbox in message.to().iter().take(20) {
            add(&mut names.recipients, &mailbox.display);
        }
        for path in envelope.recipients.iter().take(20) {
            let (local, domain) = path.text.rsplit_once('@').unwrap_or((&path.text, ""));
            add(&mut names.recipients, local);
            add(&mut names.recipients, domain.split('.').next().unwrap_or_default());
        }
        names
    }

    fn has(&self, word: &str, raw: &str) -> bool {
        let large = || raw.chars().find(|c| c.is_alphanumeric()).is_some_and(char::is_uppercase);
        self.recipients.contains(word) || (self.sender.contains(word) && large())
    }
}

fn add(names: &mut BTreeSet<String>, text: &str) {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2);
    names.extend(words.take(8).map(str::to_lowercase));
}

/// Hashes of the words, with what differs folded; quoted lines are left out. Equal folds in a row count once.
fn words(text: &str, names: &Names) -> Vec<u64> {
    let mut out: Vec<u64> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        let mut greeted = 0;
        for (place, raw) in line.split_whitespace().enumerate() {
            let folded = fold(raw, names);
            let Some(word) = folded else { continue };
            let greets = place < 2 && GREETINGS.contains(&word.as_str());
            // The words behind a greeting are a name, up to the first mark.
            let word = if greeted > 0 && !greets { "&".to_owned() } else { word };
            greeted = match () {
                () if greets && !raw.ends_with([',', '!', ':']) => 3,
                () if raw.ends_with([',', '!', ':', '.']) => 0,
                () => usize::saturating_sub(greeted, 1),
            };
            let hash = hash(word.as_bytes());
            if word.len() > 1 || out.last() != Some(&hash) {
                out.push(hash);
            }
        }
    }
    out
}

/// Words that greet: a name follows.
const GREETINGS: [&str; 22] = [
    "dear", "hello", "hi", "hey", "hallo", "liebe", "lieber", "geehrte", "geehrter", "guten", "bonjour", "cher",
    "chère", "hola", "estimado", "estimada", "ciao", "gentile", "beste", "olá", "prezado", "szanowny",
];

/// One word as it counts; `None` for marks alone.
fn fold(raw: &str, names: &Names) -> Option<String> {
    if raw.contains("://") || raw.starts_with("www.") {
        return Some("~".into());
    }
    if raw.contains('@') {
        return Some("@".into());
    }
    if raw.bytes().any(|byte| byte.is_ascii_digit()) {
        return Some("#".into());
    }
    let word = raw.trim_matches(|c: char| !c.is_alphanumeric());
    let word: String = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    match () {
        () if word.is_empty() => None,
        () if word.len() > LONGEST_WORD && word.is_ascii() => Some("#".into()),
        () if names.has(&word, raw) => Some("&".into()),
        () => Some(word),
    }
}

/// The SimHash over pairs of neighbours.
fn simhash(words: &[u64]) -> u64 {
    let mut weights = [0_i32; 64];
    for pair in words.windows(2) {
        let hash = mix(pair[0].rotate_left(17) ^ pair[1]);
        for (bit, weight) in weights.iter_mut().enumerate() {
            *weight += 2 * ((hash >> bit) & 1) as i32 - 1;
        }
    }
    weights.iter().enumerate().fold(0, |all, (bit, weight)| all | (u64::from(*weight > 0) << bit))
}

/// The shapes of the links that a person follows, as a set; 0 without any.
fn shapes(links: &[Link]) -> u64 {
    let followed = links.iter().filter(|link| link.kind.is_followed() && link.is_web()).take(MAX_LINKS);
    let shapes: BTreeSet<u64> = followed.filter_map(|link| Some(hash(shape(link)?.as_bytes()))).collect();
    match shapes.is_empty() {
        true => 0,
        false => shapes.into_iter().fold(1, |all, one| mix(all ^ one)),
    }
}

/// The path of a link with what differs folded, and the names in its query; not its host.
fn shape(link: &Link) -> Option<String> {
    let url = link.url.as_ref()?;
    let mut out = String::new();
    for segment in url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).take(12) {
        out.push('/');
        let word = segment.len() <= 20 && segment.bytes().all(|b| b.is_ascii_alphabetic() || b".-_".contains(&b));
        out.push_str(if word { segment } else { "#" });
    }
    let mut keys: Vec<_> =
        url.query_pairs().take(12).map(|(key, _)| key.chars().take(20).collect::<String>()).collect();
    keys.sort();
    out.push('?');
    out.push_str(&keys.join("&"));
    out.push_str(if url.fragment().is_some() { "#" } else { "" });
    Some(out)
}

/// FNV-1a, mixed.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The last step of SplitMix64: every bit of the input changes half of the output's.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sixteen digits: JSON's numbers end at 53 bits for many readers.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{MessageLimits, Path};

    fn of(from: &str, to: &str, body: &str) -> Option<Likeness> {
        let raw = format!("From: {from}\r\nTo: {to}\r\nSubject: x\r\n\r\n{body}\r\n");
        let message = Message::parse(raw.into(), &MessageLimits::default());
        let envelope = Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new(to)] };
        Likeness::of(&message, &envelope, &CampaignConfig::default())
    }

    fn letter(name: &str, number: &str, link: &str) -> String {
        format!(
            "Dear {name},\n\nwe could not deliver your parcel {number} today because nobody was at home. Please choose \
             another day for the delivery within the next hours, or it goes back to where it came from.\n\n{link}\n\nYour \
             delivery service"
        )
    }

    const NEWS: &str = "The garden club meets on Thursday evening in the old school. Bring cuttings, seeds and cake, and tell \
                        your neighbours. There will be tea afterwards, and the raffle pays for the new shed.";

    #[test]
    fn copies_are_alike_and_others_are_not() {
        let one =
            of("Parcel <a@x.example>", "bob.smith@b.example", &letter("Bob", "A-4711", "https://x.example/t/9f3a1c"));
        let one = one.unwrap();
        let other = letter("Mrs van Dyk", "99 18-22", "https://other.test/t/77aa01bb");
        let other = of("Support <q81@y.example>", "carla@c.example", &other).unwrap();
        assert_eq!((one.text ^ other.text).count_ones(), 0, "names, numbers and hosts are folded");
        assert_eq!((one.links == other.links, one.sender.as_str()), (true, "x.example"));
        assert!(one.is_like(&other, 0));
        let news = of("Club <c@c.example>", "bob@b.example", NEWS).unwrap();
        assert!((one.text ^ news.text).count_ones() > 10 && !one.is_like(&news, 3));
        let freemail = of("Ada <ada@gmail.com>", "bob@b.example", NEWS).unwrap();
        assert!(freemail.is_like(&news, 0) && freemail.sender == "ada@gmail.com");
        // A quotation of it says nothing new.
        let quoted = NEWS.split(". ").map(|line| format!("> {line}\n")).collect::<String>();
        assert_eq!(of("a@a.example", "b@b.example", &quoted), None);
    }

    #[test]
    fn little_text_needs_the_same_links() {
        let short =
            |link: &str| of("a@a.example", "b@b.example", &format!("Here is the file that you asked for {link}"));
        assert_eq!(short(""), None);
        let one = short("https://x.example/doc/1a2b?id=7&k=2").unwrap();
        assert!(one.is_like(&short("https://y.test/doc/99zz?k=9&id=1").unwrap(), 3), "hosts and values are folded");
        assert!(!one.is_like(&short("https://y.test/file/99zz?k=9&id=1").unwrap(), 3));
        assert_eq!(of("a@a.example", "b@b.example", "See https://x.example/"), None);
    }

    #[test]
    fn bands_and_json() {
        let one = Likeness { text: 0xfedc_ba98_7654_3210, words: 30, links: u64::MAX, sender: String::new() };
        assert_eq!(one.bands(), [0x3210, 0x7654, 0xba98, 0xfedc]);
        let json = serde_json::to_string(&one).unwrap();
        assert!(json.contains("fedcba9876543210"), "{json}");
        assert_eq!(serde_json::from_str::<Likeness>(&json).unwrap(), one);
        // Any three bits leave a band as it is.
        for bits in [[0, 1, 2], [5, 20, 40], [15, 16, 63], [0, 16, 32]] {
            let other = Likeness { text: bits.iter().fold(one.text, |text, bit| text ^ (1 << bit)), ..one.clone() };
            assert!(one.bands().iter().zip(other.bands()).any(|(a, b)| *a == b) && one.is_like(&other, 3));
            assert!(!one.is_like(&other, 2));
        }
        let long = Likeness { words: 61, ..one.clone() };
        assert!(!one.is_like(&long, 3));
    }
}
