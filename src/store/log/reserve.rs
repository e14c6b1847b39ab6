//! Room that a log keeps for itself: a file as long as a segment, which becomes one when the disk is full.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::disk::Access;
use super::file::{Fault, File, retried};
use super::log::Log;
use super::retire::remove;

/// The file's name.
pub(super) const RESERVE: &str = "reserve";
/// What disks give room in.
const BLOCK_BYTES: u64 = 4_096;

impl Log {
    fn reserve_path(&self) -> PathBuf {
        self.folder.join(RESERVE)
    }

    /// Makes the reserve, if there is to be one and it is not known to be whole: a new one where there is twice the room, so that it
    /// does not take the last from others. One that is there, or was given up, has its claim: where there is not room for all of it, it
    /// is what there is, and grows when this is called again: a file that is full leaves less behind than it took.
    pub(super) fn keep_reserve(&mut self) {
        if self.options.reserve && !self.condition.has_reserve() {
            self.condition.set_reserve(self.make_reserve().unwrap_or(false));
        }
    }

    /// Says whether it is as long as a segment.
    fn make_reserve(&self) -> Result<bool, Fault> {
        let (path, whole) = (self.reserve_path(), self.options.segment_bytes);
        let file = match File::open(&*self.disk, &path, Access::Write) {
            Err(fault) if fault.source.kind() == ErrorKind::NotFound => {
                if !self.was_reserve_given_up && self.free_bytes()? < 2 * whole {
                    return Ok(false);
                }
                File::open(&*self.disk, &path, Access::Create)?
            }
            file => file?,
        };
        let length = file.length()?;
        if length > whole {
            file.truncate(whole)?;
        }
        match file.allocate(whole) {
            Err(fault) if fault.is_full() => {
                let room = (length + self.free_bytes()?).min(whole) / BLOCK_BYTES * BLOCK_BYTES;
                if room > 0 {
                    file.allocate(room)?;
                }
                Ok(room == whole)
            }
            // What is only as long sets no room aside.
            Err(fault) if fault.is_unsupported() => remove(&*self.disk, &path).map(|()| false),
            allocated => allocated.map(|()| true),
        }
    }

    /// Makes the reserve the file of a segment that there is no other room for, if it is as long as one; so nobody can take its room
    /// meanwhile. Which of the names it has is durable after a sync of the folder.
    pub(super) fn hand_over_reserve(&mut self, segment: &Path) -> Option<Result<File, Fault>> {
        if !self.is_reserve_there() {
            return None;
        }
        // It may become whole of what is free.
        self.keep_reserve();
        if !self.condition.has_reserve() {
            return None;
        }
        self.note_given_up();
        let path = self.reserve_path();
        retried("rename", &path, || self.disk.rename(&path, segment)).ok()?;
        Some(File::open(&*self.disk, segment, Access::Write))
    }

    /// Gives the reserve up for a segment that goes on, and says whether there was one: its room is free now, unless somebody else
    /// takes it first.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        let is_there = self.is_reserve_there();
        if is_there {
            self.note_given_up();
        }
        is_there && remove(&*self.disk, &self.reserve_path()).is_ok()
    }

    /// An earlier process may have made one.
    fn is_reserve_there(&self) -> bool {
        self.options.reserve && File::open(&*self.disk, &self.reserve_path(), Access::Read).is_ok()
    }

    fn note_given_up(&mut self) {
        self.condition.set_reserve(false);
        self.was_reserve_given_up = true;
    }

    /// Removes what an earlier process has set aside, where none is to be kept. Where that fails, it is tried when the log is opened next.
    pub(in crate::store) fn remove_reserve(&self) {
        drop(remove(&*self.disk, &self.reserve_path()));
    }
}
