//! Room that a log keeps for itself: a file as long as a segment, which is given up for one when the disk is full.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::disk::Access;
use super::file::{Fault, File};
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

    /// Makes the reserve, if there is to be one and it is not known to be whole. Where there is not room for all of it, it is what there
    /// is, and grows when this is called again: a file that is full leaves less behind than it took.
    pub(super) fn keep_reserve(&mut self) {
        if self.options.reserve && !self.has_reserve {
            self.has_reserve = self.make_reserve().unwrap_or(false);
        }
    }

    /// Says whether it is as long as a segment.
    fn make_reserve(&self) -> Result<bool, Fault> {
        let (path, whole) = (self.reserve_path(), self.options.segment_bytes);
        let file = match File::open(&*self.disk, &path, Access::Create) {
            // Of an earlier process, or of earlier room.
            Err(fault) if fault.source.kind() == ErrorKind::AlreadyExists => {
                File::open(&*self.disk, &path, Access::Write)?
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
                file.allocate(room)?;
                Ok(room == whole)
            }
            allocated => allocated.map(|()| true),
        }
    }

    /// Gives the reserve up, and says whether there was one: if it was whole there is room for a segment now, unless somebody else
    /// takes it first.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        let path = self.reserve_path();
        self.has_reserve = false;
        // An earlier process may have made one.
        self.options.reserve
            && File::open(&*self.disk, &path, Access::Read).is_ok()
            && remove(&*self.disk, &path).is_ok()
    }

    /// Whether all the room for a segment is set aside.
    pub fn has_reserve(&self) -> bool {
        self.has_reserve
    }
}
