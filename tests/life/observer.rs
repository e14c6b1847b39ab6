//! What observers hear, with every name and number in it, and that they can hurt nobody.

use std::time::{Duration, Instant};

use ringmain::{Bus, Notice, Payload};

#[cfg(target_os = "linux")]
use crate::forbidden;
use crate::support::{Latch, Notices, PATIENCE, Seen, assert_books, number, shut_down_clean, simulate};

const NOTHING: Payload<'static> = Payload::raw(b"");

/// Works for so long. A handler has to take its time to be slow.
fn work(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

type Slow = (String, String, String, String, Duration, u64);

fn slow_handlers() -> (Seen<Slow>, impl Fn(&Notice<'_>) + Send + Sync) {
    let seen: Seen<Slow> = Seen::default();
    let observer = seen.clone();
    (seen, move |notice: &Notice<'_>| {
        if let Notice::SlowHandler { subscription, name, pattern, event, elapsed, lag } = notice {
            let texts = (subscription.to_string(), name.to_string(), pattern.to_string(), event.to_string());
            observer.push((texts.0, texts.1, texts.2, texts.3, *elapsed, *lag));
        }
    })
}

#[test]
fn a_slow_handler_is_named_with_its_event_and_what_waits_behind() {
    const TIME: Duration = Duration::from_millis(3);
    let (seen, observer) = slow_handlers();
    let builder = Bus::builder().workers(1).slow_handler_threshold(TIME).observer(observer);
    let bus = builder.build().unwrap();
    let made = bus.subscribe("a.*").named("slowpoke").handle(|payload, _| {
        if number(payload) == 7 {
            work(TIME);
        }
    });
    let made = made.unwrap();
    let ids = bus
        .publisher()
        .unwrap()
        .publish_batch("a.b", (0..20_u64).map(u64::to_le_bytes).collect::<Vec<_>>().iter().map(|it| Payload::raw(it)))
        .unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    shut_down_clean(&bus);
    // A busy machine may make others slow too.
    let slow = seen.take();
    let (id, name, pattern, _, elapsed, lag) =
        slow.iter().find(|(_, _, _, event, ..)| *event == ids[7].to_string()).expect("the slow call was reported");
    assert_eq!((id.as_str(), name.as_str(), pattern.as_str()), (made.id().to_string().as_str(), "slowpoke", "a.*"));
    assert!(*elapsed >= TIME, "{elapsed:?}");
    // This event, and the twelve behind it.
    assert!((12..=13).contains(lag), "{lag}");
}

#[test]
fn a_slow_handler_on_its_own_thread_is_named_too() {
    const TIME: Duration = Duration::from_millis(3);
    let (seen, observer) = slow_handlers();
    let bus = Bus::builder().workers(1).slow_handler_threshold(TIME).observer(observer).build().unwrap();
    let all_there = Latch::default();
    let handler = {
        let all_there = all_there.clone();
        move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
            all_there.pass();
            work(TIME);
        }
    };
    let made = bus.subscribe("a").named("slowpoke").handle_on("own", handler).unwrap();
    let ids = bus.publisher().unwrap().publish_batch("a", [NOTHING; 3]).unwrap();
    let is_there = || {
        let ledger = made.record().ledger;
        ledger.queued + ledger.in_flight == 3
    };
    while !is_there() {
        std::thread::yield_now();
    }
    all_there.open();
    bus.flush_deadline(PATIENCE).unwrap();
    let slow = seen.take();
    let events: Vec<_> = slow.iter().map(|(_, _, _, event, ..)| event.clone()).collect();
    assert_eq!(events, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(
        slow.iter().all(|(_, name, pattern, _, elapsed, _)| name == "slowpoke" && pattern == "a" && *elapsed >= TIME)
    );
    let lags: Vec<_> = slow.iter().map(|(.., lag)| *lag).collect();
    assert_eq!(lags, [2, 1, 0], "events waiting in its mailbox");
    drop(made);
    shut_down_clean(&bus);
}

#[test]
fn failures_and_panics_are_named_and_counted_and_the_next_event_is_handled() {
    let seen = Seen::default();
    let observe = || {
        let seen = seen.clone();
        move |notice: &Notice<'_>| match notice {
            Notice::HandlerFailed { name, event, error, .. } => seen.push(format!("{name} {event} failed: {error}")),
            Notice::HandlerPanicked { name, event, .. } => seen.push(format!("{name} {event} panicked")),
            other => seen.push(format!("{other:?}")),
        }
    };
    let handler = |payload: Payload<'_>, _: &ringmain::Meta<'_>| match payload.bytes() {
        b"fail" => Err("not today"),
        b"panic" => panic!("contained"),
        _ => Ok(()),
    };
    for own_thread in [false, true] {
        // The text of a backtrace may take a busy machine longer than a handler should.
        let builder = Bus::builder().workers(1).pin(false).slow_handler_threshold(PATIENCE);
        let bus = builder.observer(observe()).build().unwrap();
        let subscribe = bus.subscribe("a").named("moody");
        let made = if own_thread { subscribe.handle_on("own", handler) } else { subscribe.handle(handler) }.unwrap();
        let mut publisher = bus.publisher().unwrap();
        let ids = ["fine", "fail", "panic", "fine"]
            .map(|text| publisher.publish("a", Payload::raw(text.as_bytes())).unwrap());
        bus.flush_deadline(PATIENCE).unwrap();
        assert_eq!(
            seen.take(),
            [format!("moody {} failed: not today", ids[1]), format!("moody {} panicked", ids[2])],
            "on a thread of its own: {own_thread}"
        );
        let record = made.record();
        assert_eq!((record.delivery_count, record.error_count), (2, 2));
        shut_down_clean(&bus);
    }
}

#[test]
fn an_error_without_a_text_is_a_failure_that_is_observed_too() {
    for own_thread in [false, true] {
        let notices = Notices::default();
        let bus = Bus::builder().workers(1).pin(false).observer(notices.clone()).build().unwrap();
        let handler = |_: Payload<'_>, _: &ringmain::Meta<'_>| Err::<(), _>("");
        let subscribe = bus.subscribe("a");
        let made = if own_thread { subscribe.handle_on("own", handler) } else { subscribe.handle(handler) }.unwrap();
        bus.publish("a", NOTHING).unwrap();
        bus.flush_deadline(PATIENCE).unwrap();
        assert_eq!((made.record().error_count, notices.count("HandlerFailed")), (1, 1), "own thread: {own_thread}");
        shut_down_clean(&bus);
    }
}

#[test]
fn a_consumer_that_panics_takes_its_subscription_with_it_and_is_named() {
    let seen = Seen::default();
    let simulation = simulate(Bus::builder().workers(1).observer({
        let seen = seen.clone();
        move |notice: &Notice<'_>| {
            if let Notice::ConsumerGone { subscription, name, panicked } = notice {
                seen.push((*subscription, name.to_string(), *panicked));
            }
        }
    }));
    let bus = simulation.bus();
    let mailbox = bus.subscribe("a").named("gone").mailbox().unwrap();
    let id = mailbox.id();
    let panicked = std::thread::spawn(move || {
        let _mailbox = mailbox;
        panic!("the consumer's own");
    });
    assert!(panicked.join().is_err());
    assert_eq!(seen.take(), [(id, "gone".to_owned(), true)]);
    assert_eq!((bus.subscriptions().len(), bus.metrics().consumers_gone), (0, 1));
    let dropped = bus.subscribe("a").mailbox().unwrap();
    let id = dropped.id();
    drop(dropped);
    assert_eq!(seen.take(), [(id, "a".to_owned(), false)], "an orderly end is told apart");
    assert_books(bus);
}

#[test]
fn sixteen_workers_on_fewer_cores_say_that_they_run_unpinned() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers = 16;
    let notices = Notices::default();
    let bus = Bus::builder().workers(workers).observer(notices.clone()).build().unwrap();
    let quiet = Notices::default();
    let unpinned = Bus::builder().workers(workers).pin(false).observer(quiet.clone()).build().unwrap();
    shut_down_clean(&bus);
    shut_down_clean(&unpinned);
    assert_eq!(notices.count("Unpinned"), usize::from(cores < workers), "{cores} cores");
    assert_eq!(quiet.count("Unpinned"), 0, "nobody asked for cores");
}

/// What a system refuses that lets nobody choose a core.
#[cfg(target_os = "linux")]
#[test]
fn a_system_that_refuses_every_core_is_told_of_once_a_bus() {
    let told = std::thread::spawn(|| {
        if !forbidden::forbid(libc::SYS_sched_setaffinity) {
            eprintln!("SKIP: this kernel lets no thread filter its system calls");
            return;
        }
        // Workers are threads of this one, and what is forbidden to it is to them.
        for workers in [1, 2, 16] {
            let notices = Notices::default();
            let bus = Bus::builder().workers(workers).observer(notices.clone()).build().unwrap();
            let got = bus.subscribe("a").handle(|_, _| {}).unwrap();
            bus.publish("a", NOTHING).unwrap();
            bus.flush_deadline(PATIENCE).unwrap();
            assert_eq!(got.record().delivery_count, 1, "it works");
            shut_down_clean(&bus);
            assert_eq!(notices.count("Unpinned"), 1, "{workers} workers");
        }
    });
    told.join().unwrap();
}

#[test]
fn an_observer_that_panics_harms_nothing_and_the_next_one_is_told() {
    let notices = Notices::default();
    let builder = Bus::builder().workers(1).pin(false).observer(|_: &Notice<'_>| panic!("the observer's own"));
    let bus = builder.observer(notices.clone()).build().unwrap();
    let made = bus.subscribe("a").handle(|_, _| Err::<(), _>("no")).unwrap();
    for _ in 0..3 {
        bus.publish("a", NOTHING).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!((made.record().error_count, notices.count("HandlerFailed")), (3, 3));
    shut_down_clean(&bus);
}
