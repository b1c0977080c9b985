//! How long a certificate is good (RFC 5280, 4.1): as much of DER as the way to `notAfter` needs.
//!
//! The operator's own file; what is not understood is no reading. Of a chain the first certificate counts.

use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Date, Month, OffsetDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Days until the first certificate of a file is over; negative when it is.
pub(super) fn days_left(file: &Path, now: SystemTime) -> Option<f64> {
    let certificate = CertificateDer::from_pem_file(file).ok()?;
    let until = not_after(&certificate)?;
    Some((until - OffsetDateTime::from(now)).as_seconds_f64() / (24.0 * 60.0 * 60.0))
}

fn not_after(certificate: &[u8]) -> Option<OffsetDateTime> {
    let (_, whole, _) = element(certificate)?;
    let (_, signed, _) = element(whole)?;
    let (first, _, rest) = element(signed)?;
    // The version may be left out; then serial number, algorithm, issuer.
    let rest = if first == VERSION { element(rest)?.2 } else { rest };
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (tag, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity).filter(|_| tag == SEQUENCE)?;
    let (kind, text, _) = element(rest)?;
    at(kind, str::from_utf8(text).ok()?)
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

fn at(kind: u8, text: &str) -> Option<OffsetDateTime> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let two = |place: usize| digits.get(place..place + 2)?.parse::<u8>().ok();
    let (year, from) = match kind {
        UTC_TIME => match i32::from(two(0)?) {
            year @ 0..50 => (2_000 + year, 2),
            year => (1_900 + year, 2),
        },
        GENERALIZED_TIME => (digits.get(..4)?.parse().ok()?, 4),
        _ => return None,
    };
    let date = Date::from_calendar_date(year, Month::try_from(two(from)?).ok()?, two(from + 2)?).ok()?;
    let time = Time::from_hms(two(from + 4)?, two(from + 6)?, two(from + 8)?).ok()?;
    Some(date.with_time(time).assume_utc())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_end_of_certificates_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600); // 2026-01-01
        for (year, expected) in [(2026, 10.0), (2051, 9_131.0 + 10.0), (2025, -355.0)] {
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(vec!["mx.example".into()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 11);
            let file = folder.path().join("relay.crt");
            std::fs::write(&file, parameters.self_signed(&pair).unwrap().pem()).unwrap();
            assert_eq!(days_left(&file, now), Some(expected), "{year}");
        }
        let file = folder.path().join("relay.crt");
        let pem = std::fs::read_to_string(&file).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        for cut in 0..der.len().min(300) {
            // Cut short it is nothing, or ends before the end is read: never a panic.
            assert!(not_after(&der[..cut]).is_none(), "{cut}");
        }
        std::fs::write(&file, "nothing").unwrap();
        assert_eq!(days_left(&file, now), None);
    }
}
