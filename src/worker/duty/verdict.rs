//! What a handler's call comes to: counted, and told of when it was no good or took long.

use std::time::Duration;

use crate::delivery::{Dispatch, Notice, Outcome, Run, Scene, Sink, SubscriptionState};
use crate::event::{DecodeError, EventId, Meta};
use crate::sync::contain::contained;
use crate::sync::mutant::mutant;
use crate::worker::Phase;
use crate::worker::engine::Engine;

/// Lets an inline handler run, and books what came of it. Returns how many events it had.
#[inline(always)]
pub(super) fn finish(engine: &Engine, mut run: Run<'_>, handler: &mut dyn Dispatch) -> u32 {
    let ended = contained(|| handler.run(&mut run));
    let counts = &run.subscription.counts;
    counts.matched.add(u64::from(run.served));
    counts.delivered.add(u64::from(run.served));
    if !matches!(ended, Some(None)) {
        settle(engine, &mut run, ended.flatten());
    }
    run.served
}

/// Settles the event that ended a run: one that failed, panicked (`None`) or took long.
#[cold]
fn settle(engine: &Engine, run: &mut Run<'_>, result: Option<Result<Outcome, DecodeError>>) {
    let elapsed = run.stop();
    let subscription = run.subscription;
    let Some((meta, lag)) = run.in_hand() else { return };
    book(engine, subscription, &meta, result);
    if let Some(elapsed) = elapsed {
        long(engine, subscription, meta.id(), elapsed, lag);
    }
    run.step_over();
}

/// Counts what a handler has made of an event, and tells of it when that was no good; `None` is a panic.
#[inline(always)]
pub(super) fn book(
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    result: Option<Result<Outcome, DecodeError>>,
) {
    match result {
        Some(Ok(Outcome::Ack)) => {
            subscription.counts.matched.add(1);
            subscription.counts.delivered.add(1);
        }
        other => failed(engine, subscription, meta, other),
    }
}

#[cold]
fn failed(
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    result: Option<Result<Outcome, DecodeError>>,
) {
    // What goes to a mailbox has been counted before.
    subscription.counts.matched.add(u64::from(matches!(&subscription.sink, Sink::Inline(_))));
    subscription.counts.failed.add(mutant!("panic.books", 1 => u64::from(result.is_some())));
    judge(engine, subscription, meta.id(), result);
}

#[cold]
pub(super) fn panicked(engine: &Engine, subscription: &SubscriptionState, event: EventId) {
    engine.notice(&Notice::HandlerPanicked { subscription: subscription.id, name: &subscription.name, event });
}

#[cold]
fn slow(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64, lag: u64) {
    engine.notice(&Notice::SlowHandler {
        subscription: subscription.id,
        name: &subscription.name,
        pattern: subscription.pattern.as_str(),
        event,
        elapsed: Duration::from_nanos(elapsed),
        lag,
    });
}

/// A handler on the worker took long: tells how long, when that was too long.
#[cold]
pub(super) fn long(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64, lag: u64) {
    if elapsed >= engine.slow_handler_ns {
        slow(engine, subscription, event, elapsed, lag);
    }
    judge_time(engine, subscription, event, elapsed);
}

/// Counts and tells of a call of a handler on the worker, if it took too long: nobody could take its event away, so its word counts.
#[inline]
pub(super) fn judge_time(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64) {
    if elapsed >= subscription.call_max_ns {
        subscription.counts.timed_out.add(1);
        hung(engine, subscription, event, elapsed);
    }
}

/// Tells of a handler that has had an event for so many nanoseconds, longer than a call may take.
#[cold]
pub(super) fn hung(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64) {
    engine.notice(&Notice::HandlerHung {
        subscription: subscription.id,
        name: &subscription.name,
        event,
        after: Duration::from_nanos(elapsed),
    });
}

/// The outcome that a call of a handler comes to, and tells of it when that was no good; `None` is a panic.
pub(super) fn judge(
    engine: &Engine,
    subscription: &SubscriptionState,
    event: EventId,
    result: Option<Result<Outcome, DecodeError>>,
) -> Outcome {
    let (id, name) = (subscription.id, subscription.name.as_str());
    match result {
        Some(Ok(outcome)) => {
            if let Outcome::Failed(error) | Outcome::Reject(error) = &outcome {
                engine.notice(&Notice::HandlerFailed { subscription: id, name, event, error });
            }
            outcome
        }
        Some(Err(error)) => {
            let reason = error.to_string();
            engine.notice(&Notice::Undecodable { subscription: id, name, event, error });
            // It would not be readable the next time either.
            Outcome::Reject(reason)
        }
        None => {
            panicked(engine, subscription, event);
            Outcome::Failed("the handler panicked".to_owned())
        }
    }
}

/// Calls a handler behind a mailbox, contains its panic, and tells of what was no good. `lag` is the number of events
/// behind this one; it is the instant `begun`. Returns also how many nanoseconds it took.
pub(crate) fn call_behind_mailbox(
    begun: u64,
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    lag: impl FnOnce() -> u64,
    call: impl FnOnce(&Meta<'_>, Scene<'_>) -> Result<Outcome, DecodeError>,
) -> (Outcome, u64) {
    let scene = Scene { subscription: &subscription.id, cancelled: engine.phase() > Phase::Running };
    let outcome = judge(engine, subscription, meta.id(), contained(|| call(meta, scene)));
    let elapsed = engine.directory.clock.now().saturating_sub(begun);
    if elapsed >= engine.slow_handler_ns {
        slow(engine, subscription, meta.id(), elapsed, lag());
    }
    (outcome, elapsed)
}
