//! A publisher stopped between claim and commit holds up its lane and nothing else, is named, and loses nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringmain::internals::ring::stall;
use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, FlushError, FullPolicy, IdleStrategy, Ledger, Payload, Priority, PublishError, Publisher,
    Subscription,
};

use crate::forms::{FORMS, Form, OF_ONE, id_of};
use crate::support::{Log, assert_books, assert_counted, assert_settled, observed, watched};

/// What a publisher may hold up its lane for before it is told of.
const STALL: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// A test that waits longer for a step of another thread is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event as a handler saw it.
type Seen = (Priority, u64, u64);

fn listen(bus: &Bus, worker: usize) -> (Subscription, Log<Seen>) {
    let log = Log::new();
    let writer = log.clone();
    let made = bus.subscribe("mark.*").on_worker(worker).handle(move |payload, meta| {
        writer.add((meta.priority(), meta.sequence(), id_of(payload, meta)));
    });
    (made.unwrap(), log)
}

fn stalled(priority: Priority, sequence: u64) -> String {
    format!("StalledPublisher {{ priority: {priority:?}, sequence: {sequence} }}")
}

fn count(notices: &Log<String>, kind: &str) -> usize {
    let all = notices.take();
    let found = all.iter().filter(|notice| notice.starts_with(kind)).count();
    all.into_iter().for_each(|notice| notices.add(notice));
    found
}

/// A bus turned by hand, with a handler on each of two workers.
struct World {
    simulation: Simulation,
    /// Not the one that is stopped; none when there is only one.
    other: Option<RefCell<Publisher>>,
    logs: [Log<Seen>; 2],
    notices: Log<String>,
    _handlers: [Subscription; 2],
}

impl World {
    fn new(builder: BusBuilder, has_others: bool) -> Rc<Self> {
        let (builder, notices) = observed(builder.workers(2).when_full(FullPolicy::REJECT));
        let builder = if has_others { builder } else { builder.single_publisher() };
        let simulation = Simulation::new(builder, 1).unwrap();
        let [(first, one), (second, two)] = [0, 1].map(|worker| listen(simulation.bus(), worker));
        let other = has_others.then(|| RefCell::new(simulation.bus().publisher().unwrap()));
        Rc::new(Self { simulation, other, logs: [one, two], notices, _handlers: [first, second] })
    }

    fn publish(&self, priority: Priority, id: u64) -> Result<(), PublishError> {
        let other = self.other.as_ref().expect("there are others");
        Form::Flat.publish(self.simulation.bus(), &mut other.borrow_mut(), priority, id)
    }

    /// Runs everything that can run. Returns what came meanwhile at each worker, a lane at a time.
    fn run(&self) -> [Vec<Seen>; 2] {
        self.simulation.run();
        [0, 1].map(|worker: usize| {
            let mut seen = self.logs[worker].take();
            seen.sort_by_key(|(priority, ..)| *priority);
            seen
        })
    }

    fn told(&self) -> Vec<String> {
        self.notices.take().into_iter().filter(|notice| notice.starts_with("StalledPublisher")).collect()
    }

    /// What happens while a publish of `events` events at `stopped` stands still, the first with this sequence.
    fn goes_on(&self, stopped: Priority, first: u64, events: u64) {
        let mut behind = 0;
        if self.other.is_some() {
            let mut expected = Vec::new();
            for priority in Priority::ALL {
                for nth in 0..5 {
                    self.publish(priority, 100 + nth).unwrap();
                    if priority != stopped {
                        expected.push((priority, nth, 100 + nth));
                    }
                }
            }
            behind = 5;
            expected.sort_by_key(|(priority, ..)| *priority);
            assert_eq!(self.run(), [expected.clone(), expected], "the other lanes go on, and only they");
        } else {
            assert_eq!(self.run(), [[], []], "what is not committed is not seen");
        }
        let held = self.simulation.bus().flush();
        let Err(FlushError::TimedOut { in_lanes, .. }) = held else { panic!("{held:?}") };
        assert_eq!(in_lanes, events + behind);
        self.simulation.advance(STALL - NANOSECOND);
        self.run();
        assert_eq!(self.told(), [""; 0], "not a nanosecond early");
        self.simulation.advance(NANOSECOND);
        for _ in 0..2 {
            assert_eq!(self.run(), [[], []]);
            assert_eq!(self.told(), vec![stalled(stopped, first); 2], "each worker that waits says so");
            self.simulation.advance(STALL);
        }
    }
}

const BLOCKS: usize = 16;

/// A bus that is soon built.
fn small() -> BusBuilder {
    let builder = Bus::builder().max_queue_size(64).batch_max(8).blocks([(1_000, BLOCKS)]).payload_bytes_max(1_000);
    builder.prefault(false).types_max(16).sources_max(4)
}

/// Stops each form at each of its visits to the window.
fn everywhere(has_others: bool) {
    for &form in if has_others { &FORMS[..] } else { &FORMS[..OF_ONE] } {
        for visit in 0..form.visits() {
            // Each form takes its turn of lanes; the plainest one goes through all.
            let lanes = Priority::ALL.into_iter().cycle().skip(form as usize + visit as usize);
            for priority in lanes.take(if form == Form::Flat { 4 } else { 1 }).map(|wish| form.priority(wish)) {
                let world = World::new(small(), has_others);
                let bus = world.simulation.bus();
                let mut publisher = bus.publisher().unwrap();
                Form::Flat.publish(bus, &mut publisher, priority, 0).unwrap();
                assert_eq!(world.run(), [[(priority, 0, 0)], [(priority, 0, 0)]]);
                let stops = Rc::new(Cell::new(0));
                stall::arm(visit, {
                    let (world, stops) = (Rc::clone(&world), Rc::clone(&stops));
                    move |sequence| {
                        stops.set(stops.get() + 1);
                        world.goes_on(priority, form.first(visit, sequence), form.events());
                    }
                });
                form.publish(bus, &mut publisher, priority, 1).unwrap();
                assert!(!stall::disarm() && stops.get() == 1, "{form:?} comes by {visit}");
                // It is awake again: what it published comes first, then what waited behind it.
                let behind = if has_others { 5 } else { 0 };
                let ids = (1..=form.events()).chain(100..100 + behind);
                let expected: Vec<_> = ids.zip(1..).map(|(id, sequence)| (priority, sequence, id)).collect();
                assert_eq!(world.run(), [expected.clone(), expected], "{form:?} {visit}");
                world.simulation.advance(3 * STALL);
                world.run();
                assert_eq!(world.told(), [""; 0], "it is not told of any more");
                assert_settled(bus);
                let mut counted = Ledger::default();
                counted.accepted = 1 + form.events() + 4 * behind;
                counted.routed = counted.accepted;
                counted.claimed = counted.accepted;
                counted.subscriptions.matched = 2 * counted.accepted;
                counted.subscriptions.delivered = 2 * counted.accepted;
                assert_eq!(assert_counted(bus, &counted).free_blocks, BLOCKS, "every block is back");
            }
        }
    }
}

#[test]
fn a_stopped_publisher_holds_up_its_lane_and_no_other() {
    everywhere(true);
}

#[test]
fn the_only_publisher_stopped_is_told_of_and_loses_nothing() {
    everywhere(false);
}

#[test]
fn a_lane_fills_behind_a_stopped_publisher_and_refuses_at_its_limit() {
    let world = World::new(Bus::builder().max_queue_size(8).batch_max(8), true);
    let bus = world.simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let inside = Rc::clone(&world);
    stall::arm(0, move |_| {
        for id in 1..8 {
            inside.publish(Priority::High, id).unwrap();
            inside.simulation.run();
        }
        let full = inside.publish(Priority::High, 8);
        let Err(PublishError::Full { priority, depth, limit, gated_by: Some(_) }) = full else { panic!("{full:?}") };
        assert_eq!((priority, depth, limit), (Priority::High, 8, 8));
        // Many laps of the lane beside it.
        for id in 0..100 {
            inside.publish(Priority::Normal, id).unwrap();
            inside.simulation.run();
        }
    });
    Form::Flat.publish(bus, &mut publisher, Priority::High, 0).unwrap();
    let normal = (0..100).map(|id| (Priority::Normal, id, id));
    let high = (0..8).map(|id| (Priority::High, id, id));
    let mut expected: Vec<_> = normal.chain(high).collect();
    expected.sort_by_key(|(priority, ..)| *priority);
    assert_eq!(world.run(), [expected.clone(), expected]);
    assert_settled(bus);
    assert_eq!((bus.ledger().accepted, bus.metrics().refused.full), (108, 1));
}

#[test]
fn a_worker_that_never_rests_tells_of_a_stopped_publisher_too() {
    let (builder, notices) = observed(Bus::builder().workers(1));
    let simulation = Rc::new(Simulation::new(builder, 1).unwrap());
    let bus = simulation.bus();
    // Each event is followed by the next: there is always one more.
    let mut own = bus.publisher().unwrap();
    let endless = bus
        .subscribe("endless")
        .handle(move |_, _| own.at(Priority::Critical).publish("endless", Payload::raw(b"")).map(drop));
    let endless = endless.unwrap();
    let (_listening, log) = listen(bus, 0);
    let mut publisher = bus.publisher().unwrap();
    publisher.at(Priority::Critical).publish("endless", Payload::raw(b"")).unwrap();
    stall::arm(1, {
        let (simulation, log, notices) = (Rc::clone(&simulation), log.clone(), notices.clone());
        move |_| {
            let until_told = |limit: usize| {
                (0..limit).any(|_| {
                    assert!(simulation.turn(0).unwrap() > 0, "the worker never rests");
                    count(&notices, &stalled(Priority::Normal, 0)) > 0
                })
            };
            assert!(!until_told(1_000), "its second is not over");
            simulation.advance(STALL);
            assert!(until_told(1_000), "in vain: {:?}", notices.take());
            assert_eq!(log.len(), 0);
        }
    });
    Form::Flat.publish(bus, &mut publisher, Priority::Normal, 0).unwrap();
    endless.unsubscribe().unwrap();
    simulation.run();
    assert_eq!(log.take(), [(Priority::Normal, 0, 0)]);
    assert_settled(bus);
}

/// A publisher on a thread of its own, stopped in the window.
struct Stopped {
    sequence: u64,
    go: mpsc::Sender<()>,
    thread: JoinHandle<Result<(), PublishError>>,
}

impl Stopped {
    fn new(bus: &Bus, form: Form, visit: u32, priority: Priority, id: u64) -> Self {
        let ((go, gone), (inside, entered)) = (mpsc::channel::<()>(), mpsc::channel());
        let bus = bus.clone();
        let thread = thread::spawn(move || {
            let mut publisher = bus.publisher().unwrap();
            stall::arm(visit, move |sequence| {
                inside.send(form.first(visit, sequence)).unwrap();
                // A test that fails meanwhile hangs up.
                let _ = gone.recv();
            });
            form.publish(&bus, &mut publisher, priority, id)
        });
        Self { sequence: entered.recv_timeout(PATIENCE).expect("it comes by"), go, thread }
    }

    fn wake(self) -> Result<(), PublishError> {
        self.go.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        thread::yield_now();
    }
}

#[test]
fn publishers_stopped_at_once_come_in_order_whichever_wakes_first() {
    watched(|| {
        for wakes in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let bus = Bus::builder().workers(2).build().unwrap();
            let made = [0, 1].map(|worker| listen(&bus, worker));
            let forms = [Form::Flat, Form::Batch, Form::Large];
            let mut stopped = [0, 1, 2].map(|nth: usize| {
                let visit = nth as u32 % forms[nth].visits();
                Some(Stopped::new(&bus, forms[nth], visit, Priority::High, 10 * nth as u64))
            });
            let mut publisher = bus.publisher().unwrap();
            for id in 0..1_000 {
                Form::Flat.publish(&bus, &mut publisher, Priority::Normal, id).unwrap();
            }
            until("the other lane", || made.iter().all(|(_, log)| log.len() == 1_000));
            for nth in wakes {
                stopped[nth].take().unwrap().wake().unwrap();
            }
            assert_settled(&bus);
            for (_, log) in &made {
                let high: Vec<_> = log.take().split_off(1_000);
                let expected = [0, 10, 11, 12, 20].into_iter().zip(0..);
                assert_eq!(high, expected.map(|(id, at)| (Priority::High, at, id)).collect::<Vec<_>>(), "{wakes:?}");
            }
            assert!(bus.shutdown().unwrap().is_clean());
        }
    });
}

#[test]
fn subscriptions_come_and_go_while_a_publisher_is_stopped() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let (_listening, log) = listen(&bus, 0);
        let stopped = Stopped::new(&bus, Form::Flat, 0, Priority::Normal, 7);
        let (leaving, left) = listen(&bus, 0);
        let (_late, later) = listen(&bus, 1);
        leaving.unsubscribe().unwrap();
        stopped.wake().unwrap();
        assert_settled(&bus);
        assert_eq!(log.take(), [(Priority::Normal, 0, 7)]);
        // Claimed before they came, so it was published before they came.
        assert_eq!((left.len(), later.len()), (0, 0));
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn every_idle_strategy_tells_of_a_stopped_publisher() {
    watched(|| {
        let strategies = [IdleStrategy::BusySpin, IdleStrategy::Yield, IdleStrategy::Backoff, IdleStrategy::Park];
        let stopped = strategies.map(|idle| {
            let (builder, notices) = observed(Bus::builder().workers(1).pin(false).idle(idle));
            let bus = builder.build().unwrap();
            let listening = listen(&bus, 0);
            let stopped = Stopped::new(&bus, Form::Flat, 1, Priority::Low, 7);
            // A worker that sleeps waits for nobody. Any event gets it up, and then it stays up as long as one is missing.
            bus.publish("mark.raw", Payload::raw(&8_u64.to_le_bytes())).unwrap();
            (idle, bus, notices, listening, stopped)
        });
        for (idle, bus, notices, (_made, log), stopped) in stopped {
            let expected = stalled(Priority::Low, stopped.sequence);
            until(&format!("the notice of {idle:?}"), || count(&notices, &expected) > 0);
            assert_eq!(log.take(), [(Priority::Normal, 0, 8)]);
            stopped.wake().unwrap();
            assert_settled(&bus);
            assert_eq!(log.take(), [(Priority::Low, 0, 7)]);
            assert!(bus.shutdown().unwrap().is_clean());
        }
    });
}

#[test]
fn a_worker_stopped_while_it_publishes_a_scheduled_event_is_told_of_by_another() {
    watched(|| {
        let (builder, notices) = observed(Bus::builder().workers(2));
        let bus = builder.build().unwrap();
        let ((go, gone), (stops, is_stopped)) = (mpsc::channel::<()>(), mpsc::channel());
        let mut armed = Some((gone, stops));
        // The timers are worker 0's, and so is this handler.
        let arming = bus.subscribe("arm").on_worker(0).handle(move |_, _| {
            if let Some((gone, stops)) = armed.take() {
                stall::arm(0, move |_| {
                    stops.send(()).unwrap();
                    // A test that fails meanwhile hangs up.
                    let _ = gone.recv();
                });
            }
        });
        let (_arming, (_made, log)) = (arming.unwrap(), listen(&bus, 1));
        bus.publish("arm", Payload::raw(b"")).unwrap();
        bus.flush().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let later = publisher.at(Priority::High).not_before(Duration::from_millis(1));
        later.publish("mark.raw", Payload::raw(&7_u64.to_le_bytes())).unwrap();
        until("the worker that stands still", || is_stopped.try_recv().is_ok());
        for id in 0..100 {
            Form::Flat.publish(&bus, &mut publisher, Priority::Low, id).unwrap();
        }
        until("the other lane", || log.len() == 100);
        until("the notice", || count(&notices, &stalled(Priority::High, 0)) > 0);
        go.send(()).unwrap();
        until("the scheduled event", || log.len() == 101);
        assert_eq!(log.take().pop(), Some((Priority::High, 0, 7)));
        assert_settled(&bus);
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn a_shutdown_waits_for_a_stopped_publisher_to_its_deadline_and_counts_what_it_left() {
    watched(|| {
        for form in [Form::Flat, Form::Batch] {
            let bus = Bus::builder().workers(2).build().unwrap();
            let made = [0, 1].map(|worker| listen(&bus, worker));
            let stopped = Stopped::new(&bus, form, 1, Priority::Normal, 7);
            let mut publisher = bus.publisher().unwrap();
            for id in 0..10 {
                Form::Flat.publish(&bus, &mut publisher, Priority::High, id).unwrap();
            }
            until("both workers", || made.iter().all(|(_, log)| log.len() == 10));
            let report = bus.shutdown_deadline(Duration::from_millis(50)).unwrap();
            assert_eq!((report.delivered, report.left_in_lanes), (20, form.events()), "{report:?}");
            assert!(!report.is_clean() && report.workers_left, "{report:?}");
            // It was accepted before the end, and so it is, but nobody reads it any more: the books say where it lies.
            stopped.wake().unwrap();
            assert_books(&bus);
            let ledger = bus.ledger();
            assert_eq!((ledger.accepted, ledger.in_lanes), (10 + form.events(), form.events()));
            assert_eq!(ledger.subscriptions.delivered, 20);
            drop(made);
        }
    });
}

#[test]
fn a_shutdown_in_time_delivers_what_a_stopped_publisher_publishes_when_it_wakes() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let (_made, log) = listen(&bus, 1);
        let stopped = Stopped::new(&bus, Form::Flat, 0, Priority::Normal, 7);
        let ending = {
            let bus = bus.clone();
            thread::spawn(move || bus.shutdown_deadline(PATIENCE).unwrap())
        };
        until("the end of the bus", || matches!(bus.publisher().map(drop), Err(PublishError::ShuttingDown)));
        stopped.wake().unwrap();
        let report = ending.join().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
        assert_eq!(log.take(), [(Priority::Normal, 0, 7)]);
        assert_settled(&bus);
    });
}
