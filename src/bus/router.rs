//! The router of events as an interface, for code that is to be generic over who routes.

use std::pin::Pin;

use crate::delivery::{Balance, ServiceHealth};
use crate::error::Error;
use crate::event::{EventId, Payload};
use crate::routing::RoutingRule;

use super::publisher::closed;
use super::{Bus, BusState, Metrics, Outgoing, Service, ShutdownReport};

/// What routes events to subscribers and to services. [`Bus`] is one; each method does what the method of the bus that it names does, and
/// nothing else. The bus itself can do more: take the interface where another router, a test's perhaps, is to stand in for it.
///
/// ```
/// use ringmain::{Balance, Bus, Error, EventRouter, Payload, Priority, RoutingRule};
///
/// /// Knows of no bus.
/// fn sell(router: &dyn EventRouter) -> Result<(), Error> {
///     router.start()?;
///     router.add_routing_rule(RoutingRule::new("orders").types(["orders.*"]).to("billing"))?;
///     router.route_event("orders.placed", Payload::json("{}"), &|event| event)?;
///     router.route_event("refund", Payload::raw(b"7"), &|event| event.priority(Priority::High).target("billing"))?;
///     Ok(())
/// }
///
/// let bus = Bus::builder().build()?;
/// let billing = EventRouter::register_service(&bus, "billing", Balance::LeastConnections)?;
/// let _a = billing.instance("a").handle_on("billing-a", |_, meta| println!("{}", meta.topic()))?;
/// sell(&bus)?;
/// assert_eq!(EventRouter::stop(&bus)?.delivered, 2);
/// # Ok::<(), Error>(())
/// ```
pub trait EventRouter: Send + Sync {
    /// Routes an event to all who subscribed to its topic, and to the services that its targets or the rules name: as
    /// [`Bus::publish`]. `envelope` says what there is to say of it beside its payload; `&|event| event` says nothing.
    ///
    /// # Errors
    /// [`PublishError`](crate::PublishError).
    ///
    /// # Cost
    /// Blocks the calling thread where there is no room and the [`FullPolicy`](crate::FullPolicy) waits: in async code take
    /// [`route_event_async`](Self::route_event_async).
    fn route_event(
        &self,
        topic: &str,
        payload: Payload<'_>,
        envelope: &dyn Fn(Outgoing<'_>) -> Outgoing<'_>,
    ) -> Result<EventId, Error>;

    /// As [`route_event`](Self::route_event), awaiting room; on any async runtime. Dropped before it is ready, it has routed nothing.
    ///
    /// # Errors
    /// [`PublishError`](crate::PublishError).
    ///
    /// # Cost
    /// Boxes its future, and keeps one of the bus's publishers (at most `publishers_max`) until it is ready. Who publishes much has a
    /// [`Publisher`](crate::Publisher) and its [`publish_async`](Outgoing::publish_async).
    fn route_event_async<'a>(
        &'a self,
        topic: &'a str,
        payload: Payload<'a>,
        envelope: &'a (dyn Fn(Outgoing<'_>) -> Outgoing<'_> + Sync),
    ) -> Pin<Box<dyn Future<Output = Result<EventId, Error>> + Send + 'a>>;

    /// Makes a service of this name, whose instances are then made with [`Service::instance`]: as [`Bus::service`].
    ///
    /// # Errors
    /// [`SubscribeError`](crate::SubscribeError).
    fn register_service(&self, name: &str, balance: Balance) -> Result<Service, Error>;

    /// Says how an instance of a service is: as [`Bus::update_service_health`].
    ///
    /// # Errors
    /// [`ServiceError`](crate::ServiceError).
    fn update_service_health(&self, service: &str, instance: &str, health: ServiceHealth) -> Result<(), Error>;

    /// Adds a rule: as [`Rules::add`](crate::Rules::add) of [`Bus::rules`].
    ///
    /// # Errors
    /// [`RulesError`](crate::RulesError).
    fn add_routing_rule(&self, rule: RoutingRule) -> Result<(), Error>;

    /// Everything it knows about itself: as [`Bus::metrics`].
    fn metrics(&self) -> Metrics;

    /// Sees to it that events are routed. A bus routes from its making on, and is not started twice.
    ///
    /// # Errors
    /// [`PublishError::ShuttingDown`](crate::PublishError::ShuttingDown) when it has been stopped, or
    /// [`WorkerFailed`](crate::PublishError::WorkerFailed).
    fn start(&self) -> Result<(), Error>;

    /// Routes what was accepted, and then nothing any more: as [`Bus::shutdown`].
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError).
    fn stop(&self) -> Result<ShutdownReport, Error>;
}

impl EventRouter for Bus {
    fn route_event(
        &self,
        topic: &str,
        payload: Payload<'_>,
        envelope: &dyn Fn(Outgoing<'_>) -> Outgoing<'_>,
    ) -> Result<EventId, Error> {
        let mut lent = self.lend()?;
        Ok(envelope(lent.publisher().event()).publish(topic, payload)?)
    }

    fn route_event_async<'a>(
        &'a self,
        topic: &'a str,
        payload: Payload<'a>,
        envelope: &'a (dyn Fn(Outgoing<'_>) -> Outgoing<'_> + Sync),
    ) -> Pin<Box<dyn Future<Output = Result<EventId, Error>> + Send + 'a>> {
        Box::pin(async move {
            let mut lent = self.lend()?;
            Ok(envelope(lent.publisher().event()).publish_async(topic, payload).await?)
        })
    }

    fn register_service(&self, name: &str, balance: Balance) -> Result<Service, Error> {
        Ok(self.service(name).balance(balance).open()?)
    }

    fn update_service_health(&self, service: &str, instance: &str, health: ServiceHealth) -> Result<(), Error> {
        Ok(Self::update_service_health(self, service, instance, health)?)
    }

    fn add_routing_rule(&self, rule: RoutingRule) -> Result<(), Error> {
        Ok(self.rules().add(rule)?)
    }

    fn metrics(&self) -> Metrics {
        Self::metrics(self)
    }

    fn start(&self) -> Result<(), Error> {
        match self.state() {
            BusState::Running => Ok(()),
            BusState::ShuttingDown | BusState::Failed { .. } | BusState::Stopped => {
                Err(closed(&self.shared().engine).into())
            }
        }
    }

    fn stop(&self) -> Result<ShutdownReport, Error> {
        Ok(self.shutdown()?)
    }
}
