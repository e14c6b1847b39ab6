//! `ringmain health`: how a running node is.

use clap::Args;
use serde_json::Value;

use super::super::store::Failure;
use super::connect::{Connection, Remote};
use super::shown::columns;
use super::{array, text, write};

/// Exit code for a node that is not ready.
const NOT_READY: u8 = 1;

/// The flags of `ringmain health`.
#[derive(Debug, Clone, Args)]
pub struct Health {
    /// Write what the node says as JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// Shown by `ringmain health --help`.
pub(in super::super) const HELP: &str = r#"Examples:
  How it is, and its parts:
    ringmain health

  For whoever waits until it takes events:
    until ringmain health > health.txt; do sleep 1; done

  One part of it:
    ringmain health --json | jq .store

Ready and well:
  A node is ready when it takes events. Its health is that of its worst part: healthy, degraded or unhealthy, with the reason.

Exit codes:
  0  it is ready, however well it is
  1  it is not ready, or no node is there
  2  wrong flags"#;

pub(super) fn health(flags: &Health) -> Result<u8, Failure> {
    let node = Connection::open(&flags.node)?;
    let answer = node.ask("GET", "/health/ready", None)?;
    // One that is not ready says how it is all the same.
    let told = answer.json().ok().filter(|told| told["status"].is_string() && told["health"].is_string());
    let Some(told) = told else { return Err(node.refused(&answer)) };
    write(&if flags.json { answer.body } else { shown(&node.url, &told) })?;
    Ok(if answer.status == 200 { 0 } else { NOT_READY })
}

fn shown(url: &str, told: &Value) -> String {
    let part = |name: &str, health: &Value| {
        [name.to_owned(), text(health, "health").to_owned(), text(health, "reason").to_owned()]
    };
    let mut rows = vec![["node".to_owned(), text(told, "health").to_owned(), text(told, "reason").to_owned()]];
    rows.extend(["bus", "store", "live"].map(|name| part(name, &told[name])));
    rows.extend(array(told, "services").iter().map(|service| {
        [
            format!("service {}", text(service, "name")),
            text(service, "health").to_owned(),
            text(service, "state").to_owned(),
        ]
    }));
    format!("{url} is {}, {}\n{}", text(told, "status"), text(told, "node"), columns(&rows))
}
