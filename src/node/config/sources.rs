//! What a configuration is read from: a file, the environment, flags.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::settings::Setting;
use super::{Config, ConfigError, Fault, Origin, Place};

/// What stands above the defaults.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// A file.
    pub file: Option<PathBuf>,
    /// Values from flags and from the program: the setting, where it comes from, and its text.
    pub given: Vec<(&'static Setting, Origin, String)>,
    /// Folders to watch from flags, beside those of the file.
    pub watch: Vec<PathBuf>,
}

impl Sources {
    /// Reads all of them.
    ///
    /// # Errors
    /// Everything that is wrong, and where.
    pub fn load(&self) -> Result<Config, ConfigError> {
        match self.file.as_deref().map(fs::read_to_string) {
            None => self.load_with(None),
            Some(read) => self.load_of(read.map_err(|error| error.to_string()), |_| None),
        }
    }

    /// Reads the file again, for a node that runs by this configuration.
    ///
    /// # Errors
    /// As [`load`](Self::load); also where the file is empty and had settings, for then somebody is writing it, or has lost it.
    pub(in super::super) fn load_again(&self, running: &Config) -> Result<Config, ConfigError> {
        match self.file.as_deref().map(fs::read_to_string) {
            None => self.load_with(None),
            Some(read) => self.load_another(running, read.map_err(|error| error.to_string())),
        }
    }

    /// As [`load_again`](Self::load_again), with what was read of the file, or why that could not be.
    ///
    /// # Errors
    /// As [`load_again`](Self::load_again).
    pub(in super::super) fn load_another(
        &self,
        running: &Config,
        read: Result<String, String>,
    ) -> Result<Config, ConfigError> {
        self.load_of(read, |text| {
            (text.trim().is_empty() && running.has_settings_of_a_file()).then_some(
                "it is empty, and the node runs by settings that it had; write them again, or {} to take them away",
            )
        })
    }

    fn load_of(
        &self,
        read: Result<String, String>,
        refuses: impl FnOnce(&str) -> Option<&'static str>,
    ) -> Result<Config, ConfigError> {
        let path = self.file.as_deref().unwrap_or(Path::new("")).display().to_string();
        let read = read.map_err(|error| format!("it cannot be read: {error}"));
        match read.and_then(|text| refuses(&text).map_or(Ok(text), |said| Err(said.to_owned()))) {
            Ok(text) => self.load_with(Some((&path, &text))),
            Err(said) => {
                let origin = Origin::File { path, place: Place { line: 1, column: 1 } };
                Err(ConfigError::new(vec![Fault::new(origin, said)]))
            }
        }
    }

    /// Reads all of them, with the text of another file in the place of the file's.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(&self, file: Option<(&str, &str)>) -> Result<Config, ConfigError> {
        Config::read(file, |name| env::var(name).ok(), self)
    }
}
