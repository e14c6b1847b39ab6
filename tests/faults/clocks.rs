//! A real wall clock that is set back and forth, and stands still: libfaketime gives the process another one.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringmain::{Bus, Payload};

use crate::another_clock::{set, under_another_clock};
use crate::support::assert_settled;

const THIS: &str = "clocks::a_wall_clock_that_is_stepped_or_frozen_changes_no_behaviour";
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(40);
const HOUR: Duration = Duration::from_secs(3_600);
/// By what the wall clock is off, as libfaketime reads it; and about how many seconds that is, where it does not stand still.
const STEPS: [(&str, Option<i64>); 6] = [
    ("+0", Some(0)),
    ("-1h", Some(-3_600)),
    ("+3650d", Some(3_650 * 86_400)),
    ("2016-12-31 23:59:60", None),
    ("-3650d", Some(-3_650 * 86_400)),
    ("+0", Some(0)),
];

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn a_wall_clock_that_is_stepped_or_frozen_changes_no_behaviour() {
    under_another_clock(THIS, "+0", &[], steps);
}

fn steps(file: &Path) {
    let right = unix_seconds();
    let begun = Instant::now();
    let bus = Bus::builder().workers(2).pin(false).build().unwrap();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let mut silent = bus.subscribe("never").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut last = [0; 8];
    let mut accepted = 0;
    for (step, off) in STEPS {
        set(file, step);
        if let Some(off) = off {
            let found = unix_seconds() - right - begun.elapsed().as_secs() as i64;
            assert!((found - off).abs() < 60, "{step}: the wall clock is off by {found} s, or this test shows nothing");
        } else {
            let stood = SystemTime::now();
            assert!(silent.recv_deadline(SHORT).is_err());
            assert_eq!(SystemTime::now(), stood, "it stands still, or this test shows nothing");
        }
        // What is to be later is not earlier, and not after a step's time.
        let asked = Instant::now();
        let later = publisher.event().not_before(SHORT).expires_after(HOUR);
        later.publish("a", Payload::raw(b"later")).unwrap();
        let delivery = inbox.recv_deadline(PATIENCE).unwrap();
        assert!((SHORT..PATIENCE).contains(&asked.elapsed()), "{step}: scheduled, {:?}", asked.elapsed());
        delivery.ack();
        // A wait takes its time.
        let asked = Instant::now();
        assert!(silent.recv_deadline(SHORT).is_err());
        assert!((SHORT..PATIENCE).contains(&asked.elapsed()), "{step}: a wait, {:?}", asked.elapsed());
        accepted += 1;
        // Ids go on, nothing expires, and what is displayed follows the wall clock after a while.
        loop {
            // Of a publisher that is new, too.
            let mut fresh = bus.publisher().unwrap();
            fresh.event().expires_after(HOUR).publish("a", Payload::raw(b"now")).unwrap();
            accepted += 1;
            let delivery = inbox.recv_deadline(PATIENCE).unwrap();
            let meta = delivery.meta();
            // The time in an id; what is behind it is random.
            let time: [u8; 8] = meta.id().as_bytes()[..8].try_into().unwrap();
            assert!(last <= time, "{step}: ids go back");
            last = time;
            let shown = (meta.unix_ns() / 1_000_000_000) as i64;
            delivery.ack();
            if (shown - unix_seconds()).abs() < 600 {
                break;
            }
            assert!(asked.elapsed() < PATIENCE, "{step}: {shown} is shown, it is {}", unix_seconds());
            std::thread::yield_now();
        }
    }
    assert_settled(&bus);
    let ledger = bus.ledger();
    assert_eq!((ledger.accepted, ledger.subscriptions.delivered), (accepted, accepted));
    assert!(bus.shutdown().unwrap().is_clean());
}
