//! A watched folder as a source of events.
//!
//! ```text
//! the system's hints ──► pending, until quiet ──► tree: what was against what is ──► filesystem.* events
//!     overflow ──────────► everything
//! ```
//!
//! | event | when | data |
//! |---|---|---|
//! | `filesystem.created` | a file or folder is there that was not | `path`, `kind`, `bytes` |
//! | `filesystem.modified` | a file has another content | the same |
//! | `filesystem.deleted` | it is no longer there | the same, as it was |
//! | `filesystem.renamed` | it has another name | the same, and `from` |
//! | `filesystem.rescanned` | the system lost count of what happened, and all was looked at | `path` of the folder |
//!
//! `kind` is `file`, `folder` or `other`. A path that is no UTF-8 has a replacement character in `path`, and its bytes in `path_base64`.

mod error;
mod hints;
mod ignored;
mod pending;
mod tree;
mod watches;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use notify::RecommendedWatcher;
use serde_json::json;

pub use self::error::WatchError;
use self::hints::Shared;
pub use self::hints::WatcherCounts;
pub use self::pending::{Due, Pending};
pub use self::tree::{Change, Kind, Listen, Tree, TreeLimits, What};
use self::watches::Watches;
use super::super::super::health::Health;
use super::super::{Service, ServiceFailure, Work};
use crate::{Bus, EventSource, Payload, Publisher};

/// How long a publish waits for room. What finds none then is counted.
const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherOptions {
    /// The name of the service, and behind `filesystem:` the source of its events.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Folders to leave out, such as those that the node writes to.
    pub excluded: Vec<PathBuf>,
    /// How long a path has to be quiet before it is looked at; one that never is, is so after ten times as long. Default 100 ms.
    pub debounce: Duration,
    /// Folders that are watched, each for a watch of the system. Default 8,192.
    pub folders_max: usize,
    /// Files and folders that are watched, some 250 bytes each. Default 500,000.
    pub entries_max: usize,
    /// Paths at which something happened that may wait to be looked at; beyond it all are. Default 100,000.
    pub pending_max: usize,
}

impl WatcherOptions {
    /// The defaults, for a folder.
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            folder: folder.into(),
            excluded: Vec::new(),
            debounce: Duration::from_millis(100),
            folders_max: 8_192,
            entries_max: 500_000,
            pending_max: 100_000,
        }
    }
}

/// A folder as a source of events.
#[derive(Debug)]
pub struct FilesystemWatcher {
    bus: Bus,
    options: WatcherOptions,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// Its drop ends the hints.
    watcher: Arc<Mutex<RecommendedWatcher>>,
    thread: JoinHandle<()>,
}

impl FilesystemWatcher {
    /// A watcher that publishes on this bus. It begins when it is started.
    pub fn new(bus: &Bus, options: WatcherOptions) -> Self {
        let shared = Arc::new(Shared::new(&options));
        Self { bus: bus.clone(), options, shared, running: Mutex::new(None) }
    }

    /// What became of what happened to files, since it was made.
    pub fn counts(&self) -> WatcherCounts {
        self.shared.hints().counts
    }

    /// Looks at everything, as after hints that were lost.
    pub fn rescan(&self) {
        let now = self.shared.begun.elapsed();
        self.shared.hints().pending.hint_all(now);
        self.shared.woken.notify_one();
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the folder, with the system's hints coming from before that.
    fn begin(bus: &Bus, options: &WatcherOptions, shared: &Arc<Shared>) -> Result<Running, ServiceFailure> {
        let failure = |error: &dyn fmt::Display| ServiceFailure::new(error.to_string());
        let read = |folder: &Path| folder.canonicalize().map_err(|error| WatchError::read(folder, error));
        let root = read(&options.folder).map_err(|error| failure(&error))?;
        // One that is not there yet is written as the system will name it.
        let excluded: Vec<_> = options.excluded.iter().map(|folder| absolute(folder)).collect();
        if let Some(excluded) = excluded.iter().find(|excluded| root.starts_with(excluded)) {
            return Err(failure(&WatchError::Excluded { folder: root, excluded: excluded.clone() }));
        }
        let hears = Arc::clone(shared);
        let watcher = notify::recommended_watcher(move |hint| hears.take(hint));
        let watcher = watcher.map_err(|error| failure(&WatchError::System(error.to_string())))?;
        let watcher = Arc::new(Mutex::new(watcher));
        let limits = TreeLimits { folders_max: options.folders_max, entries_max: options.entries_max };
        let mut listen = Watches(Arc::clone(&watcher));
        let tree = Tree::read(&root, excluded, limits, &mut listen).map_err(|error| failure(&error))?;
        let publisher = bus.publisher().map_err(|error| failure(&error))?;
        let source = EventSource::filesystem(&options.name);
        let looker = Looker { tree, listen, publisher, source, shared: Arc::clone(shared) };
        let thread = thread::Builder::new().name("ringmain-watch".to_owned()).spawn(move || looker.run());
        Ok(Running { watcher, thread: thread.map_err(|error| failure(&error))? })
    }
}

impl Drop for FilesystemWatcher {
    fn drop(&mut self) {
        self.shared.hints().is_ending = true;
        self.shared.woken.notify_one();
    }
}

/// As the system names it, as far as it is there.
fn absolute(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = folder.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
    let named = there.and_then(|(there, named)| Some(named.join(folder.strip_prefix(there).ok()?)));
    named.unwrap_or(folder)
}

/// The thread that looks and publishes.
struct Looker {
    tree: Tree,
    listen: Watches,
    publisher: Publisher,
    source: EventSource,
    shared: Arc<Shared>,
}

impl Looker {
    fn run(mut self) {
        while let Some(Due { mut paths, all }) = self.wait() {
            // The other end of a rename may not have been quiet for long enough.
            let tree = &self.tree;
            if paths.iter().any(|path| tree.has_come_or_gone(path)) {
                paths.extend(self.shared.hints().pending.take_others(|path| tree.has_come_or_gone(path)));
            }
            let (changes, outcome) = self.tree.look(paths, all, &mut self.listen);
            changes.iter().for_each(|change| self.publish(change));
            if all {
                self.shared.hints().counts.rescans += 1;
                let data = json!({ "path": self.tree.root().to_string_lossy() });
                self.publish_data("filesystem.rescanned", &data.to_string());
            }
            if all || outcome.is_err() {
                self.shared.hints().failed = outcome.err().map(|error| error.to_string());
            }
        }
    }

    /// What to look at next; `None` when it is to end.
    fn wait(&self) -> Option<Due> {
        let mut hints = self.shared.hints();
        loop {
            if hints.is_ending {
                return None;
            }
            let now = self.shared.begun.elapsed();
            let due = hints.pending.take(now);
            if due.all || !due.paths.is_empty() {
                return Some(due);
            }
            hints = match hints.pending.due_at() {
                None => self.shared.woken.wait(hints).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let waited = self.shared.woken.wait_timeout(hints, at.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn publish(&mut self, change: &Change) {
        let topic = match &change.what {
            What::Created => "filesystem.created",
            What::Modified => "filesystem.modified",
            What::Deleted => "filesystem.deleted",
            What::Renamed { .. } => "filesystem.renamed",
        };
        self.publish_data(topic, &data(change));
    }

    fn publish_data(&mut self, topic: &str, data: &str) {
        let event = self.publisher.event().source(self.source.as_str());
        // Whoever stops it does not wait for room.
        let limit = if self.shared.hints().is_ending { Duration::ZERO } else { PUBLISH_LIMIT };
        let published = event.publish_deadline(topic, Payload::json(data), limit);
        let counts = &mut self.shared.hints().counts;
        match published {
            Ok(_) => counts.published += 1,
            Err(_) => counts.unpublished += 1,
        }
    }
}

/// What an event says of a change, as JSON.
fn data(change: &Change) -> String {
    let kind = match change.kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Other => "other",
    };
    let mut data = json!({ "path": change.path.to_string_lossy(), "kind": kind });
    if let Some(bytes) = change.bytes {
        data["bytes"] = bytes.into();
    }
    let from = match &change.what {
        What::Renamed { from } => Some(from),
        _ => None,
    };
    if let Some(from) = from {
        data["from"] = from.to_string_lossy().into();
    }
    for (name, path) in [("path_base64", Some(&change.path)), ("from_base64", from)] {
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            data[name] = BASE64.encode(path.as_os_str().as_encoded_bytes()).into();
        }
    }
    data.to_string()
}

impl Service for FilesystemWatcher {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "filesystem watcher"
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            {
                let mut hints = self.shared.hints();
                hints.pending = Pending::new(self.options.debounce, self.options.pending_max);
                (hints.is_ending, hints.failed) = (false, None);
            }
            let (bus, options, shared) = (self.bus.clone(), self.options.clone(), Arc::clone(&self.shared));
            let begun = tokio::task::spawn_blocking(move || Self::begin(&bus, &options, &shared)).await;
            let begun = begun.map_err(|error| ServiceFailure::new(error.to_string()))?;
            *self.running() = Some(begun?);
            Ok(())
        })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let Some(Running { watcher, thread }) = self.running().take() else { return Ok(()) };
            self.shared.hints().is_ending = true;
            self.shared.woken.notify_one();
            let ended = tokio::task::spawn_blocking(move || {
                let ended = thread.join();
                drop(watcher);
                ended
            });
            match ended.await {
                Ok(Ok(())) => Ok(()),
                _ => Err(ServiceFailure::new("the thread that looks at files has panicked")),
            }
        })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            if !self.options.folder.is_dir() {
                return Health::Unhealthy(format!("{} is gone", self.options.folder.display()));
            }
            if self.running().as_ref().is_none_or(|running| running.thread.is_finished()) {
                return Health::Unhealthy("the thread that looks at files has ended".to_owned());
            }
            let mut hints = self.shared.hints();
            let lost = hints.counts.unpublished - hints.unpublished_told;
            hints.unpublished_told += lost;
            match (&hints.failed, lost) {
                (Some(failed), _) => Health::Degraded(failed.clone()),
                (None, 0) => Health::Healthy,
                (None, lost) => Health::Degraded(format!("the bus had no room for {lost} changes of files")),
            }
        })
    }
}
