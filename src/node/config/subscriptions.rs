//! Subscriptions that are declared in a file: which events go to which built-in handlers.

use super::error::{Fault, Origin, Place};
use super::value::{Kind, Value};
use super::yaml::{Node, Tree};
use crate::{DeliveryMode, Pattern};

/// How `delivery` is written.
const MODES: [(&str, DeliveryMode); 3] = [
    ("reliable", DeliveryMode::reliable()),
    ("best-effort", DeliveryMode::BestEffort),
    ("latest-only", DeliveryMode::LatestOnly),
];
/// What `capacity` can be.
const CAPACITY: Kind = Kind::Whole { min: 1, max: 1 << 20 };

/// The built-in services that a declared subscription can name, beside those of the program and the webhooks.
pub const HANDLERS: [&str; 5] =
    ["audit_logger", "metrics_collector", "notifier", "task_processor", "websocket_broadcast"];

/// A subscription that is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionConfig {
    /// Which events.
    pub event_type: Pattern,
    /// The services that get them: of [`HANDLERS`], or of the program.
    pub handlers: Vec<String>,
    /// How hard it is tried, `delivery`. Default reliable.
    pub mode: DeliveryMode,
    /// Events that may wait, `capacity`. Default 1,024.
    pub capacity: usize,
}

impl SubscriptionConfig {
    /// Its mode, as a file says it.
    pub(super) fn delivery(&self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self.mode).map_or("reliable", |(name, _)| name)
    }

    pub(super) fn read(file: &str, node: &Node) -> Result<Self, Vec<Fault>> {
        let at = |place: Place| Origin::File { path: file.to_owned(), place };
        let Tree::Map(members) = &node.tree else {
            let said = "a subscription is a map of event_type, a pattern, and handlers, a list of names";
            return Err(vec![Fault::new(at(node.place), said)]);
        };
        let (mut event_type, mut handlers, mut faults) = (None, Vec::new(), Vec::new());
        let (mut mode, mut capacity) = (DeliveryMode::reliable(), 1_024);
        for (key, node) in members {
            match (key.as_str(), &node.tree) {
                ("event_type", Tree::Text(text)) => match Pattern::new(text) {
                    Ok(pattern) => event_type = Some(pattern),
                    Err(error) => faults.push(Fault::new(at(node.place), error.to_string())),
                },
                ("handlers", Tree::List(names)) => {
                    for name in names {
                        match handler(name) {
                            Ok(name) => handlers.push(name),
                            Err(said) => faults.push(Fault::new(at(name.place), said)),
                        }
                    }
                }
                ("delivery", Tree::Text(word)) => match MODES.iter().find(|(name, _)| name == word) {
                    Some((_, found)) => mode = *found,
                    None => {
                        let said =
                            format!("delivery = {word:?} is not one of {}", MODES.map(|(name, _)| name).join(", "));
                        faults.push(Fault::new(at(node.place), said));
                    }
                },
                ("capacity", Tree::Text(text)) => match CAPACITY.parse(text) {
                    Ok(Value::Whole(events)) => capacity = events as usize,
                    _ => faults.push(Fault::new(at(node.place), format!("capacity = {text:?} is not {CAPACITY}"))),
                },
                ("delivery" | "capacity", _) => faults.push(Fault::new(at(node.place), format!("{key} is one value"))),
                ("event_type", _) => faults.push(Fault::new(at(node.place), "event_type is a pattern, like task.*")),
                ("handlers", _) => faults.push(Fault::new(at(node.place), "handlers is a list of names")),
                (other, _) => {
                    let said =
                        format!("a subscription has event_type, handlers, delivery and capacity, and no {other}");
                    faults.push(Fault::new(at(node.place), said));
                }
            }
        }
        let is_missing = |what: &str| !members.iter().any(|(key, _)| key == what);
        for what in ["event_type", "handlers"].into_iter().filter(|what| is_missing(what)) {
            faults.push(Fault::new(at(node.place), format!("this subscription has no {what}")));
        }
        match event_type {
            Some(event_type) if faults.is_empty() => Ok(Self { event_type, handlers, mode, capacity }),
            _ => Err(faults),
        }
    }
}

/// A service of another name than those here may be one of the program: whether there is one is known when the node starts.
fn handler(node: &Node) -> Result<String, String> {
    let Tree::Text(name) = &node.tree else { return Err("a handler is a name".to_owned()) };
    let unlike = |handler: &&str| strsim::damerau_levenshtein(handler, name);
    match HANDLERS.into_iter().min_by_key(unlike).filter(|near| (1..=1 + name.len() / 4).contains(&unlike(near))) {
        Some(near) => Err(format!("there is no handler {name:?}; did you mean {near}?")),
        None if name.is_empty() => Err(format!("a handler has a name: {}, or that of a service", HANDLERS.join(", "))),
        None => Ok(name.clone()),
    }
}
