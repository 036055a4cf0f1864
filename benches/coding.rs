//! The coding layer at memory speed: key generation, encoding and decoding of M = 10 updates of the FedAvg
//! CNN's size (d = 1,663,370), over the reals and over prime fields, next to a memcpy of the same bytes in
//! the same run; and what the grid does to a chunk in cache. Throughput counts the bytes that each pass must
//! read.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use seccogc::algebra::field::{M31, M61};
use seccogc::algebra::grid::{COIN, Grid, Public};
use seccogc::algebra::{KeyStream, Sample};
use seccogc::coding::{Code, CodeKind, Coefficient};
use seccogc::keys::{CHUNK, KeyKind, KeySource, Later, SeededKeys};
use seccogc::network::Perfect;
use seccogc::protocol::exchange::{PART_BYTES, part_len};
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::seed::Seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const M: usize = 10;
const D: usize = 1_663_370;

fn vectors<S: Sample>(count: usize) -> Vec<Vec<S>> {
    let source = SeededKeys(Seed::new(1));
    (0..count as u16)
        .into_par_iter()
        .map(|k| source.draw(KeyStream { purpose: "bench", round: 0, a: k, b: 0 }, D))
        .collect()
}

fn passes<S: Sample<Scalar: Coefficient> + Copy>(c: &mut Criterion, name: &str) {
    let code = S::Scalar::code(CodeKind::CyclicRandom, M, 7, Seed::new(1)).unwrap();
    let data = vectors::<S>(M);
    let bytes = |vectors: usize| Throughput::Bytes((vectors * D * S::BYTES) as u64);
    let mut group = c.benchmark_group("coding");
    group.sample_size(10);

    let mut target = data.clone();
    group.throughput(bytes(M));
    group.bench_function(BenchmarkId::new("memcpy of 10 vectors", name), |b| {
        b.iter(|| {
            target.par_iter_mut().zip(&data).for_each(|(target, data)| target.copy_from_slice(data));
            black_box(&target);
        });
    });
    let public = Public { clip: Some(1.0), coordinates: Some(D), ..Public::default() };
    let grid = |keys: KeyKind| Grid::new(M, keys.stds(M, 1.0), S::BYTES < 8, &public);
    let kinds = [KeyKind::Plain, KeyKind::Fair];
    let cases = kinds.into_iter().map(|keys| (keys, None));
    // Over a field there is nothing to round.
    let rounded = kinds.into_iter().map(|keys| (keys, grid(keys))).filter(|_| S::ROUNDOFF > 0.0);
    for (keys, grid) in cases.chain(rounded) {
        let on = if grid.is_some() { " on a grid" } else { "" };
        let id = BenchmarkId::new(format!("{} keys for 10 clients{on}", keys.name()), name);
        // Part by part, as a round is played.
        let part = part_len(PART_BYTES, M * S::BYTES);
        group.bench_function(id, |b| {
            b.iter(|| {
                for start in (0..D).step_by(part) {
                    let source = Later { source: SeededKeys(Seed::new(2)), chunks: start / CHUNK };
                    black_box(keys.masks::<S>(M, part.min(D - start), 1.0, grid.as_ref(), 1, &source));
                }
            });
        });
    }

    let support = code.support(0);
    group.throughput(bytes(support.len()));
    group.bench_function(BenchmarkId::new("encode: one sum of 8 shares", name), |b| {
        let terms: Vec<_> = support.iter().map(|&k| (code.coefficient(0, k), data[k].as_slice())).collect();
        b.iter(|| black_box(S::combine(D, &terms)));
    });

    let rows = [0, 3, 6];
    let weights = code.decode(&rows).unwrap();
    group.throughput(bytes(rows.len()));
    group.bench_function(BenchmarkId::new("decode from 3 sums", name), |b| {
        let terms: Vec<_> = weights.iter().zip(rows).map(|(&a, m)| (a, data[m].as_slice())).collect();
        b.iter(|| black_box(S::combine(D, &terms)));
    });
    group.finish();
}

/// Whole coding rounds: dealing, masking, sharing, adding up, uploading and decoding, on a grid and without.
fn rounds(c: &mut Criterion) {
    let update = |k: usize| Update { weight: 1.0, delta: Arc::new(vec![1e-4 * (k as f32 + 0.5); D]) };
    let updates: Vec<Update> = (0..M).map(update).collect();
    let public = Public { clip: Some(1.0), coordinates: Some(D), ..Public::default() };
    let mut group = c.benchmark_group("coding round");
    group.sample_size(20);
    for (arithmetic, stragglers) in [("f64", 3), ("f64", 7), ("f32", 3)] {
        for grid in [false, true] {
            let section = format!(
                "kind = 'sec-cogc'\nstragglers = {stragglers}\narithmetic = '{arithmetic}'\ngrid = {grid}"
            );
            let config: ProtocolConfig = toml::from_str(&section).unwrap();
            let scheme = config.build_for(M, Seed::new(1), &public).unwrap();
            let on = if grid { "on a grid" } else { "without a grid" };
            let id = BenchmarkId::new(format!("s = {stragglers}, {on}"), arithmetic);
            let mut round = 0;
            group.bench_function(id, |b| {
                b.iter(|| {
                    round += 1;
                    black_box(scheme.aggregate(round, &updates, &Perfect, 1).unwrap())
                });
            });
        }
    }
    group.finish();
}

/// What the grid does to a chunk that is in cache, which a copy refreshes where it is changed.
fn grids(c: &mut Criterion) {
    let grid = Grid::new(M, (1.0, 1.0), false, &Public::default()).unwrap();
    let source = SeededKeys(Seed::new(1));
    let stream = |purpose| KeyStream { purpose, round: 0, a: 0, b: 0 };
    let (draws, mean): (Vec<f64>, Vec<f64>) =
        (source.draw(stream("draws"), CHUNK), source.draw(stream("mean"), CHUNK));
    let update: Vec<f32> = draws.iter().map(|x| *x as f32).collect();
    let mut coins = vec![0; CHUNK * COIN];
    KeySource::<f64>::coins(&source, stream("coins"), 0, &mut coins);
    let mut y = draws.clone();
    let mut group = c.benchmark_group("grid");
    group.throughput(Throughput::Bytes((8 * CHUNK) as u64));
    group.bench_function("copy", |b| b.iter(|| black_box(&mut y).copy_from_slice(&draws)));
    group.bench_function("settle", |b| {
        b.iter(|| {
            y.copy_from_slice(&draws);
            grid.settle(black_box(&mut y), &coins);
        });
    });
    group.bench_function("settle_less", |b| {
        b.iter(|| {
            y.copy_from_slice(&draws);
            grid.settle_less(black_box(&mut y), 1.05, &mean, &coins);
        });
    });
    group.bench_function("add", |b| {
        b.iter(|| {
            y.copy_from_slice(&draws);
            grid.add(black_box(&mut y), 0.9, &update);
        });
    });
    group.bench_function("round_all", |b| {
        b.iter(|| {
            y.copy_from_slice(&draws);
            grid.round_all(black_box(&mut y));
        });
    });
    group.bench_function("holds", |b| b.iter(|| grid.holds(black_box(&draws), grid.step())));
    group.finish();
}

fn coding(c: &mut Criterion) {
    passes::<f64>(c, "f64");
    passes::<f32>(c, "f32");
    passes::<M61>(c, "2^61-1");
    passes::<M31>(c, "2^31-1");
}

criterion_group!(benches, grids, coding, rounds);
criterion_main!(benches);
