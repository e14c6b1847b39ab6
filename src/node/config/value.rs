//! What a setting can be, and how its text is read: the same in a file, in the environment and on the command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::node::human;

/// What a setting can be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number from `min` to `max`.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number from 0 to 1.
    Share,
    /// A time from `min` to `max`: `30s`, `250ms`, `1m`, `90d`. A bare number is in `unit`.
    Time {
        /// What a bare number means.
        unit: Unit,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Bytes from `min` to `max`: `64KiB`, `1MiB`, `2GiB`. A bare number is bytes.
    Bytes {
        /// The fewest.
        min: u64,
        /// The most.
        max: u64,
    },
    /// `true` or `false`; also `yes`, `no`, `on`, `off`, `1`, `0`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text that is not empty.
    Text,
    /// An IP address and a port: `127.0.0.1:8080`, `[::1]:8080`.
    Address,
    /// A file or folder.
    Path,
    /// Either this, or the word `auto`: ringmain decides.
    OrAuto(&'static Kind),
    /// Either this, or the word `none`: there is none.
    OrNone(&'static Kind),
}

/// What a bare number of a time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Days.
    Days,
}

/// What a setting is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number, also of bytes.
    Whole(u64),
    /// A number from 0 to 1.
    Share(f64),
    /// A time.
    Time(Duration),
    /// On or off.
    Switch(bool),
    /// Words and choices.
    Text(String),
    /// Where to listen, or whom to ask.
    Address(SocketAddr),
    /// A file or folder.
    Path(PathBuf),
    /// `auto`.
    Auto,
    /// `none`.
    None,
}

const UNITS: [(&str, Duration); 8] = [
    ("ns", Duration::from_nanos(1)),
    ("us", Duration::from_micros(1)),
    ("µs", Duration::from_micros(1)),
    ("ms", Duration::from_millis(1)),
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3_600)),
    ("d", Duration::from_secs(86_400)),
];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Kind {
    /// Reads `text`.
    ///
    /// # Errors
    /// Says what would be right, as the end of a sentence that begins with the setting and the text.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let wrong = || format!("is not {self}");
        match self {
            Self::OrAuto(_) if text == "auto" => Ok(Value::Auto),
            Self::OrNone(_) if text == "none" => Ok(Value::None),
            Self::OrAuto(kind) | Self::OrNone(kind) => kind.parse(text).map_err(|_| wrong()),
            Self::Whole { min, max } => {
                let number: u64 = text.replace('_', "").parse().map_err(|_| wrong())?;
                (*min..=*max).contains(&number).then_some(Value::Whole(number)).ok_or_else(wrong)
            }
            Self::Share => {
                let share: f64 = text.parse().map_err(|_| wrong())?;
                (0.0..=1.0).contains(&share).then_some(Value::Share(share)).ok_or_else(wrong)
            }
            Self::Time { unit, min, max } => {
                let time = time(text, *unit).ok_or_else(wrong)?;
                (*min..=*max).contains(&time).then_some(Value::Time(time)).ok_or_else(wrong)
            }
            Self::Bytes { min, max } => {
                let (number, unit) = number_and_unit(text);
                let number: u64 = number.replace('_', "").parse().map_err(|_| wrong())?;
                let size = SIZES.iter().find(|(name, _)| unit.is_empty() || name.eq_ignore_ascii_case(unit));
                let size = size.ok_or_else(wrong)?.1;
                let bytes = number.checked_mul(size).ok_or_else(wrong)?;
                (*min..=*max).contains(&bytes).then_some(Value::Whole(bytes)).ok_or_else(wrong)
            }
            Self::Switch => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(Value::Switch(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Switch(false)),
                _ => Err(wrong()),
            },
            Self::Choice(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text)).ok_or_else(wrong)?;
                Ok(Value::Text((*word).to_owned()))
            }
            Self::Text if text.is_empty() => Err(wrong()),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Address => text.parse().map(Value::Address).map_err(|_| wrong()),
            Self::Path if text.is_empty() => Err(wrong()),
            Self::Path => Ok(Value::Path(text.into())),
        }
    }
}

/// What would be right: `a whole number from 1 to 16`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { min, max: u64::MAX } => write!(f, "a whole number of at least {}", human::grouped(*min)),
            Self::Whole { min, max } => {
                write!(f, "a whole number from {} to {}", human::grouped(*min), human::grouped(*max))
            }
            Self::Share => write!(f, "a number from 0 to 1"),
            Self::Time { min, max, .. } => {
                write!(f, "a time from {} to {}, like 250ms, 30s, 5m, 2h or 90d", spell_time(*min), spell_time(*max))
            }
            Self::Bytes { min, max } => {
                write!(f, "a size from {} to {}, like 64KiB or 1MiB", human::bytes(*min), human::bytes(*max))
            }
            Self::Switch => write!(f, "true or false"),
            Self::Choice(words) => match words.split_last() {
                Some((last, others)) if !others.is_empty() => write!(f, "one of {} and {last}", others.join(", ")),
                _ => write!(f, "{}", words.concat()),
            },
            Self::Text => write!(f, "a text"),
            Self::Address => write!(f, "an IP address and a port, like 127.0.0.1:8080"),
            Self::Path => write!(f, "a path"),
            Self::OrAuto(kind) => write!(f, "{kind}, or auto"),
            Self::OrNone(kind) => write!(f, "{kind}, or none"),
        }
    }
}

/// As the setting would be written.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Share(share) => write!(f, "{share}"),
            Self::Time(time) => f.write_str(&spell_time(*time)),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Text(text) => f.write_str(text),
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A number with its unit behind it, perhaps with a space and in full, as in `5 seconds`.
fn time(text: &str, bare: Unit) -> Option<Duration> {
    let (number, unit) = number_and_unit(text);
    let unit = match unit {
        "" => match bare {
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Days => "d",
        },
        "milliseconds" | "millisecond" => "ms",
        "sec" | "secs" | "seconds" | "second" => "s",
        "min" | "mins" | "minutes" | "minute" => "m",
        "hours" | "hour" => "h",
        "days" | "day" => "d",
        unit => unit,
    };
    let length = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let number: u64 = number.replace('_', "").parse().ok()?;
    let ns = u128::from(number).checked_mul(length.as_nanos())?;
    Some(Duration::new(u64::try_from(ns / 1_000_000_000).ok()?, (ns % 1_000_000_000) as u32))
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// In the largest unit that it is a whole number of.
fn spell_time(time: Duration) -> String {
    let ns = time.as_nanos();
    let fits = |length: Duration| ns != 0 && ns.is_multiple_of(length.as_nanos());
    // "µs" is how people write it; the ASCII form is what a terminal always shows.
    let unit = UNITS.iter().rev().find(|(name, length)| *name != "µs" && fits(*length));
    unit.map_or_else(|| "0s".to_owned(), |(name, length)| format!("{}{name}", ns / length.as_nanos()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECONDS: Kind =
        Kind::Time { unit: Unit::Seconds, min: Duration::from_millis(1), max: Duration::from_secs(86_400 * 3_650) };

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        let read = |text| SECONDS.parse(text).unwrap().to_string();
        let texts = ["5", "5 seconds", "30s", "250ms", "90d", "1500ms", "60s", "1_000"];
        assert_eq!(texts.map(read), ["5s", "5s", "30s", "250ms", "90d", "1500ms", "1m", "1000s"]);
        for wrong in ["", "s", "-5s", "5 parsecs", "1.5s", "0", "99999999999999999999d"] {
            assert!(SECONDS.parse(wrong).unwrap_err().contains("like 250ms"), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let told = |kind: Kind, text| kind.parse(text).unwrap_err();
        assert_eq!(told(Kind::Whole { min: 1, max: 16 }, "17"), "is not a whole number from 1 to 16");
        assert_eq!(told(Kind::Choice(&["memory", "redis", "nats"]), "kafka"), "is not one of memory, redis and nats");
        assert_eq!(
            told(Kind::OrAuto(&Kind::Whole { min: 1, max: 16 }), "x"),
            "is not a whole number from 1 to 16, or auto"
        );
        assert_eq!(
            told(Kind::Bytes { min: 1 << 10, max: 1 << 30 }, "3 XB"),
            "is not a size from 1.0 KiB to 1.0 GiB, like 64KiB or 1MiB"
        );
        assert_eq!(told(Kind::Switch, "maybe"), "is not true or false");
        assert_eq!(told(Kind::Share, "1.01"), "is not a number from 0 to 1");
        assert_eq!(told(Kind::Address, "localhost"), "is not an IP address and a port, like 127.0.0.1:8080");
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        let kind = Kind::Bytes { min: 0, max: u64::MAX };
        let read = |text| kind.parse(text).unwrap();
        let texts = ["512", "64KiB", "64 kib", "2MB", "1GiB"];
        assert_eq!(texts.map(read), [512, 65_536, 65_536, 2_000_000, 1 << 30].map(Value::Whole));
        assert!(kind.parse("99999999999TiB").is_err(), "more than 64 bits hold");
    }

    proptest! {
        /// What is shown can be written into a file.
        #[test]
        fn a_time_that_is_shown_is_read_as_the_same(ms in 1_u64..10_000_000_000) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(SECONDS.parse(&spell_time(time)).unwrap(), Value::Time(time));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            for kind in [SECONDS, Kind::Share, Kind::Bytes { min: 0, max: 9 }, Kind::Address, Kind::Switch] {
                let _ = kind.parse(&text);
            }
        }
    }
}
