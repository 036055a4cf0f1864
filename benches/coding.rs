//! The coding layer at memory speed: key generation, encoding and decoding of M = 10 updates of the FedAvg
//! CNN's size (d = 1,663,370), over the reals and over prime fields, next to a memcpy of the same bytes in
//! the same run. Throughput counts the bytes that each pass must read.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use seccogc::algebra::field::{M31, M61};
use seccogc::algebra::grid::{Grid, Public};
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

fn coding(c: &mut Criterion) {
    passes::<f64>(c, "f64");
    passes::<f32>(c, "f32");
    passes::<M61>(c, "2^61-1");
    passes::<M31>(c, "2^31-1");
}

criterion_group!(benches, coding, rounds);
criterion_main!(benches);
