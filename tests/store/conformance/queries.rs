//! Queries by each criterion, against a filter by hand.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ringmain::store::{ExpectedVersion, Query};
use ringmain::{Aggregate, EventId, Frame, Pattern};

use super::{Make, Writer, all, append, position, positions};

/// An event as it is described to the filter by hand.
#[derive(Debug, Clone)]
struct Described {
    topic: &'static str,
    source: &'static str,
    correlation: Option<u8>,
    aggregate: Option<(&'static str, &'static str, u64)>,
    second: u64,
}

#[derive(Debug, Clone)]
struct Asked {
    pattern: Option<&'static str>,
    source: Option<&'static str>,
    correlation: Option<u8>,
    aggregate: Option<(&'static str, &'static str)>,
    after_version: u64,
    from_second: Option<u64>,
    before_second: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
    newest_first: bool,
    limit: usize,
}

fn any_described() -> impl Strategy<Value = Described> {
    let aggregate = (prop::sample::select(vec!["order", "cart"]), prop::sample::select(vec!["7", "8"]), 0_u64..6);
    (
        prop::sample::select(vec!["orders.placed", "orders.paid", "carts.filled", "orders.items.added"]),
        prop::sample::select(vec!["service:shop", "service:bank"]),
        prop::option::of(0_u8..3),
        prop::option::of(aggregate),
        0_u64..20,
    )
        .prop_map(|(topic, source, correlation, aggregate, second)| Described {
            topic,
            source,
            correlation,
            aggregate,
            second,
        })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let patterns = vec!["orders.placed", "orders.*", "orders.**", "**", "*.filled", "nothing.here"];
    let criteria = (
        prop::option::of(prop::sample::select(patterns)),
        prop::option::of(prop::sample::select(vec!["service:shop", "service:bank", "nobody"])),
        prop::option::of(0_u8..4),
        prop::option::of((prop::sample::select(vec!["order", "cart"]), prop::sample::select(vec!["7", "8", "9"]))),
    );
    let second = || prop::option::of(0_u64..20);
    let place = || prop::option::of(1_u64..45);
    (criteria, 0_u64..5, (second(), second()), (place(), place()), any::<bool>(), 1_usize..10).prop_map(
        |((pattern, source, correlation, aggregate), after_version, seconds, places, newest_first, limit)| Asked {
            pattern,
            source,
            correlation,
            aggregate,
            after_version,
            from_second: seconds.0,
            before_second: seconds.1,
            from: places.0,
            to: places.1,
            newest_first,
            limit,
        },
    )
}

/// Some second of the year 2026.
fn at(second: u64) -> Duration {
    Duration::from_secs(1_767_225_600 + second)
}

impl Described {
    fn frame(&self, writer: &mut Writer) -> Frame {
        writer.frame(self.topic, |event| {
            let mut event = event.source(self.source).created_at_unix_ns(at(self.second).as_nanos() as u64);
            if let Some(correlation) = self.correlation {
                event = event.correlation(EventId::from_bytes([correlation; 16]));
            }
            match self.aggregate {
                Some((kind, id, version)) => event.aggregate(Aggregate { kind, id, version }),
                None => event,
            }
        })
    }
}

impl Asked {
    fn query(&self) -> Query {
        let time = |second| UNIX_EPOCH + at(second);
        let mut query = Query::new().after_version(self.after_version).limit(self.limit);
        query = self.pattern.iter().fold(query, |query, text| query.pattern(Pattern::new(text).unwrap()));
        query = self.source.iter().fold(query, |query, source| query.source(*source));
        query = self.correlation.iter().fold(query, |query, id| query.correlation(EventId::from_bytes([*id; 16])));
        query = self.aggregate.iter().fold(query, |query, (kind, id)| query.aggregate(*kind, *id));
        query = self.from_second.iter().fold(query, |query, second| query.created_from(time(*second)));
        query = self.before_second.iter().fold(query, |query, second| query.created_before(time(*second)));
        query = self.from.iter().fold(query, |query, number| query.from_position(position(*number)));
        query = self.to.iter().fold(query, |query, number| query.to_position(position(*number)));
        if self.newest_first { query.newest_first() } else { query }
    }

    /// The filter by hand.
    fn means(&self, number: u64, event: &Described) -> bool {
        let pattern = match self.pattern {
            None | Some("**") => true,
            Some("orders.*") => event.topic == "orders.placed" || event.topic == "orders.paid",
            Some("orders.**") => event.topic.starts_with("orders."),
            Some("*.filled") => event.topic == "carts.filled",
            Some(name) => event.topic == name,
        };
        let version = event.aggregate.map_or(0, |(_, _, version)| version);
        let aggregate = event.aggregate.map(|(kind, id, _)| (kind, id));
        pattern
            && (self.source.is_none() || self.source == Some(event.source))
            && (self.correlation.is_none() || self.correlation == event.correlation)
            && (self.aggregate.is_none() || self.aggregate == aggregate)
            && (self.after_version == 0 || version > self.after_version)
            && self.from_second.is_none_or(|second| event.second >= second)
            && self.before_second.is_none_or(|second| event.second < second)
            && self.from.is_none_or(|from| number >= from)
            && self.to.is_none_or(|to| number <= to)
    }
}

pub(crate) fn find_what_a_filter_by_hand_finds(make: Make<'_>) {
    let cases = (prop::collection::vec(any_described(), 1..40), prop::collection::vec(any_asked(), 1..20));
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let mut writer = Writer::new();
    let writer = RefCell::new(&mut writer);
    runner
        .run(&cases, |(described, asked)| {
            let store = make();
            let frames: Vec<_> = described.iter().map(|event| event.frame(&mut writer.borrow_mut())).collect();
            for frames in frames.chunks(7) {
                append(&*store, frames, ExpectedVersion::Any).unwrap();
            }
            for asked in asked {
                let numbered = (1_u64..).zip(&described);
                let mut expected: Vec<u64> =
                    numbered.filter(|(number, event)| asked.means(*number, event)).map(|(number, _)| number).collect();
                if asked.newest_first {
                    expected.reverse();
                }
                let found = positions(&all(&*store, asked.query()));
                prop_assert_eq!(found, expected, "{:?} of {:?}", asked, described);
            }
            Ok(())
        })
        .unwrap();
}
