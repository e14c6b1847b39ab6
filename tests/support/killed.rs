//! A test that runs itself once more as a process, which is killed amid its work.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) const CHILD_FOLDER: &str = "RINGMAIN_STORE_CHILD_FOLDER";

/// Where this process is to work until it is killed; `None` in the one that kills.
pub(crate) fn child_folder() -> Option<std::ffi::OsString> {
    env::var_os(CHILD_FOLDER)
}

/// Runs the test `this` as a process that works in a folder, and kills it when so many of its lines said that something was
/// acknowledged, as `hear` tells of each line. What is in the pipe when it dies was acknowledged too.
pub(crate) fn kill_after(mut left: u64, this: &str, folder: &Path, mut hear: impl FnMut(&str) -> bool) {
    let mut child = Command::new(env::current_exe().expect("the test is a program"))
        .args(["--exact", this, "--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test can be started");
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        if hear(&line.expect("it is text")) && left > 0 {
            left -= 1;
            if left == 0 {
                child.kill().expect("it runs");
            }
        }
    }
    child.wait().expect("it was started");
}
