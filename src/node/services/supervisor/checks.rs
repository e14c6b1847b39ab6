//! How services are: asked in rounds, and what follows from what they say.

use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::timeout;

use super::super::super::health::Health;
use super::super::state::{HealthRecord, ServiceChange, ServiceState};
use super::{Command, Supervisor, panic_text};

impl Supervisor {
    /// Asks all that run how they are.
    pub(super) fn check_all(&mut self) {
        let limit = self.options.check_timeout;
        for entry in &mut self.entries {
            if entry.status.state != ServiceState::Running || entry.is_checking {
                continue;
            }
            let Some(commands) = self.commands.upgrade() else { return };
            entry.is_checking = true;
            self.checks_missing += 1;
            let (service, name, run) = (Arc::clone(&entry.service), entry.status.name.clone(), entry.run);
            tokio::spawn(async move {
                let work = tokio::spawn(async move { timeout(limit, service.health()).await });
                let health = match work.await {
                    Ok(Ok(health)) => health,
                    Ok(Err(_)) => Health::Unhealthy(format!("it did not say how it is within {limit:?}")),
                    Err(error) => Health::Unhealthy(panic_text(error)),
                };
                drop(commands.send(Command::Checked { name, run, health }));
            });
        }
    }

    pub(super) fn checked(&mut self, name: &str, run: u64, health: Health) {
        self.checks_missing -= 1;
        if let Some(at) = self.entries.iter().position(|entry| entry.status.name == name) {
            self.note_health(at, run, health);
        }
        self.answer_checks();
    }

    fn note_health(&mut self, at: usize, run: u64, health: Health) {
        let history_max = self.options.history_max;
        let unhealthy_max = self.options.unhealthy_max;
        let entry = &mut self.entries[at];
        entry.is_checking = false;
        // Of an earlier run, or of one that is being stopped.
        if entry.run != run || entry.status.state != ServiceState::Running {
            return;
        }
        let history = &mut entry.status.history;
        history.push_back(HealthRecord { at: SystemTime::now(), health: health.clone() });
        while history.len() > history_max {
            history.pop_front();
        }
        match &health {
            Health::Healthy => (entry.unhealthy, entry.status.recoveries) = (0, 0),
            Health::Degraded(_) => entry.unhealthy = 0,
            Health::Unhealthy(_) => entry.unhealthy += 1,
        }
        let is_over = entry.unhealthy >= unhealthy_max;
        self.set_health(at, health.clone());
        if is_over && self.options.recovery && self.entries[at].after_stop.is_none() {
            let to = self.failed(at, health.reason().unwrap_or_default().to_owned());
            // It is stopped once nobody needs it any more.
            let entry = &mut self.entries[at];
            entry.is_restarting = true;
            entry.after_stop = Some(to);
        }
    }

    pub(super) fn answer_checks(&mut self) {
        if self.checks_missing == 0 {
            self.answers.extend(self.check_waiters.drain(..).map(|answer| (answer, Ok(()))));
        }
    }

    pub(super) fn set_health(&mut self, at: usize, to: Health) {
        let status = &mut self.entries[at].status;
        if status.health.word() == to.word() {
            status.health = to;
            return;
        }
        let from = mem::replace(&mut status.health, to.clone());
        let name = status.name.clone();
        (self.told)(ServiceChange::Health { name, from, to });
    }
}
