//! Runs a model again with a bug planted in what it models, in a process of its own, and sees whether the model finds it.
//! `ci/mutate-orderings` starts processes of its own, in which an ordering is weakened, and hears the same verdicts.
//!
//! A model that fails leaves threads half run, so nothing is unwound: the panic hook of that process says why it
//! failed and ends it. Found are mutants at which an assertion of the model fails, an unknown outcome included; at which
//! loom sees a race on data; and at which all threads wait and one of them does so in [`asleep`](crate::asleep). What
//! else can go wrong (loom's limits, a panic of ringmain's own, a time-out, a deadlock of who joins) does not count.

use std::cell::Cell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::{Command, exit};
use std::sync::Once;
use std::time::Duration;
use std::{env, thread};

use ringmain::internals::sync::mutant::plant;

/// Which model hunts in this process, and for which mutant.
const MODEL: &str = "RINGMAIN_LOOM_MODEL";
const MUTANT: &str = "RINGMAIN_LOOM_MUTANT";
const PREEMPTIONS: &str = "RINGMAIN_LOOM_PREEMPTIONS";

// How the process of a hunt ends: unlike any end that the test harness knows.
const FOUND: i32 = 40;
const OVERLOOKED: i32 = 41;
const FAILED_OTHERWISE: i32 = 42;
const TIMED_OUT: i32 = 43;
/// A panic of ringmain's own: no verdict on a bug planted by hand, for it may be the bug's; one on a weakened ordering.
const PANICKED: i32 = 44;

/// Mutants are found within seconds, or by the next person.
const LIMIT: Duration = Duration::from_secs(180);

thread_local! {
    /// Threads of the model that are asleep: loom runs them all on one.
    static SLEEPERS: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn counted_asleep<R>(sleep: impl FnOnce() -> R) -> R {
    SLEEPERS.set(SLEEPERS.get() + 1);
    let result = sleep();
    SLEEPERS.set(SLEEPERS.get() - 1);
    result
}

/// What this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To run each model as it is.
    Prover,
    /// To run this model with a mutant.
    Hunter,
    /// To run each model with an ordering weakened, or to tell what each visits; the environment says which.
    Weakened,
    /// To run another model.
    Bystander,
}

/// The part of model `name` in this process.
pub(crate) fn role(name: &str) -> Role {
    match env::var(MODEL) {
        Err(_) if env::var_os("RINGMAIN_WEAKEN").is_some() || env::var_os("RINGMAIN_VISITS").is_some() => {
            Role::Weakened
        }
        Err(_) => Role::Prover,
        Ok(hunter) if hunter == name => Role::Hunter,
        Ok(_) => Role::Bystander,
    }
}

/// Preemptions that models are to be explored to, where they allow fewer.
pub(crate) fn preemptions_wanted() -> usize {
    let Ok(wanted) = env::var(PREEMPTIONS) else { return 0 };
    wanted.parse().unwrap_or_else(|error| panic!("{PREEMPTIONS}={wanted}: {error}"))
}

/// Plants the mutant that this process is for, and hears what then fails.
pub(crate) fn begin() {
    plant(&env::var(MUTANT).expect("the hunter was told what to hunt"));
    hear();
    thread::spawn(|| {
        thread::sleep(LIMIT);
        end(TIMED_OUT, &format!("still running after {LIMIT:?}"));
    });
}

/// Lets the first failure end the process, with what it was.
pub(crate) fn hear() {
    static ONCE: Once = Once::new();
    // Before loom puts its own hook around it, which keeps the ends of its coroutines from ours.
    ONCE.call_once(|| std::panic::set_hook(Box::new(failed)));
}

/// Ends a hunt that has found nothing.
pub(crate) fn found_nothing() -> ! {
    end(OVERLOOKED, "every execution went well")
}

fn end(code: i32, why: &str) -> ! {
    // Nobody is left to tell when the parent does not listen.
    let _ = writeln!(std::io::stderr(), "{why}");
    exit(code)
}

fn failed(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message").trim().replace('\n', " ");
    let of_the_model = info.location().is_some_and(|location| location.file().starts_with("loom-tests/"));
    let race = message.starts_with("Causality violation");
    let left_asleep = message.starts_with("deadlock") && SLEEPERS.get() > 0;
    let of_the_source = info.location().is_some_and(|location| location.file().starts_with("src/"));
    let code = match of_the_model || race || left_asleep {
        true => FOUND,
        false if of_the_source => PANICKED,
        false => FAILED_OTHERWISE,
    };
    end(code, if left_asleep { "a thread was left asleep" } else { &message })
}

/// Hunts with model `name` for each of `mutants`.
///
/// # Panics
/// When there is none, or one is not found.
pub(crate) fn hunt(name: &str, mutants: &[&str]) {
    assert!(!mutants.is_empty(), "{name} names no mutant, so nothing shows that it can fail");
    let this = env::current_exe().expect("the test's own file");
    let survivors = mutants.iter().filter(|&&mutant| {
        let mut process = Command::new(&this);
        process.args(["--test-threads=1", "--nocapture"]).env(MODEL, name).env(MUTANT, mutant).env_remove(PREEMPTIONS);
        let ended = process.output().expect("the test's own file starts");
        let why = String::from_utf8_lossy(&ended.stderr);
        let why = why.lines().last().unwrap_or("it said nothing");
        let found = ended.status.code() == Some(FOUND);
        let verdict = if found { "killed" } else { "survived" };
        println!("model {name}: mutant {mutant} {verdict}: {why} ({})", ended.status);
        !found
    });
    let survivors: Vec<_> = survivors.collect();
    assert!(survivors.is_empty(), "{name} does not find {survivors:?}");
}
