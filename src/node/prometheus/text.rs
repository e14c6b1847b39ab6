//! The text exposition format of Prometheus, 0.0.4.

use std::fmt::{self, Write as _};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of values up to bounds.
    Histogram,
    /// Quantiles.
    Summary,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A text of metrics under way, all of one namespace.
#[derive(Debug)]
pub struct Exposition {
    namespace: String,
    text: String,
    /// Whose samples are written.
    name: String,
}

impl Exposition {
    /// An empty one. What a name cannot have of the namespace becomes `_`.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: name_of(namespace), text: String::with_capacity(16 << 10), name: String::new() }
    }

    /// Begins a metric: its samples come next, all of them.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        self.name.clear();
        if !self.namespace.is_empty() {
            self.name.push_str(&self.namespace);
            self.name.push('_');
        }
        self.name.push_str(name);
        let (text, name) = (&mut self.text, &self.name);
        put(
            text,
            format_args!("# HELP {name} {}\n# TYPE {name} {}\n", Escaped { text: help, quotes: false }, kind.word()),
        );
    }

    /// A sample of the metric.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.part("", labels, value);
    }

    /// A count of the metric.
    pub fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        // Counts are below 2^53 for a few hundred years.
        self.sample(labels, value as f64);
    }

    /// A sample whose name goes on: `_bucket`, `_sum`, `_count`.
    pub fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let (text, name) = (&mut self.text, &self.name);
        text.push_str(name);
        text.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            text.push(if at == 0 { '{' } else { ',' });
            put(text, format_args!("{label}=\"{}\"", Escaped { text: value, quotes: true }));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        put(text, format_args!(" {}\n", Number(value)));
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes every write");
}

/// What can stand in a name.
fn name_of(text: &str) -> String {
    let plain = |(at, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '_' => c,
        '0'..='9' if at > 0 => c,
        _ => '_',
    };
    text.chars().enumerate().map(plain).collect()
}

/// A text with a backslash before what would end it.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quotes => f.write_str("\\\"")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A value, as the format writes what is no number.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_as_the_format_says() {
        let mut out = Exposition::new("my-app");
        out.metric("things_total", Kind::Counter, "What \\ and\nso on.");
        out.sample(&[], 3.0);
        out.sample(&[("kind", "a\"b\\c\nd"), ("other", "")], 0.25);
        out.metric("wait_seconds", Kind::Histogram, "A \"wait\".");
        out.part("_bucket", &[("le", "+Inf")], f64::INFINITY);
        out.part("_sum", &[], f64::NAN);
        assert_eq!(
            out.finish(),
            "# HELP my_app_things_total What \\\\ and\\nso on.\n# TYPE my_app_things_total counter\n\
             my_app_things_total 3\nmy_app_things_total{kind=\"a\\\"b\\\\c\\nd\",other=\"\"} 0.25\n\
             # HELP my_app_wait_seconds A \"wait\".\n# TYPE my_app_wait_seconds histogram\n\
             my_app_wait_seconds_bucket{le=\"+Inf\"} +Inf\nmy_app_wait_seconds_sum NaN\n"
        );
        assert_eq!(name_of("9a.é"), "_a__");
    }

    /// What a reader of the format makes of a label's value.
    fn unescaped(text: &str) -> Option<String> {
        let mut read = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            read.push(match c {
                '\\' => match chars.next()? {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                },
                '"' | '\n' => return None,
                c => c,
            });
        }
        Some(read)
    }

    proptest! {
        #[test]
        fn every_label_is_read_back_and_ends_where_it_ends(value in any::<String>(), other in "[\\\\\"\n,={} ]{0,12}") {
            let mut out = Exposition::new("");
            out.metric("a", Kind::Gauge, "A.");
            out.sample(&[("one", &value), ("two", &other)], 1.0);
            let text = out.finish();
            let line = text.strip_prefix("# HELP a A.\n# TYPE a gauge\na{one=\"").and_then(|rest| rest.strip_suffix("\"} 1\n"));
            let line = line.expect("the frame is as it is");
            prop_assert!(!line.contains('\n'));
            // The first quote that no backslash stands before.
            let mut is_escaped = false;
            let end = line.find(|c| {
                let ends = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends
            }).expect("it ends");
            prop_assert_eq!(unescaped(&line[..end]), Some(value));
            let rest = line[end..].strip_prefix("\",two=\"").expect("the next label");
            prop_assert_eq!(unescaped(rest), Some(other));
        }
    }
}
