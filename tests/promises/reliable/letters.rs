//! Dead letters that go back to their subscription, and what a row of them does to it.

use super::*;
use crate::support::assert_books;

#[test]
fn a_dead_letter_goes_back_to_its_own_subscription_and_begins_anew() {
    // Within a slot, and in a block.
    for text in ["short", &"long ".repeat(80)] {
        let simulation = simulation();
        let bus = simulation.bus();
        let mut inbox = reliable_mailbox(bus, at_once(1));
        let mut other = bus.subscribe("a").mailbox().unwrap();
        let id = bus.publish("a", Payload::plain_text(text)).unwrap();
        simulation.run();
        inbox.try_recv().unwrap().fail("not today");
        other.try_recv().unwrap().ack();
        let letters = bus.dead_letters();
        let letter = letters.list(&DeadLetterFilter::new())[0].id();
        letters.redrive(letter).unwrap();
        assert_eq!(letters.redrive(letter), Err(RedriveError::NotFound { id: letter }));
        simulation.run();
        assert_empty(&mut other);
        let again = inbox.try_recv().unwrap();
        assert_eq!((again.meta().id(), again.meta().attempt(), again.payload().text()), (id, 1, Some(text)));
        again.ack();
        let counts = letters.counts();
        assert_eq!((counts.redriven, counts.held, counts.is_balanced()), (1, 0, true));
        let ledger = ledger(bus);
        assert_eq!((ledger.matched, ledger.delivered, ledger.dead_lettered), (3, 2, 1));
        assert_settled(bus);
    }
}

#[test]
fn letters_that_cannot_go_back_stay() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1)).capacity(1);
    let made = wish.handle(|_, _| Err::<(), _>("no")).unwrap();
    for _ in 0..2 {
        publish(bus, 35);
        simulation.run();
    }
    assert_eq!(bus.dead_letters().len(), 70);
    let redrive = bus.dead_letters().redrive_all(&DeadLetterFilter::new(), Duration::ZERO).unwrap();
    let report = redrive.wait();
    assert_eq!((report.redriven, report.left), (64, 6), "so many are on their way at once");
    // Each of the others has a second turn, and the subscription is as busy then.
    for _ in 0..6 {
        simulation.advance(MS);
        redrive.wait();
    }
    let report = redrive.report();
    assert_eq!((report.redriven, report.stayed.len(), redrive.is_over()), (64, 6, true));
    assert!(matches!(report.stayed[0], RedriveError::Busy { max: 64, .. }));
    simulation.advance(2 * MS);
    run_to_the_end(&simulation);
    while bus.ledger().subscriptions.dead_lettered < 70 + 64 {
        simulation.advance(2 * MS);
        simulation.run();
    }
    let id = made.id();
    made.unsubscribe().unwrap();
    let report = bus.dead_letters().redrive_all(&DeadLetterFilter::new().limit(1), Duration::ZERO).unwrap().wait();
    assert!(matches!(report.stayed[..], [RedriveError::Ended { subscription, .. }] if subscription == id));
    assert_eq!(bus.dead_letters().len(), 70);
    assert!(bus.dead_letters().counts().is_balanced());
    assert_books(bus);
}

#[test]
fn letters_go_back_at_a_rate_by_the_clock_of_the_bus_and_can_be_stopped() {
    let simulation = simulation();
    let bus = simulation.bus();
    let fails = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&fails);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1));
    let _made = wish.handle(move |_, _| if still.load(Ordering::Relaxed) { Err("no") } else { Ok(()) }).unwrap();
    publish(bus, 20);
    simulation.run();
    fails.store(false, Ordering::Relaxed);
    let redrive = bus.dead_letters().redrive_all(&DeadLetterFilter::new().limit(15), 10 * MS).unwrap();
    for nth in 1..=5 {
        simulation.run();
        let report = redrive.report();
        assert_eq!((report.redriven, report.left, ledger(bus).delivered), (nth, 15 - nth, nth as u64));
        simulation.advance(9 * MS);
        simulation.run();
        assert_eq!(redrive.wait().redriven, nth, "nobody is early, and in a simulation nobody waits");
        simulation.advance(MS);
    }
    redrive.cancel();
    simulation.run();
    assert_eq!((redrive.is_over(), redrive.report().left, bus.dead_letters().len()), (true, 10, 15));

    // This one goes on without its handle.
    drop(bus.dead_letters().redrive_all(&DeadLetterFilter::new(), 10 * MS).unwrap());
    for _ in 0..15 {
        simulation.run();
        simulation.advance(10 * MS);
    }
    assert!(bus.dead_letters().is_empty());
    assert_settled(bus);
}

#[test]
fn a_redrive_goes_on_in_a_thread_which_the_end_of_the_bus_ends() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let (fails, hour) = (Arc::new(AtomicBool::new(true)), Duration::from_secs(3_600));
        let still = Arc::clone(&fails);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1));
        let _made = wish.handle(move |_, _| if still.load(Ordering::Relaxed) { Err("no") } else { Ok(()) }).unwrap();
        publish(&bus, 20);
        bus.flush().unwrap();
        fails.store(false, Ordering::Relaxed);
        let letters = bus.dead_letters();
        let report = letters.redrive_all(&DeadLetterFilter::new().limit(10), MS).unwrap().wait();
        assert_eq!((report.redriven, report.left, report.stayed.len()), (10, 0, 0));
        let slow = letters.redrive_all(&DeadLetterFilter::new(), hour).unwrap();
        while slow.report().redriven == 0 {
            std::thread::yield_now();
        }
        bus.flush().unwrap();
        assert!(bus.shutdown().unwrap().is_clean());
        assert_eq!((slow.is_over(), slow.wait().left, letters.len()), (true, 9, 9));
        assert_books(&bus);
    });
}

#[test]
fn so_many_redrives_are_under_way_and_no_more() {
    let simulation = Simulation::new(small().redrives_max(2), 7).unwrap();
    let bus = simulation.bus();
    let mut inbox = reliable_mailbox(bus, at_once(1));
    publish(bus, 3);
    simulation.run();
    while let Ok(delivery) = inbox.try_recv() {
        delivery.reject("for now");
    }
    let (letters, all, hour) = (bus.dead_letters(), DeadLetterFilter::new(), Duration::from_secs(3_600));
    let [first, _second] = [(); 2].map(|()| letters.redrive_all(&all, hour).unwrap());
    let refused = letters.redrive_all(&all, hour).unwrap_err();
    assert_eq!(refused, RedriveError::TooMany { under_way: 2, max: 2 });
    let text = refused.to_string();
    assert!(text.contains("the limit is 2") && text.contains("redrives_max"), "{text}");
    let none = letters.redrive_all(&DeadLetterFilter::new().limit(0), hour).unwrap();
    assert!(none.is_over(), "one with nothing to do is not under way");
    first.cancel();
    let third = letters.redrive_all(&all, hour).unwrap();
    assert!(!third.is_over());
    simulation.run();
    inbox.try_recv().unwrap().ack();
    assert_books(bus);
    assert!(small().redrives_max(0).build().unwrap_err().to_string().contains("redrives_max is 0"));
}

#[test]
fn letters_on_their_way_to_a_subscription_that_ends_are_letters_again() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = reliable_mailbox(bus, at_once(1));
    publish(bus, 2);
    simulation.run();
    while let Ok(delivery) = inbox.try_recv() {
        delivery.fail("no");
    }
    assert_eq!(bus.dead_letters().redrive_all(&DeadLetterFilter::new(), Duration::ZERO).unwrap().wait().redriven, 2);
    assert!(bus.dead_letters().is_empty());
    drop(inbox);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!(letters.iter().map(|letter| letter.reason()).collect::<Vec<_>>(), [DeadReason::AttemptsExhausted; 2]);
    assert!(bus.dead_letters().counts().is_balanced());
    ledger(bus);
    assert_books(bus);
}

#[test]
fn dead_letters_in_a_row_suspend_a_subscription_until_it_is_resumed() {
    for inline in [true, false] {
        let log = Log::new();
        let heard = log.clone();
        let builder = small().observer(move |notice: &Notice<'_>| {
            if let Notice::Suspended { letters, .. } = notice {
                heard.add(*letters);
            }
        });
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1)).suspend_after(3);
        let outcome = |text: &str| if text == "2" { Outcome::Ack } else { Outcome::Reject("no".to_owned()) };
        let (_made, mut inbox) = if inline {
            (Some(wish.handle(move |payload, _| outcome(payload.text().unwrap())).unwrap()), None)
        } else {
            (None, Some(wish.mailbox().unwrap()))
        };
        publish(bus, 10);
        let work = |inbox: &mut Option<Mailbox<Pattern>>| {
            simulation.run();
            while let Some(Ok(delivery)) = inbox.as_mut().map(Mailbox::try_recv) {
                let outcome = outcome(delivery.payload().text().unwrap());
                delivery.settle(&outcome);
            }
        };
        work(&mut inbox);
        // Two, one delivered, three in a row.
        let record = bus.subscriptions().remove(0);
        assert_eq!((record.ledger.dead_lettered, record.is_paused, record.ledger.queued), (5, true, 4), "{inline}");
        assert_eq!(log.take(), [3]);
        bus.resume(record.id).unwrap();
        work(&mut inbox);
        let record = bus.subscriptions().remove(0);
        assert_eq!((record.ledger.dead_lettered, record.is_paused, record.ledger.queued), (8, true, 1), "{inline}");
        bus.flush().expect("what a pause holds is not waited for");
        assert_books(bus);
    }
}

#[test]
fn a_suspended_subscription_holds_nobody_up_where_what_finds_no_room_is_a_dead_letter() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").named("sick").mode(DeliveryMode::reliable()).retry(at_once(1)).suspend_after(1);
    let sick = wish.capacity(4).overflow(Overflow::DropNewest).handle(|_, _| Err::<(), _>("down"));
    let healthy = bus.subscribe("a").handle(|_, _| ());
    let sick = sick.unwrap();
    publish(bus, 30);
    simulation.run();
    assert_eq!(healthy.unwrap().record().delivery_count, 30);
    let record = sick.record();
    assert_eq!((record.is_paused, record.ledger.queued, record.ledger.dead_lettered), (true, 4, 26));
    let reasons: Vec<_> =
        bus.dead_letters().list(&DeadLetterFilter::new()).iter().map(|letter| letter.reason()).collect();
    assert_eq!(reasons[0], DeadReason::AttemptsExhausted);
    assert!(reasons[1..].iter().all(|reason| *reason == DeadReason::MailboxFull), "{reasons:?}");
    bus.flush().expect("what is suspended is not waited for");
    ledger(bus);
    assert_books(bus);
}
