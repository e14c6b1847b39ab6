//! A soak over time as SVG: resident memory, latency and rate, one above the other.

use std::fmt::Write;

use crate::soak::Sample;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 930.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 50.0;
const TOP: f64 = 70.0;

const STYLE: &str = "text { font: 12px system-ui, sans-serif; fill: #222 } .back { fill: #fff } .grid { stroke: #ddd }
.title { font-size: 17px; font-weight: 600 } .line { fill: none; stroke-width: 2 } .a { stroke: #0072b2 }
.b { stroke: #c26a00; stroke-dasharray: 9 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6e6e6 } .back { fill: #16181d } .grid { stroke: #34373d }
.a { stroke: #56b4e9 } .b { stroke: #e69f00 } }";

/// A figure of a sample, its class, and its unit's name.
type Figure = fn(&Sample) -> f64;

pub(crate) fn svg(samples: &[Sample], peak: f64) -> String {
    let panels: [(&str, &[(Figure, &str)]); 3] = [
        ("resident memory, MB", &[(|one| one.resident_bytes as f64 / 1e6, "a")]),
        (
            "latency, µs: p50, and p99 dashed",
            &[(|one| one.p50_ns as f64 / 1e3, "a"), (|one| one.p99_ns as f64 / 1e3, "b")],
        ),
        ("events a second, thousands", &[(|one| one.rate / 1e3, "a")]),
    ];
    let height = TOP + 3.0 * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>ringmain: a soak over time</title>\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"30\">Half of the peak of {:.0} thousand events a second</text>\n",
        peak / 1e3
    );
    let end = samples.last().map_or(1.0, |last| last.seconds);
    for (nth, (name, figures)) in panels.into_iter().enumerate() {
        let top = TOP + nth as f64 * (PANEL + GAP);
        let values = || figures.iter().flat_map(|(figure, _)| samples.iter().map(figure));
        let most = values().fold(f64::MIN_POSITIVE, f64::max);
        let mut line = |text: String| writeln!(out, "{text}").expect("a String takes every write");
        line(format!("<text x=\"{LEFT}\" y=\"{}\">{name}</text>", top - 8.0));
        for share in [0.0, 0.5, 1.0] {
            let y = top + PANEL * (1.0 - share);
            line(format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y}\" y2=\"{y}\"/>"));
            line(format!("<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{:.4}</text>", LEFT - 6.0, most * share));
        }
        for (figure, class) in figures {
            let points: Vec<_> = samples
                .iter()
                .map(|one| {
                    let x = LEFT + (RIGHT - LEFT) * one.seconds / end;
                    format!("{x:.1},{:.1}", top + PANEL * (1.0 - figure(one) / most))
                })
                .collect();
            line(format!("<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" ")));
        }
    }
    let foot = height - 12.0;
    write!(out, "<text x=\"{RIGHT}\" y=\"{foot}\" text-anchor=\"end\">{end:.0} seconds</text>\n</svg>\n")
        .expect("a String takes every write");
    out
}

#[test]
fn a_plot_has_a_point_for_every_sample() {
    let sample = |at: u64| Sample {
        seconds: at as f64,
        resident_bytes: at << 20,
        descriptors: 9,
        asked: 0,
        events: at,
        rate: 1.0,
        p50_ns: 5,
        p99_ns: 50 * at,
    };
    let drawn = svg(&[sample(1), sample(2), sample(3)], 2_000.0);
    assert_eq!(drawn.matches("<polyline").count(), 4);
    assert!(drawn.contains("p50") && drawn.ends_with("</svg>\n"));
    let points = drawn.split("points=\"").skip(1).map(|line| line.split('"').next().unwrap().split(' ').count());
    assert!(points.into_iter().all(|points| points == 3));
}
