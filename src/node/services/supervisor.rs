//! One task that knows what every service is and what it is wanted to be, and takes the steps between.

mod checks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::health::Health;
use super::state::{ServiceChange, ServiceState, ServiceStatus};
use super::{Service, ServiceFailure, ServicesError, ServicesOptions};

type Answer = oneshot::Sender<Result<(), ServicesError>>;

/// What is asked of the supervisor, also by the tasks that it started.
pub(super) enum Command {
    Register(Arc<dyn Service>, Answer),
    Unregister(String, Answer),
    Start(String, Answer),
    Stop(String, Answer),
    Restart(String, Answer),
    Check(Answer),
    Options(ServicesOptions),
    Shutdown(Answer),
    /// A start or a stop has come to its end.
    Stepped {
        name: String,
        step: Step,
        outcome: Result<(), ServiceFailure>,
    },
    /// A service has said how it is, in the run that has this number.
    Checked {
        name: String,
        run: u64,
        health: Health,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Start,
    Stop,
}

pub(super) struct Supervisor {
    options: ServicesOptions,
    /// For the tasks of the steps. Weak: services that nobody holds any more end.
    commands: mpsc::WeakUnboundedSender<Command>,
    statuses: watch::Sender<Arc<Vec<ServiceStatus>>>,
    told: Box<dyn FnMut(ServiceChange) + Send>,
    entries: Vec<Entry>,
    next_check: Instant,
    /// Who waits for a round of checks, and how many answers are missing.
    checks_missing: usize,
    check_waiters: Vec<Answer>,
    /// Who waits for the end of all.
    shutdown: Option<Vec<Answer>>,
    /// Given when what they are about can be read.
    answers: Vec<(Answer, Result<(), ServicesError>)>,
}

struct Entry {
    service: Arc<dyn Service>,
    status: ServiceStatus,
    is_wanted: bool,
    /// To be stopped once before it runs again.
    is_restarting: bool,
    is_leaving: bool,
    /// While a start or a stop is under way.
    is_stepping: bool,
    /// Counts starts, so that a late word on the health of an earlier run is known as such.
    run: u64,
    is_checking: bool,
    unhealthy: u32,
    /// Where it is after its stop, when it is stopped for a failure.
    after_stop: Option<ServiceState>,
    /// Until when it is not started again.
    rests_until: Option<Instant>,
    /// Who waits for it to run, and who for it to be at rest.
    start_waiters: Vec<Answer>,
    stop_waiters: Vec<Answer>,
}

impl Supervisor {
    pub(super) fn new(
        options: ServicesOptions,
        commands: mpsc::WeakUnboundedSender<Command>,
        statuses: watch::Sender<Arc<Vec<ServiceStatus>>>,
        told: Box<dyn FnMut(ServiceChange) + Send>,
    ) -> Self {
        let next_check = Instant::now() + options.check_every;
        let (entries, check_waiters) = (Vec::new(), Vec::new());
        Self {
            options,
            commands,
            statuses,
            told,
            entries,
            next_check,
            checks_missing: 0,
            check_waiters,
            shutdown: None,
            answers: Vec::new(),
        }
    }

    /// Until a shutdown is complete, or nobody holds the services any more.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.take(order),
                    None => return,
                },
                () = sleep_until(wake) => {
                    if Instant::now() >= self.next_check {
                        self.next_check = Instant::now() + self.options.check_every;
                        self.check_all();
                    }
                }
            }
            while self.reconcile() {}
            self.publish();
            self.answers.drain(..).for_each(|(answer, outcome)| drop(answer.send(outcome)));
            if self.shutdown.is_some() && self.entries.iter().all(|entry| entry.status.state.is_at_rest()) {
                self.shutdown.take().into_iter().flatten().for_each(|answer| drop(answer.send(Ok(()))));
                return;
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let rests = self.entries.iter().filter_map(|entry| entry.rests_until);
        rests.chain([self.next_check]).min().unwrap_or(self.next_check)
    }

    fn take(&mut self, order: Command) {
        match order {
            Command::Register(service, answer) => {
                let outcome = self.register(service);
                self.answers.push((answer, outcome));
            }
            Command::Unregister(name, answer) => self.unregister(&name, answer),
            Command::Start(name, answer) => self.start(&name, answer),
            Command::Stop(name, answer) => match self.entry(&name) {
                Err(error) => drop(answer.send(Err(error))),
                Ok(entry) => {
                    entry.let_go();
                    entry.stop_waiters.push(answer);
                }
            },
            Command::Restart(name, answer) => {
                if let Ok(entry) = self.entry(&name) {
                    entry.is_restarting = !entry.status.state.is_at_rest();
                }
                self.start(&name, answer);
            }
            Command::Check(answer) => {
                self.check_waiters.push(answer);
                self.check_all();
                self.answer_checks();
            }
            Command::Options(options) => {
                self.next_check = Instant::now() + options.check_every;
                self.options = options;
            }
            Command::Shutdown(answer) => {
                self.entries.iter_mut().for_each(Entry::let_go);
                self.shutdown.get_or_insert_default().push(answer);
            }
            Command::Stepped { name, step, outcome } => self.stepped(&name, step, outcome),
            Command::Checked { name, run, health } => self.checked(&name, run, health),
        }
    }

    fn entry(&mut self, name: &str) -> Result<&mut Entry, ServicesError> {
        let unknown = || ServicesError::Unknown(name.to_owned());
        self.entries.iter_mut().find(|entry| entry.status.name == name).ok_or_else(unknown)
    }

    fn register(&mut self, service: Arc<dyn Service>) -> Result<(), ServicesError> {
        let name = service.name().to_owned();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(ServicesError::Name(name));
        }
        if self.shutdown.is_some() {
            return Err(ServicesError::Ended);
        }
        if self.entry(&name).is_ok() {
            return Err(ServicesError::Taken(name));
        }
        if self.entries.len() >= self.options.services_max {
            return Err(ServicesError::TooMany { services_max: self.options.services_max });
        }
        let needs: Vec<String> = service.needs().iter().map(|&needs| needs.to_owned()).collect();
        // So there are no circles.
        if let Some(missing) = needs.iter().find(|needs| self.entry(needs).is_err()) {
            return Err(ServicesError::Missing { name, needs: missing.clone() });
        }
        let status = ServiceStatus {
            name,
            kind: service.kind().to_owned(),
            needs,
            state: ServiceState::Registered,
            health: Health::Healthy,
            history: VecDeque::new(),
            recoveries: 0,
            failure: None,
            since: SystemTime::now(),
        };
        self.entries.push(Entry::new(service, status));
        Ok(())
    }

    fn unregister(&mut self, name: &str, answer: Answer) {
        let by = self.needed_by(name);
        match self.entry(name) {
            Err(error) => drop(answer.send(Err(error))),
            Ok(_) if !by.is_empty() => drop(answer.send(Err(ServicesError::Needed { name: name.to_owned(), by }))),
            Ok(entry) => {
                entry.let_go();
                entry.is_leaving = true;
                entry.stop_waiters.push(answer);
            }
        }
    }

    fn needed_by(&self, name: &str) -> Vec<String> {
        let needing = self.entries.iter().filter(|entry| entry.status.needs.iter().any(|needs| needs == name));
        needing.map(|entry| entry.status.name.clone()).collect()
    }

    fn start(&mut self, name: &str, answer: Answer) {
        let ends = self.shutdown.is_some();
        match self.entry(name) {
            Err(error) => drop(answer.send(Err(error))),
            Ok(entry) if ends || entry.is_leaving => drop(answer.send(Err(ServicesError::Ended))),
            Ok(entry) => {
                entry.is_wanted = true;
                // Asked for by somebody: the count begins anew, and nothing is waited for.
                entry.status.recoveries = 0;
                entry.rests_until = None;
                if entry.status.state == ServiceState::Failed {
                    entry.status.state = ServiceState::Stopped;
                }
                entry.start_waiters.push(answer);
            }
        }
    }

    /// Takes the steps that can be taken now. Returns whether more can be taken then.
    fn reconcile(&mut self) -> bool {
        let (now, mut again) = (Instant::now(), false);
        // A rest that is over wakes nobody any more.
        self.entries.iter_mut().for_each(|entry| entry.rests_until = entry.rests_until.filter(|until| *until > now));
        // What is registered later needs only what is registered earlier: one pass forward says who may run,
        // one backward stops those first that nobody needs any more.
        let mut may_run: Vec<bool> = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let runs = entry.is_wanted && !entry.is_restarting && entry.status.state != ServiceState::Failed;
            may_run.push(runs && self.needs_of(entry).all(|(at, _)| may_run[at]));
        }
        for at in (0..self.entries.len()).rev() {
            if (!may_run[at] || !self.has_all_it_needs(at)) && !self.is_used(at) {
                again |= self.step_down(at);
            }
        }
        for (at, may_run) in may_run.into_iter().enumerate() {
            if may_run {
                self.step_up(at);
            } else {
                self.settle(at);
            }
        }
        self.entries.retain(|entry| {
            let leaves = entry.is_leaving && entry.status.state.is_at_rest();
            if leaves {
                (self.told)(ServiceChange::Unregistered { name: entry.status.name.clone() });
            }
            !leaves
        });
        again
    }

    /// What a service needs, each with its place. A service that others need cannot be forgotten.
    fn needs_of<'s>(&'s self, entry: &'s Entry) -> impl Iterator<Item = (usize, &'s Entry)> {
        self.entries.iter().enumerate().filter(|(_, other)| entry.status.needs.contains(&other.status.name))
    }

    fn has_all_it_needs(&self, at: usize) -> bool {
        self.needs_of(&self.entries[at]).all(|(_, needed)| needed.status.state == ServiceState::Running)
    }

    /// Whether one that needs it is not at rest.
    fn is_used(&self, at: usize) -> bool {
        let name = &self.entries[at].status.name;
        let mut needing = self.entries.iter().filter(|entry| entry.status.needs.contains(name));
        needing.any(|entry| {
            matches!(entry.status.state, ServiceState::Starting | ServiceState::Running | ServiceState::Stopping)
        })
    }

    /// Returns whether it may be started again now.
    fn step_down(&mut self, at: usize) -> bool {
        let entry = &mut self.entries[at];
        match entry.status.state {
            ServiceState::Running => self.step(at, Step::Stop),
            ServiceState::Waiting | ServiceState::Recovering if !entry.is_wanted || entry.is_restarting => {
                self.change(at, ServiceState::Stopped, None);
            }
            _ => {}
        }
        let entry = &mut self.entries[at];
        if !entry.status.state.is_at_rest() {
            return false;
        }
        self.answers.extend(entry.stop_waiters.drain(..).map(|answer| (answer, Ok(()))));
        mem::take(&mut entry.is_restarting)
    }

    fn step_up(&mut self, at: usize) {
        let has_all_it_needs = self.has_all_it_needs(at);
        let entry = &mut self.entries[at];
        let rests = entry.rests_until.is_some();
        match entry.status.state {
            ServiceState::Running => self.answers.extend(entry.start_waiters.drain(..).map(|answer| (answer, Ok(())))),
            ServiceState::Starting | ServiceState::Stopping => {}
            _ if rests => {}
            _ if has_all_it_needs => self.step(at, Step::Start),
            ServiceState::Waiting => {}
            _ => self.change(at, ServiceState::Waiting, None),
        }
    }

    /// One that is not to run: those who wait for it to run hear why it does not.
    fn settle(&mut self, at: usize) {
        let entry = &self.entries[at];
        if entry.start_waiters.is_empty() || entry.is_restarting || entry.is_stepping {
            return;
        }
        let name = entry.status.name.clone();
        let is_unwanted = |needed: &Entry| !needed.is_wanted || needed.status.state == ServiceState::Failed;
        let unwanted = self.needs_of(entry).find(|(_, needed)| is_unwanted(needed));
        let unwanted = unwanted.map(|(_, needed)| needed.status.name.clone());
        let why = if !entry.is_wanted {
            ServicesError::Stopped(name)
        } else if entry.status.state == ServiceState::Failed {
            let reason = entry.status.failure.clone().unwrap_or_default();
            ServicesError::Failed { name, reason }
        } else if let Some(needs) = unwanted {
            ServicesError::Waits { name, needs }
        } else {
            return;
        };
        let waiters = self.entries[at].start_waiters.drain(..);
        self.answers.extend(waiters.map(|answer| (answer, Err(why.clone()))));
    }

    fn change(&mut self, at: usize, to: ServiceState, reason: Option<String>) {
        let status = &mut self.entries[at].status;
        let from = mem::replace(&mut status.state, to);
        status.since = SystemTime::now();
        let name = status.name.clone();
        (self.told)(ServiceChange::State { name, from, to, reason });
    }

    /// Begins a start or a stop, in a task of its own: a service that hangs or panics holds nobody else.
    fn step(&mut self, at: usize, step: Step) {
        let to = match step {
            Step::Start => ServiceState::Starting,
            Step::Stop => ServiceState::Stopping,
        };
        self.change(at, to, None);
        let limit = self.options.step_timeout;
        let entry = &mut self.entries[at];
        entry.is_stepping = true;
        if step == Step::Start {
            entry.run += 1;
            entry.unhealthy = 0;
        }
        let service = Arc::clone(&entry.service);
        let name = entry.status.name.clone();
        let Some(commands) = self.commands.upgrade() else { return };
        tokio::spawn(async move {
            let work = tokio::spawn(async move {
                let work = match step {
                    Step::Start => service.start(),
                    Step::Stop => service.stop(),
                };
                timeout(limit, work).await
            });
            let outcome = match work.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(ServiceFailure::new(format!("it took longer than {limit:?}"))),
                Err(error) => Err(ServiceFailure::new(panic_text(error))),
            };
            drop(commands.send(Command::Stepped { name, step, outcome }));
        });
    }

    fn stepped(&mut self, name: &str, step: Step, outcome: Result<(), ServiceFailure>) {
        let Some(at) = self.entries.iter().position(|entry| entry.status.name == name) else { return };
        self.entries[at].is_stepping = false;
        match (step, outcome) {
            (Step::Start, Ok(())) => {
                self.set_health(at, Health::Healthy);
                self.change(at, ServiceState::Running, None);
            }
            (Step::Start, Err(failure)) => {
                let to = self.failed(at, failure.to_string());
                self.change(at, to, Some(failure.to_string()));
            }
            (Step::Stop, outcome) => {
                let reason = outcome.err().map(|failure| failure.to_string());
                if let Some(reason) = &reason {
                    self.entries[at].status.failure = Some(reason.clone());
                }
                let entry = &mut self.entries[at];
                entry.is_restarting = false;
                let to = entry.after_stop.take().unwrap_or(ServiceState::Stopped);
                self.change(at, to, reason);
            }
        }
    }

    /// It does not run as it should: says whether it is started again or given up, and counts.
    fn failed(&mut self, at: usize, reason: String) -> ServiceState {
        let options = &self.options;
        let entry = &mut self.entries[at];
        entry.status.failure = Some(reason.clone());
        let is_over = !options.recovery || entry.status.recoveries >= options.recovery_attempts_max;
        let to = if is_over {
            entry.rests_until = None;
            ServiceState::Failed
        } else {
            let doubled = options.backoff.saturating_mul(1 << entry.status.recoveries.min(16));
            entry.status.recoveries += 1;
            entry.rests_until = Some(Instant::now() + doubled.min(options.backoff_max));
            ServiceState::Recovering
        };
        self.set_health(at, Health::Unhealthy(reason));
        to
    }

    fn publish(&self) {
        let statuses = self.entries.iter().map(|entry| entry.status.clone()).collect();
        self.statuses.send_replace(Arc::new(statuses));
    }
}

impl Entry {
    /// Nobody wants it to run any more.
    fn let_go(&mut self) {
        self.is_wanted = false;
        self.rests_until = None;
        self.after_stop = None;
    }

    fn new(service: Arc<dyn Service>, status: ServiceStatus) -> Self {
        Self {
            service,
            status,
            is_wanted: false,
            is_restarting: false,
            is_leaving: false,
            is_stepping: false,
            run: 0,
            is_checking: false,
            unhealthy: 0,
            after_stop: None,
            rests_until: None,
            start_waiters: Vec::new(),
            stop_waiters: Vec::new(),
        }
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("it panicked: {}", text.unwrap_or_else(|| "without a text".to_owned()))
        }
        Err(_) => "its task was cancelled".to_owned(),
    }
}
