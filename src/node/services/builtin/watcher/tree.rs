//! What is known of the files below a folder, and what has become of them since: a comparison, whoever says where to look.
//!
//! The system's word that something happened is only a hint. What is reported is the difference between what was there and what is,
//! so that nothing is reported twice, and a look at everything makes good for hints that were lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::WatchError;
use super::ignored::{self, Ignored};

/// What something on a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, which is not followed; also sockets and the like.
    Other,
}

/// What became of a file or folder. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is, or was if it is gone.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its bytes, of a file.
    pub bytes: Option<u64>,
    /// What happened.
    pub what: What,
}

/// What happened to a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was not there before.
    Created,
    /// Its content is another. Of files.
    Modified,
    /// It is no longer there.
    Deleted,
    /// It is the same, and was here before.
    Renamed {
        /// There.
        from: PathBuf,
    },
}

/// A file as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    /// Device and number, where the system has such.
    id: Option<(u64, u64)>,
    born: Option<SystemTime>,
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        let kind = match found.file_type() {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        #[cfg(unix)]
        let id = {
            use std::os::unix::fs::MetadataExt;
            Some((found.dev(), found.ino()))
        };
        #[cfg(not(unix))]
        let id = None;
        let bytes = if kind == Kind::File { found.len() } else { 0 };
        Self { kind, id, born: found.created().ok(), modified: found.modified().ok(), bytes }
    }

    /// Whether both are the same thing on the disk. Numbers are given again at once, so its birth has to be the same,
    /// and where a file has none that is known, its last change.
    fn is(&self, other: &Self) -> bool {
        let is_as_old = match (self.born, other.born) {
            (Some(one), Some(other)) => one == other,
            _ => self.kind == Kind::Folder || self.has_content_of(other),
        };
        self.id.is_some() && self.id == other.id && self.kind == other.kind && is_as_old
    }

    fn has_content_of(&self, other: &Self) -> bool {
        (self.modified, self.bytes) == (other.modified, other.bytes)
    }
}

/// What hears which folders to listen to, in the order in which that has to happen.
pub trait Listen {
    /// From now on. Called before the folder is read, so that nothing falls in between.
    ///
    /// # Errors
    /// Why the system cannot.
    fn begin(&mut self, folder: &Path) -> Result<(), WatchError>;

    /// No longer: it is gone, or has another name.
    fn end(&mut self, folder: &Path);
}

/// How much is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Folders.
    pub folders_max: usize,
    /// Files and folders.
    pub entries_max: usize,
}

/// What is known of the files below a folder.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    ignored: Ignored,
    limits: TreeLimits,
    known: BTreeMap<PathBuf, Seen>,
    folders: usize,
}

impl Tree {
    /// Reads all there is below `root`, an absolute path. `excluded` are folders to leave out, absolute too.
    ///
    /// # Errors
    /// When the folder cannot be read, or has more in it than is watched.
    pub fn read(
        root: &Path,
        excluded: Vec<PathBuf>,
        limits: TreeLimits,
        listen: &mut dyn Listen,
    ) -> Result<Self, WatchError> {
        let known = BTreeMap::new();
        let mut tree = Self { root: root.to_owned(), ignored: Ignored::new(root, excluded), limits, known, folders: 0 };
        let found = fs::symlink_metadata(root).map_err(|error| WatchError::read(root, error))?;
        if !found.is_dir() {
            return Err(WatchError::NoFolder { folder: root.to_owned() });
        }
        tree.enter(root.to_owned(), Seen::of(&found), listen, &mut Vec::new())?;
        Ok(tree)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Files and folders that are known.
    pub fn entries(&self) -> usize {
        self.known.len()
    }

    /// Folders among them.
    pub fn folders(&self) -> usize {
        self.folders
    }

    /// Whether the folder is gone, with all that was in it: nothing is known, and nobody listens. A look finds it when it is there again.
    pub fn is_gone(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether something is there that was not, or the other way round.
    pub fn has_come_or_gone(&self, path: &Path) -> bool {
        self.known.contains_key(path) != fs::symlink_metadata(path).is_ok()
    }

    /// What has changed at these paths and below what is new there, or with `all` anywhere.
    ///
    /// # Errors
    /// When more is there than is watched: what did not fit is left out, everything else is known as it is.
    pub fn look(
        &mut self,
        paths: impl IntoIterator<Item = PathBuf>,
        all: bool,
        listen: &mut dyn Listen,
    ) -> (Vec<Change>, Result<(), WatchError>) {
        let mut paths: BTreeSet<_> = paths.into_iter().filter(|path| path.starts_with(&self.root)).collect();
        if all {
            paths.extend(self.known.keys().cloned());
            paths.insert(self.root.clone());
        }
        let says_what_is_ignored = |path: &&PathBuf| path.file_name().is_some_and(|name| name == ignored::FILE);
        let rereads: Vec<_> = paths.iter().filter(says_what_is_ignored).filter_map(|file| file.parent()).collect();
        for folder in &rereads {
            self.ignored.read(folder);
        }
        let mut looking = Looking::default();
        let mut outcome = Ok(());
        for path in &paths {
            self.compare(path, &mut looking, listen);
        }
        // Those that listened to a folder by its old name have to stop before they listen to it by the new one.
        for path in &paths {
            outcome = outcome.and(self.arrive(path, &mut looking, listen));
        }
        if all {
            outcome = outcome.and(self.children(&self.root.clone(), listen, &mut looking.came));
        }
        match rereads[..] {
            [] => {}
            [folder] => outcome = outcome.and(self.reread(folder, listen)),
            _ => outcome = outcome.and(self.reread(&self.root.clone(), listen)),
        }
        (looking.changes(), outcome)
    }

    /// What is at a path against what was: gone, or changed.
    fn compare(&mut self, path: &Path, looking: &mut Looking, listen: &mut dyn Listen) {
        let Some(known) = self.known.get(path) else { return };
        let found = fs::symlink_metadata(path).ok().map(|found| Seen::of(&found));
        match found {
            Some(found) if found.kind == known.kind && (found.kind != Kind::Folder || found.is(known)) => {
                if found.kind != Kind::Folder && !(found.has_content_of(known) && found.id == known.id) {
                    looking.modified.push((path.to_owned(), found.clone()));
                }
                self.known.insert(path.to_owned(), found);
            }
            _ => looking.gone.extend(self.leave(path, listen)),
        }
    }

    /// What is at a path that is not known.
    fn arrive(&mut self, path: &Path, looking: &mut Looking, listen: &mut dyn Listen) -> Result<(), WatchError> {
        // One whose folder is not known comes with its folder, or is left out as that is.
        let may_come = |folder: &Path| path == self.root || self.known.contains_key(folder);
        if self.known.contains_key(path) || !path.parent().is_some_and(may_come) {
            return Ok(());
        }
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
        if path == self.root && !found.is_dir() {
            return Err(WatchError::NoFolder { folder: path.to_owned() });
        }
        if path != self.root && self.ignored.leaves_out(path, found.is_dir()) {
            return Ok(());
        }
        self.enter(path.to_owned(), Seen::of(&found), listen, &mut looking.came)
    }

    /// Knows a file, or a folder with all that is in it, from now on.
    fn enter(
        &mut self,
        path: PathBuf,
        seen: Seen,
        listen: &mut dyn Listen,
        came: &mut Vec<(PathBuf, Seen)>,
    ) -> Result<(), WatchError> {
        let mut rest = vec![(path, seen)];
        while let Some((path, seen)) = rest.pop() {
            if self.known.len() >= self.limits.entries_max {
                return Err(WatchError::TooManyEntries {
                    folder: self.root.clone(),
                    entries_max: self.limits.entries_max,
                });
            }
            let is_folder = seen.kind == Kind::Folder;
            if is_folder {
                if self.folders >= self.limits.folders_max {
                    let folders_max = self.limits.folders_max;
                    return Err(WatchError::TooManyFolders { folder: self.root.clone(), folders_max });
                }
                listen.begin(&path)?;
                self.folders += 1;
            }
            self.known.insert(path.clone(), seen.clone());
            came.push((path.clone(), seen));
            if is_folder {
                self.ignored.read(&path);
                rest.extend(self.unknown_in(&path)?);
            }
        }
        Ok(())
    }

    /// Knows what is in the known folders from here down and was not known.
    fn children(
        &mut self,
        top: &Path,
        listen: &mut dyn Listen,
        came: &mut Vec<(PathBuf, Seen)>,
    ) -> Result<(), WatchError> {
        let below = self.known.range::<Path, _>((Bound::Included(top), Bound::Unbounded));
        let below = below.take_while(|(path, _)| path.starts_with(top));
        let folders: Vec<_> =
            below.filter(|(_, seen)| seen.kind == Kind::Folder).map(|(path, _)| path.clone()).collect();
        for folder in folders {
            for (path, seen) in self.unknown_in(&folder)? {
                self.enter(path, seen, listen, came)?;
            }
        }
        Ok(())
    }

    fn unknown_in(&self, folder: &Path) -> Result<Vec<(PathBuf, Seen)>, WatchError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // It went meanwhile, which another hint says; or it is nobody's business.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(WatchError::read(folder, error)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if !self.known.contains_key(&path) && !self.ignored.leaves_out(&path, metadata.is_dir()) {
                found.push((path, Seen::of(&metadata)));
            }
        }
        Ok(found)
    }

    /// Forgets what is at a path and below. Returns what that was.
    fn leave(&mut self, path: &Path, listen: &mut dyn Listen) -> Vec<(PathBuf, Seen)> {
        // Paths are ordered part by part, so what is in a folder follows it.
        let below = self.known.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        let left: Vec<_> = below.map(|(other, _)| other).take_while(|other| other.starts_with(path)).cloned().collect();
        let left: Vec<_> = left.into_iter().filter_map(|path| self.known.remove_entry(&path)).collect();
        for (path, _) in left.iter().filter(|(_, seen)| seen.kind == Kind::Folder) {
            listen.end(path);
            self.folders -= 1;
        }
        self.ignored.forget(path);
        left
    }

    /// A `.gitignore` says something else: what it leaves out is known no more, what it no longer leaves out is from now on.
    /// Nothing happened to those files, so nothing is reported.
    fn reread(&mut self, folder: &Path, listen: &mut dyn Listen) -> Result<(), WatchError> {
        let below = self.known.range::<Path, _>((Bound::Excluded(folder), Bound::Unbounded));
        let below = below.take_while(|(path, _)| path.starts_with(folder));
        let left_out = below.filter(|(path, seen)| self.ignored.leaves_out(path, seen.kind == Kind::Folder));
        let left_out: Vec<_> = left_out.map(|(path, _)| path.clone()).collect();
        for path in left_out {
            self.leave(&path, listen);
        }
        self.children(folder, listen, &mut Vec::new())
    }
}

/// What a look has found so far.
#[derive(Default)]
struct Looking {
    gone: Vec<(PathBuf, Seen)>,
    came: Vec<(PathBuf, Seen)>,
    modified: Vec<(PathBuf, Seen)>,
}

impl Looking {
    /// What is gone and came under another name is renamed; so is what is in a folder that is, of which nothing is said.
    fn changes(self) -> Vec<Change> {
        let Self { mut gone, mut came, mut modified } = self;
        let mut by_id: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (nth, (_, seen)) in gone.iter().enumerate() {
            by_id.entry(seen.id).or_default().push(nth);
        }
        let mut renamed: BTreeMap<PathBuf, (PathBuf, Seen)> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        came.sort_by(|one, other| one.0.cmp(&other.0));
        came.retain(|(path, seen)| {
            let before = by_id.get(&seen.id).into_iter().flatten();
            let Some(&nth) = before.into_iter().find(|&&nth| gone[nth].1.is(seen) && !taken.contains(&nth)) else {
                return true;
            };
            taken.insert(nth);
            let (from, was) = &gone[nth];
            if seen.kind == Kind::File && !seen.has_content_of(was) {
                modified.push((path.clone(), seen.clone()));
            }
            renamed.insert(path.clone(), (from.clone(), seen.clone()));
            false
        });
        let mut nth = 0;
        gone.retain(|_| {
            nth += 1;
            !taken.contains(&(nth - 1))
        });
        let change = |(path, seen): (PathBuf, Seen), what| Change {
            path,
            kind: seen.kind,
            bytes: (seen.kind == Kind::File).then_some(seen.bytes),
            what,
        };
        // What is in a folder goes before it, and comes after it.
        gone.sort_by(|one, other| other.0.cmp(&one.0));
        modified.sort_by(|one, other| one.0.cmp(&other.0));
        let mut changes: Vec<_> = gone.into_iter().map(|gone| change(gone, What::Deleted)).collect();
        let came_along = |to: &Path, from: &Path| {
            let (Some(to_folder), Some(from_folder)) = (to.parent(), from.parent()) else { return false };
            to.file_name() == from.file_name() && renamed.get(to_folder).is_some_and(|(from, _)| from == from_folder)
        };
        // In a folder that is another one, what was put back has kept its name.
        let is_told = |to: &PathBuf, from: &PathBuf| to != from && !came_along(to, from);
        for (to, (from, seen)) in renamed.iter().filter(|(to, (from, _))| is_told(to, from)) {
            changes.push(change((to.clone(), seen.clone()), What::Renamed { from: from.clone() }));
        }
        changes.extend(came.into_iter().map(|came| change(came, What::Created)));
        changes.extend(modified.into_iter().map(|modified| change(modified, What::Modified)));
        changes
    }
}
