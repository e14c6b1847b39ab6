//! What is not watched: what `.gitignore` files name, what git keeps for itself, and folders that the node writes to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;

/// The name of such a file.
pub(super) const FILE: &str = ".gitignore";
/// Where git keeps what it knows.
const GIT: &str = ".git";

/// What is left out below a root. Paths are absolute.
#[derive(Debug)]
pub(super) struct Ignored {
    root: PathBuf,
    /// Folders that are left out whatever is in them.
    excluded: Vec<PathBuf>,
    /// By the folder in which it stands. Those above the root count, up to where the repository begins.
    files: HashMap<PathBuf, Gitignore>,
}

impl Ignored {
    pub(super) fn new(root: &Path, excluded: Vec<PathBuf>) -> Self {
        let mut ignored = Self { root: root.to_owned(), excluded, files: HashMap::new() };
        if let Some(top) = root.ancestors().find(|folder| folder.join(GIT).exists()) {
            for folder in root.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
                ignored.read(folder);
            }
        }
        ignored
    }

    /// Reads the file of a folder anew. One that is no longer there says nothing any more; a line that is no pattern says nothing either.
    pub(super) fn read(&mut self, folder: &Path) {
        let file = folder.join(FILE);
        if file.is_file() {
            self.files.insert(folder.to_owned(), Gitignore::new(file).0);
        } else {
            self.files.remove(folder);
        }
    }

    /// Forgets what is known of a folder and all below it.
    pub(super) fn forget(&mut self, folder: &Path) {
        self.files.retain(|known, _| !known.starts_with(folder));
    }

    /// Whether a path, or a folder in which it lies, is left out.
    pub(super) fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        self.names(path, is_folder)
            || above.filter(|folder| *folder != self.root).any(|folder| self.names(folder, true))
    }

    /// Whether it is left out itself.
    fn names(&self, path: &Path, is_folder: bool) -> bool {
        if path.file_name().is_some_and(|name| name == GIT)
            || self.excluded.iter().any(|folder| path.starts_with(folder))
        {
            return true;
        }
        // The nearest file that says something decides.
        let files = path.ancestors().skip(1).filter_map(|folder| self.files.get(folder));
        let said = files.map(|file| file.matched(path, is_folder)).find(|said| !said.is_none());
        said.is_some_and(|said| said.is_ignore())
    }
}
