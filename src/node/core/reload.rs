//! Another configuration for a node that runs: checked, compared, and taken whole or not at all.

use std::sync::{Arc, PoisonError};

use super::super::config::{Change, Config, ConfigError, Fault, Origin};
use super::super::services::SubscriptionWish;
use super::super::services::builtin::BuiltinsError;
use super::start::services_options;
use super::{Core, announce};

impl Core {
    /// Reads the file again.
    ///
    /// # Errors
    /// Everything that is wrong; nothing is changed.
    pub(in super::super) fn reload(&self) -> Result<Vec<Change>, ConfigError> {
        self.take(|running| self.sources.load_again(running))
    }

    /// Takes what was read of the file.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub(in super::super) fn reload_read(&self, read: Result<String, String>) -> Result<Vec<Change>, ConfigError> {
        self.take(|running| self.sources.load_another(running, read))
    }

    /// Takes a text in the place of the file's, until the file is read again.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub(in super::super) fn reload_from(&self, name: &str, text: &str) -> Result<Vec<Change>, ConfigError> {
        self.take(|_| self.sources.load_with(Some((name, text))))
    }

    /// What a text in the place of the file's would change, aside from subscriptions.
    ///
    /// # Errors
    /// As [`reload`](Self::reload), as far as that is known before it is tried.
    pub(in super::super) fn planned(&self, name: &str, text: &str) -> Result<Vec<Change>, ConfigError> {
        self.config().changes_to(&self.sources.load_with(Some((name, text)))?)
    }

    fn take(&self, read: impl FnOnce(&Config) -> Result<Config, ConfigError>) -> Result<Vec<Change>, ConfigError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.config();
        let read = read(&running).and_then(|next| Ok((running.changes_to(&next)?, next)));
        let read = read.and_then(|(mut changes, next)| {
            changes.extend(self.subscribe(&next)?);
            Ok((changes, next))
        });
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

    /// Brings about the subscriptions of another configuration, all of them or nothing.
    fn subscribe(&self, next: &Config) -> Result<Option<Change>, ConfigError> {
        let applied = self.runtime.block_on(self.builtins.apply(next));
        let refused = |error: BuiltinsError| ConfigError::new(vec![Fault::new(Origin::Whole, error.to_string())]);
        let applied = applied.map_err(refused)?;
        let names = |wishes: &[SubscriptionWish]| match wishes {
            [] => "none".to_owned(),
            wishes => wishes.iter().map(SubscriptionWish::name).collect::<Vec<_>>().join(", "),
        };
        let is_other = !applied.begun.is_empty() || !applied.ended.is_empty();
        let (from, to) = (names(&applied.ended), names(&applied.begun));
        Ok(is_other.then_some(Change { path: "events.subscriptions", from, to }))
    }
}
