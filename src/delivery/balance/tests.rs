//! What the strategies promise.

use proptest::prelude::*;
use std::collections::VecDeque;

use super::*;
use crate::routing::Sample;

fn instances(count: u64) -> Vec<InstanceView> {
    (0..count).map(InstanceView::new).collect()
}

fn loaded(load: u32) -> InstanceView {
    InstanceView { in_flight: load / 2, queued: load - load / 2, ..InstanceView::new(u64::from(load)) }
}

/// How often each of `instances` is picked, over `picks` events of one kind.
fn counts(picker: &mut Picker, instances: &[InstanceView], picks: usize) -> Vec<usize> {
    let mut counts = vec![0; instances.len()];
    Sample::new("x").with(|event| {
        for _ in 0..picks {
            counts[picker.pick(event, instances).unwrap()] += 1;
        }
    });
    counts
}

fn pick(picker: &mut Picker, priority: Priority, instances: &[InstanceView]) -> Option<usize> {
    let mut sample = Sample::new("x");
    sample.priority = priority;
    sample.with(|event| picker.pick(event, instances))
}

#[test]
fn round_robin_gives_each_the_same_to_the_event() {
    let mut picker = Balance::default().picker(0);
    assert_eq!(counts(&mut picker, &instances(7), 700), [100; 7]);
    let mut some_ill = instances(7);
    (some_ill[2].health, some_ill[3].has_room) = (ServiceHealth::Unhealthy, false);
    some_ill[4].health = ServiceHealth::Degraded;
    assert_eq!(counts(&mut picker, &some_ill, 500), [100, 100, 0, 0, 100, 100, 100], "no neighbour takes their share");
    assert_eq!(counts(&mut picker, &instances(2), 100), [50, 50], "the list became shorter");
}

#[test]
fn least_connections_picks_the_least_loaded_and_takes_turns_among_equals() {
    let mut picker = Balance::LeastConnections.picker(0);
    let views = [loaded(3), loaded(1), loaded(2), loaded(1)];
    assert_eq!(counts(&mut picker, &views, 10), [0, 5, 0, 5]);
    let view = |in_flight, queued| InstanceView { in_flight, queued, ..InstanceView::new(0) };
    assert_eq!(counts(&mut picker, &[view(1, 5), view(5, 0), view(0, 6)], 1), [0, 1, 0], "what waits counts, too");
    let full = InstanceView { in_flight: u32::MAX, queued: u32::MAX, ..InstanceView::new(1) };
    assert_eq!(counts(&mut picker, &[full, loaded(9)], 1), [0, 1]);
}

#[test]
fn weighted_random_keeps_to_the_weights() {
    // Pearson's statistic; with three degrees of freedom one honest run in a thousand is above 16.27.
    let weights = [1, 2, 3, 10];
    let mut views = instances(4);
    views.iter_mut().zip(weights).for_each(|(view, weight)| view.weight = weight);
    let picks = if cfg!(miri) { 1_600 } else { 160_000 };
    for seed in [0, 7, u64::MAX] {
        let counts = counts(&mut Balance::WeightedRandom.picker(seed), &views, picks);
        let statistic: f64 = counts
            .iter()
            .zip(weights)
            .map(|(&count, weight)| {
                let ideal = picks as f64 * f64::from(weight) / 16.0;
                (count as f64 - ideal).powi(2) / ideal
            })
            .sum();
        assert!(statistic < 16.27, "{counts:?} {statistic}");
    }
}

#[test]
fn the_same_seed_draws_the_same() {
    let draws = |seed| {
        let mut picker = Balance::WeightedRandom.picker(seed);
        (0..64).map(|_| pick(&mut picker, Priority::Normal, &instances(8))).collect::<Vec<_>>()
    };
    assert_eq!(draws(3), draws(3));
    assert_ne!(draws(3), draws(4));
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    let mut views = instances(3);
    (views[0].weight, views[2].weight) = (0, u32::MAX);
    assert_eq!(counts(&mut Balance::WeightedRandom.picker(5), &views[..2], 100), [0, 100]);
    views[2].health = ServiceHealth::Unhealthy;
    assert_eq!(counts(&mut Balance::WeightedRandom.picker(5), &views, 100), [0, 100, 0]);
    assert_eq!(pick(&mut Balance::WeightedRandom.picker(5), Priority::Normal, &views[..1]), None);
}

#[test]
fn health_based_uses_degraded_ones_when_no_healthy_one_has_room() {
    let mut views = instances(4);
    (views[0].health, views[2].health) = (ServiceHealth::Degraded, ServiceHealth::Degraded);
    let mut picker = Balance::HealthBased.picker(0);
    assert_eq!(counts(&mut picker, &views, 10), [0, 5, 0, 5]);
    (views[1].health, views[3].has_room) = (ServiceHealth::Unhealthy, false);
    assert_eq!(counts(&mut picker, &views, 10), [5, 0, 5, 0]);
}

#[test]
fn priority_based_goes_down_when_the_top_is_full_or_ill() {
    let mut views = instances(5);
    for (view, priority) in views.iter_mut().zip([1, 5, 5, -3, 9]) {
        view.priority = priority;
    }
    views[4].health = ServiceHealth::Degraded;
    let mut picker = Balance::PriorityBased { top_for: None }.picker(0);
    assert_eq!(counts(&mut picker, &views, 10), [0, 5, 5, 0, 0]);
    (views[1].has_room, views[2].health) = (false, ServiceHealth::Unhealthy);
    assert_eq!(counts(&mut picker, &views, 10), [10, 0, 0, 0, 0]);
    views[0].has_room = false;
    assert_eq!(counts(&mut picker, &views, 10), [0, 0, 0, 10, 0], "healthy goes before a priority");
    views[3].has_room = false;
    assert_eq!(counts(&mut picker, &views, 10), [0, 0, 0, 0, 10]);
}

#[test]
fn priority_based_keeps_the_top_for_urgent_events_if_told_to() {
    let mut views = instances(3);
    (views[0].priority, views[1].priority) = (2, 1);
    let mut picker = Balance::PriorityBased { top_for: Some(Priority::High) }.picker(0);
    for (priority, picked) in [(Priority::Critical, 0), (Priority::High, 0), (Priority::Normal, 1), (Priority::Low, 1)]
    {
        assert_eq!(pick(&mut picker, priority, &views), Some(picked), "{priority}");
    }
    views[1].has_room = false;
    assert_eq!(pick(&mut picker, Priority::Low, &views), Some(2));
    views[2].has_room = false;
    assert_eq!(pick(&mut picker, Priority::Low, &views), Some(0), "the top rather than nobody");
    assert_eq!(pick(&mut picker, Priority::Low, &instances(1)), Some(0));
    (views[1].has_room, views[1].health) = (true, ServiceHealth::Degraded);
    assert_eq!(pick(&mut picker, Priority::Low, &views), Some(0), "the top rather than one that is not well");
    // A top that is ill is none.
    views[0].health = ServiceHealth::Unhealthy;
    (views[1].health, views[2].has_room) = (ServiceHealth::Healthy, true);
    assert_eq!(pick(&mut picker, Priority::Low, &views), Some(2));
    assert_eq!(pick(&mut picker, Priority::High, &views), Some(1));
}

/// The instance each of `keys` goes to.
fn owners(keys: u64, views: &[InstanceView]) -> Vec<Option<usize>> {
    let mut picker = Balance::Affinity(Key::metadata("k")).picker(0);
    let owner = |key: u64| Sample::new("x").metadata("k", &key.to_string()).with(|event| picker.pick(event, views));
    (0..keys).map(owner).collect()
}

#[test]
fn only_the_keys_of_a_sick_instance_move_and_come_back() {
    let keys = if cfg!(miri) { 40 } else { 2_000 };
    let mut views = instances(8);
    let before = owners(keys, &views);
    views[3].health = ServiceHealth::Unhealthy;
    let during = owners(keys, &views);
    let mut moved_to = [0; 8];
    for (before, during) in before.iter().zip(&during) {
        if *before == Some(3) {
            moved_to[during.unwrap()] += 1;
        } else {
            assert_eq!(before, during);
        }
    }
    assert_eq!(moved_to[3], 0);
    assert!(cfg!(miri) || moved_to.iter().filter(|&&count| count > 0).count() == 7, "spread, not moved to a neighbour");
    views[3].health = ServiceHealth::Degraded;
    assert_eq!(owners(keys, &views), before);

    // Its place in the list does not matter, only its id.
    let mut shorter = views.clone();
    shorter.remove(3);
    let behind = |at: usize| if at > 3 { at - 1 } else { at };
    assert_eq!(owners(keys, &shorter), during.iter().map(|at| at.map(behind)).collect::<Vec<_>>());
}

#[test]
#[cfg_attr(miri, ignore = "counts more keys than Miri hashes in minutes")]
fn keys_spread_evenly() {
    // Pearson's statistic again; seven degrees of freedom: 24.32.
    let keys = 16_000;
    let mut counts = [0_u32; 8];
    owners(keys, &instances(8)).into_iter().for_each(|owner| counts[owner.unwrap()] += 1);
    let statistic: f64 = counts.iter().map(|&count| (f64::from(count) - 2_000.0).powi(2) / 2_000.0).sum();
    assert!(statistic < 24.32, "{counts:?} {statistic}");
}

#[test]
fn keys_of_a_full_instance_wait_for_it_and_events_without_a_key_take_turns() {
    let mut views = instances(4);
    let owner = owners(1, &views)[0].unwrap();
    views[owner].has_room = false;
    assert_eq!(owners(1, &views), [None]);
    let mut picker = Balance::Affinity(Key::metadata("k")).picker(0);
    assert_eq!(counts(&mut picker, &instances(4), 8), [2; 4]);
}

struct Own(fn(&[InstanceView]) -> Option<usize>);

impl Balancer for Own {
    fn pick(&mut self, _: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        (self.0)(instances)
    }
}

#[test]
fn what_a_strategy_of_ones_own_may_not_pick_counts_as_none() {
    let mut views = instances(3);
    (views[1].health, views[2].has_room) = (ServiceHealth::Unhealthy, false);
    let picked = |own, views: &[InstanceView]| pick(&mut Balance::custom(Own(own)).picker(0), Priority::Normal, views);
    assert_eq!(picked(|_| Some(0), &views), Some(0));
    assert_eq!(picked(|_| Some(1), &views), None, "unhealthy");
    assert_eq!(picked(|_| Some(2), &views), None, "full");
    assert_eq!(picked(|_| Some(usize::MAX), &views), None, "not there");
    assert_eq!(picked(|_| panic!("the user's"), &views), None);
    assert_eq!(picked(|views| Some(views.len() - 1), &instances(100)), Some(63), "it sees what a service may have");
}

/// The mean time an event waits before its instance begins, in the unit of `service`: how long each instance takes for one.
/// An open queueing system: events come at random, whoever waits, with a mean of `every` between them.
fn mean_wait(balance: Balance, service: &[u64], every: u64, events: usize) -> f64 {
    let mut picker = balance.picker(1);
    let mut random = 11_u64;
    // When the events of each instance will be done, in their order.
    let mut done: Vec<VecDeque<u64>> = vec![VecDeque::new(); service.len()];
    let (mut now, mut waited) = (0, 0);
    Sample::new("x").with(|event| {
        for _ in 0..events {
            now += chance::next(&mut random) % (2 * every + 1);
            for queue in &mut done {
                while queue.front().is_some_and(|&end| end <= now) {
                    queue.pop_front();
                }
            }
            let view = |(id, queue): (u64, &VecDeque<u64>)| InstanceView {
                in_flight: u32::from(!queue.is_empty()),
                queued: queue.len().saturating_sub(1) as u32,
                ..InstanceView::new(id)
            };
            let views: Vec<InstanceView> = (0..).zip(&done).map(view).collect();
            let at = picker.pick(event, &views).unwrap();
            let begin = done[at].back().copied().unwrap_or(now);
            waited += begin - now;
            done[at].push_back(begin + service[at]);
        }
    });
    waited as f64 / events as f64
}

#[test]
#[cfg_attr(miri, ignore = "simulates more events than Miri makes in minutes")]
fn least_connections_beats_round_robin_with_one_slow_instance() {
    // Three take 100, one takes 400. One event every 105: a quarter of them keeps the slow one 95 % busy.
    let service = [100, 100, 400, 100];
    let round_robin = mean_wait(Balance::RoundRobin, &service, 105, 50_000);
    let least = mean_wait(Balance::LeastConnections, &service, 105, 50_000);
    println!("mean wait: round robin {round_robin:.1}, least connections {least:.1}");
    assert!(round_robin > 20.0 * least.max(1.0), "round robin {round_robin:.1}, least connections {least:.1}");
    // With all alike there is nothing to gain, and nothing is lost.
    let alike = [400; 4];
    let (round_robin, least) = (
        mean_wait(Balance::RoundRobin, &alike, 120, 50_000),
        mean_wait(Balance::LeastConnections, &alike, 120, 50_000),
    );
    assert!(least <= round_robin, "round robin {round_robin:.1}, least connections {least:.1}");
}

fn views() -> impl Strategy<Value = Vec<InstanceView>> {
    use ServiceHealth::{Degraded, Healthy, Unhealthy};
    let health = prop::sample::select(vec![Healthy, Degraded, Unhealthy]);
    let numbers = (0..4_u64, prop_oneof![0..3_u32, any::<u32>()], any::<i32>(), any::<u32>(), any::<u32>());
    let view =
        (health, any::<bool>(), numbers).prop_map(|(health, has_room, (id, weight, priority, in_flight, queued))| {
            InstanceView { health, has_room, weight, priority, in_flight, queued, ..InstanceView::new(id) }
        });
    prop::collection::vec(view, 0..80)
}

proptest! {
    #[test]
    fn whatever_it_is_given_a_strategy_picks_one_that_is_available_or_none(
        steps in prop::collection::vec((views(), prop::sample::select(&Priority::ALL[..])), 1..8),
        seed: u64,
    ) {
        let strategies = [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::WeightedRandom,
            Balance::HealthBased,
            Balance::PriorityBased { top_for: None },
            Balance::PriorityBased { top_for: Some(Priority::High) },
            Balance::Affinity(Key::Source),
            Balance::Affinity(Key::by(|meta| Some(meta.priority() as u64))),
        ];
        for strategy in strategies {
            let mut picker = strategy.picker(seed);
            for (views, priority) in &steps {
                let seen = &views[..views.len().min(64)];
                let available: Vec<usize> = (0..seen.len()).filter(|&at| seen[at].is_available()).collect();
                match pick(&mut picker, *priority, views) {
                    Some(at) => prop_assert!(available.contains(&at), "{picker:?}"),
                    None => {
                        let weighted = matches!(picker.strategy, Balance::WeightedRandom);
                        let by_key = matches!(picker.strategy, Balance::Affinity(_));
                        let any = available.iter().any(|&at| !weighted || seen[at].weight > 0);
                        prop_assert!(!any || by_key, "{picker:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn equals_take_turns_whoever_is_ill(views in views(), rounds in 1..5_usize) {
        let seen = &views[..views.len().min(64)];
        let available: Vec<usize> = (0..seen.len()).filter(|&at| seen[at].is_available()).collect();
        if !available.is_empty() {
            let counts = counts(&mut Balance::RoundRobin.picker(0), &views, rounds * available.len());
            prop_assert!(available.iter().all(|&at| counts[at] == rounds));
        }
    }
}
