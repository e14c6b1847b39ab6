//! What the log needs of a disk, and the real one: positioned reads and writes, synced data, synced folders, a lock.
//!
//! An implementation says what happened to one call and no more: it may write fewer bytes than it was given, and it may be
//! interrupted. [`File`](super::file::File) is the one place that deals with both.

use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::steady_now;

/// Which start of the machine it is: what was written since is there, synced or not, whatever became of who wrote it.
pub type Boot = NonZeroU64;

/// A disk with folders of files, and the time that is written on them.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a folder and its parents, which may exist, so that they survive power loss.
    ///
    /// # Errors
    /// What the system says.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names of a folder's files, in any order. Names that are no text are left out.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or [`io::ErrorKind::AlreadyExists`] for [`Access::Create`]; what else the system says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file. Survives power loss after [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in its folder, at once; a file that had that name is gone. Survives power loss after
    /// [`sync_folder`](Self::sync_folder), until then it may have happened.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the creations, removals and new names in a folder survive power loss.
    ///
    /// # Errors
    /// What the system says. They may then be lost even if a later call succeeds.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes a folder for whoever holds the result, in this process or another.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while somebody else holds it; what else the system says.
    fn lock(&self, folder: &Path) -> io::Result<Box<dyn FolderLock>>;

    /// Bytes that may still be written to the disk of a folder.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;

    /// Which start of the machine this is, if it says so.
    fn boot(&self) -> Option<Boot>;

    /// Nanoseconds since 1970 by the wall clock, which may be stepped.
    fn unix_now_ns(&self) -> u64;

    /// The same without the steps since this process began.
    fn steady_now_ns(&self) -> u64;
}

/// One open file. All methods may be called by several threads at once.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads from an offset and says how many bytes came; 0 at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset and says how many bytes went.
    ///
    /// # Errors
    /// What the system says. Some bytes may have gone.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written survive power loss, as far as the disk is honest.
    ///
    /// # Errors
    /// What the system says. What was written may then be lost even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets room on the disk aside for so many bytes of the file, and makes it so long, if it is shorter; what is new reads as zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`]; [`io::ErrorKind::Unsupported`] where the file system sets nothing aside; what else the system
    /// says.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes the file so long; what is beyond is gone, what is new reads as zeros.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// Where on the disk these bytes are, if that is elsewhere: what is read may be compressed there.
    fn packed(&self, offset: u64, bytes: u64) -> Option<Range<u64>> {
        let _ = (offset, bytes);
        None
    }
}

/// A folder that is taken until this is dropped.
pub trait FolderLock: fmt::Debug + Send + Sync {}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading one that exists.
    Read,
    /// Reading and writing one that exists.
    Write,
    /// Reading and writing one that must not exist yet.
    Create,
}

/// The disks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_there = folder.is_dir();
        if !is_there {
            self.create_folder(parent)?;
            if let Err(error) = fs::create_dir(folder)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        // Also of one that was there: whoever made it may have died before this, unless it is not ours to say.
        match self.sync_folder(parent) {
            Err(error)
                if is_there
                    && matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::Create);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(fs::File::open(folder)?)?)
    }

    fn lock(&self, folder: &Path) -> io::Result<Box<dyn FolderLock>> {
        // The folder itself is locked, so that one that cannot be written to can be opened too.
        let folder = fs::File::open(folder)?;
        folder.try_lock()?;
        Ok(Box::new(RealLock { _folder: folder }))
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let free = rustix::fs::statvfs(folder)?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }

    fn boot(&self) -> Option<Boot> {
        static BOOT: LazyLock<Option<Boot>> = LazyLock::new(|| {
            let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
            Boot::new(u64::from_str_radix(&digits, 16).ok()?)
        });
        *BOOT
    }

    fn unix_now_ns(&self) -> u64 {
        since_1970(SystemTime::now())
    }

    fn steady_now_ns(&self) -> u64 {
        since_1970(steady_now())
    }
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[derive(Debug)]
struct RealLock {
    _folder: fs::File,
}

impl FolderLock for RealLock {}

#[derive(Debug)]
struct RealFile(fs::File);

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // std's form tries again when it was interrupted; a sync that failed must not be tried again.
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            result => Ok(result?),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
