//! Memory pressure as it ought to be: told when it begins and ends, and borne by what is Low alone.

use ringmain::Priority;

use crate::world::World;

/// Of a bus that has a share of its memory from which on there is pressure.
#[derive(Debug)]
pub(crate) struct Pressure {
    share: f64,
    pub(crate) is_on: bool,
    pub(crate) begun: u64,
    told: u64,
    /// Whether it was on when this step began, and how often it had changed by then.
    before: (bool, u64),
}

impl Pressure {
    pub(crate) fn new(share: f64) -> Self {
        Self { share, is_on: false, begun: 0, told: 0, before: (false, 0) }
    }

    /// Where it ends.
    fn end(&self) -> f64 {
        self.share * 7.0 / 8.0
    }

    pub(crate) fn step_begins(&mut self) {
        self.before = (self.is_on, self.told);
    }

    /// Whether a publish may be refused for it, with these figures.
    pub(crate) fn refuses(&self, fill_percent: u8, share_percent: u8) -> bool {
        let share = (self.share * 100.0).round() as u8;
        self.is_on && share_percent == share && fill_percent >= (self.end() * 100.0) as u8
    }
}

impl World {
    /// The bus says that memory is short, or is not any more.
    pub(crate) fn pressure_told(&mut self, begins: bool, fill: f64) {
        self.census.count(if begins { "memory pressure began" } else { "memory pressure ended" });
        self.note(format_args!("memory pressure {begins} at {fill}"));
        let right = self.pressure.as_mut().is_some_and(|pressure| {
            let was_on = std::mem::replace(&mut pressure.is_on, begins);
            pressure.told += 1;
            pressure.begun += u64::from(begins);
            was_on != begins && if begins { fill >= pressure.share } else { fill < pressure.end() }
        });
        if !right {
            self.broken(format!("memory pressure begins: {begins}, at {fill}, and was {:?}", self.pressure));
        }
    }

    /// An event was accepted: not one that is Low, while there is pressure all along.
    pub(crate) fn bears_pressure(&mut self, priority: Priority) {
        let lasts = |pressure: &Pressure| pressure.before == (true, pressure.told);
        if priority == Priority::Low && self.pressure.as_ref().is_some_and(lasts) {
            self.broken(format!("a Low event was accepted under {:?}", self.pressure));
        }
    }
}
