//! The example of the source system: a task is created, an agent assigned, the task completed; or it fails, and what was done
//! is undone.

use std::sync::Arc;

use ringmain::sourcing::{Executed, Heard, Persist, Saga, SagaPhase, Sagas, Step, Told};

use super::{Cause, World};
use crate::support::{Ground, Writer, on_every_store};

#[derive(Debug, Default, PartialEq)]
struct Task {
    kind: String,
    agent: Option<String>,
    result: Option<String>,
}

impl Persist for Task {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok([self.kind.clone(), text(&self.agent), text(&self.result)].join("\n").into_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        let mut lines = std::str::from_utf8(bytes)?.split('\n').map(str::to_owned);
        let mut next = || lines.next().ok_or("too few lines");
        let (kind, agent, result) = (next()?, next()?, next()?);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self { kind, agent: some(agent), result: some(result) })
    }
}

fn task_processing(world: &Arc<World>) -> Saga<Task> {
    let (asking, releasing, working) = (Arc::clone(world), Arc::clone(world), Arc::clone(world));
    let text = |event: &ringmain::Frame| event.payload().text().map(str::to_owned);
    let assign = Step::new("assign", move |_: &mut Task, run| {
        asking.act(run.key());
        Ok(Executed::Waiting)
    });
    let assign = assign.hear(move |task, event, _| match event.meta().topic() {
        "agent.assigned" => {
            task.agent = text(event);
            Ok(Heard::Done)
        }
        "task.failed" => Ok(Heard::Failed(text(event).unwrap_or_default())),
        _ => Ok(Heard::NotMine),
    });
    let assign = assign.compensate(move |task, run| {
        releasing.act(run.key());
        task.agent = None;
        Ok(())
    });
    let work = Step::new("work", move |_: &mut Task, run| {
        working.act(run.key());
        Ok(Executed::Waiting)
    });
    let work = work.hear(move |task, event, _| match event.meta().topic() {
        "task.completed" => {
            task.result = text(event);
            Ok(Heard::Done)
        }
        "task.failed" => Ok(Heard::Failed(text(event).unwrap_or_default())),
        _ => Ok(Heard::NotMine),
    });
    Saga::new("task-processing", 1).step(assign).step(work)
}

/// What happens to a task, an event after the other, each brought twice by another process.
fn follow(ground: &Ground, events: &[(&str, &str)]) -> (Sagas<Task>, Arc<World>) {
    let (world, state, mut writer) = (Arc::default(), ground.store(), Writer::new(ground));
    let open = || Sagas::open(task_processing(&world), Arc::clone(&state) as _).unwrap();
    for (topic, text) in events {
        let event = writer.append(topic, text);
        for told in [Told::Taken, Told::Repeated] {
            let mut sagas = open();
            match (event.meta().topic(), told) {
                ("task.created", Told::Taken) => {
                    sagas.start("7", Task { kind: text.to_string(), ..Task::default() }).unwrap();
                }
                ("task.created", _) => assert!(sagas.start("7", Task::default()).is_err()),
                _ => assert_eq!(sagas.tell("7", &event).unwrap(), told),
            }
        }
    }
    (open(), world)
}

on_every_store! {
    a_task_is_created_assigned_and_completed,
    a_task_that_fails_gives_its_agent_back,
}

fn a_task_is_created_assigned_and_completed(ground: &Ground) {
    let (sagas, world) =
        follow(ground, &[("task.created", "code"), ("agent.assigned", "ada"), ("task.completed", "42")]);
    let (status, task) = sagas.get("7").unwrap().unwrap();
    assert_eq!(status.phase, SagaPhase::Completed);
    assert_eq!(task, Task { kind: "code".into(), agent: Some("ada".into()), result: Some("42".into()) });
    assert_eq!(world.effects(), ["task-processing/7/assign/execute", "task-processing/7/work/execute"]);
}

fn a_task_that_fails_gives_its_agent_back(ground: &Ground) {
    let (sagas, world) =
        follow(ground, &[("task.created", "code"), ("agent.assigned", "ada"), ("task.failed", "too hard")]);
    let (status, task) = sagas.get("7").unwrap().unwrap();
    assert_eq!((status.phase, status.reason.as_deref()), (SagaPhase::Compensated, Some("too hard")));
    assert_eq!(task, Task { kind: "code".into(), agent: None, result: None });
    assert_eq!(world.effects().last().unwrap(), "task-processing/7/assign/compensate");
}
