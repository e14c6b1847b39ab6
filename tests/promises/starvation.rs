//! No lane starves: an event at a lane's head waits for a bounded, published number of other events.

use std::collections::VecDeque;

use ringmain::testing::Simulation;
use ringmain::{Bus, FullPolicy, Payload, Priority, PublishError};

use super::support::{Draw, Log, assert_settled};

const BODY: Payload<'static> = Payload::plain_text("x");

fn lane(priority: Priority) -> usize {
    Priority::ALL.iter().position(|&one| one == priority).unwrap()
}

fn wait_max(bus: &Bus) -> Vec<u64> {
    let metrics = bus.metrics();
    Priority::ALL
        .iter()
        .map(|&priority| metrics.lanes.iter().find(|lane| lane.priority == priority).unwrap().wait_max_events)
        .collect()
}

/// Counts, service by service, how long each lane's head has waited.
#[derive(Default)]
struct Heads {
    queued: [u64; 4],
    waited: [u64; 4],
    longest: [u64; 4],
}

impl Heads {
    fn serve(&mut self, served: usize, bound: &[u64]) {
        self.queued[served] -= 1;
        self.waited[served] = 0;
        for other in (0..4).filter(|&other| other != served && self.queued[other] > 0) {
            self.waited[other] += 1;
            self.longest[other] = self.longest[other].max(self.waited[other]);
            assert!(
                self.waited[other] <= bound[other],
                "the head of the {} lane has seen {} others pass; the bound is {}",
                Priority::ALL[other],
                self.waited[other],
                bound[other]
            );
        }
    }
}

#[test]
fn no_head_of_a_lane_waits_for_more_events_than_published() {
    for seed in 0..24 {
        let mut draw = Draw(seed);
        let burst = [1, 2, 7, 64][seed as usize % 4];
        let turn_max = 1 + draw.below(20) as usize;
        let builder = Bus::builder().workers(1).critical_burst_max(burst).turn_max(turn_max);
        let simulation = Simulation::new(builder, seed).unwrap();
        let bus = simulation.bus();
        let bound = wait_max(bus);
        let log = Log::new();
        let writer = log.clone();
        let _all = bus.subscribe("*").handle(move |_, meta| writer.add(lane(meta.priority()))).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut heads = Heads::default();
        // Different lanes are saturated at different times, so that each is found waiting by each other.
        for _ in 0..2_000 {
            let saturated = draw.below(16);
            for _ in 0..turn_max + 1 {
                let at = draw.below(4) as usize;
                if saturated & (1 << at) != 0 && heads.queued[at] < 200 {
                    publisher.at(Priority::ALL[at]).publish("a", BODY).unwrap();
                    heads.queued[at] += 1;
                }
            }
            simulation.turn(0).unwrap();
            for served in log.take() {
                heads.serve(served, &bound);
            }
        }
        simulation.run();
        for served in log.take() {
            heads.serve(served, &bound);
        }
        assert_eq!(heads.queued, [0; 4], "everything was served in the end");
        assert!(heads.longest[3] > 0, "the mix was not saturated enough to say anything");
        assert_settled(bus);
    }
}

#[test]
fn of_ten_times_what_is_served_low_is_shed_first_and_still_moves() {
    const SERVED: u64 = 16;
    const LIMIT: u64 = 200;
    let builder = Bus::builder().workers(1).turn_max(SERVED as usize).max_queue_size(LIMIT as usize);
    let builder = builder.when_full(FullPolicy::REJECT.shed_low_above(50));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let bound = wait_max(bus);
    let log = Log::new();
    let writer = log.clone();
    let _all = bus.subscribe("*").handle(move |_, meta| writer.add(lane(meta.priority()))).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut heads = Heads::default();
    let (mut accepted, mut refused) = ([0_u64; 4], [0_u64; 4]);
    // Lanes by their first refusal.
    let mut order = Vec::new();
    for round in 0..400 {
        for nth in 0..if round < 100 { 10 * SERVED } else { 0 } {
            let at = (nth % 4) as usize;
            match publisher.at(Priority::ALL[at]).publish("a", BODY) {
                Ok(_) => {
                    accepted[at] += 1;
                    heads.queued[at] += 1;
                    continue;
                }
                Err(PublishError::Shed { depth, .. }) => assert!(at == 3 && (LIMIT / 2..LIMIT).contains(&depth)),
                Err(PublishError::Full { depth, .. }) => assert!(at < 3 && depth >= LIMIT),
                Err(error) => panic!("{error}"),
            }
            refused[at] += 1;
            if !order.contains(&at) {
                order.push(at);
            }
        }
        simulation.turn(0).unwrap();
        for served in log.take() {
            heads.serve(served, &bound);
        }
    }
    assert_eq!(order[0], 3, "Low gives way first: {order:?}");
    assert_eq!(order.len(), 4, "ten times as much fills every lane");
    assert_eq!(heads.queued, [0; 4], "what was accepted was served");
    assert!(heads.longest[3] > 0 && heads.longest[3] <= bound[3], "{:?}", heads.longest);
    // So many were served while the burst lasted that each lane had its share, and Low the least.
    assert!(accepted.iter().all(|&lane| lane > LIMIT / 2) && accepted.is_sorted_by(|a, b| a >= b), "{accepted:?}");
    assert!(refused[3] > refused[0], "{refused:?}");
    assert_settled(bus);
}

#[test]
fn low_still_moves_under_a_flood_of_critical() {
    let simulation = Simulation::new(Bus::builder().workers(1).turn_max(10), 5).unwrap();
    let bus = simulation.bus();
    let bound = wait_max(bus)[3];
    let log = Log::new();
    let writer = log.clone();
    let _all = bus.subscribe("*").handle(move |_, meta| writer.add(meta.priority())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    const LOW: usize = 10;
    for _ in 0..LOW {
        publisher.at(Priority::Low).publish("a", BODY).unwrap();
    }
    let mut served = Vec::new();
    while served.iter().filter(|&&one| one == Priority::Low).count() < LOW {
        for _ in 0..20 {
            // A full lane of Critical is as good as a longer one.
            let _ = publisher.at(Priority::Critical).try_publish("a", BODY);
        }
        simulation.turn(0).unwrap();
        served.extend(log.take());
        assert!(served.len() as u64 <= LOW as u64 * (bound + 1) + 10, "Low is starved after {} events", served.len());
    }
    simulation.run();
    assert_settled(bus);
}

#[test]
fn a_consumer_that_falls_behind_starves_no_priority_either() {
    let simulation = Simulation::new(Bus::builder().workers(1).critical_burst_max(4), 5).unwrap();
    let bus = simulation.bus();
    let bound = wait_max(bus);
    let mut mailbox = bus.subscribe("*").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut draw = Draw(11);
    let mut heads = Heads::default();
    let mut order = VecDeque::new();
    for _ in 0..3_000 {
        for _ in 0..2 {
            let at = draw.below(4) as usize;
            if heads.queued[at] < 100 {
                publisher.at(Priority::ALL[at]).publish("a", BODY).unwrap();
                heads.queued[at] += 1;
            }
        }
        simulation.run();
        let delivery = mailbox.try_recv().unwrap();
        order.push_back(delivery.meta().priority());
        heads.serve(lane(delivery.meta().priority()), &bound);
    }
    while let Ok(delivery) = mailbox.try_recv() {
        heads.serve(lane(delivery.meta().priority()), &bound);
    }
    assert!(order.contains(&Priority::Low));
    assert_eq!(heads.queued, [0; 4]);
    assert_settled(bus);
}
