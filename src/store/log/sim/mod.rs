//! A disk in memory, for tests and for simulation: it knows what is written and what is synced, fails where it is told to,
//! and shows what power loss may leave of it.
//!
//! It is as unkind as the rules allow. A file that was made is lost unless its folder was synced, a folder with all in it unless its
//! parent was, a write unless its file was; a sync that fails leaves what was written readable, and never writes it: only writing it again does.

mod file;
mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Access, Boot, Disk, DiskFile, FolderLock};

use file::{SimFile, SimLock};

pub use image::{Kept, Replay};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// An error of the device; half of a write is written.
    Device,
    /// The disk is full; half of a write is written.
    Full,
    /// Interrupted before it did anything.
    Interrupted,
    /// Half of a write is written, half of a read is read, without an error. Other operations succeed.
    Short,
}

/// A disk in memory. Cheap to clone; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What was there before the first effect, durably.
    base: Files,
    files: Files,
    effects: Vec<Effect>,
    /// Calls so far, of every kind.
    operations: u64,
    fail: Option<(u64, Failure)>,
    locks: BTreeSet<PathBuf>,
    now_unix_ns: u64,
    /// By how much the wall clock was set.
    stepped_ns: i64,
    /// Bytes that all files may have together.
    capacity_bytes: u64,
    /// Room is not given before it is written to.
    sets_nothing_aside: bool,
    /// How often the machine was started.
    boots: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            base: Files::default(),
            files: Files::default(),
            effects: Vec::new(),
            operations: 0,
            fail: None,
            locks: BTreeSet::new(),
            now_unix_ns: 1_767_225_600_000_000_000,
            stepped_ns: 0,
            capacity_bytes: u64::MAX,
            sets_nothing_aside: false,
            boots: 1,
        }
    }
}

/// Files and their names.
#[derive(Debug, Clone, Default)]
struct Files {
    contents: Vec<Arc<Vec<u8>>>,
    names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

/// What an operation changed.
#[derive(Debug, Clone)]
enum Effect {
    Create(PathBuf, usize),
    Write(usize, u64, Arc<[u8]>),
    Resize(usize, u64),
    Sync(usize),
    SyncFailed(usize),
    Remove(PathBuf),
    /// A file from one name to another.
    Rename(PathBuf, PathBuf, usize),
    CreateFolder(PathBuf),
    SyncFolder(PathBuf),
}

impl Files {
    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Create(path, file) => {
                self.names.insert(path.clone(), *file);
                self.make(*file);
            }
            Effect::Write(file, offset, bytes) => self.write(*file, *offset, bytes),
            Effect::Resize(file, length) => Arc::make_mut(self.make(*file)).resize(*length as usize, 0),
            Effect::Remove(path) => {
                self.names.remove(path);
            }
            Effect::Rename(from, to, file) => {
                self.names.remove(from);
                self.names.insert(to.clone(), *file);
                self.make(*file);
            }
            Effect::CreateFolder(path) => {
                self.folders.insert(path.clone());
            }
            Effect::Sync(_) | Effect::SyncFailed(_) | Effect::SyncFolder(_) => {}
        }
    }

    fn make(&mut self, file: usize) -> &mut Arc<Vec<u8>> {
        if self.contents.len() <= file {
            self.contents.resize_with(file + 1, Arc::default);
        }
        &mut self.contents[file]
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        let content = Arc::make_mut(self.make(file));
        let (begin, end) = (offset as usize, offset as usize + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[begin..end].copy_from_slice(bytes);
    }

    /// Whether there is a folder; the one that relative paths begin at, and the root, always are.
    fn has_folder(&self, folder: &Path) -> bool {
        folder.parent().is_none() || self.folders.contains(folder)
    }

    fn expect_folder(&self, folder: &Path) -> io::Result<()> {
        if self.has_folder(folder) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// What is in no folder is nowhere.
    fn lose_orphans(&mut self) {
        let folders = self.folders.clone();
        self.folders.retain(|folder| folder.ancestors().all(|up| up.parent().is_none() || folders.contains(up)));
        let (names, folders) = (&mut self.names, &self.folders);
        names.retain(|path, _| path.parent().is_none_or(|up| up.parent().is_none() || folders.contains(up)));
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.contents[*file].len() as u64).sum()
    }
}

/// What a planned failure means for a call.
enum Turn {
    Succeed,
    Half,
    Fail(io::Error),
}

impl State {
    fn change(&mut self, effect: Effect) {
        self.files.apply(&effect);
        self.effects.push(effect);
    }

    /// Counts a call, and says whether it fails.
    fn turn(&mut self) -> Turn {
        self.operations += 1;
        match self.fail {
            Some((at, failure)) if at == self.operations => match failure {
                Failure::Device => Turn::Fail(io::Error::other("the device failed")),
                Failure::Full => Turn::Fail(io::ErrorKind::StorageFull.into()),
                Failure::Interrupted => Turn::Fail(io::ErrorKind::Interrupted.into()),
                Failure::Short => Turn::Half,
            },
            _ => Turn::Succeed,
        }
    }

    fn succeed(&mut self) -> io::Result<()> {
        match self.turn() {
            Turn::Fail(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a file may grow so far.
    fn grow(&self, file: usize, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.files.contents[file].len() as u64);
        if self.files.used_bytes() + more > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(files: Files, boots: u64) -> Self {
        let state = State { base: files.clone(), files, boots, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Things that were changed or synced so far.
    pub fn effects(&self) -> usize {
        self.state().effects.len()
    }

    /// Lets the nth call from now on fail; the first is 1.
    pub fn fail_at(&self, nth: u64, failure: Failure) {
        let mut state = self.state();
        state.fail = Some((state.operations + nth, failure));
    }

    /// Bytes that all files may have together from now on.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// From now on it sets no room aside before it is written to, as some file systems.
    pub fn set_nothing_aside(&self) {
        self.state().sets_nothing_aside = true;
    }

    /// The names of all files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let Files { contents, names, .. } = &state.files;
        names.iter().map(|(path, file)| (path.clone(), contents[*file].len() as u64)).collect()
    }

    /// The same files on a disk of their own, where one bit of one is flipped.
    pub fn flipped(&self, path: &Path, byte: u64, bit: u32) -> Self {
        self.changed(|files| {
            let file = files.names[path];
            Arc::make_mut(&mut files.contents[file])[byte as usize] ^= 1 << bit;
        })
    }

    /// Other files on a disk of their own, of a machine that was not started again.
    fn changed(&self, change: impl FnOnce(&mut Files)) -> Self {
        let state = self.state();
        let mut files = state.files.clone();
        change(&mut files);
        Self::of(files, state.boots)
    }

    /// What is in a file.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        Vec::clone(&state.files.contents[state.files.names[path]])
    }

    /// The same files on a disk of their own, where one, which may be new, has this in it.
    pub fn with(&self, path: &Path, content: Vec<u8>) -> Self {
        self.changed(|files| {
            files.names.insert(path.to_owned(), files.contents.len());
            files.contents.push(Arc::new(content));
        })
    }

    /// The same files on a disk of their own, where one is missing.
    pub fn without(&self, path: &Path) -> Self {
        self.changed(|files| {
            files.names.remove(path);
        })
    }
}

impl SimDisk {
    /// Lets so much time pass.
    pub fn advance(&self, ns: u64) {
        self.state().now_unix_ns += ns;
    }

    /// Sets the wall clock off by so much from what it would be.
    pub fn step_wall_clock(&self, by_ns: i64) {
        self.state().stepped_ns = by_ns;
    }

    /// Another process begins, which goes by the wall clock as it stands.
    pub fn begin_process(&self) {
        let mut state = self.state();
        state.now_unix_ns = state.now_unix_ns.saturating_add_signed(state.stepped_ns);
        state.stepped_ns = 0;
    }
}

impl Disk for SimDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.succeed()?;
        let missing: Vec<_> = folder.ancestors().take_while(|folder| !state.files.has_folder(folder)).collect();
        for folder in missing.into_iter().rev() {
            let parent = folder.parent().expect("one without a parent is there");
            state.change(Effect::CreateFolder(folder.to_owned()));
            state.change(Effect::SyncFolder(parent.to_owned()));
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.succeed()?;
        state.files.expect_folder(folder)?;
        let inside = state.files.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.succeed()?;
        let known = state.files.names.get(path).copied();
        let file = match (known, access) {
            (Some(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, Access::Create) => {
                state.files.expect_folder(path.parent().unwrap_or(path))?;
                let file = state.files.contents.len();
                state.change(Effect::Create(path.to_owned(), file));
                file
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimFile { disk: self.clone(), file, may_write: access != Access::Read }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.succeed()?;
        if !state.files.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Effect::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.succeed()?;
        let Some(file) = state.files.names.get(from).copied() else { return Err(io::ErrorKind::NotFound.into()) };
        state.change(Effect::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.succeed()?;
        state.files.expect_folder(folder)?;
        state.change(Effect::SyncFolder(folder.to_owned()));
        Ok(())
    }

    fn lock(&self, folder: &Path) -> io::Result<Box<dyn FolderLock>> {
        let mut state = self.state();
        state.succeed()?;
        state.files.expect_folder(folder)?;
        if !state.locks.insert(folder.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), folder: folder.to_owned() }))
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.succeed()?;
        Ok(state.capacity_bytes.saturating_sub(state.files.used_bytes()))
    }

    fn boot(&self) -> Option<Boot> {
        Boot::new(self.state().boots)
    }

    fn unix_now_ns(&self) -> u64 {
        let mut state = self.state();
        state.now_unix_ns += 1_000;
        state.now_unix_ns.saturating_add_signed(state.stepped_ns)
    }

    fn steady_now_ns(&self) -> u64 {
        self.state().now_unix_ns
    }
}
