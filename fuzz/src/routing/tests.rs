//! What a bus has been through can be run again.

use super::past::{Past, series, written_down};

#[test]
fn a_series_holds_the_cases_of_one_bus_in_order() {
    let mut pasts = [Past::default(), Past::default()];
    for (bus, input) in [(0, "first"), (1, "elsewhere"), (0, ""), (0, "third")] {
        pasts[bus].begin(input.as_bytes());
        if input != "third" {
            pasts[bus].end();
        }
    }
    let written = written_down();
    let cases: Vec<_> = series(&written).expect("it says that it is one").collect();
    assert_eq!(cases, [&b"first"[..], b"", b"third"]);
    assert_eq!(pasts.map(|past| past.cases()), [2, 1]);
    super::check(&written);
}

#[test]
fn what_is_no_series_is_a_case() {
    assert!(series(b"cases on two buses:").is_none());
    assert_eq!(series(b"cases on one bus:\x05\0\0\0four").expect("it says that it is one").count(), 0);
}
