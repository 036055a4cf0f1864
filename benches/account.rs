//! ε of 10⁵ rounds by privacy-loss distributions, once and as it is asked for after every round.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use seccogc::account::{Accountant, Adjacency, Sampling, Step};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u64 = 100_000;
const DELTA: f64 = 1e-6;

fn step(adjacency: Adjacency, rate: f64) -> Step {
    Step::gaussian(1.5, Sampling::Poisson { rate }, adjacency).unwrap()
}

fn after(steps: &[(Step, u64)]) -> Accountant {
    let mut accountant = Accountant::new(steps[0].0.adjacency());
    steps.iter().for_each(|(step, times)| accountant.add(step, *times).unwrap());
    accountant
}

fn account(c: &mut Criterion) {
    let mut group = c.benchmark_group("account");
    group.sample_size(10);
    for adjacency in [Adjacency::AddOrRemove, Adjacency::ReplaceOne] {
        let alike = after(&[(step(adjacency, 0.01), ROUNDS)]);
        group.bench_function(BenchmarkId::new("epsilon of 1e5 equal rounds", adjacency.name()), |b| {
            b.iter(|| black_box(alike.epsilon(DELTA).unwrap()));
        });
        let kinds: Vec<(Step, u64)> =
            (1u32..=4).map(|i| (step(adjacency, 0.005 * f64::from(i)), ROUNDS / 4)).collect();
        let mixed = after(&kinds);
        group.bench_function(
            BenchmarkId::new("epsilon of 1e5 rounds of four kinds", adjacency.name()),
            |b| {
                b.iter(|| black_box(mixed.epsilon(DELTA).unwrap()));
            },
        );
    }
    group.bench_function("a running epsilon over 1000 rounds", |b| {
        let round = step(Adjacency::AddOrRemove, 0.01);
        b.iter(|| {
            let mut accountant = Accountant::new(Adjacency::AddOrRemove);
            (0..1000).for_each(|_| {
                accountant.add(&round, 1).unwrap();
                black_box(accountant.running(DELTA).unwrap());
            });
        });
    });
    group.finish();
}

criterion_group!(benches, account);
criterion_main!(benches);
