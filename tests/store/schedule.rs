//! Scheduled events: each is published when it is due, in order, also by the process after the one that was killed.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::store::{
    DurableError, LeaseError, LogStore, MemoryStore, NameError, PublishedDue, Schedule, ScheduleError, ScheduledEvent,
    StateStore,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, Frame, FullPolicy, Payload, PublishError, Publisher};

use crate::books::{assert_balanced, assert_settled};
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};

/// Makes an empty store.
type Make<'a> = &'a dyn Fn() -> Arc<dyn StateStore>;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn frame(publisher: &mut Publisher, text: &str) -> Frame {
    publisher.event().to_frame("a", Payload::plain_text(text)).unwrap()
}

#[test]
fn a_schedule_in_memory_is_kept() {
    run(&|| Arc::new(MemoryStore::new()));
}

#[test]
fn a_schedule_on_disk_is_kept() {
    let folder = Folder::new("schedule");
    let stores = std::cell::Cell::new(0);
    run(&|| {
        stores.set(stores.get() + 1);
        store(&folder.0.join(stores.get().to_string()))
    });
}

fn run(make: Make<'_>) {
    events_are_published_when_they_are_due_in_that_order(make);
    a_refused_event_is_the_next_again_and_an_expired_one_is_gone(make);
    an_id_is_given_once_also_when_nothing_waits(make);
    who_publishes_keeps_nobody_from_the_schedule(make);
}

fn events_are_published_when_they_are_due_in_that_order(make: Make<'_>) {
    let bus = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut inbox = bus.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = bus.bus().publisher().unwrap();
    let state = make();
    let open = |name| Schedule::open(name, Arc::clone(&state)).unwrap();
    let schedule = open("mine");
    // Names that keys of others begin with.
    let others = [open(""), open("min"), open("minee")];
    for other in &others {
        other.add(at(1), &frame(&mut publisher, "another's")).unwrap();
    }
    let before_1970 = UNIX_EPOCH - Duration::from_secs(5);
    for (due, text) in
        [(at(20), "c"), (at(10), "a"), (at(20), "d"), (at(15), "b"), (at(15), "cancelled"), (before_1970, "0")]
    {
        schedule.add(due, &frame(&mut publisher, text)).unwrap();
    }
    assert_eq!((schedule.len(), schedule.next_due()), (6, Some(before_1970)));
    assert!(schedule.cancel(5).unwrap() && !schedule.cancel(5).unwrap());

    let mut step = |schedule: &Schedule, now| {
        let mut left = schedule.len();
        let done = schedule.publish_due(at(now), |event| {
            assert_eq!(schedule.len(), left, "it is there until it is published");
            left -= 1;
            publisher.publish_frame(&event.frame)
        });
        let done = done.unwrap();
        bus.run();
        let texts = std::iter::from_fn(|| Some(inbox.try_recv().ok()?.payload().text()?.to_owned()));
        let texts: Vec<_> = texts.collect();
        assert_eq!((done.published, done.expired, done.has_more), (texts.len(), 0, false));
        texts.concat()
    };
    assert_eq!(step(&schedule, 14), "0a");
    drop(schedule);
    let schedule = open("mine");
    let listed = schedule.list(10).unwrap();
    let listed: Vec<_> =
        listed.iter().map(|event| (event.id, event.due, event.frame.payload().text().unwrap())).collect();
    assert_eq!(listed, [(4, at(15), "b"), (1, at(20), "c"), (3, at(20), "d")]);
    assert_eq!(step(&schedule, 14), "");
    assert_eq!(step(&schedule, 20), "bcd");
    assert!(schedule.is_empty() && schedule.next_due().is_none());
    let second = Schedule::open("mine", Arc::clone(&state)).unwrap_err();
    assert!(matches!(second, ScheduleError::Name(NameError::Lease(LeaseError::Taken { .. }))), "{second:?}");
    drop((schedule, others));
    assert!(open("mine").is_empty());
    assert_eq!(open("min").len(), 1);
    let long = Schedule::open(&"x".repeat(256), Arc::clone(&state)).unwrap_err();
    assert_eq!(long.to_string(), "the name has 256 bytes, the limit is 255; shorten it");
}

fn an_id_is_given_once_also_when_nothing_waits(make: Make<'_>) {
    let event = Writer::new().frame("a", |event| event);
    let state = make();
    let open = || Schedule::open("", Arc::clone(&state)).unwrap();
    {
        let schedule = open();
        let ids = [at(3), at(2), at(1)].map(|due| schedule.add(due, &event).unwrap());
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(schedule.publish_due(at(9), |_| Ok::<_, PublishError>(())).unwrap().published, 3);
    }
    {
        let schedule = open();
        assert_eq!((schedule.len(), schedule.add(at(1), &event).unwrap()), (0, 4));
        assert_eq!(schedule.add(at(1), &event).unwrap(), 5);
        assert!(schedule.cancel(4).unwrap() && schedule.cancel(5).unwrap());
    }
    assert_eq!(open().add(at(1), &event).unwrap(), 6);
}

fn who_publishes_keeps_nobody_from_the_schedule(make: Make<'_>) {
    let event = Writer::new().frame("a", |event| event);
    let schedule = Schedule::open("", make()).unwrap();
    for due in [1, 2, 3] {
        schedule.add(at(due), &event).unwrap();
    }
    let mut published = Vec::new();
    let done = schedule.publish_due(at(3), |due| {
        published.push(due.id);
        if due.id == 1 {
            let nested = schedule.publish_due(at(3), |_| -> Result<(), PublishError> { panic!("one at a time") });
            assert!(matches!(nested.unwrap(), PublishedDue { published: 0, is_elsewhere: true, .. }));
            assert!(!schedule.cancel(1).unwrap(), "it is being published");
            // Another thread finds no lock either.
            thread::scope(|scope| scope.spawn(|| assert!(schedule.cancel(2).unwrap())).join()).unwrap();
            assert_eq!(schedule.add(at(2), &event).unwrap(), 4);
        }
        if due.id == 3 { Err("not now") } else { Ok(()) }
    });
    assert_eq!(done.unwrap_err().to_string(), "scheduled event 3 was not published and stays: not now");
    assert_eq!(published, [1, 4, 3]);
    let panicking = || schedule.publish_due(at(3), |_| -> Result<(), PublishError> { panic!() });
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    let done = schedule.publish_due(at(3), |_| Ok::<_, PublishError>(())).unwrap();
    assert_eq!((done.published, done.has_more, done.is_elsewhere, schedule.len()), (1, false, false, 0));
}

fn a_refused_event_is_the_next_again_and_an_expired_one_is_gone(make: Make<'_>) {
    let builder = Bus::builder().workers(1).max_queue_size(2).when_full(FullPolicy::REJECT);
    let bus = Simulation::new(builder, 1).unwrap();
    let _inbox = bus.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = bus.bus().publisher().unwrap();
    let schedule = Schedule::open("", make()).unwrap().events_max(4);
    let expiring = publisher.event().expires_after(Duration::from_secs(1));
    schedule.add(at(1), &expiring.to_frame("a", Payload::json("1")).unwrap()).unwrap();
    for _ in 0..3 {
        schedule.add(at(2), &frame(&mut publisher, "x")).unwrap();
    }
    let refused = schedule.add(at(2), &frame(&mut publisher, "x")).unwrap_err();
    assert!(matches!(refused, ScheduleError::TooMany { max: 4 }), "{refused:?}");
    bus.advance(Duration::from_secs(3_600));
    // What wraps the refusal of a bus is that refusal.
    let mut publish = |event: &ScheduledEvent| publisher.publish_frame(&event.frame).map_err(DurableError::Publish);
    let refused = schedule.publish_due(at(2), &mut publish).unwrap_err();
    assert!(matches!(refused, ScheduleError::Publish { id: 4, .. }), "{refused:?}");
    assert_eq!(schedule.len(), 1, "the first has expired, two were published");
    bus.run();
    assert_eq!(schedule.publish_due(at(2), &mut publish).unwrap().published, 1);
    assert_balanced(bus.bus());
}

const THIS: &str = "schedule::scheduled_events_survive_a_killed_process_and_are_published_by_the_next";

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().expect("it can be opened"))
}

/// Schedules events until it is killed, each before those that it scheduled before.
fn child(folder: &Path) -> ! {
    let schedule = Schedule::open("", store(folder)).unwrap();
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut stdout = std::io::stdout().lock();
    loop {
        let event = frame(&mut publisher, "x");
        let due = 1_000_000 - schedule.len() as u64;
        let id = schedule.add(at(due), &event).unwrap();
        writeln!(stdout, "\nscheduled {id} {}", event.meta().id()).unwrap();
    }
}

#[test]
fn scheduled_events_survive_a_killed_process_and_are_published_by_the_next() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("schedule-kill");
    let mut acknowledged = BTreeMap::new();
    for kill in 0..5 {
        kill_after(1 + 7 * kill, THIS, &folder.0, |line| {
            let words = line.strip_prefix("scheduled ").and_then(|rest| rest.split_once(' '));
            let Some((id, event)) = words else { return false };
            let before = acknowledged.insert(id.parse::<u64>().unwrap(), event.to_owned());
            assert!(before.is_none(), "no number is given twice");
            true
        });
    }
    let schedule = Schedule::open("", store(&folder.0)).unwrap();
    let bus = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut inbox = bus.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = bus.bus().publisher().unwrap();
    let waiting = schedule.list(usize::MAX).unwrap();
    let ids: BTreeMap<_, _> = waiting.iter().map(|event| (event.id, event.frame.meta().id().to_string())).collect();
    assert!(acknowledged.iter().all(|(id, event)| ids.get(id) == Some(event)));
    let mut published = Vec::new();
    let mut publish = |event: &ScheduledEvent| publisher.publish_frame(&event.frame);
    while schedule.publish_due(at(2_000_000), &mut publish).unwrap().published > 0 {
        bus.run();
        published.extend(std::iter::from_fn(|| Some(inbox.try_recv().ok()?.meta().id())));
    }
    assert!(published.into_iter().eq(waiting.iter().map(|event| event.frame.meta().id())), "each once, in order");
    assert_settled(bus.bus());
    drop(schedule);
    assert!(Schedule::open("", store(&folder.0)).unwrap().is_empty());
}
