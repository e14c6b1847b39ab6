//! A backup of a store on disk: its files as they were at one moment, in a folder of their own.
//!
//! ```text
//!   backup_manifest             the position, and of each file its length and checksum; written last
//!   events/0000…0001.log, …     what is in the folder of a store, without indices
//!   state/0000…0001.log, …      what is in its folder `table`
//! ```
//!
//! A folder without a manifest is no backup: it was cut short. The folder of a backup is no store either, so that none is opened
//! there, and written to, by mistake.

mod error;
mod manifest;
mod restore;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Position;
use super::log::{Disk, Fault, File, RealDisk};
pub use error::{BackupError, RestoreError};
use manifest::Manifest;
pub(super) use manifest::Part;
pub use restore::RestoredStore;
pub(super) use write::Writing;

/// Bytes that are read and written at once.
const COPY_BYTES: usize = 1 << 20;

/// A backup of a [`LogStore`](super::LogStore), in a folder.
///
/// ```
/// use ringmain::store::{Backup, LogStore};
/// # let folder = std::env::temp_dir().join(format!("ringmain-backup-{}", std::process::id()));
/// # std::fs::create_dir(&folder)?;
///
/// let store = LogStore::open(folder.join("store"))?;
/// store.backup(folder.join("monday"), |_| {})?;
///
/// let backup = Backup::open(folder.join("monday"))?;
/// let restored = backup.restore(folder.join("again"), |_| {})?;
/// assert!(restored.unreadable.is_empty());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Backup {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    manifest: Manifest,
}

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Bytes that are done.
    pub bytes: u64,
    /// Bytes that there are to do: of a backup those of its files; to verify it the same; to restore it three times as many,
    /// which are verified, copied, and read as events.
    pub bytes_total: u64,
}

impl Backup {
    /// The backup in a folder. Reads its manifest, and no other file.
    ///
    /// # Errors
    /// [`RestoreError::NoBackup`] where there is none, or one was cut short; other [`RestoreError`]s of its manifest.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, RestoreError> {
        open_on(Arc::new(RealDisk), folder.into())
    }

    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The position of the last event that was appended before it; `None` if there never was one.
    pub fn position(&self) -> Option<Position> {
        Position::new(self.manifest.position)
    }

    /// When it was made, by the wall clock.
    pub fn made_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.manifest.made_unix_ns)
    }

    /// Its files, without the manifest.
    pub fn files(&self) -> usize {
        self.manifest.entries.len()
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.manifest.entries.iter().map(|entry| entry.bytes).sum()
    }
}

/// The backup in a folder of a disk.
///
/// # Errors
/// As [`Backup::open`].
pub fn open_on(disk: Arc<dyn Disk>, folder: PathBuf) -> Result<Backup, RestoreError> {
    let manifest = Manifest::read(&*disk, &folder)?;
    Ok(Backup { disk, folder, manifest })
}

/// Reads bytes of a file, has each piece taken, and returns their checksum. A file that ends before is read up to there.
fn each_piece(
    file: &File,
    bytes: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8], u64) -> Result<(), Fault>,
) -> Result<(u64, u32), Fault> {
    let (mut at, mut check) = (0, 0);
    while at < bytes {
        let length = (bytes - at).min(buffer.len() as u64) as usize;
        let read = file.read_at(&mut buffer[..length], at)?;
        if read == 0 {
            break;
        }
        check = crc32c::crc32c_append(check, &buffer[..read]);
        take(&buffer[..read], at)?;
        at += read as u64;
    }
    Ok((at, check))
}

/// Writes bytes of a file and what comes behind them to another, durably; returns its length and checksum.
fn copy(
    source: &File,
    (bytes, behind): (u64, &[u8]),
    target: &File,
    buffer: &mut [u8],
    mut tell: impl FnMut(u64),
) -> Result<(u64, u32), Fault> {
    let (length, check) = each_piece(source, bytes, buffer, |piece, at| {
        target.write_all_at(piece, at)?;
        tell(piece.len() as u64);
        Ok(())
    })?;
    if !behind.is_empty() {
        target.write_all_at(behind, length)?;
        tell(behind.len() as u64);
    }
    target.sync_data()?;
    Ok((length + behind.len() as u64, crc32c::crc32c_append(check, behind)))
}
