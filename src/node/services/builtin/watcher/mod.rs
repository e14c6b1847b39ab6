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
    /// While the folder is gone, how often it is looked whether it is there again. Default 1 s.
    pub return_every: Duration,
    /// While not all of it is watched, for want of watches or room, how often all is looked at again; also at once where there is room
    /// again. Default 60 s.
    pub rescan_every: Duration,
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
            return_every: Duration::from_secs(1),
            rescan_every: Duration::from_secs(60),
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
    shared: Arc<Shared>,
    run: u64,
    /// Its drop ends the hints.
    _watcher: Arc<Mutex<RecommendedWatcher>>,
    /// Until it is waited for.
    thread: Option<JoinHandle<()>>,
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
        self.shared.woken.notify_all();
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the folder, with the system's hints coming from before that.
    fn begin(bus: &Bus, options: &WatcherOptions, shared: &Arc<Shared>, run: u64) -> Result<Running, ServiceFailure> {
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
        let WatcherOptions { return_every, rescan_every, .. } = *options;
        let looker = Looker {
            run,
            tree,
            listen,
            publisher,
            source,
            shared: Arc::clone(shared),
            return_every,
            rescan_every,
            again: None,
            lacks: None,
        };
        let thread = thread::Builder::new().name("ringmain-watch".to_owned()).spawn(move || looker.run());
        let thread = Some(thread.map_err(|error| failure(&error))?);
        Ok(Running { shared: Arc::clone(shared), run, _watcher: watcher, thread })
    }
}

impl Running {
    /// Ends it, and waits for that.
    fn end(mut self) -> thread::Result<()> {
        self.shared.end(self.run);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Also of a start that nobody waits for any more.
impl Drop for Running {
    fn drop(&mut self) {
        self.shared.end(self.run);
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
    run: u64,
    tree: Tree,
    listen: Watches,
    publisher: Publisher,
    source: EventSource,
    shared: Arc<Shared>,
    return_every: Duration,
    rescan_every: Duration,
    /// When it looks at everything unasked, for not all of it is watched.
    again: Option<Duration>,
    /// How many folders and entries were watched when there was no room for more.
    lacks: Option<(usize, usize)>,
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
            if all && !self.tree.is_gone() {
                self.shared.hints().counts.rescans += 1;
                let data = json!({ "path": self.tree.root().to_string_lossy() });
                self.publish_data("filesystem.rescanned", &data.to_string());
            }
            self.note(all, outcome);
        }
    }

    /// Notes whether all of it is watched, and when to look at it again if not.
    fn note(&mut self, all: bool, outcome: Result<(), WatchError>) {
        let now = self.shared.begun.elapsed();
        let mut hints = self.shared.hints();
        let watched = (self.tree.folders(), self.tree.entries());
        (self.again, self.lacks, hints.failed) = match outcome {
            _ if self.tree.is_gone() => {
                let gone = WatchError::Gone { folder: self.tree.root().to_owned() };
                (Some(now + self.return_every), None, Some(gone.to_string()))
            }
            Err(error) => (Some(now + self.rescan_every), Some(watched), Some(error.to_string())),
            Ok(()) if all => (None, None, None),
            Ok(()) => {
                // There is room again for what was left out.
                if self.lacks.is_some_and(|(folders, entries)| watched.0 < folders || watched.1 < entries) {
                    hints.pending.hint_all(now);
                }
                return;
            }
        };
    }

    /// What to look at next; `None` when it is to end.
    fn wait(&mut self) -> Option<Due> {
        let mut hints = self.shared.hints();
        loop {
            if hints.run != self.run {
                return None;
            }
            let now = self.shared.begun.elapsed();
            let due = hints.pending.take(now);
            if due.all || !due.paths.is_empty() {
                return Some(due);
            }
            if self.again.is_some_and(|again| again <= now) {
                if !self.tree.is_gone() || self.tree.root().is_dir() {
                    self.again = None;
                    return Some(Due { paths: Vec::new(), all: true });
                }
                self.again = Some(now + self.return_every);
            }
            hints = match hints.pending.due_at().into_iter().chain(self.again).min() {
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
        let is_ending = self.shared.hints().run != self.run;
        let limit = if is_ending { Duration::ZERO } else { PUBLISH_LIMIT };
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
            let run = self.shared.begin(&self.options);
            let (bus, options, shared) = (self.bus.clone(), self.options.clone(), Arc::clone(&self.shared));
            let begun = tokio::task::spawn_blocking(move || Self::begin(&bus, &options, &shared, run)).await;
            let begun = begun.map_err(|error| ServiceFailure::new(error.to_string()))?;
            *self.running() = Some(begun?);
            Ok(())
        })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let Some(running) = self.running().take() else { return Ok(()) };
            match tokio::task::spawn_blocking(move || running.end()).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(ServiceFailure::new("the thread that looks at files has panicked")),
            }
        })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            if self.running().as_ref().is_none_or(Running::has_ended) {
                return Health::Unhealthy("the thread that looks at files has ended".to_owned());
            }
            if !self.options.folder.is_dir() {
                return Health::Degraded(WatchError::Gone { folder: self.options.folder.clone() }.to_string());
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
