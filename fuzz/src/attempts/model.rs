//! The model: a list of cells, the queue of each lane, the line of each key.

use std::collections::VecDeque;
use std::rc::Rc;

use ringmain::internals::ring::{Attempt, LANES};

use crate::ring::{Content, Held};

/// What due times are counted in.
pub(super) const TICK: u64 = 1 << 18;
/// Cells that the worker looks at together.
pub(super) const TOGETHER: usize = 64;
/// The longest wait.
const WAIT_MAX_NS: u64 = 10 * 24 * 3_600 * 1_000_000_000;

/// What a cell holds.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) content: Content,
    pub(super) _block: Option<Rc<Held>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Over,
    Queued,
    InHand,
    Waiting,
    HeldBack,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) state: State,
    /// A tick.
    pub(super) due: u64,
    event: Option<Rc<Event>>,
    failures: u8,
    takes: u16,
    holders: usize,
    began: u64,
    /// The line it stands in.
    line: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) cells: Vec<Cell>,
    pub(super) queues: [VecDeque<usize>; LANES],
    /// Of each bucket of keys; none where keys keep no order.
    lines: Vec<VecDeque<usize>>,
    /// Free cells: the last one is filled next.
    free: Vec<usize>,
    pub(super) overdue: u64,
    /// When the worker is to look again.
    pub(super) alarm: u64,
    /// When it is to look at each 64 cells, at the latest.
    bounds: Vec<u64>,
    /// Cells that came free.
    pub(super) freed: u64,
}

/// The first tick that begins no earlier than `due`.
fn tick_after(due: u64, now: u64) -> u64 {
    due.min(now.saturating_add(WAIT_MAX_NS)).div_ceil(TICK)
}

impl Model {
    pub(super) fn new(capacity: usize, is_keyed: bool) -> Self {
        let cell = |_| Cell {
            state: State::Over,
            due: 0,
            event: None,
            failures: 0,
            takes: 0,
            holders: 0,
            began: 0,
            line: None,
        };
        Self {
            cells: (0..capacity).map(cell).collect(),
            queues: Default::default(),
            lines: if is_keyed { vec![VecDeque::new(); 2 * capacity] } else { Vec::new() },
            free: (0..capacity).rev().collect(),
            overdue: 0,
            alarm: u64::MAX,
            bounds: vec![u64::MAX; capacity.div_ceil(TOGETHER)],
            freed: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn queued(&self) -> u64 {
        self.queues.iter().map(|queue| queue.len() as u64).sum()
    }

    fn count(&self, is_meant: impl Fn(State) -> bool) -> u64 {
        self.cells.iter().filter(|cell| is_meant(cell.state)).count() as u64
    }

    pub(super) fn in_hand(&self) -> u64 {
        self.count(|state| state == State::InHand)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.count(|state| matches!(state, State::Waiting | State::HeldBack))
    }

    fn look_at(&mut self, cell: usize, instant: u64) {
        let bound = &mut self.bounds[cell / TOGETHER];
        (*bound, self.alarm) = ((*bound).min(instant), self.alarm.min(instant));
    }

    fn enqueue(&mut self, cell: usize) {
        self.cells[cell].state = State::Queued;
        let lane = self.cells[cell].event.as_ref().expect("it holds an event").lane;
        self.queues[lane].push_back(cell);
    }

    pub(super) fn push(&mut self, event: Event, key: Option<u64>) -> bool {
        let Some(cell) = self.free.pop() else { return false };
        self.let_through(cell);
        let (state, due) = (State::Queued, 0);
        self.cells[cell] =
            Cell { state, due, event: Some(Rc::new(event)), failures: 0, takes: 0, holders: 0, began: 0, line: None };
        if let Some(key) = key.filter(|_| !self.lines.is_empty()) {
            // Keys are spread over the lines by their hash.
            let line = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.lines.len() - 1);
            self.cells[cell].line = Some(line);
            self.lines[line].push_back(cell);
            if self.lines[line].len() > 1 {
                self.cells[cell].state = State::HeldBack;
                return true;
            }
        }
        self.enqueue(cell);
        true
    }

    /// The event in `cell` is over: the next of its line that is held back is queued.
    fn let_through(&mut self, cell: usize) {
        let Some(line) = self.cells[cell].line.take() else { return };
        let place = self.lines[line].iter().position(|&other| other == cell).expect("a cell stands in its line");
        self.lines[line].remove(place);
        if let Some(&next) = self.lines[line].get(place) {
            if self.cells[next].state == State::HeldBack {
                assert_eq!(place, 0, "the first of a line is over first");
                self.enqueue(next);
            } else {
                self.let_through(next);
            }
        }
    }

    pub(super) fn take(&mut self, lane: usize, now: u64, due: u64) -> Option<usize> {
        let nth = self.queues[lane].pop_front()?;
        let tick = tick_after(due, now);
        let cell = &mut self.cells[nth];
        if cell.takes == 0 {
            cell.began = now;
        }
        (cell.state, cell.due) = (State::InHand, tick);
        cell.takes += 1;
        cell.holders += 1;
        self.look_at(nth, tick * TICK);
        Some(nth)
    }

    /// What an attempt that has just been taken says of itself. Returns its event and its number.
    pub(super) fn check_taken(&self, cell: usize, attempt: &Attempt) -> (Rc<Event>, u16) {
        let Cell { event, failures, takes, began, .. } = &self.cells[cell];
        let releases = takes - 1 - u16::from(*failures);
        let told = (attempt.failures(), attempt.takes(), attempt.releases(), attempt.began());
        assert_eq!(told, (*failures, *takes, releases, *began));
        (Rc::clone(event.as_ref().expect("it was queued")), *takes)
    }

    pub(super) fn is_current(&self, cell: usize, take: u16) -> bool {
        self.cells[cell].state == State::InHand && self.cells[cell].takes == take
    }

    /// A holder lets go of a cell.
    pub(super) fn leave(&mut self, nth: usize) {
        let cell = &mut self.cells[nth];
        cell.holders -= 1;
        if cell.state == State::Over && cell.holders == 0 {
            cell.event = None;
            self.free.push(nth);
            self.freed += 1;
        }
    }

    fn over(&mut self, cell: usize) {
        self.cells[cell].state = State::Over;
        if !self.lines.is_empty() {
            self.look_at(cell, 0);
        }
    }

    pub(super) fn end(&mut self, cell: usize, take: u16) -> bool {
        let ends = self.is_current(cell, take);
        if ends {
            self.over(cell);
        }
        self.leave(cell);
        ends
    }

    pub(super) fn follow(&mut self, cell: usize) {
        if self.cells[cell].state == State::Over {
            self.let_through(cell);
        }
    }

    pub(super) fn again(&mut self, nth: usize, take: u16, now: u64, due: u64, failed: bool) -> bool {
        let returns = self.is_current(nth, take);
        if returns {
            let tick = due.min(now.saturating_add(WAIT_MAX_NS)) / TICK;
            let cell = &mut self.cells[nth];
            (cell.state, cell.due) = (State::Waiting, tick);
            cell.failures += u8::from(failed);
            self.look_at(nth, tick * TICK);
        }
        self.leave(nth);
        returns
    }

    pub(super) fn extend(&mut self, cell: usize, take: u16, now: u64, due: u64) -> bool {
        let extends = self.is_current(cell, take);
        if extends {
            let tick = tick_after(due, now);
            self.cells[cell].due = tick;
            self.look_at(cell, tick * TICK);
        }
        extends
    }

    /// As the worker looks at the cells that may be due. Returns when to look again; those that are over go to `over`.
    pub(super) fn attend(&mut self, now: u64, max: u8, over: &mut Vec<(usize, u8, u16, u64, u64)>) -> u64 {
        let mut next_look = u64::MAX;
        for nth in 0..self.bounds.len() {
            let mut next = self.bounds[nth];
            if next <= now {
                self.bounds[nth] = u64::MAX;
                let cells = nth * TOGETHER..self.cells.len().min((nth + 1) * TOGETHER);
                next = cells.map(|cell| self.attend_to(cell, now, max, over)).min().unwrap_or(u64::MAX);
                self.bounds[nth] = self.bounds[nth].min(next);
            }
            next_look = next_look.min(next);
        }
        next_look
    }

    fn attend_to(&mut self, nth: usize, now: u64, max: u8, over: &mut Vec<(usize, u8, u16, u64, u64)>) -> u64 {
        let Cell { state, due, .. } = self.cells[nth];
        match state {
            State::Over => self.let_through(nth),
            State::Waiting | State::InHand if due > now / TICK => return due * TICK,
            State::Waiting => self.enqueue(nth),
            State::InHand => {
                let cell = &mut self.cells[nth];
                cell.failures += 1;
                if cell.failures < max {
                    let due = (now + u64::from(cell.failures) * TICK) / TICK;
                    (cell.state, cell.due) = (State::Waiting, due);
                    self.overdue += 1;
                    return due * TICK;
                }
                let event = cell.event.as_ref().expect("it is in hand");
                over.push((nth, cell.failures, cell.takes, cell.began, event.sequence));
                cell.holders += 1;
                self.over(nth);
                self.leave(nth);
            }
            State::Queued | State::HeldBack => {}
        }
        u64::MAX
    }

    /// The bus gives up what waits, because nobody will come for it.
    pub(super) fn discard(&mut self, attempt: &Attempt, all: bool) {
        let nth = attempt.cell();
        let cell = &mut self.cells[nth];
        assert!(cell.state == State::Waiting || all && cell.state == State::HeldBack, "{cell:?} was given up");
        let began = if cell.takes == 0 { 0 } else { cell.began };
        let told = (attempt.failures(), attempt.takes(), attempt.began());
        assert_eq!(told, (cell.failures, cell.takes, began));
        let (head, rest) = attempt.event().parts();
        assert!(cell.event.as_ref().is_some_and(|event| event.content.is(head, rest)), "{cell:?} is {head:?} {rest:?}");
        cell.state = State::Over;
        cell.holders += 1;
        self.leave(nth);
        if !self.lines.is_empty() {
            self.bounds[nth / TOGETHER] = 0;
        }
    }
}
