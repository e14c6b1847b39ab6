//! Tests of sagas, without a store of their own and without waiting: given a definition, when this happens, then it stands so.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bus::{Bus, Publisher};
use crate::event::Payload;
use crate::sourcing::{Persist, Saga, SagaPhase, SagaStatus, Sagas, Told};
use crate::store::{MemoryStore, StateStore};

use super::Simulation;

const ID: &str = "under-test";

/// A saga under test: it has begun with some data. It keeps its state in memory and goes by a clock that stands still until
/// it is moved.
///
/// ```
/// use std::error::Error;
/// use std::time::Duration;
/// use ringmain::sourcing::{Executed, Heard, Persist, Saga, SagaPhase, Step};
/// use ringmain::testing::GivenSaga;
/// use ringmain::Payload;
///
/// #[derive(Default)]
/// struct Order { paid: bool }
/// # impl Persist for Order {
/// #     fn to_bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> { Ok(vec![self.paid.into()]) }
/// #     fn of_bytes(bytes: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> { Ok(Self { paid: bytes == [1] }) }
/// # }
///
/// fn ordering() -> Saga<Order> {
///     let pay = Step::new("pay", |_: &mut Order, _| Ok(Executed::Waiting))
///         .hear(|order, event, _| match event.meta().topic() {
///             "order.paid" => { order.paid = true; Ok(Heard::Done) }
///             _ => Ok(Heard::NotMine),
///         })
///         .compensate(|order, _| { order.paid = false; Ok(()) })
///         .timeout(Duration::from_secs(60));
///     Saga::new("ordering", 1).step(pay)
/// }
///
/// GivenSaga::begun(ordering(), Order::default())
///     .when_told("order.paid", Payload::json("{}"))
///     .then(SagaPhase::Completed)
///     .then_data(|order| assert!(order.paid));
/// GivenSaga::begun(ordering(), Order::default())
///     .then_at("pay")
///     .when_passed(Duration::from_secs(60))
///     .then_failed("it was not done in time")
///     .then(SagaPhase::Compensated);
/// ```
pub struct GivenSaga<D> {
    sagas: Sagas<D>,
    state: Arc<MemoryStore>,
    now: Arc<Mutex<SystemTime>>,
    publisher: Publisher,
    _bus: Simulation,
}

impl<D: Persist> GivenSaga<D> {
    /// It has begun, and run until it waits or ends.
    ///
    /// # Panics
    /// When the definition is not sound, or the data cannot be kept.
    #[track_caller]
    pub fn begun(definition: Saga<D>, data: D) -> Self {
        let bus = Simulation::new(Bus::builder().workers(1).max_queue_size(16), 1).expect("the settings are sound");
        let publisher = bus.bus().publisher().expect("it is the first");
        let state = Arc::new(MemoryStore::new());
        // 2026-01-01T00:00:00Z, as the clock of a simulation.
        let now = Arc::new(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_767_225_600)));
        let sagas = open(definition, &state, &now);
        let mut given = Self { sagas, state, now, publisher, _bus: bus };
        given.sagas.start(ID, data).unwrap_or_else(|error| panic!("the saga did not begin: {error}"));
        given
    }

    /// It is told an event.
    ///
    /// # Panics
    /// When it did not wait for it.
    #[track_caller]
    pub fn when_told(mut self, topic: &str, payload: Payload<'_>) -> Self {
        let event = self.publisher.event().to_frame(topic, payload);
        let event = event.unwrap_or_else(|error| panic!("there is no such event: {error}"));
        let told = self.sagas.tell(ID, &event).unwrap_or_else(|error| panic!("the saga did not go on: {error}"));
        assert_eq!(told, Told::Taken, "{topic} was told, and the saga stands so: {:?}", self.status());
        self
    }

    /// Time has passed: delays and timeouts that are due happen, one after the other.
    ///
    /// # Panics
    /// When it cannot go on.
    #[track_caller]
    pub fn when_passed(mut self, time: Duration) -> Self {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += time;
        let ran = self.sagas.run_due();
        assert!(ran.failed.is_empty(), "the saga did not go on: {:?}", ran.failed);
        self
    }

    /// The process has died and another goes on, with this definition.
    ///
    /// # Panics
    /// When it cannot go on.
    #[track_caller]
    pub fn when_restarted(self, definition: Saga<D>) -> Self {
        let Self { sagas, state, now, publisher, _bus } = self;
        // The name is that one's until it has ended.
        drop(sagas);
        let sagas = open(definition, &state, &now);
        Self { sagas, state, now, publisher, _bus }.when_passed(Duration::ZERO)
    }

    /// It is in this phase.
    ///
    /// # Panics
    /// When it is in another.
    #[track_caller]
    pub fn then(self, phase: SagaPhase) -> Self {
        let status = self.status();
        assert_eq!(status.phase, phase, "the saga stands so: {status:?}");
        self
    }

    /// It is at this step.
    ///
    /// # Panics
    /// When it is at another, or has ended.
    #[track_caller]
    pub fn then_at(self, step: &str) -> Self {
        let status = self.status();
        assert_eq!(status.step.as_deref(), Some(step), "the saga stands so: {status:?}");
        self
    }

    /// It failed for this reason.
    ///
    /// # Panics
    /// When it did not, or for another.
    #[track_caller]
    pub fn then_failed(self, reason: &str) -> Self {
        let status = self.status();
        assert_eq!(status.reason.as_deref(), Some(reason), "the saga stands so: {status:?}");
        self
    }

    /// Looks at its data.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn then_data(self, look: impl FnOnce(&D)) -> Self {
        look(&self.read().1);
        self
    }

    #[track_caller]
    fn status(&self) -> SagaStatus {
        self.read().0
    }

    #[track_caller]
    fn read(&self) -> (SagaStatus, D) {
        let read = self.sagas.get(ID).unwrap_or_else(|error| panic!("the saga cannot be read: {error}"));
        read.expect("it has begun, and is not forgotten")
    }
}

#[track_caller]
fn open<D: Persist>(definition: Saga<D>, state: &Arc<MemoryStore>, now: &Arc<Mutex<SystemTime>>) -> Sagas<D> {
    let (state, now) = (Arc::clone(state) as Arc<dyn StateStore>, Arc::clone(now));
    let sagas = Sagas::open(definition, state).unwrap_or_else(|error| panic!("the saga is not sound: {error}"));
    sagas.clock(move || *now.lock().unwrap_or_else(PoisonError::into_inner))
}

impl<D> fmt::Debug for GivenSaga<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenSaga").field("sagas", &self.sagas).finish_non_exhaustive()
    }
}
