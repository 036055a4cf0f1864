//! Draws against the exact laws, and the laws against the numbers of the design page.

use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

use super::*;
use crate::algebra::field::{M31, M61, Small};
use crate::algebra::{Scalar, Symbol};

/// A law on −REACH..=REACH.
const REACH: i64 = 600;

/// The exact probabilities of a noise of small variance, by the definitions.
fn pmf(kind: Kind, variance: f64) -> Vec<f64> {
    let mean = variance / 2.0;
    let most = (mean + 12.0 * mean.sqrt()) as i64 + 2 * REACH;
    let poisson: Vec<f64> = (0..most)
        .scan(-mean, |log, k| Some(std::mem::replace(log, *log + mean.ln() - ((k + 1) as f64).ln()).exp()))
        .collect();
    let raw = |k: i64| match kind {
        Kind::Skellam => poisson.iter().zip(&poisson[k.unsigned_abs() as usize..]).map(|(a, b)| a * b).sum(),
        Kind::DiscreteGaussian => (-((k * k) as f64) / (2.0 * variance)).exp(),
    };
    let raw: Vec<f64> = (-REACH..=REACH).map(raw).collect();
    let whole: f64 = raw.iter().sum();
    raw.into_iter().map(|p| p / whole).collect()
}

/// The law of a sum.
fn sum_of(p: &[f64], q: &[f64]) -> Vec<f64> {
    let n = p.len() as i64;
    let at = |k: i64| -> f64 {
        let range = (k - REACH).max(0)..(k + REACH + 1).min(n);
        range.map(|i| p[i as usize] * q[(k - i + REACH) as usize]).sum()
    };
    (0..n).map(at).collect()
}

fn draws(noise: &Noise, count: usize, seed: u64) -> Vec<i64> {
    let mut y = vec![M61::zero(); count];
    noise.add_to(&mut y, 0, Seed::new(seed));
    y.iter().map(|y| y.centred()).collect()
}

/// χ² of draws over cells of 20 expected ones at least, α = 10⁻⁶.
fn assert_law(what: &str, draws: &[i64], pmf: &[f64]) {
    let (n, mut counts) = (draws.len() as f64, vec![0.0; pmf.len()]);
    draws.iter().for_each(|k| counts[(k + REACH) as usize] += 1.0);
    let (mut chi, mut cells, mut count, mut expected, mut left) = (0.0, 0.0, 0.0, 0.0, n);
    for (i, (c, p)) in counts.iter().zip(pmf).enumerate() {
        (count, expected, left) = (count + c, expected + p * n, left - p * n);
        if i + 1 == pmf.len() || expected > 20.0 && left > 20.0 {
            chi += (count - expected).powi(2) / expected;
            (cells, count, expected) = (cells + 1.0, 0.0, 0.0);
        }
    }
    assert!(cells > 1.0, "{what}");
    let limit = ChiSquared::new(cells - 1.0).unwrap().inverse_cdf(1.0 - 1e-6);
    assert!(chi < limit, "{what}: {chi} of {limit} in {cells} cells");
}

#[test]
fn draws_have_the_laws_of_small_variances() {
    for kind in [Kind::Skellam, Kind::DiscreteGaussian] {
        for variance in [0.06, 0.3, 1.0, 5.5, 49.0, 1000.0, 4200.0] {
            let noise = Noise::new(kind, variance).unwrap();
            assert_law(&format!("{kind:?} {variance}"), &draws(&noise, 400_000, 1), &pmf(kind, variance));
        }
    }
}

/// Kolmogorov's distance from the normal law, from which these differ by less than 10⁻⁵: 2.69/√n, α = 10⁻⁶.
#[test]
fn draws_have_the_laws_of_large_variances() {
    let n = 400_000;
    let normal = Normal::standard();
    for kind in [Kind::Skellam, Kind::DiscreteGaussian] {
        for variance in [1e10, 3.3e12, 2f64.powi(50)] {
            let mut draws = draws(&Noise::new(kind, variance).unwrap(), n, 2);
            draws.sort_unstable();
            let distance = draws.iter().enumerate().fold(0.0f64, |worst, (i, &x)| {
                let cdf = normal.cdf(x as f64 / variance.sqrt());
                worst.max((cdf - i as f64 / n as f64).abs()).max((cdf - (i + 1) as f64 / n as f64).abs())
            });
            assert!(distance < 2.69 / (n as f64).sqrt() + 1e-5, "{kind:?} {variance}: {distance}");
            // Low bits are as even as a normal law of such a width makes them: 5 standard errors.
            let odd = draws.iter().filter(|&&x| x % 2 != 0).count() as f64 / n as f64;
            assert!((odd - 0.5).abs() < 2.5 / (n as f64).sqrt(), "{kind:?} {variance}: {odd}");
        }
    }
}

/// 5 standard errors of mean and variance, α = 10⁻⁶ each; the kurtosis of Skellam is 3 + 1/variance.
#[test]
fn means_and_variances_are_right() {
    let n = 400_000;
    for kind in [Kind::Skellam, Kind::DiscreteGaussian] {
        for variance in [2.0, 300.0, 70_000.0, 1e8] {
            let draws = draws(&Noise::new(kind, variance).unwrap(), n, 3);
            let mean = draws.iter().sum::<i64>() as f64 / n as f64;
            let square = draws.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / n as f64;
            assert!(mean.abs() < 5.0 * (variance / n as f64).sqrt(), "{kind:?} {variance}: {mean}");
            let error = variance * ((2.0 + 1.0 / variance) / n as f64).sqrt();
            assert!((square - variance).abs() < 5.0 * error, "{kind:?} {variance}: {square}");
        }
    }
}

#[test]
fn sums_of_skellams_are_skellams() {
    let sum = sum_of(&pmf(Kind::Skellam, 3.0), &pmf(Kind::Skellam, 13.0));
    let whole = pmf(Kind::Skellam, 16.0);
    assert!(sum.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-13));
    let noise = |variance| Noise::skellam(variance).unwrap();
    let mut y = vec![M61::zero(); 300_000];
    for (variance, seed) in [(3.0, 1), (13.0, 2)] {
        noise(variance).add_to(&mut y, 0, Seed::new(seed));
    }
    let drawn: Vec<i64> = y.iter().map(|y| y.centred()).collect();
    assert_law("sum", &drawn, &whole);
}

#[test]
fn parts_are_the_whole_in_any_field_and_any_threads() {
    let len = 2 * CHUNK + 100;
    for noise in [Noise::skellam(1e6).unwrap(), Noise::discrete_gaussian(3.5).unwrap()] {
        let whole = draws(&noise, len, 4);
        let mut parts = vec![M61::zero(); len];
        let (first, rest) = parts.split_at_mut(CHUNK);
        noise.add_to(rest, CHUNK, Seed::new(4));
        noise.add_to(first, 0, Seed::new(4));
        assert_eq!(parts.iter().map(|y| y.centred()).collect::<Vec<_>>(), whole);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(|| draws(&noise, len, 4)), whole);
        assert_ne!(draws(&noise, len, 5), whole);
        assert_ne!(whole[..100], whole[CHUNK..CHUNK + 100]);
        let (mut small, mut large) = (vec![Small::<7>::ONE; len], vec![M31::zero(); len]);
        noise.add_to(&mut small, 0, Seed::new(4));
        noise.add_to(&mut large, 0, Seed::new(4));
        assert!(whole.iter().zip(&small).all(|(n, y)| y.residue() as i64 == (n + 1).rem_euclid(7)));
        assert!(whole.iter().zip(&large).all(|(n, y)| y.centred() == *n));
    }
}

/// Rényi divergence of order a of a law from itself moved by `shift`.
fn renyi(pmf: &[f64], shift: usize, a: i32) -> f64 {
    let terms = pmf.iter().zip(&pmf[shift..]).filter(|(p, q)| **p > 1e-280 && **q > 1e-280);
    terms.map(|(p, q)| (f64::from(a) * p.ln() - f64::from(a - 1) * q.ln()).exp()).sum::<f64>().ln()
        / f64::from(a - 1)
}

/// Skellam: Agarwal, Kairouz, Liu 2021; sums of discrete Gaussians: Kairouz, Liu, Steinke 2021.
#[test]
fn divergences_are_within_the_bounds_of_the_papers() {
    for (v, shift, a, want, most) in [(16.0, 1, 2, 0.062_41, 0.071_289), (100.0, 5, 8, 0.969_194, 1.010_125)]
    {
        let got = renyi(&pmf(Kind::Skellam, v), shift, a);
        let (order, norm) = (f64::from(a), shift as f64);
        let (square, one) = (norm * norm, norm.min(norm * norm));
        let second = (((2.0 * order - 1.0) * square + 6.0 * one) / (4.0 * v * v)).min(3.0 * one / (2.0 * v));
        let bound = order * square / (2.0 * v) + second;
        assert!((got - want).abs() < 1e-5 && (bound - most).abs() < 1e-6 && got < bound, "{got} {bound}");
    }
    for (std, want, most) in [(0.7f64, 0.510_236, 0.612_490), (1.0, 0.250_000, 0.250_540)] {
        let one = pmf(Kind::DiscreteGaussian, std * std);
        let two = sum_of(&one, &one);
        let got = renyi(&sum_of(&two, &two), 1, 2);
        let off = |k: f64| (-2.0 * std::f64::consts::PI.powi(2) * std * std * k / (k + 1.0)).exp();
        let tau = 10.0 * (1..4).map(|k| off(f64::from(k))).sum::<f64>();
        let bound = 1.0 / (4.0 * std * std) + tau;
        assert!((got - want).abs() < 1e-6 && (bound - most).abs() < 1e-6 && got < bound, "{got} {bound}");
    }
}

#[test]
fn variances_are_bounded_and_never_rounded_down() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
        for kind in [Kind::Skellam, Kind::DiscreteGaussian] {
            let error = Noise::new(kind, bad).unwrap_err().to_string();
            assert!(error.starts_with("variance: "), "{error}");
        }
    }
    for (scale, std) in [(1024.0, 0.1), (3.0, 1.0 / 3.0), (1e5, 7.77)] {
        let [(scaled, by), (std, of), (rounded, to)] = [scale, std, variance(scale, std)].map(exact::dyadic);
        let (product, exponent) = ((scaled * std).pow(2), 2 * (by + of));
        assert!(to > exponent && rounded << (to - exponent) >= product);
    }
}
