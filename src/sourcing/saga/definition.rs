//! What a saga does: its steps, how each is undone, and how long it may take.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::Frame;

type Cause = Box<dyn Error + Send + Sync>;
type Execute<D> = Box<dyn Fn(&mut D, &StepRun<'_>) -> Result<Executed, Cause> + Send + Sync>;
type Hear<D> = Box<dyn Fn(&mut D, &Frame, &StepRun<'_>) -> Result<Heard, Cause> + Send + Sync>;
type Compensate<D> = Box<dyn Fn(&mut D, &StepRun<'_>) -> Result<(), Cause> + Send + Sync>;

/// What becomes of a step that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It is done: the next one begins.
    Done,
    /// It waits for an event: see [`Step::hear`].
    Waiting,
    /// It failed for good, for this reason: what was done is compensated. An `Err` is tried again as often as
    /// [`Step::attempts_max`] says.
    Failed(String),
}

/// What an event means to a step that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it goes on waiting.
    NotMine,
    /// The step is done: the next one begins.
    Done,
    /// The step failed for this reason: what was done is compensated.
    Failed(String),
}

/// One run of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepRun<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a str,
    pub(super) attempt: u32,
}

impl<'a> StepRun<'a> {
    /// The saga.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// What this effect is known by: the same at each attempt and after each crash, another one for each step and each
    /// compensation. Give it to whoever has the effect, to tell repetitions apart.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Which attempt it is, from 1. One that a crash cut short counts once.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A step of a saga: what it does, and how that is undone.
pub struct Step<D> {
    pub(super) name: String,
    pub(super) execute: Execute<D>,
    pub(super) hear: Option<Hear<D>>,
    pub(super) compensate: Option<Compensate<D>>,
    pub(super) timeout: Option<Duration>,
    pub(super) attempts_max: u32,
    pub(super) compensations_max: u32,
    pub(super) delay: Duration,
}

impl<D> Step<D> {
    /// A step. What it changes in the saga's data is kept when it returns `Ok`. A panic counts as an error.
    pub fn new(
        name: impl Into<String>,
        execute: impl Fn(&mut D, &StepRun<'_>) -> Result<Executed, Cause> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            execute: Box::new(execute),
            hear: None,
            compensate: None,
            timeout: None,
            attempts_max: 1,
            compensations_max: 5,
            delay: Duration::from_secs(1),
        }
    }

    /// What an event means to it while it waits. It may only look at the event and change the data: a crash asks again.
    #[must_use]
    pub fn hear(
        self,
        hear: impl Fn(&mut D, &Frame, &StepRun<'_>) -> Result<Heard, Cause> + Send + Sync + 'static,
    ) -> Self {
        Self { hear: Some(Box::new(hear)), ..self }
    }

    /// Undoes what the step did; does nothing if it did nothing. Default: there is nothing to undo.
    #[must_use]
    pub fn compensate(
        self,
        compensate: impl Fn(&mut D, &StepRun<'_>) -> Result<(), Cause> + Send + Sync + 'static,
    ) -> Self {
        Self { compensate: Some(Box::new(compensate)), ..self }
    }

    /// A step that is not done so long after it began has failed, its waiting and its attempts included. It is not
    /// interrupted. Default: none.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// How often it is executed before it has failed. At least 1, the default.
    #[must_use]
    pub fn attempts_max(self, attempts: u32) -> Self {
        Self { attempts_max: attempts.max(1), ..self }
    }

    /// How often it is compensated before the saga is stuck. At least 1, default 5.
    #[must_use]
    pub fn compensations_max(self, attempts: u32) -> Self {
        Self { compensations_max: attempts.max(1), ..self }
    }

    /// The wait before the second attempt, doubled before each one after it, up to 64 times as long. Default 1 s.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The wait before an attempt.
    pub(super) fn delay_before(&self, attempt: u32) -> Duration {
        self.delay.saturating_mul(1 << attempt.saturating_sub(2).min(6))
    }
}

impl<D> fmt::Debug for Step<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("waits", &self.hear.is_some())
            .field("is_compensated", &self.compensate.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The definition of a saga with data `D`: a name, a version, and steps in order.
#[derive(Debug)]
pub struct Saga<D> {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) steps: Vec<Step<D>>,
    pub(super) timeout: Option<Duration>,
}

impl<D> Saga<D> {
    /// A saga without steps. Change the version whenever steps come, go or change places: one that was begun under another
    /// version does not go on under this one.
    pub fn new(name: impl Into<String>, version: u32) -> Self {
        Self { name: name.into(), version, steps: Vec::new(), timeout: None }
    }

    /// Adds a step behind the others.
    #[must_use]
    pub fn step(mut self, step: Step<D>) -> Self {
        self.steps.push(step);
        self
    }

    /// A saga that is not completed so long after it began is compensated. Default: none.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// The last step up to this one that can be compensated.
    pub(super) fn to_compensate(&self, step: usize) -> Option<usize> {
        self.steps.iter().take(step.saturating_add(1)).rposition(|step| step.compensate.is_some())
    }
}
