//! What becomes of a node and its parts, as events on its bus.

use serde_json::{Value, json};

use super::super::config::{Change, ConfigError};
use super::super::services::ServiceChange;
use super::super::store::found::Found;
use super::NodeState;
use crate::{Bus, Payload, Priority, Publisher};

/// Publishes changes. What is refused counts as any publisher's, and there is nobody else to tell.
pub(super) struct Announcer(Publisher);

impl Announcer {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self(publisher)
    }

    fn publish(&mut self, topic: &'static str, name: &str, state: &str, data: &Value) {
        let event = self.0.event().priority(Priority::High).metadata("state", state);
        let event = if name.is_empty() { event } else { event.metadata("name", name) };
        let _ = event.try_publish(topic, Payload::json(&data.to_string()));
    }

    pub(super) fn service(&mut self, change: &ServiceChange) {
        match change {
            ServiceChange::State { name, from, to, reason } => {
                let data = json!({"name": name, "from": from.to_string(), "to": to.to_string(), "reason": reason});
                self.publish("ringmain.service", name, &to.to_string(), &data);
            }
            ServiceChange::Health { name, from, to } => {
                let data = json!({"name": name, "from": from.word(), "to": to.word(), "reason": to.reason()});
                self.publish("ringmain.service.health", name, to.word(), &data);
            }
            ServiceChange::Unregistered { name } => {
                self.publish("ringmain.service", name, "unregistered", &json!({"name": name, "to": "unregistered"}));
            }
        }
    }
}

/// Publishes one change, by a publisher that is had for it.
fn once(bus: &Bus, topic: &'static str, state: &str, data: &Value) {
    // Where there is no publisher any more there is nobody to hear of it.
    if let Ok(publisher) = bus.publisher() {
        Announcer::new(publisher).publish(topic, "", state, data);
    }
}

pub(super) fn node(bus: &Bus, state: NodeState) {
    once(bus, "ringmain.node", &state.to_string(), &json!({"state": state.to_string()}));
}

/// What was found of the store when it was opened.
pub(super) fn store(bus: &Bus, found: &Found) {
    once(bus, "ringmain.store", found.state(), &found.figures);
}

/// Of a service of another process.
pub(super) fn instance(bus: &Bus, name: &str, address: &str, state: &str) {
    once(bus, "ringmain.service.instance", state, &json!({"name": name, "address": address, "to": state}));
}

pub(super) fn configured(bus: &Bus, changes: &[Change]) {
    let changes: Vec<_> =
        changes.iter().map(|change| json!({"setting": change.path, "from": change.from, "to": change.to})).collect();
    once(bus, "ringmain.config", "changed", &json!({"changes": changes}));
}

pub(super) fn refused(bus: &Bus, error: &ConfigError) {
    let faults: Vec<_> = error.faults().iter().map(ToString::to_string).collect();
    once(bus, "ringmain.config", "refused", &json!({"faults": faults}));
}
