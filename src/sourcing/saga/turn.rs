//! One turn of a saga: a closure of the user's is called, and what it says becomes the next record.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Frame;
use crate::sourcing::Persist;

use super::definition::{Executed, Heard, Saga, Step, StepRun};
use super::error::SagaError;
use super::record::{Record, SagaPhase, after, shortened};

type Cause = Box<dyn Error + Send + Sync>;

/// A saga under way: its definition, its id and its record.
pub(super) struct Turn<'a, D> {
    pub(super) definition: &'a Saga<D>,
    pub(super) id: &'a str,
    pub(super) record: &'a mut Record,
    pub(super) now: u64,
}

impl<'a, D: Persist> Turn<'a, D> {
    /// Does what is due; whether there was something.
    pub(super) fn next(&mut self) -> Result<bool, SagaError> {
        let is_late = self.record.time_limit() <= self.now;
        match self.record.phase {
            SagaPhase::Executing | SagaPhase::Waiting if is_late => self.fail("it was not done in time".to_owned()),
            SagaPhase::Executing if self.record.due <= self.now => self.execute()?,
            SagaPhase::Compensating if self.record.due <= self.now => self.compensate()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn execute(&mut self) -> Result<(), SagaError> {
        let step = self.step()?;
        match self.call(step, "execute", |data, run| (step.execute)(data, run))? {
            Ok((outcome, data)) => {
                self.record.data = data;
                match outcome {
                    Executed::Done => self.done(),
                    Executed::Waiting => self.record.phase = SagaPhase::Waiting,
                    Executed::Failed(reason) => self.fail(reason),
                }
            }
            Err(error) if self.record.attempt < step.attempts_max => self.again(step, &error),
            Err(error) => self.fail(error.to_string()),
        }
        Ok(())
    }

    fn compensate(&mut self) -> Result<(), SagaError> {
        let step = self.step()?;
        let undone = self.call(step, "compensate", |data, run| match &step.compensate {
            Some(compensate) => compensate(data, run),
            None => Ok(()),
        })?;
        match undone {
            Ok(((), data)) => {
                self.record.data = data;
                let before = (self.record.step as usize).checked_sub(1);
                self.record.undo(self.definition, before, self.now);
            }
            Err(error) if self.record.attempt < step.compensations_max => self.again(step, &error),
            Err(error) => {
                self.record.error = Some(shortened(error.to_string()));
                self.record.phase = SagaPhase::Stuck;
            }
        }
        Ok(())
    }

    /// Asks the step that waits what an event means to it; whether anything.
    pub(super) fn hear(&mut self, event: &Frame) -> Result<bool, SagaError> {
        let step = self.step()?;
        let Some(hear) = &step.hear else { return Ok(false) };
        match self.call(step, "execute", |data, run| hear(data, event, run))? {
            Ok((Heard::NotMine, _)) => return Ok(false),
            Ok((heard, data)) => {
                self.record.heard.push(*event.meta().id().as_bytes());
                self.record.data = data;
                match heard {
                    Heard::Failed(reason) => self.fail(reason),
                    _ => self.done(),
                }
            }
            Err(error) => {
                self.record.heard.push(*event.meta().id().as_bytes());
                self.fail(error.to_string());
            }
        }
        Ok(true)
    }

    fn done(&mut self) {
        self.record.begin(self.definition, self.record.step as usize + 1, self.now);
    }

    /// Begins to undo, the step under way included: nobody knows how far it came.
    pub(super) fn fail(&mut self, reason: String) {
        self.record.reason = Some(shortened(reason));
        self.record.undo(self.definition, Some(self.record.step as usize), self.now);
    }

    fn again(&mut self, step: &Step<D>, error: &Cause) {
        self.record.attempt += 1;
        self.record.due = after(self.now, Some(step.delay_before(self.record.attempt)));
        self.record.error = Some(shortened(error.to_string()));
    }

    fn step(&self) -> Result<&'a Step<D>, SagaError> {
        let definition: &'a Saga<D> = self.definition;
        definition.steps.get(self.record.step as usize).ok_or_else(|| SagaError::Record { id: self.id.to_owned() })
    }

    /// Calls a closure with the data as it was kept last; returns what it made of it.
    fn call<T>(
        &self,
        step: &Step<D>,
        what: &str,
        call: impl FnOnce(&mut D, &StepRun<'_>) -> Result<T, Cause>,
    ) -> Result<Result<(T, Vec<u8>), Cause>, SagaError> {
        let mut data = read_data::<D>(self.id, &self.record.data)?;
        let key = format!("{}/{}/{}/{what}", self.definition.name, self.id, step.name);
        let run = StepRun { id: self.id, key: &key, attempt: self.record.attempt };
        // The data is thrown away after a panic.
        match contained(|| call(&mut data, &run)) {
            Ok(value) => Ok(Ok((value, write_data(self.id, &data)?))),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// The data of a saga as it is kept.
pub(super) fn write_data<D: Persist>(id: &str, data: &D) -> Result<Vec<u8>, SagaError> {
    contained(|| data.to_bytes()).map_err(|error| SagaError::Data { id: id.to_owned(), error })
}

/// Reads what [`write_data`] wrote.
pub(super) fn read_data<D: Persist>(id: &str, bytes: &[u8]) -> Result<D, SagaError> {
    contained(|| D::of_bytes(bytes)).map_err(|error| SagaError::Data { id: id.to_owned(), error })
}

/// Calls user code, whose panic is an error: it must not keep other sagas from going on.
fn contained<T>(call: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(format!("it panicked: {}", message(&*panic)).into()))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
