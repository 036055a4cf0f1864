//! One aggregation of every field scheme: K = 10, d = 1.6 M, two uploads and two more answers lost. Prints a
//! table: what a client and the server compute, next to a memcpy of what the server receives and to the
//! keystreams that it must expand.
//!
//! `cargo bench --bench aggregation`; medians of five rounds, on all cores.

#[path = "../experiments/groupwise_vs_secagg/timing.rs"]
mod timing;

use std::time::Instant;

use rayon::prelude::*;
use seccogc::algebra::extension::F7Pow5;
use seccogc::algebra::field::{Field, M31, M61, Prime};
use seccogc::crypto::{Secret, add_masks};
use seccogc::protocol::Protocol;
use seccogc::protocol::groupwise::Groupwise;
use seccogc::protocol::light_sec_agg::LightSecAgg;
use seccogc::protocol::sec_agg::{Cryptographic, SecAgg};
use seccogc::protocol::two_round::Rounds;
use seccogc::protocol::zhao_sun::ZhaoSun;
use seccogc::seed::Seed;
use timing::{Timed, inputs, round};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const K: usize = 10;
const D: usize = 1_600_000;
const ROUNDS: u64 = 5;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn seconds(work: impl FnMut()) -> f64 {
    let mut work = work;
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    median(times.collect())
}

fn bench<F: Field, P: Protocol<F>>(name: &str, protocol: &P, upload: u8, keystreams: usize) {
    let x = inputs::<F>(K, D);
    let lost = |phase: u8, k: u16| phase == upload && k < 2 || phase == upload + 2 && k < 4;
    let rounds: Vec<Timed> = (1..=ROUNDS).map(|number| round(protocol, number, &x, lost)).collect();
    assert!(rounds.iter().all(|timed| timed.recovered), "{name}");
    let of = |of: &dyn Fn(&Timed) -> f64| median(rounds.iter().map(of).collect());
    let client = of(&|timed| timed.prepare + timed.phases.iter().map(|phase| phase.client).sum::<f64>());
    let server = of(&|timed| timed.phases.iter().map(|phase| phase.server).sum());
    let received: u64 = rounds[0].phases.iter().map(|phase| phase.received).sum();
    drop((rounds, x));
    let source = vec![1u8; received as usize];
    let mut target = vec![0u8; received as usize];
    let part = 1 << 20;
    let memcpy = seconds(|| {
        target
            .par_chunks_mut(part)
            .zip(source.par_chunks(part))
            .for_each(|(to, from)| to.copy_from_slice(from));
    });
    let secrets: Vec<Secret> = (0..keystreams as u8).map(|k| Secret::new([k; 32])).collect();
    let terms: Vec<_> = secrets.iter().map(|secret| (false, secret)).collect();
    let mut y = vec![F::ZERO; D];
    let expansion = if keystreams > 0 { seconds(|| add_masks(&mut y, &terms)) } else { 0.0 };
    let rest = (server - expansion).max(0.0) / memcpy;
    println!(
        "| {name} | {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} | {rest:.1} |",
        F::ORDER.ilog2() + 1,
        1e3 * client,
        1e3 * server,
        received as f64 / 1e6,
        1e3 * memcpy,
        1e3 * expansion
    );
}

fn all<F: Prime>() {
    let seed = Seed::new(1);
    let scheme = "parameters exist";
    bench::<F, _>("zhao-sun, U = 6, T = 2", &Rounds::new(ZhaoSun::<F>::new(K, 6, 2).expect(scheme)), 1, 0);
    bench::<F, _>(
        "light-sec-agg, U = 6, T = 2",
        &Rounds::new(LightSecAgg::<F>::new(K, 6, 2).expect(scheme)),
        1,
        0,
    );
    for size in [2, 4, 5] {
        let name = format!("groupwise, U = 6, S = {size}");
        bench::<F, _>(&name, &Rounds::new(Groupwise::<F>::new(K, 6, size, seed).expect(scheme)), 1, 0);
    }
    // Eight self masks, and two drop-outs with eight survivors each.
    let secagg = SecAgg::<Cryptographic>::new(K, None, Some(6), seed).expect(scheme);
    bench::<F, _>("sec-agg, t = 6", &secagg, 4, 8 + 16);
    let plus = SecAgg::<Cryptographic>::new(K, Some(8), Some(4), seed).expect(scheme);
    bench::<F, _>("sec-agg-plus, k = 8, t = 4", &plus, 4, 8 + 14);
}

fn main() {
    println!(
        "| scheme | field bits | client ms | server ms | received MB | memcpy ms | keystreams ms | rest / memcpy |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    all::<M61>();
    all::<M31>();
    let scheme = Groupwise::<F7Pow5>::new(K, 6, 5, Seed::new(1)).expect("parameters exist");
    bench::<F7Pow5, _>("groupwise over F_7^5, U = 6, S = 5", &Rounds::new(scheme), 1, 0);
}
