//! What is written behind a flag: ages, positions, moments, rates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::time;
use crate::store::{Position, Query};

/// Where in a store: at a position, or at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The event at this position.
    Position(Position),
    /// The first event created then or later.
    Moment(SystemTime),
}

impl Place {
    /// The query from here on.
    pub fn begin(self, query: Query) -> Query {
        match self {
            Self::Position(position) => query.from_position(position),
            Self::Moment(moment) => query.created_from(moment),
        }
    }

    /// The query up to here: with the event at a position, without those at a time.
    pub fn end(self, query: Query) -> Query {
        match self {
            Self::Position(position) => query.to_position(position),
            Self::Moment(moment) => query.created_before(moment),
        }
    }
}

pub(in super::super) fn place(text: &str) -> Result<Place, &'static str> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => position(text).map(Place::Position),
        false => moment(text).map(Place::Moment),
    }
}

pub(in super::super) fn rate(text: &str) -> Result<f64, &'static str> {
    let found = text.parse().ok().filter(|rate: &f64| (1e-3..=1e9).contains(rate));
    found.ok_or("a rate is a number of events a second, from 0.001 to 1000000000")
}

pub(super) fn aggregate(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('/') {
        Some((kind, id)) if !kind.is_empty() && !id.is_empty() => Ok((kind.to_owned(), id.to_owned())),
        _ => Err("an aggregate is its kind and its id, as in order/7"),
    }
}

pub(super) fn age(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "an age is a number and its unit: 90d, 12h, 30m or 45s";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(SHAPE)?;
    let seconds = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        _ => return Err(SHAPE),
    };
    let number: u64 = number.parse().map_err(|_| SHAPE)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or("so long ago there was nothing")
}

pub(super) fn position(text: &str) -> Result<Position, &'static str> {
    text.parse().ok().and_then(Position::new).ok_or("a position is a number from 1")
}

pub(super) fn moment(text: &str) -> Result<SystemTime, &'static str> {
    let unix_ns = time::parse(text)?;
    let since = Duration::from_nanos(unix_ns.unsigned_abs());
    let moment = if unix_ns < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    moment.ok_or("this time cannot be told here")
}
