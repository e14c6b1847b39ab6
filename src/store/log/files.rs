//! Files that are kept open for reading: so many at most, however many there are.
//!
//! Who reads from a file holds it meanwhile, also when it is not kept any more, and when it was removed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::file::{Fault, File};

/// Open files by their names; those used last are kept.
#[derive(Debug)]
pub(in crate::store) struct OpenFiles {
    disk: Arc<dyn Disk>,
    max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with when it was used last.
    files: HashMap<PathBuf, (Arc<File>, u64)>,
    uses: u64,
}

impl OpenFiles {
    pub(super) fn new(disk: Arc<dyn Disk>, max: usize) -> Self {
        Self { disk, max: max.max(1), kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a name, opened as `open` does if it is not open.
    pub(in crate::store) fn get(
        &self,
        path: &Path,
        open: impl FnOnce(&dyn Disk) -> Result<File, Fault>,
    ) -> Result<Arc<File>, Fault> {
        if let Some(file) = self.kept().use_again(path) {
            return Ok(file);
        }
        let opened = Arc::new(open(&*self.disk)?);
        let mut kept = self.kept();
        if let Some(file) = kept.use_again(path) {
            // Somebody else was faster.
            return Ok(file);
        }
        let now = kept.uses;
        kept.files.insert(path.to_owned(), (Arc::clone(&opened), now));
        while kept.files.len() > self.max {
            let oldest = kept.files.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            oldest.and_then(|path| kept.files.remove(&path));
        }
        Ok(opened)
    }

    /// Lets go of a file that was removed.
    pub(in crate::store) fn forget(&self, path: &Path) {
        self.kept().files.remove(path);
    }
}

impl Kept {
    fn use_again(&mut self, path: &Path) -> Option<Arc<File>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(path)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }
}
