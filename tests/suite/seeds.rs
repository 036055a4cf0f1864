//! The seeds of the fuzz targets, played by what the targets do, without a fuzzer.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use seccogc::seed::Seed;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_target_takes_its_seeds_and_what_is_cut_from_them() {
    for (name, target) in targets::TARGETS {
        let seeds = seeds(name);
        let accepted = seeds.iter().filter(|seed| target(seed)).count();
        // Nothing that is sealed under another secret opens.
        assert_eq!(accepted > 0, name != "seal", "{name}: {accepted} of {} seeds are accepted", seeds.len());
        for seed in seeds {
            for place in 0..seed.len() {
                target(&seed[..place]);
                let mut other = seed.clone();
                other[place] ^= 0x80;
                target(&other);
            }
        }
    }
}

/// Bytes and numbers at which parsers and sums go wrong.
const EDGES: [&[u8]; 14] = [
    b"0",
    b"-1",
    b"1e308",
    b"1e-320",
    b"nan",
    b"inf",
    b"65536",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"18446744073709551615",
    b"\xff\xff\xff\xff",
    b"\"\n",
    b"\xe2\x80\xae",
];

/// Changes an input in one place, or makes another of the pool its end.
fn mutate(input: &mut Vec<u8>, pool: &[Vec<u8>], rng: &mut impl Rng) {
    let place = rng.random_range(0..=input.len());
    let stop = (place + rng.random_range(0..16)).min(input.len());
    match rng.random_range(0..6) {
        0 => input.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        1 => drop(input.drain(place..stop)),
        2 => {
            let twice = input[place..stop].to_vec();
            drop(input.splice(place..place, twice));
        }
        3 => {
            let other = &pool[rng.random_range(0..pool.len())];
            input.truncate(place);
            input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
        }
        4 => {
            let bytes: Vec<u8> = (place..stop).map(|_| rng.random()).collect();
            drop(input.splice(place..stop, bytes));
        }
        _ => {
            // In the place of a number, where there is one behind it.
            let start = (place..input.len()).find(|&i| input[i].is_ascii_digit()).unwrap_or(place);
            let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let edge = EDGES[rng.random_range(0..EDGES.len())];
            drop(input.splice(start..start + digits, edge.iter().copied()));
        }
    }
}

#[test]
#[ignore = "a minute a target: cargo test --release --features deploy --test suite mutated -- --ignored --nocapture"]
fn every_target_takes_mutated_seeds() {
    for (name, target) in targets::TARGETS {
        let (mut rng, mut pool) = (Seed::new(23).rng(), seeds(name));
        let (end, mut inputs, mut accepted) = (Instant::now() + Duration::from_secs(60), 0_u64, 0_u64);
        while Instant::now() < end {
            let mut input = pool[rng.random_range(0..pool.len())].clone();
            for _ in 0..rng.random_range(1..=4) {
                mutate(&mut input, &pool, &mut rng);
            }
            input.truncate(4096);
            inputs += 1;
            let taken = catch_unwind(|| target(&input));
            let taken = taken.unwrap_or_else(|_| panic!("{name}: {:?}", String::from_utf8_lossy(&input)));
            accepted += u64::from(taken);
            if taken && pool.len() < 2048 {
                pool.push(input);
            }
        }
        println!("{name}: {inputs} inputs, {accepted} accepted");
    }
}
