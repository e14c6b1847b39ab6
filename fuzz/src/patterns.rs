//! Patterns against an oracle: what parses, what an error claims, and what matches.

use arbitrary::{Arbitrary, Unstructured};
use ringmain::{Pattern, PatternError};

/// Segments that texts are made of, the likely ones more than once.
const WORDS: [&str; 16] =
    ["a", "a", "a", "b", "b", "*", "*", "*", "**", "**", "**", "**", "Az_-09", "twenty-letters-long_", "a", "b"];

/// Segments that no pattern may have.
const FAULTS: [&str; 6] = ["", "a*", "**b", "***", "a b", "é"];

/// Reads a pattern and some names from `data` and compares the parser and the matcher with definitions of their own.
///
/// # Panics
///
/// If they disagree.
pub fn check(data: &[u8]) {
    // Too few bytes for a case are no case.
    let _ = run(&mut Unstructured::new(data));
}

fn run(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let text = draw_text(bytes)?;
    let pattern = match Pattern::new(&text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(!is_pattern(&text), "{text:?} was refused: {error}");
            check_error(&text, &error);
            return Ok(());
        }
    };
    assert!(is_pattern(&text), "{text:?} was accepted");
    assert_eq!(pattern.as_str(), text);
    assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern));
    assert_eq!(pattern.is_exact(), !text.contains('*'));

    for _ in 0..bytes.int_in_range(1..=4)? {
        let name = draw_text(bytes)?;
        assert_eq!(pattern.matches(&name), is_match(&text, &name), "{text:?} on {name:?}");
    }
    let name = instance(&text, bytes)?;
    assert!(pattern.matches(&name), "{text:?} on its instance {name:?}");
    assert!(is_match(&text, &name), "the oracle: {text:?} on its instance {name:?}");
    Ok(())
}

/// A pattern or a name: a few segments repeated, as in hostile nests, and a few more; or any string at all.
fn draw_text(bytes: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    if !bytes.ratio(7, 8)? {
        return Ok(<&str>::arbitrary(bytes)?.to_owned());
    }
    let times = if bytes.ratio(7, 8)? { 1 } else { bytes.int_in_range(1..=66)? };
    let repeated = bytes.int_in_range(1..=4)?;
    let segments = words(repeated, bytes)?.repeat(times);
    let more = bytes.int_in_range(0..=8)?;
    Ok([segments, words(more, bytes)?].concat().join("."))
}

fn words(count: usize, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<&'static str>> {
    (0..count)
        .map(|_| {
            let words = if bytes.ratio(63, 64)? { &WORDS[..] } else { &FAULTS[..] };
            bytes.choose(words).copied()
        })
        .collect()
}

/// A name that `pattern` matches: each wildcard is replaced by segments.
fn instance(pattern: &str, bytes: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    let mut segments = Vec::new();
    for segment in pattern.split('.') {
        let times = match segment {
            "*" if pattern != "*" => 1,
            "*" | "**" => bytes.int_in_range(0..=3)?,
            literal => {
                segments.push(literal);
                0
            }
        };
        for _ in 0..times {
            segments.push(*bytes.choose(&WORDS)?);
        }
    }
    Ok(segments.join("."))
}

/// The grammar, said as one condition.
fn is_pattern(text: &str) -> bool {
    text.len() <= 1024
        && text.matches('.').count() < 64
        && text
            .split('.')
            .all(|segment| ["*", "**"].contains(&segment) || (!segment.is_empty() && segment.chars().all(is_plain)))
}

fn is_plain(character: char) -> bool {
    matches!(character, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-')
}

/// The error must say what is wrong with `text`, and where.
fn check_error(text: &str, error: &PatternError) {
    let segments_of_text = text.split('.').count();
    let is_true = match error {
        PatternError::Empty => text.is_empty(),
        PatternError::TooLong { bytes, bytes_max } => *bytes == text.len() && *bytes_max == 1024 && bytes > bytes_max,
        PatternError::TooManySegments { segments, segments_max } => {
            *segments == segments_of_text && *segments_max == 64 && segments > segments_max
        }
        PatternError::EmptySegment { offset } => {
            let (before, behind) = text.split_at(*offset);
            (before.is_empty() || before.ends_with('.')) && (behind.is_empty() || behind.starts_with('.'))
        }
        PatternError::PartialWildcard { segment, offset } => {
            let found = text[*offset..].split('.').next();
            found == Some(segment) && segment.contains('*') && !["*", "**"].contains(&&**segment)
        }
        PatternError::ForbiddenCharacter { character, offset } => {
            text[*offset..].starts_with(*character) && !is_plain(*character)
        }
        unknown => panic!("the oracle does not know {unknown:?}"),
    };
    assert!(is_true, "{text:?} was refused for the wrong reason: {error:?}");
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "a message to log: {message:?}");
}

/// Whether `pattern` matches `name`, by a table of prefixes, filled pattern segment by pattern segment.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let pattern = if pattern == "*" { "**" } else { pattern };
    let name: Vec<&str> = name.split('.').collect();
    // At `n`: the pattern read so far matches the first `n` segments of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for segment in pattern.split('.') {
        if segment == "**" {
            let first = reached.iter().position(|&reached| reached);
            reached[first.unwrap_or(name.len() + 1)..].fill(true);
        } else {
            for n in (0..name.len()).rev() {
                reached[n + 1] = reached[n] && (segment == "*" || segment == name[n]);
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}
