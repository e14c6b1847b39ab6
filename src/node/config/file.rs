//! The file of a configuration, looked at while somebody may be writing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one version of a file from another, at a glance.
type Stamp = (SystemTime, u64);

/// A file that is looked at from time to time. Another version counts once two looks in a row have found the same, so that none is taken
/// while it is being written.
#[derive(Debug)]
pub(in super::super) struct ConfigFile {
    path: PathBuf,
    /// The version that is in force, or was refused.
    seen: Option<Stamp>,
    /// Another one, found by the last look.
    found: Option<(Stamp, Result<String, String>)>,
}

impl ConfigFile {
    /// A file as it is now; its path is looked at, whatever is there later.
    pub(in super::super) fn new(path: PathBuf) -> Self {
        Self { seen: stamp(&path), path, found: None }
    }

    /// It is about to be read, whatever is in it.
    pub(in super::super) fn mark(&mut self) {
        (self.seen, self.found) = (stamp(&self.path), None);
    }

    /// Looks at it. Returns the text of another version, or why it cannot be read, once.
    pub(in super::super) fn look(&mut self) -> Option<Result<String, String>> {
        let before = self.found.take();
        // One that is away for a moment is being replaced.
        let stamp = stamp(&self.path).filter(|stamp| self.seen != Some(*stamp))?;
        let found = (stamp, fs::read_to_string(&self.path).map_err(|error| error.to_string()));
        if before.as_ref() == Some(&found) {
            self.seen = Some(stamp);
            return Some(found.1);
        }
        self.found = Some(found);
        None
    }
}

/// Nothing where it is no file on a disk: a pipe cannot be read just to see.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    #[test]
    fn a_version_counts_when_two_looks_agree() {
        let folder = env::temp_dir().join(format!("ringmain-config-file-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ringmain.yaml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        let taken = |text: &str| Some(Ok(text.to_owned()));
        write("a: 1");
        let mut file = ConfigFile::new(path.clone());
        assert_eq!([file.look(), file.look()], [None, None], "it is the one that was read");

        write("");
        assert_eq!(file.look(), None, "whoever writes has begun anew");
        write("a: 2, and");
        assert_eq!(file.look(), None, "and goes on");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.look(), None, "and replaces it");
        write("a: 2, and more");
        assert_eq!([file.look(), file.look(), file.look()], [None, taken("a: 2, and more"), None]);

        write("");
        assert_eq!([file.look(), file.look(), file.look()], [None, taken(""), None], "whoever takes it judges it");
        write("a: 3");
        assert_eq!(file.look(), None);
        file.mark();
        assert_eq!([file.look(), file.look()], [None, None], "somebody else has read it");
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(file.look(), None);
        assert!(matches!(file.look(), Some(Err(why)) if why.contains("UTF-8")));
        fs::remove_dir_all(&folder).unwrap();
    }
}
