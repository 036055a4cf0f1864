use super::*;
use crate::seed::Seed;
use proptest::prelude::*;
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Laws of small and large spread, and at the seams of the formulas: one column per number, several, the
/// most.
fn laws() -> Vec<Law> {
    let spreads = [1e-9, 0.3, 1.0, 7.25, 100.0, 1023.9, 4096.0, 16_380.0, 3e5, 1e9, 2f64.powi(49)];
    spreads.iter().flat_map(|&spread| [Law::Gaussian(spread), Law::Poisson(spread)]).collect()
}

fn draws(hat: &Hat, seed: Seed, count: usize, trusts_floats: bool) -> Vec<i64> {
    let mut words = Words::new(seed.bulk(0));
    words.trusts_floats = trusts_floats;
    (0..count).map(|_| hat.draw(&mut words)).collect()
}

/// Whether counts are those of draws from these probabilities: χ² over cells of 20 expected draws at least, α
/// = 10⁻⁶.
fn assert_law(what: &str, counts: &[f64], probabilities: &[f64]) {
    let draws: f64 = counts.iter().sum();
    let (mut chi, mut cells) = (0.0, 0.0);
    let (mut count, mut expected) = (0.0, 0.0);
    let left = |i: usize| probabilities[i..].iter().sum::<f64>() * draws;
    for (i, (c, p)) in counts.iter().zip(probabilities).enumerate() {
        (count, expected) = (count + c, expected + p * draws);
        let is_last = i + 1 == counts.len();
        if is_last || expected > 20.0 && left(i + 1) > 20.0 {
            chi += (count - expected) * (count - expected) / expected;
            cells += 1.0;
            (count, expected) = (0.0, 0.0);
        }
    }
    assert!(cells > 1.0, "{what}: {cells} cells");
    let limit = ChiSquared::new(cells - 1.0).unwrap().inverse_cdf(1.0 - 1e-6);
    assert!(chi < limit, "{what}: {chi} of {limit} in {cells} cells");
}

#[test]
fn floats_decide_what_enclosures_decide() {
    for law in laws() {
        let hat = Hat::new(law);
        // Where columns say nothing every draw is a comparison.
        let blunt = Hat { sure: vec![0; PLACES], ..hat.clone() };
        for (hat, count) in [(hat, 1000), (blunt, 100)] {
            let seed = Seed::new(1);
            assert_eq!(draws(&hat, seed, count, true), draws(&hat, seed, count, false), "{law:?}");
        }
    }
}

#[test]
fn columns_cover_their_numbers_and_weights_are_whole() {
    for law in laws() {
        let hat = Hat::new(law);
        assert_eq!(hat.weights.iter().sum::<u64>(), 1 << TOTAL, "{law:?}");
        let mut held = vec![0u64; PLACES];
        for (i, place) in hat.places.iter().enumerate() {
            held[i] += u64::from(place.own);
            held[usize::from(place.other)] += (1 << PART) - u64::from(place.own);
        }
        assert_eq!(held, hat.weights, "{law:?}");
        // Next to nothing is wasted.
        assert!(hat.weights[NOTHING] < 1 << (TOTAL - 12), "{law:?}: {}", hat.weights[NOTHING]);
        let bits = u64::BITS - TOTAL - hat.shift;
        for place in 0..TAIL {
            let start = hat.first + ((place as i64) << hat.shift);
            for k in [start, start + (1 << hat.shift) - 1].into_iter().filter(|&k| k >= law.least()) {
                let accepted = law.log(k) + hat.logs[place];
                assert!(accepted < 1e-9, "{law:?} {place} {k}: {accepted}");
                let sure = f64::from(hat.sure[place]) / (1u64 << bits) as f64;
                assert!(sure.ln() <= accepted, "{law:?} {place} {k}: {sure} {accepted}");
            }
        }
        for j in 0..8u32 {
            let offset = ((1i64 << j) - 1) << (hat.shift + 9);
            let above = hat.first + ((TAIL as i64) << hat.shift) + offset;
            let ends = [(TAIL, hat.first - 1 - offset), (TAIL + 1, above)];
            for (place, k) in ends.into_iter().filter(|&(_, k)| k >= law.least()) {
                let accepted = law.log(k) + hat.logs[place] + f64::from(10 + 2 * j) * 2f64.ln();
                assert!(accepted < 1e-9, "{law:?} {place} {k}: {accepted}");
            }
        }
    }
}

/// Columns that reach two σ and a bit only, so that one draw in twenty comes from a tail, and columns that
/// leave every number to a comparison.
#[test]
fn tails_and_comparisons_are_the_law() {
    for law in [Law::Gaussian(62_500.0), Law::Poisson(62_500.0)] {
        let cells = 120;
        let cell = |k: i64| ((k - law.mode() + 50 * cells / 2).div_euclid(50)).clamp(0, cells - 1) as usize;
        let mut probabilities = vec![0.0; cells as usize];
        (-4000..4000).map(|x| law.mode() + x).for_each(|k| probabilities[cell(k)] += law.log(k).exp());
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
        let short = Hat::of(law, 0);
        assert!(short.weights[TAIL] > 1 << (TOTAL - 6), "the tails say something");
        let blunt = Hat { sure: vec![0; PLACES], ..Hat::new(law) };
        for (what, hat) in [("tails", short), ("comparisons", blunt)] {
            let mut counts = vec![0.0; cells as usize];
            draws(&hat, Seed::new(2), 50_000, true).into_iter().for_each(|k| counts[cell(k)] += 1.0);
            assert_law(&format!("{what} of {law:?}"), &counts, &probabilities);
        }
    }
}

proptest! {
    #[test]
    fn bounds_of_exponentials_are_bounds(x in -60.0f64..23.0, bits in 10u32..31) {
        let weight = weight(x) as f64;
        prop_assert!(weight >= x.exp() && weight < x.exp() * (1.0 + 1e-6) + 2.0);
        let (fraction, most) = (-x.abs() / 3.0, (1u64 << bits) as f64);
        let sure = f64::from(certain(fraction, bits)) / most;
        prop_assert!(sure <= fraction.exp() && sure + 2.0 / most > fraction.exp() * (1.0 - 1e-6));
    }
}

#[test]
fn places_are_drawn_by_their_weights() {
    let total = 1u64 << TOTAL;
    let mut weights: Vec<u64> = (1..=40).map(|i| i * total / 1000).collect();
    weights.push(total - weights.iter().sum::<u64>());
    let probabilities: Vec<f64> = weights.iter().map(|&weight| weight as f64 / total as f64).collect();
    weights.resize(PLACES, 0);
    let places = alias(&weights);
    let mut words = Words::new(Seed::new(6).bulk(0));
    let mut counts = vec![0.0; weights.len()];
    for _ in 0..200_000 {
        let word = words.next();
        let (place, part) = ((word % 1024) as usize, (word / 1024) as u32 % (1 << PART));
        counts[if part < places[place].own { place } else { places[place].other.into() }] += 1.0;
    }
    assert!(counts[41..].iter().all(|&count| count == 0.0));
    assert_law("places", &counts[..41], &probabilities);
}
