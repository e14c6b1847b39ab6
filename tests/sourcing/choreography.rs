//! Choreography, by the example of the source system: services react to events, and nobody leads them.

#[path = "../../examples/04_choreography.rs"]
mod example;

#[test]
fn services_react_to_events_and_nobody_leads_them() {
    example::main().expect("each story is told to its end");
}
