//! What a run did, for people (a table) and for programs (one line of JSON).

use std::io::{self, Write};

use serde::Serialize;

use super::human::{grouped, nanoseconds};

/// The account of a run. The JSON names are the field names, in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Events that the bus accepted.
    pub published: u64,
    /// Lines that were no event.
    pub malformed: u64,
    /// Events that the bus did not accept.
    pub refused: u64,
    /// Published events that no subscription wanted.
    pub unmatched: u64,
    /// Deliveries that ended well; one event has one for each subscription that matched.
    pub delivered: u64,
    /// Deliveries whose handler failed for good.
    pub failed: u64,
    /// Further attempts after a first one.
    pub retried: u64,
    /// Deliveries that ended in the dead letters.
    pub dead_lettered: u64,
    /// Deliveries given up by an overflow policy, a deadline or a pause.
    pub dropped: u64,
    /// Deliveries not yet ended.
    pub in_flight: u64,
    /// Whether the ledger's equations hold.
    pub ledger_balanced: bool,
    /// Published events by the time from the first line to the last delivery; finite.
    pub events_per_second: f64,
    /// Nanoseconds from publish to the end of the delivery.
    pub latency_ns: Latencies,
}

/// Latencies by priority, and of all events together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latencies {
    /// Critical events.
    pub critical: Quantiles,
    /// High events.
    pub high: Quantiles,
    /// Normal events.
    pub normal: Quantiles,
    /// Low events.
    pub low: Quantiles,
    /// All events.
    pub all: Quantiles,
}

/// Points of one distribution, in nanoseconds; all 0 where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// 95 of 100 are at most this.
    pub p95: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1,000 are at most this.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl Summary {
    /// The summary as one line of JSON, with its line feed.
    pub fn to_json_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("numbers, booleans and fixed names always serialise");
        line.push('\n');
        line
    }

    /// Writes the summary as an aligned table.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let counts = [
            ("published", self.published, "delivered", self.delivered),
            ("malformed", self.malformed, "failed", self.failed),
            ("refused", self.refused, "retried", self.retried),
            ("unmatched", self.unmatched, "dead-lettered", self.dead_lettered),
        ];
        writeln!(out, "{:<24}    deliveries", "events")?;
        for (event, events, delivery, deliveries) in counts {
            writeln!(out, "  {event:<9} {:>13}      {delivery:<13} {:>13}", grouped(events), grouped(deliveries))?;
        }
        for (delivery, deliveries) in [("dropped", self.dropped), ("in flight", self.in_flight)] {
            writeln!(out, "{:<30} {delivery:<13} {:>13}", "", grouped(deliveries))?;
        }
        let ledger = if self.ledger_balanced { "balanced" } else { "NOT BALANCED" };
        writeln!(out, "\nledger   {ledger}\nrate     {} events/s", rate(self.events_per_second))?;

        writeln!(out, "\n{:<9}{:>9}{:>9}{:>9}{:>9}{:>9}", "latency", "p50", "p95", "p99", "p99.9", "max")?;
        let Latencies { critical, high, normal, low, all } = self.latency_ns;
        for (name, row) in [("critical", critical), ("high", high), ("normal", normal), ("low", low), ("all", all)] {
            write!(out, "{name:<9}")?;
            for ns in [row.p50, row.p95, row.p99, row.p999, row.max] {
                let cell = if row == Quantiles::default() { "-".to_owned() } else { nanoseconds(ns) };
                write!(out, "{cell:>9}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Whole events from 10 a second on, one decimal below.
fn rate(events_per_second: f64) -> String {
    if events_per_second < 10.0 {
        return format!("{events_per_second:.1}");
    }
    grouped(events_per_second.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quantiles(p50: u64) -> Quantiles {
        Quantiles { p50, p95: 2 * p50, p99: 3 * p50, p999: 4 * p50, max: 1_000 * p50 }
    }

    fn summary() -> Summary {
        Summary {
            published: 1_000_000,
            malformed: 2,
            refused: 3,
            unmatched: 4,
            delivered: 2_000_000,
            failed: 5,
            retried: 6,
            dead_lettered: 7,
            dropped: 8,
            in_flight: 9,
            ledger_balanced: true,
            events_per_second: 1_234_567.8,
            latency_ns: Latencies {
                critical: quantiles(850),
                high: quantiles(1_200),
                normal: quantiles(12_345),
                low: Quantiles::default(),
                all: quantiles(1_000_000),
            },
        }
    }

    #[test]
    fn the_json_line_has_exactly_the_promised_fields_in_order() {
        let line = summary().to_json_line();
        assert_eq!(
            line,
            concat!(
                r#"{"published":1000000,"malformed":2,"refused":3,"unmatched":4,"delivered":2000000,"failed":5,"#,
                r#""retried":6,"dead_lettered":7,"dropped":8,"in_flight":9,"ledger_balanced":true,"#,
                r#""events_per_second":1234567.8,"latency_ns":{"#,
                r#""critical":{"p50":850,"p95":1700,"p99":2550,"p999":3400,"max":850000},"#,
                r#""high":{"p50":1200,"p95":2400,"p99":3600,"p999":4800,"max":1200000},"#,
                r#""normal":{"p50":12345,"p95":24690,"p99":37035,"p999":49380,"max":12345000},"#,
                r#""low":{"p50":0,"p95":0,"p99":0,"p999":0,"max":0},"#,
                r#""all":{"p50":1000000,"p95":2000000,"p99":3000000,"p999":4000000,"max":1000000000}}}"#,
                "\n"
            )
        );
        let empty: Value = serde_json::from_str(&Summary::default().to_json_line()).expect("JSON");
        assert_eq!(empty["latency_ns"]["all"]["p999"], json!(0));
    }

    #[test]
    fn the_table_is_aligned_and_in_human_units() {
        let mut table = Vec::new();
        summary().write_table(&mut table).expect("a Vec takes every write");
        let table = String::from_utf8(table).expect("UTF-8");
        assert_eq!(
            table,
            "\
events                      deliveries
  published     1,000,000      delivered         2,000,000
  malformed             2      failed                    5
  refused               3      retried                   6
  unmatched             4      dead-lettered             7
                               dropped                   8
                               in flight                 9

ledger   balanced
rate     1,234,568 events/s

latency        p50      p95      p99    p99.9      max
critical    850 ns  1.70 µs  2.55 µs  3.40 µs   850 µs
high       1.20 µs  2.40 µs  3.60 µs  4.80 µs  1.20 ms
normal     12.3 µs  24.7 µs  37.0 µs  49.4 µs  12.3 ms
low              -        -        -        -        -
all        1.00 ms  2.00 ms  3.00 ms  4.00 ms   1.00 s
"
        );
    }

    #[test]
    fn an_unbalanced_ledger_is_loud_and_a_slow_run_has_a_decimal() {
        let summary = Summary { ledger_balanced: false, events_per_second: 0.34, ..summary() };
        let mut table = Vec::new();
        summary.write_table(&mut table).expect("a Vec takes every write");
        let table = String::from_utf8(table).expect("UTF-8");
        assert!(table.contains("ledger   NOT BALANCED\nrate     0.3 events/s\n"), "{table}");
    }
}
