//! Webhooks of others that are declared in a file.

use std::path::PathBuf;

use super::HANDLERS;
use super::error::{Fault, Origin, Place};
use super::yaml::{Node, Tree};

/// What a webhook can say.
const MEMBERS: [&str; 6] = ["name", "secret_file", "event_type", "signature_header", "type_header", "id_header"];

/// A webhook that is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    /// The last part of its path.
    pub name: String,
    /// A file with what its sender signs with, a secret a line: more than one while one takes the place of another.
    pub secret_file: PathBuf,
    /// The type of its events, unless it is `external.webhook.` and the name.
    pub event_type: Option<String>,
    /// The header that has the signature, unless it is `x-hub-signature-256`.
    pub signature_header: Option<String>,
    /// The header whose value goes on with the type.
    pub type_header: Option<String>,
    /// The header that names a delivery.
    pub id_header: Option<String>,
}

impl WebhookConfig {
    /// What is said where another service has this name already.
    pub(super) fn name_is_taken(&self, others: &[Self]) -> Option<String> {
        let name = &self.name;
        if HANDLERS.contains(&name.as_str()) || name == "alerts" || name.starts_with("watch-") {
            return Some(format!("the node has a service of its own that is called {name}; choose another name"));
        }
        let is_there = others.iter().any(|other| other.name == *name);
        is_there.then(|| format!("there is a webhook {name} above; names are given once"))
    }

    pub(super) fn read(file: &str, node: &Node) -> Result<Self, Vec<Fault>> {
        let fault = |place: Place, said: String| Fault::new(Origin::File { path: file.to_owned(), place }, said);
        let Tree::Map(members) = &node.tree else {
            let said = "a webhook is a map of name, secret_file and more".to_owned();
            return Err(vec![fault(node.place, said)]);
        };
        let mut faults = Vec::new();
        for (key, node) in members {
            match (&node.tree, MEMBERS.contains(&key.as_str())) {
                (Tree::Text(_), true) => {}
                (_, true) => faults.push(fault(node.place, format!("{key} is one value"))),
                (_, false) => {
                    faults.push(fault(node.place, format!("a webhook has {}, and no {key}", MEMBERS.join(", "))));
                }
            }
        }
        let text = |name: &str| {
            let member = members.iter().find(|(key, _)| key == name)?;
            match &member.1.tree {
                Tree::Text(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            }
        };
        // Headers are found by their names in lower case.
        let header = |name: &str| text(name).map(|header| header.to_ascii_lowercase());
        for missing in ["name", "secret_file"].into_iter().filter(|name| text(name).is_none()) {
            faults.push(fault(node.place, format!("this webhook has no {missing}")));
        }
        match (text("name"), text("secret_file")) {
            (Some(name), Some(secret_file)) if faults.is_empty() => Ok(Self {
                name,
                secret_file: secret_file.into(),
                event_type: text("event_type"),
                signature_header: header("signature_header"),
                type_header: header("type_header"),
                id_header: header("id_header"),
            }),
            _ => Err(faults),
        }
    }
}
