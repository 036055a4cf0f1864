use statrs::distribution::{ContinuousCDF, Normal};

use super::*;

/// A matrix with long rows, a vector, one with long columns, a convolution, a number.
fn tensors() -> Vec<Vec<usize>> {
    vec![vec![16, 64], vec![5], vec![48, 3], vec![4, 3, 2, 2], vec![1], vec![1, 7]]
}

fn all(ratio: f64, error_feedback: bool) -> [Arc<dyn Compression>; 4] {
    [
        Arc::new(RandomCoordinates { ratio, error_feedback }),
        Arc::new(LowRank { ratio, error_feedback }),
        Arc::new(CountSketch { ratio, rows: 1, error_feedback, top: None }),
        Arc::new(CountSketch { ratio, rows: 5, error_feedback, top: None }),
    ]
}

/// Whole numbers from −8 to 8.
fn numbers(d: usize, step: usize) -> Vec<f32> {
    (0..d).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
}

fn real(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn lengths_are_those_that_are_declared() {
    let tensors = tensors();
    let d = size(&tensors);
    assert_eq!(d, 1024 + 5 + 144 + 48 + 1 + 7);
    for ratio in [1e-9, 0.01, 0.1, 0.5, 1.0] {
        for family in [all(ratio, false), all(ratio, true)].concat() {
            let map = family.draw(&tensors, Seed::new(1), 1);
            let sent = map.compress(&numbers(d, 3));
            assert_eq!(sent.len(), family.coordinates(&tensors));
            assert_eq!(map.expand(&real(&sent)).len(), d);
            assert!(sent.len() <= d.max(5));
        }
    }
    let sent = |family: &dyn Compression| family.coordinates(&tensors);
    assert_eq!(sent(&RandomCoordinates { ratio: 0.1, error_feedback: true }), 123);
    // 6 of 64 · 16, 5 of 48 · 3, 1 of 12 · 4, and the vectors.
    assert_eq!(sent(&LowRank { ratio: 0.1, error_feedback: true }), 96 + 5 + 15 + 4 + 1 + 7);
    assert_eq!(sent(&CountSketch { ratio: 0.1, ..Default::default() }), 5 * 24);
}

/// Scales that are powers of two and whole numbers leave nothing to round.
#[test]
fn a_sum_of_compressed_vectors_is_the_compressed_sum_to_the_last_bit() {
    let tensors = [vec![16, 4], vec![4, 64], vec![64]];
    let d = size(&tensors);
    let (x, y) = (numbers(d, 3), numbers(d, 5));
    let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    for family in &all(0.25, true)[..3] {
        for round in 1..9 {
            let map = family.draw(&tensors, Seed::new(2), round);
            let parts = map.compress(&x).into_iter().zip(map.compress(&y)).map(|(x, y)| x + y);
            assert_eq!(parts.collect::<Vec<_>>(), map.compress(&sum));
        }
    }
}

#[test]
fn all_of_it_is_all_of_it() {
    let tensors = tensors();
    let x = numbers(size(&tensors), 7);
    for error_feedback in [false, true] {
        for (family, tolerance) in all(1.0, error_feedback).iter().zip([0.0, 1e-5]) {
            let map = family.draw(&tensors, Seed::new(3), 4);
            assert!(near(&map.expand(&real(&map.compress(&x))), &real(&x), tolerance));
        }
    }
}

#[test]
fn maps_follow_from_seed_and_round() {
    let tensors = tensors();
    let x = numbers(size(&tensors), 3);
    for error_feedback in [false, true] {
        for family in all(0.3, error_feedback) {
            let sent = |seed, round| family.draw(&tensors, Seed::new(seed), round).compress(&x);
            assert_eq!(sent(1, 1), sent(1, 1));
            assert_ne!(sent(1, 1), sent(2, 1));
            // Sketches that are to be added up hash alike.
            assert_eq!(sent(1, 1) == sent(1, 2), family.residual() == Residual::Server);
        }
    }
}

/// Over 4000 draws, each coordinate two-sided at α = 10⁻⁶ over all: the estimate has the mean x, and the
/// squared norm of what is sent that of x.
#[test]
fn without_error_feedback_the_mean_is_unbiased() {
    const DRAWS: usize = 4000;
    let tensors = vec![vec![3, 6], vec![6, 2], vec![4]];
    let d = size(&tensors);
    let x = numbers(d, 5);
    let most = Normal::new(0.0, 1.0).unwrap().inverse_cdf(1.0 - 1e-6 / 2.0 / (d + 1) as f64);
    for family in all(0.3, false) {
        let mut draws: Vec<Vec<f64>> = vec![Vec::new(); d + 1];
        for round in 0..DRAWS as u64 {
            let map = family.draw(&tensors, Seed::new(4), round);
            let sent = real(&map.compress(&x));
            let estimate = map.expand(&sent);
            let all = estimate.into_iter().chain([dot(&sent, &sent)]);
            draws.iter_mut().zip(all).for_each(|(draws, x)| draws.push(x));
        }
        let wanted = real(&x);
        for (draws, want) in draws.iter().zip(wanted.iter().copied().chain([dot(&wanted, &wanted)])) {
            let mean = draws.iter().sum::<f64>() / DRAWS as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
            let error = (variance / DRAWS as f64).sqrt();
            assert!((mean - want).abs() <= most * error + 1e-5, "{mean} for {want} ± {error}");
        }
    }
}

/// What is carried and what is left are orthogonal, and what was carried is carried again: nothing grows.
#[test]
fn with_error_feedback_clients_carry_a_projection() {
    let tensors = tensors();
    let x = numbers(size(&tensors), 3);
    for family in &all(0.2, true)[..2] {
        for round in 1..6 {
            let map = family.draw(&tensors, Seed::new(5), round);
            let once = map.expand(&real(&map.compress(&x)));
            let single: Vec<f32> = once.iter().map(|x| *x as f32).collect();
            assert!(near(&map.expand(&real(&map.compress(&single))), &once, 1e-4));
            let left: Vec<f64> = real(&x).iter().zip(&once).map(|(x, once)| x - once).collect();
            assert!(dot(&left, &once).abs() < 1e-3 && dot(&once, &once) > 0.0);
        }
    }
}

#[test]
fn the_largest_coordinates_are_found_in_a_sketch() {
    let tensors = vec![vec![1000]];
    let family = CountSketch { ratio: 0.9, rows: 5, error_feedback: true, top: Some(3.0 / 900.0) };
    let map = family.draw(&tensors, Seed::new(6), 1);
    let mut x = vec![0.0f32; 1000];
    (x[17], x[500], x[999]) = (4.0, -8.0, 2.0);
    let mut kept = vec![0.0; 900];
    let taken = map.take(&real(&map.compress(&x)), &mut kept);
    assert!(near(&taken, &real(&x), 1e-5), "{taken:?}");
    assert!(near(&real(&kept), &vec![0.0; 900], 1e-5));
}

/// Counters to which something hashes that the server takes are empty, all others hold what arrived. Nothing
/// grows, although no coordinate stands out.
#[test]
fn what_is_not_taken_is_kept() {
    let tensors = tensors();
    let d = size(&tensors);
    for family in &all(0.2, true)[2..] {
        let mut kept = vec![0.0; family.coordinates(&tensors)];
        for round in 1..100 {
            let map = family.draw(&tensors, Seed::new(7), round);
            let (before, sent) = (kept.clone(), map.compress(&numbers(d, 2 + round as usize)));
            let taken = map.take(&real(&sent), &mut kept);
            let count = taken.iter().filter(|x| **x != 0.0).count();
            assert!(count > 0 && count <= part(kept.len(), 0.1));
            let hit = |i: usize| {
                let mut one = vec![0.0; d];
                one[i] = 1.0;
                map.compress(&one)
            };
            let mut emptied = vec![false; kept.len()];
            for i in (0..d).filter(|&i| taken[i] != 0.0) {
                emptied.iter_mut().zip(hit(i)).for_each(|(emptied, x)| *emptied |= x != 0.0);
            }
            for (i, emptied) in emptied.into_iter().enumerate() {
                assert_eq!(kept[i], if emptied { 0.0 } else { before[i] + sent[i] });
            }
            assert!(kept.iter().all(|x| x.abs() < 1e4), "round {round}");
        }
    }
}

#[test]
fn every_kind_names_its_key() {
    let section = |toml: &str| toml::from_str::<CompressionConfig>(toml).unwrap();
    for (toml, line) in [
        ("kind = 'random-coordinates'\nratio = 0.0", "ratio: must be greater than 0 and at most 1, not 0"),
        ("kind = 'low-rank'\nratio = 1.5", "ratio: must be greater than 0 and at most 1, not 1.5"),
        ("kind = 'count-sketch'\nratio = nan", "ratio: must be greater than 0 and at most 1, not NaN"),
        ("kind = 'count-sketch'\nrows = 4", "rows: must be odd, 1 to 31, not 4"),
        ("kind = 'count-sketch'\nrows = 33", "rows: must be odd, 1 to 31, not 33"),
        ("kind = 'count-sketch'\ntop = 0.0", "top: must be greater than 0 and at most 1, not 0"),
        (
            "kind = 'count-sketch'\nerror_feedback = false\ntop = 0.5",
            "top: belongs to error_feedback = true; set that or remove it",
        ),
    ] {
        assert_eq!(section(toml).compression().check().unwrap_err().to_string(), line);
    }
    for kind in CompressionConfig::KINDS {
        let section = section(&format!("kind = '{kind}'"));
        section.compression().check().unwrap();
        assert_eq!(section.chosen().is_none(), *kind == "none");
    }
}
