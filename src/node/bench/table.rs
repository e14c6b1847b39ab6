//! The report as people read it: machine, figures with their spread, recommended settings with their reasons.

use std::fmt::{self, Write};

use super::advice::per_second;
use super::figures::{Figure, NEAR_NS_MAX, Report, Spread, WAKE_UP, regime};
use super::questions::{Pace, Question, SAMPLE};
use crate::IdleStrategy;
use crate::node::human::{grouped, nanoseconds};

/// Columns of running text.
const WIDTH: usize = 100;
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
    let (published, delivered) =
        report.figures.iter().map(Figure::events).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let pinned = match machine.seats {
        Some(seats) => format!("worker pinned to core {}, publisher to core {}", seats.worker.id, seats.publisher.id),
        None => "nothing is pinned".to_owned(),
    };
    let arrived = if published == delivered { "all delivered" } else { "NOT ALL DELIVERED" };
    writeln!(out, "machine   {}, {} core{plural}, {}; {pinned}", machine.processor, machine.cores, machine.system)?;
    writeln!(
        out,
        "run       ringmain {}, {} rounds of all questions in turn, {seconds:.1} s; {} events, {arrived}",
        env!("CARGO_PKG_VERSION"),
        report.rounds(),
        grouped(published),
    )?;
    wrapped(
        out,
        "reading   ",
        "medians of the rounds, in brackets the lowest and the highest round; p99 and beyond are of all rounds \
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
            writeln!(out, "  {:<26}{:<34}{}", advice.setting, advice.value, advice.code)?;
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
    for (name, question) in rows.chain(unpinned) {
        let Some(figure) = report.figure(question) else { continue };
        let Some(latency) = figure.latency() else { continue };
        let at = |quantile| nanoseconds(latency.value_at_quantile(quantile));
        let p999 = if latency.len() < P999_EVENTS { "-".to_owned() } else { at(0.999) };
        let cpu = figure.worker_cpu().map_or("-".to_owned(), percent);
        let call = figure.publish_call().map_or("-".to_owned(), |call| ns(call.median));
        writeln!(
            out,
            "{}{:>9}{p999:>9}{:>9}{cpu:>12}{call:>14}",
            row(&name, figure.spread()),
            at(0.99),
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
        writeln!(out, "{}    what the publisher pays", row("the publish call takes", call))?;
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
    writeln!(out, "  {:<24}{:>16}  rounds", "", "median")?;
    for single in [false, true] {
        for sampled in [false, true] {
            let Some(figure) = report.figure(Question::Throughput { single, sampled }) else { continue };
            let form = if single { "single publisher" } else { "many publishers" };
            let stamps = if sampled { format!("1 in {SAMPLE}") } else { "every event".to_owned() };
            let rate = figure.spread();
            let name = format!("{form}, {stamps}");
            writeln!(out, "  {name:<29}{:>11}  {}", per_second(rate.median), spread(rate, per_second))?;
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
