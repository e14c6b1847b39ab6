//! The configuration of a node: defaults, then a YAML file, then the environment, then flags; later ones win.
//!
//! ```text
//! settings (the table) ─┐
//! ringmain.yaml ─► yaml ─► Config ─► the node, `ringmain config show`
//! environment, flags ────┘   └─ diff ─► hot reload
//! ```
//!
//! A configuration is read whole or not at all: every fault is told, with its line, variable or flag.

pub mod command;
mod error;
mod file;
mod reload;
pub mod settings;
mod sources;
mod subscriptions;
pub(super) mod told;
mod value;
mod webhooks;
mod yaml;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::error::{ConfigError, Fault, Origin, Place};
pub(super) use self::file::ConfigFile;
pub use self::reload::Change;
use self::settings::{ALL, Setting};
pub use self::sources::Sources;
pub use self::subscriptions::{HANDLERS, SubscriptionConfig};
pub use self::value::{Kind, Unit, Value};
pub use self::webhooks::WebhookConfig;
use self::yaml::{Node, Tree};

/// Where lists stand in a file.
const SUBSCRIPTIONS: &str = "events.subscriptions";
const WATCH: &str = "watch";
const WEBHOOKS: &str = "webhooks";

/// A configuration in which everything is valid, and where each value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// In the order of the table.
    values: Vec<(Value, Origin)>,
    watch: Vec<PathBuf>,
    subscriptions: Vec<SubscriptionConfig>,
    webhooks: Vec<WebhookConfig>,
}

impl Config {
    /// Reads the text of a file, the environment and flags.
    fn read(
        file: Option<(&str, &str)>,
        environment: impl Fn(&str) -> Option<String>,
        sources: &Sources,
    ) -> Result<Self, ConfigError> {
        let mut reading = Reading::new();
        if let Some((path, text)) = file {
            match yaml::read(path, text) {
                Ok(node) => reading.file(path, &node),
                Err(fault) => reading.faults.push(fault),
            }
        }
        reading.environment(environment);
        for (setting, origin, text) in &sources.given {
            reading.set(setting, origin.clone(), text);
        }
        reading.config.watch.extend(sources.watch.iter().cloned());
        if reading.faults.is_empty() { Ok(reading.config) } else { Err(ConfigError::new(reading.faults)) }
    }

    fn value(&self, setting: &'static Setting) -> &Value {
        &self.values[index_of(setting)].0
    }

    /// A number, bytes among them; nothing where it says `auto` or `none`.
    pub fn number(&self, setting: &'static Setting) -> Option<u64> {
        match self.value(setting) {
            Value::Whole(number) => Some(*number),
            _ => None,
        }
    }

    /// A time.
    pub fn time(&self, setting: &'static Setting) -> Option<Duration> {
        match self.value(setting) {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    /// Whether it is on.
    pub fn is_on(&self, setting: &'static Setting) -> bool {
        *self.value(setting) == Value::Switch(true)
    }

    /// A word.
    pub fn text(&self, setting: &'static Setting) -> Option<&str> {
        match self.value(setting) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An address.
    pub fn address(&self, setting: &'static Setting) -> Option<SocketAddr> {
        match self.value(setting) {
            Value::Address(address) => Some(*address),
            _ => None,
        }
    }

    /// A path.
    pub fn path(&self, setting: &'static Setting) -> Option<&Path> {
        match self.value(setting) {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Folders to watch.
    pub fn watch(&self) -> &[PathBuf] {
        &self.watch
    }

    /// Webhooks of others that are declared.
    pub fn webhooks(&self) -> &[WebhookConfig] {
        &self.webhooks
    }

    /// Subscriptions that are declared.
    pub fn subscriptions(&self) -> &[SubscriptionConfig] {
        &self.subscriptions
    }

    /// Whether a file says anything in it.
    fn has_settings_of_a_file(&self) -> bool {
        let is_of_file = |(_, origin): &(Value, Origin)| matches!(origin, Origin::File { .. });
        !self.subscriptions.is_empty() || !self.webhooks.is_empty() || self.values.iter().any(is_of_file)
    }

    /// Every setting with its value and where that comes from.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Setting, &Value, &Origin)> {
        ALL.iter().zip(&self.values).map(|(setting, (value, origin))| (*setting, value, origin))
    }
}

/// The setting of this name.
///
/// # Errors
/// That there is none, and which is meant.
pub fn setting(path: &str) -> Result<&'static Setting, String> {
    ALL.iter().find(|setting| setting.path == path).copied().ok_or_else(|| unknown(path))
}

fn unknown(path: &str) -> String {
    let meant = nearest(path).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    format!("there is no setting {path}{meant}")
}

fn index_of(setting: &'static Setting) -> usize {
    ALL.iter().position(|other| other.path == setting.path).expect("the table has every setting")
}

/// A configuration while it is read.
struct Reading {
    config: Config,
    faults: Vec<Fault>,
}

impl Reading {
    fn new() -> Self {
        let default = |setting: &&Setting| {
            let value = setting.kind.parse(setting.default).expect("a test reads every default");
            (value, Origin::Default)
        };
        let values = ALL.iter().map(default).collect();
        Self {
            config: Config { values, watch: Vec::new(), subscriptions: Vec::new(), webhooks: Vec::new() },
            faults: Vec::new(),
        }
    }

    fn set(&mut self, setting: &'static Setting, origin: Origin, text: &str) {
        match setting.kind.parse(text) {
            Ok(value) => self.config.values[index_of(setting)] = (value, origin),
            Err(wrong) => self.faults.push(Fault::new(origin, format!("{} = {text:?} {wrong}", setting.path))),
        }
    }

    fn environment(&mut self, get: impl Fn(&str) -> Option<String>) {
        for setting in ALL {
            let own = format!("RINGMAIN_{}", setting.path.replace('.', "_").to_uppercase());
            let mut names = setting.environment.iter().copied().chain([own.as_str()]);
            if let Some((name, text)) = names.find_map(|name| Some((name, get(name)?))) {
                self.set(setting, Origin::Environment(name.to_owned()), &text);
            }
        }
    }

    fn file(&mut self, file: &str, node: &Node) {
        match &node.tree {
            Tree::Nothing => {}
            Tree::Map(members) => self.map(file, "", members),
            _ => self.fault(
                file,
                node.place,
                "a configuration is a map of settings, as in `http:` and below it `listen: 127.0.0.1:0`",
            ),
        }
    }

    fn map(&mut self, file: &str, above: &str, members: &[(String, Node)]) {
        for (key, node) in members {
            let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
            let origin = || Origin::File { path: file.to_owned(), place: node.place };
            let setting = ALL.iter().find(|setting| setting.path == path);
            match (&node.tree, setting) {
                // A key with nothing behind it is what a file looks like in which everything below is a comment.
                (Tree::Nothing, _) if setting.is_some() || is_above(&path) => {}
                (Tree::Text(text), Some(setting)) => self.set(setting, origin(), text),
                (_, Some(setting)) => {
                    self.fault(file, node.place, format!("{path} is one value: {}", setting.kind));
                }
                (Tree::List(list), None) if path == SUBSCRIPTIONS => {
                    for entry in list {
                        match SubscriptionConfig::read(file, entry) {
                            Ok(subscription) => self.config.subscriptions.push(subscription),
                            Err(faults) => self.faults.extend(faults),
                        }
                    }
                }
                (Tree::List(list), None) if path == WEBHOOKS => {
                    for entry in list {
                        match WebhookConfig::read(file, entry) {
                            Ok(webhook) => match webhook.name_is_taken(&self.config.webhooks) {
                                None => self.config.webhooks.push(webhook),
                                Some(said) => self.fault(file, entry.place, said),
                            },
                            Err(faults) => self.faults.extend(faults),
                        }
                    }
                }
                (Tree::List(list), None) if path == WATCH => {
                    for entry in list {
                        match &entry.tree {
                            Tree::Text(folder) => self.config.watch.push(folder.into()),
                            _ => self.fault(file, entry.place, "a folder to watch is a path"),
                        }
                    }
                }
                (_, None) if [SUBSCRIPTIONS, WATCH, WEBHOOKS].contains(&path.as_str()) => {
                    self.fault(file, node.place, format!("{path} is a list"));
                }
                (Tree::Map(members), None) if is_above(&path) => self.map(file, &path, members),
                (_, None) if is_above(&path) => self.fault(file, node.place, format!("{path} is a map of settings")),
                (_, None) => self.fault(file, node.place, unknown(&path)),
            }
        }
    }

    fn fault(&mut self, file: &str, place: Place, said: impl Into<String>) {
        self.faults.push(Fault::new(Origin::File { path: file.to_owned(), place }, said));
    }
}

/// Every name that can stand in a file.
fn paths() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|setting| setting.path).chain([SUBSCRIPTIONS, WATCH, WEBHOOKS])
}

/// Whether settings stand below this name.
fn is_above(path: &str) -> bool {
    paths().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The name that is most like this one, if any is.
fn nearest(path: &str) -> Option<&'static str> {
    let unlike = |other: &&str| strsim::damerau_levenshtein(path, other);
    paths().min_by_key(unlike).filter(|other| unlike(other) <= 1 + path.len() / 4)
}

#[cfg(test)]
mod tests {
    use super::settings::{BUS_BUFFER_SIZE, BUS_WORKERS, HTTP_LISTEN, PROCESSING_TIMEOUT, STORE_RETENTION};
    use super::*;

    const FILE: &str = "\
events:
  bus:
    type: memory
    buffer_size: 20000
    workers: 2
  processing:
    timeout: 10s
    retry:
      max_attempts: 5
  store:
    retention_days: 30
  subscriptions:
    - event_type: \"*.created\"
      handlers: [websocket_broadcast, audit_logger]
watch: [src, docs]
";

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(Some(("ringmain.yaml", text)), get, &Sources::default())
    }

    fn told(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        read(text, environment).unwrap_err().faults().iter().map(Fault::to_string).collect()
    }

    fn origin_of(config: &Config, setting: &'static Setting) -> String {
        config.settings().find(|(other, ..)| other.path == setting.path).unwrap().2.to_string()
    }

    #[test]
    fn a_file_wins_over_defaults_the_environment_over_the_file_and_flags_over_all() {
        let config = read(FILE, &[]).unwrap();
        assert_eq!(config.number(&BUS_BUFFER_SIZE), Some(20_000));
        assert_eq!(config.time(&PROCESSING_TIMEOUT), Some(Duration::from_secs(10)));
        assert_eq!(config.time(&STORE_RETENTION), Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(config.watch(), [PathBuf::from("src"), PathBuf::from("docs")]);
        assert_eq!(origin_of(&config, &BUS_WORKERS), "ringmain.yaml:5:14");
        assert_eq!(origin_of(&config, &HTTP_LISTEN), "default");

        let both = [("SKELLY_EVENT_BUS_WORKERS", "3"), ("EVENT_BUS_WORKERS", "4")];
        let config = read(FILE, &both).unwrap();
        assert_eq!(config.number(&BUS_WORKERS), Some(4), "EVENT_BUS_WORKERS wins over SKELLY_EVENT_BUS_WORKERS");
        assert_eq!(origin_of(&config, &BUS_WORKERS), "environment EVENT_BUS_WORKERS");
        let config = read(FILE, &[("RINGMAIN_HTTP_LISTEN", "127.0.0.1:9")]).unwrap();
        assert_eq!(origin_of(&config, &HTTP_LISTEN), "environment RINGMAIN_HTTP_LISTEN");

        let given = vec![(&HTTP_LISTEN, Origin::Flag("--listen"), "127.0.0.1:0".to_owned())];
        let sources = Sources { given, ..Sources::default() };
        let config = Config::read(None, |_| Some("auto".to_owned()).filter(|_| false), &sources).unwrap();
        assert_eq!(config.address(&HTTP_LISTEN), Some("127.0.0.1:0".parse().unwrap()));
        assert_eq!(origin_of(&config, &HTTP_LISTEN), "flag --listen");
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place_and_what_would_be_right() {
        let text = "\
events:
  bus:
    workers: 99
    bufer_size: 5
  processing: fast
  subscriptions:
    - event_type: \"a..b\"
      handlers: [audit_loger]
htpp: {}
";
        assert_eq!(
            told(text, &[("EVENT_STORE_RETENTION_DAYS", "soon")]),
            [
                "ringmain.yaml:3:14: events.bus.workers = \"99\" is not a whole number from 1 to 16, or auto",
                "ringmain.yaml:4:17: there is no setting events.bus.bufer_size; did you mean events.bus.buffer_size?",
                "ringmain.yaml:5:15: events.processing is a map of settings",
                "ringmain.yaml:7:19: the pattern has an empty segment at byte 2; remove the extra dot",
                "ringmain.yaml:8:18: there is no handler \"audit_loger\"; did you mean audit_logger?",
                "ringmain.yaml:9:7: there is no setting htpp",
                "environment EVENT_STORE_RETENTION_DAYS: events.store.retention_days = \"soon\" is not a time from 1d to 36500d, \
             like 250ms, 30s, 5m, 2h or 90d",
            ]
        );
    }

    #[test]
    fn a_webhook_takes_the_name_of_no_other_service() {
        let webhook = |name: &str| format!("  - name: {name}\n    secret_file: s\n");
        let text = format!("webhooks:\n{}{}{}", webhook("git"), webhook("metrics_collector"), webhook("git"));
        assert_eq!(
            told(&text, &[]),
            [
                "ringmain.yaml:4:5: the node has a service of its own that is called metrics_collector; choose another name",
                "ringmain.yaml:6:5: there is a webhook git above; names are given once",
            ]
        );
        for name in ["alerts", "watch-src"] {
            assert!(read(&format!("webhooks:\n{}", webhook(name)), &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_handler_can_be_a_service_of_the_program() {
        let text = "events:\n  subscriptions:\n    - event_type: \"a.*\"\n      handlers: [billing, audit_logger]\n";
        assert_eq!(read(text, &[]).unwrap().subscriptions()[0].handlers, ["billing", "audit_logger"]);
    }

    #[test]
    fn an_empty_file_and_a_file_of_comments_set_nothing() {
        let defaults = read("", &[]).unwrap();
        assert_eq!(read("# nothing\n", &[]).unwrap(), defaults);
        assert_eq!(read("events:\n  bus:\n    # workers: 2\n", &[]).unwrap(), defaults);
    }
}
