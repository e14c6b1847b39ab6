use ringmain::*;
use std::sync::Arc;
use std::sync::atomic::*;
use std::time::*;
#[derive(rkyv::Archive, rkyv::Serialize)]
struct E {
    seq: u64,
    w: [u64; 7],
}
const T: Topic<E> = Topic::new("a.b");
fn main() {
    for (single, stamps, slot) in [
        (true, StampPolicy::OneIn(64), 128),
        (false, StampPolicy::OneIn(64), 128),
        (false, StampPolicy::Every, 128),
        (false, StampPolicy::Every, 256),
    ] {
        let mut b = Bus::builder()
            .workers(1)
            .idle(IdleStrategy::BusySpin)
            .stamps(stamps)
            .slot_bytes(slot)
            .max_queue_size(4096)
            .pin(false);
        if single {
            b = b.single_publisher();
        }
        let bus = b.build().unwrap();
        let sum = Arc::new(AtomicU64::new(0));
        let s2 = sum.clone();
        let mut next = 0;
        let _s = bus
            .subscribe(T)
            .handle(move |e, _m| {
                let q = e.seq.to_native();
                assert_eq!(q, next);
                next += 1;
                s2.store(q + e.w[6].to_native(), Ordering::Relaxed);
            })
            .unwrap();
        let mut p = bus.publisher().unwrap();
        let n = 5_000_000u64;
        for round in 0..3 {
            let t = Instant::now();
            for i in 0..n {
                p.publish(T, &E { seq: round * n + i, w: [i; 7] }).unwrap();
            }
            bus.flush().unwrap();
            let d = t.elapsed();
            println!("single={single} {stamps:?} slot={slot}: {:.1} Mev/s", n as f64 / d.as_secs_f64() / 1e6);
        }
        let m = bus.metrics();
        println!("{:?}", m.delivery_latency.queue);
        let r = bus.shutdown().unwrap();
        assert!(r.is_clean() && r.ledger_balanced, "{r:?} {:?}", bus.ledger());
    }
}
