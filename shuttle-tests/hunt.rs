//! Shows that a scenario can fail: runs it again with a mutant planted, in a process of its own, and looks how that ends.

use std::env;
use std::process::Command;

// What the process of a hunt is for.
const SCENARIO: &str = "RINGMAIN_SHUTTLE_SCENARIO";
const MUTANT: &str = "RINGMAIN_SHUTTLE_MUTANT";

// How it ends: unlike any end that the test harness knows.
pub(crate) const FOUND: i32 = 40;
pub(crate) const OVERLOOKED: i32 = 41;
pub(crate) const FAILED_OTHERWISE: i32 = 42;

/// Mutants are found by one of so many seeds, or not at all.
pub(crate) const SEEDS_MAX: u64 = 400;

/// The mutant that this process is to plant.
pub(crate) fn prey() -> Option<String> {
    env::var(MUTANT).ok()
}

/// Whether this process is for another scenario.
pub(crate) fn is_bystander(name: &str) -> bool {
    env::var(SCENARIO).is_ok_and(|scenario| scenario != name)
}

/// Hunts with scenario `name` for each of `mutants`.
///
/// # Panics
/// When there is none, or one is not found.
pub(crate) fn hunt(name: &str, mutants: &[&str]) {
    assert!(!mutants.is_empty(), "{name} names no mutant, so nothing shows that it can fail");
    let this = env::current_exe().expect("the test's own file");
    let survivors = mutants.iter().filter(|&&mutant| {
        let mut process = Command::new(&this);
        process.args(["--test-threads=1", "--nocapture"]).env(SCENARIO, name).env(MUTANT, mutant);
        let ended = process.output().expect("the test's own file starts");
        let why = String::from_utf8_lossy(&ended.stderr);
        let why = why.lines().last().unwrap_or("it said nothing");
        let found = ended.status.code() == Some(FOUND);
        let verdict = if found { "killed" } else { "survived" };
        println!("scenario {name}: mutant {mutant} {verdict}: {why} ({})", ended.status);
        !found
    });
    let survivors: Vec<_> = survivors.collect();
    assert!(survivors.is_empty(), "{name} does not find {survivors:?}");
}
