//! `ringmain services`: what runs beside the bus of a running node, and its start and stop.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::super::store::Failure;
use super::connect::{Connection, Remote, encoded};
use super::shown::columns;
use super::{array, text, write};

/// The flags of `ringmain services`.
#[derive(Debug, Clone, Args)]
pub struct Services {
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// Write what the node says as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// What is done to a service.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Start one that is stopped or has failed
    Start(Named),
    /// Stop one; what comes for it waits meanwhile
    Stop(Named),
    /// Stop one and start it again
    Restart(Named),
}

/// Which service.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// Its name, as the list has it
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Shown by `ringmain services --help`.
pub(in super::super) const HELP: &str = r#"Examples:
  What there is, its state and its health, and services of other processes with the time that is left of their lease:
    ringmain services

  Those that are not well, for a program:
    ringmain services --json | jq '.services[] | select(.health != "healthy").name'

  One is stopped, and started again:
    ringmain services stop watcher
    ringmain services restart notifier

Exit codes:
  0  they were listed; or it is done, and the service is in the state that is written
  1  there is no such service, it cannot be done in its state, it failed, or no node is there
  2  wrong flags"#;

pub(super) fn services(flags: &Services) -> Result<u8, Failure> {
    let node = Connection::open(&flags.node)?;
    let (named, verb) = match &flags.verb {
        None => {
            let answer = node.get("/v1/services")?;
            write(&if flags.json { answer.body } else { shown(&answer.json()?) })?;
            return Ok(0);
        }
        Some(Verb::Start(named)) => (named, "start"),
        Some(Verb::Stop(named)) => (named, "stop"),
        Some(Verb::Restart(named)) => (named, "restart"),
    };
    let answer = node.does("POST", &format!("/v1/services/{}/{verb}", encoded(&named.name)), &Value::Null)?;
    write(&if flags.json { answer.body } else { columns(&[row(&answer.json()?)]) })?;
    Ok(0)
}

fn shown(told: &Value) -> String {
    let mut rows: Vec<_> = array(told, "services").iter().map(row).collect();
    rows.extend(array(told, "instances").iter().map(|instance| {
        let left = format!("{} s left of its lease", instance["left_s"]);
        [text(instance, "name"), "elsewhere", text(instance, "address"), &left].map(str::to_owned)
    }));
    if rows.is_empty() { "there are no services\n".to_owned() } else { columns(&rows) }
}

fn row(service: &Value) -> [String; 4] {
    let why = [text(service, "failure"), text(service, "reason")].into_iter().find(|why| !why.is_empty());
    [text(service, "name"), text(service, "state"), text(service, "health"), why.unwrap_or_default()].map(str::to_owned)
}
