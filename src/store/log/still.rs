//! A log as it is at one moment, for a copy of it: which files it is, and up to where the last of them is written.
//!
//! What is written never changes, so a copy may be made beside appending, for as long as no file is archived or removed. The
//! copy of the last file ends as that of a log that was closed: behind its records it says that all of them are durable.

use std::path::{Path, PathBuf};

use super::archive;
use super::disk::{Access, Disk};
use super::file::{Fault, File};
use super::reader::LogReader;
use super::record::{HEADER_BYTES, Header, Kind, Place};

/// A log as it is at one moment.
#[derive(Debug, Default)]
pub(in crate::store) struct Still {
    files: Vec<StillFile>,
    last: u64,
}

/// A file of a log as it is at one moment.
#[derive(Debug)]
pub(in crate::store) struct StillFile {
    path: PathBuf,
    /// Of the one that is appended to.
    end: Option<End>,
}

/// Where a file's records end, and what says so.
#[derive(Debug)]
struct End {
    offset: u64,
    mark: [u8; HEADER_BYTES],
}

impl LogReader {
    /// The log as it is now.
    pub(in crate::store) fn still(&self) -> Still {
        let segments = self.shelf.segments();
        let mut still = Still::default();
        still.files.extend(segments.iter().map(|segment| StillFile { path: segment.path.clone(), end: None }));
        if let (Some(newest), Some(file)) = (segments.last(), still.files.last_mut()) {
            let filled = newest.filled();
            let (offset, last) = (filled.end, filled.last);
            drop(filled);
            let mark = Header::control(Kind::END, last, last, &[]).encode(Place { segment: newest.first, offset });
            file.end = (!archive::is_named(&file.path)).then_some(End { offset, mark });
            still.last = last;
        }
        still
    }
}

impl Still {
    /// Its files, oldest first.
    pub(in crate::store) fn files(&self) -> &[StillFile] {
        &self.files
    }

    /// The position of its last record, 0 if it never had one.
    pub(in crate::store) fn last(&self) -> u64 {
        self.last
    }
}

impl StillFile {
    /// Its name, in the folder of the log.
    pub(in crate::store) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("the log has named it")
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it; says how many of its bytes a copy has, and what the copy has behind them.
    pub(in crate::store) fn open(&self, disk: &dyn Disk) -> Result<(File, u64, &[u8]), Fault> {
        let file = File::open(disk, &self.path, Access::Read)?;
        let length = file.length()?;
        Ok(match &self.end {
            Some(End { offset, mark }) if *offset < length => (file, *offset, mark),
            // It ends where it was cut off, or nothing in it can be read.
            _ => (file, length, &[]),
        })
    }
}
