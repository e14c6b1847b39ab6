//! Events of older schema versions are brought to the current one, step by step; what is unknown is an error.

use std::time::Duration;

use proptest::prelude::*;
use ringmain::store::{UpcastError, UpcasterFault, Upcasters};
use ringmain::{Aggregate, Encoding, EventId, Frame, Payload};

use super::conformance::Writer;

fn of_version(version: u16) -> Frame {
    Writer::new().frame("a", |event| event.schema_version(version))
}

/// Adds its number to the payload.
fn and(frame: &Frame, version: u16) -> Result<Frame, Box<dyn std::error::Error + Send + Sync>> {
    let text = format!("{}{version}", frame.payload().text().ok_or("no text")?);
    Ok(frame.with_payload(version, Payload::plain_text(&text))?)
}

#[test]
fn an_event_goes_through_every_step_from_its_version_on() {
    let upcasters = Upcasters::builder();
    let upcasters = (3..6).rev().fold(upcasters, |all, from| all.step("a", from, move |frame| and(frame, from + 1)));
    let upcasters = upcasters.current("b", 2).build().unwrap();
    assert_eq!((upcasters.current("a"), upcasters.current("b"), upcasters.current("c")), (6, 2, 1));
    for (version, text) in [(3, "{}456"), (5, "{}6"), (6, "{}")] {
        let frame = of_version(version);
        let current = upcasters.frame(&frame).unwrap();
        assert_eq!((current.payload().text(), current.meta().schema_version()), (Some(text), 6));
        assert_eq!(current.meta().id(), frame.meta().id());
    }
    for found in [0, 2, 7] {
        let refused = upcasters.frame(&of_version(found)).unwrap_err();
        let UpcastError::UnknownVersion { first: 3, current: 6, .. } = refused else { panic!("{refused:?}") };
    }
}

#[test]
fn a_topic_that_was_not_mentioned_has_its_first_version_only() {
    let upcasters = Upcasters::builder().build().unwrap();
    let frame = of_version(1);
    assert_eq!(upcasters.frame(&frame).unwrap(), frame);
    let frame = of_version(2);
    let refused = upcasters.frame(&frame).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "a {} has schema version 2, known are 1 to 1; add upcasters, or read it with a newer program",
            frame.meta().id()
        )
    );
}

#[test]
fn a_step_that_fails_or_makes_another_event_is_said() {
    let upcasters = Upcasters::builder().step("a", 1, |_| Err("no idea".into())).build().unwrap();
    let refused = upcasters.frame(&of_version(1)).unwrap_err();
    assert!(matches!(refused, UpcastError::Step { version: 1, .. }) && refused.to_string().ends_with("1: no idea"));

    type Wrong = fn(&Frame) -> Frame;
    let wrong: [Wrong; 3] = [
        Frame::clone,
        |frame| frame.with_payload(3, Payload::raw(&[])).unwrap(),
        |_| of_version(1).with_payload(2, Payload::raw(&[])).unwrap(),
    ];
    // Frames of a writer count their ids from its seed: another one's first event is another event.
    for (nth, wrong) in wrong.into_iter().enumerate() {
        let frame = Writer::new().frame("a", |event| event.id(EventId::random()));
        let upcasters = Upcasters::builder().step("a", 1, move |frame| Ok(wrong(frame))).build().unwrap();
        let refused = upcasters.frame(&frame).unwrap_err();
        assert!(matches!(refused, UpcastError::OtherEvent { version: 1, .. }), "{nth}: {refused:?}");
    }
}

#[test]
fn a_chain_with_a_gap_is_not_built_and_every_fault_is_said() {
    let step = |from: u16| move |frame: &Frame| and(frame, from.saturating_add(1));
    let refused = Upcasters::builder()
        .step("a", 1, step(1))
        .step("a", 4, step(4))
        .step("b", 1, step(1))
        .step("b", 1, step(1))
        .step("c", 1, step(1))
        .current("c", 3)
        .step("d", 5, step(5))
        .current("d", 5)
        .step("e", u16::MAX, step(u16::MAX))
        .build()
        .unwrap_err();
    let topic = |name: &str| name.to_owned();
    assert_eq!(
        refused.faults(),
        [
            UpcasterFault::Twice { topic: topic("b"), version: 1 },
            UpcasterFault::NoNext { topic: topic("e"), version: u16::MAX },
            UpcasterFault::Gap { topic: topic("a"), version: 2 },
            UpcasterFault::Gap { topic: topic("a"), version: 3 },
            UpcasterFault::Gap { topic: topic("c"), version: 2 },
            UpcasterFault::BehindCurrent { topic: topic("d"), version: 5, current: 5 },
        ]
    );
    assert!(refused.to_string().starts_with("upcasters cannot be built: b has two steps from version 1; e has"));
}

proptest! {
    #[test]
    fn a_frame_with_another_payload_is_the_same_event(
        before in proptest::collection::vec(any::<u8>(), 0..70),
        after in proptest::collection::vec(any::<u8>(), 0..70),
        version: u16,
        has_more: bool,
    ) {
        let mut writer = Writer::new();
        let make = |writer: &mut Writer, payload: &[u8], version| {
            writer.frame_of("a", Payload::raw(payload), |event| {
                let event = event.id(EventId::from(7)).created_at_unix_ns(9).schema_version(version);
                if !has_more {
                    return event.expires_after(Duration::ZERO);
                }
                let of = Aggregate { kind: "order", id: "7", version: 3 };
                event.aggregate(of).metadata("user", "ada").target("bank").causation(EventId::from(3))
            })
        };
        let (old, expected) = (make(&mut writer, &before, 1), make(&mut writer, &after, version));
        let new = old.with_payload(version, Payload::raw(&after)).unwrap();
        prop_assert_eq!(Frame::copied_from(new.bytes()).unwrap(), new.clone());
        prop_assert_eq!(new.payload(), Payload::raw(&after));
        if has_more {
            prop_assert_eq!(&new, &expected);
        }
        let json = new.with_payload(1, Payload::json("1")).unwrap();
        prop_assert_eq!(json.payload().encoding(), Encoding::Json);
        let again = json.with_payload(1, Payload::raw(&before)).unwrap();
        prop_assert_eq!(&again, &old);
    }
}
