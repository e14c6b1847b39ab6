//! What waits for its time comes then, in whichever cell of a large mailbox it is.

use super::super::support::assert_settled;
use super::*;

#[test]
fn what_waits_in_any_cell_of_a_large_mailbox_comes_when_it_is_due() {
    const CELLS: u64 = 300;
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).capacity(CELLS as usize).mailbox().unwrap();
    // The nth cell comes again after so many milliseconds: early and late ones stand next to each other.
    let due = |nth: u64| 1 + nth * 7 % CELLS;
    for nth in 0..CELLS {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
        simulation.run();
        inbox.try_recv().unwrap().retry_after(Duration::from_millis(due(nth)));
    }
    let mut came = 0;
    for elapsed in 1..=CELLS + 1 {
        simulation.advance(MS);
        simulation.run();
        while let Ok(delivery) = inbox.try_recv() {
            let nth: u64 = delivery.payload().text().unwrap().parse().unwrap();
            let late = elapsed - due(nth);
            assert!(late <= 1, "the event of cell {nth} came {late} ms late");
            assert_eq!(delivery.meta().attempt(), 2);
            delivery.ack();
            came += 1;
        }
    }
    assert_eq!(came, CELLS);
    assert_settled(bus);
}
