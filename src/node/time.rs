//! The attribute `time`: RFC 3339 text on the wire, nanoseconds since 1970-01-01T00:00:00Z inside.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Always nine digits, so that lines sort and align.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));

/// Reads an RFC 3339 date and time with an offset; fractions of a second to nine digits.
///
/// # Errors
/// Says what is wrong: the shape, a field out of its range, or a time that 64-bit nanoseconds cannot
/// hold (before 1677-09-21 or after 2262-04-11).
pub fn parse(text: &str) -> Result<i64, &'static str> {
    const FAR: &str = "64-bit nanoseconds reach from 1677-09-21 to 2262-04-11";
    // The parser of jiff reads more than RFC 3339 allows, so the shape is checked first.
    if !has_rfc3339_shape(text.as_bytes()) {
        return Err("it is not RFC 3339; write it as 2026-01-31T12:00:00.5Z");
    }
    // Years at the ends of jiff's range would be an error of its own.
    if !("1677".."2263").contains(&&text[..4]) {
        return Err(FAR);
    }
    let timestamp: Timestamp = text.parse().map_err(|_| "there is no such date, time or offset")?;
    i64::try_from(timestamp.as_nanosecond()).map_err(|_| FAR)
}

/// Appends `unix_ns` as RFC 3339 in UTC with nanoseconds: `2026-01-31T12:00:00.500000000Z`.
pub fn write(unix_ns: i64, out: &mut Vec<u8>) {
    let timestamp = Timestamp::from_nanosecond(i128::from(unix_ns)).expect("jiff's range contains 64-bit nanoseconds");
    PRINTER.print_timestamp(&timestamp, out).expect("a Vec<u8> takes every write");
}

/// `dddd-dd-ddTdd:dd:dd`, then perhaps a fraction, then `Z` or `+dd:dd`.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    let like = |text: &[u8], model: &[u8]| {
        text.len() == model.len()
            && text.iter().zip(model).all(|(&byte, &wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                b'T' => byte == b'T' || byte == b't',
                b'+' => byte == b'+' || byte == b'-',
                exact => byte == exact,
            })
    };
    let Some((date_time, mut rest)) = text.split_at_checked(19) else {
        return false;
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return false;
        }
        rest = &fraction[digits..];
    }
    like(date_time, b"dddd-dd-ddTdd:dd:dd") && (matches!(rest, b"Z" | b"z") || like(rest, b"+dd:dd"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(unix_ns: i64) -> String {
        let mut out = Vec::new();
        write(unix_ns, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn rfc_3339_in_all_its_shapes() {
        for (text, unix_ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1970-01-01T00:00:00.5Z", 500_000_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:30:00-00:30", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2018-04-05T17:31:00Z", 1_522_949_460_000_000_000),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(unix_ns), "{text}");
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for text in [
            "",
            "2026",
            "2026-01-31",
            "2026-01-31T12:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00,5Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00.1234567890Z",
            "2026-01-31T12:00:00+01",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+01:00[Europe/Paris]",
            "20260131T120000Z",
            "+002026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Zé",
        ] {
            assert_eq!(parse(text), Err("it is not RFC 3339; write it as 2026-01-31T12:00:00.5Z"), "{text}");
        }
        for text in [
            "2026-13-31T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-01-31T12:00:00+99:00",
        ] {
            assert_eq!(parse(text), Err("there is no such date, time or offset"), "{text}");
        }
        for text in [
            "9999-12-31T23:59:59Z",
            "2263-01-01T00:00:00Z",
            "2262-04-11T23:47:16.854775808Z",
            "1677-09-21T00:12:43.145224191Z",
            "1676-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), Err("64-bit nanoseconds reach from 1677-09-21 to 2262-04-11"), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_nine_digits() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(written(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(written(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    proptest! {
        #[test]
        fn a_written_time_reads_back(unix_ns: i64) {
            prop_assert_eq!(parse(&written(unix_ns)), Ok(unix_ns));
        }

        #[test]
        fn an_offset_moves_the_time_by_itself(second in -4_000_000_000i64..4_000_000_000, minutes in -1439i64..=1439) {
            let local = written((second + minutes * 60) * 1_000_000_000);
            let sign = if minutes < 0 { '-' } else { '+' };
            let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
            prop_assert_eq!(parse(&local.replace('Z', &offset)), Ok(second * 1_000_000_000));
        }
    }
}
