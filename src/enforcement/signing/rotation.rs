//! Rotation by age: a key that signed for `rotate_days` gets a successor, announced first. One that is announced for a time too far
//! away, by a clock that was wrong, is replaced.

use std::path::PathBuf;
use std::time::Duration;

use super::{KeyFileError, KeyState, Keys, SigningConfig};
use crate::observe::event;

/// How often the age is looked at.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it is said that a key is announced, in looks.
const SAID_EVERY: u32 = 24;

/// Makes new keys when it is time; runs until it is dropped. `now_ms`: milliseconds since 1970. Each look reads a small file.
pub async fn rotate_by_age(config: SigningConfig, data: PathBuf, now_ms: impl Fn() -> i64 + Send) {
    if config.rotate_days == 0 {
        return std::future::pending().await;
    }
    let file = Keys::file(&config, &data);
    let mut looks = 0;
    loop {
        match look(&file, &config, now_ms()) {
            Ok(Some(announced)) if looks % SAID_EVERY == 0 => tracing::warn!(
                event = event::SECURITY,
                key = announced,
                "a new signing key is announced: give it to receivers (mailweir keys list --secrets)"
            ),
            Ok(_) => {}
            Err(error) => tracing::error!(event = event::SECURITY, %error, "the signing keys cannot be renewed"),
        }
        looks += 1;
        tokio::time::sleep(EVERY).await;
    }
}

/// Makes a new key when one is due; gives the id of the one that is announced.
fn look(file: &std::path::Path, config: &SigningConfig, now_ms: i64) -> Result<Option<String>, KeyFileError> {
    // Who signs nothing needs no keys.
    if !file.exists() {
        return Ok(None);
    }
    let mut keys = Keys::load(file, config, now_ms)?;
    if keys.is_due(config, now_ms) {
        // Another process may have seen it too: whether it is due is asked again by who changes the file.
        let rotate = |keys: &mut Keys| match keys.is_due(config, now_ms) {
            true => keys.rotate(config, false, now_ms).map(Some),
            false => Ok(None),
        };
        let rotated;
        (keys, rotated) = Keys::change(file, config, now_ms, rotate)?;
        for replaced in rotated.into_iter().flat_map(|rotated| rotated.replaced) {
            tracing::warn!(
                event = event::SECURITY,
                key = replaced,
                "a signing key was announced for later than any is announced now (was a clock wrong?): it is replaced"
            );
        }
    }
    Ok(keys.list(now_ms).into_iter().find(|key| key.state == KeyState::Announced).map(|key| key.id))
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[tokio::test(start_paused = true)]
    async fn keys_follow_each_other_by_age() {
        let folder = tempfile::tempdir().unwrap();
        let config = SigningConfig { rotate_days: 90, ..SigningConfig::default() };
        let (began, start_ms) = (Instant::now(), 1_767_225_600_000);
        let now_ms = move || start_ms + i64::try_from(began.elapsed().as_millis()).unwrap();
        let file = Keys::file(&config, folder.path());
        let rotation = tokio::spawn(rotate_by_age(config.clone(), folder.path().to_owned(), now_ms));
        sleep(DAY).await;
        assert!(!file.exists(), "nobody signs");
        let first = Keys::load(&file, &config, now_ms()).unwrap().keys()[0].id.clone();
        let states = || -> Vec<KeyState> {
            Keys::load(&file, &config, now_ms()).unwrap().list(now_ms()).into_iter().map(|key| key.state).collect()
        };
        sleep(DAY * (config.rotate_days - 1)).await;
        assert_eq!(states(), [KeyState::Signing]);
        sleep(DAY * 2).await;
        assert_eq!(states(), [KeyState::Signing, KeyState::Announced]);
        sleep(Duration::from_secs(u64::from(config.announce_hours) * 3_600)).await;
        assert_eq!(states(), [KeyState::Retiring, KeyState::Signing]);
        let keys = Keys::load(&file, &config, now_ms()).unwrap();
        assert!(
            keys.signing(now_ms()).is_some_and(|key| key.id != first) && keys.verifying(&first, now_ms()).is_some()
        );
        sleep(Duration::from_secs(u64::from(config.overlap_hours) * 3_600)).await;
        assert_eq!(states(), [KeyState::Expired, KeyState::Signing]);
        // And so on, each in its time.
        sleep(DAY * (config.rotate_days + 20) * 3).await;
        assert!(states().len() >= 4, "{:?}", states());
        rotation.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_age_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let config = SigningConfig::default();
        let file = Keys::file(&config, folder.path());
        let before = Keys::load(&file, &config, 0).unwrap();
        let (began, data) = (Instant::now(), folder.path().to_owned());
        let now_ms = move || i64::try_from(began.elapsed().as_millis()).unwrap();
        let _ = tokio::time::timeout(DAY * 1_000, rotate_by_age(config.clone(), data, now_ms)).await;
        assert_eq!(Keys::load(&file, &config, now_ms()).unwrap(), before);
    }
}
