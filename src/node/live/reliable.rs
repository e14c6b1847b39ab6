//! A client that acknowledges: what it has not acknowledged comes again when it comes back under its name.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinError;

use super::Shared;
use super::claim::Claim;
use super::feed::Item;
use super::interest::Interest;
use super::message::Gap;
use super::reader::missing_of;
use super::window::{BATCH_BYTES, LiveEvent};
use crate::store::{
    CursorError, DurableSubscription, DurableSubscriptionError, LeaseError, Position, Query, ReadError, StoredEvent,
};

/// Names of cursors begin so: those of programs are others.
const NAME_PREFIX: &str = "live/";
/// Events that it reads at once.
const PAGE_EVENTS: usize = 64;
/// Events that it passes, since its client does not want them, before that is kept.
const PASSED_MAX: usize = 4_096;

const LOST: &str = "the subscription was lost; open another connection, and subscribe again";

/// A durable subscription, at a client.
pub(super) struct Reliable {
    shared: Arc<Shared>,
    name: String,
    /// Away while it is asked something.
    subscription: Option<DurableSubscription>,
    /// What the client has.
    unacked: VecDeque<u64>,
    /// Everything up to here was looked at.
    position: u64,
    passed: usize,
    pub(super) interest: Interest,
    head: watch::Receiver<u64>,
    /// Given back behind the subscription.
    claim: Claim,
}

/// What was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    Events,
    NameWanted,
}

/// What the subscription found.
#[derive(Default)]
struct Batch {
    events: Vec<StoredEvent>,
    missing: Option<Gap>,
}

impl Reliable {
    /// Opens the subscription of a name among those of an owner, whoever has it.
    ///
    /// # Errors
    /// Why it cannot be, in words for the client.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        (owner, name): (&str, &str),
        after: Option<u64>,
        interest: Interest,
    ) -> Result<Self, String> {
        let asked = format!("{NAME_PREFIX}{owner}/{name}");
        let claim = shared.claims.take(&asked).await;
        let (store, state) = (Arc::clone(&shared.store), Arc::clone(&shared.state));
        let mut builder = DurableSubscription::builder(store, state, &asked).query(Query::new().limit(PAGE_EVENTS));
        if let Some(after) = after {
            builder = builder.begin_behind(Position::new(after));
        }
        let (naming, names_max) = (Arc::clone(shared), shared.options.names_max);
        let owner = format!("{NAME_PREFIX}{owner}/");
        let subscription = shared.beside(move || {
            // Two at one time could both take the last place.
            let _one = naming.naming.lock().unwrap_or_else(PoisonError::into_inner);
            let names = DurableSubscription::names(&*naming.state, &owner);
            let names = names.map_err(|error| error.to_string())?;
            if names.len() >= names_max && !names.contains(&asked) {
                return Err(format!(
                    "there are {} names of this token, and {names_max} may be: use one of them, or forget one",
                    names.len()
                ));
            }
            builder.open().map_err(|error| said(&error))
        });
        let subscription = subscription.await.map_err(|panic| failed(&panic))??;
        let position = subscription.acknowledged().map_or(0, Position::get);
        Ok(Self {
            shared: Arc::clone(shared),
            name: name.to_owned(),
            subscription: Some(subscription),
            unacked: VecDeque::new(),
            position,
            passed: 0,
            interest,
            head: shared.window.watch_head(),
            claim,
        })
    }

    /// Its name, as the client has it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Everything up to here is acknowledged, or was looked at and is on its way.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many more events the client may have.
    fn room(&self) -> usize {
        self.shared.options.unacked_max.max(1).saturating_sub(self.unacked.len())
    }

    /// Waits until there may be something, or another connection wants the name.
    pub(super) async fn wait(&mut self) -> Waited {
        let (may_have, position) = (!self.interest.is_empty() && self.room() > 0, self.position);
        tokio::select! {
            // The sender is in what this holds.
            _ = self.head.wait_for(|head| *head > position), if may_have => Waited::Events,
            () = self.claim.wanted() => Waited::NameWanted,
        }
    }

    /// Returns when another connection wants the name.
    pub(super) async fn name_wanted(&self) {
        self.claim.wanted().await;
    }

    /// What is next, if there is something and room for it. It is not to be dropped while it is awaited.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) async fn next(&mut self) -> Result<Vec<Item>, String> {
        let room = self.room().min(PAGE_EVENTS);
        if self.interest.is_empty() || room == 0 {
            return Ok(Vec::new());
        }
        let batch = self.with(move |subscription| {
            let mut batch = Batch::default();
            let mut bytes = 0;
            while batch.events.len() < room && bytes < BATCH_BYTES {
                match subscription.try_recv() {
                    Ok(Some(event)) => {
                        bytes += event.frame().bytes().len();
                        batch.events.push(event);
                    }
                    Ok(None) => break,
                    Err(DurableSubscriptionError::Read(error)) => {
                        // It looks behind that from now on.
                        match missing_of(&error) {
                            Some(missing) => batch.missing = Some((&missing).into()),
                            None => return Err(DurableSubscriptionError::Read(error)),
                        }
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok((batch, subscription.looked_at().map_or(0, Position::get)))
        });
        let (batch, looked_at) = batch.await?;
        let mut items = Vec::new();
        let is_empty = batch.events.is_empty();
        for stored in batch.events {
            self.position = stored.position().get();
            let event = LiveEvent::new(stored, None);
            if self.interest.wants(&event) {
                self.unacked.push_back(self.position);
                items.push(Item::Event(Arc::new(event)));
            } else {
                self.passed += 1;
            }
        }
        if is_empty {
            self.position = looked_at.max(self.position);
        }
        items.extend(batch.missing.map(Item::Gap));
        if self.passed >= PASSED_MAX && self.unacked.is_empty() {
            self.keep(self.position).await?;
        }
        Ok(items)
    }

    /// Everything up to a position is handled.
    ///
    /// # Errors
    /// Why that is not kept, in words.
    pub(super) async fn ack(&mut self, position: u64) -> Result<(), String> {
        let given = self.unacked.back().copied().unwrap_or(self.position);
        if position > given {
            return Err(format!("position {position} was acknowledged, and events came up to {given}"));
        }
        self.keep(position).await?;
        while self.unacked.front().is_some_and(|first| *first <= position) {
            self.unacked.pop_front();
        }
        Ok(())
    }

    /// Forgets the name: nothing is kept for its sake any more.
    ///
    /// # Errors
    /// Why it is not forgotten, in words.
    pub(super) async fn forget(&mut self) -> Result<(), String> {
        let subscription = self.subscription.take().ok_or(LOST)?;
        let forgotten = self.shared.beside(move || subscription.forget().map_err(|error| error.to_string()));
        forgotten.await.map_err(|panic| failed(&panic))?
    }

    async fn keep(&mut self, position: u64) -> Result<(), String> {
        let Some(position) = Position::new(position) else { return Ok(()) };
        self.passed = 0;
        self.with(move |subscription| subscription.ack(position)).await
    }

    async fn with<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&mut DurableSubscription) -> Result<T, DurableSubscriptionError> + Send + 'static,
    ) -> Result<T, String> {
        let mut subscription = self.subscription.take().ok_or(LOST)?;
        let asked = self.shared.beside(move || {
            let answer = ask(&mut subscription);
            (subscription, answer)
        });
        let (subscription, answer) = asked.await.map_err(|panic| failed(&panic))?;
        self.subscription = Some(subscription);
        answer.map_err(|error| error.to_string())
    }
}

/// Why a subscription was not opened.
fn said(error: &DurableSubscriptionError) -> String {
    match error {
        DurableSubscriptionError::Lease(LeaseError::Taken { name, .. }) => {
            format!("{name} is taken by another process")
        }
        DurableSubscriptionError::Cursor(CursorError::Store(error)) => match &**error {
            ReadError::Diverged { .. } => format!("{error} (`after`)"),
            _ => error.to_string(),
        },
        error => error.to_string(),
    }
}

fn failed(panic: &JoinError) -> String {
    format!("the store failed: {panic}")
}
