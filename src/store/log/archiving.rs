//! Archiving: an archive takes the place of its segment only after it was synced, read back, and found to be the same.
//! Which of the two counts where a crash has left both is found out when the log is opened.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{self, BLOCK_BYTES};
use super::disk::{Access, Disk};
use super::file::{Fault, File, sync_folder};
use super::reader::LogReader;
use super::record::HEADER_BYTES;
use super::retire::remove;
use super::segment::{self, HeaderState, Segment};
use super::walk::{Step, Walk};

impl LogReader {
    /// Whether a segment is a file that an archive can take the place of: not the newest, and no archive yet.
    pub fn is_archivable(&self, first: u64) -> bool {
        let is_newest = self.shelf.newest().is_some_and(|newest| newest.first == first);
        self.shelf.segment(first).is_ok_and(|segment| !is_newest && !archive::is_named(&segment.path))
    }

    /// Puts an archive in the place of the segment that begins at a position, if it [can](Self::is_archivable); says how many
    /// bytes of the disk that gave back. May run beside appending and reading, by one thread at a time.
    ///
    /// # Errors
    /// [`Fault`]: the segment is as it was.
    ///
    /// # Cost
    /// Reads the segment twice, and compresses it: some 30 MB a second.
    pub fn archive(&self, disk: &dyn Disk, folder: &Path, first: u64) -> Result<Option<u64>, Fault> {
        let Ok(segment) = self.shelf.segment(first) else { return Ok(None) };
        if !self.is_archivable(first) {
            return Ok(None);
        }
        let file = File::open(disk, &segment.path, Access::Read)?;
        let (length, path) = (file.length()?, archive::path(folder, first));
        let archived = match verified(disk, folder, first, &file) {
            Ok(archived) if archived < length => archived,
            // What does not shrink stays as it is; what failed leaves no room taken.
            other => {
                remove(disk, &path)?;
                return other.map(|_| None);
            }
        };
        let filled = segment.filled().clone();
        self.shelf.replace(Arc::new(Segment::new(first, path, filled)));
        // Where this fails, the segment is found beside its archive when the log is opened.
        remove(disk, &segment.path)?;
        self.shelf.files.forget(&segment.path);
        sync_folder(disk, folder)?;
        Ok(Some(length.saturating_sub(archived)))
    }
}

/// Writes a segment's archive, and reads it back; says how long it is.
fn verified(disk: &dyn Disk, folder: &Path, first: u64, segment: &File) -> Result<u64, Fault> {
    let archived = archive::write(disk, folder, first, segment)?;
    if is_same(segment, &archive::open(disk, &archive::path(folder, first), first)?)? {
        return Ok(archived);
    }
    let changed = io::Error::new(io::ErrorKind::InvalidData, "the archive reads differently; it was removed");
    Err(Fault::new("archive", segment.path(), changed))
}

fn is_same(one: &File, other: &File) -> Result<bool, Fault> {
    let length = one.length()?;
    if other.length()? != length {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut at = 0;
    while at < length {
        let (read, read_again) = (one.read_at(&mut ours, at)?, other.read_at(&mut theirs, at)?);
        if read == 0 || read != read_again || ours[..read] != theirs[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Removes, of each segment that is there as a file and as an archive, the one that is not whole; of two that are the same
/// the file, and of two that are neither nothing. Returns what was removed. The newest is left alone: it is appended to.
pub(super) fn settle(disk: &dyn Disk, folder: &Path, names: &[String]) -> Result<Vec<PathBuf>, Fault> {
    let files: BTreeSet<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let archives: BTreeSet<u64> = names.iter().filter_map(|name| archive::first_of(name)).collect();
    let mut removed = Vec::new();
    for first in files.intersection(&archives).filter(|first| files.last() != Some(*first)) {
        let paths = [segment::path(folder, *first), archive::path(folder, *first)];
        let file = File::open(disk, &paths[0], Access::Read)?;
        let archive = archive::open(disk, &paths[1], *first)?;
        let goes = match is_whole(&file, *first)? {
            true if is_same(&file, &archive)? => &paths[0],
            true => &paths[1],
            false if is_whole(&archive, *first)? => &paths[0],
            false => continue,
        };
        remove(disk, goes)?;
        removed.push(goes.clone());
    }
    if !removed.is_empty() {
        sync_folder(disk, folder)?;
    }
    Ok(removed)
}

/// Whether all that a segment had when it was sealed can be read.
fn is_whole(file: &File, first: u64) -> Result<bool, Fault> {
    let mut header = [0; HEADER_BYTES];
    let read = file.read_at(&mut header, 0)?;
    let Some(sealed) = segment::sealed(file, first, file.length()?)? else { return Ok(false) };
    if read < header.len() || segment::header_state(first, &header) != HeaderState::Whole {
        return Ok(false);
    }
    let (mut walk, mut records) = (Walk::new(first, HEADER_BYTES as u64, first, sealed.end), 0);
    loop {
        match walk.next(file, 0)? {
            Step::Record(..) => records += 1,
            Step::Control(_) => {}
            Step::Damaged(..) => return Ok(false),
            Step::End { .. } => return Ok(walk.offset() == sealed.end && records == sealed.content.records),
        }
    }
}
