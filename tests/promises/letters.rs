//! Dead letters are kept as long as there is room for them, whoever looks at them, and their books say where each is.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DeadLetter, DeadLetterFilter, DeadReason, DeliveryMode, Notice, Outcome, Overflow, Payload, RedriveError,
    RetryPolicy,
};

use super::support::{Log, assert_books, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

fn once() -> RetryPolicy {
    RetryPolicy::default().attempts_max(1)
}

#[test]
fn no_letter_goes_below_the_limits_while_somebody_lists_in_a_loop() {
    watched(|| {
        let notices = Log::new();
        let heard = notices.clone();
        let observer = move |notice: &Notice<'_>| {
            if matches!(notice, Notice::DeadLettersOverflow { .. }) {
                heard.add(format!("{notice:?}"));
            }
        };
        let bus = Bus::builder().workers(1).observer(observer).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
        let _made = wish.handle(|_, _| Outcome::Reject("no".to_owned())).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let looker = {
            let (letters, stop) = (bus.dead_letters(), Arc::clone(&stop));
            std::thread::spawn(move || {
                // Relaxed: it is looked at until it is seen.
                while !stop.load(Ordering::Relaxed) {
                    letters.list(&DeadLetterFilter::new());
                }
            })
        };
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..4_900 {
            publisher.publish("a", BODY).unwrap();
        }
        bus.flush().unwrap();
        // Relaxed: see above.
        stop.store(true, Ordering::Relaxed);
        looker.join().unwrap();
        let counts = bus.dead_letters().counts();
        assert_eq!((counts.held, counts.discarded, counts.is_balanced()), (4_900, 0, true));
        let listed = bus.dead_letters().list(&DeadLetterFilter::new());
        assert!(listed.iter().map(|letter| letter.id()).eq(1..=4_900));
        assert_eq!(notices.take(), [""; 0]);
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn a_bus_that_has_stopped_sends_no_letter_back() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
    let _made = wish.handle(|_, _| Outcome::Reject("no".to_owned())).unwrap();
    bus.publish("a", BODY).unwrap();
    simulation.run();
    let (letters, all) = (bus.dead_letters(), DeadLetterFilter::new());
    bus.shutdown().unwrap();
    let before = letters.counts();
    assert_eq!(letters.redrive(1), Err(RedriveError::ShuttingDown { id: 1 }));
    let report = letters.redrive_all(&all, Duration::ZERO).unwrap().wait();
    assert_eq!((report.redriven, report.left), (0, 1), "and does not begin with many");
    assert_eq!((letters.counts(), letters.list(&all)[0].reason()), (before, DeadReason::Rejected));
    assert_books(bus);
}

#[test]
fn a_letter_whose_subscription_ends_while_it_is_on_its_way_back_is_the_same_letter_again() {
    let notices = Log::new();
    let heard = notices.clone();
    let observer = move |notice: &Notice<'_>| match notice {
        Notice::LetterReturned { letter, name, event, .. } => heard.add((*letter, (*name).to_owned(), *event)),
        Notice::DeadLettered { letter, .. } => assert_eq!(*letter, 1, "the event dies once"),
        _ => {}
    };
    let simulation = Simulation::new(Bus::builder().workers(1).observer(observer), 1).unwrap();
    let (bus, all) = (simulation.bus(), DeadLetterFilter::new());
    let wish = bus.subscribe("a").named("bank").mode(DeliveryMode::reliable()).retry(once());
    let mut inbox = wish.mailbox().unwrap();
    let event = bus.publish("a", BODY).unwrap();
    simulation.run();
    inbox.try_recv().unwrap().fail("the bank does not answer");
    let letters = bus.dead_letters();
    let (before, story) = (letters.counts(), letters.list(&all).remove(0));
    letters.redrive(1).unwrap();
    drop(inbox);
    simulation.run();
    let again = letters.list(&all).remove(0);
    assert_eq!((again.id(), again.reason(), again.attempts()), (1, DeadReason::AttemptsExhausted, 1));
    assert_eq!((again.error(), again.first_attempt().is_some()), (Some("the bank does not answer"), true));
    assert_eq!((again.first_attempt(), again.died()), (story.first_attempt(), story.died()));
    assert_eq!((letters.counts(), notices.take()), (before, vec![(1, "bank".to_owned(), event)]));
    assert_eq!(bus.ledger().subscriptions.dead_lettered, 1);
    assert_books(bus);
}

#[test]
fn letters_on_their_way_back_are_in_the_books_until_they_have_a_place_in_the_mailbox() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once()).capacity(4).mailbox().unwrap();
    for _ in 0..10 {
        bus.publish("a", BODY).unwrap();
    }
    let letters = bus.dead_letters();
    let books = || {
        let counts = letters.counts();
        assert!(counts.is_balanced() && bus.ledger().is_balanced(), "{counts:?}");
        (counts.held, counts.returning, counts.redriven, bus.ledger().subscriptions.open())
    };
    while letters.len() < 10 {
        simulation.run();
        while let Ok(delivery) = inbox.try_recv() {
            delivery.fail("no");
        }
    }
    let before = bus.memory().dead_letters_bytes;
    assert_eq!(letters.redrive_all(&DeadLetterFilter::new(), Duration::ZERO).unwrap().wait().redriven, 10);
    assert_eq!(books(), (0, 10, 0, 0));
    assert_eq!(bus.memory().dead_letters_bytes, before, "they are in memory still");
    simulation.run();
    assert_eq!(books(), (0, 6, 4, 4));
    drop(inbox);
    simulation.run();
    assert_eq!(books(), (10, 0, 4, 0), "six came back, and four died again");
    assert_eq!(letters.counts().total, 14);
    assert_books(bus);
}

#[test]
fn however_many_redrives_are_under_way_they_take_one_thread_and_go_on_side_by_side() {
    watched(|| {
        let bus = Bus::builder().workers(1).redrives_max(101).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
        let mut inbox = wish.capacity(1_024).mailbox().unwrap();
        for _ in 0..300 {
            bus.publish("a", BODY).unwrap();
        }
        for _ in 0..300 {
            inbox.recv().unwrap().fail("no");
        }
        let letters = bus.dead_letters();
        let redrive_threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let names = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
            names.filter(|name| name.trim_end() == "redrive").count()
        };
        let hour = Duration::from_secs(3_600);
        let slow: Vec<_> = (0..100).map(|_| letters.redrive_all(&DeadLetterFilter::new(), hour).unwrap()).collect();
        // The first letter is the same for all, and goes back once; then each has its pause.
        while slow.iter().any(|redrive| redrive.report().left == 300) {
            std::thread::yield_now();
        }
        // Other tests that run just now may have one, too.
        assert!(redrive_threads() < 10, "{} threads for 100 redrives", redrive_threads());
        let fast = letters.redrive_all(&DeadLetterFilter::new().after(250), Duration::ZERO).unwrap().wait();
        assert_eq!((fast.redriven + fast.stayed.len(), fast.left), (50, 0), "nobody waits for those that pause");
        slow[0].cancel();
        assert!(slow[0].is_over() && !slow[1].is_over());
        bus.shutdown().unwrap();
        assert!(slow.iter().all(|redrive| redrive.is_over()));
        assert_books(&bus);
    });
}

#[test]
fn metrics_hold_no_letter_that_has_expired_though_nobody_looks_at_the_letters() {
    let expiry = Duration::from_secs(1);
    let simulation = Simulation::new(Bus::builder().workers(1).dead_letter_expiry(expiry), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
    let _made = wish.handle(|_, _| Outcome::Reject("no".to_owned())).unwrap();
    bus.publish("a", BODY).unwrap();
    simulation.run();
    assert_eq!(bus.metrics().dead_letters.held, 1);
    simulation.advance(expiry);
    let counts = bus.metrics().dead_letters;
    assert_eq!((counts.held, counts.bytes, counts.expired, counts.is_balanced()), (0, 0, 1, true));
    assert_books(bus);
}

/// A sink that stops at its first letter until it is let go, and counts.
#[derive(Clone, Default)]
struct Stopped(Arc<(Mutex<(bool, u64)>, Condvar)>);

impl Stopped {
    fn sink(&self) -> impl Fn(&Arc<DeadLetter>) + Send + Sync + 'static {
        let Self(shared) = self.clone();
        move |_: &Arc<DeadLetter>| {
            let mut state = shared.1.wait_while(shared.0.lock().unwrap(), |(goes, _)| !*goes).unwrap();
            state.1 += 1;
        }
    }

    fn go(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    fn heard(&self) -> u64 {
        self.0.0.lock().unwrap().1
    }
}

#[test]
fn no_event_dies_whose_letter_the_sink_has_no_room_for() {
    watched(|| {
        let stopped = Stopped::default();
        let builder = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(stopped.sink());
        let bus = builder.dead_letter_sink_max(4).build().unwrap();
        let calls = Log::new();
        let called = calls.clone();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once()).capacity(64);
        let rejecting = wish.handle_on("rejecting", move |_, _| {
            called.add(());
            Outcome::Reject("no".to_owned())
        });
        let rejecting = rejecting.unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..40 {
            publisher.publish("a", BODY).unwrap();
        }
        // One in the hands of the sink, four that wait; the rest is handed out again and again.
        while bus.dead_letters().counts().total < 5 {
            std::thread::yield_now();
        }
        let before = calls.len();
        while calls.len() < before + 60 {
            std::thread::yield_now();
        }
        let (counts, ledger) = (bus.dead_letters().counts(), rejecting.ledger());
        assert_eq!((counts.total, counts.waiting, counts.unheard, stopped.heard()), (5, 4, 0, 0), "{counts:?}");
        // Its open events move while they are counted: where they are adds up when it rests.
        assert_eq!(ledger.dead_lettered, 5, "{ledger:?}");
        stopped.go();
        bus.flush().unwrap();
        let counts = bus.dead_letters().counts();
        assert_eq!((stopped.heard(), counts.total, counts.waiting, counts.unheard), (40, 40, 0, 0), "{counts:?}");
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn an_event_whose_time_is_over_is_handed_out_again_while_the_sink_has_no_room() {
    watched(|| {
        let stopped = Stopped::default();
        let builder = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(stopped.sink());
        let bus = builder.dead_letter_sink_max(1).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
        let mut mailbox = wish.handler_timeout(Duration::from_millis(20)).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..3 {
            publisher.publish("a", BODY).unwrap();
        }
        // One in the hands of the sink, and one that waits.
        for (total, waiting) in [(1, 0), (2, 1)] {
            mailbox.recv().unwrap().reject("no");
            while Some(bus.dead_letters().counts())
                .is_none_or(|counts| (counts.total, counts.waiting) != (total, waiting))
            {
                std::thread::yield_now();
            }
        }
        // Nobody settles it in time.
        let third = mailbox.recv().unwrap();
        let again = mailbox.recv().unwrap();
        assert_eq!(again.meta().id(), third.meta().id());
        stopped.go();
        while bus.dead_letters().counts().waiting > 0 {
            std::thread::yield_now();
        }
        drop((third, again));
        // It may be taken away before it is rejected, and dies then.
        while bus.dead_letters().counts().total < 3 {
            if let Ok(event) = mailbox.recv_deadline(Duration::from_millis(5)) {
                event.reject("no");
            }
        }
        bus.flush().unwrap();
        assert_eq!((stopped.heard(), bus.dead_letters().counts().total), (3, 3));
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn what_cannot_stay_has_as_much_room_again_and_is_counted_beyond() {
    watched(|| {
        let stopped = Stopped::default();
        let builder = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(stopped.sink());
        let bus = builder.dead_letter_sink_max(4).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).capacity(2).overflow(Overflow::DropNewest);
        let mailbox = wish.mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..30 {
            publisher.publish("a", BODY).unwrap();
        }
        while bus.dead_letters().counts().total < 28 {
            std::thread::yield_now();
        }
        let counts = bus.dead_letters().counts();
        // Whether the first was in the hands of the sink before the others came is not said.
        assert!((8..=9).contains(&(28 - counts.unheard)) && counts.waiting <= 8, "{counts:?}");
        assert_eq!(counts.unheard_stored, 0);
        stopped.go();
        drop(mailbox);
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

/// Errors, each the source of the one before.
#[derive(Debug)]
struct Chain(&'static str, Option<Box<Chain>>);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        // As errors do that tell of their sources themselves when they are asked to.
        match &self.1 {
            Some(source) if f.alternate() => write!(f, " because {source:#}"),
            _ => Ok(()),
        }
    }
}

impl Error for Chain {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

fn chain(texts: &[&'static str]) -> Chain {
    let (last, before) = texts.split_last().unwrap();
    before.iter().rev().fold(Chain(last, None), |source, text| Chain(text, Some(Box::new(source))))
}

static LONG: LazyLock<String> = LazyLock::new(|| "é".repeat(600));

#[test]
fn a_letter_tells_the_error_and_its_sources() {
    let simulation = Simulation::new(Bus::builder().workers(1), 7).unwrap();
    let bus = simulation.bus();
    let wish = || bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once());
    let texts = ["not paid", "no bank", "host down"];
    let _made = [
        wish().named("1").handle(move |_, _| Err::<(), _>(chain(&texts))).unwrap(),
        wish().named("2").handle(move |_, _| Outcome::failed(&chain(&texts))).unwrap(),
        wish().named("3").handle(move |_, _| Outcome::rejected(&chain(&texts[..2]))).unwrap(),
        wish().named("4").handle(|_, _| Outcome::failed(&chain(&["a: b", "b"]))).unwrap(),
        wish().named("5").handle(|_, _| Outcome::failed(&chain(&["xy"; 40]))).unwrap(),
        wish().named("6").handle(|_, _| Outcome::failed(&chain(&["long ", &LONG]))).unwrap(),
    ];
    bus.publish("a", BODY).unwrap();
    simulation.run();
    let mut letters = bus.dead_letters().list(&DeadLetterFilter::new());
    letters.sort_by_key(|letter| letter.subscription_name().to_owned());
    let errors: Vec<_> = letters.iter().map(|letter| letter.error().unwrap()).collect();
    assert_eq!(errors[0], "not paid because no bank because host down", "as it says itself");
    assert_eq!(errors[1..5], ["not paid: no bank: host down", "not paid: no bank", "a: b", "xy"]);
    assert!(errors[5].starts_with("long : é") && (1_023..=1_024).contains(&errors[5].len()), "the first of it");
    assert_eq!((letters[1].reason(), letters[2].reason()), (DeadReason::AttemptsExhausted, DeadReason::Rejected));
    assert_books(bus);
}

/// An error that is its own source.
#[derive(Debug)]
struct Round(AtomicU32);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Error for Round {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

#[test]
fn sources_that_go_round_come_to_an_end() {
    let Outcome::Failed(text) = Outcome::failed(&Round(AtomicU32::new(10))) else { panic!("it failed") };
    assert_eq!(text.split(": ").count(), 17, "{text}");
}
