//! Small file systems for tests of a disk that is full, or that cannot be written to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::folder::Folder;

/// A small file system in memory.
pub(crate) struct Tmpfs(Folder);

impl Tmpfs {
    /// Of a megabyte; `None`, and it says so, where this process may mount nothing.
    pub(crate) fn mount(name: &str) -> Option<Self> {
        Self::of("tmpfs", name)
    }

    /// Of another kind, which may have no limit.
    pub(crate) fn of(kind: &str, name: &str) -> Option<Self> {
        let folder = Folder::new(name);
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", "size=1m", "ringmain"]).arg(&folder.0);
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        // To stderr itself: a test's own is shown only when it fails.
        let _ = writeln!(std::io::stderr(), "tmpfs: SKIP: this process may mount none; run as root");
        None
    }

    /// Lets it be written to from now on, or not.
    pub(crate) fn remount(&self, how: &str) {
        let remounted = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()).status();
        assert!(remounted.is_ok_and(|status| status.success()), "it can be remounted");
    }

    /// Fills it to the last byte with a file, whose removal makes room again.
    pub(crate) fn fill(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut ballast = File::options().create(true).append(true).open(&path).expect("there is room for a name");
        for length in [64 << 10, 1] {
            while ballast.write_all(&vec![0; length]).is_ok() {}
        }
        path
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it can be unmounted");
    }
}
