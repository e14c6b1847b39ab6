//! What may move to another thread, and what may be shared with one: said for every public handle, and for payloads that
//! may do neither.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::MutexGuard;

use ringmain::{
    Answer, Batch, BreakerPolicy, BreakerState, Bus, BusBuilder, Context, DeadLetters, Delivery, EventId, EventRouter,
    Filter, FlushError, Frame, FrameRef, Iter, Ledger, Loan, Mailbox, Meta, Outgoing, OutgoingFrame, OverLimit,
    Pattern, Payload, PublishError, Publisher, Rate, RateError, RateLimit, RateLimitError, RateLimitStatus, Redrive,
    RedriveReport, Requester, RuleSet, Rules, RulesError, Service, ServiceBuilder, ServiceError, ServiceRecord,
    ShutdownReport, Subscribe, Subscription, Topic, WhileOpen,
};

/// Whether a type has a trait, as the compiler sees it: an inherent constant goes before one of a trait.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        #[allow(dead_code, reason = "unused where the type has the trait")]
        trait Hasnt {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Hasnt for T {}
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "unused where the type lacks the trait")]
        impl<T: ?Sized + $trait> Asked<T> {
            const HAS: bool = true;
        }
        <Asked<$type>>::HAS
    }};
}

macro_rules! send_and_sync {
    ($type:ty) => {
        (has!($type: Send), has!($type: Sync))
    };
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Plain {
    id: u64,
}

#[test]
fn the_question_has_both_answers() {
    assert_eq!(send_and_sync!(u64), (true, true));
    assert_eq!(send_and_sync!(Cell<u64>), (true, false));
    assert_eq!(send_and_sync!(MutexGuard<'static, u64>), (false, true));
    assert_eq!(send_and_sync!(Rc<u64>), (false, false));
}

#[test]
fn a_bus_and_what_tells_of_it_are_shared_freely() {
    assert_eq!(send_and_sync!(Bus), (true, true));
    assert_eq!(send_and_sync!(BusBuilder), (true, true));
    assert_eq!(send_and_sync!(Subscription), (true, true));
    assert_eq!(send_and_sync!(Requester<Plain, Plain>), (true, true));
    assert_eq!(send_and_sync!(Filter), (true, true));
    assert_eq!(send_and_sync!(Pattern), (true, true));
    assert_eq!(send_and_sync!(EventId), (true, true));
    assert_eq!(send_and_sync!(Ledger), (true, true));
    assert_eq!(send_and_sync!(ShutdownReport), (true, true));
    assert_eq!(send_and_sync!((BreakerPolicy, BreakerState, WhileOpen, Rate, OverLimit)), (true, true));
    assert_eq!(send_and_sync!((RateLimit, RateLimitStatus, RateLimitError)), (true, true));
    assert_eq!(send_and_sync!((Service, ServiceRecord, ServiceError)), (true, true));
    assert_eq!(send_and_sync!((Rules, RuleSet, RulesError)), (true, true));
    assert_eq!(send_and_sync!(ServiceBuilder), (true, false));
    assert_eq!(send_and_sync!((DeadLetters, Redrive, RedriveReport)), (true, true));
    assert_eq!(send_and_sync!(dyn EventRouter), (true, true));
    assert_eq!(send_and_sync!((PublishError, FlushError, RateError, ringmain::Error)), (true, true));
}

#[test]
fn a_publisher_and_what_it_lends_move_between_threads() {
    assert!(has!(Publisher: Send) && has!(Outgoing<'static>: Send));
    assert!(has!(OutgoingFrame<'static, 'static>: Send));
    assert!(has!(Batch<'static>: Send) && has!(Loan<'static>: Send));
    assert!(!has!(Publisher: Clone) && !has!(Outgoing<'static>: Clone));
    assert!(!has!(Batch<'static>: Clone) && !has!(Loan<'static>: Clone));
}

#[test]
fn a_mailbox_and_its_deliveries_move_between_threads_whatever_they_carry() {
    assert!(has!(Mailbox<Pattern>: Send) && has!(Mailbox<Topic<Plain>>: Send) && has!(Iter<'static, Pattern>: Send));
    assert!(has!(Answer<Plain>: Send) && has!(Delivery<Pattern>: Send) && has!(Delivery<Topic<Plain>>: Send));
    assert!(has!(Subscribe<Pattern>: Send) && has!(Subscribe<Topic<Plain>>: Send));
    assert!(!has!(Mailbox<Pattern>: Clone) && !has!(Delivery<Pattern>: Clone) && !has!(Subscription: Clone));
}

#[test]
fn a_topic_is_a_name_and_moves_although_its_payload_may_not() {
    assert_eq!(send_and_sync!(Topic<Rc<u64>>), (true, true));
    assert_eq!(send_and_sync!(Topic<Cell<u64>>), (true, true));
}

#[test]
fn an_event_is_shared_by_workers_as_what_it_is_archived_to() {
    // Encoded on the publisher's thread, a shared pointer is a value among others; a cell stays one.
    assert!(has!(Plain: ringmain::Event) && has!(Rc<u64>: ringmain::Event));
    assert!(!has!(Cell<u64>: ringmain::Event) && !has!((u64, Cell<u8>): ringmain::Event));
}

#[test]
fn what_a_handler_sees_is_read_only() {
    assert_eq!(send_and_sync!(Payload<'static>), (true, true));
    assert_eq!(send_and_sync!(Meta<'static>), (true, true));
    assert!(has!(Payload<'static>: Copy));
    assert_eq!(send_and_sync!((Frame, FrameRef<'static>)), (true, true));
    assert!(has!(Context<'static>: Sync));
}

#[test]
fn what_a_user_brings_goes_to_any_thread() {
    use ringmain::{EventSerializer, Handler, Notice, ServiceTarget, Subject};
    assert_eq!(send_and_sync!(dyn EventSerializer<Plain>), (true, true));
    assert_eq!(send_and_sync!(dyn Handler<Pattern>), (true, false));
    assert_eq!(send_and_sync!((Notice<'static>, ServiceTarget<'static>)), (true, true));
    assert_eq!(send_and_sync!(ringmain::Aggregate<'static>), (true, true));
    // A name of any length of life, or a topic.
    assert!(has!(&'static str: Subject<Payload<'static>>) && has!(Topic<Plain>: Subject<&'static Plain>));
}

#[cfg(feature = "store")]
#[test]
fn a_store_and_what_it_gives_are_shared_freely() {
    use ringmain::store::{
        AppendError, Appended, Damage, EventStore, Events, Fault, LogStore, LogStoreBuilder, MemoryStore, OpenError,
        OptionOutOfRange, Page, Query, ReadError, Recovered, Snapshot, SnapshotError, StoredEvent, StoredEventRef,
    };
    assert_eq!(send_and_sync!((MemoryStore, LogStore, LogStoreBuilder, Box<dyn EventStore>)), (true, true));
    assert_eq!(send_and_sync!((OpenError, OptionOutOfRange, Recovered, Damage, Fault)), (true, true));
    assert_eq!(send_and_sync!((Query, Page, StoredEvent, Snapshot, Appended)), (true, true));
    assert_eq!(send_and_sync!(StoredEventRef<'static>), (true, true));
    assert_eq!(send_and_sync!((AppendError, ReadError, SnapshotError)), (true, true));
    assert_eq!(send_and_sync!(Events<'static>), (true, true));
    use ringmain::store::{StateChange, StateError, StatePage, StateReadError, StateStore};
    assert_eq!(send_and_sync!((Box<dyn StateStore>, StateChange<'static>, StatePage)), (true, true));
    assert_eq!(send_and_sync!((StateError, StateReadError)), (true, true));
    use ringmain::store::{AuditRecords, AuditedError, Begun, Handling};
    assert!(has!(AuditRecords<'static>: Send) && has!(Handling<'static>: Send) && has!(Begun<'static>: Send));
    assert_eq!(send_and_sync!(AuditedError<u64>), (true, true));
    assert_eq!(send_and_sync!(AuditedError<Cell<u64>>), (true, false));
    assert_eq!(send_and_sync!(AuditedError<MutexGuard<'static, u64>>), (false, true));
    assert_eq!(send_and_sync!(AuditedError<Rc<u64>>), (false, false));
}

#[cfg(feature = "sourcing")]
#[test]
fn what_is_made_of_events_moves_between_threads() {
    use ringmain::sourcing::{Projector, ReadModel, SagaStatus, Sagas, Step};
    assert!(has!(Projector<()>: Send) && has!(Sagas<String>: Send) && has!(Step<String>: Send));
    assert_eq!(send_and_sync!((ReadModel, SagaStatus)), (true, true));
    use ringmain::store::{CausationTree, Upcasters};
    assert_eq!(send_and_sync!((CausationTree, Upcasters)), (true, true));
    use ringmain::sourcing::{Outputs, Processes, Saga, StepRun, View};
    use ringmain::testing::GivenSaga;
    assert!(has!(Processes<()>: Send) && has!(Outputs<'static>: Send) && has!(View<'static>: Send));
    assert_eq!(send_and_sync!((Saga<String>, StepRun<'static>)), (true, true));
    assert!(!has!(GivenSaga<String>: Clone) && !has!(Sagas<String>: Clone) && !has!(Processes<()>: Clone));
}

#[cfg(feature = "sourcing")]
#[test]
fn what_a_user_puts_in_decides_whether_it_moves() {
    use ringmain::sourcing::{CreateError, ExecuteError, Processes, Projector, Saga, Step};
    // They hold the user's own.
    assert!(!has!(Processes<Rc<u64>>: Send) && !has!(Processes<MutexGuard<'static, u64>>: Send));
    assert!(!has!(Projector<Rc<u64>>: Send) && !has!(Projector<MutexGuard<'static, u64>>: Send));
    assert_eq!(send_and_sync!((CreateError<u64>, ExecuteError<u64>)), (true, true));
    assert_eq!(send_and_sync!(CreateError<Cell<u64>>), (true, false));
    assert_eq!(send_and_sync!(ExecuteError<Cell<u64>>), (true, false));
    assert_eq!(send_and_sync!(CreateError<Rc<u64>>), (false, false));
    assert_eq!(send_and_sync!(ExecuteError<Rc<u64>>), (false, false));
    // They are told what to do with data, and hold none.
    assert_eq!(send_and_sync!((Saga<Rc<u64>>, Step<Rc<u64>>)), (true, true));
}

#[cfg(feature = "sourcing")]
#[test]
fn an_aggregate_moves_as_its_state_does_and_its_repository_whatever_that_is() {
    use std::error::Error;
    use std::marker::PhantomData;

    use ringmain::sourcing::{Aggregate, Repository, Root};
    use ringmain::testing::{Given, When};

    struct State<T>(PhantomData<T>);

    impl<T> Default for State<T> {
        fn default() -> Self {
            Self(PhantomData)
        }
    }

    impl<T> Aggregate for State<T> {
        const KIND: &'static str = "state";
        type Command = ();
        type Event = ();
        type Refusal = ();

        fn decide(&self, (): &()) -> Result<Vec<()>, ()> {
            Ok(vec![])
        }

        fn apply(&mut self, (): &()) {}

        fn to_frame((): &(), outgoing: Outgoing<'_>) -> Result<Frame, PublishError> {
            outgoing.to_frame("state", Payload::raw(b""))
        }

        fn of_frame(_: &Frame) -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(())
        }
    }

    assert_eq!(send_and_sync!((Root<State<u64>>, Given<State<u64>>, When<State<u64>>)), (true, true));
    assert_eq!(send_and_sync!(Root<State<Cell<u64>>>), (true, false));
    assert_eq!(send_and_sync!(Root<State<MutexGuard<'static, u64>>>), (false, true));
    assert_eq!(send_and_sync!(Root<State<Rc<u64>>>), (false, false));
    assert!(has!(Repository<State<Rc<u64>>>: Send) && !has!(Repository<State<u64>>: Clone));
}

/// Generics whose refusals name what makes them, or what they are made of.
const REFUSED_AS: [(&str, &str); 6] = [
    ("Subscribe", "bus.subscribe("),
    ("Mailbox", ".mailbox()"),
    ("Iter", ".iter()"),
    // A sealed trait: what it is for is refused by the publisher.
    ("Subject", "publisher.publish("),
    // They are a root and no more.
    ("Given", "Root::<"),
    ("When", "Root::<"),
];

/// Every `pub` generic of `file` with its parameters, up to the tests.
fn generics(text: &str) -> Vec<(String, String)> {
    let text = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let kinds = ["pub struct ", "pub enum ", "pub trait "];
    let named = text.lines().filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
    let split = |rest: &str| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let parameters = rest[name.len()..].strip_prefix('<')?.split('>').next()?.to_owned();
        Some((name, parameters))
    };
    named.filter_map(split).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn every_public_generic_is_asked_here_and_refused_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |file: &str| std::fs::read_to_string(root.join(file)).expect("a file of the repository");
    let homes = ["src/lib.rs", "src/store/mod.rs", "src/sourcing/mod.rs", "src/testing/mod.rs"];
    let exported = |file: &&str| -> String {
        let text = text(file);
        // What is inside is for the repository's own.
        let (before, inside) = text.split_once("pub mod internals {").unwrap_or((&text, ""));
        let after = inside.split_once("\n}").map_or("", |(_, after)| after);
        let lists = before.split("pub use ").skip(1).chain(after.split("pub use ").skip(1));
        lists.map(|list| list.split(';').next().unwrap_or_default().to_owned() + " ").collect()
    };
    let exported: String = homes.iter().map(exported).collect();
    let asked = text("tests/rules/auto_traits.rs");
    let refused = text("tests/rules/refused.md") + &text("tests/rules/refused_sourcing.md");
    let (mut met, mut lacking) = (0, Vec::new());
    for path in crate::functions::files(&root.join("src")) {
        // Private floors; and the command's own, of which nothing is promised to other crates.
        if ["src/ring", "src/sync", "src/node"].iter().any(|folder| path.starts_with(root.join(folder))) {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a file of the repository");
        for (name, parameters) in generics(&source).into_iter().filter(|(name, _)| has_word(&exported, name)) {
            met += 1;
            if !has_word(&asked, &name) {
                lacking.push(format!("{name}<{parameters}>: no auto trait is asked of it"));
            }
            let has_types = parameters.split(", ").any(|one| !one.starts_with('\''));
            let refused_as = REFUSED_AS.iter().find(|(other, _)| *other == name);
            if has_types && !refused_as.map_or_else(|| has_word(&refused, &name), |(_, text)| refused.contains(text)) {
                lacking.push(format!("{name}<{parameters}>: nothing of it is refused"));
            }
        }
    }
    assert!(met > 35, "{met} were found");
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}
