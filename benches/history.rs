//! What the filter before the history saves: `cargo bench --bench history`.
//!
//! An embedded database that knows some senders; then messages of strangers and of those are looked up, nine strangers to one,
//! without a filter, with the default one, and with one so small that it is as full as it may be.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, clippy::expect_used)]
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::time::{Duration, Instant};

use mailweir::analysis::{Contact, HistoryKeys};
use mailweir::policy::Action;
use mailweir::records::Record;

#[path = "../tests/support/records.rs"]
mod store;

use store::{Open, Place, id_at, record};

const SENDERS: i64 = 20_000;
const LOOKUPS: i64 = 20_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;
const NOON: i64 = 20_000 * DAY;
/// An address, its domain, and its Reply-To: 9.6 bits for each make a false-positive rate of 1 %.
const FULL_BYTES: u64 = (SENDERS as u64 * 3 * 96) / 80;

fn keys(sender: &str) -> HistoryKeys {
    let domain = sender.rsplit_once('@').unwrap().1.to_owned();
    HistoryKeys {
        sender_email: Some(sender.into()),
        names: [sender.to_owned(), domain.clone()].into(),
        sender_domain: Some(domain),
        free_mail: false,
        reply_to: None,
    }
}

#[tokio::main]
async fn main() {
    let mut place = Place::new("");
    let open = place.open().await;
    let filter = open.records.filtered(place.path()).map(tokio::spawn);
    let all: Vec<Record> = (0..SENDERS)
        .map(|number| {
            let (at, from) = (NOON - number, format!("a{number}@known{number}.example"));
            let contact = Contact { reply_to: vec![from.clone()], wrote_to_us: vec![from], we_wrote_to: Vec::new() };
            Record { action: Action::Allow, contact, ..record(id_at(at, 1), "bench", &["bob@own.example"]) }
        })
        .collect();
    for some in all.chunks(2_000) {
        open.note(some).await;
    }
    filter.inspect(|filter| filter.abort());
    open.close().await;
    for (name, bytes) in [("none", 0), ("10 MB", 10 << 20), ("as full as it may be", FULL_BYTES)] {
        place.config.history.filter_bytes = bytes;
        look_up(&place, name).await;
    }
}

async fn look_up(place: &Place, name: &str) {
    let open = place.open().await;
    let filter = open.records.filtered(place.path()).map(tokio::spawn);
    if filter.is_some() {
        while count(&open, "mailweir_history_filter_names_total", "new") == 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            open.records.history(NOON + 30 * DAY, &keys("is-it@in-use.test")).await.unwrap();
        }
    }
    let began = Instant::now();
    for number in 0..LOOKUPS {
        let stranger = number % 10 != 0;
        let sender =
            if stranger { format!("a@never{number}.test") } else { format!("a{number}@known{number}.example") };
        open.records.history(NOON + 30 * DAY, &keys(&sender)).await.unwrap();
    }
    let each = began.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64;
    let lookups = |outcome| count(&open, "mailweir_history_lookups_total", outcome);
    let names = |outcome| count(&open, "mailweir_history_filter_names_total", outcome);
    let (asked, saved, new, mistaken) = (lookups("asked"), lookups("saved"), names("new"), names("mistaken"));
    println!(
        "filter {name:22} {each:7.1} µs a look-up, {:5.1} % saved, {:.3} % of unknown names asked for in vain",
        saved * 100.0 / (asked + saved),
        mistaken * 100.0 / (new + mistaken).max(1.0),
    );
    filter.inspect(|filter| filter.abort());
    open.close().await;
}

fn count(open: &Open, family: &str, outcome: &str) -> f64 {
    let families = open.registry.gather();
    let metrics = families.iter().find(|one| one.name() == family).unwrap().get_metric();
    let found = metrics.iter().find(|metric| metric.get_label()[0].value() == outcome);
    found.unwrap().get_counter().get_value()
}
