//! When a certificate ends: X.509 (RFC 5280, 4.1) read just so far, in DER. What does not fit is `None`.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Date, Month, PrimitiveDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the first certificate of a PEM file ends, in seconds since 1970; why it cannot be told.
pub(super) fn end_of(file: &Path) -> Result<i64, String> {
    let certificate = CertificateDer::from_pem_file(file).map_err(|error| error.to_string())?;
    not_after(&certificate).ok_or_else(|| "the certificate cannot be read".to_owned())
}

fn not_after(certificate: &[u8]) -> Option<i64> {
    let certificate = expect(&mut { certificate }, SEQUENCE)?;
    let mut fields = expect(&mut { certificate }, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        next(&mut fields)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        next(&mut fields)?;
    }
    let mut validity = expect(&mut fields, SEQUENCE)?;
    next(&mut validity)?;
    let (tag, text) = next(&mut validity)?;
    instant(tag, str::from_utf8(text).ok()?)
}

/// One element: its tag and its content; the input moves past it.
fn next<'d>(input: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (tag, rest) = input.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let (bytes, after) = rest.split_at_checked(length - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((*tag, content))
}

fn expect<'d>(input: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    next(input).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn instant(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year: i32 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, expected) in [(2031, 1_924_992_000), (2061, 2_871_763_200)] {
            let mut parameters = rcgen::CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}");
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("c.pem");
            std::fs::write(&file, certificate.pem()).unwrap();
            assert_eq!(end_of(&file), Ok(expected));
            // Cut anywhere before its end it is refused or still says the same, and never panics.
            for cut in 0..certificate.der().len() {
                assert_eq!(not_after(&certificate.der()[..cut]), None);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "Z", "991301000000Z", "990101250000Z", "+90101000000Z", "é90101000000Z"] {
            assert_eq!(instant(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(instant(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(next(&mut &[0x30, 0x85, 1, 1, 1, 1, 1][..]), None);
        assert_eq!(next(&mut &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..]), None);
    }
}
