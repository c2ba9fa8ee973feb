//! When certificates expire: just so much of X.509 (RFC 5280 §4.1) as leads to that date.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

/// The end of a certificate's validity, in milliseconds since 1970; `None` for bytes that are no certificate.
pub(super) fn not_after_ms(der: &[u8]) -> Option<i64> {
    let mut certificate = Reader(Reader(der).expect(SEQUENCE)?);
    let mut signed = Reader(certificate.expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.next()?;
    }
    signed.expect(INTEGER)?;
    signed.expect(SEQUENCE)?; // algorithm
    signed.expect(SEQUENCE)?; // issuer
    let mut validity = Reader(signed.expect(SEQUENCE)?);
    validity.next()?;
    let (tag, text) = validity.next()?;
    time_ms(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time_ms(tag: u8, text: &str) -> Option<i64> {
    let digits = text
        .strip_suffix('Z')
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[2 * index..2 * index + 2].parse::<i8>().ok();
    let date = Date::new(year, part(0)?, part(1)?).ok()?;
    let time = jiff::civil::Time::new(part(2)?, part(3)?, part(4)?, 0).ok()?;
    let zoned = DateTime::from_parts(date, time).to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Tags with lengths and what is in them, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first & 0x7F);
        if first & 0x80 != 0 {
            let (bytes, behind) = rest.split_at_checked(length).filter(|(bytes, _)| bytes.len() <= 4)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use oxmq_remoting::certificates_in_file;
    use oxmq_tests::Authority;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_two_or_four_digits_of_the_year() {
        assert_eq!(time_ms(UTC_TIME, "250904153325Z"), Some(1_757_000_005_000));
        assert_eq!(time_ms(GENERALIZED_TIME, "20250904153325Z"), Some(1_757_000_005_000));
        assert!(time_ms(UTC_TIME, "750101000000Z").is_some_and(|time| time < 200_000_000_000));
        assert_eq!(time_ms(UTC_TIME, "251304153325Z"), None);
        assert_eq!(time_ms(UTC_TIME, "25é904153325Z"), None);
    }

    #[test]
    fn the_end_of_a_real_certificate_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = Authority::new("root")
            .issue_expired("localhost")
            .write(dir.path(), "old");
        let der = certificates_in_file(path.as_ref()).unwrap();
        assert_eq!(not_after_ms(&der[0]), Some(1_577_836_800_000));
        for cut in 0..der[0].len() {
            assert_eq!(not_after_ms(&der[0][..cut]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            not_after_ms(&bytes);
        }
    }
}
