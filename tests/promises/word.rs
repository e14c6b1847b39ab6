//! Whose word about an event counts, and from when: of async handlers, and of whoever holds a delivery of a mailbox.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, DeliveryMode, Payload, RetryPolicy, Settled};

use super::support::{Log, assert_books, assert_settled};

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn the_word_of_an_async_handler_counts_when_it_is_said_whatever_it_has_started() {
    let modes = [DeliveryMode::BestEffort, DeliveryMode::Reliable { timeout: TIMEOUT }, DeliveryMode::LatestOnly];
    for mode in modes {
        let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
        let bus = simulation.bus();
        let (calls, left) = (Log::new(), Log::new());
        let (seen, tasks) = (calls.clone(), left.clone());
        let running = bus.subscribe("a").mode(mode).run(async move |delivery| {
            seen.add(delivery.meta().attempt());
            // A task that goes on when the handler has ended: what it needs of the event is its own.
            let text = delivery.payload().text().map(str::to_owned);
            tasks.add(Box::pin(async move { text }) as std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send>>);
        });
        let mut running = pin!(running.unwrap());
        bus.publish("a", Payload::plain_text("x")).unwrap();
        simulation.run();
        let mut context = Context::from_waker(Waker::noop());
        assert!(running.as_mut().poll(&mut context).is_pending());
        assert_settled(bus);
        assert_eq!(bus.ledger().subscriptions.delivered, 1, "{mode:?}");
        for _ in 0..10 {
            simulation.advance(TIMEOUT);
            simulation.run();
            assert!(running.as_mut().poll(&mut context).is_pending());
        }
        let mut task = left.take().remove(0);
        assert_eq!(task.as_mut().poll(&mut context), Poll::Ready(Some("x".to_owned())));
        let ledger = bus.ledger().subscriptions;
        assert_eq!((calls.take(), ledger.delivered, ledger.open()), (vec![1], 1, 0), "{mode:?}");
        assert_eq!((ledger.retried, ledger.timed_out, ledger.dead_lettered), (0, 0, 0), "{mode:?}");
    }
}

#[test]
fn who_is_to_answer_later_holds_a_delivery_of_a_mailbox_and_one_that_dies_with_it_has_it_tried_again() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let retry = RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO);
    let mut inbox =
        bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: TIMEOUT }).retry(retry).mailbox().unwrap();
    for text in ["first", "second", "third"] {
        bus.publish("a", Payload::plain_text(text)).unwrap();
    }
    simulation.run();
    let mut context = Context::from_waker(Waker::noop());
    let [first, second, third] = [(); 3].map(|()| match pin!(inbox.recv_async()).poll(&mut context) {
        Poll::Ready(delivery) => delivery.unwrap(),
        Poll::Pending => panic!("three are queued"),
    });
    assert!(third.extend(2 * TIMEOUT));
    let died = catch_unwind(AssertUnwindSafe(move || {
        let _answers_later = second;
        panic!("a panic that the test asks for");
    }));
    assert!(died.is_err());
    simulation.advance(TIMEOUT - MS);
    simulation.run();
    assert_eq!(first.ack(), Settled::Counted, "it came before the other, and is answered after it");
    simulation.advance(TIMEOUT);
    simulation.run();
    assert_eq!(third.ack(), Settled::Counted, "it has more time");
    let again = inbox.try_recv().unwrap();
    assert_eq!((again.payload().text(), again.meta().attempt()), (Some("second"), 2));
    again.ack();
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.delivered, ledger.retried, ledger.dead_lettered), (3, 1, 0));
    assert_settled(bus);
    assert_books(bus);
}
