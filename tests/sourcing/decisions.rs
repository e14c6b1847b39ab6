//! What aggregates decide, without a store.

use ringmain::sourcing::{CreateError, Root};
use ringmain::testing::Given;

use super::context::{
    Context, ContextCommand, ContextCreated, ContextEvent, ContextRefusal, ContextUpdated, create, rename,
};

fn created() -> ContextEvent {
    ContextEvent::Created(ContextCreated {
        name: "plans".into(),
        description: "what it is about".into(),
        agent_id: "agent-7".into(),
        unix_ns: 1,
    })
}

fn renamed(name: &str, unix_ns: u64) -> ContextEvent {
    ContextEvent::Updated(ContextUpdated { name: Some(name.into()), description: None, unix_ns })
}

#[test]
fn a_context_is_created_active_and_then_updated() {
    Given::<Context>::nothing().when(&create("plans")).then(&[created()]).then_state(|context| {
        assert_eq!((&*context.state, &*context.agent_id, context.created_at), ("active", "agent-7", 1));
    });
    Given::<Context>::events([created()]).when(&rename("dreams", 5)).then(&[renamed("dreams", 5)]).then_state(
        |context| {
            assert_eq!((&*context.name, &*context.description), ("dreams", "what it is about"));
            assert_eq!((context.created_at, context.updated_at), (1, 5));
        },
    );
    let nothing = ContextCommand::Update { name: None, description: None, unix_ns: 5 };
    Given::<Context>::events([created(), renamed("dreams", 5)]).when(&nothing).then(&[]);
}

#[test]
fn a_refused_command_leaves_no_trace() {
    let refused = Given::<Context>::nothing().when(&rename("dreams", 5)).then_refused(ContextRefusal::NoSuchContext);
    refused.then_state(|context| assert_eq!(*context, Context::default()));
    Given::<Context>::nothing().when(&create("")).then_refused(ContextRefusal::NameIsEmpty);
}

#[test]
#[should_panic(expected = "other events follow")]
fn the_harness_finds_an_event_that_was_not_expected() {
    Given::<Context>::nothing().when(&create("plans")).then(&[renamed("plans", 1)]);
}

#[test]
#[should_panic(expected = "the command was not refused")]
fn the_harness_finds_a_command_that_was_not_refused() {
    Given::<Context>::nothing().when(&create("plans")).then_refused(ContextRefusal::NameIsEmpty);
}

#[test]
#[should_panic(expected = "the command was refused: NameIsEmpty")]
fn the_harness_finds_a_command_that_was_refused() {
    Given::<Context>::nothing().when(&create("")).then(&[]);
}

#[test]
fn what_exists_cannot_be_created() {
    let mut root = Root::<Context>::new("7");
    assert_eq!(root.create(&create("")), Err(CreateError::Refused(ContextRefusal::NameIsEmpty)));
    assert_eq!(root.create(&create("plans")), Ok(()));
    assert_eq!((root.version(), root.saved_version(), root.uncommitted()), (1, 0, &[created()][..]));
    let refused = root.create(&create("plans")).unwrap_err();
    assert_eq!(refused, CreateError::AlreadyExists { kind: "context", id: "7".into(), version: 1 });
    assert_eq!(refused.to_string(), "context \"7\" exists already, at version 1; take another id");
    assert_eq!(root.version(), 1);
}
