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

#[cfg(feature = "store")]
#[test]
fn a_store_and_what_it_gives_are_shared_freely() {
    use ringmain::store::{
        AppendError, Appended, Damage, EventStore, Events, Fault, LogStore, LogStoreBuilder, MemoryStore, OpenError,
        OptionOutOfRange, Page, Query, ReadError, Recovered, Snapshot, SnapshotError, StoredEvent,
    };
    assert_eq!(send_and_sync!((MemoryStore, LogStore, LogStoreBuilder, Box<dyn EventStore>)), (true, true));
    assert_eq!(send_and_sync!((OpenError, OptionOutOfRange, Recovered, Damage, Fault)), (true, true));
    assert_eq!(send_and_sync!((Query, Page, StoredEvent, Snapshot, Appended)), (true, true));
    assert_eq!(send_and_sync!((AppendError, ReadError, SnapshotError)), (true, true));
    assert_eq!(send_and_sync!(Events<'static>), (true, true));
    use ringmain::store::{StateChange, StateError, StatePage, StateReadError, StateStore};
    assert_eq!(send_and_sync!((Box<dyn StateStore>, StateChange<'static>, StatePage)), (true, true));
    assert_eq!(send_and_sync!((StateError, StateReadError)), (true, true));
}

#[cfg(feature = "sourcing")]
#[test]
fn what_is_made_of_events_moves_between_threads() {
    use ringmain::sourcing::{Projector, ReadModel, SagaStatus, Sagas, Step};
    assert!(has!(Projector<()>: Send) && has!(Sagas<String>: Send) && has!(Step<String>: Send));
    assert_eq!(send_and_sync!((ReadModel, SagaStatus)), (true, true));
    use ringmain::store::{CausationTree, Upcasters};
    assert_eq!(send_and_sync!((CausationTree, Upcasters)), (true, true));
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
