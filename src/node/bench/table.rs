//! The report as people read it: machine, figures with their spread, recommended settings with their reasons.

use std::fmt::{self, Write};

use super::advice::per_second;
use super::figures::{Figure, NEAR_NS_MAX, Report, Spread, WAKE_UP, regime};
use super::questions::{Pace, Question, SAMPLE};
use crate::IdleStrategy;
use crate::node::human::{grouped, nanoseconds};

/// Columns of running text.
const WIDTH: usize = 100;
/// Others that keep less of a core busy are not worth a word.
const OTHERS_CORES_MIN: f64 = 0.2;
/// Latencies that p99.9 needs to be more than the largest.
const P999_EVENTS: u64 = 1_000;

/// The table, with its last line feed.
pub(super) fn table(report: &Report) -> String {
    let mut out = String::new();
    write_table(&mut out, report).expect("a String takes every write");
    out
}

fn write_table(out: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    let plural = if machine.cores == 1 { "" } else { "s" };
    let Report { seconds, .. } = report;
    let events: u64 = report.figures.iter().map(|figure| figure.events().1).sum();
    let pinned = match machine.seats {
        Some(seats) => format!("worker pinned to core {}, publisher to core {}", seats.worker.id, seats.publisher.id),
        None => "nothing is pinned".to_owned(),
    };
    writeln!(out, "machine   {}, {} core{plural}, {}; {pinned}", machine.processor, machine.cores, machine.system)?;
    writeln!(
        out,
        "run       ringmain {}, {} rounds of all questions in turn, {seconds:.1} s; {} events, all delivered",
        env!("CARGO_PKG_VERSION"),
        report.rounds(),
        grouped(events),
    )?;
    if let Some(others) = report.others_cores.filter(|&cores| cores >= OTHERS_CORES_MIN) {
        let busy = format!("others kept {others:.1} cores busy meanwhile: take the figures as soft, and p99 as theirs");
        wrapped(out, "          ", &busy)?;
    }
    wrapped(
        out,
        "reading   ",
        "medians of the rounds, in brackets the lowest and the highest round; p99.9 and max are of all rounds \
         together. On a machine that others share absolute times move from run to run, by twice and more: compare the \
         rows of one run.",
    )?;
    between_cores(out, report)?;
    for pace in Pace::ALL {
        latency(out, report, pace)?;
    }
    wake_up(out, report)?;
    throughput(out, report)?;
    if !report.advice.is_empty() {
        writeln!(out, "\nrecommended here")?;
        for advice in &report.advice {
            let line = format!("  {:<28}{:<34}{}", advice.setting, advice.value, advice.code);
            writeln!(out, "{}", line.trim_end())?;
            wrapped(out, "      ", &advice.reason)?;
        }
    }
    if !report.left_out.is_empty() {
        writeln!(out, "\nleft out")?;
        for left in &report.left_out {
            wrapped(out, &format!("  {:<34}", left.what), &left.reason)?;
        }
    }
    Ok(())
}

fn between_cores(out: &mut String, report: &Report) -> fmt::Result {
    let (Some(line), Some(event)) = (report.figure(Question::LineRoundTrip), report.figure(Question::EventRoundTrip))
    else {
        return Ok(());
    };
    let near = line.rounds().into_iter().filter(|&line_ns| line_ns < NEAR_NS_MAX).count();
    let median = line.spread().median;
    writeln!(out, "\n{:<26}{:>9}  rounds", "between the cores and back", "median")?;
    writeln!(
        out,
        "{}    {}: under {NEAR_NS_MAX:.0} ns in {near} of {} rounds",
        row("a cache line", line.spread()),
        regime(median),
        report.rounds()
    )?;
    writeln!(out, "{}    publish, handler, answer, mailbox", row("an event and its answer", event.spread()))
}

fn latency(out: &mut String, report: &Report, pace: Pace) -> fmt::Result {
    let rows = IdleStrategy::ALL.into_iter().map(|idle| (idle.to_string(), Question::Latency { idle, pace }));
    let unpinned =
        (pace == Pace::Brisk).then(|| (format!("{}, unpinned", IdleStrategy::default()), Question::Unpinned));
    let rows: Vec<_> =
        rows.chain(unpinned).filter_map(|(name, question)| Some((name, report.figure(question)?))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let publisher = if pace == Pace::Brisk { "a busy publisher" } else { "a publisher that sleeps" };
    writeln!(
        out,
        "\nlatency from publish to the end of the handler, {} events/s from {publisher}",
        grouped(pace.per_second().into())
    )?;
    writeln!(
        out,
        "  {:<24}{:>9}  {:<23}{:>9}{:>9}{:>9}{:>12}{:>14}",
        "idle strategy", "p50", "rounds", "p99", "p99.9", "max", "worker CPU", "publish call"
    )?;
    for (name, figure) in rows {
        let Some(latency) = figure.latency() else { continue };
        let p999 = match latency.len() {
            ..P999_EVENTS => "-".to_owned(),
            _ => nanoseconds(latency.value_at_quantile(0.999)),
        };
        let cpu = figure.worker_cpu().map_or("-".to_owned(), percent);
        let call = figure.publish_call().map_or("-".to_owned(), |call| ns(call.median));
        writeln!(
            out,
            "{}{:>9}{p999:>9}{:>9}{cpu:>12}{call:>14}",
            row(&name, figure.spread()),
            figure.p99().map_or_else(String::new, |p99| ns(p99.median)),
            nanoseconds(latency.max())
        )?;
    }
    Ok(())
}

fn wake_up(out: &mut String, report: &Report) -> fmt::Result {
    let Some(figure) = report.figure(WAKE_UP) else { return Ok(()) };
    writeln!(out, "\n{:<26}{:>9}  rounds", "waking a parked worker", "median")?;
    writeln!(out, "{}    publish to the end of the handler", row("the event is handled in", figure.spread()))?;
    if let Some(call) = figure.publish_call() {
        let awake = Question::Latency { idle: IdleStrategy::BusySpin, pace: Pace::Calm };
        let awake = report.figure(awake).and_then(Figure::publish_call);
        let awake = awake.map_or_else(String::new, |call| format!("; {} while it is awake", ns(call.median)));
        writeln!(out, "{}    what the publisher pays{awake}", row("the publish call takes", call))?;
    }
    for (name, cpu, of) in [
        ("worker's CPU", figure.worker_cpu(), "of a core, at 1,000 events/s"),
        ("process's CPU", figure.process_cpu(), "of a core, publisher and its waking included"),
    ] {
        let Some(cpu) = cpu else { continue };
        writeln!(out, "  {name:<24}{:>9}  {:<23}    {of}", percent(cpu), spread(cpu, |value| format!("{value:.1} %")))?;
    }
    Ok(())
}

fn throughput(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "\nthroughput, one publisher, one worker, 64-byte events")?;
    writeln!(out, "  {:<32}{:>13}  rounds", "", "median")?;
    for single in [false, true] {
        for sampled in [false, true] {
            let Some(figure) = report.figure(Question::Throughput { single, sampled }) else { continue };
            let form = if single { "single publisher" } else { "many publishers" };
            let stamps = if sampled { format!("1 in {SAMPLE}") } else { "every event".to_owned() };
            let rate = figure.spread();
            let name = format!("{form}, {stamps}");
            writeln!(out, "  {name:<32}{:>13}  {}", per_second(rate.median), spread(rate, per_second))?;
        }
    }
    writeln!(out, "  (what is stamped has its latency measured: every event, or 1 in {SAMPLE})")
}

/// A name, a median and its rounds, in nanoseconds.
fn row(name: &str, times: Spread) -> String {
    format!("  {name:<24}{:>9}  {:<23}", ns(times.median), spread(times, ns))
}

fn spread(values: Spread, text: impl Fn(f64) -> String) -> String {
    format!("({} to {})", text(values.low), text(values.high))
}

fn ns(value: f64) -> String {
    nanoseconds(value.round() as u64)
}

fn percent(cpu: Spread) -> String {
    format!("{:.1} %", cpu.median)
}

/// `text` in lines of [`WIDTH`], the first behind `head`, the others as far in.
fn wrapped(out: &mut String, head: &str, text: &str) -> fmt::Result {
    let margin = head.chars().count();
    let mut column = margin;
    out.push_str(head);
    for (at, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            write!(out, "\n{:margin$}", "")?;
            column = margin;
        } else if at > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bench::figures::tests::report;

    #[test]
    fn each_part_has_its_rows_with_units_and_spread() {
        let table = table(&report());
        let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "machine <P>, 2 cores, linux 6; worker pinned to core 0, publisher to core 1 run ringmain ",
            ", 3 rounds of all questions in turn, 3.0 s; 51,000 events, all delivered",
            "others kept 1.2 cores busy",
            "a cache line 120 ns (100 ns to 200 ns) near: under 220 ns in 3 of 3 rounds",
            "latency from publish to the end of the handler, 10,000 events/s",
            "adaptive, unpinned 120 ns (100 ns to 200 ns) 120 ns 200 ns 200 ns 1.5 % 12 ns",
            "the publish call takes 12 ns (10 ns to 20 ns) what the publisher pays; 12 ns while it is awake",
            "process's CPU 3.0 % (3.0 % to 3.0 %)",
            "single publisher, 1 in 64 120/s (100/s to 200/s)",
            "recommended here s v r",
            "left out cpu no books",
        ] {
            assert!(words.contains(part), "{part} is missing in\n{table}");
        }
        for idle in IdleStrategy::ALL {
            assert_eq!(table.matches(&format!("\n  {idle:<24}  ")).count(), 2, "{idle} at both paces");
        }
        assert!(table.lines().all(|line| line.trim_end() == line), "{table}");
    }

    #[test]
    fn what_was_not_asked_has_no_row_and_no_heading() {
        let mut report = report();
        report.figures.retain(|figure| matches!(figure.question, Question::Throughput { .. }));
        report.left_out.clear();
        let table = table(&report);
        for absent in ["cache line", "latency from", "waking", "left out"] {
            assert!(!table.contains(absent), "{table}");
        }
    }

    #[test]
    fn running_text_keeps_its_margin_and_its_width() {
        let mut out = String::new();
        wrapped(&mut out, "head  ", &"µword ".repeat(40)).unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert!(lines[0].starts_with("head  µword µword") && lines[1].starts_with("      µword"), "{out}");
        assert_eq!(out.matches("µword").count(), 40);
    }
}
