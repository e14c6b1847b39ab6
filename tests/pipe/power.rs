//! What is said of a store that was written to before the machine went down.

use std::fs;
use std::io;
use std::path::Path;
use std::slice;
use std::sync::Arc;

use ringmain::internals::store::{Access, Boot, Disk, DiskFile, FolderLock, RealDisk, open_on};
use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query, StateChange, StateKind, StateStore};

use crate::folder::Folder;
use crate::store::{append, ask};

/// The real disk, since another start of the machine.
#[derive(Debug)]
struct Before;

impl Disk for Before {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.create_folder(folder)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path, access)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }
    fn lock(&self, folder: &Path) -> io::Result<Box<dyn FolderLock>> {
        RealDisk.lock(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(folder)
    }
    fn boot(&self) -> Option<Boot> {
        Boot::new(1)
    }
    fn unix_now_ns(&self) -> u64 {
        RealDisk.unix_now_ns()
    }
    fn steady_now_ns(&self) -> u64 {
        RealDisk.steady_now_ns()
    }
}

/// Changes the first place of a file that holds this.
fn damage(file: &Path, text: &[u8]) {
    let mut bytes = fs::read(file).expect("it can be read");
    let place = bytes.windows(text.len()).position(|bytes| bytes == text).expect("it is in it");
    bytes[place] ^= 1;
    fs::write(file, bytes).expect("it can be written");
}

#[test]
fn what_may_be_lost_since_the_machine_went_down_is_said_and_verify_does_not_pass_it() {
    let made = Folder::new("pipe-power-made");
    let lines = ["first", "second", "third"].map(|id| format!("{{\"type\":\"a\",\"id\":\"{id}\"}}\n")).concat();
    assert_eq!(append(&made.0, "", lines).code(), Some(0));
    let store = LogStore::open(&made.0).expect("it can be opened");
    let frames: Vec<_> = Query::new().stream(&store).map(|event| event.expect("it is whole").frame().clone()).collect();
    for (of, file, text) in [("", "", "second"), ("of snapshots and state: ", "table", "letter")] {
        let folder = Folder::new("pipe-power");
        let store = open_on(Arc::new(Before), LogStore::builder(&folder.0)).expect("it can be opened");
        for frame in &frames {
            store.append(slice::from_ref(frame), ExpectedVersion::Any, Durability::Written).expect("the disk works");
        }
        let put = StateChange::Put { kind: StateKind::DEAD_LETTER, key: b"key", value: b"letter" };
        store.apply(&[put], Durability::Written).expect("the disk works");
        drop(store);
        assert_eq!(ask("verify", &folder.0, "").code(), Some(0), "the disk had got all of it");
        damage(&folder.0.join(file).join("00000000000000000001.log"), text.as_bytes());
        let verify = ask("verify", &folder.0, "");
        let events = if of.is_empty() { 1 } else { 3 };
        assert_eq!(verify.stdout, format!("{events} events read, all that is left can be read\n"), "{}", verify.stderr);
        assert_eq!(verify.code(), Some(1));
        let said = "bytes at the end were cut off: the machine went down before they were synced, and what was \
                    acknowledged as written may be among them";
        assert!(verify.stderr.starts_with(&format!("ringmain: {of}")), "{}", verify.stderr);
        assert!(verify.stderr.contains(said), "{}", verify.stderr);
    }
}
