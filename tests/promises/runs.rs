//! Events in a row for one handler are served in one go, and nobody can tell: what fails, panics, expires, comes in a
//! block or overtakes is treated as if each had come alone.

use std::panic::resume_unwind;
use std::time::Duration;

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{Bus, Priority, StampPolicy, Subscription, Topic};
use rkyv::{Archive, Serialize};

use super::support::{Log, assert_settled};

#[derive(Debug, Archive, Serialize)]
struct Step {
    number: u32,
    fate: u8,
    ballast: Vec<u8>,
}

/// The first is handled by one subscription, the second by two.
const TOPICS: [Topic<Step>; 2] = [Topic::new("steps.one"), Topic::new("steps.two")];

const FAILS: u8 = 1;
const PANICS: u8 = 2;

#[derive(Debug, Clone)]
enum Move {
    Publish { topic: usize, priority: Priority, fate: u8, expires: bool, large: bool },
    Turn,
    Advance,
    Pause(usize),
    Resume(usize),
}

fn one_in(n: u8) -> impl Strategy<Value = bool> {
    (0..n).prop_map(|drawn| drawn == 0)
}

fn any_move() -> impl Strategy<Value = Move> {
    // Mostly of one topic and priority, so that there are runs.
    let priority = prop_oneof![8 => Just(Priority::Normal), 1 => (0..4_usize).prop_map(|nth| Priority::ALL[nth])];
    let fate = prop_oneof![12 => Just(0), 1 => Just(FAILS), 1 => Just(PANICS)];
    let publish =
        (one_in(6), priority, fate, one_in(12), one_in(12)).prop_map(|(second, priority, fate, expires, large)| {
            Move::Publish { topic: usize::from(second), priority, fate, expires, large }
        });
    prop_oneof![
        60 => publish,
        2 => Just(Move::Turn),
        1 => Just(Move::Advance),
        1 => (0..3_usize).prop_map(Move::Pause),
        1 => (0..3_usize).prop_map(Move::Resume),
    ]
}

/// A subscription and what its handler saw: lane by lane, number and fate.
struct Listener {
    made: Subscription,
    saw: Log<(Priority, u32, u8)>,
}

impl Listener {
    fn new(bus: &Bus, topic: Topic<Step>) -> Self {
        let saw = Log::new();
        let log = saw.clone();
        let made = bus.subscribe(topic).handle(move |step, meta| {
            assert!(step.ballast.iter().all(|&byte| byte == step.number.to_native() as u8));
            log.add((meta.priority(), step.number.to_native(), step.fate));
            match step.fate {
                FAILS => Err("as it should"),
                // No hook prints it.
                PANICS => resume_unwind(Box::new("as it should")),
                _ => Ok(()),
            }
        });
        Self { made: made.unwrap(), saw }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_run_is_nothing_but_its_events(
        moves in proptest::collection::vec(any_move(), 1..400),
        every in prop_oneof![Just(StampPolicy::Every), Just(StampPolicy::OneIn(7))],
        slow in prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(1))],
        turn_max in prop_oneof![Just(3_usize), Just(100)],
    ) {
        let builder = Bus::builder().workers(1).stamps(every).slow_handler_threshold(slow).turn_max(turn_max);
        let simulation = Simulation::new(builder.max_queue_size(1_000), 1).unwrap();
        let bus = simulation.bus();
        let listeners: Vec<_> = [0, 1, 1].map(|topic| Listener::new(bus, TOPICS[topic])).into_iter().collect();
        let mut publisher = bus.publisher().unwrap();
        let mut published: [Vec<(Priority, u32, u8, bool)>; 2] = [Vec::new(), Vec::new()];
        let mut paused_ever = [false; 3];
        for (number, step) in (0..).zip(moves) {
            match step {
                Move::Publish { topic, priority, fate, expires, large } => {
                    let ballast = vec![number as u8; if large { 3_000 } else { 16 }];
                    let event = publisher.at(priority);
                    let event = if expires { event.expires_after(Duration::from_secs(1)) } else { event };
                    event.try_publish(TOPICS[topic], &Step { number, fate, ballast }).unwrap();
                    published[topic].push((priority, number, fate, expires));
                }
                Move::Turn => {
                    simulation.turn(0);
                }
                Move::Advance => simulation.advance(Duration::from_secs(2)),
                Move::Pause(nth) => {
                    bus.pause(listeners[nth].made.id()).unwrap();
                    paused_ever[nth] = true;
                }
                Move::Resume(nth) => bus.resume(listeners[nth].made.id()).unwrap(),
            }
        }
        assert_settled(bus);
        for ((listener, topic), paused_ever) in listeners.iter().zip([0, 1, 1]).zip(paused_ever) {
            let saw = listener.saw.take();
            let ledger = listener.made.record().ledger;
            prop_assert_eq!(ledger.matched, published[topic].len() as u64);
            let failed = saw.iter().filter(|(.., fate)| *fate != 0).count() as u64;
            prop_assert_eq!((ledger.failed, ledger.delivered), (failed, saw.len() as u64 - failed));
            prop_assert_eq!(ledger.dropped.paused + ledger.dropped.expired, ledger.matched - saw.len() as u64);
            for lane in Priority::ALL {
                let of_lane = saw.iter().filter(|(priority, ..)| *priority == lane).map(|&(_, number, fate)| (number, fate));
                let of_lane: Vec<_> = of_lane.collect();
                prop_assert!(of_lane.is_sorted_by(|one, other| one.0 < other.0), "{lane}: {of_lane:?}");
                for &(priority, number, fate, expires) in &published[topic] {
                    if priority == lane && !expires && !paused_ever {
                        prop_assert!(of_lane.contains(&(number, fate)), "{number} of {lane} is missing");
                    }
                }
            }
        }
    }
}

#[test]
fn a_more_urgent_event_ends_a_run_at_once() {
    for (running, comes) in [(Priority::Low, Priority::Normal), (Priority::Normal, Priority::Critical)] {
        let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
        let bus = simulation.bus();
        let saw = Log::new();
        let log = saw.clone();
        let mut own = bus.publisher().unwrap();
        let _listener = bus.subscribe(TOPICS[0]).handle(move |step, _| {
            let number = step.number.to_native();
            log.add(number);
            if number == 4 {
                own.at(comes).try_publish(TOPICS[0], &Step { number: 100, fate: 0, ballast: Vec::new() }).unwrap();
            }
        });
        let mut publisher = bus.publisher().unwrap();
        for number in 0..10 {
            publisher.at(running).try_publish(TOPICS[0], &Step { number, fate: 0, ballast: Vec::new() }).unwrap();
        }
        simulation.run();
        assert_eq!(saw.take(), [0, 1, 2, 3, 4, 100, 5, 6, 7, 8, 9]);
        assert_settled(bus);
    }
}

#[test]
fn events_too_long_for_a_slot_are_measured_as_often_as_others() {
    for (bytes, every) in [(16, 2), (3_000, 2), (3_000, 64)] {
        let builder = Bus::builder().workers(1).stamps(StampPolicy::OneIn(every));
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let _listener = bus.subscribe(TOPICS[0]).handle(|_, _| {});
        let mut publisher = bus.publisher().unwrap();
        let mut serialised = 0;
        for number in 0..1_024 {
            let ballast = vec![0; bytes];
            publisher.try_publish(TOPICS[0], &Step { number, fate: 0, ballast }).unwrap();
            serialised += 1;
            simulation.run();
        }
        let measured = bus.metrics().delivery_latency.total.count;
        assert_eq!(measured, serialised / u64::from(every), "{bytes} bytes, one in {every}");
        assert_settled(bus);
    }
}
