//! The bytes of held messages: files, and objects in S3.

use std::fs::{self, File};
use std::path::PathBuf;

use mailweir::records::{S3Config, StoreError};

use crate::support::gateway::is_private;
use crate::support::records::{Place, id_at, now_ms, record};
use crate::support::s3::S3;

const RAW: &[u8] = b"Subject: x\r\n\r\nHello, and 8-bit \xe4\0\r\n";

/// All files below a folder.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn as_files() {
    let place = Place::new("");
    let open = place.open().await;
    let one = record(id_at(now_ms(), 1), "body", &["a@x.example"]);
    open.hold(&one, RAW).await.unwrap();
    let held = open.records.held_message(one.id).await.unwrap();
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);
    let stored = files(place.path().join("bodies"));
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(is_private(&File::open(&stored[0]).unwrap()), "readable by others");
    assert_eq!(stored[0].extension().unwrap(), "zst");

    // The same bytes twice are one file; nothing is left lying beside.
    let again = record(id_at(now_ms(), 2), "body", &["a@x.example"]);
    open.hold(&again, RAW).await.unwrap();
    assert_eq!(files(place.path().join("bodies")), stored);

    // One bit is wrong, the end is missing, it is something else, it is gone: said, never handed out.
    let good = fs::read(&stored[0]).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let other = zstd::bulk::compress(b"Subject: x\r\n\r\nother\r\n", 3).unwrap();
    for bytes in [&flipped[..], &good[..good.len() - 3], &other, b""] {
        fs::write(&stored[0], bytes).unwrap();
        let error = open.records.held_bytes(&held).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_) | StoreError::Body { attempt: "unpack", .. }), "{error}");
    }
    fs::remove_file(&stored[0]).unwrap();
    assert!(matches!(open.records.held_bytes(&held).await, Err(StoreError::Body { attempt: "read", .. })));
    // Held once more, it is whole again.
    open.hold(&record(id_at(now_ms(), 3), "body", &["a@x.example"]), RAW).await.unwrap();
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);
    open.close().await;
}

#[tokio::test]
async fn a_full_disk() {
    let mut place = Place::new("");
    place.config.min_free_bytes = u64::MAX;
    let open = place.open().await;
    let one = record(id_at(now_ms(), 1), "full", &["a@x.example"]);
    let error = open.hold(&one, RAW).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { needed: u64::MAX, .. }), "{error}");
    assert!(matches!(open.records.held_message(one.id).await, Err(StoreError::NotHeld(_))));
    assert!(files(place.path().join("bodies")).is_empty());
    // What needs no body goes on.
    open.note(&[one]).await;
    open.close().await;
}

#[tokio::test]
async fn as_objects() {
    // As the program does at its start: one provider for all TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let s3 = S3::start().await;
    let mut place = Place::new("");
    place.config.bodies = "s3://weir/held/mail".into();
    let secret = place.path().join("secret");
    fs::write(&secret, "not-a-secret\n").unwrap();
    place.config.s3 = S3Config {
        endpoint: format!("http://{}", s3.address),
        access_key_id: "weir".into(),
        secret_access_key_file: Some(secret),
        allow_http: true,
        request_seconds: 2,
        ..S3Config::default()
    };
    let open = place.open().await;
    let old = record(id_at(now_ms() - 31 * 24 * 60 * 60 * 1_000, 1), "old", &["a@x.example"]);
    let young = record(id_at(now_ms(), 2), "young", &["a@x.example"]);
    open.hold(&old, b"Subject: old\r\n\r\n").await.unwrap();
    open.hold(&young, RAW).await.unwrap();
    let held = open.records.held_message(young.id).await.unwrap();
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);
    let keys: Vec<String> = s3.objects().into_keys().collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.starts_with("weir/held/mail/") && key.ends_with(".zst")), "{keys:?}");

    // Retention takes the one that nobody names any more, and nothing that is not ours.
    s3.put("weir/other/mail.zst", b"somebody else's");
    s3.put("weir/held/mail/notes.txt", b"not a body");
    // More than fit on a page, of the store's or of ours.
    for n in 0..1_100 {
        let name = format!("{n:04x}{:060}", 0);
        s3.put(&format!("weir/held/mail/{}/{}/{name}.zst", &name[..2], &name[2..4]), b"nobody's");
    }
    // The same bytes come again while the page is worked on.
    let again = format!("weir/held/mail/00/07/0007{:060}.zst", 0);
    s3.rewritten(&again);
    open.records.expire(now_ms()).await.unwrap();
    let left: Vec<String> = s3.objects().into_keys().collect();
    assert!(left.contains(&again), "{left:?}");
    assert_eq!(left.len(), 4, "{left:?}\n{:?}", s3.requests());
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);

    // Damaged, gone, failing.
    let key = keys.iter().find(|key| left.contains(key)).unwrap();
    let good = s3.objects()[key].clone();
    s3.put(key, &zstd::bulk::compress(b"other", 3).unwrap());
    assert!(matches!(open.records.held_bytes(&held).await, Err(StoreError::Damaged(_))));
    s3.put(key, &good);
    s3.fail(true);
    let lost = record(id_at(now_ms(), 3), "lost", &["a@x.example"]);
    let error = open.hold(&lost, b"Subject: lost\r\n\r\n").await.unwrap_err();
    assert!(matches!(error, StoreError::Body { attempt: "write", .. }), "{error}");
    assert!(matches!(open.records.held_message(lost.id).await, Err(StoreError::NotHeld(_))));
    assert!(open.records.held_bytes(&held).await.is_err());
    s3.fail(false);
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);
    assert_eq!(s3.unsigned(), 0, "every request is signed");
    open.close().await;
}
