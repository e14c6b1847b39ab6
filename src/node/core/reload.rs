//! Another configuration for a node that runs: checked, compared, and taken whole or not at all.

use std::sync::{Arc, PoisonError};

use super::super::config::{Change, Config, ConfigError};
use super::start::services_options;
use super::{Core, announce};

impl Core {
    /// Reads the file again.
    ///
    /// # Errors
    /// Everything that is wrong; nothing is changed.
    pub(in super::super) fn reload(&self) -> Result<Vec<Change>, ConfigError> {
        self.take(|| self.sources.load())
    }

    /// Takes a text in the place of the file's, until the file is read again.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub(in super::super) fn reload_from(&self, name: &str, text: &str) -> Result<Vec<Change>, ConfigError> {
        self.take(|| self.sources.load_with(Some((name, text))))
    }

    fn take(&self, read: impl FnOnce() -> Result<Config, ConfigError>) -> Result<Vec<Change>, ConfigError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.config();
        let read = read().and_then(|next| Ok((running.changes_to(&next)?, next)));
        let (changes, next) = read.inspect_err(|error| announce::refused(&self.bus, error))?;
        let options = services_options(&next);
        let is_other = options != services_options(&running);
        // Also where no value is another, it may come from elsewhere.
        self.config.send_replace(Arc::new(next));
        if is_other {
            self.services.set_options(options);
        }
        if !changes.is_empty() {
            announce::configured(&self.bus, &changes);
        }
        Ok(changes)
    }
}
