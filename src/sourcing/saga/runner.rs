//! Runs sagas: keeps each step before it is taken, and goes on where a process died.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sourcing::persist::{self, ID_BYTES_MAX, NAME_BYTES_MAX, Persist};
use crate::store::{Durability, Leased, STATE_PAGE_MAX, StateChange, StateKind, StateStore, steady_now};
use crate::{EventId, Frame};

use super::definition::Saga;
use super::error::SagaError;
use super::record::{Kept, MARK, NEVER, Record, SagaPhase, SagaStatus, after, unix_ns};
use super::turn::{Turn, read_data, write_data};

/// The number of this process, among all that keep sagas.
static RUN: LazyLock<u64> = LazyLock::new(|| u128::from(EventId::random()) as u64 | 1);

/// The wait of a saga that could not go on.
const FAILED_DELAY: Duration = Duration::from_secs(1);

/// Sagas of one definition in a store of state. One at a time for each definition's name.
///
/// Nothing wakes it: call [`run_due`](Self::run_due) after opening, and again when [`next_due`](Self::next_due) says. Timeouts
/// and delays go by [`steady_now`]: setting the wall clock moves none while the process lives. The next process goes on with them by the
/// wall clock; where that is before a saga was kept last, the saga goes on as if no time had passed since.
pub struct Sagas<D> {
    state: Arc<dyn StateStore>,
    current: Saga<D>,
    older: Vec<Saga<D>>,
    durability: Durability,
    active_max: usize,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// Of this process; 0 = the clock is the user's.
    run: u64,
    /// What was to be added to the clock's instants for those of the wall clock when it was opened.
    to_wall: i64,
    /// When a saga was kept last, as far as is known; until the first run with this clock.
    kept_at: Option<u64>,
    /// Sagas that have not ended, and when each has something to do.
    active: HashMap<String, u64>,
    by_time: BTreeSet<(u64, String)>,
}

/// What came of an event that a saga was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Told {
    /// It ended the step that waited.
    Taken,
    /// It was told before, and was taken then.
    Repeated,
    /// No step waits for it now. If one is to come, tell it again.
    NotAwaited,
    /// The saga has ended.
    Ended,
    /// There is no such saga.
    Unknown,
}

/// What [`Sagas::run_due`] has done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ran {
    /// Sagas that went on, as they stand now; those that are stuck among them.
    pub sagas: Vec<SagaStatus>,
    /// Sagas that could not go on, and why. They are due again a second later.
    pub failed: Vec<(String, SagaError)>,
}

impl<D: Persist> Sagas<D> {
    /// Sagas that may be active at once, unless told otherwise.
    pub const ACTIVE_DEFAULT: usize = 100_000;

    /// The sagas of a definition that a store knows. Nothing is run yet.
    ///
    /// # Errors
    /// When the definition is not sound, or the store cannot be read.
    pub fn open(definition: Saga<D>, state: Arc<dyn StateStore>) -> Result<Self, SagaError> {
        check(&definition)?;
        let state = Leased::take(state, &format!("saga {:?}", definition.name)).map_err(SagaError::Lease)?;
        let durability = state.state_durability();
        let mut sagas = Self {
            state,
            current: definition,
            older: Vec::new(),
            durability,
            active_max: Self::ACTIVE_DEFAULT,
            clock: Box::new(steady_now),
            run: *RUN,
            to_wall: to_wall(),
            kept_at: Some(0),
            active: HashMap::new(),
            by_time: BTreeSet::new(),
        };
        sagas.find_active()?;
        Ok(sagas)
    }

    fn find_active(&mut self) -> Result<(), SagaError> {
        let prefix = persist::prefix(&self.current.name);
        let mut from = prefix.clone();
        loop {
            let page = self.state.list(StateKind::SAGA, &from, STATE_PAGE_MAX).map_err(SagaError::Read)?;
            for (key, value) in &page.entries {
                let Some(id) = key.strip_prefix(&*prefix) else { return Ok(()) };
                // One that cannot be read is due, so that running it says why.
                let record = persist::read(&MARK, value).map(|record| self.by_own_clock(record));
                let kept_at = record.as_ref().map_or(0, |record| record.kept.at);
                let wakes_at = record.map_or(0, |record| record.wakes_at());
                self.kept_at = self.kept_at.max(Some(kept_at));
                self.note(&String::from_utf8_lossy(id), Some(wakes_at));
            }
            match page.next {
                Some(next) => from = next.into_vec(),
                None => return Ok(()),
            }
        }
    }

    /// Goes on also with sagas that were begun under an older version of the definition.
    ///
    /// # Errors
    /// When it is not sound, has another name, or its version was given before.
    pub fn older(mut self, definition: Saga<D>) -> Result<Self, SagaError> {
        check(&definition)?;
        if definition.name != self.current.name || self.definition(definition.version).is_some() {
            return Err(SagaError::NotOlder { saga: definition.name, version: definition.version });
        }
        self.older.push(definition);
        Ok(self)
    }

    /// How much a step has to survive before the next is taken. Default: as much as the store offers. With less, a crash may
    /// take a saga back to an earlier step.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Sagas that may be active at once. Default 100,000.
    #[must_use]
    pub fn active_max(self, sagas: usize) -> Self {
        Self { active_max: sagas, ..self }
    }

    /// The clock that timeouts and delays go by, in this process and the next. Default: [`steady_now`].
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), run: 0, to_wall: 0, kept_at: Some(NEVER), ..self }
    }

    /// Begins a saga and runs it until it waits or ends.
    ///
    /// # Errors
    /// When there is one of this id, too many are active, or it was not kept. After [`SagaError::Keep`] it may have begun:
    /// [`run_due`](Self::run_due) goes on with it then.
    pub fn start(&mut self, id: &str, data: D) -> Result<SagaStatus, SagaError> {
        check_name("id", id, ID_BYTES_MAX)?;
        if self.load(id)?.is_some() {
            return Err(SagaError::AlreadyExists { id: id.to_owned() });
        }
        if self.active.len() >= self.active_max {
            return Err(SagaError::TooMany { max: self.active_max });
        }
        let data = write_data(id, &data)?;
        let mut record = Record::new(&self.current, data, self.now());
        self.keep(id, &mut record)?;
        self.advance(id, record)
    }

    /// Tells a saga an event, and runs it until it waits or ends.
    ///
    /// # Errors
    /// When it could not go on. If the event was taken, telling it again is [`Told::Repeated`].
    pub fn tell(&mut self, id: &str, event: &Frame) -> Result<Told, SagaError> {
        let Some(mut record) = self.load(id)? else { return Ok(Told::Unknown) };
        if record.heard.contains(event.meta().id().as_bytes()) {
            return Ok(Told::Repeated);
        }
        if !record.phase.is_end() {
            // It may have something to do that comes before.
            self.advance(id, record)?;
            record = self.load(id)?.ok_or_else(|| SagaError::Record { id: id.to_owned() })?;
        }
        match record.phase {
            SagaPhase::Completed | SagaPhase::Compensated => return Ok(Told::Ended),
            SagaPhase::Waiting => {}
            _ => return Ok(Told::NotAwaited),
        }
        let definition = self.definition_of(id, &record)?;
        if !(Turn { definition, id, record: &mut record, now: self.now() }).hear(event)? {
            return Ok(Told::NotAwaited);
        }
        self.keep(id, &mut record)?;
        self.advance(id, record).map(|_| Told::Taken)
    }

    /// Runs every saga that has something to do: what a crash cut short, attempts that are due, timeouts.
    pub fn run_due(&mut self) -> Ran {
        let mut ran = Ran { sagas: Vec::new(), failed: Vec::new() };
        self.go_on_after_a_step(&mut ran);
        let end = (self.now().saturating_add(1), String::new());
        let due: Vec<_> = self.by_time.range(..end).map(|(_, id)| id.clone()).collect();
        for id in due {
            match self.run(&id) {
                Ok(Some(status)) => ran.sagas.push(status),
                Ok(None) => self.note(&id, None),
                Err(error) => self.put_off(id, error, &mut ran),
            }
        }
        ran
    }

    fn put_off(&mut self, id: String, error: SagaError, ran: &mut Ran) {
        let later = after(self.now(), Some(FAILED_DELAY));
        self.note(&id, Some(later));
        ran.failed.push((id, error));
    }

    /// Once, when there was a saga that was kept later than now: the clock was set back between two processes. It would
    /// wait until the clock has come there again.
    fn go_on_after_a_step(&mut self, ran: &mut Ran) {
        let now = self.now();
        if self.kept_at.take().is_none_or(|kept_at| kept_at <= now) {
            return;
        }
        let ids: Vec<_> = self.active.keys().cloned().collect();
        for id in ids {
            let gone_on = match self.load(&id) {
                Ok(Some(mut record)) if record.kept.at > now => {
                    record.shift(-i64::try_from(record.kept.at - now).unwrap_or(i64::MAX));
                    self.keep(&id, &mut record)
                }
                Ok(record) => {
                    self.note(&id, record.map(|record| record.wakes_at()));
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = gone_on {
                self.put_off(id, error, ran);
            }
        }
    }

    /// What another process has kept, by the clock of this one.
    fn by_own_clock(&self, mut record: Record) -> Record {
        let Kept { run, to_wall, .. } = record.kept;
        if run != self.run && run != 0 {
            record.shift(to_wall.saturating_sub(self.to_wall));
        }
        record
    }

    fn run(&mut self, id: &str) -> Result<Option<SagaStatus>, SagaError> {
        let Some(record) = self.load(id)? else { return Ok(None) };
        self.advance(id, record).map(Some)
    }

    /// When the next saga has something to do; `None` when all wait for events.
    pub fn next_due(&self) -> Option<SystemTime> {
        let (time, _) = self.by_time.first()?;
        (*time != NEVER).then(|| UNIX_EPOCH + Duration::from_nanos(*time))
    }

    /// Ids of the sagas that have not ended, in no order.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &str> {
        self.active.keys().map(String::as_str)
    }

    /// How a saga stands, and its data; `None` when there is none of this id, or it was forgotten.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<(SagaStatus, D)>, SagaError> {
        let Some(record) = self.load(id)? else { return Ok(None) };
        let data = read_data(id, &record.data)?;
        Ok(Some((record.status(id, self.definition(record.version)), data)))
    }

    /// Compensates a saga that is under way, for this reason.
    ///
    /// # Errors
    /// [`SagaError::NotFound`] when there is none under way; else as [`tell`](Self::tell).
    pub fn abort(&mut self, id: &str, reason: &str) -> Result<SagaStatus, SagaError> {
        self.change(id, "is under way", |turn| {
            let is_meant = matches!(turn.record.phase, SagaPhase::Executing | SagaPhase::Waiting);
            if is_meant {
                turn.fail(reason.to_owned());
            }
            is_meant
        })
    }

    /// Tries again to compensate a saga that is stuck.
    ///
    /// # Errors
    /// [`SagaError::NotFound`] when there is none that is stuck; else as [`tell`](Self::tell).
    pub fn retry(&mut self, id: &str) -> Result<SagaStatus, SagaError> {
        self.change(id, "is stuck", |turn| {
            let is_meant = turn.record.phase == SagaPhase::Stuck;
            if is_meant {
                turn.record.undo(turn.definition, Some(turn.record.step as usize), turn.now);
            }
            is_meant
        })
    }

    fn change(
        &mut self,
        id: &str,
        wanted: &'static str,
        change: impl FnOnce(&mut Turn<'_, D>) -> bool,
    ) -> Result<SagaStatus, SagaError> {
        let not_found = || SagaError::NotFound { id: id.to_owned(), wanted };
        let mut record = self.load(id)?.ok_or_else(not_found)?;
        let definition = self.definition_of(id, &record)?;
        if !change(&mut Turn { definition, id, record: &mut record, now: self.now() }) {
            return Err(not_found());
        }
        self.keep(id, &mut record)?;
        self.advance(id, record)
    }

    /// Forgets a saga that has ended. One of its id may begin then.
    ///
    /// # Errors
    /// [`SagaError::NotFound`] when there is none that has ended.
    pub fn forget(&mut self, id: &str) -> Result<(), SagaError> {
        if !self.load(id)?.is_some_and(|record| record.phase.is_end()) {
            return Err(SagaError::NotFound { id: id.to_owned(), wanted: "has ended" });
        }
        let key = persist::key(&self.current.name, id);
        let change = StateChange::Remove { kind: StateKind::SAGA_ENDED, key: &key };
        self.state.apply(&[change], self.durability).map_err(SagaError::Keep)
    }

    /// Does all that is due, and keeps each step before the next is taken.
    fn advance(&mut self, id: &str, mut record: Record) -> Result<SagaStatus, SagaError> {
        loop {
            let definition = self.definition_of(id, &record)?;
            if !(Turn { definition, id, record: &mut record, now: self.now() }).next()? {
                let status = record.status(id, Some(definition));
                // What was kept although its keeping failed is known now.
                self.note(id, (!record.phase.is_end()).then(|| record.wakes_at()));
                return Ok(status);
            }
            self.keep(id, &mut record)?;
        }
    }

    fn load(&self, id: &str) -> Result<Option<Record>, SagaError> {
        let key = persist::key(&self.current.name, id);
        for kind in [StateKind::SAGA, StateKind::SAGA_ENDED] {
            if let Some(value) = self.state.get(kind, &key).map_err(SagaError::Read)? {
                let record = persist::read(&MARK, &value).ok_or_else(|| SagaError::Record { id: id.to_owned() })?;
                return Ok(Some(self.by_own_clock(record)));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, id: &str, record: &mut Record) -> Result<(), SagaError> {
        // Until it is known to be kept: what was kept instead is found when it is run.
        self.note(id, Some(0));
        let to_wall = if self.run == 0 { 0 } else { to_wall() };
        record.kept = Kept { at: self.now(), run: self.run, to_wall };
        let (key, value) = (persist::key(&self.current.name, id), persist::write(&MARK, record));
        let (key, value) = (&*key, &*value);
        let kept = if record.phase.is_end() {
            let ended = StateChange::Put { kind: StateKind::SAGA_ENDED, key, value };
            self.state.apply(&[ended, StateChange::Remove { kind: StateKind::SAGA, key }], self.durability)
        } else {
            self.state.apply(&[StateChange::Put { kind: StateKind::SAGA, key, value }], self.durability)
        };
        kept.map_err(SagaError::Keep)?;
        self.note(id, (!record.phase.is_end()).then(|| record.wakes_at()));
        Ok(())
    }

    /// Notes when a saga has something to do; `None` when it has ended.
    fn note(&mut self, id: &str, wakes_at: Option<u64>) {
        if let Some(before) = self.active.remove(id) {
            self.by_time.remove(&(before, id.to_owned()));
        }
        if let Some(wakes_at) = wakes_at {
            self.active.insert(id.to_owned(), wakes_at);
            self.by_time.insert((wakes_at, id.to_owned()));
        }
    }

    fn definition(&self, version: u32) -> Option<&Saga<D>> {
        [&self.current].into_iter().chain(&self.older).find(|definition| definition.version == version)
    }

    fn definition_of(&self, id: &str, record: &Record) -> Result<&Saga<D>, SagaError> {
        let (found, current) = (record.version, self.current.version);
        self.definition(found).ok_or_else(|| SagaError::OtherVersion { id: id.to_owned(), found, current })
    }

    fn now(&self) -> u64 {
        unix_ns((self.clock)())
    }
}

/// What is to be added to the process's clock for the wall clock, in nanoseconds.
fn to_wall() -> i64 {
    i64::try_from(i128::from(unix_ns(SystemTime::now())) - i128::from(unix_ns(steady_now()))).unwrap_or(0)
}

fn check<D>(definition: &Saga<D>) -> Result<(), SagaError> {
    let saga = || definition.name.clone();
    check_name("name of the saga", &definition.name, NAME_BYTES_MAX)?;
    if definition.steps.is_empty() {
        return Err(SagaError::NoSteps { saga: saga() });
    }
    for (at, step) in definition.steps.iter().enumerate() {
        check_name("name of a step", &step.name, NAME_BYTES_MAX)?;
        if definition.steps[..at].iter().any(|other| other.name == step.name) {
            return Err(SagaError::SameName { saga: saga(), step: step.name.clone() });
        }
    }
    Ok(())
}

fn check_name(what: &'static str, name: &str, max: usize) -> Result<(), SagaError> {
    match name.len() {
        bytes if bytes == 0 || bytes > max => Err(SagaError::Name { what, bytes, max }),
        _ => Ok(()),
    }
}

impl<D> fmt::Debug for Sagas<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sagas")
            .field("name", &self.current.name)
            .field("version", &self.current.version)
            .field("active", &self.active.len())
            .finish_non_exhaustive()
    }
}
