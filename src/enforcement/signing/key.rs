//! Keys and their lives: announced, signing, retiring, expired. All from two times, so that every gateway says the same.
//!
//! A file of JSON, mode 0600, replaced whole. A key signs from `active_from_ms` on until the next one does; it verifies from
//! the moment it is there until `overlap` after it was superseded.

use std::fs;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::key_file::Held;
use super::{KeyFileError, SigningConfig};

/// Keys in the file beyond which those that are good for nothing go, the oldest first.
const KEPT: usize = 20;
/// Good keys beyond which no other is made: the file is read for each signed request.
const MOST: usize = 200;
const HOUR_MS: i64 = 60 * 60 * 1_000;
/// How far clocks of gateways that share a file may be apart before a key of another looks as if it was made by a wrong one.
const APART_MS: i64 = HOUR_MS;

/// A key: 32 bytes of chance with an id.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// Goes with each signature.
    pub id: String,
    /// 64 hexadecimal digits. Not shown in logs.
    secret: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// From when on it signs, milliseconds since 1970.
    pub active_from_ms: i64,
    /// When it was revoked, milliseconds since 1970; since then it is good for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_ms: Option<i64>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a key is good for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Known, but nothing is signed with it yet.
    Announced,
    /// The one that signs.
    Signing,
    /// Another signs; it still verifies.
    Retiring,
    /// Of no use any more.
    Expired,
    /// Declared of no use, before its time.
    Revoked,
}

impl KeyState {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A key as it is listed: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its id.
    pub id: String,
    /// What it is good for.
    pub state: KeyState,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// From when on it signs, milliseconds since 1970.
    pub active_from_ms: i64,
    /// Until when it verifies, milliseconds since 1970; none while nothing follows it.
    pub expires_ms: Option<i64>,
    /// When it was revoked, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<i64>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
}

/// The key that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Its id.
    pub id: String,
    /// From when on it signs, milliseconds since 1970.
    pub active_from_ms: i64,
    /// The ids of keys that were announced and never come: receivers need them no more.
    pub replaced: Vec<String>,
}

/// A key was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The id of the key that signs from now on in its place; none when another one signed already.
    pub successor: Option<String>,
}

/// All keys, in the order in which they sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    keys: Vec<SigningKey>,
    overlap_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    keys: Vec<SigningKey>,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(now_ms: i64, active_from_ms: i64) -> Result<Self, KeyFileError> {
        let mut chance = [0; 36];
        getrandom::fill(&mut chance).map_err(|_| KeyFileError::Chance)?;
        let (id, secret) = chance.split_at(4);
        Ok(Self {
            id: format!("k{}", hex(id)),
            secret: hex(secret),
            created_ms: now_ms,
            active_from_ms,
            revoked_ms: None,
            revoked_by: None,
        })
    }

    /// The secret's digits: for whoever gives it to a receiver.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        // A key shorter than the hash's block is filled up with zeros (RFC 2104, 2).
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(unhex(&self.secret).unwrap_or_default()) {
            *place = byte;
        }
        <Hmac<Sha256> as KeyInit>::new(&block.into())
    }

    /// Whether it is announced for later than a key that is made now.
    fn is_far(&self, config: &SigningConfig, now_ms: i64) -> bool {
        let wait = i64::from(config.announce_hours) * HOUR_MS + APART_MS;
        self.active_from_ms > now_ms.saturating_add(wait)
    }

    fn is_usable(&self) -> bool {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let id = !self.id.is_empty() && self.id.len() <= 64 && self.id.chars().all(named);
        id && unhex(&self.secret).is_some_and(|bytes| bytes.len() == 32)
    }
}

impl Keys {
    /// These keys.
    pub fn new(keys: Vec<SigningKey>, config: &SigningConfig) -> Self {
        let mut keys = Self { keys, overlap_ms: i64::from(config.overlap_hours) * HOUR_MS };
        keys.sort();
        keys
    }

    fn sort(&mut self) {
        self.keys.sort_by(|a, b| (a.active_from_ms, &a.id).cmp(&(b.active_from_ms, &b.id)));
    }

    /// Where they are kept.
    pub fn file(config: &SigningConfig, data: &Path) -> PathBuf {
        config.key_file.clone().unwrap_or_else(|| data.join("signing.keys"))
    }

    /// Reads the file; makes it with one key that signs at once when there is none.
    ///
    /// # Errors
    /// When it cannot be read, written, or holds something else.
    pub fn load(file: &Path, config: &SigningConfig, now_ms: i64) -> Result<Self, KeyFileError> {
        match fs::read(file) {
            Ok(text) => Self::parse(file, &text, config),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::change(file, config, now_ms, |_| Ok(()))?.0)
            }
            Err(source) => Err(KeyFileError::File { file: file.to_owned(), what: "read", source }),
        }
    }

    /// Changes what is in the file: read, changed and written by one at a time. Nothing is written when nothing was changed. Made
    /// as [`Self::load`] does when there is none. Waits for others who change it.
    ///
    /// # Errors
    /// When it cannot be locked, read, written, or holds something else; and those of `change`.
    pub fn change<T>(
        file: &Path,
        config: &SigningConfig,
        now_ms: i64,
        change: impl FnOnce(&mut Self) -> Result<T, KeyFileError>,
    ) -> Result<(Self, T), KeyFileError> {
        let failed = |what| move |source| KeyFileError::File { file: file.to_owned(), what, source };
        let held = Held::new(file).map_err(failed("locked"))?;
        let before = held.read().map_err(failed("read"))?;
        let before = before.map(|text| Self::parse(file, &text, config)).transpose()?;
        let mut keys = match &before {
            Some(keys) => keys.clone(),
            None => Self::new(vec![SigningKey::new(now_ms, now_ms)?], config),
        };
        let changed = change(&mut keys)?;
        if before.as_ref() != Some(&keys) {
            keys.forget(now_ms);
            keys.save(file, &held)?;
        }
        Ok((keys, changed))
    }

    /// Forgets expired and revoked keys while there are more than [`KEPT`]; none that says when the life of the one before ends.
    fn forget(&mut self, now_ms: i64) {
        while self.keys.len() > KEPT {
            let free = |place: usize| place == 0 || self.keys[place - 1].revoked_ms.is_some();
            let over = |place: &usize| !self.is_good(*place, now_ms) && free(*place);
            let Some(place) = (0..self.keys.len()).find(over) else { return };
            self.keys.remove(place);
        }
    }

    fn save(&self, file: &Path, held: &Held) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::File { file: file.to_owned(), what: "written", source };
        let text = serde_json::to_vec_pretty(&KeyFile { keys: self.keys.clone() });
        let text = text.map_err(|source| KeyFileError::Content { file: file.to_owned(), source })?;
        held.write(&text).map_err(failed)
    }

    fn parse(file: &Path, text: &[u8], config: &SigningConfig) -> Result<Self, KeyFileError> {
        let content = |source| KeyFileError::Content { file: file.to_owned(), source };
        let KeyFile { keys } = serde_json::from_slice(text).map_err(content)?;
        if let Some(wrong) = keys.iter().find(|key| !key.is_usable()) {
            return Err(KeyFileError::Key { file: file.to_owned(), id: wrong.id.clone() });
        }
        Ok(Self::new(keys, config))
    }

    /// Adds a key that signs when it has been announced long enough; a key that is announced already is given back as it is,
    /// unless that is for later than any key is announced now: then a clock was wrong, and it is replaced. `at_once`: it signs
    /// from now on, for a key that got into wrong hands.
    ///
    /// # Errors
    /// When so many keys are good that no other is made, or the system has no random numbers.
    pub fn rotate(&mut self, config: &SigningConfig, at_once: bool, now_ms: i64) -> Result<Rotated, KeyFileError> {
        self.begin(now_ms);
        self.follow(config, at_once, now_ms)
    }

    fn follow(&mut self, config: &SigningConfig, at_once: bool, now_ms: i64) -> Result<Rotated, KeyFileError> {
        // At once: what was announced may be known to the same hands.
        let dropped = |key: &mut SigningKey| match at_once {
            true => key.active_from_ms > now_ms,
            false => key.is_far(config, now_ms),
        };
        let dropped = self.keys.extract_if(.., dropped).filter(|key| key.revoked_ms.is_none());
        let replaced = dropped.map(|key| key.id).collect();
        let announced = self.keys.last().is_some_and(|last| last.active_from_ms > now_ms);
        if at_once || !announced {
            let good = (0..self.keys.len()).filter(|place| self.is_good(*place, now_ms)).count();
            if good >= MOST {
                return Err(KeyFileError::Many { good });
            }
            let wait = if at_once { 0 } else { i64::from(config.announce_hours) * HOUR_MS };
            self.keys.push(SigningKey::new(now_ms, now_ms.saturating_add(wait))?);
        }
        let next = self.keys.last().ok_or(KeyFileError::Chance)?;
        Ok(Rotated { id: next.id.clone(), active_from_ms: next.active_from_ms, replaced })
    }

    /// The key that signs only because the clock is behind all of them is made one that signs now: nothing takes it away then.
    fn begin(&mut self, now_ms: i64) {
        let Some(id) = self.signing(now_ms).filter(|key| key.active_from_ms > now_ms).map(|key| key.id.clone()) else {
            return;
        };
        self.keys.iter_mut().filter(|key| key.id == id).for_each(|key| key.active_from_ms = now_ms - 1);
        self.sort();
    }

    /// Declares a key of no use from now on, for signing and for verifying; gives the key that takes its place when it was the one
    /// that signs. `None`: there is no such key. One that was only announced is forgotten. The file keeps who did it, and when.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn revoke(
        &mut self,
        id: &str,
        by: &str,
        config: &SigningConfig,
        now_ms: i64,
    ) -> Result<Option<Revoked>, KeyFileError> {
        self.begin(now_ms);
        let Some(place) = self.keys.iter().position(|key| key.id == id) else { return Ok(None) };
        match self.state(place, now_ms) {
            KeyState::Announced => drop(self.keys.remove(place)),
            KeyState::Revoked => {}
            state => {
                self.keys[place].revoked_ms = Some(now_ms);
                self.keys[place].revoked_by = Some(by.to_owned());
                if state == KeyState::Signing {
                    let next = self.follow(config, true, now_ms)?.id;
                    return Ok(Some(Revoked { successor: Some(next) }));
                }
            }
        }
        Ok(Some(Revoked { successor: None }))
    }

    /// Whether the signing key is so old that a new one is due and none is announced, or for a time that is too far away.
    pub fn is_due(&self, config: &SigningConfig, now_ms: i64) -> bool {
        let limit = i64::from(config.rotate_days) * 24 * HOUR_MS;
        let far = self.keys.iter().any(|key| key.is_far(config, now_ms));
        let old = |last: &SigningKey| now_ms.saturating_sub(last.active_from_ms) >= limit;
        limit > 0 && (far || self.keys.last().is_none_or(old))
    }

    /// The key that signs now. When the clock was set back behind the first of them, that one: receivers have it, and those that
    /// are strict with the time will say so.
    pub fn signing(&self, now_ms: i64) -> Option<&SigningKey> {
        let mut good = self.keys.iter().filter(|key| key.revoked_ms.is_none());
        good.clone().rfind(|key| key.active_from_ms <= now_ms).or_else(|| good.next())
    }

    /// A key that verifies now.
    pub fn verifying(&self, id: &str, now_ms: i64) -> Option<&SigningKey> {
        let place = self.keys.iter().position(|key| key.id == id)?;
        self.is_good(place, now_ms).then(|| &self.keys[place])
    }

    /// All of them with their states.
    pub fn list(&self, now_ms: i64) -> Vec<KeyInfo> {
        let info = |(place, key): (usize, &SigningKey)| KeyInfo {
            id: key.id.clone(),
            state: self.state(place, now_ms),
            created_ms: key.created_ms,
            active_from_ms: key.active_from_ms,
            expires_ms: key.revoked_ms.or_else(|| self.expires_ms(place)),
            revoked_ms: key.revoked_ms,
            revoked_by: key.revoked_by.clone(),
        };
        self.keys.iter().enumerate().map(info).collect()
    }

    /// All of them with their secrets.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    fn expires_ms(&self, place: usize) -> Option<i64> {
        self.keys.get(place + 1).map(|next| next.active_from_ms.saturating_add(self.overlap_ms))
    }

    fn is_good(&self, place: usize, now_ms: i64) -> bool {
        !matches!(self.state(place, now_ms), KeyState::Expired | KeyState::Revoked)
    }

    fn state(&self, place: usize, now_ms: i64) -> KeyState {
        let superseded = self.keys.get(place + 1).is_some_and(|next| next.active_from_ms <= now_ms);
        match self.keys[place].active_from_ms > now_ms {
            _ if self.keys[place].revoked_ms.is_some() => KeyState::Revoked,
            true => KeyState::Announced,
            false if !superseded => KeyState::Signing,
            false if self.expires_ms(place).is_some_and(|until| until < now_ms) => KeyState::Expired,
            false => KeyState::Retiring,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    // `from_str_radix` takes a sign.
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_revoked_key_is_good_for_nothing_and_lengthens_no_other_life() {
        let config = SigningConfig { overlap_hours: 168, ..SigningConfig::default() };
        let mut keys = Keys::new(vec![SigningKey::new(0, 0).unwrap()], &config);
        let first = keys.keys()[0].id.clone();
        let second = keys.rotate(&config, true, HOUR_MS).unwrap().id.clone();
        assert!(keys.verifying(&first, 2 * HOUR_MS).is_some());
        assert_eq!(keys.revoke("k0", "ann", &config, 2 * HOUR_MS).unwrap(), None);
        assert_eq!(keys.revoke(&first, "ann", &config, 2 * HOUR_MS).unwrap(), Some(Revoked { successor: None }));
        assert!(keys.verifying(&first, 2 * HOUR_MS).is_none() && keys.signing(2 * HOUR_MS).unwrap().id == second);
        // The one that signs has a successor at once; what was announced may be known to the same hands.
        let announced = keys.rotate(&config, false, 2 * HOUR_MS).unwrap().id.clone();
        let next = keys.revoke(&second, "ann", &config, 3 * HOUR_MS).unwrap().unwrap().successor.unwrap();
        assert_eq!(keys.signing(3 * HOUR_MS).unwrap().id, next);
        assert!([&first, &second, &announced].iter().all(|id| keys.verifying(id, 3 * HOUR_MS).is_none()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        Keys::change(&file, &config, 0, |there| {
            there.clone_from(&keys);
            Ok(())
        })
        .unwrap();
        let again = Keys::load(&file, &config, 4 * HOUR_MS).unwrap();
        assert_eq!(again, keys);
        let states: Vec<KeyState> = again.list(4 * HOUR_MS).into_iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Revoked, KeyState::Revoked, KeyState::Signing]);
        assert_eq!(again.list(0)[0].revoked_by.as_deref(), Some("ann"));
    }

    #[test]
    fn keys_follow_each_other_with_an_overlap() {
        let config = SigningConfig { announce_hours: 2, overlap_hours: 3, rotate_days: 1, ..SigningConfig::default() };
        let mut keys = Keys::new(vec![SigningKey::new(0, 0).unwrap()], &config);
        let old = keys.keys()[0].id.clone();
        assert!(!keys.is_due(&config, 24 * HOUR_MS - 1));
        assert!(keys.is_due(&config, 24 * HOUR_MS));
        let new = keys.rotate(&config, false, 24 * HOUR_MS).unwrap().id.clone();
        assert!(!keys.is_due(&config, 24 * HOUR_MS), "one is announced");
        assert_eq!(keys.rotate(&config, false, 25 * HOUR_MS).unwrap().id, new, "announced once");
        assert_eq!(keys.signing(-HOUR_MS).unwrap().id, old, "a clock that was set back stops no webhook");
        let states = |keys: &Keys, hour: i64| -> Vec<KeyState> {
            keys.list(hour * HOUR_MS).into_iter().map(|key| key.state).collect()
        };
        for (hour, expected, signs) in [
            (25, [KeyState::Signing, KeyState::Announced], &old),
            (26, [KeyState::Retiring, KeyState::Signing], &new),
            (29, [KeyState::Retiring, KeyState::Signing], &new),
            (30, [KeyState::Expired, KeyState::Signing], &new),
        ] {
            assert_eq!(states(&keys, hour), expected, "{hour}");
            assert_eq!(keys.signing(hour * HOUR_MS).unwrap().id, *signs, "{hour}");
            assert_eq!(keys.verifying(&old, hour * HOUR_MS).is_some(), hour < 30, "{hour}");
            assert!(keys.verifying(&new, hour * HOUR_MS).is_some(), "what is announced may come from a faster clock");
        }
        let third = keys.rotate(&config, true, 31 * HOUR_MS).unwrap().id.clone();
        assert_eq!(keys.signing(31 * HOUR_MS).unwrap().id, third);
    }

    #[test]
    fn a_key_announced_by_a_wrong_clock_is_replaced() {
        let config = SigningConfig { rotate_days: 90, ..SigningConfig::default() };
        let (now, ahead) = (1_000 * 24 * HOUR_MS, 2_100 * 24 * HOUR_MS);
        let mut keys = Keys::new(vec![SigningKey::new(now, now).unwrap()], &config);
        let first = keys.keys()[0].id.clone();
        let lost = keys.rotate(&config, false, ahead).unwrap().id.clone();
        assert!(keys.is_due(&config, now), "and not in three years");
        let next = keys.rotate(&config, false, now).unwrap().id.clone();
        let announced = now + i64::from(config.announce_hours) * HOUR_MS;
        assert_eq!(
            keys.list(now).iter().map(|key| (&key.id, key.active_from_ms)).collect::<Vec<_>>(),
            [(&first, now), (&next, announced)]
        );
        assert!(next != lost && !keys.is_due(&config, now));
        // One of a gateway whose clock is a little ahead is none of these.
        assert_eq!(keys.rotate(&config, false, now - HOUR_MS).unwrap().id, next);
        assert_eq!(keys.signing(now).unwrap().id, first);
    }

    #[test]
    fn a_first_key_made_by_a_wrong_clock_goes_on_signing() {
        let config = SigningConfig { rotate_days: 90, ..SigningConfig::default() };
        let (now, ahead) = (1_000 * 24 * HOUR_MS, 2_100 * 24 * HOUR_MS);
        for at_once in [false, true] {
            let mut keys = Keys::new(vec![SigningKey::new(ahead, ahead).unwrap()], &config);
            let first = keys.keys()[0].id.clone();
            assert!(keys.is_due(&config, now));
            let next = keys.rotate(&config, at_once, now).unwrap().id.clone();
            assert_eq!(keys.signing(now).unwrap().id, if at_once { next } else { first.clone() });
            assert!(keys.verifying(&first, now + HOUR_MS).is_some(), "receivers and callers have it");
        }
        let mut keys = Keys::new(vec![SigningKey::new(ahead, ahead).unwrap()], &config);
        let first = keys.keys()[0].id.clone();
        let revoked = keys.revoke(&first, "ann", &config, now).unwrap().unwrap();
        assert_eq!(keys.signing(now).map(|key| key.id.clone()), revoked.successor);
        assert!(keys.verifying(&first, now).is_none() && keys.signing(now).is_some());
    }

    #[test]
    fn good_keys_are_kept_however_many() {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("signing.keys"), SigningConfig::default());
        let first = Keys::load(&file, &config, 0).unwrap().keys()[0].id.clone();
        let rotate = |hour: i64| {
            let now = hour * HOUR_MS;
            Keys::change(&file, &config, now, |keys| keys.rotate(&config, true, now).map(|next| next.id.clone()))
        };
        for hour in 1..=22 {
            rotate(hour).unwrap();
        }
        let keys = Keys::load(&file, &config, 22 * HOUR_MS).unwrap();
        assert_eq!(keys.keys().len(), 23);
        assert!(keys.verifying(&first, 22 * HOUR_MS).is_some(), "good for {} hours", config.overlap_hours);
        // When they are good for nothing the oldest go.
        rotate(1_000).unwrap();
        let keys = Keys::load(&file, &config, 1_000 * HOUR_MS).unwrap();
        assert!(keys.keys().len() == KEPT && keys.keys().iter().all(|key| key.id != first));
    }

    #[test]
    fn with_too_many_good_ones_revoking_makes_room() {
        let config = SigningConfig::default();
        let mut keys = Keys::new(vec![SigningKey::new(0, 0).unwrap()], &config);
        for at in 1..MOST {
            keys.rotate(&config, true, at as i64).unwrap();
        }
        let (now, before) = (MOST as i64, keys.clone());
        assert!(matches!(keys.rotate(&config, true, now), Err(KeyFileError::Many { good: MOST })));
        assert!(matches!(keys.rotate(&config, false, now), Err(KeyFileError::Many { .. })));
        assert_eq!(keys, before);
        let signs = keys.signing(now).unwrap().id.clone();
        assert!(keys.revoke(&signs, "ann", &config, now).unwrap().unwrap().successor.is_some(), "in any case");
        let old = keys.keys()[0].id.clone();
        keys.revoke(&old, "ann", &config, now).unwrap();
        keys.rotate(&config, true, now + 1).unwrap();
    }

    #[test]
    fn revoked_keys_go_but_lengthen_no_life() {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("signing.keys"), SigningConfig::default());
        let first = Keys::load(&file, &config, 0).unwrap().keys()[0].id.clone();
        let change = |now: i64, id: Option<String>| {
            let change = |keys: &mut Keys| match id {
                None => keys.rotate(&config, true, now).map(drop),
                Some(id) => keys.revoke(&id, "ann", &config, now).map(drop),
            };
            Keys::change(&file, &config, now, change).unwrap().0
        };
        let mut keys = change(HOUR_MS, None);
        for hour in 2..60 {
            let signs = keys.signing(hour * HOUR_MS).unwrap().id.clone();
            keys = change(hour * HOUR_MS, Some(signs));
        }
        assert_eq!(keys.keys().len(), KEPT);
        assert_eq!(keys, Keys::load(&file, &config, 60 * HOUR_MS).unwrap());
        let until = (1 + i64::from(config.overlap_hours)) * HOUR_MS;
        assert_eq!((&keys.list(0)[0].id, keys.list(0)[0].expires_ms), (&first, Some(until)));
    }

    #[test]
    fn changes_at_once_lose_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("signing.keys"), SigningConfig::default());
        // The first use too: all of them see the same first key.
        let firsts: Vec<String> = std::thread::scope(|scope| {
            let load = || Keys::load(&file, &config, 1_000).unwrap().keys()[0].id.clone();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(firsts.iter().all(|id| *id == firsts[0]), "{firsts:?}");
        let rotate = || Keys::change(&file, &config, 2_000, |keys| Ok(keys.rotate(&config, true, 2_000)?.id.clone()));
        let mut made: Vec<String> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16).map(|_| scope.spawn(rotate)).collect();
            all.into_iter().map(|one| one.join().unwrap().unwrap().1).collect()
        });
        made.push(firsts[0].clone());
        made.sort();
        let mut kept: Vec<String> =
            Keys::load(&file, &config, 3_000).unwrap().keys().iter().map(|key| key.id.clone()).collect();
        kept.sort();
        assert_eq!(kept, made);
    }

    #[test]
    fn the_file_is_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("signing.keys"), SigningConfig::default());
        let mut keys = Keys::load(&file, &config, 1_000).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Keys::load(&file, &config, 2_000).unwrap(), keys);
        keys = Keys::change(&file, &config, 3_000, |keys| keys.rotate(&config, true, 3_000).map(drop)).unwrap().0;
        assert_eq!(Keys::load(&file, &config, 4_000).unwrap().keys().len(), 2);
        assert!(!format!("{keys:?}").contains(keys.keys()[0].secret()));
        fs::write(&file, r#"{"keys":[{"id":"a","secret":"+1","created_ms":0,"active_from_ms":0}]}"#).unwrap();
        assert!(matches!(Keys::load(&file, &config, 0), Err(KeyFileError::Key { .. })));
        fs::write(&file, "{}").unwrap();
        assert!(matches!(Keys::load(&file, &config, 0), Err(KeyFileError::Content { .. })));
    }
}
