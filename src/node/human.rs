//! Numbers as people read them: grouped digits, and durations in the unit that fits.

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with one decimal in the unit that fits: `900 B`, `1.5 KiB`, `20.0 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    // Where rounding would make 1,024.0 of it.
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Nanoseconds with at most three significant digits: `850 ns`, `1.20 µs`, `12.3 ms`, `4.00 s`.
/// From 1,000 s on the seconds are whole and grouped.
pub fn nanoseconds(ns: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    for (scale, unit) in UNITS {
        let value = ns as f64 / scale;
        // The bounds are where rounding would add a digit: 9.995 is `10.0`, not `9.99` or `10.00`.
        let text = match value {
            v if v < 9.995 => format!("{v:.2} {unit}"),
            v if v < 99.95 => format!("{v:.1} {unit}"),
            v if v < 999.5 => format!("{v:.0} {unit}"),
            _ => continue,
        };
        return text;
    }
    format!("{} s", grouped((ns as f64 / 1e9).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_in_the_unit_that_fits() {
        let texts = [0, 1_023, 1_024, 1_536, 1_048_575, 1 << 20, 5 << 40].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "5.0 TiB"]);
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (1_048_576, "1,048,576"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_take_the_unit_that_fits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_995, "10.0 µs"),
            (99_949, "99.9 µs"),
            (99_950, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (4_000_000_000, "4.00 s"),
            (999_499_999_999, "999 s"),
            (1_234_567_000_000, "1,235 s"),
            (u64::MAX, "18,446,744,074 s"),
        ] {
            assert_eq!(nanoseconds(ns), text, "{ns}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_never_off_by_more_than_its_last_digit(ns in 0..=999_499_999_999u64) {
            let text = nanoseconds(ns);
            let (number, unit) = text.split_once(' ').expect("a number and a unit");
            let scale = match unit { "ns" => 1.0, "µs" => 1e3, "ms" => 1e6, _ => 1e9 };
            let number: f64 = number.parse().expect("a number");
            prop_assert!((number * scale - ns as f64).abs() <= 0.0051 * ns as f64);
        }
    }
}
