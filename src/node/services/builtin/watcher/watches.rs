//! The system's watches, one a folder.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::WatchError;
use super::tree::Listen;

/// The system's watches.
pub(super) struct Watches(pub(super) Arc<Mutex<RecommendedWatcher>>);

impl Watches {
    fn watcher(&self) -> MutexGuard<'_, RecommendedWatcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listen for Watches {
    fn begin(&mut self, folder: &Path) -> Result<(), WatchError> {
        let watched = self.watcher().watch(folder, RecursiveMode::NonRecursive);
        watched.or_else(|error| refused(folder, error))
    }

    fn end(&mut self, folder: &Path) {
        // One that is gone has taken its watch along.
        let _ = self.watcher().unwatch(folder);
    }
}

/// What it means that the system does not watch a folder.
fn refused(folder: &Path, error: notify::Error) -> Result<(), WatchError> {
    use notify::ErrorKind;
    match error.kind {
        ErrorKind::MaxFilesWatch => Err(WatchError::NoWatches { folder: folder.to_owned() }),
        // It went meanwhile, which a hint on the folder around it says; or it is nobody's business.
        ErrorKind::PathNotFound => Ok(()),
        ErrorKind::Io(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        ErrorKind::Io(error) => Err(WatchError::read(folder, error)),
        kind => Err(WatchError::System(format!("{kind:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_said_and_what_is_gone_is_not() {
        let refused = |error| refused(Path::new("/folder"), error).map_err(|error| error.to_string());
        let of_kind = |kind: io::ErrorKind| notify::Error::io(kind.into());
        let told = refused(notify::Error::new(notify::ErrorKind::MaxFilesWatch)).unwrap_err();
        assert!(told.contains("sysctl fs.inotify.max_user_watches") && told.contains("/folder"), "{told}");
        assert_eq!(refused(notify::Error::path_not_found()), Ok(()));
        assert_eq!(refused(of_kind(io::ErrorKind::NotFound)), Ok(()));
        assert_eq!(refused(of_kind(io::ErrorKind::PermissionDenied)), Ok(()));
        assert!(refused(of_kind(io::ErrorKind::OutOfMemory)).unwrap_err().contains("/folder cannot be read"));
        assert!(refused(notify::Error::generic("no")).unwrap_err().contains("max_user_instances"));
    }
}
