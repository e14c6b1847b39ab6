//! `ringmain rules`: which services get which events of a running node, why, and what other rules would change.

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::progress::Progress;
use super::super::store::Failure;
use super::connect::{Connection, Remote};
use super::shown::{columns, printable};
use super::{array, joined, read, text, write};
use crate::Pattern;

/// Exit code for what was given and is no JSON.
const WRONG: u8 = 2;

/// The commands of `ringmain rules`.
#[derive(Debug, Clone, Subcommand)]
pub enum Rules {
    /// Write a line a rule, in the order of their evaluation
    #[command(after_long_help = LIST_HELP, after_help = "`ringmain rules list --help` has examples.")]
    List(List),
    /// Say for each rule and each subscription whether an event would go there, and why; nothing is published
    #[command(after_long_help = EXPLAIN_HELP, after_help = "`ringmain rules explain --help` has examples.")]
    Explain(Explain),
    /// Say which events would go to other services by other rules; nothing is changed
    #[command(after_long_help = DIFF_HELP, after_help = "`ringmain rules diff --help` has examples.")]
    Diff(Diff),
}

/// Which node, and how it is told.
#[derive(Debug, Clone, Args)]
pub struct Asked {
    /// Write what the node says as JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// The flags of `ringmain rules list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Which node.
    #[command(flatten)]
    pub asked: Asked,
}

/// The flags of `ringmain rules explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// A CloudEvent, or {"type": .., "data": ..}; `-` reads it from stdin
    #[arg(value_name = "EVENT")]
    pub event: String,

    /// Which node.
    #[command(flatten)]
    pub asked: Asked,
}

/// The flags of `ringmain rules diff`.
#[derive(Debug, Clone, Args)]
pub struct Diff {
    /// A file of JSON with the other rules, {"rules": [..]} as `rules list --json` writes it; `-` reads stdin
    #[arg(value_name = "FILE")]
    pub file: String,

    /// Try them with the newest events whose type matches PATTERN [default: all types]
    #[arg(long = "type", value_name = "PATTERN", value_parser = Pattern::new)]
    pub pattern: Option<Pattern>,

    /// Try them with so many of the newest events, at most `http.page_max`
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,

    /// Which node.
    #[command(flatten)]
    pub asked: Asked,
}

/// Shown by `ringmain rules list --help`.
pub(in super::super) const LIST_HELP: &str = r#"Examples:
    ringmain rules list

  To a file, to be changed and tried by `ringmain rules diff`:
    ringmain rules list --json > rules.json

Lines:
  Its id, `off` where it is not enabled, its priority, the types that it filters by, and the services that it sends to.

Exit codes:
  0  they were written; or nobody reads stdout any more
  1  no node is there, or it refuses
  2  wrong flags"#;

/// Shown by `ringmain rules explain --help`.
pub(in super::super) const EXPLAIN_HELP: &str = r#"Examples:
    ringmain rules explain '{"type": "orders.placed", "data": {"total": 1200}}'

  An event of a file:
    head -n 1 events.ndjson | ringmain rules explain - --json

Exit codes:
  0  it was said
  1  the event is malformed, no node is there, or it refuses
  2  wrong flags, or EVENT is no JSON"#;

/// Shown by `ringmain rules diff --help`.
pub(in super::super) const DIFF_HELP: &str = r#"Examples:
  What changed rules would do to the newest 100 events:
    ringmain rules list --json > rules.json
    ringmain rules diff rules.json

  To the newest 1,000 orders:
    ringmain rules diff rules.json --type 'orders.**' --limit 1000

Lines:
  For each event that would go elsewhere its id and its type, and the services before and after.

Exit codes:
  0  it was compared, whether anything would change or not
  1  a rule is malformed, FILE cannot be read, no node is there, or it refuses
  2  wrong flags, or FILE has no JSON"#;

pub(super) fn rules(command: &Rules) -> Result<u8, Failure> {
    match command {
        Rules::List(flags) => list(flags),
        Rules::Explain(flags) => explain(flags),
        Rules::Diff(flags) => diff(flags),
    }
}

fn list(flags: &List) -> Result<u8, Failure> {
    let answer = Connection::open(&flags.asked.node)?.get("/v1/rules")?;
    write(&if flags.asked.json { answer.body } else { listed(&answer.json()?) })?;
    Ok(0)
}

fn listed(told: &Value) -> String {
    let row = |rule: &Value| {
        let on = if rule["enabled"] == json!(true) { "on" } else { "off" };
        let types = match joined(&rule["filter"]["event_types"]) {
            none if none.is_empty() => "every type".to_owned(),
            types => types,
        };
        let targets = format!("-> {}", joined(&rule["targets"]));
        [text(rule, "id").to_owned(), on.to_owned(), rule["priority"].to_string(), types, targets]
    };
    let rows: Vec<_> = array(told, "rules").iter().map(row).collect();
    if rows.is_empty() {
        "there are no rules: every subscription gets what its pattern matches\n".to_owned()
    } else {
        columns(&rows)
    }
}

/// Says that something is no JSON.
fn wrong(what: &str, error: &serde_json::Error) -> u8 {
    Progress::silent().say(&format!("ringmain: {what} is no JSON: {error}\n"));
    WRONG
}

fn explain(flags: &Explain) -> Result<u8, Failure> {
    let event = if flags.event == "-" { read("-")? } else { flags.event.clone() };
    // As it stands: its data keep their last digit.
    if let Err(error) = serde_json::from_str::<&RawValue>(&event) {
        return Ok(wrong("EVENT", &error));
    }
    let node = Connection::open(&flags.asked.node)?;
    let answer = node.done(node.ask("POST", "/v1/rules/explain", Some(&event))?)?;
    write(&if flags.asked.json { answer.body } else { explained(&answer.json()?) })?;
    Ok(0)
}

fn explained(told: &Value) -> String {
    let row = |verdict: &Value| {
        let matches = if verdict["matches"] == json!(true) { "matches" } else { "-" };
        ["rule", text(verdict, "rule"), matches, text(verdict, "reason")].map(str::to_owned)
    };
    let rows: Vec<_> = array(told, "rules").iter().map(row).collect();
    let mut said = columns(&rows);
    for subscription in array(told, "subscriptions") {
        said += &format!("{}\n", printable(text(subscription, "says")));
    }
    if said.is_empty() { "there are no rules and no subscriptions\n".to_owned() } else { said }
}

fn diff(flags: &Diff) -> Result<u8, Failure> {
    let file = read(&flags.file)?;
    let rules: Value = match serde_json::from_str(&file) {
        Ok(rules) => rules,
        Err(error) => return Ok(wrong(&flags.file, &error)),
    };
    // An array of them is as good as the object around it.
    let mut asked = match rules {
        Value::Object(members) => members,
        rules => Map::from_iter([("rules".to_owned(), rules)]),
    };
    asked.insert("limit".to_owned(), flags.limit.into());
    if let Some(pattern) = &flags.pattern {
        asked.insert("type".to_owned(), pattern.as_str().into());
    }
    let answer = Connection::open(&flags.asked.node)?.does("POST", "/v1/rules/diff", &asked.into())?;
    write(&if flags.asked.json { answer.body } else { compared(&answer.json()?) })?;
    Ok(0)
}

fn compared(told: &Value) -> String {
    let targets = |targets: &Value| match joined(targets) {
        nobody if nobody.is_empty() => "nobody".to_owned(),
        targets => targets,
    };
    let row = |change: &Value| {
        let goes = format!("{} -> {}", targets(&change["before"]), targets(&change["after"]));
        [text(change, "event").to_owned(), text(change, "type").to_owned(), goes]
    };
    let rows: Vec<_> = array(told, "changes").iter().map(row).collect();
    format!("{}{} of {} events would go elsewhere\n", columns(&rows), rows.len(), told["samples"])
}
