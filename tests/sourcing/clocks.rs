//! A real wall clock that is set back and forth, in this process and between two: what is to come comes when its time has passed.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringmain::sourcing::{Executed, Heard, Persist, Saga, SagaPhase, Sagas, Step};
use ringmain::store::{
    Begun, Durability, EventStore, ExpectedVersion, HandledWindow, LogStore, MemoryStore, Retention, Schedule,
    StateStore, steady_now,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, EventId, Frame, Payload};

use super::another_clock::{set, under_another_clock};
use super::books::assert_books;
use super::folder::Folder;

const HOUR: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: [&str; 4] = ["-1h", "+3650d", "-3650d", "+0"];

struct Empty;

impl Persist for Empty {
    fn to_bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(Vec::new())
    }

    fn of_bytes(_: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }
}

/// Waits for an event, so long at most.
fn waiting(name: &str, timeout: Duration) -> Saga<Empty> {
    let step = Step::new("wait", |_: &mut Empty, _| Ok(Executed::Waiting)).hear(|_, _, _| Ok(Heard::Done));
    Saga::new(name, 1).step(step.timeout(timeout))
}

fn frame() -> Frame {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let frame = simulation.bus().publisher().unwrap().event().to_frame("a", Payload::raw(&[0; 2_000])).unwrap();
    assert_books(simulation.bus());
    frame
}

const THIS: &str = "clocks::a_wall_clock_that_is_set_brings_nothing_forward_and_puts_nothing_off";

#[test]
fn a_wall_clock_that_is_set_brings_nothing_forward_and_puts_nothing_off() {
    under_another_clock(THIS, "+0", &[], |file| {
        let folder = Folder::new("set-clocks");
        let builder = LogStore::builder(&folder.0).segment_bytes(8_192).event_bytes_max(3_000);
        let events = builder.retention(Retention::forever()).open().unwrap();
        for _ in 0..20 {
            events.append(&[frame()], ExpectedVersion::Any, Durability::Durable).unwrap();
        }
        let state: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let mut long = Sagas::open(waiting("long", HOUR), Arc::clone(&state)).unwrap();
        long.start("7", Empty).unwrap();
        let due = long.next_due().unwrap();
        let schedule = Schedule::open("reminders", Arc::clone(&state)).unwrap();
        schedule.add(steady_now() + HOUR, &frame()).unwrap();
        let handled = HandledWindow::open("bank", Arc::clone(&state)).unwrap().time(HOUR);
        let known = EventId::random();
        let Begun::First(handling) = handled.begin(known, steady_now()).unwrap() else { panic!("it is new") };
        handling.keep(&[], Durability::Accepted).unwrap();
        let _name = state.lease("a name").unwrap();
        let (begun, at) = (Instant::now(), steady_now());
        for (nth, step) in STEPS.into_iter().enumerate() {
            let before = SystemTime::now();
            set(file, step);
            let moved = SystemTime::now().duration_since(before).unwrap_or_else(|error| error.duration());
            assert!(moved > HOUR / 2, "{step}: it was set, or this test shows nothing");
            let passed = steady_now().duration_since(at).unwrap();
            assert!(passed.abs_diff(begun.elapsed()) < HOUR / 60, "{step}: {passed:?}");
            // What is due in an hour is still to come.
            assert!(long.run_due().sagas.is_empty() && long.next_due() == Some(due), "{step}");
            assert_eq!(publish_due(&schedule), 0, "{step}");
            assert!(matches!(handled.begin(known, steady_now()).unwrap(), Begun::Handled), "{step}");
            assert!(state.lease("a name").is_err(), "{step}");
            let done = events.keep(Retention::forever().remove_after(HOUR)).unwrap();
            assert_eq!(done.removed_segments, 0, "{step}");
            // What is due soon comes soon.
            let (asked, name) = (Instant::now(), format!("short {nth}"));
            let mut short = Sagas::open(waiting(&name, SHORT), Arc::clone(&state)).unwrap();
            short.start("7", Empty).unwrap();
            schedule.add(steady_now() + SHORT, &frame()).unwrap();
            let (mut is_over, mut is_published) = (false, false);
            while !(is_over && is_published) {
                assert!(asked.elapsed() < PATIENCE, "{step}");
                is_over |= short.run_due().sagas.iter().any(|saga| saga.phase == SagaPhase::Compensated);
                is_published |= publish_due(&schedule) == 1;
            }
            assert!(asked.elapsed() >= SHORT, "{step}: {:?}", asked.elapsed());
        }
    });
}

fn publish_due(schedule: &Schedule) -> usize {
    schedule.publish_due(steady_now(), |_| Ok::<_, std::convert::Infallible>(())).unwrap().published
}

const NEXT: &str = "clocks::the_next_process_waits_no_longer_than_it_was_to_wait_though_its_clock_is_behind";
const FOLDER: &str = "RINGMAIN_TEST_CLOCK_FOLDER";

#[test]
fn the_next_process_waits_no_longer_than_it_was_to_wait_though_its_clock_is_behind() {
    let folder = Folder::new("clock-behind");
    let name = folder.0.to_str().unwrap().to_owned();
    let open = || {
        let folder = std::env::var(FOLDER).unwrap();
        let store = Arc::new(super::support::open(Path::new(&folder)));
        Sagas::open(waiting("next", HOUR), store).unwrap()
    };
    // The first process is ten years ahead, and is set back by a day; the others are right.
    let processes = if std::env::var(FOLDER).is_ok() { 1 } else { 3 };
    for step in ["+3650d", "+0", "+0"].into_iter().take(processes) {
        under_another_clock(NEXT, step, &[(FOLDER, &name)], |file| {
            let mut sagas = open();
            if std::fs::read_to_string(file).unwrap().starts_with("+3650d") {
                sagas.start("7", Empty).unwrap();
                set(file, "+3649d");
                sagas.start("8", Empty).unwrap();
                return;
            }
            assert_eq!((sagas.run_due().sagas.len(), sagas.active().len()), (0, 2));
            let left = sagas.next_due().unwrap().duration_since(SystemTime::now()).unwrap();
            assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
        });
    }
}
