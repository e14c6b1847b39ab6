//! Where the files are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new one in `base`.
    pub(crate) fn new(base: &Path) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        // Relaxed: it only has to be another number each time.
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("stores-{}-{nth}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder can be made");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}
