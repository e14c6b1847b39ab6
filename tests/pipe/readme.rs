//! The commands of the README that concern a store, as they stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::folder::Folder;
use crate::volume::made;

/// The lines of the README's block that has a line with this in it.
fn block(with: &str) -> String {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    let found =
        readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).find(|block| block.contains(with));
    found.expect("the block is there").to_owned()
}

#[test]
fn the_store_commands_of_the_readme_work_as_they_are_pasted() {
    let folder = Folder::new("readme");
    fs::write(folder.0.join("events.ndjson"), made(2_000)).expect("it can be written");
    fs::create_dir_all(folder.0.join("target/release")).expect("it can be made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringmain"), folder.0.join("target/release/ringmain")).expect("made");
    let import = block("store import --data ./events")
        .lines()
        .filter(|line| line.contains(" store "))
        .collect::<Vec<_>>()
        .join("\n");
    let script = format!("set -eu\n{import}\n{}", block("dlq redrive"));
    let run = Command::new("bash").arg("-c").arg(&script).current_dir(&folder.0).output().expect("bash runs");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}{err}");
    let events = out.matches("\"specversion\"").count();
    assert_eq!(events, 3, "the newest three of the query");
    let events =
        ["events     2,000 at positions 1 to 2,000", "events would be replayed", "2,000 events read, all can be read"];
    for said in events.into_iter().chain(["0 files of 0 B will be compressed"]) {
        assert!(out.contains(said), "{said:?} is missing in\n{out}");
    }
    assert!(err.contains("2,000 events exported, 0 places cannot be read"), "{err}");
    let again = fs::read_to_string(folder.0.join("again.ndjson")).expect("it was written");
    assert!(again.lines().count() > 50, "about one in eight fails three times: {}", again.lines().count());
    assert!(err.contains("dead letters redriven, 0 left"), "{err}");
}
