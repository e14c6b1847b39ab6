//! What is different in another configuration, and whether a running node can take it.

use std::fmt;

use super::settings::Reload;
use super::{Config, ConfigError, Fault, Origin};

/// One setting that is different.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name in a file.
    pub path: &'static str,
    /// What it was.
    pub from: String,
    /// What it is to be.
    pub to: String,
}

impl Config {
    /// What is different in `next`, as a running node takes it.
    ///
    /// # Errors
    /// The settings that only a restart takes; the node keeps everything as it is.
    pub fn changes_to(&self, next: &Self) -> Result<Vec<Change>, ConfigError> {
        let (mut changes, mut faults) = (Vec::new(), Vec::new());
        for ((setting, from, _), (_, to, origin)) in self.settings().zip(next.settings()) {
            match setting.reload {
                _ if from == to => {}
                Reload::Live => {
                    changes.push(Change { path: setting.path, from: from.to_string(), to: to.to_string() });
                }
                Reload::Restart => {
                    let said = format!("{} is {from} while the node runs; restart it to make it {to}", setting.path);
                    faults.push(Fault::new(origin.clone(), said));
                }
            }
        }
        let others = [("watch", self.watch() != next.watch()), ("webhooks", self.webhooks() != next.webhooks())];
        for (path, _) in others.into_iter().filter(|(_, is_other)| *is_other) {
            let said = format!("{path} is another list than that of the running node; restart it to take it");
            faults.push(Fault::new(Origin::Whole, said));
        }
        if faults.is_empty() { Ok(changes) } else { Err(ConfigError::new(faults)) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.path, self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::Sources;

    fn read(text: &str) -> Config {
        Config::read(Some(("ringmain.yaml", text)), |_| None, &Sources::default()).unwrap()
    }

    #[test]
    fn a_reload_takes_all_changes_or_none() {
        let running = read("");
        let next = read("core:\n  health_check_interval_s: 5\nhttp:\n  page_max: 10\n");
        let changes: Vec<_> = running.changes_to(&next).unwrap().iter().map(Change::to_string).collect();
        assert_eq!(changes, ["core.health_check_interval_s: 30s -> 5s", "http.page_max: 1000 -> 10"]);

        let told = running.changes_to(&read("watch: [src]\n")).unwrap_err().to_string();
        assert_eq!(told, "configuration: watch is another list than that of the running node; restart it to take it");
        let next = read("core:\n  health_check_interval_s: 5\nevents:\n  bus:\n    workers: 2\n");
        let told = running.changes_to(&next).unwrap_err().to_string();
        assert_eq!(told, "ringmain.yaml:5:14: events.bus.workers is auto while the node runs; restart it to make it 2");
    }
}
