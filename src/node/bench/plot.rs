//! Latency percentiles by idle strategy as SVG: a panel a pace, a line a strategy, both axes logarithmic.

use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io::{self, Seek, Write as _};
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::figures::Report;
use super::questions::{Pace, Question};
use crate::IdleStrategy;
use crate::node::human::grouped;

/// The file of a plot that is yet to be drawn. What was in it stays until then; one that was made for it goes if it is
/// never drawn.
#[derive(Debug)]
pub(super) struct PlotFile {
    path: PathBuf,
    file: File,
    is_new: bool,
}

impl PlotFile {
    /// Makes sure that `path` can be written.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn reserve(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { path: path.to_owned(), file, is_new })
    }

    /// Replaces what is in the file.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn write(mut self, svg: &str) -> io::Result<()> {
        self.is_new = false;
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(svg.as_bytes())
    }
}

impl Drop for PlotFile {
    fn drop(&mut self) {
        if self.is_new {
            // An empty file left behind is no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 536.0;
const TOP: f64 = 112.0;
const BOTTOM: f64 = 452.0;
const LEFT: f64 = 76.0;
const PANEL_WIDTH: f64 = 410.0;
const PANEL_GAP: f64 = 36.0;
/// Points of a line.
const POINTS: u32 = 150;
/// Percentiles with a tick, and the share of events beyond each.
const TICKS: [(&str, f64); 6] =
    [("0", 1.0), ("50", 0.5), ("90", 0.1), ("99", 0.01), ("99.9", 0.001), ("99.99", 0.0001)];

/// Colours that people with any colour vision tell apart, each with a dash of its own, on light and on dark.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #222 }
.back { fill: #fff } .grid { stroke: #ddd } .frame { stroke: #888; fill: none } .quiet { fill: #666 }
.title { font-size: 17px; font-weight: 600 } .panel { font-size: 13px; font-weight: 600 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.s0 { stroke: #0072b2 } .s1 { stroke: #c26a00; stroke-dasharray: 9 3 } .s2 { stroke: #00805c; stroke-dasharray: 2 3 }
.s3 { stroke: #b0478c; stroke-dasharray: 10 3 2 3 } .s4 { stroke: #111; stroke-width: 2.6 }
@media (prefers-color-scheme: dark) {
text { fill: #e6e6e6 } .back { fill: #16181d } .grid { stroke: #34373d } .frame { stroke: #888 } .quiet { fill: #a5a5a5 }
.s0 { stroke: #56b4e9 } .s1 { stroke: #e69f00 } .s2 { stroke: #2ecc9b } .s3 { stroke: #e58cc4 } .s4 { stroke: #fff }
}";

/// The figures of `report` as one SVG document.
pub(super) fn svg(report: &Report) -> String {
    let mut out = String::new();
    draw(&mut out, report).expect("a String takes every write");
    out
}

fn draw(out: &mut String, report: &Report) -> fmt::Result {
    let panels = Pace::ALL.map(|pace| (pace, curves(report, pace)));
    let all = || panels.iter().flat_map(|(_, curves)| curves);
    let low = all().map(|(_, latency)| latency.min()).min().unwrap_or(1);
    let high = all().map(|(_, latency)| latency.max()).max().unwrap_or(1);
    let scale = Scale::new(low, high);
    let machine = &report.machine;
    let pinned = if machine.seats.is_some() { "pinned" } else { "not pinned" };
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>ringmain: latency percentiles by idle strategy</title>\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"30\">Latency percentiles by idle strategy</text>\n\
         <text class=\"quiet\" x=\"{LEFT}\" y=\"50\">ringmain {} on {}, {} cores, {pinned}; {} rounds of each</text>",
        env!("CARGO_PKG_VERSION"),
        escape(&machine.processor),
        machine.cores,
        report.rounds(),
    )?;
    legend(out, &panels[0].1)?;
    for (nth, (pace, curves)) in panels.iter().enumerate() {
        let left = LEFT + (PANEL_WIDTH + PANEL_GAP) * nth as f64;
        panel(out, left, *pace, curves, &scale, nth == 0)?;
    }
    let middle = TOP.midpoint(BOTTOM);
    writeln!(
        out,
        "<text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">latency, publish to the end of \
         the handler</text>\n\
         <text class=\"quiet\" x=\"{LEFT}\" y=\"{}\">Steps to milliseconds are other programs, or the host, on the same \
         core. Both axes are logarithmic.</text>\n</svg>",
        HEIGHT - 16.0
    )
}

/// The strategies that were measured at one pace, by their place among all.
fn curves(report: &Report, pace: Pace) -> Vec<(usize, Histogram<u64>)> {
    let latency = |idle| report.figure(Question::Latency { idle, pace })?.latency();
    let curves = IdleStrategy::ALL.into_iter().enumerate().filter_map(|(place, idle)| Some((place, latency(idle)?)));
    curves.filter(|(_, latency)| !latency.is_empty()).collect()
}

fn legend(out: &mut String, curves: &[(usize, Histogram<u64>)]) -> fmt::Result {
    writeln!(out, "<g class=\"legend\">")?;
    for (nth, (place, _)) in curves.iter().enumerate() {
        let (x, idle) = (LEFT + 120.0 * nth as f64, IdleStrategy::ALL[*place]);
        let note = if idle == IdleStrategy::default() { " (default)" } else { "" };
        writeln!(
            out,
            "<path class=\"line s{place}\" d=\"M{x} 72h30\"/><text x=\"{}\" y=\"76\">{idle}{note}</text>",
            x + 37.0
        )?;
    }
    writeln!(out, "</g>")
}

fn panel(
    out: &mut String,
    left: f64,
    pace: Pace,
    curves: &[(usize, Histogram<u64>)],
    scale: &Scale,
    is_first: bool,
) -> fmt::Result {
    let right = left + PANEL_WIDTH;
    let per_second = grouped(pace.per_second().into());
    let x = |share_beyond: f64| left + PANEL_WIDTH * share_beyond.log10() / TICKS[5].1.log10();
    writeln!(
        out,
        "<g class=\"pace\"><text class=\"panel\" x=\"{left}\" y=\"{}\">{per_second} events/s</text>",
        TOP - 9.0
    )?;
    for (label, share) in TICKS {
        let at = x(share);
        writeln!(
            out,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">\
             {label}</text>",
            BOTTOM + 18.0
        )?;
    }
    for decade in scale.decades() {
        let at = scale.y(decade);
        writeln!(out, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>")?;
        if is_first {
            let (x, y) = (left - 7.0, at + 4.0);
            writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", duration(decade))?;
        }
    }
    writeln!(
        out,
        "<rect class=\"frame\" x=\"{left}\" y=\"{TOP}\" width=\"{PANEL_WIDTH}\" height=\"{}\"/>",
        BOTTOM - TOP
    )?;
    let middle = left + PANEL_WIDTH / 2.0;
    writeln!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">percentile, % of events</text>",
        BOTTOM + 40.0
    )?;
    for (place, latency) in curves {
        // A line ends at its last event but one: beyond, there is nothing to tell percentiles apart.
        let rarest = (1.0 / latency.len() as f64).clamp(TICKS[5].1, 1.0);
        write!(out, "<path class=\"line s{place}\" data-idle=\"{}\" d=\"", IdleStrategy::ALL[*place])?;
        for point in 0..=POINTS {
            let share = rarest.powf(f64::from(point) / f64::from(POINTS));
            let y = scale.y(latency.value_at_quantile(1.0 - share) as f64);
            write!(out, "{}{:.1} {y:.1}", if point == 0 { 'M' } else { 'L' }, x(share))?;
        }
        writeln!(out, "\"/>")?;
    }
    writeln!(out, "</g>")
}

/// Nanoseconds to heights, over whole decades.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    fn new(low_ns: u64, high_ns: u64) -> Self {
        let low = (low_ns.max(1) as f64).log10().floor() as i32;
        let high = (high_ns.max(1) as f64).log10().ceil() as i32;
        Self { low, high: high.max(low + 1) }
    }

    fn y(&self, ns: f64) -> f64 {
        let share = (ns.max(1.0).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        BOTTOM - (BOTTOM - TOP) * share
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|decade| 10f64.powi(decade))
    }
}

/// A power of ten as people write it.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{} µs", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bench::figures::tests::report;

    #[test]
    fn heights_span_whole_decades_from_bottom_to_top() {
        let scale = Scale::new(240, 31_000_000);
        assert_eq!((scale.y(100.0), scale.y(1e8)), (BOTTOM, TOP));
        assert!(scale.y(1e4) < scale.y(1e3), "longer is higher");
        assert_eq!(
            scale.decades().map(duration).collect::<Vec<_>>(),
            ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"]
        );
        let flat = Scale::new(1, 1);
        assert_eq!((flat.y(1.0), flat.y(10.0)), (BOTTOM, TOP), "one value has a decade as well");
    }

    #[test]
    fn each_pace_has_a_panel_with_a_line_a_strategy() {
        let svg = svg(&report());
        assert_eq!(svg.matches("<g class=\"pace\">").count(), 2);
        for (place, idle) in IdleStrategy::ALL.into_iter().enumerate() {
            let line = format!("<path class=\"line s{place}\" data-idle=\"{idle}\" d=\"M76.0 452.0");
            assert_eq!(svg.matches(&line).count(), 1, "{idle}, from 100 ns at the 0th percentile, on the left: {svg}");
            assert!(STYLE.matches(&format!(".s{place} {{")).count() == 2, "a colour on light and one on dark");
        }
        assert!(svg.contains("on &lt;P&gt;, 2 cores, pinned; 3 rounds of each"), "{svg}");
    }

    #[test]
    fn a_file_keeps_its_content_until_it_is_drawn_and_a_new_one_goes_if_it_never_is() {
        let path = std::env::temp_dir().join(format!("ringmain-plot-{}", std::process::id()));
        drop(PlotFile::reserve(&path).expect("the directory is there"));
        assert!(!path.exists());
        fs::write(&path, "before").expect("the directory is there");
        drop(PlotFile::reserve(&path).expect("it may be written"));
        assert_eq!(fs::read_to_string(&path).expect("it is kept"), "before");
        PlotFile::reserve(&path).expect("it may be written").write("new").expect("it may be written");
        assert_eq!(fs::read_to_string(&path).expect("it is written"), "new");
        fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn a_machine_may_be_called_anything() {
        assert_eq!(escape("<A & B>"), "&lt;A &amp; B&gt;");
    }
}
