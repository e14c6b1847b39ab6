//! Writing a backup: files, then their folders, then the manifest, each durably before the next.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::log::{Access, Disk, Fault, File, Still, remove, retried, sync_folder};
use super::manifest::{self, Entry, Manifest};
use super::{Backup, BackupError, BackupProgress, COPY_BYTES, Part, copy};

/// A backup on its way. Unless it comes to its end, the files that it has made are removed.
pub(in crate::store) struct Writing<T> {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    manifest: Manifest,
    made: Vec<PathBuf>,
    buffer: Vec<u8>,
    progress: BackupProgress,
    tell: T,
}

impl<T: FnMut(BackupProgress)> Writing<T> {
    /// Makes the folders, if there is room for all files.
    pub(in crate::store) fn begin(
        disk: Arc<dyn Disk>,
        folder: &Path,
        stills: [&Still; 2],
        tell: T,
    ) -> Result<Self, BackupError> {
        retried("create the folder", folder, || disk.create_folder(folder))?;
        check_empty(&*disk, folder)?;
        let mut needed = 0;
        for file in stills.into_iter().flat_map(Still::files) {
            let (_, bytes, behind) = file.open(&*disk)?;
            needed += bytes + behind.len() as u64;
        }
        let free = retried("measure", folder, || disk.free_bytes(folder))?;
        if needed > free {
            return Err(BackupError::NoRoom { folder: folder.to_owned(), needed, free });
        }
        for part in Part::ALL {
            let folder = folder.join(part.folder());
            retried("create the folder", &folder, || disk.create_folder(&folder))?;
        }
        let manifest = Manifest { made_unix_ns: disk.unix_now_ns(), ..Manifest::default() };
        let progress = BackupProgress { bytes: 0, bytes_total: needed };
        let (folder, made, buffer) = (folder.to_owned(), Vec::new(), vec![0; COPY_BYTES]);
        Ok(Self { disk, folder, manifest, made, buffer, progress, tell })
    }

    /// Copies a log.
    pub(in crate::store) fn copy(&mut self, part: Part, still: &Still) -> Result<(), BackupError> {
        let folder = self.folder.join(part.folder());
        for file in still.files() {
            let path = folder.join(file.name());
            let (source, bytes, behind) = file.open(&*self.disk)?;
            let target = self.make(path)?;
            let (progress, tell) = (&mut self.progress, &mut self.tell);
            let told = |done| {
                progress.bytes += done;
                tell(*progress);
            };
            let (length, check) = copy(&source, (bytes, behind), &target, &mut self.buffer, told)?;
            if length != bytes + behind.len() as u64 {
                return Err(Fault::new("read", file.path(), ErrorKind::UnexpectedEof.into()).into());
            }
            self.manifest.entries.push(Entry { part, name: file.name().to_owned(), bytes: length, check });
        }
        Ok(sync_folder(&*self.disk, &folder)?)
    }

    /// Makes a file. One that is there is of another backup, and stays.
    fn make(&mut self, path: PathBuf) -> Result<File, BackupError> {
        match File::open(&*self.disk, &path, Access::Create) {
            Err(fault) if fault.source.kind() == ErrorKind::AlreadyExists => {
                Err(BackupError::Occupied { folder: self.folder.clone() })
            }
            file => {
                let file = file?;
                self.made.push(path);
                Ok(file)
            }
        }
    }

    /// Says that it is whole, up to a position of events.
    pub(in crate::store) fn end(mut self, position: u64) -> Result<Backup, BackupError> {
        self.manifest.position = position;
        let file = self.make(self.folder.join(manifest::NAME))?;
        file.write_all_at(self.manifest.encode().as_bytes(), 0)?;
        file.sync_data()?;
        sync_folder(&*self.disk, &self.folder)?;
        self.made.clear();
        let (folder, manifest) = (std::mem::take(&mut self.folder), std::mem::take(&mut self.manifest));
        Ok(Backup { disk: Arc::clone(&self.disk), folder, manifest })
    }
}

impl<T> Drop for Writing<T> {
    fn drop(&mut self) {
        // The manifest first: without it nothing else is taken for a backup. What cannot be removed does no harm.
        for path in self.made.iter().rev() {
            let _ = remove(&*self.disk, path);
        }
    }
}

/// Whether nothing is in a folder but the folders that a backup has left that failed.
fn check_empty(disk: &dyn Disk, folder: &Path) -> Result<(), BackupError> {
    let occupied = || BackupError::Occupied { folder: folder.to_owned() };
    let names = retried("list", folder, || disk.list(folder))?;
    if names.iter().any(|name| Part::ALL.iter().all(|part| part.folder() != name)) {
        return Err(occupied());
    }
    for part in Part::ALL {
        let inside = folder.join(part.folder());
        match retried("list", &inside, || disk.list(&inside)) {
            Ok(names) if names.is_empty() => {}
            Ok(_) => return Err(occupied()),
            Err(fault) if fault.source.kind() == ErrorKind::NotFound => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(())
}
