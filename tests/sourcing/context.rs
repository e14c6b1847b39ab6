//! The example of the source system: a context that is created and updated.

use std::error::Error;

use ringmain::sourcing::Aggregate;
use ringmain::store::Snapshot;
use ringmain::{Frame, Outgoing, Payload, PublishError, Topic};
use rkyv::rancor;

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct ContextCreated {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) agent_id: String,
    pub(crate) unix_ns: u64,
}

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct ContextUpdated {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) unix_ns: u64,
}

pub(crate) const CREATED: Topic<ContextCreated> = Topic::new("context.created");
pub(crate) const UPDATED: Topic<ContextUpdated> = Topic::new("context.updated");

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ContextEvent {
    Created(ContextCreated),
    Updated(ContextUpdated),
}

#[derive(Debug, Clone)]
pub(crate) enum ContextCommand {
    Create { name: String, description: String, agent_id: String, unix_ns: u64 },
    Update { name: Option<String>, description: Option<String>, unix_ns: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextRefusal {
    NoSuchContext,
    NameIsEmpty,
}

impl std::fmt::Display for ContextRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchContext => "there is no such context; create it",
            Self::NameIsEmpty => "a context has a name",
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) agent_id: String,
    /// Empty before it is created, then `active`.
    pub(crate) state: String,
    pub(crate) created_at: u64,
    pub(crate) updated_at: u64,
}

impl Aggregate for Context {
    const KIND: &'static str = "context";
    type Command = ContextCommand;
    type Event = ContextEvent;
    type Refusal = ContextRefusal;

    fn decide(&self, command: &ContextCommand) -> Result<Vec<ContextEvent>, ContextRefusal> {
        match command.clone() {
            ContextCommand::Create { name, .. } if name.is_empty() => Err(ContextRefusal::NameIsEmpty),
            ContextCommand::Create { name, description, agent_id, unix_ns } => {
                Ok(vec![ContextEvent::Created(ContextCreated { name, description, agent_id, unix_ns })])
            }
            ContextCommand::Update { .. } if self.state != "active" => Err(ContextRefusal::NoSuchContext),
            ContextCommand::Update { name: None, description: None, .. } => Ok(Vec::new()),
            ContextCommand::Update { name, description, unix_ns } => {
                Ok(vec![ContextEvent::Updated(ContextUpdated { name, description, unix_ns })])
            }
        }
    }

    fn apply(&mut self, event: &ContextEvent) {
        match event.clone() {
            ContextEvent::Created(ContextCreated { name, description, agent_id, unix_ns }) => {
                let state = "active".to_owned();
                *self = Self { name, description, agent_id, state, created_at: unix_ns, updated_at: 0 };
            }
            ContextEvent::Updated(ContextUpdated { name, description, unix_ns }) => {
                self.name = name.unwrap_or_else(|| self.name.clone());
                self.description = description.unwrap_or_else(|| self.description.clone());
                self.updated_at = unix_ns;
            }
        }
    }

    fn to_frame(event: &ContextEvent, outgoing: Outgoing<'_>) -> Result<Frame, PublishError> {
        match event {
            ContextEvent::Created(event) => outgoing.to_frame(CREATED, event),
            ContextEvent::Updated(event) => outgoing.to_frame(UPDATED, event),
        }
    }

    fn of_frame(frame: &Frame) -> Result<ContextEvent, Box<dyn Error + Send + Sync>> {
        let meta = frame.meta();
        match meta.topic() {
            "context.created" => {
                let event = frame.event::<ContextCreated>()?;
                Ok(ContextEvent::Created(rkyv::deserialize::<ContextCreated, rancor::Error>(event)?))
            }
            "context.updated" => {
                let event = frame.event::<ContextUpdated>()?;
                Ok(ContextEvent::Updated(rkyv::deserialize::<ContextUpdated, rancor::Error>(event)?))
            }
            other => Err(format!("{other} is no event of a context").into()),
        }
    }

    fn snapshot(&self, id: &str, version: u64) -> Option<Snapshot> {
        let state = rkyv::to_bytes::<rancor::Error>(self).ok()?;
        Some(Snapshot::new(Self::KIND, id, version, Payload::rkyv(&state)))
    }

    fn restore(snapshot: &Snapshot) -> Option<Self> {
        if snapshot.schema_version() != 1 {
            return None;
        }
        let state = snapshot.state().archived::<Self>().ok()?;
        rkyv::deserialize::<Self, rancor::Error>(state).ok()
    }
}

pub(crate) fn create(name: &str) -> ContextCommand {
    let (description, agent_id) = ("what it is about".to_owned(), "agent-7".to_owned());
    ContextCommand::Create { name: name.to_owned(), description, agent_id, unix_ns: 1 }
}

pub(crate) fn rename(name: &str, unix_ns: u64) -> ContextCommand {
    ContextCommand::Update { name: Some(name.to_owned()), description: None, unix_ns }
}
