//! Noise for exact sums, per coordinate of a chunk on one thread and of a long vector on all: the samplers at
//! variances of few bits and of many, the rotation, and rounding, next to uniform keys of the same length.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seccogc::algebra::field::{M31, M61};
use seccogc::algebra::{CHUNK, Sample, Symbol};
use seccogc::noise::{Hadamard, Kind, Noise, Rounder};
use seccogc::seed::Seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const D: usize = 1 << 21;

fn draws(c: &mut Criterion) {
    let mut group = c.benchmark_group("noise");
    group.sample_size(20);
    for len in [CHUNK, D] {
        group.throughput(Throughput::Elements(len as u64));
        let mut y = vec![M61::zero(); len];
        group.bench_function(BenchmarkId::new("uniform key", len), |b| {
            b.iter(|| M61::sample(&mut Seed::new(1).bulk(0), black_box(&mut y)));
        });
        for (kind, name) in [(Kind::Skellam, "skellam"), (Kind::DiscreteGaussian, "discrete gaussian")] {
            for power in [2, 14, 40] {
                let noise = Noise::new(kind, 2f64.powi(power)).unwrap();
                group.bench_function(BenchmarkId::new(format!("{name} of variance 2^{power}"), len), |b| {
                    b.iter(|| noise.add_to(black_box(&mut y), 0, Seed::new(1)));
                });
            }
        }
        let mut x: Vec<f32> = (0..len).map(|i| (i as f32).sin() * 1e-4).collect();
        group.bench_function(BenchmarkId::new("rotation", len), |b| {
            b.iter(|| Hadamard::new(Seed::new(1)).rotate(black_box(&mut x)));
        });
        let rounder = Rounder::new(16_384.0, 1.0, len, 0.6).unwrap();
        let mut y = vec![M31::zero(); len];
        group.bench_function(BenchmarkId::new("conditional rounding", len), |b| {
            b.iter(|| rounder.round(1.0, black_box(&x), Seed::new(1)).add_to(&mut y, 0));
        });
    }
    group.bench_function("table", |b| b.iter(|| Noise::skellam(black_box(1e6))));
    group.finish();
}

criterion_group!(benches, draws);
criterion_main!(benches);
