//! Schedules of the whole bus: which thread runs next is drawn from a seed at every atomic, lock, sleep and wake-up.
//!
//! A [`scenario`] is a bus with workers on threads, and the threads of its users, through the public API. It runs under
//! two schedulers of shuttle: one draws each step, the other (PCT, depth 3) runs threads by priorities that it changes
//! at two places, which finds what needs few switches in exactly the right places. A seed is a batch of schedules, and
//! a failure prints the command that runs its seed again.
//!
//! A scenario can pass because nothing happens in it. So it names the outcomes that it must come to, and bugs planted in the
//! source (`mutant!("name", ..)`): it runs again with each of them, in a process of its own, and fails unless it then fails.
//!
//! Unlike loom's models a scenario may come to other outcomes too: what must never be it asserts. A mutant that only makes
//! an ordering Relaxed can never be found here.
//!
//! Only `--cfg ringmain_shuttle` has schedules; in any other build the package is empty. What they do not show: orderings
//! weaker than SeqCst and data races (loom and Miri look for those), lost wake-ups of threads (shuttle's sleeps may end by
//! themselves, as the platform's may; those of futures do not), time (the clock stands still but for scenarios that move it), spinning workers, and
//! switches inside `Arc`, `OnceLock` and the lock-free queue of lent publishers.

#![cfg(ringmain_shuttle)]

mod hunt;
pub mod stage;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::exit;
use std::sync::{Arc, Mutex, Once};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

const SCHEDULES: &str = "RINGMAIN_SHUTTLE_SCHEDULES";
/// How many schedules of a scenario earlier runs have done.
const FIRST: &str = "RINGMAIN_SHUTTLE_FIRST";
const SEED: &str = "RINGMAIN_SHUTTLE_SEED";

/// Schedules of a scenario, unless told otherwise.
const SCHEDULES_DEFAULT: u64 = 1_000;
/// Schedules of a seed.
const BATCH: u64 = 25;
/// A schedule of so many steps is one that does not end: usual are some thousands.
const STEPS_MAX: usize = 300_000;
/// Bugs that need no more than two switches in the right places.
const PCT_DEPTH: usize = 3;

/// What handlers panic with when the scenario wants it.
pub const DELIBERATE: &str = "deliberate";

thread_local! {
    /// The scenario and the seed that this thread of the system runs.
    static RUNNING: RefCell<Option<(String, u64)>> = const { RefCell::new(None) };
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config
}

/// Runs the batch of `seed`.
fn run_batch(name: &str, seed: u64, body: impl Fn() + Send + Sync + 'static) {
    RUNNING.with_borrow_mut(|running| *running = Some((name.to_owned(), seed)));
    if seed.is_multiple_of(2) {
        Runner::new(RandomScheduler::new_from_seed(seed, BATCH as usize), config()).run(body);
    } else {
        Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, BATCH as usize), config()).run(body);
    }
    RUNNING.with_borrow_mut(|running| *running = None);
}

/// Lets the first panic that nobody wanted end the process: the bus contains panics of handlers, and a schedule that is
/// broken off leaves threads that cannot be ended in order.
fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // shuttle sets its own hook when it first runs; this one comes after it.
        Runner::new(RandomScheduler::new_from_seed(0, 1), config()).run(|| ());
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| failed(info, &others)));
    });
}

fn failed(info: &PanicHookInfo<'_>, others: &dyn Fn(&PanicHookInfo<'_>)) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message").trim();
    if message == DELIBERATE {
        return;
    }
    let Some((name, seed)) = RUNNING.with_borrow(Clone::clone) else { return others(info) };
    if let Some(mutant) = hunt::prey() {
        let line = message.replace('\n', " ");
        // A panic of ringmain's own, or a schedule that does not end, says nothing of why.
        let of_the_scenario = info.location().is_some_and(|location| location.file().starts_with("shuttle-tests/"));
        let code =
            if of_the_scenario || message.starts_with("deadlock") { hunt::FOUND } else { hunt::FAILED_OTHERWISE };
        end(code, &format!("{line} (seed {seed}, {mutant})"));
    }
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let text = format!(
        "\nscenario {name} failed at {place}:\n{message}\nreplay it with:\n    ci/shuttle --seed {seed} {test}"
    );
    end(101, &text);
}

fn end(code: i32, why: &str) -> ! {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(std::io::stderr(), "{why}");
    exit(code)
}

/// Runs `body` again and again, once a schedule, and checks what came out of it; then hunts for each of `mutants`.
///
/// `RINGMAIN_SHUTTLE_SCHEDULES` says how many schedules, `RINGMAIN_SHUTTLE_FIRST` how many to begin behind, and
/// `RINGMAIN_SHUTTLE_SEED` runs the batch of one seed alone.
///
/// # Panics
/// When `body` does, or hangs; when one of `outcomes` was not seen; when there is no mutant or one was not found.
pub fn scenario<O, B>(name: &str, mutants: &[&str], outcomes: &[O], body: B)
where
    O: Ord + Clone + Debug + Send + Sync + 'static,
    B: Fn() -> O + Send + Sync + 'static,
{
    if hunt::is_bystander(name) {
        return;
    }
    listen();
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let record = Arc::clone(&seen);
    let body = Arc::new(move || {
        let outcome = body();
        *record.lock().expect("nobody panics while holding it").entry(outcome).or_insert(0_u64) += 1;
    });
    let run = |seed| {
        let body = Arc::clone(&body);
        run_batch(name, seed, move || body());
    };
    if let Some(mutant) = hunt::prey() {
        ringmain::internals::sync::mutant::plant(&mutant);
        (0..hunt::SEEDS_MAX).for_each(run);
        end(hunt::OVERLOOKED, "every schedule went well");
    }
    if let Some(seed) = number(SEED) {
        run(seed);
        println!("scenario {name}: seed {seed} went well, outcomes {:?}", seen.lock().expect("as above"));
        return;
    }
    let wanted = number(SCHEDULES).unwrap_or(SCHEDULES_DEFAULT);
    let first = number(FIRST).unwrap_or(0).div_ceil(BATCH);
    (first..first + wanted.div_ceil(BATCH)).for_each(run);
    let seen = seen.lock().expect("as above");
    let schedules: u64 = seen.values().sum();
    println!("scenario {name}: schedules {schedules}, outcomes {seen:?}");
    let missing: Vec<_> = outcomes.iter().filter(|outcome| !seen.contains_key(outcome)).collect();
    assert!(missing.is_empty() || wanted < SCHEDULES_DEFAULT, "{name} never came to {missing:?}");
    hunt::hunt(name, mutants);
}
