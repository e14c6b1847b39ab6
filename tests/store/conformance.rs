//! What every store promises, run against stores made by a closure.

use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::store::{
    AppendError, BATCH_EVENTS_MAX, EventStore, ExpectedVersion, Order, Position, Query, ReadError, Snapshot,
    SnapshotError, StoredEvent, StoredEventRef,
};
use ringmain::testing::Simulation;
use ringmain::{Aggregate, Bus, EventId, Frame, Outgoing, Pattern, Payload, Publisher};

pub(crate) mod queries;

/// Makes an empty store.
pub(crate) type Make<'a> = &'a dyn Fn() -> Box<dyn EventStore>;

/// Every promise, one after the other.
///
/// # Panics
/// When one is broken.
pub(crate) fn run(make: Make<'_>) {
    positions_count_from_one_without_gaps_and_keep_the_order(make);
    a_batch_is_appended_as_a_whole_or_not_at_all(make);
    a_version_has_one_winner_however_many_write(make);
    a_conflict_tells_both_versions(make);
    versions_follow_each_other(make);
    anything_goes_where_nothing_is_expected(make);
    an_aggregate_is_loaded_from_a_version(make);
    a_page_ends_where_the_next_begins_whatever_is_appended(make);
    queries::find_what_a_filter_by_hand_finds(make);
    what_is_lent_is_what_a_page_has(make);
    limits_are_refused_with_their_value(make);
    the_latest_snapshot_is_kept(make);
    what_is_kept_comes_back_as_it_was(make);
    readers_see_whole_batches_while_writers_append(make);
}

/// Makes frames.
pub(crate) struct Writer {
    publisher: Publisher,
    _bus: Simulation,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let builder = Bus::builder().workers(1).publishers_max(2).max_queue_size(16).blocks([(4096, 2)]);
        let bus = Simulation::new(builder.payload_bytes_max(4000), 1).unwrap();
        Self { publisher: bus.bus().publisher().unwrap(), _bus: bus }
    }

    /// A frame of a topic, with an envelope.
    pub(crate) fn frame(&mut self, topic: &str, with: impl FnOnce(Outgoing<'_>) -> Outgoing<'_>) -> Frame {
        self.frame_of(topic, Payload::json("{}"), with)
    }

    /// A frame of a topic, with a payload and an envelope.
    pub(crate) fn frame_of(
        &mut self,
        topic: &str,
        payload: Payload<'_>,
        with: impl FnOnce(Outgoing<'_>) -> Outgoing<'_>,
    ) -> Frame {
        with(self.publisher.event()).to_frame(topic, payload).unwrap()
    }

    /// So many frames of a topic.
    pub(crate) fn frames(&mut self, topic: &str, count: usize) -> Vec<Frame> {
        (0..count).map(|_| self.frame(topic, |event| event)).collect()
    }

    /// Frames of an aggregate, with these versions.
    pub(crate) fn of_aggregate(&mut self, kind: &str, id: &str, versions: RangeInclusive<u64>) -> Vec<Frame> {
        versions
            .map(|version| self.frame("order.changed", |event| event.aggregate(Aggregate { kind, id, version })))
            .collect()
    }
}

fn append(store: &dyn EventStore, frames: &[Frame], expected: ExpectedVersion) -> Result<Vec<u64>, AppendError> {
    let appended = store.append(frames, expected, store.durability())?;
    let (first, last) = appended.positions().into_inner();
    Ok((first.get()..=last.get()).collect())
}

fn all(store: &dyn EventStore, query: Query) -> Vec<StoredEvent> {
    query.stream(store).collect::<Result<_, _>>().unwrap()
}

fn ids(events: &[StoredEvent]) -> Vec<EventId> {
    events.iter().map(|event| event.meta().id()).collect()
}

fn positions(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position().get()).collect()
}

fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

fn positions_count_from_one_without_gaps_and_keep_the_order(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    assert_eq!(store.head().unwrap(), None);
    assert!(all(&*store, Query::new()).is_empty());
    let frames = writer.frames("a", 6);
    assert_eq!(append(&*store, &frames[..1], ExpectedVersion::Any).unwrap(), [1]);
    assert_eq!(append(&*store, &frames[1..4], ExpectedVersion::Any).unwrap(), [2, 3, 4]);
    assert_eq!(append(&*store, &frames[4..], ExpectedVersion::Any).unwrap(), [5, 6]);
    assert_eq!(store.head().unwrap(), Position::new(6));
    let kept = all(&*store, Query::new());
    assert_eq!(positions(&kept), [1, 2, 3, 4, 5, 6]);
    assert_eq!(store.query(&Query::new().limit(6)).unwrap().next, None, "there is nothing more to look at");
    assert!(kept.iter().map(StoredEvent::frame).eq(&frames));
    let mut backwards = all(&*store, Query::new().newest_first().limit(4));
    backwards.reverse();
    assert_eq!(ids(&backwards), ids(&kept));
}

fn a_batch_is_appended_as_a_whole_or_not_at_all(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    let mut mixed = writer.of_aggregate("order", "7", 1..=2);
    mixed.extend(writer.of_aggregate("order", "8", 3..=3));
    let refused = append(&*store, &mixed, ExpectedVersion::New).unwrap_err();
    assert!(matches!(refused, AppendError::OtherAggregate { at: 2 }), "{refused:?}");
    assert_eq!(refused.to_string(), "event 2 of the batch is of another aggregate than the first; append them apart");
    mixed[2] = writer.frame("a", |event| event);
    let refused = append(&*store, &mixed, ExpectedVersion::New).unwrap_err();
    assert!(matches!(refused, AppendError::NoAggregate { at: 2 }), "{refused:?}");
    assert_eq!(store.head().unwrap(), None);
    assert!(all(&*store, Query::new().aggregate("order", "7")).is_empty());
    assert_eq!(append(&*store, &mixed[..2], ExpectedVersion::New).unwrap(), [1, 2], "nothing took a position");
}

fn a_version_has_one_winner_however_many_write(make: Make<'_>) {
    const WRITERS: usize = 4;
    const VERSIONS: u64 = 25;
    let store = make();
    let barrier = Barrier::new(WRITERS);
    let wins: Vec<u64> = thread::scope(|scope| {
        let racer = || {
            let mut writer = Writer::new();
            let mut won = 0;
            barrier.wait();
            for version in 1..=VERSIONS {
                let frames = writer.of_aggregate("order", "7", version..=version);
                match append(&*store, &frames, ExpectedVersion::Exact(version - 1)) {
                    Ok(_) => won += 1,
                    Err(AppendError::Conflict { expected, found, .. }) => {
                        assert!(expected == version - 1 && found > expected, "{expected} {found}");
                    }
                    Err(AppendError::AlreadyExists { .. }) => panic!("a version was expected"),
                    Err(error) => panic!("{error}"),
                }
                // Whoever lost goes on from where the winner left the aggregate: at this version or above it.
            }
            won
        };
        let racers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(racer)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(wins.iter().sum::<u64>(), VERSIONS, "{wins:?}");
    let kept = all(&*store, Query::new().aggregate("order", "7"));
    let versions: Vec<_> = kept.iter().map(|event| event.meta().aggregate().unwrap().version).collect();
    assert_eq!(versions, (1..=VERSIONS).collect::<Vec<_>>());
}

fn a_conflict_tells_both_versions(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    append(&*store, &writer.of_aggregate("order", "7", 1..=3), ExpectedVersion::New).unwrap();
    let late = append(&*store, &writer.of_aggregate("order", "7", 3..=3), ExpectedVersion::Exact(2)).unwrap_err();
    assert!(late.is_conflict());
    assert_eq!(
        late.to_string(),
        "order \"7\" was expected at version 2 and is at 3: another writer was faster; load it and decide again"
    );
    let early = append(&*store, &writer.of_aggregate("order", "7", 6..=6), ExpectedVersion::Exact(5)).unwrap_err();
    assert!(matches!(early, AppendError::Conflict { expected: 5, found: 3, .. }), "{early:?}");
    let again = append(&*store, &writer.of_aggregate("order", "7", 1..=1), ExpectedVersion::New).unwrap_err();
    assert!(again.is_conflict());
    assert_eq!(again.to_string(), "order \"7\" was to be new and is at version 3; load it, or take another id");
    append(&*store, &writer.of_aggregate("order", "7", 4..=4), ExpectedVersion::Exact(3)).unwrap();
    append(&*store, &writer.of_aggregate("invoice", "7", 1..=1), ExpectedVersion::Exact(0)).unwrap();
}

fn versions_follow_each_other(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    let mut frames = writer.of_aggregate("order", "7", 1..=3);
    frames.remove(1);
    let gap = append(&*store, &frames, ExpectedVersion::New).unwrap_err();
    assert!(matches!(gap, AppendError::Gap { at: 1, found: 3, needed: 2 }), "{gap:?}");
    assert_eq!(gap.to_string(), "event 1 of the batch has version 3, but 2 would follow");
    let gap = append(&*store, &frames[..1], ExpectedVersion::Exact(u64::MAX)).unwrap_err();
    assert!(matches!(gap, AppendError::Gap { at: 0, .. }), "{gap:?}");
    assert_eq!(store.head().unwrap(), None);
    let last = writer.of_aggregate("order", "7", u64::MAX..=u64::MAX);
    append(&*store, &last, ExpectedVersion::Any).unwrap();
    let gap = append(&*store, &last, ExpectedVersion::Exact(u64::MAX)).unwrap_err();
    assert!(matches!(gap, AppendError::Gap { at: 0, .. }), "nothing follows on the last version: {gap:?}");
}

fn anything_goes_where_nothing_is_expected(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    let mut frames = writer.of_aggregate("order", "7", 9..=9);
    frames.extend(writer.of_aggregate("order", "8", 2..=2));
    frames.extend(writer.frames("a", 1));
    frames.extend(writer.of_aggregate("order", "7", 4..=4));
    let appended = store.append(&frames, ExpectedVersion::Any, store.durability()).unwrap();
    assert_eq!(appended.version(), None);
    // The greatest version counts.
    append(&*store, &writer.of_aggregate("order", "7", 10..=10), ExpectedVersion::Exact(9)).unwrap();
    assert_eq!(all(&*store, Query::new().aggregate("order", "7")).len(), 3);
}

fn an_aggregate_is_loaded_from_a_version(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    append(&*store, &writer.of_aggregate("order", "7", 1..=5), ExpectedVersion::New).unwrap();
    append(&*store, &writer.of_aggregate("order", "8", 1..=2), ExpectedVersion::New).unwrap();
    append(&*store, &writer.of_aggregate("order", "7", 6..=6), ExpectedVersion::Exact(5)).unwrap();
    let page = store.load("order", "7", 3).unwrap();
    assert_eq!(positions(&page.events), [4, 5, 8]);
    assert_eq!(page.next, None);
    assert!(store.load("order", "7", 6).unwrap().events.is_empty());
    assert!(store.load("order", "9", 0).unwrap().events.is_empty());
    assert!(store.load("invoice", "7", 0).unwrap().events.is_empty());
}

fn a_page_ends_where_the_next_begins_whatever_is_appended(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    append(&*store, &writer.frames("a", 7), ExpectedVersion::Any).unwrap();
    for newest_first in [false, true] {
        let head = store.head().unwrap().unwrap().get();
        let mut query = Query::new().limit(3);
        if newest_first {
            query = query.newest_first();
        }
        let mut seen = Vec::new();
        loop {
            let page = store.query(&query).unwrap();
            assert!(page.events.len() <= 3);
            seen.extend(positions(&page.events));
            let Some(next) = page.next else { break };
            if seen.len() < 6 {
                append(&*store, &writer.frames("a", 1), ExpectedVersion::Any).unwrap();
            }
            query = query.behind(next);
        }
        let now = store.head().unwrap().unwrap().get();
        assert!(now > head);
        let expected: Vec<u64> = if newest_first { (1..=head).rev().collect() } else { (1..=now).collect() };
        assert_eq!(seen, expected, "each once, in order");
    }
    let bounded = Query::new().from_position(position(2)).to_position(position(4));
    assert_eq!(positions(&all(&*store, bounded.clone().limit(1))), [2, 3, 4]);
    assert_eq!(positions(&all(&*store, bounded.clone().newest_first())), [4, 3, 2]);
    assert_eq!(positions(&all(&*store, bounded.clone().behind(position(3)))), [4]);
    assert_eq!(positions(&all(&*store, bounded.behind(position(1)))), [2, 3, 4]);
    assert!(all(&*store, Query::new().newest_first().behind(Position::FIRST)).is_empty());
    assert!(all(&*store, Query::new().behind(position(u64::MAX))).is_empty());
    assert!(all(&*store, Query::new().from_position(position(3)).to_position(position(2))).is_empty());
}

fn limits_are_refused_with_their_value(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    for asked in [0, 10_001] {
        let refused = store.query(&Query::new().limit(asked)).unwrap_err();
        assert!(matches!(refused, ReadError::Limit { max: 10_000, .. }), "{refused:?}");
        assert_eq!(
            refused.to_string(),
            format!("a page of {asked} events was asked for, it has 1 to 10000; read more with Query::stream")
        );
    }
    assert_eq!(Query::new().order(), Order::OldestFirst);
    let frames = writer.frames("a", BATCH_EVENTS_MAX + 1);
    let refused = append(&*store, &frames, ExpectedVersion::Any).unwrap_err();
    assert!(matches!(refused, AppendError::TooMany { events: 1_025, max: 1_024 }), "{refused:?}");
    assert_eq!(refused.to_string(), "1025 events were given to append, the limit is 1024; split them");
    append(&*store, &frames[..BATCH_EVENTS_MAX], ExpectedVersion::Any).unwrap();
    let page = store.query(&Query::new()).unwrap();
    assert!(page.events.len() <= 1_000, "the limit unless one is set");
    assert_eq!(page.next, page.events.last().map(StoredEvent::position));
    let refused = append(&*store, &[], ExpectedVersion::Any).unwrap_err();
    assert!(matches!(refused, AppendError::Empty), "{refused:?}");
    let state = vec![0; Snapshot::STATE_BYTES_MAX + 1];
    let refused = store.save_snapshot(&Snapshot::new("order", "7", 0, Payload::raw(&state))).unwrap_err();
    assert!(matches!(refused, SnapshotError::TooLarge { max: Snapshot::STATE_BYTES_MAX, .. }), "{refused:?}");
}

fn what_is_lent_is_what_a_page_has(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    let frames: Vec<_> = (0..60).map(|nth| writer.frame(["a", "b", "a"][nth % 3], |event| event)).collect();
    append(&*store, &frames, ExpectedVersion::Any).unwrap();
    let a = || Query::new().pattern(Pattern::new("a").unwrap());
    for query in [Query::new(), a(), Query::new().newest_first(), a().newest_first().from_position(position(7))] {
        let asked = all(&*store, query.clone());
        let told = |event: &StoredEvent| (event.position(), event.recorded_at(), event.frame().clone());
        let asked: Vec<_> = asked.iter().map(told).collect();
        for limit in [1, 7, 1_000] {
            let mut lent = Vec::new();
            let look = |event: StoredEventRef<'_>| {
                assert_eq!(event.meta().id(), event.to_event().meta().id());
                assert_eq!(event.payload().bytes(), event.frame().payload().bytes());
                lent.push(told(&event.to_event()));
                ControlFlow::Continue(())
            };
            query.clone().limit(limit).visit(&*store, look).unwrap();
            assert_eq!(lent, asked);
        }
        // Who has seen enough goes on where it ended.
        let (mut lent, mut next) = (Vec::new(), Some(query.clone()));
        while let Some(query) = next {
            let mut left = 3;
            let behind = store.visit(&query, &mut |event| {
                lent.push(told(&event.to_event()));
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            next = behind.unwrap().map(|behind| query.behind(behind));
        }
        assert_eq!(lent, asked);
    }
    // Who looks may call the store.
    let (mut seen, mut nested) = (0, 0);
    let appended = Query::new().limit(5).visit(&*store, |event| {
        seen += 1;
        append(&*store, &[event.to_event().frame().clone()], ExpectedVersion::Any).unwrap();
        let count = |_: StoredEventRef<'_>| {
            nested += 1;
            ControlFlow::Continue(())
        };
        Query::new().to_position(event.position()).visit(&*store, count).unwrap();
        if seen == 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    appended.unwrap();
    assert_eq!((seen, nested, store.head().unwrap()), (8, (1..=8).sum(), Position::new(68)));
    let refused = Query::new().limit(0).visit(&*store, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(refused, ReadError::Limit { .. }), "{refused:?}");
}

fn the_latest_snapshot_is_kept(make: Make<'_>) {
    let store = make();
    let mut writer = Writer::new();
    append(&*store, &writer.of_aggregate("order", "7", 1..=20), ExpectedVersion::New).unwrap();
    assert!(store.load_snapshot("order", "7").unwrap().is_none(), "a missing snapshot is no error");
    let taken_at = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let of = |version| {
        let state = Payload::json(r#"{"cents": 1999}"#);
        Snapshot::new("order", "7", version, state).with_schema_version(3).with_taken_at(taken_at)
    };
    store.save_snapshot(&of(10)).unwrap();
    let kept = store.load_snapshot("order", "7").unwrap().unwrap();
    assert_eq!((kept.kind(), kept.id(), kept.version(), kept.schema_version()), ("order", "7", 10, 3));
    assert_eq!((kept.taken_at(), kept.state().text()), (taken_at, Some(r#"{"cents": 1999}"#)));
    store.save_snapshot(&of(20)).unwrap();
    store.save_snapshot(&of(10)).unwrap();
    assert_eq!(store.load_snapshot("order", "7").unwrap().unwrap().version(), 20, "an older one changes nothing");
    let refused = store.save_snapshot(&of(21)).unwrap_err();
    assert!(matches!(refused, SnapshotError::Ahead { version: 21, found: 20, .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "the snapshot shows order \"7\" at version 21, which is at version 20; append its events first"
    );
    assert!(store.load_snapshot("order", "8").unwrap().is_none());
    assert!(store.load_snapshot("invoice", "7").unwrap().is_none());
}

fn what_is_kept_comes_back_as_it_was(make: Make<'_>) {
    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct OrderPlaced {
        items: Vec<String>,
    }
    const ORDER_PLACED: ringmain::Topic<OrderPlaced> = ringmain::Topic::new("orders.placed");
    let store = make();
    let mut writer = Writer::new();
    let order = OrderPlaced { items: vec!["tea".into(), "x".repeat(3_000)] };
    let event = writer.publisher.event().metadata("user", "ada").target("datastore").trace_parent("00-1-2-01");
    let frame = event.to_frame(ORDER_PLACED, &order).unwrap();
    let before = SystemTime::now();
    append(&*store, std::slice::from_ref(&frame), ExpectedVersion::Any).unwrap();
    let kept = all(&*store, Query::new()).remove(0);
    assert_eq!(*kept.frame(), frame);
    // Stores may keep microseconds.
    assert!(kept.recorded_at() + Duration::from_micros(1) > before && kept.recorded_at() <= SystemTime::now());
    let archived = kept.event::<OrderPlaced>().unwrap();
    assert_eq!((archived.items[0].as_str(), archived.items[1].len()), ("tea", 3_000));
    assert_eq!(kept.meta().get("user"), Some("ada"));
}

fn readers_see_whole_batches_while_writers_append(make: Make<'_>) {
    const BATCHES: usize = 50;
    const EVENTS: usize = 7;
    let store = make();
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        for topic in ["a", "b"] {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                let frames = Writer::new().frames(topic, EVENTS);
                barrier.wait();
                for _ in 0..BATCHES {
                    append(&**store, &frames, ExpectedVersion::Any).unwrap();
                }
            });
        }
        barrier.wait();
        let mut seen = 0;
        while seen < 2 * BATCHES * EVENTS {
            let page = store.query(&Query::new().limit(Query::EVENTS_MAX)).unwrap();
            seen = page.events.len();
            assert_eq!(seen % EVENTS, 0, "a batch appears as a whole");
            assert_eq!(positions(&page.events), (1..=seen as u64).collect::<Vec<_>>());
            for batch in page.events.chunks(EVENTS) {
                let topics: HashSet<_> = batch.iter().map(|event| event.meta().topic().to_owned()).collect();
                assert_eq!(topics.len(), 1, "nothing comes between the events of a batch");
            }
        }
    });
}
