//! Models of ringmain's concurrent structures: the harness that makes sure a model explores what it says.
//!
//! A loom model can pass because it explores nothing. So a [`model`] names the outcomes it expects and the least number
//! of executions, and fails when one was never seen, an unknown one was, or there were too few. It also names mutants,
//! bugs planted in the source as `mutant!("name", ..)`, runs again with each of them switched on, and fails when it then
//! does not. Whoever takes part is spawned through [`Threads`]: loom explores little around its main thread.
//!
//! With `--cfg ringmain_loom` each model runs every execution that its bounds allow. Without it the same files run on
//! real threads, some thousand rounds each (a few under Miri, or `RINGMAIN_ROUNDS`), where only an unknown outcome is a
//! failure and there are no mutants.
//!
//! What loom does not model: `membarrier` (models use `Barrier::fences()`, its portable form), time, and spurious
//! failures of weak exchanges. Its `unpark` synchronises even with a thread that does not sleep, so models of wakers
//! count wake-ups instead of sleeping where they can.
//!
//! loom looks for races against the last access of each word alone. Where a thread loads a word and then writes it, its
//! load hides what others loaded before, and executions in which they load later are never run. The structures look at
//! such words through `BeforeWrite`, which is a write under loom; a new one that does not shows as a missing outcome.

use std::collections::BTreeMap;
use std::fmt::Debug;
#[cfg(not(ringmain_loom))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub mod attempts;
pub mod closing;
#[cfg(ringmain_loom)]
mod hunt;
pub mod lanes;
pub mod watch;

#[cfg(ringmain_loom)]
use loom::thread;
#[cfg(not(ringmain_loom))]
use std::thread;

/// How far a model is explored.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Switches away from a thread that could go on, an execution. `None` explores all: affordable for two threads.
    /// `RINGMAIN_LOOM_PREEMPTIONS` asks for more; the hunts for mutants stay as they are.
    pub preemptions: Option<usize>,
    /// Fewer executions than this fail the model.
    pub executions_min: u64,
}

/// Spawns whoever takes part in one execution. Real threads start together, at the first [`Join::end`].
#[derive(Debug, Default)]
pub struct Threads {
    spawned: usize,
    #[cfg(not(ringmain_loom))]
    start: Arc<AtomicBool>,
}

/// A thread that takes part.
#[derive(Debug)]
pub struct Join<T> {
    thread: thread::JoinHandle<T>,
    #[cfg(not(ringmain_loom))]
    start: Arc<AtomicBool>,
}

impl Threads {
    /// Runs `part` beside the others.
    #[cfg(ringmain_loom)]
    pub fn spawn<T: Send + 'static>(&mut self, part: impl FnOnce() -> T + Send + 'static) -> Join<T> {
        self.spawned += 1;
        Join { thread: thread::spawn(part) }
    }

    /// Runs `part` beside the others.
    #[cfg(not(ringmain_loom))]
    pub fn spawn<T: Send + 'static>(&mut self, part: impl FnOnce() -> T + Send + 'static) -> Join<T> {
        self.spawned += 1;
        let start = Arc::clone(&self.start);
        let thread = thread::spawn(move || {
            // Relaxed: when to start is all it says.
            while !start.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            part()
        });
        Join { thread, start: Arc::clone(&self.start) }
    }
}

impl<T> Join<T> {
    /// Waits for the thread and takes what it returns.
    ///
    /// # Panics
    /// When the thread panicked.
    pub fn end(self) -> T {
        #[cfg(not(ringmain_loom))]
        // Relaxed: as in `spawn`.
        self.start.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread's own panic was reported")
    }
}

/// Sleeps by `sleep`, until somebody wakes the thread. A model fails when a thread is left there and no other can run:
/// that is how a lost wake-up shows.
pub fn asleep<R>(sleep: impl FnOnce() -> R) -> R {
    #[cfg(ringmain_loom)]
    return hunt::counted_asleep(sleep);
    #[cfg(not(ringmain_loom))]
    sleep()
}

/// Runs `body` again and again, once an execution, and checks what came out of it; then hunts for each of `mutants`.
///
/// # Panics
/// When `body` does; when an outcome is missing or unknown; when there were too few executions or fewer than two
/// threads; when there is no mutant or one was not found.
pub fn model<O, B>(name: &str, bounds: Bounds, mutants: &[&str], outcomes: &[O], body: B)
where
    O: Ord + Clone + Debug + Send + Sync + 'static,
    B: Fn(&mut Threads) -> O + Send + Sync + 'static,
{
    #[cfg(ringmain_loom)]
    match hunt::role(name) {
        hunt::Role::Prover => {}
        hunt::Role::Hunter => hunt::begin(),
        hunt::Role::Weakened => hunt::hear(),
        hunt::Role::Bystander => return,
    }

    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let (record, expected) = (Arc::clone(&seen), outcomes.to_vec());
    explore(bounds, move || {
        let mut threads = Threads::default();
        let outcome = body(&mut threads);
        assert!(threads.spawned >= 2, "one thread alone races with nobody");
        assert!(expected.contains(&outcome), "came to {outcome:?}, which it does not expect");
        *record.lock().expect("no execution panicked").entry(outcome).or_insert(0_u64) += 1;
    });

    #[cfg(ringmain_loom)]
    match hunt::role(name) {
        hunt::Role::Hunter => hunt::found_nothing(),
        // A bug may well keep an outcome from coming about, but that is no proof of one.
        hunt::Role::Weakened => return,
        hunt::Role::Prover | hunt::Role::Bystander => {}
    }

    let seen = seen.lock().expect("no execution panicked");
    let executions: u64 = seen.values().sum();
    println!("model {name}: executions {executions}, outcomes {seen:?}");
    #[cfg(ringmain_loom)]
    {
        let missing: Vec<_> = outcomes.iter().filter(|outcome| !seen.contains_key(outcome)).collect();
        assert!(missing.is_empty(), "{name} never came to {missing:?}");
        let least = bounds.executions_min;
        assert!(executions >= least, "{name} ran {executions} executions, expected at least {least}");
        hunt::hunt(name, mutants);
    }
    #[cfg(not(ringmain_loom))]
    assert!(!mutants.is_empty(), "{name} names no mutant, so nothing shows that it can fail");
}

#[cfg(ringmain_loom)]
fn explore(bounds: Bounds, execution: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bounds.preemptions.map(|least| least.max(hunt::preemptions_wanted()));
    builder.check(execution);
}

#[cfg(not(ringmain_loom))]
fn explore(_bounds: Bounds, execution: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("RINGMAIN_ROUNDS").map(|rounds| rounds.parse().expect("RINGMAIN_ROUNDS is a number"));
    let rounds = rounds.unwrap_or(if cfg!(miri) { 5 } else { 2_000 });
    for _ in 0..rounds {
        execution();
    }
}
