//! Backups: the store as it was at one moment, made while events are appended, state is changed and old events are removed.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use ringmain::store::{
    Backup, BackupError, BackupProgress, Durability, DurableSubscription, EventStore, ExpectedVersion, LogStore,
    LogStoreBuilder, Position, Query, RestoreError, Retention, Snapshot, StateChange, StateKind, StateStore,
};
use ringmain::{Frame, Payload};

use crate::conformance::Writer;
use crate::folder::Folder;

mod broken;
mod cut_short;

/// So long that state is in several files, with so many keys.
const STATE_BYTES: usize = 7_000;
const STATE_KEYS: u64 = 32;
const STATE: StateKind = StateKind::own(1);
const READER: &str = "billing";
/// All but the newest file, as far as nobody needs it.
const REMOVED: Retention = Retention::forever().archive_after(Duration::ZERO).remove_after(Duration::ZERO);

/// A store with files of about a dozen events.
fn builder(folder: impl AsRef<Path>) -> LogStoreBuilder {
    let builder = LogStore::builder(folder.as_ref()).segment_bytes(4_096).event_bytes_max(3_000);
    builder.retention(Retention::forever()).snapshot_state_bytes_max(64).state_batch_bytes_max(2 * STATE_BYTES + 100)
}

fn open(folder: impl AsRef<Path>) -> Arc<LogStore> {
    Arc::new(builder(folder).open().expect("it can be opened"))
}

fn reader(store: &Arc<LogStore>) -> DurableSubscription {
    DurableSubscription::builder(store.clone(), store.clone(), READER).open().expect("nobody else has this name")
}

/// State that speaks of an event, in keys that are changed together.
fn speak_of(store: &LogStore, position: u64) {
    let long = position.to_le_bytes().repeat(STATE_BYTES / 8);
    let one_of_many = (position % STATE_KEYS).to_le_bytes();
    let changes = [(&b"long"[..], &long[..]), (b"last", &position.to_le_bytes()), (&one_of_many, &long)];
    let changes = changes.map(|(key, value)| StateChange::Put { kind: STATE, key, value });
    store.apply(&changes, Durability::Written).expect("the disk works");
}

/// The event that state speaks of.
fn spoken_of(store: &LogStore) -> u64 {
    let [long, last] = [&b"long"[..], b"last"].map(|key| store.get(STATE, key).expect("it can be read"));
    let Some((long, last)) = long.zip(last) else { return 0 };
    assert_eq!(*long, last.repeat(STATE_BYTES / 8), "what was changed together is together");
    u64::from_le_bytes((*last).try_into().expect("it is a number"))
}

/// What goes on in a store.
struct Load {
    store: Arc<LogStore>,
    writer: Writer,
    reader: DurableSubscription,
    /// All events, by position.
    frames: Vec<Frame>,
    version: u64,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Moment {
    position: u64,
    spoken_of: u64,
    read: u64,
    snapshot: u64,
}

impl Load {
    fn new(store: &Arc<LogStore>) -> Self {
        Self { store: store.clone(), writer: Writer::new(), reader: reader(store), frames: Vec::new(), version: 0 }
    }

    /// Five events, of which one is read, a snapshot, and state that speaks of the last.
    fn go_on(&mut self) {
        self.version += 1;
        let mut frames = self.writer.frames("a", 4);
        frames.extend(self.writer.of_aggregate("order", "7", self.version..=self.version));
        self.store.append(&frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
        self.frames.append(&mut frames);
        let snapshot = Snapshot::new("order", "7", self.version, Payload::json("{}"));
        self.store.save_snapshot(&snapshot).expect("the disk works");
        speak_of(&self.store, self.frames.len() as u64);
        self.read(1);
    }

    fn read(&mut self, events: usize) {
        for _ in 0..events {
            let event = self.reader.try_recv().expect("it can be read").expect("it is behind");
            self.reader.ack(event.position()).expect("the disk works");
        }
    }

    fn moment(&self) -> Moment {
        let read = self.reader.acknowledged().map_or(0, Position::get);
        Moment { position: self.frames.len() as u64, spoken_of: spoken_of(&self.store), read, snapshot: self.version }
    }
}

/// Restores a backup; checks that its events are those that were appended, and returns where it stands.
fn restored(backup: &Backup, folder: &Path, frames: &[Frame]) -> Moment {
    let restored = backup.restore(folder, |_| {}).expect("it is whole");
    assert!(restored.unreadable.is_empty(), "{:?}", restored.unreadable);
    assert_eq!(restored.position, backup.position());
    let store = open(folder);
    assert_eq!((store.recovered().cut_bytes, store.state_recovered().cut_bytes), (0, 0));
    let position = backup.position().map_or(0, Position::get);
    let first = store.first().expect("it can be read").map_or(1, Position::get);
    let mut expected = first;
    for event in Query::new().stream(&*store) {
        let event = event.expect("it can be read");
        assert_eq!((event.position().get(), event.frame()), (expected, &frames[expected as usize - 1]));
        expected += 1;
    }
    assert_eq!((expected - 1, restored.events), (position, expected - first), "all up to its position, and no more");
    let mut reader = reader(&store);
    let read = reader.acknowledged().map_or(0, Position::get);
    // Whoever reads on goes on where he was: that is in the store, and nothing behind it was removed.
    let next = reader.try_recv().expect("nothing is missing").map(|event| event.position().get());
    assert_eq!(next, (read < position).then_some(read + 1));
    let snapshot = store.load_snapshot("order", "7").expect("it can be read").map_or(0, |snapshot| snapshot.version());
    // It goes on.
    let mut writer = Writer::new();
    let appended = store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Durable);
    assert_eq!(appended.expect("the disk works").positions().start().get(), position + 1);
    Moment { position, spoken_of: spoken_of(&store), read, snapshot }
}

#[test]
fn a_backup_is_the_store_at_one_moment_whatever_goes_on_beside() {
    let folder = Folder::new("backup-moment");
    let [data, to, again] = ["store", "backup", "again"].map(|name| folder.0.join(name));
    let store = open(&data);
    let mut load = Load::new(&store);
    (0..20).for_each(|_| load.go_on());
    let archived = store.keep(Retention::forever().archive_after(Duration::ZERO)).expect("the disk works");
    assert!(archived.archived_segments > 3, "{archived:?}");
    (0..20).for_each(|_| load.go_on());
    // A fifth of what was read may go.
    store.keep(REMOVED).expect("the disk works");
    let moment = load.moment();
    let (mut told, mut compactions) = (Vec::new(), Vec::new());
    let backup = store.backup(&to, |progress| {
        // On this very thread, so nothing of it waits for the backup.
        load.go_on();
        load.read(5);
        let kept = store.keep(REMOVED).expect("the disk works");
        assert_eq!((kept.archived_segments, kept.removed_segments), (0, 0), "nothing goes meanwhile");
        compactions.push(store.compact().map_err(|error| error.to_string()));
        told.push(progress);
    });
    let backup = backup.expect("the disk works");
    assert!(load.moment().position > moment.position + 50);
    let BackupProgress { bytes, bytes_total, .. } = *told.last().expect("it was told");
    assert_eq!((bytes, bytes_total), (backup.bytes(), backup.bytes()));
    assert!(told.is_sorted_by_key(|progress| progress.bytes) && told.len() >= backup.files(), "{told:?}");
    // While state is copied its files stay; then they may go.
    let held = compactions.iter().take_while(|compacted| compacted.is_err()).count();
    assert!(held > 1 && compactions[held..].iter().all(Result::is_ok), "{compactions:?}");
    assert!(compactions[0].as_ref().is_err_and(|error| error.contains("compact it when that has ended")));
    let kept = store.keep(REMOVED).expect("the disk works");
    assert!(kept.archived_segments + kept.removed_segments > 0, "{kept:?}");
    store.compact().expect("the disk works");

    let names =
        |part: &str| fs::read_dir(to.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let events = names("events");
    assert!(events.iter().any(|path| path.extension().is_some_and(|end| end == "logz")), "{events:?}");
    assert!(names("state").len() > 2);
    assert!(!LogStore::is_in(&to), "nobody takes it for a store");
    assert_eq!(restored(&Backup::open(&to).expect("it is whole"), &again, &load.frames), moment);
}

/// How far an appender and a reader have come, and whether they are to end.
#[derive(Default)]
struct Steps {
    state: Mutex<([u64; 2], bool)>,
    changed: Condvar,
}

/// Has all threads end, also when one panics.
struct End<'a>(&'a Steps);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().1 = true;
        self.0.changed.notify_all();
    }
}

impl Steps {
    fn step(&self, thread: usize) {
        self.state.lock().unwrap().0[thread] += 1;
        self.changed.notify_all();
    }

    fn goes_on(&self) -> bool {
        !self.state.lock().unwrap().1
    }

    /// Waits while it holds of the two.
    fn wait_while(&self, holds: impl Fn([u64; 2]) -> bool) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(steps, is_over)| !*is_over && holds(*steps)).unwrap());
    }

    /// Waits until both have gone on.
    fn wait(&self) {
        let before = self.state.lock().unwrap().0;
        self.wait_while(|steps| steps.iter().zip(before).any(|(now, before)| *now < before + 2));
    }
}

#[test]
fn backups_amid_threads_are_prefixes_with_state_that_is_not_ahead() {
    const BACKUPS: usize = 6;
    /// Events that the appender is ahead of the reader, at most: during a backup he comes to some that are not in it.
    const AHEAD: u64 = 5;
    let folder = Folder::new("backup-threads");
    let store = open(folder.0.join("store"));
    let steps = Steps::default();
    // Its cursor is there before anything is removed.
    let mut reader = reader(&store);
    let (frames, acknowledged) = (Mutex::new(Vec::new()), Mutex::new(Moment::default()));
    let backups: Vec<(Moment, Backup)> = thread::scope(|scope| {
        scope.spawn(|| {
            let (_end, mut writer) = (End(&steps), Writer::new());
            while steps.goes_on() {
                let more = writer.frames("a", 5);
                // Before they are appended: a backup may have them before that has returned.
                frames.lock().unwrap().extend(more.iter().cloned());
                let appended = store.append(&more, ExpectedVersion::Any, Durability::Written).expect("the disk works");
                acknowledged.lock().unwrap().position = appended.positions().end().get();
                steps.step(0);
                steps.wait_while(|[appended, read]| 5 * appended > read + AHEAD);
            }
        });
        scope.spawn(|| {
            let _end = End(&steps);
            while steps.goes_on() {
                let Some(event) = reader.try_recv().expect("nothing is missing") else { continue };
                let position = event.position();
                reader.ack(position).expect("the disk works");
                acknowledged.lock().unwrap().read = position.get();
                speak_of(&store, position.get());
                acknowledged.lock().unwrap().spoken_of = position.get();
                steps.step(1);
            }
        });
        scope.spawn(|| {
            let _end = End(&steps);
            while steps.goes_on() {
                store.keep(REMOVED).expect("the disk works");
                // A backup may hold that up.
                let _ = store.compact();
            }
        });
        let _end = End(&steps);
        let made = (0..BACKUPS).map(|nth| {
            steps.wait();
            let before = *acknowledged.lock().unwrap();
            let mut waited = 0;
            let backup = store.backup(folder.0.join(format!("backup-{nth}")), |_| {
                // The others go on in the midst of it.
                if waited < 5 {
                    steps.wait();
                    waited += 1;
                }
            });
            (before, backup.expect("the disk works"))
        });
        made.collect()
    });
    let frames = frames.into_inner().unwrap();
    for (nth, (before, backup)) in backups.iter().enumerate() {
        let found = restored(backup, &folder.0.join(format!("again-{nth}")), &frames);
        assert!(found.position >= before.position, "{nth}: {found:?}, acknowledged {before:?}");
        assert!(found.spoken_of >= before.spoken_of && found.read >= before.read, "{nth}: {found:?}, {before:?}");
        assert!(found.spoken_of <= found.position && found.read <= found.position, "{nth}: {found:?}");
    }
}

#[test]
fn a_store_that_was_never_written_to_has_a_backup_too() {
    let folder = Folder::new("backup-empty");
    let backup = open(folder.0.join("store")).backup(folder.0.join("backup"), |_| {}).expect("the disk works");
    assert_eq!((backup.position(), backup.files(), backup.bytes()), (None, 0, 0));
    assert_eq!(restored(&backup, &folder.0.join("deep/in/again"), &[]), Moment::default());
}

#[test]
fn a_backup_and_a_restore_take_no_folder_that_has_something_in_it() {
    let folder = Folder::new("backup-occupied");
    let [data, to, other, file] = ["store", "backup", "other", "file"].map(|name| folder.0.join(name));
    let store = open(&data);
    let mut load = Load::new(&store);
    (0..3).for_each(|_| load.go_on());
    let backup = store.backup(&to, |_| {}).expect("the disk works");
    for occupied in [&to, &data] {
        let refused = store.backup(occupied, |_| {}).unwrap_err();
        assert!(matches!(&refused, BackupError::Occupied { folder } if folder == occupied), "{refused}");
    }
    backup.verify(|_| {}).expect("it was left alone");
    drop((load, store));

    fs::create_dir(&other).unwrap();
    fs::write(other.join("note"), "mine").unwrap();
    fs::write(&file, "mine").unwrap();
    for occupied in [&data, &to, &other, &file] {
        let refused = backup.restore(occupied, |_| {}).unwrap_err();
        assert!(matches!(&refused, RestoreError::Occupied { folder } if folder == occupied), "{refused}");
    }
    assert_eq!(spoken_of(&open(&data)), 15, "the store is as it was");
    assert_eq!(fs::read_to_string(other.join("note")).unwrap(), "mine");
    // Somebody is first while the store is being made.
    let late = folder.0.join("late");
    let refused = backup.restore(&late, |_| {
        fs::create_dir_all(&late).unwrap();
        fs::write(late.join("note"), "mine").unwrap();
    });
    assert!(matches!(refused, Err(RestoreError::Occupied { .. })), "{refused:?}");
    assert_eq!((LogStore::is_in(&late), folder.0.join("late.restoring").exists()), (false, false));
}
