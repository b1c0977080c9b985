//! `Retry-After` (RFC 9110, 10.2.3): seconds, or an HTTP date in any of its three forms (5.6.7). Pure: `now` is an argument.

use std::time::{Duration, SystemTime};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const IMF: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// With the year in full.
const RFC_850: &[BorrowedFormatItem<'_>] =
    format_description!("[day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT");
const ASCTIME: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]");

/// How long to wait; `None` for what cannot be read. A date in the past is no wait.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit: as long as can be said.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let at = http_date(value, now)?;
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}

fn http_date(value: &str, now: SystemTime) -> Option<OffsetDateTime> {
    if let Ok(date) = PrimitiveDateTime::parse(value, IMF).or_else(|_| PrimitiveDateTime::parse(value, ASCTIME)) {
        return Some(date.assume_utc());
    }
    // `Sunday, 06-Nov-94 08:49:37 GMT`: a year that seems more than 50 years ahead is of the century before.
    let (_, rest) = value.split_once(", ")?;
    let this_year = OffsetDateTime::from(now).year();
    let (day_month, year_time) = rest.split_at_checked(7)?;
    let (year, clock) = year_time.split_at_checked(2)?;
    let short: i32 = year.parse().ok()?;
    let mut year = this_year - this_year.rem_euclid(100) + short;
    if year > this_year + 50 {
        year -= 100;
    }
    let full = format!("{day_month}{year}{clock}");
    Some(PrimitiveDateTime::parse(&full, RFC_850).ok()?.assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        // 1994-11-06 08:49:07, half a minute before the RFC's example.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_747);
        let cases: [(&str, Option<u64>); 14] = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
            ("Sunday, é6-Nov-94 08:49:37 GMT", None),
            ("Sunday, 99-Nov-94 08:49:37 GMT", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
