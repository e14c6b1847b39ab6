//! Dead letters against a naive model of them, and under threads that get in each other's way.

mod model;

use std::sync::{Arc, Barrier as StartLine, Mutex};
use std::thread;
use std::time::Duration;

use super::intake::DUE;
use super::{DeadLetter, DeadLetterFilter, DeadLetterLimits, DeadLetterSink, DeadLetterStore, DeadReason, Death};
use crate::clock::Clock;
use crate::delivery::{Notice, Observer, SubscriptionId};
use crate::event::{Directory, Encoding, EventId, FrameError, Header, KnownAs, Meta};
use crate::metrics::SharedCounter;
use crate::routing::Pattern;
use crate::sync::barrier::Barrier;

const NAME: &str = "billing";
const LIMITS: DeadLetterLimits = DeadLetterLimits { events: 4, bytes: 1 << 20, expiry: None, waiting: 1_024 };

/// A store, and what it takes to bring letters to it.
struct Desk {
    store: Arc<DeadLetterStore>,
    directory: Arc<Directory>,
    clock: Clock,
}

impl Desk {
    fn new(limits: DeadLetterLimits) -> Self {
        Self::with(limits, Vec::new(), None)
    }

    fn with(
        limits: DeadLetterLimits,
        observers: Vec<Arc<dyn Observer>>,
        sink: Option<Arc<dyn DeadLetterSink>>,
    ) -> Self {
        let clock = Clock::manual();
        let directory = Arc::new(Directory::new(64, 64, clock.clone()));
        let store = DeadLetterStore::new(limits, Arc::clone(&directory), observers, sink, Barrier::detect());
        Self { store: Arc::new(store), directory, clock }
    }

    fn put(&self, topic: &str, payload: &[u8], reason: DeadReason) -> u64 {
        self.put_saying(topic, payload, reason, None)
    }

    fn put_saying(&self, topic: &str, payload: &[u8], reason: DeadReason, error: Option<&str>) -> u64 {
        let header = self.header(topic, payload);
        let meta = Meta::new(&header, payload, 9, &self.directory).expect("a whole frame");
        self.store.put(&Death {
            meta,
            subscription: SubscriptionId(EventId::from_bytes([7; 16])),
            name: NAME,
            known_as: KnownAs::UNKNOWN,
            reason,
            attempts: 3,
            error,
            first_attempt: 0,
        })
    }

    fn header(&self, topic: &str, payload: &[u8]) -> Header {
        Header {
            id: [3; 16],
            time: self.clock.now(),
            type_id: self.directory.intern_type(topic),
            source_id: self.directory.intern_source("service:till"),
            check: 77,
            ..Header::BLANK
        }
        .with_payload(0, payload.len(), Encoding::Json, 0)
    }

    /// What a letter takes that `put` brings with a byte.
    fn bytes_of_one(&self) -> usize {
        let id = self.put("a", b"1", DeadReason::TimedOut);
        self.store.get(id).expect("it was brought just now").bytes()
    }

    fn ids(&self, filter: &DeadLetterFilter) -> Vec<u64> {
        self.store.list(filter).iter().map(|letter| letter.id()).collect()
    }

    fn all(&self) -> Vec<u64> {
        self.ids(&DeadLetterFilter::new())
    }
}

#[test]
fn a_letter_tells_all_that_was_known_of_the_event() {
    let desk = Desk::new(LIMITS);
    let published = desk.clock.system_time(desk.clock.now());
    let payload = br#"{"id": 7}"#;
    let id = desk.put_saying("orders.placed", payload, DeadReason::Rejected, Some("no such customer"));
    let letter = desk.store.get(id).unwrap();
    desk.clock.advance(Duration::from_secs(5));
    assert_eq!((id, letter.id(), letter.attempts(), letter.reason()), (1, 1, 3, DeadReason::Rejected));
    assert_eq!((letter.error(), letter.error_bytes()), (Some("no such customer"), 16));
    assert_eq!((letter.published(), letter.died(), letter.first_attempt()), (published, published, None));
    assert_eq!((letter.subscription_name(), letter.subscription().to_string().len()), (NAME, 36));
    let meta = letter.meta();
    assert_eq!(
        (meta.topic(), meta.source(), meta.id()),
        ("orders.placed", "service:till", EventId::from_bytes([3; 16]))
    );
    assert_eq!((meta.payload().text(), meta.sequence()), (Some(r#"{"id": 7}"#), 9));
    assert_eq!(meta.header().check, 0, "the block belongs to somebody else by now");
    assert!(meta.payload().bytes().as_ptr().addr().is_multiple_of(16));
}

#[test]
fn a_long_error_is_cut_between_characters_and_its_length_said() {
    let desk = Desk::new(LIMITS);
    // 1,024 is inside an `ä`.
    let long = format!("x{}", "ä".repeat(5_000));
    let id = desk.put_saying("a", b"1", DeadReason::AttemptsExhausted, Some(&long));
    let letter = desk.store.get(id).unwrap();
    assert_eq!(letter.error(), Some(&long[..1_023]));
    assert_eq!(letter.error_bytes(), 10_001);
}

#[test]
fn a_frame_that_is_cut_short_never_becomes_a_letter() {
    let desk = Desk::new(LIMITS);
    let header = desk.header("a", b"12345678");
    assert!(matches!(Meta::new(&header, b"1234", 0, &desk.directory), Err(FrameError::Short { .. })));
}

#[test]
fn the_oldest_goes_when_there_is_no_room_and_one_notice_says_so_a_row() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let observer: Arc<dyn Observer> = {
        let said = Arc::clone(&said);
        Arc::new(move |notice: &Notice<'_>| {
            if let Notice::DeadLettersOverflow { held, discarded } = notice {
                said.lock().unwrap().push((*held, *discarded));
            }
        })
    };
    let desk = Desk::with(LIMITS, vec![observer], None);
    for nth in 0..4 {
        desk.put("a", &[nth], DeadReason::TimedOut);
    }
    assert_eq!(desk.all(), [1, 2, 3, 4]);
    for nth in 4..7 {
        desk.put("a", &[nth], DeadReason::TimedOut);
        desk.all();
    }
    assert_eq!(desk.all(), [4, 5, 6, 7]);
    assert_eq!(*said.lock().unwrap(), [(4, 1)]);
    assert_eq!(desk.store.purge(&DeadLetterFilter::new().limit(1)), 1);
    desk.put("a", b"", DeadReason::TimedOut);
    desk.put("a", b"", DeadReason::TimedOut);
    assert_eq!(desk.all(), [6, 7, 8, 9]);
    assert_eq!(*said.lock().unwrap(), [(4, 1), (4, 4)], "a purge ends the row");
}

#[test]
fn one_larger_than_the_room_for_all_drives_nobody_out() {
    let desk = Desk::new(DeadLetterLimits { bytes: 4_000, ..LIMITS });
    let small = desk.put("a", b"1", DeadReason::TimedOut);
    desk.put("a", &[0; 4_000], DeadReason::TimedOut);
    assert_eq!(desk.all(), [small]);
    // And one that would fit, but not beside a letter that keeps its room.
    let taken = desk.store.take(small).unwrap();
    let beside = desk.put("a", b"2", DeadReason::TimedOut);
    desk.put("a", &vec![0; 4_002 - 2 * taken.letter().bytes()], DeadReason::TimedOut);
    let counts = desk.store.counts();
    assert!(counts.is_balanced() && counts.discarded == 2, "{counts:?}");
    drop(taken);
    assert_eq!(desk.all(), [small, beside]);
}

#[test]
fn none_are_kept_where_none_may_be_and_all_are_counted() {
    let desk = Desk::new(DeadLetterLimits { events: 0, ..LIMITS });
    assert_eq!([desk.put("a", b"1", DeadReason::Closed), desk.put("a", b"2", DeadReason::Closed)], [1, 2]);
    let counts = desk.store.counts();
    assert_eq!((counts.total, counts.discarded, counts.held, counts.bytes), (2, 2, 0, 0));
    assert_eq!(desk.all(), [0; 0]);
}

#[test]
fn a_letter_in_hand_is_found_by_nobody_else_and_keeps_its_place() {
    let desk = Desk::new(LIMITS);
    for _ in 0..4 {
        desk.put("a", b"1", DeadReason::TimedOut);
    }
    let first = desk.store.take(1).unwrap();
    assert!(desk.store.take(1).is_none() && desk.store.get(1).is_none());
    assert_eq!((desk.all(), desk.store.counts().held), (vec![2, 3, 4], 4));
    desk.put("a", b"1", DeadReason::TimedOut);
    assert_eq!(desk.all(), [3, 4, 5], "what is in hand does not make way");
    drop(first);
    assert_eq!(desk.all(), [1, 3, 4, 5]);
    desk.store.take(3).unwrap().sent();
    let counts = desk.store.counts();
    assert_eq!((counts.redriven, counts.held, counts.discarded), (1, 3, 1));
    assert!(counts.is_balanced());
}

#[test]
fn an_intake_in_which_many_wait_is_sorted_in_a_little_by_each_who_puts() {
    let (desk, due) = (Desk::new(LIMITS), DUE as u64);
    for _ in 0..due - 1 {
        desk.put("a", b"1", DeadReason::TimedOut);
    }
    assert_eq!((desk.store.tally().held, desk.store.tally().discarded), (4, due - 5), "four may be kept, the newest");
    let desk = Desk::new(DeadLetterLimits { events: 10 * DUE, ..LIMITS });
    for nth in 1..10 * due {
        desk.put("a", b"1", DeadReason::TimedOut);
        assert_eq!((desk.store.tally().held, desk.store.tally().discarded), (nth, 0));
        assert!(desk.store.intake.len() < DUE);
    }
}

#[test]
fn nothing_goes_below_the_limits_however_long_somebody_looks() {
    let desk = Desk::new(DeadLetterLimits { events: 1_000, ..LIMITS });
    let half = |from: u64| (0..500).for_each(|nth| assert_eq!(desk.put("a", b"1", DeadReason::TimedOut), from + nth));
    half(1);
    desk.store.on_shelf(|_| half(501));
    let counts = desk.store.tally();
    assert_eq!((counts.held, counts.discarded), (1_000, 0));
    assert_eq!(desk.all(), (1..=1_000).collect::<Vec<_>>());
    // Beyond the limit the oldest go, once they can, and at once only those that no later look would find.
    desk.store.on_shelf(|_| {
        half(1_001);
        assert_eq!(desk.store.tally().discarded, 0);
        half(1_501);
        half(2_001);
        assert_eq!(desk.store.tally().discarded, 500);
    });
    assert_eq!(desk.all(), (1_501..=2_500).collect::<Vec<_>>());
    assert!(desk.store.tally().is_balanced());
}

#[test]
fn what_waits_while_somebody_looks_takes_no_more_bytes_than_all_letters_may() {
    let letter = Desk::new(LIMITS).bytes_of_one();
    let desk = Desk::new(DeadLetterLimits { events: 1_000, bytes: 100 * letter, expiry: None, waiting: 1_024 });
    desk.store.on_shelf(|_| {
        for _ in 0..100 {
            desk.put("a", b"1", DeadReason::TimedOut);
        }
        assert_eq!(desk.store.tally().discarded, 0);
        for _ in 0..50 {
            desk.put("a", b"1", DeadReason::TimedOut);
        }
    });
    assert_eq!((desk.store.tally().discarded, desk.all()), (50, (51..=150).collect::<Vec<_>>()));
}

#[test]
fn a_page_goes_on_behind_the_last_in_both_directions() {
    let desk = Desk::new(DeadLetterLimits { events: 10, ..LIMITS });
    for nth in 0..6 {
        let (topic, reason) = if nth % 2 == 0 { ("a.x", DeadReason::TimedOut) } else { ("b.x", DeadReason::Rejected) };
        desk.put(topic, b"1", reason);
        desk.clock.advance(Duration::from_secs(1));
    }
    let filter = DeadLetterFilter::new;
    assert_eq!(desk.ids(&filter().limit(2)), [1, 2]);
    assert_eq!(desk.ids(&filter().after(2).limit(2)), [3, 4]);
    assert_eq!(desk.ids(&filter().newest_first().limit(2)), [6, 5]);
    assert_eq!(desk.ids(&filter().newest_first().after(5)), [4, 3, 2, 1]);
    assert_eq!(desk.ids(&filter().topic(Pattern::new("b.*").unwrap())), [2, 4, 6]);
    assert_eq!(desk.ids(&filter().reason(DeadReason::TimedOut).after(1)), [3, 5]);
    let third = desk.store.get(3).unwrap().died();
    assert_eq!(desk.ids(&filter().died_before(third)), [1, 2]);
    assert_eq!(desk.ids(&filter().died_from(third)), [3, 4, 5, 6]);
    assert_eq!(desk.ids(&filter().subscription_named("nobody")), [0; 0]);
    assert_eq!(desk.ids(&filter().subscription(desk.store.get(1).unwrap().subscription())).len(), 6);
    assert_eq!(desk.store.purge(&filter().newest_first().limit(4)), 4);
    assert_eq!(desk.all(), [1, 2]);
}

#[test]
fn no_letter_is_lost_or_counted_twice_while_others_look_purge_and_take() {
    const WRITERS: usize = 3;
    let each = if cfg!(miri) { 10 } else { 4_000 };
    let heard = Arc::new(SharedCounter::default());
    let sink: Arc<dyn DeadLetterSink> = {
        let heard = Arc::clone(&heard);
        Arc::new(move |_: &Arc<DeadLetter>| {
            heard.add(1);
        })
    };
    let desk = Desk::with(
        DeadLetterLimits { events: 100, bytes: 1 << 16, expiry: None, waiting: 1_024 },
        Vec::new(),
        Some(sink),
    );
    let (start, done) = (StartLine::new(WRITERS + 1), SharedCounter::default());
    let mut ids: Vec<u64> = thread::scope(|scope| {
        let writer = || {
            start.wait();
            (0..each).map(|nth| desk.put("a", &vec![1; nth % 700], DeadReason::TimedOut)).collect::<Vec<_>>()
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        scope.spawn(|| {
            start.wait();
            while done.get() == 0 {
                let letters = desk.store.list(&DeadLetterFilter::new());
                assert!(letters.len() <= 100 && letters.is_sorted_by_key(|letter| letter.id()));
                assert!(letters.iter().map(|letter| letter.bytes()).sum::<usize>() <= 1 << 16);
                desk.store.purge(&DeadLetterFilter::new().limit(2));
                if let Some(taken) = letters.last().and_then(|letter| desk.store.take(letter.id()))
                    && taken.letter().id() % 2 == 0
                {
                    taken.sent();
                }
            }
        });
        let ids = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        done.add(1);
        ids
    });
    ids.sort_unstable();
    let total = (WRITERS * each) as u64;
    assert!(ids.into_iter().eq(1..=total), "each id once");
    let (counts, left) = (desk.store.counts(), desk.store.list(&DeadLetterFilter::new()));
    assert!(counts.is_balanced() && counts.total == total, "{counts:?}");
    assert_eq!(counts.held, left.len() as u64);
    assert_eq!(counts.bytes, left.iter().map(|letter| letter.bytes() as u64).sum::<u64>());
    assert_eq!(heard.get() + counts.unheard, total, "the sink hears of each, or is known not to have");
}

#[test]
fn a_sink_that_looks_or_panics_hears_of_each_letter_once() {
    let (heard, store) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None::<Arc<DeadLetterStore>>)));
    let sink: Arc<dyn DeadLetterSink> = {
        let (heard, store) = (Arc::clone(&heard), Arc::clone(&store));
        Arc::new(move |letter: &Arc<DeadLetter>| {
            heard.lock().unwrap().push(letter.id());
            let store = store.lock().unwrap().clone().expect("it was given one");
            assert!(store.counts().is_balanced());
            assert_ne!(letter.id(), 2, "on purpose");
        })
    };
    let desk = Desk::with(DeadLetterLimits { events: 0, ..LIMITS }, Vec::new(), Some(sink));
    *store.lock().unwrap() = Some(Arc::clone(&desk.store));
    for _ in 0..3 {
        desk.put("a", b"1", DeadReason::TimedOut);
    }
    assert_eq!(*heard.lock().unwrap(), [0; 0], "not by who brings them");
    desk.store.counts();
    assert_eq!(*heard.lock().unwrap(), [1, 2, 3], "also those that are not kept");
    // Each other in a ring.
    *store.lock().unwrap() = None;
}

#[test]
fn a_sink_of_its_own_thread_has_heard_of_all_when_the_thread_ends() {
    let heard = Arc::new(SharedCounter::default());
    let sink: Arc<dyn DeadLetterSink> = {
        let heard = Arc::clone(&heard);
        Arc::new(move |_: &Arc<DeadLetter>| {
            heard.add(1);
        })
    };
    let desk = Desk::with(LIMITS, Vec::new(), Some(sink));
    assert!(desk.store.wants_thread());
    desk.put("a", b"1", DeadReason::TimedOut);
    desk.store.counts();
    assert_eq!(heard.get(), 0, "the thread tells, and it has not begun");
    thread::scope(|scope| {
        scope.spawn(|| desk.store.tell_sink());
        for _ in 0..50 {
            desk.put("a", b"1", DeadReason::TimedOut);
        }
        desk.store.close();
    });
    assert_eq!(heard.get(), 51);
    desk.put("a", b"1", DeadReason::TimedOut);
    desk.store.counts();
    assert_eq!(heard.get(), 52, "later ones by whoever looks");
}
