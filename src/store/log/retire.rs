//! Removing the oldest segments, beside appending and reading.

use std::io;
use std::path::Path;
use std::sync::PoisonError;

use super::archive;
use super::disk::Disk;
use super::error::RetireError;
use super::file::{Fault, retried, sync_folder};
use super::log::SegmentInfo;
use super::reader::{LogReader, Shelf};
use super::segment;

impl Shelf {
    /// Removes a segment's file and its archive, as far as they are there; the one it is read from last, so that it can be read
    /// where one of them is left.
    pub(super) fn remove_files(&self, disk: &dyn Disk, folder: &Path, first: u64, read: &Path) -> Result<(), Fault> {
        let mut paths = [archive::path(folder, first), segment::path(folder, first)];
        paths.sort_by_key(|path| path == read);
        for path in paths {
            remove(disk, &path)?;
            self.files.forget(&path);
        }
        Ok(())
    }

    /// Removes the segments whose records are all before a position, except the last; says how many there were.
    pub(super) fn truncate_before(&self, disk: &dyn Disk, folder: &Path, position: u64) -> Result<usize, RetireError> {
        let mut fault = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = &*fault {
            return Err(RetireError(fault.clone()));
        }
        let mut removed = 0;
        while let Some(oldest) = self.oldest_before(position) {
            self.remove_files(disk, folder, oldest.first, &oldest.path).map_err(RetireError)?;
            self.remove_oldest();
            removed += 1;
            // One at a time: after power loss no newer one may be gone while an older is there. Where that cannot be said,
            // no more are removed.
            sync_folder(disk, folder).map_err(|failed| RetireError(fault.insert(failed).clone()))?;
        }
        Ok(removed)
    }
}

impl LogReader {
    /// As [`Log::truncate_before`](super::Log::truncate_before), beside the log's writer.
    ///
    /// # Errors
    /// [`RetireError`]. Some may have been removed.
    pub fn truncate_before(&self, disk: &dyn Disk, folder: &Path, position: u64) -> Result<usize, RetireError> {
        self.shelf.truncate_before(disk, folder, position)
    }

    /// What is known of each segment, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shelf.segments().iter().map(|segment| SegmentInfo::of(segment)).collect()
    }
}

/// Removes a file, if it is there.
pub(in crate::store) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Fault> {
    match retried("remove", path, || disk.remove(path)) {
        Err(fault) if fault.source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
