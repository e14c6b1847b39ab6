//! Attempts, timeouts, compensations that fail, and what an operator can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringmain::sourcing::{Executed, Heard, Saga, SagaError, SagaPhase, SagaStatus, Sagas, Step, Told};
use ringmain::store::{StateChange, StateKind};

use super::{Hand, Trail, World};
use crate::support::{Ground, Store, Writer, on_every_store};

const SECOND: Duration = Duration::from_secs(1);

fn done() -> Step<Trail> {
    Step::new("done", |trail: &mut Trail, _| {
        trail.add("done");
        Ok(Executed::Done)
    })
}

/// Undoing it fails so often.
fn undone_after(world: &Arc<World>, failures: u64) -> Step<Trail> {
    let (world, count) = (Arc::clone(world), AtomicU64::new(0));
    done().delay(SECOND).compensations_max(3).compensate(move |_, run| {
        world.act(&format!("{} {}", run.key(), run.attempt()));
        if count.fetch_add(1, Ordering::Relaxed) < failures { Err("not now".into()) } else { Ok(()) }
    })
}

fn waiting(name: &str) -> Step<Trail> {
    Step::new(name, |_: &mut Trail, _| Ok(Executed::Waiting)).hear(|_, event, _| match event.meta().topic() {
        "go" => Ok(Heard::Done),
        "stop" => Ok(Heard::Failed("stopped".into())),
        _ => Ok(Heard::NotMine),
    })
}

fn open(saga: Saga<Trail>, state: &Arc<dyn Store>, hand: &Hand) -> Sagas<Trail> {
    hand.of(Sagas::open(saga, Arc::clone(state) as _).unwrap())
}

fn status(sagas: &Sagas<Trail>) -> SagaStatus {
    sagas.get("7").unwrap().unwrap().0
}

on_every_store! {
    a_step_is_tried_again_after_its_delay_and_a_panic_is_a_failure,
    what_is_not_done_in_time_is_undone_also_after_a_restart,
    a_saga_as_a_whole_has_a_time_limit_too,
    a_saga_goes_on_where_it_was_when_the_next_process_finds_an_earlier_clock,
    a_compensation_that_fails_too_often_is_said_and_can_be_tried_again,
    an_event_is_taken_once_and_one_that_nobody_waits_for_is_not,
    a_saga_goes_on_under_the_version_it_was_begun_under_or_not_at_all,
    one_that_cannot_go_on_does_not_keep_the_others_from_it,
    unsound_definitions_and_too_many_sagas_are_refused,
    a_long_reason_is_kept_in_part,
}

fn a_step_is_tried_again_after_its_delay_and_a_panic_is_a_failure(ground: &Ground) {
    let (state, hand) = (ground.store(), Hand::default());
    let flaky = Step::new("flaky", |trail: &mut Trail, run| {
        trail.add("half");
        match run.attempt() {
            1 => Err("busy".into()),
            2 => panic!("out of order"),
            _ => Ok(Executed::Done),
        }
    });
    let mut sagas = open(Saga::new("s", 1).step(done()).step(flaky.attempts_max(3).delay(SECOND)), &state, &hand);
    let begun = sagas.start("7", Trail::default()).unwrap();
    assert_eq!((begun.phase, begun.attempt, begun.error.as_deref()), (SagaPhase::Executing, 2, Some("busy")));
    assert_eq!((begun.due, sagas.next_due()), (Some(hand.now() + SECOND), Some(hand.now() + SECOND)));
    assert!(sagas.run_due().sagas.is_empty(), "it is not due");
    hand.advance(1);
    let ran = sagas.run_due();
    assert_eq!(ran.sagas[0].error.as_deref(), Some("it panicked: out of order"));
    assert_eq!(sagas.next_due(), Some(hand.now() + 2 * SECOND), "the delay doubles");
    hand.advance(2);
    assert_eq!(sagas.run_due().sagas[0].phase, SagaPhase::Completed);
    assert_eq!(sagas.get("7").unwrap().unwrap().1.0, ["done", "half"], "what a failed attempt changed is not kept");
}

fn what_is_not_done_in_time_is_undone_also_after_a_restart(ground: &Ground) {
    let (world, state, hand) = (Arc::default(), ground.store(), Hand::default());
    let saga = |step: Step<Trail>| Saga::new("s", 1).step(undone_after(&world, 0)).step(step);
    let mut sagas = open(saga(waiting("wait").timeout(10 * SECOND)), &state, &hand);
    sagas.start("7", Trail::default()).unwrap();
    assert_eq!(sagas.next_due(), Some(hand.now() + 10 * SECOND));
    drop(sagas);
    let mut sagas = open(saga(waiting("wait").timeout(10 * SECOND)), &state, &hand);
    assert_eq!(sagas.next_due(), Some(hand.now() + 10 * SECOND), "it is the deadline that was kept");
    hand.advance(9);
    assert!(sagas.run_due().sagas.is_empty());
    hand.advance(1);
    let late = sagas.run_due().sagas.remove(0);
    assert_eq!((late.phase, late.reason.as_deref()), (SagaPhase::Compensated, Some("it was not done in time")));
    assert_eq!(world.effects(), ["s/7/done/compensate 1"]);
    assert_eq!(sagas.tell("7", &Writer::new(ground).frame("go", "")).unwrap(), Told::Ended);
}

fn a_saga_as_a_whole_has_a_time_limit_too(ground: &Ground) {
    let (state, hand) = (ground.store(), Hand::default());
    let saga = Saga::new("s", 1).step(waiting("first").timeout(100 * SECOND)).step(waiting("second"));
    let mut sagas = open(saga.timeout(5 * SECOND), &state, &hand);
    sagas.start("7", Trail::default()).unwrap();
    hand.advance(4);
    assert_eq!(sagas.tell("7", &Writer::new(ground).frame("go", "")).unwrap(), Told::Taken);
    assert_eq!((status(&sagas).step.as_deref(), status(&sagas).due), (Some("second"), Some(hand.now() + SECOND)));
    hand.advance(1);
    assert_eq!(sagas.run_due().sagas[0].phase, SagaPhase::Compensated);
}

fn a_saga_goes_on_where_it_was_when_the_next_process_finds_an_earlier_clock(ground: &Ground) {
    let (world, state) = (Arc::default(), ground.store());
    let saga =
        |world: &Arc<World>| Saga::new("s", 1).step(undone_after(world, 0)).step(waiting("wait").timeout(10 * SECOND));
    let begin = |hand: &Hand| {
        let mut sagas = open(saga(&world), &state, hand);
        sagas.start("7", Trail::default()).unwrap();
        sagas.start("8", Trail::default()).unwrap();
    };
    // Ten years ahead.
    let ahead = Hand::default();
    ahead.advance(10 * 365 * 86_400);
    begin(&ahead);
    let hand = Hand::default();
    let mut sagas = open(saga(&world), &state, &hand);
    assert!(sagas.run_due().sagas.is_empty());
    assert_eq!(sagas.next_due(), Some(hand.now() + 10 * SECOND), "as if no time had passed meanwhile");
    hand.advance(9);
    assert!(sagas.run_due().sagas.is_empty());
    drop(sagas);
    // That was kept, so that another restart does not put it off again.
    let mut sagas = open(saga(&world), &state, &hand);
    assert!(sagas.run_due().sagas.is_empty());
    hand.advance(1);
    let late = sagas.run_due().sagas;
    assert_eq!(late.iter().map(|saga| saga.phase).collect::<Vec<_>>(), [SagaPhase::Compensated; 2]);
}

fn a_compensation_that_fails_too_often_is_said_and_can_be_tried_again(ground: &Ground) {
    let (world, state, hand) = (Arc::default(), ground.store(), Hand::default());
    let mut sagas = open(Saga::new("s", 1).step(undone_after(&world, 3)).step(waiting("wait")), &state, &hand);
    sagas.start("7", Trail::default()).unwrap();
    assert!(matches!(sagas.retry("7"), Err(SagaError::NotFound { wanted: "is stuck", .. })));
    let aborted = sagas.abort("7", "changed our mind").unwrap();
    assert_eq!((aborted.phase, aborted.attempt), (SagaPhase::Compensating, 2));
    assert!(matches!(sagas.abort("7", "again"), Err(SagaError::NotFound { .. })));
    for seconds in [1, 2] {
        hand.advance(seconds);
        assert_eq!(sagas.run_due().sagas.len(), 1);
    }
    let stuck = status(&sagas);
    assert_eq!(
        (stuck.phase, stuck.step.as_deref(), stuck.error.as_deref()),
        (SagaPhase::Stuck, Some("done"), Some("not now"))
    );
    assert_eq!((stuck.reason.as_deref(), stuck.due), (Some("changed our mind"), None));
    hand.advance(1_000);
    assert!(sagas.run_due().sagas.is_empty(), "it waits for somebody");
    assert!(matches!(sagas.forget("7"), Err(SagaError::NotFound { wanted: "has ended", .. })));
    assert_eq!(sagas.retry("7").unwrap().phase, SagaPhase::Compensated);
    assert_eq!(world.effects().len(), 3, "the first attempt has the key and number of the fourth");
    sagas.forget("7").unwrap();
    assert!(sagas.get("7").unwrap().is_none());
}

fn an_event_is_taken_once_and_one_that_nobody_waits_for_is_not(ground: &Ground) {
    let (state, hand, mut writer) = (ground.store(), Hand::default(), Writer::new(ground));
    let mut sagas = open(Saga::new("s", 1).step(waiting("first")).step(waiting("second")), &state, &hand);
    let (go, other) = (writer.frame("go", ""), writer.frame("other", ""));
    assert_eq!(sagas.tell("7", &go).unwrap(), Told::Unknown);
    sagas.start("7", Trail::default()).unwrap();
    assert!(matches!(sagas.start("7", Trail::default()), Err(SagaError::AlreadyExists { .. })));
    assert_eq!(sagas.tell("7", &other).unwrap(), Told::NotAwaited);
    assert_eq!(sagas.tell("7", &go).unwrap(), Told::Taken);
    assert_eq!(sagas.tell("7", &go).unwrap(), Told::Repeated, "it does not end the second step too");
    assert_eq!(status(&sagas).step.as_deref(), Some("second"));
    assert_eq!(sagas.tell("7", &writer.frame("stop", "")).unwrap(), Told::Taken);
    assert_eq!((status(&sagas).phase, status(&sagas).reason.as_deref()), (SagaPhase::Compensated, Some("stopped")));
    assert!(
        matches!(sagas.start("7", Trail::default()), Err(SagaError::AlreadyExists { .. })),
        "also when it has ended"
    );
}

fn a_saga_goes_on_under_the_version_it_was_begun_under_or_not_at_all(ground: &Ground) {
    let (state, hand, mut writer) = (ground.store(), Hand::default(), Writer::new(ground));
    let first = || Saga::new("s", 1).step(waiting("wait"));
    let second = || Saga::new("s", 2).step(done()).step(waiting("wait"));
    open(first(), &state, &hand).start("7", Trail::default()).unwrap();
    let mut sagas = open(second(), &state, &hand);
    let refused = sagas.tell("7", &writer.frame("go", "")).unwrap_err();
    assert!(matches!(refused, SagaError::OtherVersion { found: 1, current: 2, .. }), "{refused:?}");
    assert_eq!((status(&sagas).phase, status(&sagas).step), (SagaPhase::Waiting, None));
    let mut sagas = sagas.older(first()).unwrap();
    assert_eq!(sagas.tell("7", &writer.frame("go", "")).unwrap(), Told::Taken);
    assert_eq!((status(&sagas).phase, status(&sagas).version), (SagaPhase::Completed, 1));
    assert_eq!(sagas.start("8", Trail::default()).unwrap().version, 2);
    assert!(matches!(sagas.older(first()), Err(SagaError::NotOlder { version: 1, .. })));
}

fn one_that_cannot_go_on_does_not_keep_the_others_from_it(ground: &Ground) {
    let (state, hand) = (ground.store(), Hand::default());
    let broken = StateChange::Put { kind: StateKind::SAGA, key: b"\x01s3", value: b"no record" };
    state.apply(&[broken], state.state_durability()).unwrap();
    let saga = || Saga::new("s", 1).step(waiting("wait").timeout(SECOND));
    let mut sagas = open(saga(), &state, &hand);
    for id in ["2", "4"] {
        sagas.start(id, Trail::default()).unwrap();
    }
    hand.advance(1);
    let ran = sagas.run_due();
    assert!(ran.sagas.iter().map(|saga| &*saga.id).eq(["2", "4"]));
    assert!(matches!(&*ran.failed, [(id, SagaError::Record { .. })] if id == "3"), "{:?}", ran.failed);
    assert!(sagas.run_due().failed.is_empty(), "not again and again");
    hand.advance(1);
    assert_eq!(sagas.run_due().failed.len(), 1);
}

fn unsound_definitions_and_too_many_sagas_are_refused(ground: &Ground) {
    let (state, hand) = (ground.store(), Hand::default());
    let refused = |saga| Sagas::<Trail>::open(saga, Arc::clone(&state) as _).unwrap_err();
    assert!(matches!(refused(Saga::new("s", 1)), SagaError::NoSteps { .. }));
    assert!(matches!(refused(Saga::new("s", 1).step(done()).step(done())), SagaError::SameName { .. }));
    assert!(matches!(refused(Saga::new("", 1).step(done())), SagaError::Name { bytes: 0, max: 255, .. }));
    let mut sagas = open(Saga::new("s", 1).step(waiting("wait")), &state, &hand).active_max(1);
    assert!(matches!(sagas.start(&"x".repeat(513), Trail::default()), Err(SagaError::Name { max: 512, .. })));
    sagas.start(&"x".repeat(512), Trail::default()).unwrap();
    assert!(matches!(sagas.start("8", Trail::default()), Err(SagaError::TooMany { max: 1 })));
}

fn a_long_reason_is_kept_in_part(ground: &Ground) {
    let (state, hand) = (ground.store(), Hand::default());
    let wordy = Step::new("wordy", |_: &mut Trail, _| Ok(Executed::Failed("ä".repeat(5_000))));
    let mut sagas = open(Saga::new("s", 1).step(wordy), &state, &hand);
    let ended = sagas.start("7", Trail::default()).unwrap();
    assert_eq!((ended.phase, ended.reason), (SagaPhase::Compensated, Some("ä".repeat(512))));
}
