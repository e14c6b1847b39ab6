//! Subscriptions of a case: how they come, pause and go.

use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::ring::LANES;
use ringmain::{
    Filter, Mailbox, Meta, Outcome, Overflow, Pattern, Payload, SubscribeError, Subscription, SubscriptionId,
};

use super::model::{self, Wish, fails};
use super::{Case, event, priority};

const SEGMENTS: [&str; 6] = ["a", "b", "*", "*", "**", "**"];
/// Live subscriptions a case may have.
const SUBSCRIPTIONS_MAX: usize = 8;

pub(super) enum Handle {
    Inline(Subscription),
    /// Kept by its id alone.
    Forever(SubscriptionId),
    Mailbox(Mailbox<Pattern>),
}

impl Handle {
    pub(super) fn id(&self) -> SubscriptionId {
        match self {
            Self::Inline(subscription) => subscription.id(),
            Self::Forever(id) => *id,
            Self::Mailbox(mailbox) => mailbox.id(),
        }
    }
}

impl Case {
    pub(super) fn subscribe(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.len() >= SUBSCRIPTIONS_MAX {
            return Ok(());
        }
        let segments: Vec<&str> = (0..bytes.int_in_range(1..=3)?)
            .map(|_| bytes.choose(&SEGMENTS).copied())
            .collect::<arbitrary::Result<_>>()?;
        let pattern = segments.join(".");
        let category = if bytes.ratio(1, 4)? { Some(*bytes.choose(&["a", "b"])?) } else { None };
        let lanes = if bytes.ratio(1, 2)? { 0b1111 } else { bytes.int_in_range(0..=0b1111)? };
        let even = bytes.ratio(1, 4)?;
        let wish = Wish::new(&pattern, category, lanes, even);
        let workers = self.seen.len();
        let worker = if bytes.arbitrary()? { Some(bytes.choose_index(workers)?) } else { None };
        let mut filter = Filter::all().priorities((0..LANES).filter(|lane| lanes & (1 << lane) != 0).map(priority));
        if let Some(category) = category {
            filter = filter.categories([category]);
        }
        if even {
            filter = filter.matching(|meta| meta.payload().bytes()[0].is_multiple_of(2));
        }
        let mut subscribe = self.simulation.bus().subscribe(&*pattern).filter(filter);
        if let Some(worker) = worker {
            subscribe = subscribe.on_worker(worker);
        }
        let handle = if bytes.arbitrary()? {
            let capacity = bytes.int_in_range(1..=5)?;
            let overflow = *bytes.choose(&[Overflow::Block, Overflow::DropNewest, Overflow::DropOldest])?;
            let (key, _) = self.model.subscribe(wish, worker, Some(model::Mailbox::new(capacity, overflow)));
            (key, Handle::Mailbox(subscribe.capacity(capacity).overflow(overflow).mailbox().expect("it is valid")))
        } else {
            let (key, worker) = self.model.subscribe(wish, worker, None);
            let seen = Arc::clone(&self.seen[worker]);
            let handler = move |payload: Payload<'_>, meta: &Meta<'_>| {
                let event = event(meta, payload);
                let outcome = if fails(event.nth) { Outcome::Failed("as asked".to_owned()) } else { Outcome::Ack };
                seen.lock().expect("no handler panics").push((key, event));
                outcome
            };
            let subscription = subscribe.handle(handler).expect("it is valid");
            let is_kept = bytes.ratio(1, 4)?;
            (key, if is_kept { Handle::Forever(subscription.forever()) } else { Handle::Inline(subscription) })
        };
        self.handles.push(handle);
        Ok(())
    }

    /// Ends a subscription: by its id, or by letting go of it.
    pub(super) fn end(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let nth = bytes.choose_index(self.handles.len())?;
        let by_id = bytes.arbitrary()?;
        let bus = self.simulation.bus();
        let (key, handle) = &self.handles[nth];
        let has_ended = self.model.subscriptions[*key].has_ended;
        let by_id = by_id || matches!(handle, Handle::Forever(_));
        if by_id {
            let expected = if has_ended { Err(SubscribeError::NotFound(handle.id())) } else { Ok(()) };
            assert_eq!(bus.unsubscribe(handle.id()), expected);
            self.model.end(*key);
            // Its mailbox can still be emptied.
            if matches!(handle, Handle::Mailbox(_)) {
                return Ok(());
            }
        }
        let (key, handle) = self.handles.swap_remove(nth);
        self.model.end(key);
        self.model.subscriptions[key].abandon();
        match handle {
            Handle::Inline(subscription) if !by_id => assert_eq!(subscription.unsubscribe(), Ok(())),
            handle => drop(handle),
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let (key, handle) = bytes.choose(&self.handles)?;
        let subscription = &mut self.model.subscriptions[*key];
        let is_paused = bytes.arbitrary()?;
        let bus = self.simulation.bus();
        let done = if is_paused { bus.pause(handle.id()) } else { bus.resume(handle.id()) };
        if subscription.has_ended {
            assert_eq!(done, Err(SubscribeError::NotFound(handle.id())));
        } else {
            assert_eq!(done, Ok(()));
            subscription.is_paused = is_paused;
        }
        Ok(())
    }
}
