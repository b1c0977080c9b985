//! What the files of one message are looked at with, and what may still be spent on them, whichever of them asks.
//!
//! One value a message and look: what one attachment took is gone for the next. Counters are atomic only because files are
//! shared; nobody waits for anybody. Not here: limits of a single file ([`ContentLimits`]).

use std::sync::Arc;
#[cfg(any(feature = "pdf", feature = "qr", feature = "yara"))]
use std::sync::atomic::AtomicUsize;
#[cfg(any(feature = "pdf", feature = "qr", feature = "yara"))]
use std::sync::atomic::Ordering;

use super::ContentLimits;
use super::yara::{Yara, YaraFindings};

/// Files of one message whose scan may run out of time before no more are scanned.
#[cfg(feature = "yara")]
const MAX_SLOW_SCANS: usize = 3;

/// What is there for the files of one message.
#[derive(Debug)]
pub struct Means {
    yara: Option<Arc<Yara>>,
    passwords: Arc<[String]>,
    #[cfg(feature = "pdf")]
    pdf: AtomicUsize,
    #[cfg(feature = "qr")]
    pixels: AtomicUsize,
    #[cfg(feature = "yara")]
    scanned: AtomicUsize,
    #[cfg(feature = "yara")]
    slow: AtomicUsize,
}

impl Means {
    /// For one message. Without rules, whether they match is not known.
    pub fn new(limits: &ContentLimits, yara: Option<&Arc<Yara>>) -> Arc<Self> {
        Self::with_passwords(limits, yara, Vec::new())
    }

    /// The same, with passwords to try on archives.
    #[cfg_attr(not(any(feature = "pdf", feature = "qr")), allow(unused_variables))]
    pub fn with_passwords(limits: &ContentLimits, yara: Option<&Arc<Yara>>, passwords: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            yara: yara.cloned(),
            passwords: passwords.into(),
            #[cfg(feature = "pdf")]
            pdf: AtomicUsize::new(limits.max_pdf_bytes),
            #[cfg(feature = "qr")]
            pixels: AtomicUsize::new(limits.max_message_pixels),
            #[cfg(feature = "yara")]
            scanned: AtomicUsize::new(0),
            #[cfg(feature = "yara")]
            slow: AtomicUsize::new(0),
        })
    }

    /// Passwords to try on archives.
    pub(super) fn passwords(&self) -> Arc<[String]> {
        Arc::clone(&self.passwords)
    }

    /// Bytes that may still be spent on PDF files.
    #[cfg(feature = "pdf")]
    pub(super) fn pdf(&self) -> usize {
        self.pdf.load(Ordering::Relaxed)
    }

    /// So many were.
    #[cfg(feature = "pdf")]
    pub(super) fn spend_on_pdf(&self, bytes: usize) {
        take(&self.pdf, bytes);
    }

    /// Whether a picture of so many pixels may still be decoded; if so it counts.
    #[cfg(feature = "qr")]
    pub(super) fn allows_pixels(&self, pixels: usize) -> bool {
        take(&self.pixels, pixels)
    }

    /// What YARA rules say of a file; `None` without rules.
    #[cfg(feature = "yara")]
    pub(super) fn scan(&self, bytes: &[u8]) -> Option<YaraFindings> {
        let yara = self.yara.as_ref()?;
        let config = &yara.config;
        let head = &bytes[..bytes.len().min(config.max_file_bytes)];
        let before = self.scanned.fetch_add(head.len(), Ordering::Relaxed);
        let slow = self.slow.load(Ordering::Relaxed) >= MAX_SLOW_SCANS;
        if slow || before.saturating_add(head.len()) > config.max_message_bytes {
            return Some(YaraFindings { matches: Vec::new(), cut: true });
        }
        let (mut found, slow) = yara.scan(head);
        self.slow.fetch_add(usize::from(slow), Ordering::Relaxed);
        found.cut |= head.len() < bytes.len();
        Some(found)
    }

    /// What YARA rules say of a file: there are none.
    #[cfg(not(feature = "yara"))]
    pub(super) fn scan(&self, bytes: &[u8]) -> Option<YaraFindings> {
        self.yara.as_deref().map(|none| none.scan(bytes))
    }
}

/// Takes so much, or all that is left: then `false`.
#[cfg(any(feature = "pdf", feature = "qr"))]
fn take(left: &AtomicUsize, amount: usize) -> bool {
    let before = left.load(Ordering::Relaxed);
    left.store(before.saturating_sub(amount), Ordering::Relaxed);
    before >= amount
}
