//! Messages that say the same: found by four bands within a window, told once. On SQLite and on PostgreSQL by the same tests.

use mailweir::analysis::{Campaign, CampaignConfig, Fact, Likeness};
use mailweir::mail::{Envelope, MessageId, Path};
use mailweir::policy::Action;
use mailweir::records::Record;

use crate::support::postgres::{Postgres, available};
use crate::support::records::{Open, Place, id_at, record};

const HOUR: i64 = 60 * 60 * 1_000;
const NOON: i64 = 20_000 * 24 * HOUR + 12 * HOUR;
const TEXT: u64 = 0x0123_4567_89ab_cdef;

#[tokio::test]
async fn sqlite() {
    everything("").await;
}

#[tokio::test]
async fn postgresql() {
    if !available("campaigns::postgresql") {
        return;
    }
    let postgres = Postgres::start().await;
    everything(&postgres.url).await;
}

fn config() -> CampaignConfig {
    CampaignConfig { enabled: true, ..CampaignConfig::default() }
}

fn like(text: u64, sender: &str) -> Likeness {
    Likeness { text, words: 40, links: 7, sender: sender.into() }
}

/// A message with its digest, judged with what was known then.
async fn arrives(open: &Open, at: i64, number: u16, text: u64, sender: &str, to: &str) -> (MessageId, Campaign) {
    let base = record(id_at(at, number), "campaign", &[to]);
    let likeness = like(text, sender);
    let found = look(open, at, &base, &likeness, &config()).await;
    let one = Record {
        likeness: Some(likeness),
        in_campaign: found.messages >= config().members,
        action: Action::Allow,
        facts: mailweir::analysis::Facts { campaign: Fact::Known(found.clone()), ..base.facts.clone() },
        ..base
    };
    let id = one.id;
    open.note(std::slice::from_ref(&one)).await;
    (id, found)
}

async fn look(open: &Open, at: i64, of: &Record, likeness: &Likeness, config: &CampaignConfig) -> Campaign {
    open.records.campaign(at, (of.id, likeness, &of.envelope), config).await.unwrap()
}

async fn everything(url: &str) {
    let place = Place::new(url);
    let open = place.open().await;
    let mut ids = Vec::new();
    // Each a bit or three away, from two senders, to four recipients.
    for (number, bits) in [0_u64, 1, 0b111, 1 << 63].into_iter().enumerate() {
        let number = number as u16;
        let (sender, to) = (format!("s{}.example", number % 2), format!("r{number}@own.example"));
        let (id, found) = arrives(&open, NOON + i64::from(number), number, TEXT ^ bits, &sender, &to).await;
        assert!(found.untold.is_empty() && found.messages <= 4, "{found:?}");
        ids.push(id);
    }
    // Others that share a band, a word count or nothing.
    arrives(&open, NOON, 50, TEXT ^ 0xffff_0000, "x.example", "x@own.example").await;
    arrives(&open, NOON, 51, !TEXT, "y.example", "y@own.example").await;
    let (fifth, found) = arrives(&open, NOON + 9, 5, TEXT, "s5.example", "R0@own.example").await;
    assert_eq!((found.messages, found.senders, found.recipients), (5, 3, 4));
    assert_eq!(found.untold, ids, "those before it, and only those");
    // They are told once.
    let (_, found) = arrives(&open, NOON + 10, 6, TEXT, "s5.example", "r9@own.example").await;
    assert_eq!((found.messages, found.untold.len()), (6, 0));
    assert_ne!(fifth, ids[0]);

    // As of a time, and within the window.
    let base = record(id_at(NOON + 2, 99), "campaign", &["z@own.example"]);
    let likeness = like(TEXT, "z.example");
    assert_eq!(look(&open, NOON + 2, &base, &likeness, &config()).await.messages, 4, "0, 1 and 2 were there");
    assert_eq!(look(&open, NOON + 25 * HOUR, &base, &likeness, &config()).await.messages, 1);
    let near = CampaignConfig { distance: 0, ..config() };
    assert_eq!(look(&open, NOON + HOUR, &base, &likeness, &near).await.messages, 4);
    let few = CampaignConfig { max_candidates: 2, ..config() };
    let found = look(&open, NOON + HOUR, &base, &likeness, &few).await;
    assert!((2..=7).contains(&found.messages), "{found:?}");
    // Itself is not another.
    let own = Record { id: fifth, ..base };
    assert_eq!(look(&open, NOON + HOUR, &own, &likeness, &config()).await.messages, 6);

    let envelope =
        Envelope { sender: Path::new(""), recipients: (0..400).map(|n| Path::new(format!("{n}@o.example"))).collect() };
    let many = open.records.campaign(NOON, (fifth, &like(!TEXT, ""), &envelope), &config()).await.unwrap();
    assert_eq!((many.messages, many.recipients), (2, 51), "recipients of one message are bounded");

    open.records.expire(NOON + 40 * 24 * HOUR).await.unwrap();
    assert!(open.records.counts().await.unwrap().contains(&("likenesses", 0)));
    open.close().await;
}
