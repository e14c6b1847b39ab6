//! Restoring: all is verified before anything is made, the store is made beside its place, read as a whole, and put there at last.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{self, Path, PathBuf};

use crate::Frame;

use super::super::log::{Access, Disk, File, RealDisk, retried, sync_folder};
use super::super::log_store::folder_of;
use super::super::{Damage, EventStore, LogStore, OpenError, Position, Query, ReadError, Retention};
use super::manifest::Entry;
use super::{Backup, BackupProgress, COPY_BYTES, Part, RestoreError, copy, each_piece};

/// What the name of the folder ends with in which a store is made.
const MAKING: &str = ".restoring";
/// How many events are read before it is told how far that is.
const TOLD_EVERY: u64 = 1_024;

/// What was restored.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoredStore {
    /// The position of the last event.
    pub position: Option<Position>,
    /// Events that can be read.
    pub events: u64,
    /// What cannot be read of events, snapshots and state. The backup has it as the store had it when it was made.
    pub unreadable: Vec<ReadError>,
}

impl Backup {
    /// Reads all files, and says whether they are as they were written.
    ///
    /// # Errors
    /// [`RestoreError::Length`] or [`RestoreError::Damaged`] for the first that is not; [`RestoreError::Disk`].
    pub fn verify(&self, mut tell: impl FnMut(BackupProgress)) -> Result<(), RestoreError> {
        let mut progress = BackupProgress { bytes: 0, bytes_total: self.bytes() };
        self.verify_telling(|bytes| {
            progress.bytes += bytes;
            tell(progress);
        })
    }

    fn verify_telling(&self, mut tell: impl FnMut(u64)) -> Result<(), RestoreError> {
        let mut buffer = vec![0; COPY_BYTES];
        for entry in &self.manifest.entries {
            let file = self.file(entry)?;
            let (_, check) = each_piece(&file, entry.bytes, &mut buffer, |piece, _| {
                tell(piece.len() as u64);
                Ok(())
            })?;
            entry.expect(check, &file)?;
        }
        Ok(())
    }

    /// A file of it, as long as it was written.
    fn file(&self, entry: &Entry) -> Result<File, RestoreError> {
        let path = entry.path(&self.folder);
        let wrong = |found| RestoreError::Length { file: path.clone(), found, written: entry.bytes };
        let file = match File::open(&*self.disk, &path, Access::Read) {
            Err(fault) if fault.source.kind() == ErrorKind::NotFound => return Err(wrong(None)),
            file => file?,
        };
        match file.length()? {
            length if length == entry.bytes => Ok(file),
            length => Err(wrong(Some(length))),
        }
    }

    /// Makes a store of it in a folder, which must be new or empty, and reads all of it. The store is made in a folder beside, of
    /// the same name with `.restoring` behind it, which takes its place at last: whatever ends this before, there is no half store.
    /// `tell` hears how far it is.
    ///
    /// # Errors
    /// [`RestoreError`]: nothing is in the folder. What the store could not read when the backup was made is no error: see
    /// [`RestoredStore::unreadable`].
    ///
    /// # Cost
    /// Reads the backup twice, writes and reads the store once.
    pub fn restore(
        &self,
        folder: impl AsRef<Path>,
        mut tell: impl FnMut(BackupProgress),
    ) -> Result<RestoredStore, RestoreError> {
        let folder = folder.as_ref();
        let folder = retried("find", folder, || path::absolute(folder))?;
        let place = Place::of(&folder)?;
        let bytes = self.bytes();
        let mut progress = BackupProgress { bytes: 0, bytes_total: 3 * bytes };
        let mut told = |more| {
            progress.bytes += more;
            tell(progress);
        };
        self.verify_telling(&mut told)?;
        let making = place.make(bytes)?;
        self.copy_to(&making.folder, &mut told)?;
        let restored = self.look_at(&making.folder, &folder, |share| {
            tell(BackupProgress { bytes: 2 * bytes + (bytes as f64 * share) as u64, bytes_total: 3 * bytes });
        })?;
        making.put(&folder)?;
        Ok(restored)
    }

    /// Copies all files to where they are in a store.
    fn copy_to(&self, folder: &Path, mut tell: impl FnMut(u64)) -> Result<(), RestoreError> {
        let folders = Part::ALL.map(|part| (part, folder_of(folder, part)));
        for (_, folder) in &folders {
            retried("create the folder", folder, || RealDisk.create_folder(folder))?;
        }
        let mut buffer = vec![0; COPY_BYTES];
        for entry in &self.manifest.entries {
            let source = self.file(entry)?;
            let path = folder_of(folder, entry.part).join(&entry.name);
            let target = File::open(&RealDisk, &path, Access::Create)?;
            let (_, check) = copy(&source, (entry.bytes, &[]), &target, &mut buffer, &mut tell)?;
            entry.expect(check, &source)?;
        }
        for (_, folder) in &folders {
            sync_folder(&RealDisk, folder)?;
        }
        Ok(())
    }

    /// Opens the store that was made, and reads all of it; it comes to another place then.
    fn look_at(&self, made: &Path, place: &Path, mut tell: impl FnMut(f64)) -> Result<RestoredStore, RestoreError> {
        let store = LogStore::builder(made).retention(Retention::forever()).open().map_err(|error| match error {
            OpenError::Disk(fault) => RestoreError::from(fault),
            error => RestoreError::Open(error),
        })?;
        let (first, last) = store.stats().positions.map_or((1, 0), |(first, last)| (first.get(), last.get()));
        let found = store.head().map_err(RestoreError::Read)?;
        if found != self.position() {
            return Err(RestoreError::Position { found, made: self.position() });
        }
        let mut restored = RestoredStore { position: found, events: 0, unreadable: Vec::new() };
        let mut query = Query::new();
        loop {
            let mut malformed = Vec::new();
            let visited = query.clone().visit(&store, |event| {
                restored.events += 1;
                let position = event.position();
                // Whoever lends it has looked at its checksum, and not at each field.
                if let Err(error) = Frame::read(event.frame().bytes()) {
                    malformed.push(ReadError::NoEvent { position, error });
                }
                if position.get() % TOLD_EVERY == 0 {
                    tell((position.get() - first) as f64 / (last - first + 1) as f64);
                }
                ControlFlow::Continue(())
            });
            restored.unreadable.append(&mut malformed);
            let Err(error) = visited else { break };
            let Some(behind) = error.behind() else { return Err(RestoreError::Read(error)) };
            restored.unreadable.push(error);
            query = query.behind(behind);
        }
        // Damage that no position is missing for is found by opening only.
        let by_opening = store.recovered().damages.iter().filter(|damage| damage.missing.is_none()).cloned();
        restored.unreadable.extend(by_opening.chain(store.state_damages()).map(ReadError::Damaged));
        for error in &mut restored.unreadable {
            if let ReadError::Damaged(Damage { file, .. }) = error
                && let Ok(within) = file.strip_prefix(made)
            {
                *file = place.join(within);
            }
        }
        tell(1.0);
        Ok(restored)
    }
}

impl Entry {
    fn expect(&self, check: u32, file: &File) -> Result<(), RestoreError> {
        if self.check == check { Ok(()) } else { Err(RestoreError::Damaged { file: file.path().to_owned() }) }
    }
}

/// Where a store is to be: a folder that is not there, or empty.
struct Place<'a> {
    folder: &'a Path,
    parent: &'a Path,
    making: PathBuf,
}

impl<'a> Place<'a> {
    fn of(folder: &'a Path) -> Result<Self, RestoreError> {
        let occupied = || RestoreError::Occupied { folder: folder.to_owned() };
        match retried("list", folder, || RealDisk.list(folder)) {
            Ok(names) if names.is_empty() => {}
            Ok(_) => return Err(occupied()),
            Err(fault) if fault.source.kind() == ErrorKind::NotFound => {}
            Err(fault) if fault.source.kind() == ErrorKind::NotADirectory => return Err(occupied()),
            Err(fault) => return Err(fault.into()),
        }
        let (parent, mut name) = folder.parent().zip(folder.file_name().map(ToOwned::to_owned)).ok_or_else(occupied)?;
        name.push(MAKING);
        Ok(Self { folder, parent, making: parent.join(name) })
    }

    /// Makes the folder beside, if there is room for so many bytes.
    fn make(self, needed: u64) -> Result<Making, RestoreError> {
        let Self { folder, parent, making } = self;
        retried("create the folder", parent, || RealDisk.create_folder(parent))?;
        let free = retried("measure", parent, || RealDisk.free_bytes(parent))?;
        if needed > free {
            return Err(RestoreError::NoRoom { folder: folder.to_owned(), needed, free });
        }
        match retried("create the folder", &making, || fs::create_dir(&making)) {
            Err(fault) if fault.source.kind() == ErrorKind::AlreadyExists => {
                Err(RestoreError::Unfinished { folder: making })
            }
            made => Ok(made.map(|()| Making { folder: making, is_put: false })?),
        }
    }
}

/// The folder in which a store is made; removed unless it was put in its place.
struct Making {
    folder: PathBuf,
    is_put: bool,
}

impl Making {
    /// Puts it in its place, durably.
    fn put(mut self, place: &Path) -> Result<(), RestoreError> {
        match retried("rename", &self.folder, || fs::rename(&self.folder, place)) {
            // Somebody has made something there meanwhile.
            Err(fault) if matches!(fault.source.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                return Err(RestoreError::Occupied { folder: place.to_owned() });
            }
            renamed => renamed?,
        }
        let parent = place.parent().expect("it is in the folder that it was made in");
        let synced = sync_folder(&RealDisk, parent);
        // What may not survive the loss of power is not left as if it did.
        self.is_put = synced.is_ok() || fs::rename(place, &self.folder).is_err();
        Ok(synced?)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.is_put {
            // What cannot be removed is said by the next restore.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
