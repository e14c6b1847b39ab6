//! What does rkyv in place cost beside copying payload bytes: to encode, and on the whole trip to a handler?

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::internals::Encode;
use ringmain::testing::Simulation;
use ringmain::{Bus, Payload, Topic};
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;
use support::{Count, LARGE, SMALL, Words};

const RAW: &str = "bench.raw";

fn main() {
    support::announce(&[]);
    let mut criterion = support::criterion();
    encode::<8>(&mut criterion);
    encode::<128>(&mut criterion);
    trip(&mut criterion, SMALL);
    trip(&mut criterion, LARGE);
    criterion.final_summary();
}

/// Into the publisher's scratch, and no further.
fn encode<const N: usize>(criterion: &mut Criterion) {
    let bytes = size_of::<Words<N>>();
    let event = Words::<N>::new(7);
    let copied = vec![7_u8; bytes];
    let mut arena = Arena::new();
    let mut scratch = AlignedVec::<16>::new();
    scratch.resize(bytes, 0);

    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(BenchmarkId::new("rkyv", format!("{bytes}B")), |bencher| {
        bencher.iter(|| {
            let written = (&black_box(&event)).encode(&mut scratch, &mut arena);
            assert_eq!(written, Ok(bytes));
            black_box(&mut scratch);
        });
    });
    group.bench_function(BenchmarkId::new("copy", format!("{bytes}B")), |bencher| {
        bencher.iter(|| {
            let written = Payload::raw(black_box(&copied)).encode(&mut scratch, &mut arena);
            assert_eq!(written, Ok(bytes));
            black_box(&mut scratch);
        });
    });
    group.finish();
}

/// Publish and delivery on one thread. In place: rkyv there, a reference into the slot here. Copied: the publisher
/// copies its value into bytes, the handler copies them out and rebuilds the value.
fn trip<const N: usize>(criterion: &mut Criterion, topic: Topic<Words<N>>) {
    let bytes = size_of::<Words<N>>();
    let builder = Bus::builder().workers(1).slot_bytes(support::slot_bytes(bytes));
    let simulation = Simulation::new(builder, 1).expect("the settings are valid");
    let bus = simulation.bus();
    let in_place = support::read_inline(bus, topic, 0);
    let copied = Count::default();
    let counted = copied.clone();
    let rebuild = bus.subscribe(RAW).handle(move |payload, _| {
        let mut words = [0_u64; N];
        let (chunks, []) = payload.bytes().as_chunks::<8>() else { return Err("the payload has odd bytes") };
        for (word, bytes) in words.iter_mut().zip(chunks) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let words = black_box(words);
        black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        counted.add_one();
        Ok(())
    });
    rebuild.expect("the pattern is valid").forever();
    let mut publisher = bus.publisher().expect("there is a place");
    let mut buffer = vec![0_u8; bytes];

    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut sent = 0;
    group.bench_function(BenchmarkId::new("trip_rkyv_in_place", format!("{bytes}B")), |bencher| {
        bencher.iter(|| {
            publisher.publish(topic, black_box(&Words::new(sent))).expect("there is room");
            simulation.turn(0);
            sent += 1;
            assert_eq!(in_place.get(), sent, "every event is delivered once");
        });
    });
    let mut sent = 0;
    group.bench_function(BenchmarkId::new("trip_copied_in_and_out", format!("{bytes}B")), |bencher| {
        bencher.iter(|| {
            let event = black_box(Words::<N>::new(sent));
            for (bytes, word) in buffer.as_chunks_mut::<8>().0.iter_mut().zip(event.words) {
                *bytes = word.to_ne_bytes();
            }
            publisher.publish(RAW, Payload::raw(&buffer)).expect("there is room");
            simulation.turn(0);
            sent += 1;
            assert_eq!(copied.get(), sent, "every event is delivered once");
        });
    });
    group.finish();
    drop(publisher);
    support::finish(bus);
}
