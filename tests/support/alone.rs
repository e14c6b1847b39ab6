//! A test in a process of its own, where nobody else allocates, forks or is signalled.
//!
//! A module of each test binary that needs it, by path.

use std::process::Command;

const ALONE: &str = "RINGMAIN_TEST_ALONE";

/// Runs `body` in this binary once more, with this test alone.
#[track_caller]
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    alone_with(test, &[], body);
}

/// As [`alone`], with more in the environment.
#[track_caller]
pub(crate) fn alone_with(test: &str, environment: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == test) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, test);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}{told}");
    assert!(output.status.success() && said.contains("1 passed"), "{test}: {}\n{said}{told}", output.status);
}
