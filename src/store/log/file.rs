//! A file as the log uses it: short writes and interruptions dealt with, every error naming the file and the operation.

use std::error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile};

/// An operation on the disk that failed. Cheap to clone, so that everybody who waited for it can be told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fault {
    /// What was tried, as a verb: "write".
    pub operation: &'static str,
    /// The file or folder it was tried on.
    pub path: PathBuf,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl Fault {
    pub(in crate::store) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the disk, or what the user may use of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the file system does not do this for any file.
    pub(super) fn is_unsupported(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), self.source)
    }
}

impl error::Error for Fault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// Does it until it was not interrupted, and names it if it fails. Not for syncs.
pub(in crate::store) fn retried<T>(
    operation: &'static str,
    path: &Path,
    mut call: impl FnMut() -> io::Result<T>,
) -> Result<T, Fault> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| Fault::new(operation, path, error)),
        }
    }
}

/// Syncs a folder, once.
pub(in crate::store) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), Fault> {
    disk.sync_folder(folder).map_err(|error| Fault::new("sync the folder", folder, error))
}

/// An open file with its name.
#[derive(Debug)]
pub(in crate::store) struct File {
    inner: Box<dyn DiskFile>,
    path: PathBuf,
}

impl File {
    pub(in crate::store) fn open(disk: &dyn Disk, path: &Path, access: Access) -> Result<Self, Fault> {
        let operation = if access == Access::Create { "create" } else { "open" };
        let inner = retried(operation, path, || disk.open(path, access))?;
        Ok(Self { inner, path: path.to_owned() })
    }

    /// What reads as a file, under a name.
    pub(super) fn of(inner: Box<dyn DiskFile>, path: PathBuf) -> Self {
        Self { inner, path }
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads until the buffer is full or the file ends; says how many bytes came.
    pub(in crate::store) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Fault> {
        let mut done = 0;
        while done < bytes.len() {
            match retried("read", &self.path, || self.inner.read_at(&mut bytes[done..], offset + done as u64))? {
                0 => break,
                more => done += more,
            }
        }
        Ok(done)
    }

    /// Writes all of it, or fails with any part of it written.
    pub(in crate::store) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        let mut done = 0;
        while done < bytes.len() {
            match retried("write", &self.path, || self.inner.write_at(&bytes[done..], offset + done as u64))? {
                0 => return Err(Fault::new("write", &self.path, io::ErrorKind::WriteZero.into())),
                more => done += more,
            }
        }
        Ok(())
    }

    /// Syncs, once: after a failure, an interruption too, a second success would prove nothing.
    pub(in crate::store) fn sync_data(&self) -> Result<(), Fault> {
        self.inner.sync_data().map_err(|error| Fault::new("sync", &self.path, error))
    }

    /// Makes the file so long, if it is shorter, with room on the disk for all of it. Where the file system sets nothing aside, a full
    /// disk is met by a write.
    pub(super) fn lengthen(&self, length: u64) -> Result<(), Fault> {
        if self.length()? >= length {
            return Ok(());
        }
        match self.allocate(length) {
            Err(fault) if fault.is_unsupported() => self.truncate(length),
            allocated => allocated,
        }
    }

    /// Sets room on the disk aside for so many bytes of the file.
    pub(super) fn allocate(&self, length: u64) -> Result<(), Fault> {
        retried("allocate room for", &self.path, || self.inner.allocate(length))
    }

    pub(in crate::store) fn truncate(&self, length: u64) -> Result<(), Fault> {
        retried("truncate", &self.path, || self.inner.truncate(length))
    }

    /// Where on the disk these bytes are, if they are compressed there.
    pub(super) fn packed(&self, offset: u64, bytes: u64) -> Option<Range<u64>> {
        self.inner.packed(offset, bytes)
    }

    pub(in crate::store) fn length(&self) -> Result<u64, Fault> {
        retried("measure", &self.path, || self.inner.length())
    }
}
