//! Requests and replies: each gets the answer to its own question, or is told why not, and its place is free again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, current, scope, spawn};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Answer, Bus, BusBuilder, DecodeError, DeliveryMode, Filter, Overflow, Payload, Priority, PublishError,
    RequestError, Requester, RetryPolicy, SubscribeError, Topic,
};
use rkyv::{Archive, Serialize};

use super::support::{Log, assert_books, observed, watched};

#[derive(Archive, Serialize)]
struct Double {
    of: u64,
}

#[derive(Archive, Serialize)]
struct Doubled {
    is: u64,
}

const DOUBLE: Topic<Double> = Topic::new("double.query");
const DOUBLED: Topic<Doubled> = Topic::new("double.answer");
const SECOND: Duration = Duration::from_secs(1);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

type Doubles = Requester<Double, Doubled>;
type Result = std::result::Result<Answer<Doubled>, RequestError>;

fn double(query: &ArchivedDouble) -> Doubled {
    Doubled { is: query.of.to_native() * 2 }
}

fn simulate() -> Simulation {
    simulate_with(Bus::builder())
}

fn simulate_with(builder: BusBuilder) -> Simulation {
    Simulation::new(builder.workers(2), 1).unwrap()
}

fn is(answer: Result) -> u64 {
    answer.unwrap().get().is.to_native()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn an_answer_comes_to_the_one_who_asked_and_names_the_query() {
    let simulation = simulate();
    let bus = simulation.bus();
    let asked = Log::new();
    let log = asked.clone();
    let _responder = bus
        .subscribe(DOUBLE)
        .respond(DOUBLED, move |query, meta| {
            log.add((meta.id(), meta.priority(), meta.expires_in()));
            double(query)
        })
        .unwrap();
    let mut observer = bus.subscribe(DOUBLED).mailbox().unwrap();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap().priority(Priority::High);
    let answer = doubles.request(&Double { of: 21 }, SECOND).unwrap();
    assert_eq!(answer.get().is, 42);
    let (id, priority, expires_in) = asked.take().pop().unwrap();
    assert_eq!((answer.meta().correlation(), answer.meta().causation()), (Some(id), Some(id)));
    assert_eq!((priority, answer.meta().priority()), (Priority::High, Priority::High));
    assert_eq!(expires_in, Some(SECOND), "the query lives as long as somebody waits");
    drop(answer);
    assert_eq!(observer.try_recv().unwrap().meta().correlation(), Some(id), "others may look on");
    assert_eq!((doubles.pending(), doubles.late()), (0, 0));
    assert_books(bus);
}

#[test]
fn requesters_do_not_take_each_others_answers() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    let requesters: Vec<Doubles> = (0..3).map(|_| bus.requester(DOUBLE, DOUBLED).unwrap()).collect();
    let queries: Vec<_> = (0..30).map(|of| Double { of }).collect();
    let mut waiting: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(nth, query)| Box::pin(requesters[nth % 3].request_async(query, SECOND)))
        .collect();
    waiting.iter_mut().for_each(|request| assert!(poll(request.as_mut()).is_pending()));
    assert_eq!(requesters.iter().map(Doubles::pending).sum::<usize>(), 30);
    simulation.run();
    for (of, request) in waiting.iter_mut().enumerate() {
        let Poll::Ready(answer) = poll(request.as_mut()) else { panic!("{of} was not answered") };
        assert_eq!(is(answer), 2 * of as u64);
    }
    drop(waiting);
    for requester in &requesters {
        assert_eq!((requester.pending(), requester.late()), (0, 0));
        assert_eq!(requester.record().delivery_count, 10, "answers to others take no room");
    }
    assert_books(bus);
}

#[test]
fn where_nobody_answers_one_is_told_at_once() {
    let simulation = simulate();
    let bus = simulation.bus();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let nobody = RequestError::NoResponder { topic: "double.query" };
    assert_eq!(doubles.request(&Double { of: 1 }, SECOND).unwrap_err(), nobody);
    let responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    assert_eq!(is(doubles.request(&Double { of: 1 }, SECOND)), 2);
    responder.unsubscribe().unwrap();
    assert_eq!(doubles.request(&Double { of: 1 }, SECOND).unwrap_err(), nobody);
    let critical = Filter::all().priorities([Priority::Critical]);
    let _critical = bus.subscribe(DOUBLE).filter(critical).respond(DOUBLED, |query, _| double(query)).unwrap();
    assert_eq!(doubles.request(&Double { of: 1 }, SECOND).unwrap_err(), nobody, "nobody at this priority");
    let doubles = doubles.priority(Priority::Critical);
    assert_eq!(is(doubles.request(&Double { of: 1 }, SECOND)), 2);
    assert_eq!(doubles.pending(), 0);
    assert_books(bus);
}

#[test]
fn a_time_is_over_by_the_clock_of_the_bus_and_a_late_answer_goes_to_nobody() {
    let simulation = simulate();
    let bus = simulation.bus();
    let mut queries = bus.subscribe(DOUBLE).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let doubles = bus.requester_of(DOUBLE, DOUBLED, 1).unwrap();
    let mut reply = |is: u64| {
        let query = queries.try_recv().unwrap();
        let id = query.meta().id();
        drop(query);
        move |publisher: &mut ringmain::Publisher| {
            publisher.event().correlation(id).publish(DOUBLED, &Doubled { is }).unwrap();
        }
    };
    let first = Double { of: 1 };
    let mut request = Box::pin(doubles.request_async(&first, SECOND));
    assert!(poll(request.as_mut()).is_pending());
    simulation.run();
    let late = reply(2);
    simulation.advance(SECOND - Duration::from_nanos(1));
    simulation.run();
    assert!(poll(request.as_mut()).is_pending());
    simulation.advance(Duration::from_nanos(1));
    let over = poll(request.as_mut());
    assert!(matches!(over, Poll::Ready(Err(RequestError::TimedOut { after: SECOND }))), "{over:?}");
    drop(request);
    // The same place, another request: the answer to the first one is not taken for its.
    let second = Double { of: 5 };
    let mut request = Box::pin(doubles.request_async(&second, SECOND));
    assert!(poll(request.as_mut()).is_pending());
    simulation.run();
    late(&mut publisher);
    simulation.run();
    assert_eq!(doubles.late(), 1);
    assert!(poll(request.as_mut()).is_pending());
    let answer = reply(10);
    answer(&mut publisher);
    simulation.run();
    let Poll::Ready(answered) = poll(request.as_mut()) else { panic!("it was answered") };
    assert_eq!(is(answered), 10);
    answer(&mut publisher);
    simulation.run();
    assert_eq!(doubles.late(), 2, "a second answer is one too many");
    assert_eq!(doubles.record().error_count, 2);
    drop(request);
    assert_eq!(doubles.pending(), 0);
    assert_books(bus);
}

#[derive(Default)]
struct Count(Mutex<u32>);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn the_worker_wakes_who_waits_when_the_time_is_over() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _silent = bus.subscribe(DOUBLE).handle(|_, _| ()).unwrap();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let query = Double { of: 1 };
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut requests: Vec<_> =
        (1..=3).map(|seconds| Box::pin(doubles.request_async(&query, SECOND * seconds))).collect();
    for request in &mut requests {
        assert!(request.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    for over in 1..=3 {
        simulation.run();
        assert_eq!(*woken.0.lock().unwrap(), over - 1);
        simulation.advance(SECOND);
        simulation.run();
        assert_eq!(*woken.0.lock().unwrap(), over);
    }
    for request in &mut requests {
        assert!(matches!(poll(request.as_mut()), Poll::Ready(Err(RequestError::TimedOut { .. }))));
    }
    drop(requests);
    assert_eq!(doubles.pending(), 0);
    assert_books(bus);
}

#[test]
fn a_query_whose_time_is_over_before_its_responder_begins_is_not_handled() {
    let simulation = simulate();
    let bus = simulation.bus();
    let asked = Log::new();
    let log = asked.clone();
    let responder = bus
        .subscribe(DOUBLE)
        .respond(DOUBLED, move |query, _| {
            log.add(());
            double(query)
        })
        .unwrap();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let query = Double { of: 1 };
    let mut request = Box::pin(doubles.request_async(&query, SECOND));
    assert!(poll(request.as_mut()).is_pending());
    simulation.advance(SECOND * 2);
    simulation.run();
    assert!(matches!(poll(request.as_mut()), Poll::Ready(Err(RequestError::TimedOut { .. }))));
    assert_eq!((asked.len(), responder.record().ledger.dropped.expired), (0, 1));
    assert_books(bus);
}

#[test]
fn a_cancelled_request_frees_its_place_and_its_answer_is_late() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    let doubles = bus.requester_of(DOUBLE, DOUBLED, 2).unwrap();
    let query = Double { of: 1 };
    let full = RequestError::Full { pending_max: 2 };
    let mut first = Box::pin(doubles.request_async(&query, SECOND));
    let mut second = Box::pin(doubles.request_async(&query, SECOND));
    let unpolled = Box::pin(doubles.request_async(&query, SECOND));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(unpolled);
    assert_eq!(doubles.pending(), 2);
    let mut third = Box::pin(doubles.request_async(&query, SECOND));
    assert!(matches!(poll(third.as_mut()), Poll::Ready(Err(error)) if error == full));
    drop(first);
    assert_eq!(doubles.pending(), 1);
    simulation.run();
    assert_eq!(doubles.late(), 1, "the answer to the one that was dropped");
    // Answered, and dropped before anybody looked.
    drop(second);
    assert_eq!((doubles.pending(), doubles.late()), (0, 1));
    for _ in 0..100 {
        assert_eq!(is(doubles.request(&query, SECOND)), 2);
    }
    assert_books(bus);
}

#[test]
fn answers_that_are_kept_make_room_for_no_other_and_block_nobody() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    let doubles = bus.requester_of(DOUBLE, DOUBLED, 2).unwrap();
    let kept: Vec<_> = (0..2).map(|of| doubles.request(&Double { of }, SECOND).unwrap()).collect();
    let unanswered = doubles.request(&Double { of: 9 }, SECOND);
    assert!(matches!(unanswered, Err(RequestError::TimedOut { .. })), "{unanswered:?}");
    assert_eq!(doubles.record().ledger.dropped.overflow, 1);
    assert_eq!(kept[1].get().is, 2);
    drop(kept);
    assert_eq!(is(doubles.request(&Double { of: 9 }, SECOND)), 18);
    assert_books(bus);
}

#[test]
fn a_responder_that_panics_answers_nothing_and_one_that_is_tried_again_answers_then() {
    let (builder, notices) = observed(Bus::builder());
    let simulation = simulate_with(builder);
    let bus = simulation.bus();
    let mut calls = 0;
    let mut respond = move |query: &ArchivedDouble| {
        calls += 1;
        assert!(calls % 2 == 0, "every other call panics");
        double(query)
    };
    let responder = bus.subscribe(DOUBLE).respond(DOUBLED, move |query, _| respond(query)).unwrap();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let panicked = doubles.request(&Double { of: 1 }, SECOND);
    assert!(matches!(panicked, Err(RequestError::TimedOut { .. })), "{panicked:?}");
    assert!(notices.take().iter().any(|notice| notice.starts_with("HandlerPanicked")));
    assert_eq!(is(doubles.request(&Double { of: 2 }, SECOND)), 4);
    responder.unsubscribe().unwrap();
    let mut calls = 0;
    let retry = RetryPolicy::default().delays(Duration::from_millis(1), Duration::from_millis(1));
    let wish = bus.subscribe(DOUBLE).mode(DeliveryMode::reliable()).retry(retry);
    let respond = wish.respond(DOUBLED, move |query, _| {
        calls += 1;
        assert!(calls > 1, "the first call panics");
        double(query)
    });
    let _responder = respond.unwrap();
    let query = Double { of: 4 };
    let mut request = Box::pin(doubles.request_async(&query, SECOND));
    assert!(poll(request.as_mut()).is_pending());
    simulation.run();
    simulation.advance(Duration::from_millis(2));
    simulation.run();
    let Poll::Ready(answer) = poll(request.as_mut()) else { panic!("the second attempt answers") };
    assert_eq!(is(answer), 8);
    assert_books(bus);
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error_and_not_a_timeout() {
    let simulation = simulate();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let _foreign = bus
        .subscribe("double.query")
        .handle(move |_, meta| {
            publisher.event().correlation(meta.id()).publish("double.answer", Payload::json("{}")).map(drop)
        })
        .unwrap();
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let error = doubles.request(&Double { of: 1 }, SECOND).unwrap_err();
    assert!(matches!(error, RequestError::Undecodable(DecodeError::Encoding { .. })), "{error}");
    assert_eq!(doubles.pending(), 0);
    assert_books(bus);
}

#[test]
fn nobody_waits_for_himself() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    let doubles = Arc::new(bus.requester(DOUBLE, DOUBLED).unwrap());
    let log = Log::new();
    let (said, asks) = (log.clone(), Arc::clone(&doubles));
    let _inline = bus
        .subscribe("ask")
        .handle(move |_, _| said.add(asks.request(&Double { of: 1 }, SECOND).unwrap_err()))
        .unwrap();
    bus.publish("ask", Payload::plain_text("")).unwrap();
    simulation.run();
    assert_eq!(log.take(), [RequestError::OnWorker]);
    assert_eq!(doubles.pending(), 0);

    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let _responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
        let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
        let (say, said) = mpsc::channel();
        let _on_thread = bus
            .subscribe("ask")
            .handle_on("asks", move |_, _| say.send(doubles.request(&Double { of: 1 }, LONG).unwrap_err()))
            .unwrap();
        bus.publish("ask", Payload::plain_text("")).unwrap();
        assert_eq!(said.recv().unwrap(), RequestError::InHandler);
        bus.shutdown().unwrap();
    });
    assert_books(bus);
}

#[test]
fn the_end_of_the_bus_or_of_the_subscription_ends_what_waits() {
    let simulation = simulate();
    let bus = simulation.bus();
    let _silent = bus.subscribe(DOUBLE).handle(|_, _| ()).unwrap();
    let query = Double { of: 1 };
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let mut request = Box::pin(doubles.request_async(&query, LONG));
    assert!(poll(request.as_mut()).is_pending());
    bus.unsubscribe(doubles.record().id).unwrap();
    assert!(matches!(poll(request.as_mut()), Poll::Ready(Err(RequestError::ShuttingDown))));
    drop(request);
    assert_eq!(doubles.pending(), 0);

    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    let mut request = Box::pin(doubles.request_async(&query, LONG));
    assert!(poll(request.as_mut()).is_pending());
    assert!(bus.shutdown().unwrap().is_clean());
    assert!(matches!(poll(request.as_mut()), Poll::Ready(Err(RequestError::ShuttingDown))));
    drop(request);
    assert_eq!(doubles.request(&query, SECOND).unwrap_err(), RequestError::ShuttingDown);
    assert_eq!(doubles.pending(), 0);
    assert_books(bus);
}

#[test]
fn a_requester_that_is_not_possible_is_refused_with_the_reason() {
    const WRONG: Topic<u64> = Topic::new("double.answer");
    let simulation = simulate_with(Bus::builder().publishers_max(1));
    let bus = simulation.bus();
    for pending_max in [0, 65_537] {
        let refused = bus.requester_of(DOUBLE, DOUBLED, pending_max).unwrap_err();
        assert_eq!(refused, SubscribeError::PendingMax { pending_max, max: 65_536 });
    }
    let doubles = bus.requester(DOUBLE, DOUBLED).unwrap();
    assert!(matches!(bus.requester(DOUBLE, WRONG), Err(SubscribeError::TypeConflict(_))));
    assert!(matches!(bus.subscribe(DOUBLE).respond(WRONG, |_, _| 1), Err(SubscribeError::TypeConflict(_))));
    let publisher = bus.publisher().unwrap();
    let refused = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap_err();
    assert_eq!(refused, SubscribeError::NoPublisher { max: 1 });
    drop((doubles, publisher));
    assert_books(bus);
}

#[test]
fn a_responder_and_a_clone_take_the_place_of_a_publisher_that_the_bus_has_lent_before() {
    let simulation = simulate_with(Bus::builder().publishers_max(2));
    let bus = simulation.bus();
    let publisher = bus.publisher().unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    let responder = bus.subscribe(DOUBLE).respond(DOUBLED, |query, _| double(query)).unwrap();
    assert!(matches!(publisher.try_clone(), Err(PublishError::NoPublisher { max: 2 })));
    responder.unsubscribe().unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    assert!(publisher.try_clone().is_ok());
    assert_books(bus);
}

#[test]
fn many_threads_and_tasks_ask_at_once_and_each_gets_its_own_answer() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let responders = [0, 1].map(|nth| {
            let mine = Filter::all().matching(move |meta| meta.priority() as u8 % 2 == nth);
            let wish = bus.subscribe(DOUBLE).filter(mine).overflow(Overflow::Block);
            if nth == 0 {
                wish.respond(DOUBLED, |query, _| double(query)).unwrap()
            } else {
                wish.respond_on("doubles", DOUBLED, |query, _| double(query)).unwrap()
            }
        });
        let requesters =
            [Priority::Normal, Priority::High].map(|at| bus.requester_of(DOUBLE, DOUBLED, 64).unwrap().priority(at));
        scope(|threads| {
            for thread in 0..4 {
                let doubles = &requesters[thread as usize % 2];
                threads.spawn(move || {
                    for nth in 0..200 {
                        let query = Double { of: thread * 1_000 + nth };
                        let answer = if thread < 2 {
                            doubles.request(&query, LONG)
                        } else {
                            block_on(doubles.request_async(&query, LONG))
                        };
                        assert_eq!(is(answer), 2 * query.of);
                    }
                });
            }
        });
        bus.flush().unwrap();
        for requester in &requesters {
            assert_eq!((requester.pending(), requester.late()), (0, 0));
        }
        assert_eq!(responders.iter().map(|made| made.record().delivery_count).sum::<u64>(), 800);
        assert_books(&bus);
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn a_blocked_request_ends_with_its_time_and_with_its_bus() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let (say, said) = mpsc::channel();
        let _silent = bus.subscribe(DOUBLE).handle(move |query, _| say.send(query.of.to_native()).unwrap()).unwrap();
        let doubles = Arc::new(bus.requester(DOUBLE, DOUBLED).unwrap());
        let time = Duration::from_millis(5);
        let error = doubles.request(&Double { of: 1 }, time).unwrap_err();
        assert!(matches!(error, RequestError::TimedOut { after } if after >= time), "{error}");
        let error = block_on(doubles.request_async(&Double { of: 2 }, time)).unwrap_err();
        assert!(matches!(error, RequestError::TimedOut { after } if after >= time), "{error}");
        let waits = Arc::clone(&doubles);
        let waiting = spawn(move || waits.request(&Double { of: 3 }, LONG).unwrap_err());
        // On a busy machine the time of the others was over before the worker came to them: then they are not handled.
        assert!(said.iter().any(|of| of == 3));
        bus.shutdown().unwrap();
        assert_eq!(waiting.join().unwrap(), RequestError::ShuttingDown);
        assert_eq!(doubles.pending(), 0);
        assert_books(&bus);
    });
}
