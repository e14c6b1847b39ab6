//! The nth call to the disk fails, for every n: nothing acknowledged is lost, what failed is said, and the table can be
//! opened again and goes on.

use ringmain::internals::store::sim::{Kept, Replay, SimDisk};
use ringmain::internals::store::table::{ChangeError, CompactError, OpenError, PageRoom, Table};
use ringmain::internals::store::{self, AppendError, CommitError, Fault, ReadError, SyncError, Word};
use ringmain::store::StateKind;

use super::support::{KINDS, Map, Owned, apply, open, read_all, small};
use crate::ordeal::survive_every_failure;
use crate::support::Chance;

const APPLIED: u64 = 50;

/// A workload, what it holds, and what it met on its way.
struct Run {
    disk: SimDisk,
    table: Option<Table>,
    map: Map,
    said: Vec<&'static str>,
}

impl Run {
    fn table(&self) -> &Table {
        self.table.as_ref().expect("it is open")
    }

    fn say(&mut self, fault: &Fault) {
        self.said.push(fault.operation);
    }

    /// Opens the table again; it holds one of these.
    fn open(&mut self, allowed: [&Map; 2]) {
        self.table = None;
        let table = loop {
            match open(&self.disk, small()) {
                Ok((table, opened)) => {
                    assert!(opened.recovered.damages.is_empty(), "{opened:?}");
                    break table;
                }
                Err(OpenError::Disk(fault) | OpenError::Log(store::OpenError::Disk(fault))) => self.say(&fault),
                Err(other) => panic!("{other}"),
            }
        };
        self.map = self.read(&table);
        assert!(allowed.contains(&&self.map), "what was acknowledged is there");
        self.table = Some(table);
    }

    /// After a failure: if the log ended, it takes nothing more, and what it had acknowledged is there.
    fn go_on(&mut self, failed: &Map) {
        let Some(fault) = self.table().fault() else { return };
        let again =
            self.table().put(StateKind::CURSOR, b"again", b"", Word::Written).expect_err("it takes nothing more");
        let ChangeError::Commit(CommitError::Append(AppendError::Disk(said))) = &again else { panic!("{again}") };
        assert_eq!(said.operation, fault.operation);
        let map = self.map.clone();
        self.open([&map, failed]);
    }

    /// All that the table holds, each value tried again if it cannot be read.
    fn read(&mut self, table: &Table) -> Map {
        let mut map = Map::new();
        for kind in KINDS {
            let mut from = Some(Box::default());
            while let Some(at) = &from {
                match table.page(kind, at, PageRoom::of(5).expect("a page may have 5")) {
                    Ok(page) => {
                        let entries = page.entries.iter().map(|(key, value)| ((kind, key.to_vec()), value.to_vec()));
                        map.extend(entries);
                        from = page.next;
                    }
                    Err((_, ReadError::Disk(fault))) => self.say(&fault),
                    Err((_, other)) => panic!("{other}"),
                }
            }
        }
        map
    }

    fn compact(&mut self) {
        match self.table().compact() {
            Ok(()) => {}
            Err(
                CompactError::Read(fault)
                | CompactError::Append(CommitError::Append(AppendError::Disk(fault) | AppendError::Full(fault)))
                | CompactError::Sync(SyncError(fault))
                | CompactError::Retire(store::RetireError(fault)),
            ) => {
                self.say(&fault);
                self.go_on(&self.map.clone());
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn apply(&mut self, changes: &[Owned], word: Word) {
        let mut map = self.map.clone();
        changes.iter().for_each(|change| change.apply(&mut map));
        match apply(self.table(), changes, word) {
            Ok(()) => self.map = map,
            Err(ChangeError::Commit(
                CommitError::Append(AppendError::Disk(fault)) | CommitError::Sync(SyncError(fault)),
            )) => {
                self.say(&fault);
                self.go_on(&map);
            }
            Err(ChangeError::Commit(CommitError::Append(AppendError::Full(fault)))) => {
                self.say(&fault);
                assert!(self.table().fault().is_none(), "the table is as it was");
            }
            Err(other) => panic!("{other}"),
        }
        if let Some(fault) = self.table().fault().cloned() {
            // A change was made, and its share of compaction failed, or a mark that nobody waited for.
            self.say(&fault);
            self.go_on(&self.map.clone());
        }
    }
}

/// Changes, compacts and opens again by chance, opening again after each failure; then all is durable.
fn workload(disk: &SimDisk) -> Vec<&'static str> {
    let mut run = Run { disk: disk.clone(), table: None, map: Map::new(), said: Vec::new() };
    let none = Map::new();
    run.open([&none, &none]);
    let mut chance = Chance(5);
    for turn in 1..=APPLIED {
        let changes: Vec<_> = (0..1 + chance.below(3)).map(|_| Owned::by_chance(&mut chance)).collect();
        run.apply(&changes, if turn % 5 == 0 { Word::Durable } else { Word::Written });
        if turn % 17 == 0 {
            run.compact();
        }
        if turn % 13 == 0 {
            let map = run.map.clone();
            run.open([&map, &map]);
        }
    }
    if let Err(SyncError(fault)) = run.table().sync() {
        run.say(&fault);
        run.go_on(&run.map.clone());
        run.table().sync().expect("the disk works again");
    }
    // What is durable survives the power loss that follows.
    let mut replay = Replay::new(disk);
    while replay.step() {}
    let (table, _) = open(&replay.image(Kept::Nothing), small()).expect("the disk works again");
    assert_eq!(read_all(&table), run.map);
    run.said
}

#[test]
fn a_failure_at_any_call_is_said_and_loses_no_change() {
    survive_every_failure(workload);
}

#[test]
fn a_table_on_a_full_disk_can_be_read_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    disk.set_capacity_bytes(9_000);
    let (table, _) = open(&disk, small()).expect("the disk works");
    let mut map = Map::new();
    let put =
        |table: &Table, key: u64| table.put(StateKind::TIMER, &key.to_be_bytes(), &[key as u8; 300], Word::Written);
    let mut key = 0;
    let full = loop {
        match put(&table, key) {
            Ok(()) => map.insert((StateKind::TIMER, key.to_be_bytes().to_vec()), vec![key as u8; 300]),
            Err(full) => break full,
        };
        key += 1;
    };
    assert!(matches!(full, ChangeError::Commit(CommitError::Append(AppendError::Full(_)))), "{full}");
    assert!(matches!(table.compact(), Err(CompactError::Append(CommitError::Append(AppendError::Full(_))))));
    assert!(table.stats().not_compacted.is_some());
    assert_eq!(read_all(&table), map);
    drop(table);
    let (table, _) = open(&disk, small()).expect("a full disk is no reason not to open");
    assert_eq!(read_all(&table), map);
    disk.set_capacity_bytes(50_000);
    put(&table, key).expect("there is room");
    table.compact().expect("there is room");
    assert!(table.stats().not_compacted.is_none());
    map.insert((StateKind::TIMER, key.to_be_bytes().to_vec()), vec![key as u8; 300]);
    assert_eq!(read_all(&table), map);
}
