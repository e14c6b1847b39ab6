//! Draws latency percentiles as SVG: one panel a question and regime, a curve a row, both axes logarithmic.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::questions::Question;
use crate::rounds::Figures;

const WIDTH: f64 = 1_120.0;
const LEFT: f64 = 80.0;
const LEGEND: f64 = 390.0;
const TOP: f64 = 50.0;
const PLOT_HEIGHT: f64 = 380.0;
const PANEL_HEIGHT: f64 = 480.0;
/// Share of events beyond the last tick: 99.999 %.
const RAREST: f64 = 1e-5;
/// Points of a curve.
const POINTS: u32 = 120;

/// All panels, or nothing if no figures hold latencies.
pub(crate) fn svg(figures: &[Figures], machine: &str) -> Option<String> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for each in figures {
        let Some(latency) = each.latency.as_ref().filter(|latency| !latency.is_empty()) else {
            continue;
        };
        let title = format!("{}, {}", title(each.question), each.regime.name());
        let curve = (format!("{} {}", each.subject.name, each.class), latency);
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.curves.push(curve),
            None => panels.push(Panel { title, curves: vec![curve] }),
        }
    }
    if panels.is_empty() {
        return None;
    }
    let height = 30.0 + PANEL_HEIGHT * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\">{}</text>\n",
        escape(machine),
    );
    for (number, panel) in panels.iter().enumerate() {
        let top = 30.0 + PANEL_HEIGHT * number as f64;
        line(&mut svg, format_args!("<g transform=\"translate(0 {top})\">"));
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn title(question: Question) -> String {
    let what = match question {
        Question::Pingpong => "whole round trip",
        Question::CriticalFlood => "Critical events",
        Question::CriticalFloodDispatch => "one call of the handler",
        _ => "one way",
    };
    format!("{}: {what}", question.name())
}

struct Panel<'a> {
    title: String,
    curves: Vec<(String, &'a Histogram<u64>)>,
}

impl Panel<'_> {
    fn draw(&self, svg: &mut String) {
        let lowest = self.curves.iter().map(|(_, latency)| latency.min().max(1)).min().unwrap_or(1);
        let highest = self.curves.iter().map(|(_, latency)| latency.max()).max().unwrap_or(10);
        let (low, high) = ((lowest as f64).log10().floor(), (highest as f64).log10().ceil());
        let decades = (high - low).max(1.0);
        let right = WIDTH - LEGEND;
        let x = |share_beyond: f64| LEFT + (right - LEFT) * share_beyond.log10() / RAREST.log10();
        let y = |nanos: f64| TOP + PLOT_HEIGHT * (1.0 - (nanos.max(1.0).log10() - low) / decades);

        line(svg, format_args!("<text x=\"{LEFT}\" y=\"34\" font-size=\"15\">{}</text>", escape(&self.title)));
        for decade in 0..=decades as i32 {
            let nanos = 10f64.powf(low + f64::from(decade));
            let at = y(nanos);
            line(svg, format_args!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>"));
            line(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    at + 4.0,
                    duration(nanos)
                ),
            );
        }
        let bottom = TOP + PLOT_HEIGHT;
        for (share, label) in
            [(1.0, "0"), (0.5, "50"), (0.1, "90"), (1e-2, "99"), (1e-3, "99.9"), (1e-4, "99.99"), (RAREST, "99.999")]
        {
            let at = x(share);
            line(svg, format_args!("<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>"));
            line(
                svg,
                format_args!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label} %</text>", bottom + 18.0),
            );
        }
        for (number, (label, latency)) in self.curves.iter().enumerate() {
            // Hues a golden angle apart stay apart however many there are; every other curve is dashed.
            let hue = number as f64 * 137.508 % 360.0;
            let dash = if number % 2 == 0 { "" } else { " stroke-dasharray=\"6 3\"" };
            let rarest = (1.0 / latency.len() as f64).max(RAREST);
            let path = (0..=POINTS)
                .map(|point| rarest.powf(f64::from(point) / f64::from(POINTS)))
                .map(|share| format!("{:.1} {:.1}", x(share), y(latency.value_at_quantile(1.0 - share) as f64)))
                .collect::<Vec<_>>()
                .join("L");
            let style = format!("fill=\"none\" stroke=\"hsl({hue:.0} 70% 42%)\" stroke-width=\"1.5\"{dash}");
            let (key, text) = (TOP + 16.0 * number as f64, right + 40.0);
            line(svg, format_args!("<path d=\"M{path}\" {style}/>"));
            line(svg, format_args!("<path d=\"M{} {key}H{}\" {style}/>", right + 10.0, right + 34.0));
            line(svg, format_args!("<text x=\"{text}\" y=\"{}\" font-size=\"11\">{}</text>", key + 4.0, escape(label)));
        }
    }
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(svg, "{text}").expect("a String takes any text");
}

fn duration(nanos: f64) -> String {
    match nanos {
        nanos if nanos >= 1e9 => format!("{} s", nanos / 1e9),
        nanos if nanos >= 1e6 => format!("{} ms", nanos / 1e6),
        nanos if nanos >= 1e3 => format!("{} µs", nanos / 1e3),
        nanos => format!("{nanos} ns"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
