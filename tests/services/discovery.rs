//! Discovery: who registers is there for as long as its lease lasts, by the clock of whoever keeps the list.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use ringmain::EventId;
use ringmain::node::discovery::{Directory, DirectoryError, DirectoryLimits, Registration};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lease(number: u128) -> EventId {
    EventId::from_foreign("lease", &number.to_string())
}

fn registration(name: &str, address: &str, seconds: u64) -> Registration {
    Registration { name: name.to_owned(), address: address.to_owned(), health_path: None, lease: s(seconds) }
}

fn names(directory: &Directory, now: Duration) -> Vec<String> {
    directory.list(now).map(|one| format!("{} {}", one.registration.name, one.registration.address)).collect()
}

#[test]
fn a_lease_that_is_not_renewed_lapses() {
    let mut directory = Directory::new(DirectoryLimits::default());
    directory.register(s(0), lease(1), registration("a", "127.0.0.1:1", 10)).unwrap();
    directory.register(s(0), lease(2), registration("a", "127.0.0.1:2", 10)).unwrap();
    assert_eq!(directory.renew(s(6), lease(1)), Ok(s(16)));
    assert_eq!(directory.next_lapse(), Some(s(10)));
    assert_eq!(names(&directory, s(9)), ["a 127.0.0.1:1", "a 127.0.0.1:2"]);
    assert_eq!(names(&directory, s(10)), ["a 127.0.0.1:1"]);
    assert_eq!(
        directory.renew(s(10), lease(2)),
        Err(DirectoryError::Unknown(lease(2))),
        "too late, though nobody has looked"
    );
    let lapsed: Vec<_> = directory.lapsed(s(10)).into_iter().map(|one| one.registration.address).collect();
    assert_eq!(lapsed, ["127.0.0.1:2"]);
    assert!(directory.lapsed(s(15)).is_empty(), "once");
    assert_eq!(directory.unregister(s(15), lease(1)).unwrap().since, s(0));
    assert_eq!(directory.unregister(s(15), lease(1)), Err(DirectoryError::Unknown(lease(1))));
    assert_eq!(directory.next_lapse(), None);
}

#[test]
fn a_process_that_begins_anew_takes_its_own_place() {
    let limits = DirectoryLimits { instances_max: 1, ..DirectoryLimits::default() };
    let mut directory = Directory::new(limits);
    directory.register(s(0), lease(1), registration("a", "h:1", 10)).unwrap();
    directory.register(s(5), lease(2), registration("a", "h:1", 20)).unwrap();
    assert_eq!(directory.renew(s(6), lease(1)), Err(DirectoryError::Unknown(lease(1))), "its earlier life has no say");
    assert_eq!(directory.next_lapse(), Some(s(25)));
    let refused = directory.register(s(6), lease(3), registration("b", "h:1", 20));
    assert_eq!(refused, Err(DirectoryError::TooMany { instances_max: 1 }));
    directory.lapsed(s(25));
    directory.register(s(25), lease(3), registration("b", "h:1", 20)).unwrap();
}

#[test]
fn what_cannot_be_found_or_would_never_lapse_is_refused() {
    let mut directory = Directory::new(DirectoryLimits::default());
    let mut told = |registration| directory.register(s(0), lease(1), registration).unwrap_err().to_string();
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        assert!(told(registration(name, "h:1", 10)).contains("no name of a service"), "{name:?}");
    }
    for address in ["", "host", "host:", ":1", "h:0", "h:65536", "http://h:1", "u@h:1", "h:1\r\n", "h h:1"] {
        assert!(told(registration("a", address, 10)).contains("no host and port"), "{address:?}");
    }
    let with_path = |path: &str| Registration { health_path: Some(path.to_owned()), ..registration("a", "h:1", 10) };
    for path in ["health", "", "/a b", "/\r\nx: y"] {
        assert!(told(with_path(path)).contains("is no path"), "{path:?}");
    }
    assert!(told(registration("a", "h:1", 0)).contains("is not from 1s to 3600s"));
    assert!(told(registration("a", "h:1", 3_601)).contains("is not from 1s to 3600s"));
    directory.register(s(0), lease(1), with_path("/health/live?x=1")).unwrap();
    directory.register(s(0), lease(2), registration("b", "[::1]:9000", 10)).unwrap();
}

#[derive(Debug, Clone)]
enum Act {
    Register(u8, u64),
    Renew(u8),
    Unregister(u8),
    Forget,
    Wait(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Against a list that remembers nothing but when each lapses.
    #[test]
    fn who_is_listed_is_who_has_a_lease(acts in proptest::collection::vec(prop_oneof![
        (0..6_u8, 1..20_u64).prop_map(|(who, seconds)| Act::Register(who, seconds)),
        (0..40_u8).prop_map(Act::Renew),
        (0..40_u8).prop_map(Act::Unregister),
        Just(Act::Forget),
        (0..8_u64).prop_map(Act::Wait),
    ], 0..60)) {
        let mut directory = Directory::new(DirectoryLimits { instances_max: 4, ..DirectoryLimits::default() });
        let (mut now, mut leases) = (0, 0_u128);
        // By who: the lease, its length, and when it lapses.
        let mut naive: BTreeMap<u8, (u128, u64, u64)> = BTreeMap::new();
        let mut last = None;
        for act in acts {
            match act {
                Act::Register(who, seconds) => {
                    leases += 1;
                    last = Some(leases);
                    let registered = directory.register(s(now), lease(leases), registration("a", &format!("h:{}", who + 1), seconds));
                    let fits = naive.contains_key(&who) || naive.len() < 4;
                    prop_assert_eq!(registered.is_ok(), fits);
                    if fits {
                        naive.insert(who, (leases, seconds, now + seconds));
                    }
                }
                Act::Renew(back) | Act::Unregister(back) => {
                    let Some(id) = last.map(|last: u128| last.saturating_sub(u128::from(back))) else { continue };
                    let held = naive.iter().find(|(_, (known, _, lapses))| *known == id && now < *lapses).map(|(who, _)| *who);
                    if matches!(act, Act::Renew(_)) {
                        prop_assert_eq!(directory.renew(s(now), lease(id)).is_ok(), held.is_some());
                        if let Some((_, seconds, lapses)) = held.and_then(|who| naive.get_mut(&who)) {
                            *lapses = now + *seconds;
                        }
                    } else {
                        prop_assert_eq!(directory.unregister(s(now), lease(id)).is_ok(), held.is_some());
                        held.map(|who| naive.remove(&who));
                    }
                }
                Act::Forget => {
                    let lapsed = directory.lapsed(s(now)).len();
                    let before = naive.len();
                    naive.retain(|_, (_, _, lapses)| now < *lapses);
                    prop_assert_eq!(lapsed, before - naive.len());
                }
                Act::Wait(seconds) => now += seconds,
            }
            let holding = naive.iter().filter(|(_, (_, _, lapses))| now < *lapses);
            let expected: Vec<_> = holding.map(|(who, _)| format!("a h:{}", who + 1)).collect();
            prop_assert_eq!(names(&directory, s(now)), expected);
            prop_assert_eq!(directory.next_lapse(), naive.values().map(|(_, _, lapses)| s(*lapses)).min());
        }
    }
}
