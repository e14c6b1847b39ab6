//! An open file, and a folder that is taken, on a disk in memory.

use std::io;
use std::path::PathBuf;
use std::sync::MutexGuard;

use super::super::disk::{DiskFile, FolderLock};
use super::{Effect, SimDisk, State, Turn};

#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) disk: SimDisk,
    pub(super) folder: PathBuf,
}

impl FolderLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.folder);
    }
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) file: usize,
    pub(super) may_write: bool,
}

impl SimFile {
    fn writing(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.may_write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.disk.state())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let wanted = match state.turn() {
            Turn::Fail(error) => return Err(error),
            Turn::Half => bytes.len().div_ceil(2),
            Turn::Succeed => bytes.len(),
        };
        let content = &state.files.contents[self.file];
        let there = content.get(offset as usize..).unwrap_or_default();
        let length = wanted.min(there.len());
        bytes[..length].copy_from_slice(&there[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.writing()?;
        let half = bytes.len().div_ceil(2);
        let turn = state.turn();
        let length = match &turn {
            Turn::Fail(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Turn::Fail(_) | Turn::Half => half,
            Turn::Succeed => bytes.len(),
        };
        state.grow(self.file, offset + length as u64)?;
        if length > 0 {
            state.change(Effect::Write(self.file, offset, bytes[..length].into()));
        }
        match turn {
            Turn::Fail(error) => Err(error),
            _ => Ok(length),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.succeed();
        state.change(if result.is_ok() { Effect::Sync(self.file) } else { Effect::SyncFailed(self.file) });
        result
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.writing()?;
        state.succeed()?;
        if state.sets_nothing_aside {
            return Err(io::ErrorKind::Unsupported.into());
        }
        state.grow(self.file, length)?;
        if (state.files.contents[self.file].len() as u64) < length {
            state.change(Effect::Resize(self.file, length));
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.writing()?;
        state.succeed()?;
        state.grow(self.file, length)?;
        state.change(Effect::Resize(self.file, length));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.succeed()?;
        Ok(state.files.contents[self.file].len() as u64)
    }
}
