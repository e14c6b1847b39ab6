//! Random stalls between claim and commit: any publisher, lane and form, several at once, again and again.
//!
//! `RINGMAIN_STALLS` sets how many (1,000), `RINGMAIN_STALL_SEED` where the draws begin (1). A failure prints both.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ringmain::internals::ring::stall;
use ringmain::testing::Simulation;
use ringmain::{Bus, FullPolicy, Ledger, Mailbox, Pattern, Priority, PublishError, Publisher, Subscription};

use crate::forms::{FORMS, OF_ONE, id_of};
use crate::proof::say;
use crate::support::{Draw, Log, assert_counted, assert_settled, observed, watched};

/// Stalls of one bus, before it is checked as a whole.
const STALLS_A_BUS: u64 = 50;
/// Publishers stopped inside each other.
const DEPTH: usize = 3;
const BLOCKS: usize = 64;
const STALL: Duration = Duration::from_secs(1);

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Says how to repeat what failed, when it fails.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "repeat with RINGMAIN_STALLS=1 RINGMAIN_STALL_SEED={} cargo test --features stall --test faults stalls::",
                self.0
            );
        }
    }
}

/// An event as a handler saw it.
type Seen = (Priority, u64, u64);

/// A publisher that is stopped: its lane, and its first sequence.
type Hold = (Priority, u64);

struct World {
    simulation: Simulation,
    draw: RefCell<Draw>,
    publishers: Vec<RefCell<Publisher>>,
    has_others: bool,
    logs: [Log<Seen>; 2],
    mailbox: RefCell<Mailbox<Pattern>>,
    notices: Log<String>,
    _handlers: [Subscription; 2],
    next_id: Cell<u64>,
    first: u64,
    /// Numbers of accepted events, in the order of their publishers' returns.
    accepted: RefCell<Vec<(Priority, u64)>>,
    refused: Cell<u64>,
    stopped: RefCell<Vec<Hold>>,
    stalls: Cell<u64>,
    /// What each worker has shown so far.
    seen: RefCell<[Vec<Seen>; 2]>,
}

fn listen(bus: &Bus, worker: usize) -> (Subscription, Log<Seen>) {
    let log = Log::new();
    let writer = log.clone();
    let made = bus.subscribe("mark.*").on_worker(worker).handle(move |payload, meta| {
        writer.add((meta.priority(), meta.sequence(), id_of(payload, meta)));
    });
    (made.unwrap(), log)
}

impl World {
    fn new(seed: u64) -> Rc<Self> {
        let mut draw = Draw(seed);
        let has_others = !draw.one_in(4);
        let first = [0, u64::from(u32::MAX) - 3, u64::MAX - 3][draw.below(3) as usize];
        let limit = 8 << draw.below(3);
        let builder = Bus::builder()
            .workers(2)
            .max_queue_size(limit)
            .batch_max(8)
            .blocks([(1_000, BLOCKS)])
            .prefault(false)
            .types_max(16);
        let builder = builder.payload_bytes_max(1_000).when_full(FullPolicy::REJECT).first_sequence(first);
        let (builder, notices) = observed(if has_others { builder } else { builder.single_publisher() });
        let simulation = Simulation::new(builder, seed).unwrap();
        let bus = simulation.bus();
        let [(one, first_log), (two, second_log)] = [0, 1].map(|worker| listen(bus, worker));
        let mailbox = bus.subscribe("mark.*").capacity(1 << 13).mailbox().unwrap();
        let publishers = if has_others { 2 + draw.below(3) } else { 1 };
        let publishers = (0..publishers).map(|_| RefCell::new(bus.publisher().unwrap())).collect();
        Rc::new(Self {
            mailbox: RefCell::new(mailbox),
            draw: RefCell::new(draw),
            publishers,
            has_others,
            logs: [first_log, second_log],
            notices,
            _handlers: [one, two],
            next_id: Cell::new(0),
            first,
            accepted: RefCell::default(),
            refused: Cell::default(),
            stopped: RefCell::default(),
            stalls: Cell::default(),
            seen: RefCell::default(),
            simulation,
        })
    }

    fn below(&self, limit: u64) -> u64 {
        self.draw.borrow_mut().below(limit)
    }

    fn look(&self) {
        for (seen, log) in self.seen.borrow_mut().iter_mut().zip(&self.logs) {
            seen.extend(log.take());
        }
    }

    /// One publish, by whoever is not stopped; it may be stopped itself.
    fn publish(self: &Rc<Self>) {
        let is_free = |nth: &usize| self.publishers[*nth].try_borrow_mut().is_ok();
        let free: Vec<_> = (0..self.publishers.len()).filter(is_free).collect();
        if free.is_empty() {
            return;
        }
        let nth = free[self.below(free.len() as u64) as usize];
        let mut publisher = self.publishers[nth].borrow_mut();
        let forms = if self.has_others { &FORMS[..] } else { &FORMS[..OF_ONE] };
        let form = forms[self.below(forms.len() as u64) as usize];
        let priority = form.priority(self.draw.borrow_mut().priority());
        // The number says whose the event is, unless the bus lends its own publisher.
        let id = self.next_id.replace(self.next_id.get() + form.events()) | (nth as u64) << 48;
        let depth = self.stopped.borrow().len();
        let stops = depth < DEPTH && self.below(2) == 0;
        if stops {
            let visit = self.below(u64::from(form.visits())) as u32;
            let world = Rc::clone(self);
            stall::arm(visit, move |sequence| {
                world.stalls.set(world.stalls.get() + 1);
                let hold = (priority, form.first(visit, sequence));
                world.stopped.borrow_mut().push(hold);
                world.meanwhile();
                assert_eq!(world.stopped.borrow_mut().pop(), Some(hold));
            });
        }
        match form.publish(self.simulation.bus(), &mut publisher, priority, id) {
            Ok(()) => self.accepted.borrow_mut().extend((id..id + form.events()).map(|id| (priority, id))),
            Err(PublishError::Full { .. } | PublishError::PoolExhausted { .. }) => {
                self.refused.set(self.refused.get() + 1);
                // Refused before the window, or in vain: then nobody may be stopped later in its stead.
                stall::disarm();
            }
            Err(error) => panic!("{form:?}: {error}"),
        }
    }

    /// A publisher is stopped: others publish and may be stopped too, workers turn, time passes.
    fn meanwhile(self: &Rc<Self>) {
        for _ in 0..self.below(6) {
            match self.below(4) {
                0 => self.simulation.advance(Duration::from_millis(self.below(400))),
                1 => drop(self.simulation.step()),
                _ => self.publish(),
            }
        }
        self.simulation.run();
        self.look();
        let stopped = self.stopped.borrow().clone();
        // Nothing at or behind a claimed slot that is empty.
        let distance = |sequence: u64| sequence.wrapping_sub(self.first);
        for seen in &*self.seen.borrow() {
            for &(priority, sequence, id) in seen {
                let early = stopped.iter().any(|hold| hold.0 == priority && distance(sequence) >= distance(hold.1));
                assert!(!early, "event {id} of {priority:?} at {sequence} came through {stopped:?}");
            }
        }
        // Everything in the lanes where nobody is stopped.
        let is_held = |priority| stopped.iter().any(|hold| hold.0 == priority);
        for priority in Priority::ALL.into_iter().filter(|&priority| !is_held(priority)) {
            let accepted = self.accepted.borrow().iter().filter(|event| event.0 == priority).count();
            for seen in &*self.seen.borrow() {
                let delivered = seen.iter().filter(|event| event.0 == priority).count();
                assert_eq!(delivered, accepted, "{priority:?} goes on beside {stopped:?}");
            }
        }
        if self.below(4) == 0 {
            self.simulation.advance(STALL);
            self.notices.take();
            self.simulation.run();
            let told = self.notices.take();
            for priority in Priority::ALL {
                let holds = stopped.iter().filter(|hold| hold.0 == priority);
                let expected = holds.map(|hold| hold.1).min_by_key(|&sequence| distance(sequence));
                let expected: Vec<_> = expected.into_iter().flat_map(|first| [first; 2]).collect();
                let name = format!("StalledPublisher {{ priority: {priority:?}, sequence: ");
                let told: Vec<u64> = told
                    .iter()
                    .filter_map(|notice| notice.strip_prefix(&name)?.strip_suffix(" }")?.parse().ok())
                    .collect();
                assert_eq!(told, expected, "{priority:?} is told of by both workers, {stopped:?}");
            }
        }
    }

    /// Everybody is awake: everything accepted is there, once, in order, and the books say so.
    fn settle(&self) {
        let bus = self.simulation.bus();
        self.simulation.run();
        self.look();
        let mut pulled = Vec::new();
        while let Ok(delivery) = self.mailbox.borrow_mut().try_recv() {
            let meta = delivery.meta();
            pulled.push((meta.priority(), meta.sequence(), id_of(delivery.payload(), &meta)));
        }
        let [one, two] = &*self.seen.borrow();
        for seen in [one, two, &pulled] {
            for priority in Priority::ALL {
                let lane: Vec<_> = seen.iter().filter(|event| event.0 == priority).collect();
                for (nth, event) in lane.iter().enumerate() {
                    assert_eq!(event.1, self.first.wrapping_add(nth as u64), "each sequence once, in order");
                }
                let mut ids: Vec<_> = lane.iter().map(|event| event.2).collect();
                ids.sort_unstable();
                let accepted = self.accepted.borrow();
                let mut expected: Vec<_> =
                    accepted.iter().filter(|event| event.0 == priority).map(|event| event.1).collect();
                expected.sort_unstable();
                assert_eq!(ids, expected, "{priority:?}: what was accepted, and nothing else");
                for nth in 0..self.publishers.len() as u64 {
                    let own = lane.iter().map(|event| event.2).filter(|id| id >> 48 == nth);
                    assert!(own.is_sorted(), "publisher {nth}'s events of {priority:?} come in its order");
                }
            }
        }
        let order = |seen: &[Seen], priority| -> Vec<u64> {
            seen.iter().filter(|event| event.0 == priority).map(|event| event.2).collect()
        };
        for priority in Priority::ALL {
            assert_eq!(order(one, priority), order(two, priority));
            assert_eq!(order(one, priority), order(&pulled, priority));
        }
        assert_settled(bus);
        let mut counted = Ledger::default();
        counted.accepted = self.accepted.borrow().len() as u64;
        counted.routed = counted.accepted;
        counted.claimed = counted.accepted;
        counted.subscriptions.matched = 3 * counted.accepted;
        counted.subscriptions.delivered = 3 * counted.accepted;
        assert_eq!(assert_counted(bus, &counted).free_blocks, BLOCKS, "every block is back");
    }
}

#[test]
fn a_bus_survives_stalls_of_any_publisher_lane_and_form() {
    let (stalls, seed) = (setting("RINGMAIN_STALLS", 1_000), setting("RINGMAIN_STALL_SEED", 1));
    let (mut done, mut refused) = (0, 0);
    for seed in seed.. {
        if done >= stalls {
            break;
        }
        let _repeat = Repeat(seed);
        let world = World::new(seed);
        while world.stalls.get() < STALLS_A_BUS {
            world.publish();
            if world.below(8) == 0 {
                world.simulation.step();
            }
            if world.refused.get() > 0 && world.below(8) == 0 {
                world.simulation.run();
            }
        }
        world.settle();
        done += world.stalls.get();
        refused += world.refused.get();
    }
    say(&format!("stalls: {done}, and {refused} publishes refused behind them"));
}

/// Stops a thread for a while: until others have published so much, or have had many chances to.
fn wait_a_while(published: &AtomicU64, events: u64) {
    let goal = published.load(Ordering::Relaxed) + events;
    for _ in 0..200 {
        if published.load(Ordering::Relaxed) >= goal {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn threads_survive_stalls_of_any_publisher_lane_and_form() {
    const PUBLISHERS: u64 = 3;
    /// Stalls of one bus.
    const ROUND: u64 = 500;
    let (stalls, seed) = (setting("RINGMAIN_STALLS", 1_000), setting("RINGMAIN_STALL_SEED", 1));
    let round = move |seed: u64| {
        let _repeat = Repeat(seed);
        let builder = Bus::builder().workers(2).pin(false).max_queue_size(64).batch_max(8);
        let bus = builder.when_full(FullPolicy::wait(Duration::from_secs(60))).build().unwrap();
        let made = [0, 1].map(|worker| listen(&bus, worker));
        let mut mailbox = bus.subscribe("mark.*").capacity(64).mailbox().unwrap();
        let pulling = thread::spawn(move || mailbox.iter().count() as u64);
        let published = Arc::new(AtomicU64::new(0));
        let publishing: Vec<_> = (0..PUBLISHERS)
            .map(|nth| {
                let (bus, published) = (bus.clone(), Arc::clone(&published));
                thread::spawn(move || {
                    let mut publisher = bus.publisher().unwrap();
                    let mut draw = Draw(seed ^ nth << 32);
                    let mut accepted = Vec::new();
                    // An id says whose it is, and its place among the publisher's own.
                    let mut id = nth << 48;
                    for _ in 0..ROUND.min(stalls).div_ceil(PUBLISHERS) {
                        let form = FORMS[draw.below(FORMS.len() as u64) as usize];
                        let priority = form.priority(draw.priority());
                        let (visit, events) = (draw.below(u64::from(form.visits())) as u32, draw.below(20));
                        let others = Arc::clone(&published);
                        stall::arm(visit, move |_| wait_a_while(&others, events));
                        let result = loop {
                            match form.publish(&bus, &mut publisher, priority, id) {
                                // Two forms do not wait.
                                Err(PublishError::Full { .. }) => thread::yield_now(),
                                result => break result,
                            }
                        };
                        result.unwrap();
                        assert!(!stall::disarm(), "every publish comes by");
                        accepted.extend((id..id + form.events()).map(|id| (priority, id)));
                        id += form.events();
                        published.fetch_add(form.events(), Ordering::Relaxed);
                    }
                    accepted
                })
            })
            .collect();
        let accepted: Vec<_> = publishing.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_settled(&bus);
        let mut counted = Ledger::default();
        counted.accepted = accepted.len() as u64;
        counted.routed = counted.accepted;
        counted.claimed = counted.accepted;
        counted.subscriptions.matched = 3 * counted.accepted;
        counted.subscriptions.delivered = 3 * counted.accepted;
        assert_counted(&bus, &counted);
        let logs = made.each_ref().map(|(_, log)| log.take());
        for priority in Priority::ALL {
            let lanes = logs.each_ref().map(|log| log.iter().filter(|one| one.0 == priority).collect::<Vec<_>>());
            assert_eq!(lanes[0], lanes[1], "both workers see one order");
            assert!(lanes[0].iter().map(|one| one.1).eq(0..lanes[0].len() as u64), "each sequence once, in order");
            for nth in 0..PUBLISHERS {
                let own = lanes[0].iter().map(|one| one.2).filter(|id| id >> 48 == nth);
                let expected = accepted.iter().filter(|one| one.0 == priority && one.1 >> 48 == nth).map(|one| one.1);
                assert!(own.eq(expected), "publisher {nth}'s events of {priority:?} come in its order");
            }
        }
        assert!(bus.shutdown().unwrap().is_clean());
        assert_eq!(pulling.join().unwrap(), counted.accepted);
    };
    let rounds = stalls.div_ceil(ROUND);
    for nth in 0..rounds {
        watched(move || round(seed + nth));
    }
    say(&format!("stalls: {} of threads", rounds * PUBLISHERS * ROUND.min(stalls).div_ceil(PUBLISHERS)));
}
