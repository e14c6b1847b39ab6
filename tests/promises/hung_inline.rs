//! An inline handler that hangs is told of while it does, by whoever is there to notice.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, FullPolicy, Payload};

use super::support::{assert_books, assert_settled, observed, watched};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(1);
const BODY: Payload<'static> = Payload::plain_text("x");

#[test]
fn who_asks_for_metrics_tells_of_a_handler_that_hangs_once() {
    let (builder, notices) = observed(Bus::builder().workers(1).slow_handler_threshold(LIMIT * 1_000));
    let simulation = Simulation::new(builder, 1).unwrap();
    let (bus, clock, log) = (simulation.bus().clone(), simulation.clock(), notices.clone());
    let hangs = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
        // As another thread would, meanwhile.
        bus.metrics();
        clock.advance(LIMIT - MS);
        bus.metrics();
        assert_eq!(log.len(), 0, "it may take that long");
        clock.advance(MS);
        bus.metrics();
        clock.advance(LIMIT);
        bus.metrics();
        let said = log.take();
        assert!(said.len() == 1 && said[0].starts_with("WorkerHung { worker: 0"), "{said:?}");
        assert!(said[0].contains("name: \"hangs\"") && said[0].contains("after: 1s"), "{said:?}");
    };
    let wish = simulation.bus().subscribe("work").named("hangs").handler_timeout(LIMIT);
    let hung = wish.handle(hangs).unwrap();
    simulation.bus().publish("work", BODY).unwrap();
    simulation.run();
    assert_eq!((hung.ledger().delivered, hung.ledger().timed_out), (1, 1));
    assert_settled(simulation.bus());
    hung.unsubscribe().unwrap();
}

/// A bus with a handler on worker 0 that hangs until it is let go.
struct Scene {
    bus: Bus,
    begun: Receiver<()>,
    let_go: Sender<()>,
    said: Receiver<String>,
}

impl Scene {
    fn new(builder: BusBuilder) -> Self {
        let (tell, said) = channel();
        let tell = std::sync::Mutex::new(tell);
        let builder = builder.observer(move |notice: &ringmain::Notice<'_>| {
            let _ = tell.lock().unwrap().send(format!("{notice:?}"));
        });
        let bus = builder.pin(false).slow_handler_threshold(LIMIT * 1_000).build().unwrap();
        let (say, begun) = channel();
        let (let_go, held) = channel::<()>();
        let wish = bus.subscribe("work").named("hangs").on_worker(0).handler_timeout(MS);
        let hangs = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
            say.send(()).unwrap();
            // Let go of for good by the drop of the other end.
            let _ = held.recv();
        };
        wish.handle(hangs).unwrap().forever();
        Self { bus, begun, let_go, said }
    }

    /// Waits until somebody tells of the handler, and lets it go; who waits for it comes to its end before the bus does.
    fn tell_and_end(self, waits: impl FnOnce()) {
        let told = self.said.iter().find(|said| said.starts_with("WorkerHung")).unwrap();
        assert!(told.contains("worker: 0") && told.contains("name: \"hangs\""), "{told}");
        drop(self.let_go);
        waits();
        self.bus.flush().unwrap();
        assert_books(&self.bus);
        assert!(self.bus.shutdown().unwrap().is_clean());
    }
}

#[test]
fn another_worker_tells_of_a_handler_that_hangs_where_nobody_publishes() {
    watched(|| {
        let scene = Scene::new(Bus::builder().workers(2));
        scene.bus.publish("work", BODY).unwrap();
        scene.begun.recv().unwrap();
        scene.tell_and_end(|| ());
    });
}

#[test]
fn a_publisher_that_waits_for_room_tells_of_the_handler_that_holds_it_up() {
    watched(|| {
        let patient = FullPolicy::wait(Duration::from_secs(3_600));
        let scene = Scene::new(Bus::builder().workers(1).max_queue_size(4).when_full(patient));
        let bus = scene.bus.clone();
        let publisher = std::thread::spawn(move || {
            for _ in 0..8 {
                bus.publish("work", BODY).unwrap();
            }
        });
        scene.begun.recv().unwrap();
        scene.tell_and_end(|| publisher.join().unwrap());
    });
}
