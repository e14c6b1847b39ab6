use ringmain::testing::Simulation;
use ringmain::*;
#[derive(rkyv::Archive, rkyv::Serialize)]
struct E {
    seq: u64,
    w: [u64; 7],
}
const T: Topic<E> = Topic::new("a.b");
#[inline(never)]
fn publish(p: &mut Publisher, n: u64) {
    for i in 0..n {
        p.publish(T, &E { seq: i, w: [i; 7] }).unwrap();
    }
}
#[inline(never)]
fn deliver(s: &Simulation) {
    while s.turn(0).unwrap() > 0 {}
}
fn main() {
    let sim =
        Simulation::new(Bus::builder().workers(1).stamps(StampPolicy::OneIn(64)).slot_bytes(128).single_publisher(), 1)
            .unwrap();
    let mut sum = 0u64;
    let _s = sim
        .bus()
        .subscribe(T)
        .handle(move |e, _m| {
            sum += e.seq.to_native() + e.w[6].to_native();
            std::hint::black_box(sum);
        })
        .unwrap();
    let mut p = sim.bus().publisher().unwrap();
    for _ in 0..20 {
        publish(&mut p, 5000);
        deliver(&sim);
    }
}
