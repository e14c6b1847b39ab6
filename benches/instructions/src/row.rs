//! One operation's counts beside its baseline, as a line of the table or as JSON.

use serde_json::json;

use crate::baseline::{Toolchain, Verdict, change_percent};
use crate::callgrind;
use crate::operations::Operation;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) operation: &'static Operation,
    /// Of two runs with different seeds.
    pub(crate) counts: [f64; 2],
    pub(crate) baseline: Option<f64>,
}

impl Row {
    pub(crate) fn measure(operation: &'static Operation, baseline: Option<f64>) -> Result<Self, String> {
        Ok(Self { operation, counts: [callgrind::count(operation, 1)?, callgrind::count(operation, 2)?], baseline })
    }

    /// Instructions of one operation.
    pub(crate) fn count(&self) -> f64 {
        self.counts[0].min(self.counts[1])
    }

    /// How far the two counts are apart.
    pub(crate) fn spread_percent(&self) -> f64 {
        (self.counts[0] - self.counts[1]).abs() / self.count() * 100.0
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::of(self.count(), self.baseline)
    }

    fn change_percent(&self) -> Option<f64> {
        self.baseline.map(|baseline| change_percent(self.count(), baseline))
    }

    pub(crate) fn head() -> String {
        format!("{:<18} {:>12} {:>10} {:>9}   what it is", "operation", "instructions", "baseline", "change")
    }

    pub(crate) fn line(&self) -> String {
        let Operation { name, what, .. } = self.operation;
        let baseline = self.baseline.map_or_else(|| "-".to_owned(), |baseline| format!("{baseline:.1}"));
        let change = self.change_percent().map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
        format!("{name:<18} {:>12.1} {baseline:>10} {change:>9}   {what}", self.count())
    }

    /// `judged` says whether the baseline is of `toolchain` too.
    pub(crate) fn json(&self, toolchain: &Toolchain, judged: bool) -> String {
        json!({
            "operation": self.operation.name,
            "instructions": self.count(),
            "spread_percent": self.spread_percent(),
            "baseline": self.baseline,
            "change_percent": self.change_percent(),
            "verdict": self.verdict().as_str(),
            "judged": judged,
            "compiler": toolchain.compiler,
            "target": toolchain.target,
        })
        .to_string()
    }
}
