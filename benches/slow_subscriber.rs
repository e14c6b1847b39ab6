//! Does a slow subscription change the p99 of a fast one beside it, on the same worker?
//!
//! The fast one is inline; the slow one sleeps a millisecond over each event, on a thread of its own behind a mailbox that is
//! full all the time. Rounds of all forms take turns, so that what the machine does besides meets each alike. A thread that
//! wakes a thousand times a second disturbs its neighbours whatever it has to do with the bus: so the control is the fast
//! subscription alone, with such a thread that subscribes to nothing.
//!
//! With the feature `store` there is a form whose mailbox spills into a journal in memory. A journal has a thread of its own that
//! takes every event: so that form has a control of its own, with the same journal and nobody slow.
//!
//! A machine that others share stands still for milliseconds now and then, and the p99 of a second would be those alone. So a
//! round's p99 is the median of the p99s of its windows, each ten milliseconds long.
//!
//! `-- --others 99` has so many fast ones beside it, and looks at the last of them; with `--judge 1.1` it fails where a slow one
//! makes the p99 more than 1.1 times the control's, and names each form that does. Of 31 rounds the ratio is known to some 5 %, of
//! `--rounds 101` to half of that.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringmain::{Bus, DeliveryMode, Key, Overflow, Publisher, SpillSource, Subscription};
use support::{SMALL, Setup, Words};

/// What the slow subscription takes for an event.
const SLOW_WORK: Duration = Duration::from_millis(1);
/// So small that it is full all the time.
const MAILBOX: usize = 64;
/// Between two events.
const PERIOD_NS: u64 = 20_000;
/// Keys of which the slow one has the newest each.
const KEYS: u64 = 32;
/// Events of which a p99 is taken: 10 ms, in which the slow thread wakes ten times.
const WINDOW: usize = 500;

/// Who is beside the fast subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// A thread that subscribes to nothing.
    Sleeper,
    /// The same, and a journal in memory.
    #[cfg(feature = "store")]
    Journal,
    Slow(DeliveryMode, Overflow),
    /// The newest of each of some keys.
    SlowByKey,
    /// What finds its mailbox full comes back from a journal in memory.
    #[cfg(feature = "store")]
    SlowSpilled,
}

const FORMS: &[(&str, Beside)] = &[
    ("alone", Beside::Nobody),
    ("control: a thread that sleeps", Beside::Sleeper),
    ("best effort, drop newest", Beside::Slow(DeliveryMode::BestEffort, Overflow::DropNewest)),
    ("best effort, drop oldest", Beside::Slow(DeliveryMode::BestEffort, Overflow::DropOldest)),
    ("latest only", Beside::Slow(DeliveryMode::LatestOnly, Overflow::Block)),
    ("latest only, of 32 keys", Beside::SlowByKey),
    ("reliable, full is a dead letter", Beside::Slow(RELIABLE, Overflow::DropNewest)),
    #[cfg(feature = "store")]
    ("control: the same, and a journal", Beside::Journal),
    #[cfg(feature = "store")]
    ("best effort, full is spilled", Beside::SlowSpilled),
];
const RELIABLE: DeliveryMode = DeliveryMode::Reliable { timeout: Duration::from_secs(5) };

impl Beside {
    /// Whether a thread sleeps and wakes that subscribes to nothing.
    fn is_control(self) -> bool {
        #[cfg(feature = "store")]
        if self == Beside::Journal {
            return true;
        }
        self == Beside::Sleeper
    }

    /// Whether a journal takes every event.
    #[cfg(feature = "store")]
    fn has_journal(self) -> bool {
        matches!(self, Beside::Journal | Beside::SlowSpilled)
    }
}

fn main() {
    let setup = Setup::ONE_TO_ONE;
    support::announce(&[setup]);
    let is_test = std::env::args().any(|argument| argument == "--test");
    let after = |flag: &str| {
        let mut arguments = std::env::args().skip_while(|argument| argument != flag);
        arguments.next().map(|_| arguments.next().unwrap_or_default())
    };
    let (rounds, events) = if is_test { (1, 500) } else { (31, 20_000) };
    let rounds = after("--rounds").map_or(rounds, |rounds| rounds.parse().expect("--rounds takes a number"));
    let others = after("--others").map_or(1, |others| others.parse().expect("--others takes a number"));
    eprintln!(
        "{rounds} rounds of {events} events, one each {} us by the clock; the slow thread is not pinned",
        PERIOD_NS / 1_000
    );
    let judge =
        after("--judge").map(|limit| limit.parse::<f64>().expect("--judge takes the largest ratio, such as 1.1"));
    let mut p50s = [const { Vec::new() }; FORMS.len()];
    let mut p99s = [const { Vec::new() }; FORMS.len()];
    for _ in 0..rounds {
        for (nth, (_, beside)) in FORMS.iter().enumerate() {
            let (p50, p99) = by_windows(&mut round(setup, *beside, events, others));
            p50s[nth].push(p50);
            p99s[nth].push(p99);
        }
    }
    println!("{:<34}{:>10}{:>10}{:>22}{:>12}", "beside it", "p50 ns", "p99 ns", "p99, inner half", "to control");
    // Each to the control before it; alone to the first.
    let mut control = 1;
    let mut to_control = Vec::new();
    for (nth, (_, beside)) in FORMS.iter().enumerate() {
        if beside.is_control() {
            control = nth;
        }
        let ratios: Vec<f64> = p99s[nth].iter().zip(&p99s[control]).map(|(here, control)| here / control).collect();
        to_control.push(ratios);
    }
    let mut beyond = Vec::new();
    for (nth, (name, beside)) in FORMS.iter().enumerate() {
        let [_, p50, _] = quartiles(&mut p50s[nth]);
        let [low, p99, high] = quartiles(&mut p99s[nth].clone());
        let [_, ratio, _] = quartiles(&mut to_control[nth].clone());
        println!("{name:<34}{p50:>10.0}{p99:>10.0}{:>22}{ratio:>11.2}x", format!("{low:.0} to {high:.0}"));
        let is_slow = *beside != Beside::Nobody && !beside.is_control();
        if let Some(limit) = judge.filter(|limit| is_slow && ratio > *limit) {
            beyond.push(format!("{name}: {ratio:.2}, more than {limit}"));
        }
    }
    assert!(beyond.is_empty(), "the p99 beside a slow one, of the control's: {}", beyond.join("; "));
}

/// The medians of the windows' p50 and p99.
fn by_windows(times: &mut [u64]) -> (f64, f64) {
    let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
    for window in times.chunks_exact_mut(WINDOW) {
        window.sort_unstable();
        p50s.push(window[WINDOW / 2] as f64);
        p99s.push(window[WINDOW * 99 / 100] as f64);
    }
    (quartiles(&mut p50s)[1], quartiles(&mut p99s)[1])
}

/// From the instant at which each event was due to its end in the fast handler, in nanoseconds.
fn round(setup: Setup, beside: Beside, events: u64, others: usize) -> Vec<u64> {
    let bus = setup.builder().slot_bytes(128).build().expect("the settings are valid");
    let begun = Instant::now();
    let times = Arc::new(Mutex::new(Vec::with_capacity(events as usize)));
    let taken = Arc::clone(&times);
    for _ in 1..others {
        let idle = bus.subscribe(SMALL).on_worker(0).handle(|event, _| {
            std::hint::black_box(event.words[0]);
        });
        idle.expect("the bus runs").forever();
    }
    let fast = bus.subscribe(SMALL).named("fast").on_worker(0).handle(move |event, _| {
        let due = event.words[0].to_native();
        // Nobody else asks for it while events come.
        taken.lock().expect("no holder panics").push((begun.elapsed().as_nanos() as u64).saturating_sub(due));
    });
    fast.expect("the bus runs").forever();
    #[cfg(feature = "store")]
    let journal = beside.has_journal().then(|| {
        // The most that memory keeps.
        let kept = ringmain::store::Durability::Accepted;
        let store = Arc::new(ringmain::store::MemoryStore::new());
        bus.journal(store).durability(kept).start().expect("the bus runs")
    });
    #[cfg(feature = "store")]
    let source = journal.as_ref().map(|journal| journal.spill_source());
    #[cfg(not(feature = "store"))]
    let source = None;
    let slow = slow_consumer(&bus, beside, source);
    let mut publisher = bus.publisher().expect("there is a place");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if beside.is_control() {
            scope.spawn(|| {
                // Relaxed: it only ends the thread.
                while !over.load(Ordering::Relaxed) {
                    sleep(SLOW_WORK);
                }
            });
        }
        support::on_publisher_thread(setup, || publish(&mut publisher, begun, events));
        over.store(true, Ordering::Relaxed);
    });
    drop(publisher);
    if let Some(slow) = slow {
        let id = slow.id();
        let ledger = || bus.subscription(id).expect("it has not ended").ledger;
        if ledger().spilled > 0 {
            // What it still has would take it a while; but the worker is to come to the last event.
            let begun = Instant::now();
            while ledger().matched < events {
                assert!(begun.elapsed() < support::PATIENCE, "the worker stands still: {:?}", ledger());
                std::thread::yield_now();
            }
            slow.unsubscribe().expect("this is no worker");
        } else {
            bus.flush().expect("a mailbox is emptied in less than the deadline");
            let ledger = ledger();
            assert_eq!(ledger.matched, events, "the mailbox was offered every event");
            assert!(ledger.is_balanced() && ledger.delivered < events, "each was handled or given up: {ledger:?}");
        }
    }
    #[cfg(feature = "store")]
    if let Some(journal) = journal {
        journal.close().expect("memory does not fail");
    }
    support::finish(&bus);
    let times = std::mem::take(&mut *times.lock().expect("no holder panics"));
    assert_eq!(times.len() as u64, events, "the fast one had every event");
    times
}

/// An event each period, whether the one before was on time or not.
fn publish(publisher: &mut Publisher, begun: Instant, events: u64) {
    let first = begun.elapsed().as_nanos() as u64 + PERIOD_NS;
    for due in (0..events).map(|nth| first + nth * PERIOD_NS) {
        while (begun.elapsed().as_nanos() as u64) < due {
            std::hint::spin_loop();
        }
        publisher.publish(SMALL, &Words::new(due)).expect("the lane drains");
    }
}

fn slow_consumer(bus: &Bus, beside: Beside, source: Option<Arc<dyn SpillSource>>) -> Option<Subscription> {
    let wish = bus.subscribe(SMALL).named("slow").on_worker(0);
    let wish = match beside {
        Beside::Nobody | Beside::Sleeper => return None,
        #[cfg(feature = "store")]
        Beside::Journal => return None,
        Beside::Slow(DeliveryMode::LatestOnly, overflow) => wish.mode(DeliveryMode::LatestOnly).overflow(overflow),
        Beside::Slow(mode, overflow) => wish.mode(mode).overflow(overflow).capacity(MAILBOX),
        Beside::SlowByKey => {
            // One after the other: an event is due a period after the one before.
            let key = Key::by(|meta| {
                let due = meta.payload().bytes().first_chunk().map(|due| u64::from_le_bytes(*due));
                due.map(|due| due / PERIOD_NS % KEYS)
            });
            wish.mode(DeliveryMode::LatestOnly).latest_by(key).keys_max(KEYS as usize)
        }
        #[cfg(feature = "store")]
        Beside::SlowSpilled => wish.capacity(MAILBOX).spill(source?),
    };
    #[cfg(not(feature = "store"))]
    drop(source);
    Some(wish.handle_on("slow", |_, _| sleep(SLOW_WORK)).expect("the bus runs"))
}

fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
