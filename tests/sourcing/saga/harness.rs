//! The given/when/then form for sagas.

use std::time::Duration;

use ringmain::Payload;
use ringmain::sourcing::{Executed, Heard, Saga, SagaPhase, Step};
use ringmain::testing::GivenSaga;

use super::Trail;

fn saga() -> Saga<Trail> {
    let first = Step::new("first", |trail: &mut Trail, run| {
        trail.add("first");
        if run.attempt() == 1 { Err("busy".into()) } else { Ok(Executed::Done) }
    });
    let second = Step::new("second", |_: &mut Trail, _| Ok(Executed::Waiting));
    let second = second.hear(|trail, event, _| {
        trail.add(event.meta().topic());
        Ok(if event.meta().topic() == "bad" { Heard::Failed("it was bad".into()) } else { Heard::Done })
    });
    let first = first.attempts_max(2).delay(Duration::from_secs(5)).compensate(|trail, _| {
        trail.add("undone");
        Ok(())
    });
    Saga::new("s", 1).step(first).step(second)
}

#[test]
fn a_saga_is_told_restarted_and_waited_for_without_waiting() {
    GivenSaga::begun(saga(), Trail::default())
        .then(SagaPhase::Executing)
        .when_passed(Duration::from_secs(4))
        .then_at("first")
        .when_passed(Duration::from_secs(1))
        .then_at("second")
        .when_restarted(saga())
        .then(SagaPhase::Waiting)
        .when_told("bad", Payload::json("{}"))
        .then_failed("it was bad")
        .then(SagaPhase::Compensated)
        .then_data(|trail| assert_eq!(trail.0, ["first", "bad", "undone"]));
}

#[test]
#[should_panic(expected = "the saga stands so: SagaStatus { id: \"under-test\", version: 1, phase: Executing")]
fn what_is_not_so_is_said_with_how_it_is() {
    GivenSaga::begun(saga(), Trail::default()).then(SagaPhase::Completed);
}

#[test]
#[should_panic(expected = "other was told, and the saga stands so")]
fn an_event_that_it_did_not_wait_for_is_said() {
    GivenSaga::begun(saga(), Trail::default()).when_told("other", Payload::json("{}"));
}
