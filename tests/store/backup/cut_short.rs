//! Backups and restores that do not come to their end: killed, out of room, on a disk that fails or loses power. What is left is
//! never taken for a backup, or for a store.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ringmain::internals::store::backup::open_on as backup_on;
use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};
use ringmain::store::{
    Backup, BackupError, BackupProgress, Durability, EventStore, ExpectedVersion, LogStore, RestoreError,
};

use super::{Load, builder, open, restored};
use crate::alone::alone;
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::support::Shareable;
use crate::tmpfs::Tmpfs;

const KILLED: &str = "backup::cut_short::a_backup_that_is_killed_is_none_and_a_restore_that_is_killed_makes_no_store";
const FULL: &str =
    "backup::cut_short::a_disk_without_room_is_said_before_anything_is_written_and_one_that_fills_up_leaves_nothing";

/// Where in a job it waits to be killed.
fn wait_at(at: usize) -> impl FnMut(BackupProgress) {
    let mut told = 0;
    move |_| {
        told += 1;
        if told == at {
            writeln!(std::io::stdout(), "\nready").expect("the parent reads");
            loop {
                thread::park();
            }
        }
    }
}

/// Does what a file asks for, and waits somewhere in it.
fn child(folder: &Path) -> ! {
    let asked = fs::read_to_string(folder.join("asked")).expect("it is asked for something");
    let (job, at) = asked.split_once(' ').expect("a job and a place in it");
    let tell = wait_at(at.parse().expect("a number"));
    if job == "backup" {
        open(folder.join("store")).backup(folder.join("backup"), tell).expect("the disk works");
    } else {
        Backup::open(folder.join("whole"))
            .and_then(|backup| backup.restore(folder.join("again"), tell))
            .expect("it is whole");
    }
    std::process::exit(0);
}

/// Has a process killed where it has told so often of a job; `false` when it never did.
fn kill(folder: &Path, job: &str, at: usize) -> bool {
    fs::write(folder.join("asked"), format!("{job} {at}")).expect("the disk works");
    let mut is_killed = false;
    kill_after(1, KILLED, folder, |line| {
        is_killed |= line == "ready";
        line == "ready"
    });
    is_killed
}

#[test]
fn a_backup_that_is_killed_is_none_and_a_restore_that_is_killed_makes_no_store() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("backup-kill");
    let [data, to, whole, again] = ["store", "backup", "whole", "again"].map(|name| folder.0.join(name));
    let frames = {
        let store = open(&data);
        let mut load = Load::new(&store);
        (0..10).for_each(|_| load.go_on());
        store.backup(&whole, |_| {}).expect("the disk works");
        load.frames
    };
    let mut kills = 0;
    while kill(&folder.0, "backup", kills + 1) {
        kills += 1;
        let refused = Backup::open(&to).unwrap_err();
        assert!(matches!(refused, RestoreError::NoBackup { .. }), "kill {kills}: {refused}");
        let occupied = open(&data).backup(&to, |_| {}).unwrap_err();
        assert!(matches!(occupied, BackupError::Occupied { .. }), "kill {kills}: {occupied}");
        fs::remove_dir_all(&to).expect("it is there");
    }
    restored(&Backup::open(&to).expect("nobody killed the last"), &folder.0.join("last"), &frames);
    let mut restores = 0;
    while kill(&folder.0, "restore", restores + 1) {
        restores += 1;
        assert!(!again.exists(), "kill {restores}");
        let making = folder.0.join("again.restoring");
        if making.exists() {
            let refused = Backup::open(&whole).unwrap().restore(&again, |_| {}).unwrap_err();
            assert!(matches!(&refused, RestoreError::Unfinished { folder } if *folder == making), "{refused}");
            fs::remove_dir_all(&making).expect("it is there");
        }
    }
    assert!(LogStore::is_in(&again), "nobody killed the last");
    assert!(kills > 5 && restores > 8, "{kills} and {restores}");
}

/// A store on a disk in memory, closed.
fn written() -> SimDisk {
    let disk = SimDisk::new();
    let store = Arc::new(open_on(disk.shared(), builder("store")).expect("the disk works"));
    let mut load = Load::new(&store);
    (0..7).for_each(|_| load.go_on());
    drop(load);
    Arc::into_inner(store).expect("nobody else has it").close().expect("the disk works");
    disk
}

/// The same disk once more, of which nothing is known but what is on it.
fn copied(disk: &SimDisk) -> SimDisk {
    disk.without(Path::new("nothing"))
}

fn backed_up(disk: &SimDisk) -> (LogStore, Result<Backup, BackupError>) {
    let store = open_on(disk.shared(), builder("store")).expect("the disk works");
    let backup = store.backup("backup", |_| {});
    (store, backup)
}

/// Files of the backup on a disk.
fn left(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
    files.retain(|path| path.starts_with("backup"));
    files
}

#[test]
fn a_backup_on_a_disk_that_fails_is_none_leaves_nothing_and_is_made_again() {
    let whole = written();
    for failure in [Failure::Device, Failure::Full] {
        let mut nth = 0;
        loop {
            nth += 1;
            let disk = copied(&whole);
            let store = open_on(disk.shared(), builder("store")).expect("the disk works");
            disk.fail_at(nth, failure);
            let error = match store.backup("backup", |_| {}) {
                Ok(_) => break,
                Err(error) => error,
            };
            let is_full = matches!(error, BackupError::DiskFull(_));
            assert_eq!(is_full, failure == Failure::Full, "{failure:?} at {nth}: {error}");
            let found = backup_on(disk.shared(), "backup".into()).unwrap_err();
            assert!(matches!(found, RestoreError::NoBackup { .. }), "{failure:?} at {nth}: {found}");
            assert!(left(&disk).is_empty(), "{failure:?} at {nth}: {:?}", left(&disk));
            // The store does not mind.
            let appended = store.append(&Writer::new().frames("a", 1), ExpectedVersion::Any, Durability::Durable);
            appended.expect("the disk works");
            store.backup("backup", |_| {}).expect("the disk works").verify(|_| {}).expect("it is whole");
        }
        assert!(nth > 30, "{nth}");
    }
}

#[test]
fn a_backup_on_a_disk_that_writes_and_reads_less_than_it_was_asked_for_is_whole() {
    let whole = written();
    let operations = {
        let disk = copied(&whole);
        backed_up(&disk).1.expect("the disk works");
        disk.operations()
    };
    for nth in 1..=operations {
        let disk = copied(&whole);
        let store = open_on(disk.shared(), builder("store")).expect("the disk works");
        disk.fail_at(nth, Failure::Short);
        store.backup("backup", |_| {}).expect("nothing failed").verify(|_| {}).expect("it is whole");
    }
}

#[test]
fn a_backup_that_has_returned_survives_power_loss_and_none_is_whole_before() {
    let disk = copied(&written());
    let (store, backup) = backed_up(&disk);
    let position = backup.expect("the disk works").position();
    drop(store);
    let (mut replay, mut whole, mut none) = (Replay::new(&disk), 0, 0);
    loop {
        let chances = (0..10).map(|seed| Kept::Chance(seed + replay.at() as u64 * 10));
        let oldest = (0..=replay.pending()).map(Kept::Oldest);
        for kept in [Kept::Killed, Kept::Nothing].into_iter().chain(chances).chain(oldest) {
            let image = replay.image(kept);
            match backup_on(image.shared(), "backup".into()) {
                Ok(backup) => {
                    backup.verify(|_| {}).unwrap_or_else(|error| panic!("{} {kept:?}: {error}", replay.at()));
                    assert_eq!(backup.position(), position);
                    whole += 1;
                }
                Err(RestoreError::NoBackup { .. } | RestoreError::Manifest { .. }) => none += 1,
                Err(error) => panic!("{} {kept:?}: {error}", replay.at()),
            }
        }
        if !replay.step() {
            break;
        }
    }
    assert!(whole > 5 && none > 100, "{whole} and {none}");
    backup_on(replay.image(Kept::Nothing).shared(), "backup".into()).expect("it was durable when it was told of");
}

/// Alone: a file that is removed gives its room back when nobody has it open, and a process that another test forks does for a moment.
#[test]
fn a_disk_without_room_is_said_before_anything_is_written_and_one_that_fills_up_leaves_nothing() {
    alone(FULL, fill_up);
}

fn fill_up() {
    let Some(tmpfs) = Tmpfs::mount("backup-full") else { return };
    let folder = Folder::new("backup-full-store");
    let store = open(folder.0.join("store"));
    let mut load = Load::new(&store);
    (0..10).for_each(|_| load.go_on());
    let [to, again] = ["backup", "again"].map(|name| tmpfs.path().join(name));

    let ballast = tmpfs.fill("ballast");
    let refused = store.backup(&to, |_| {}).unwrap_err();
    assert!(matches!(&refused, BackupError::NoRoom { needed, free: 0, .. } if *needed > 50_000), "{refused}");
    assert!(!to.join("events").exists());
    fs::remove_file(&ballast).unwrap();
    let refused = store.backup(&to, |_| drop(tmpfs.fill("ballast"))).unwrap_err();
    assert!(matches!(&refused, BackupError::DiskFull(fault) if fault.path.starts_with(&to)), "{refused}");
    assert!(matches!(Backup::open(&to), Err(RestoreError::NoBackup { .. })));
    for part in ["events", "state"] {
        assert_eq!(fs::read_dir(to.join(part)).unwrap().count(), 0, "{part}");
    }
    fs::remove_file(&ballast).unwrap();
    // Where there is room it is made, in the same folder.
    let backup = store.backup(&to, |_| {}).expect("there is room");

    tmpfs.fill("ballast");
    let refused = backup.restore(&again, |_| {}).unwrap_err();
    assert!(matches!(refused, RestoreError::NoRoom { free: 0, .. }), "{refused}");
    fs::remove_file(&ballast).unwrap();
    let refused = backup.restore(&again, |progress| {
        // While it is copied.
        if progress.bytes > backup.bytes() {
            tmpfs.fill("ballast");
        }
    });
    assert!(matches!(refused, Err(RestoreError::DiskFull(_))), "{refused:?}");
    assert!(!again.exists() && !tmpfs.path().join("again.restoring").exists());
    fs::remove_file(&ballast).unwrap();
    restored(&backup, &folder.0.join("again"), &load.frames);
}
