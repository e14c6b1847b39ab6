//! What the campaign says to be done is done: ranges that failed are run again, and no number counts twice.

use std::path::Path;
use std::process::Command;

#[test]
fn the_campaign_counts_each_number_once_and_runs_the_first_gap() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = Command::new(root.join("ci/campaign")).arg("--check").output().expect("there is a shell");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
