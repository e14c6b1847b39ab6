//! Backups that are not as they were written: each is refused before anything is made, and says which file it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmain::store::{Backup, Query, ReadError, RestoreError, Retention};

use super::{Load, open, restored};
use crate::folder::Folder;

const MANIFEST: &str = "backup_manifest";

/// A backup with archives, events and state, each in several files.
fn made(folder: &Folder) -> (PathBuf, Load) {
    let (store, to) = (open(folder.0.join("store")), folder.0.join("backup"));
    let mut load = Load::new(&store);
    (0..20).for_each(|_| load.go_on());
    store.keep(Retention::forever().archive_after(Duration::ZERO)).expect("the disk works");
    (0..20).for_each(|_| load.go_on());
    store.backup(&to, |_| {}).expect("the disk works");
    (to, load)
}

/// All files of a backup but its manifest.
fn files(backup: &Path) -> Vec<PathBuf> {
    let inside = |part: &str| fs::read_dir(backup.join(part)).unwrap().map(|entry| entry.unwrap().path());
    inside("events").chain(inside("state")).collect()
}

/// Why a backup is not restored; nothing is made.
fn refused(backup: &Path, folder: &Folder) -> RestoreError {
    let to = folder.0.join("again");
    let refused = Backup::open(backup).and_then(|backup| {
        // It is seen without restoring it, too.
        let seen = backup.verify(|_| {}).unwrap_err();
        let refused = backup.restore(&to, |_| {}).unwrap_err();
        assert_eq!(seen.to_string(), refused.to_string());
        Err::<(), _>(refused)
    });
    assert!(!to.exists() && !folder.0.join("again.restoring").exists());
    refused.unwrap_err()
}

#[test]
fn a_flipped_bit_is_found_in_every_file_and_a_file_that_is_cut_longer_or_missing() {
    let folder = Folder::new("backup-flipped");
    let (backup, load) = made(&folder);
    let files = files(&backup);
    let ends = ["log", "logz"].map(|end| files.iter().filter(|path| path.extension().unwrap() == end).count());
    assert!(
        ends.iter().all(|files| *files > 3)
            && files.iter().filter(|path| path.starts_with(backup.join("state"))).count() > 1
    );
    for path in &files {
        let whole = fs::read(path).unwrap();
        for (byte, bit) in [(0, 0), (70, 3), (whole.len() / 2, 7), (whole.len() - 1, 5)] {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            fs::write(path, flipped).unwrap();
            let refused = refused(&backup, &folder);
            assert!(matches!(&refused, RestoreError::Damaged { file } if file == path), "{refused}");
        }
        let longer = [&whole[..], &[0]].concat();
        for other in [&whole[..whole.len() - 1], &longer] {
            fs::write(path, other).unwrap();
            let refused = refused(&backup, &folder);
            let RestoreError::Length { file, found, written } = &refused else { panic!("{refused}") };
            assert_eq!((file, *found, *written), (path, Some(other.len() as u64), whole.len() as u64));
        }
        fs::remove_file(path).unwrap();
        let missing = refused(&backup, &folder);
        assert!(matches!(&missing, RestoreError::Length { file, found: None, .. } if file == path), "{missing}");
        fs::write(path, whole).unwrap();
    }
    restored(&Backup::open(&backup).expect("it is whole again"), &folder.0.join("again"), &load.frames);
}

#[test]
fn a_manifest_is_whole_or_there_is_no_backup() {
    let folder = Folder::new("backup-manifest");
    let (backup, _load) = made(&folder);
    let path = backup.join(MANIFEST);
    let whole = fs::read(&path).unwrap();
    for byte in 0..whole.len() {
        // Each bit of the last line, which is the check; elsewhere one of each byte.
        let bits = if byte + 16 > whole.len() { 0..8 } else { byte % 8..byte % 8 + 1 };
        for bit in bits {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            fs::write(&path, flipped).unwrap();
            let refused = refused(&backup, &folder);
            assert!(
                matches!(&refused, RestoreError::Manifest { file, .. } if *file == path),
                "{byte} {bit}: {refused}"
            );
        }
        fs::write(&path, &whole[..byte]).unwrap();
        let refused = refused(&backup, &folder);
        assert!(matches!(refused, RestoreError::Manifest { .. }), "{byte}: {refused}");
    }
    fs::remove_file(&path).unwrap();
    for folder_of_none in [&backup, &folder.0.join("store"), &folder.0.join("nowhere")] {
        let refused = refused(folder_of_none, &folder);
        assert!(matches!(&refused, RestoreError::NoBackup { folder } if folder == folder_of_none), "{refused}");
        assert!(refused.to_string().contains("backup_manifest is written last, and is not there"), "{refused}");
    }
    // Whoever writes a manifest by hand has its check right, and still leads nowhere else.
    let lines = |lines: &str| format!("{lines}check {:08x}\n", crc32c::crc32c(lines.as_bytes()));
    fs::write(&path, lines("ringmain backup, format 2\nnew\n")).unwrap();
    let newer = refused(&backup, &folder);
    assert!(matches!(newer, RestoreError::UnknownFormat { format: 2, known: 1, .. }), "{newer}");
    for name in
        ["events/../../note.log", "/etc/passwd", "table/00000000000000000001.log", "events/00000000000000000001.idx"]
    {
        let text = format!("ringmain backup, format 1\nmade 0\nposition 0\n{name} 0 00000000\n");
        fs::write(&path, lines(&text)).unwrap();
        let forged = refused(&backup, &folder);
        assert!(matches!(forged, RestoreError::Manifest { .. }), "{name}: {forged}");
    }
}

#[test]
fn what_the_store_could_not_read_is_backed_up_as_it_is_and_said_when_it_is_restored() {
    let folder = Folder::new("backup-damaged");
    let [data, to, again] = ["store", "backup", "again"].map(|name| folder.0.join(name));
    let mut load = Load::new(&open(&data));
    (0..10).for_each(|_| load.go_on());
    let (frames, first) = (load.frames.clone(), data.join("00000000000000000001.log"));
    drop(load);
    let mut bytes = fs::read(&first).unwrap();
    bytes[200] ^= 1;
    fs::write(&first, bytes).unwrap();
    let store = open(&data);
    let backup = store.backup(&to, |_| {}).expect("it is no damage of the backup");
    let restored = backup.restore(&again, |_| {}).expect("all is as it was");
    let [ReadError::Damaged(damage)] = &restored.unreadable[..] else { panic!("{restored:?}") };
    assert_eq!((&damage.file, &damage.missing), (&again.join("00000000000000000001.log"), &Some(1..=1)));
    assert_eq!(restored.events, frames.len() as u64 - 1);
    let behind = Query::new().behind(ringmain::store::Position::FIRST);
    assert!(behind.stream(&*open(&again)).zip(&frames[1..]).all(|(event, frame)| event.unwrap().frame() == frame));
}

#[test]
fn what_is_damaged_after_a_restore_is_damage_and_no_write_that_was_cut_short() {
    let folder = Folder::new("backup-durable");
    let again = folder.0.join("again");
    let (backup, load) = made(&folder);
    let position =
        Backup::open(&backup).and_then(|backup| backup.restore(&again, |_| {})).expect("it is whole").position;
    let newest = fs::read_dir(&again).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("there is one");
    let (mut bytes, last) = (fs::read(&newest).unwrap(), load.frames.last().expect("there are some").bytes());
    let at = bytes.windows(last.len()).position(|bytes| bytes == last).expect("it is the last event");
    bytes[at] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let store = open(&again);
    let missing = store.recovered().damages[0].missing.clone().expect("an event");
    assert_eq!((store.recovered().cut_bytes, Some(*missing.end())), (0, position.map(|position| position.get())));
}
