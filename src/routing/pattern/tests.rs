//! What the pattern grammar and its matcher promise.

use proptest::prelude::*;

use super::*;

pub(in crate::routing) fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

/// Valid patterns over few words, so that they often match.
pub(in crate::routing) fn patterns() -> impl Strategy<Value = Pattern> {
    let segment = prop::sample::select(vec!["a", "b", "*", "**"]);
    prop::collection::vec(segment, 1..7).prop_map(|parts| pattern(&parts.join(".")))
}

/// Names over the same words, and some that are no names of topics.
pub(in crate::routing) fn names() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "a", "a", "b", "b", "b", "", "*", "**", "é"]);
    prop::collection::vec(segment, 1..8).prop_map(|parts| parts.join("."))
}

/// The grammar said as a definition. Exponential.
fn naive(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], rest) => rest.is_empty(),
        (["**", behind @ ..], _) => naive(behind, name) || (!name.is_empty() && naive(pattern, &name[1..])),
        ([_, ..], []) => false,
        ([one, behind @ ..], [read, rest @ ..]) => (*one == "*" || one == read) && naive(behind, rest),
    }
}

fn visits(pattern: &Pattern, name: &str) -> usize {
    let mut visits = 0;
    pattern.walk(name, || visits += 1);
    visits
}

#[test]
fn each_wildcard_matches_what_the_grammar_says() {
    for (text, yes, no) in [
        ("orders.placed", vec!["orders.placed"], vec!["orders", "orders.placed.eu", "Orders.placed"]),
        ("task.*", vec!["task.created", "task."], vec!["task", "task.created.eu", "tasks.created"]),
        ("*.created", vec!["task.created"], vec!["created", "eu.task.created"]),
        ("*.*", vec!["a.b"], vec!["a", "a.b.c"]),
        ("*", vec!["a", "a.b", "a.b.c", ""], vec![]),
        ("**", vec!["a", "a.b", "a.b.c", ""], vec![]),
        ("**.**", vec!["a", "a.b", "a.b.c", ""], vec![]),
        ("a.**", vec!["a", "a.b", "a.b.c"], vec!["b", "b.a", "ab"]),
        ("**.a", vec!["a", "b.a", "a.a"], vec!["b", "a.b"]),
        ("a.**.b", vec!["a.b", "a.c.b", "a.b.b", "a.c.d.b"], vec!["a", "b", "a.b.c"]),
        ("**.*", vec!["a", "a.b"], vec![]),
        ("**.a.**", vec!["a", "b.a", "a.b", "b.a.b"], vec!["b", "b.c"]),
    ] {
        for name in yes {
            assert!(pattern(text).matches(name), "{text} should match {name:?}");
        }
        for name in no {
            assert!(!pattern(text).matches(name), "{text} should not match {name:?}");
        }
    }
}

#[test]
fn each_fault_is_named_with_its_place() {
    use PatternError::*;
    let partial = |segment: &str, offset| PartialWildcard { segment: segment.into(), offset };
    for (text, error) in [
        ("", Empty),
        (".", EmptySegment { offset: 0 }),
        (".a", EmptySegment { offset: 0 }),
        ("a..b", EmptySegment { offset: 2 }),
        ("a..é*", EmptySegment { offset: 2 }),
        ("ab.", EmptySegment { offset: 3 }),
        ("ord*", partial("ord*", 0)),
        ("a.*b.c", partial("*b", 2)),
        ("a.***", partial("***", 2)),
        ("a.b c", ForbiddenCharacter { character: ' ', offset: 3 }),
        ("a.é*", ForbiddenCharacter { character: 'é', offset: 2 }),
        ("a\n", ForbiddenCharacter { character: '\n', offset: 1 }),
    ] {
        assert_eq!(Pattern::new(text), Err(error), "{text:?}");
    }
    let message = Pattern::new("orders.pla*\n").unwrap_err().to_string();
    assert!(message.contains(r#""pla*\n" at byte 7"#), "{message}");
}

#[test]
fn a_segment_holds_ascii_letters_digits_underscore_and_dash() {
    for character in (0..=255).map(char::from).filter(|c| !".*".contains(*c)) {
        let allowed = character.is_ascii_alphanumeric() || "_-".contains(character);
        let text = format!("a{character}");
        assert_eq!(Pattern::new(&text).is_ok(), allowed, "{text:?}");
    }
}

#[test]
fn limits_hold_to_the_byte_and_to_the_segment() {
    let bytes = |count: usize| "a".repeat(count);
    assert!(Pattern::new(&bytes(1024)).is_ok());
    assert_eq!(Pattern::new(&bytes(1025)), Err(PatternError::TooLong { bytes: 1025, bytes_max: 1024 }));
    let segments = |count: usize| vec!["*"; count].join(".");
    assert!(Pattern::new(&segments(64)).is_ok());
    assert_eq!(Pattern::new(&segments(65)), Err(PatternError::TooManySegments { segments: 65, segments_max: 64 }));
}

#[test]
fn the_longest_pattern_uses_its_last_state() {
    for last in ["a", "*", "**"] {
        let text = [vec!["a"; 63], vec![last]].concat().join(".");
        assert!(pattern(&text).matches(&["a"; 64].join(".")), "{text}");
        assert_eq!(pattern(&text).matches(&["a"; 63].join(".")), last == "**", "{text}");
        assert_eq!(pattern(&text).matches(&["a"; 65].join(".")), last == "**", "{text}");
    }
}

#[test]
fn a_pattern_is_its_text() {
    let texts = ["*", "**", "**.**", "a", "a.*"];
    let distinct: std::collections::HashSet<Pattern> = texts.iter().map(|text| pattern(text)).collect();
    assert_eq!(distinct.len(), texts.len());
    for text in texts {
        let parsed: Pattern = text.parse().unwrap();
        assert!(distinct.contains(&parsed));
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.is_exact(), text == "a");
    }
}

#[test]
#[cfg_attr(miri, ignore = "counts more steps than Miri makes in minutes")]
fn hostile_patterns_cost_at_most_segments_times_states() {
    let cycle = |words: &[&str]| {
        let parts: Vec<&str> = words.iter().copied().cycle().take(64).collect();
        pattern(&parts.join("."))
    };
    let hostile = [
        cycle(&["a"]),
        cycle(&["*"]),
        cycle(&["**"]),
        cycle(&["**", "a"]),
        cycle(&["a", "**"]),
        cycle(&["**", "*"]),
        cycle(&["*", "**", "a"]),
        cycle(&["**", "a", "a"]),
        cycle(&["**", "a", "**", "b"]),
    ];
    // The last segment refuses most of them, after everything before it matched.
    let name_segments = 1_000;
    let name = ["a"; 999].join(".") + ".c";
    let mut costs: Vec<usize> = hostile.iter().map(|pattern| visits(pattern, &name)).collect();
    costs.sort_unstable();
    let (median, worst) = (costs[costs.len() / 2], costs[costs.len() - 1]);
    let states_max = Pattern::SEGMENTS_MAX + 1;
    assert!(worst <= name_segments * states_max, "{costs:?}");
    assert!(worst <= 10 * median, "{costs:?}");
    // They are hostile: the worst keeps nearly every state live to the end.
    assert!(worst > name_segments * (states_max - 3), "{costs:?}");
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_the_definition(pattern in patterns(), name in names()) {
        let text = if pattern.as_str() == "*" { "**" } else { pattern.as_str() };
        let parts: Vec<&str> = text.split('.').collect();
        let read: Vec<&str> = name.split('.').collect();
        prop_assert_eq!(pattern.matches(&name), naive(&parts, &read));
        prop_assert!(visits(&pattern, &name) <= read.len() * (parts.len() + 1));
    }

    #[test]
    fn an_exact_pattern_matches_its_own_text_only(name in "[ab]{1,2}(\\.[ab]{1,2}){0,3}", other in names()) {
        let exact = pattern(&name);
        prop_assert!(exact.is_exact() && exact.matches(&name));
        prop_assert_eq!(exact.matches(&other), name == other);
    }
}

#[test]
fn a_pattern_covers_what_matches_no_more_than_it_does() {
    for (one, covered, not) in [
        ("**", vec!["*", "a", "a.**", "**.a.*"], vec![]),
        ("*", vec!["**", "*.*", "a.b"], vec![]),
        ("*.**", vec!["**", "a"], vec![]),
        ("a.*", vec!["a.b", "a.*"], vec!["a.**", "*.b", "a", "a.b.c", "*"]),
        ("a.**", vec!["a", "a.*", "a.**.b", "a.b.*"], vec!["**", "*.a", "b"]),
        ("**.a", vec!["a", "b.a", "**.b.a", "a.**.a"], vec!["**.a.*", "a.**"]),
        ("**.a.**", vec!["*.a", "a.**", "**.a"], vec!["b", "*.b"]),
        ("*.*", vec!["a.*", "*.b"], vec!["*.**", "a"]),
    ] {
        for other in covered {
            assert!(pattern(one).covers(&pattern(other)), "{one} should cover {other}");
        }
        for other in not {
            assert!(!pattern(one).covers(&pattern(other)), "{one} should not cover {other}");
        }
    }
}

proptest! {
    /// What is covered matches nothing that is not matched; and what is not is shown by a name, of up to as many segments as both
    /// patterns have, one word among them that neither has.
    #[test]
    fn covering_is_what_the_names_say(one in patterns(), other in patterns(), name in names()) {
        if one.covers(&other) {
            prop_assert!(!other.matches(&name) || one.matches(&name), "{one} {other} {name}");
        } else {
            let mut names = vec![String::new()];
            let mut is_shown = false;
            // Two short patterns differ in a short name.
            for _ in 0..8 {
                let longer = |name: &String| ["a", "b", "x"].map(|word| format!("{name}.{word}"));
                names = names.iter().flat_map(longer).collect();
                is_shown |= names.iter().any(|name| other.matches(&name[1..]) && !one.matches(&name[1..]));
                if is_shown {
                    break;
                }
            }
            prop_assert!(is_shown || one.segments().len() + other.segments().len() > 8, "{one} {other}");
        }
    }
}
