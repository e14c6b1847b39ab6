//! Which alerts there are.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::rule::{AlertRule, Condition, Facts, Severity};

/// Counts of dead letters that are kept of the time of a condition.
const COUNTS: u32 = 100;

/// Where an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// Its condition holds, not for long enough.
    Pending,
    /// It was raised, and is not over.
    Firing,
    /// It is over.
    Resolved,
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        })
    }
}

/// An alert that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alert {
    /// The rule.
    pub rule: String,
    /// Of what: a service, a subscription, a lane.
    pub subject: String,
    /// Pending or firing.
    pub state: AlertState,
    /// Since when it is that, by the clock of whoever looks.
    pub since: Duration,
    /// How it was when its condition held last.
    pub value: String,
    /// How urgent it is.
    pub severity: Severity,
    /// Since when its condition does not hold, while it is firing.
    ok_since: Option<Duration>,
}

/// That an alert was raised or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertChange {
    /// When, by the clock of whoever looks.
    pub at: Duration,
    /// The rule.
    pub rule: String,
    /// Of what.
    pub subject: String,
    /// Firing or resolved.
    pub state: AlertState,
    /// How it was when its condition held last.
    pub value: String,
    /// How urgent it is.
    pub severity: Severity,
}

/// `critical: deep firing for high: 85 % full`.
impl fmt::Display for AlertChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, rule, state, subject, value, .. } = self;
        write!(f, "{severity}: {rule} {state} for {subject}: {value}")
    }
}

/// Which alerts there are, by rule and subject. Bounded.
#[derive(Debug)]
pub struct AlertBook {
    rules: Vec<Kept>,
    alerts: BTreeMap<(String, String), Alert>,
    alerts_max: usize,
    untracked: u64,
}

/// A rule, and what it has to remember.
#[derive(Debug)]
struct Kept {
    rule: AlertRule,
    /// Dead letters, ever, at past looks; the oldest is as old as the time of the condition, or older.
    letters: VecDeque<(Duration, u64)>,
}

impl AlertBook {
    /// Without alerts; at most `alerts_max` at a time, beyond which new ones are only counted. Of rules of one name the first counts.
    pub fn new(rules: Vec<AlertRule>, alerts_max: usize) -> Self {
        let rules = Kept::all(rules);
        Self { rules, alerts: BTreeMap::new(), alerts_max, untracked: 0 }
    }

    /// Alerts that are not over.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Alerts for which there was no room at the last look.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Goes by other rules. Alerts of a rule that stays as it is stay; those of others are over.
    pub fn set_rules(&mut self, now: Duration, rules: Vec<AlertRule>) -> Vec<AlertChange> {
        let mut before = std::mem::take(&mut self.rules);
        self.rules = Kept::all(rules);
        for kept in &mut self.rules {
            if let Some(same) = before.iter_mut().find(|before| before.rule == kept.rule) {
                kept.letters = std::mem::take(&mut same.letters);
            }
        }
        let stays = |id: &str| {
            let rule = self.rules.iter().find(|kept| kept.rule.id == id);
            rule.is_some_and(|kept| before.iter().any(|before| before.rule == kept.rule))
        };
        let alerts = std::mem::take(&mut self.alerts).into_iter();
        let (stay, over): (_, BTreeMap<_, _>) = alerts.partition(|((id, _), _)| stays(id));
        self.alerts = stay;
        let raised = over.into_values().filter(|alert| alert.state == AlertState::Firing);
        raised.map(|alert| alert.change(now, AlertState::Resolved)).collect()
    }

    /// Looks at what is known now. Returns what was raised and what is over, in the order of the rules.
    pub fn look(&mut self, now: Duration, facts: &Facts) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        self.untracked = 0;
        for kept in &mut self.rules {
            let new_letters = kept.new_letters(now, facts.dead_letters);
            let rule = &kept.rule;
            let mut breaching = facts.breaching(&rule.condition, new_letters);
            let of_rule = (rule.id.clone(), String::new())..;
            let known = self.alerts.range_mut(of_rule).take_while(|((id, _), _)| *id == rule.id);
            let mut over = Vec::new();
            for (key, alert) in known {
                let value = breaching.remove(&alert.subject);
                match alert.go_on(rule, now, value) {
                    Next::Stays => {}
                    Next::Fires => changes.push(alert.change(now, AlertState::Firing)),
                    Next::Passes => over.push(key.clone()),
                    Next::Resolves => {
                        changes.push(alert.change(now, AlertState::Resolved));
                        over.push(key.clone());
                    }
                }
            }
            for key in over {
                self.alerts.remove(&key);
            }
            for (subject, value) in breaching {
                if self.alerts.len() >= self.alerts_max {
                    self.untracked += 1;
                    continue;
                }
                let mut alert = Alert::new(rule, subject, now, value);
                if rule.lasts.is_zero() {
                    alert.state = AlertState::Firing;
                    changes.push(alert.change(now, AlertState::Firing));
                }
                self.alerts.insert((rule.id.clone(), alert.subject.clone()), alert);
            }
        }
        changes
    }
}

/// What becomes of an alert.
enum Next {
    Stays,
    Fires,
    /// Over without having been raised.
    Passes,
    Resolves,
}

impl Kept {
    fn all(rules: Vec<AlertRule>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for rule in rules {
            if !all.iter().any(|kept| kept.rule.id == rule.id) {
                all.push(Self { rule, letters: VecDeque::new() });
            }
        }
        all
    }

    /// Dead letters that came in the time of the condition, or since the first look if that is later.
    fn new_letters(&mut self, now: Duration, total: u64) -> u64 {
        let Condition::DeadLetters { within, .. } = self.rule.condition else { return 0 };
        let is_old = |(at, _): &(Duration, u64)| *at + within <= now;
        while self.letters.get(1).is_some_and(is_old) {
            self.letters.pop_front();
        }
        if self.letters.back().is_none_or(|(at, _)| *at + within / COUNTS <= now) {
            self.letters.push_back((now, total));
        }
        total.saturating_sub(self.letters.front().map_or(total, |(_, total)| *total))
    }
}

impl Alert {
    fn new(rule: &AlertRule, subject: String, now: Duration, value: String) -> Self {
        let (rule, severity) = (rule.id.clone(), rule.severity);
        Self { rule, subject, state: AlertState::Pending, since: now, value, severity, ok_since: None }
    }

    /// What becomes of it when its condition holds, with this value, or does not.
    fn go_on(&mut self, rule: &AlertRule, now: Duration, value: Option<String>) -> Next {
        let holds = value.is_some();
        self.value = value.unwrap_or_else(|| std::mem::take(&mut self.value));
        match (self.state, holds) {
            (AlertState::Pending, false) => Next::Passes,
            (AlertState::Pending, true) if self.since + rule.lasts <= now => {
                (self.state, self.since) = (AlertState::Firing, now);
                Next::Fires
            }
            (AlertState::Pending, true) => Next::Stays,
            (_, true) => {
                self.ok_since = None;
                Next::Stays
            }
            (_, false) => {
                let is_over = *self.ok_since.get_or_insert(now) + rule.resolves_after <= now;
                if is_over { Next::Resolves } else { Next::Stays }
            }
        }
    }

    fn change(&self, at: Duration, state: AlertState) -> AlertChange {
        let Self { rule, subject, value, severity, .. } = self.clone();
        AlertChange { at, rule, subject, state, value, severity }
    }
}
