//! What `ringmain backup` and `ringmain restore` promise: a copy that is whole or none, a store that is whole or none.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::folder::Folder;
use crate::store::{append, ask, ids, run, store};
use crate::{Run, finish};

/// `ringmain` with arguments.
fn ringmain(arguments: &[&Path]) -> Run {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    program.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(program, "")
}

fn backup(data: &Path, to: &Path) -> Run {
    ringmain(&["backup".as_ref(), "--data".as_ref(), data, to])
}

fn restore(from: &Path, data: &Path) -> Run {
    ringmain(&["restore".as_ref(), from, "--data".as_ref(), data])
}

fn look_at(from: &Path) -> Run {
    ringmain(&["restore".as_ref(), from, "--dry-run".as_ref()])
}

fn lines(events: usize) -> String {
    (0..events).map(|id| format!("{{\"type\":\"a\",\"id\":\"{id}\"}}\n")).collect()
}

#[test]
fn what_was_backed_up_is_restored_as_it_was() {
    let folder = Folder::new("pipe-backup");
    let [data, to, again] = ["data", "backup", "again"].map(|name| folder.0.join(name));
    assert_eq!(append(&data, "", lines(1_500)).code(), Some(0));
    let made = backup(&data, &to);
    assert_eq!((made.code(), &*made.stderr), (Some(0), ""));
    let wanted = format!("a backup up to position 1,500 was made in {}: 1 files, ", to.display());
    assert!(made.stdout.starts_with(&wanted), "{}", made.stdout);
    // What comes later is not in it.
    assert_eq!(append(&data, "", "{\"type\":\"late\"}\n").code(), Some(0));
    let looked = look_at(&to);
    assert!(
        looked.stdout.starts_with("the backup of 2")
            && looked.stdout.contains(" up to position 1,500 is whole: 1 files, ")
    );
    assert_eq!((looked.code(), &*looked.stderr), (Some(0), ""));
    let made = restore(&to, &again);
    assert_eq!((made.code(), &*made.stderr), (Some(0), ""));
    let wanted = format!("1,500 events up to position 1,500 were restored into {} as of 2", again.display());
    assert!(made.stdout.starts_with(&wanted) && made.stdout.ends_with(", all can be read\n"), "{}", made.stdout);
    assert_eq!(ask("verify", &again, "").code(), Some(0));
    assert_eq!(ids(&ask("query", &again, "")), (0..1_500).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(append(&again, "", "{\"type\":\"next\"}\n").code(), Some(0));
}

#[test]
fn what_is_not_whole_or_in_the_way_is_refused_and_says_what_to_do() {
    let folder = Folder::new("pipe-backup-refused");
    let [data, to, again] = ["data", "backup", "again"].map(|name| folder.0.join(name));
    let said = |run: Run, what: &str| {
        assert_eq!((run.code(), &*run.stdout), (Some(1), ""), "{}", run.stderr);
        assert!(run.stderr.starts_with("ringmain: ") && run.stderr.contains(what), "{what}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    };
    said(backup(&data, &to), "there is no store in ");
    assert_eq!(append(&data, "", lines(10)).code(), Some(0));
    said(backup(&data, &data), "name a folder that is new or empty");
    said(restore(&to, &again), "is written last, and is not there");
    assert_eq!(backup(&data, &to).code(), Some(0));
    said(backup(&data, &to), "name a folder that is new or empty");
    said(restore(&to, &data), "restore into a folder that is new or empty");
    let file = to.join("events/00000000000000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[300] ^= 1;
    fs::write(&file, bytes).unwrap();
    said(
        look_at(&to),
        "00000000000000000001.log is not as it was written: its checksum is another; take another backup",
    );
    said(restore(&to, &again), "its checksum is another; take another backup");
    fs::remove_file(to.join("backup_manifest")).unwrap();
    said(look_at(&to), "backup_manifest is written last, and is not there");
    assert!(!again.exists());

    let mut child = store("append", &data, "--ack").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    writeln!(stdin, r#"{{"type":"a"}}"#).expect("it reads");
    stdout.read_line(&mut String::new()).expect("UTF-8");
    said(backup(&data, &folder.0.join("other")), " is in use: another process has this store open");
    drop(stdin);
    assert_eq!(finish(child).code(), Some(0));
}

#[test]
fn what_the_store_could_not_read_is_named_when_it_is_restored() {
    let folder = Folder::new("pipe-backup-damaged");
    let [data, to, again] = ["data", "backup", "again"].map(|name| folder.0.join(name));
    assert_eq!(append(&data, "", lines(10)).code(), Some(0));
    let file = data.join("00000000000000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[200] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(backup(&data, &to).code(), Some(0));
    assert_eq!(look_at(&to).code(), Some(0), "it is as it was written");
    let made = restore(&to, &again);
    assert_eq!(made.code(), Some(1));
    assert!(
        made.stdout.starts_with("9 events up to position 10 ") && made.stdout.ends_with(", 1 places cannot be read\n")
    );
    let named = again.join("00000000000000000001.log").display().to_string();
    assert!(made.stderr.contains(&named) && made.stderr.contains("positions 1 to 1"), "{}", made.stderr);
    assert_eq!(ids(&ask("query", &again, "")), (1..10).map(|id| id.to_string()).collect::<Vec<_>>());
}
