//! From a target (ε, δ) back to the noise, or to the number of rounds.

use super::accountant::Accountant;
use super::pld::Precision;
use crate::error::{Error, Result};

/// The noise multipliers that are considered.
const LEAST: f64 = 1.0 / 1024.0;
const MOST: f64 = 1e12;
/// How close the answer comes, relatively, with the coarse accountant and in the end.
const ROUGH: f64 = 1e-4;
const CLOSE: f64 = 5e-7;

/// The least noise multiplier z with ε(z) ≤ `epsilon` at `delta`, from above to relative 10⁻⁶; 1/1024 where
/// less would do. `releases` accounts for all releases with a given z, and tells less the larger z is.
///
/// # Errors
/// A target that no noise meets; those of `releases`.
pub fn least_multiplier(
    epsilon: f64,
    delta: f64,
    releases: impl Fn(f64) -> Result<Accountant>,
) -> Result<f64> {
    if epsilon.is_nan() || epsilon <= 0.0 {
        return Err(Error::config("epsilon", format!("{epsilon} is not above 0")));
    }
    let excess = |z: f64, precision| -> Result<f64> {
        Ok(releases(z)?.epsilon_with(delta, precision)?.least() - epsilon)
    };
    let coarse = |z: f64| excess(z, Precision::Coarse);
    let fine = |z: f64| excess(z, Precision::Fine);
    let mut bracket = Bracket { low: (LEAST, f64::INFINITY), high: (1.0, coarse(1.0)?) };
    while bracket.high.1 > 0.0 {
        if bracket.high.0 >= MOST {
            let rule = format!(
                "no noise brings ε down to {epsilon} at δ = {delta}: take more, a larger δ, or fewer rounds"
            );
            return Err(Error::config("epsilon", rule));
        }
        let next = 2.0 * bracket.high.0;
        bracket = Bracket { low: bracket.high, high: (next, coarse(next)?) };
    }
    while bracket.low.1.is_infinite() {
        let next = (bracket.high.0 / 2.0).max(LEAST);
        let found = coarse(next)?;
        match found > 0.0 {
            true => bracket.low = (next, found),
            false if next == LEAST => return Ok(LEAST),
            false => bracket.high = (next, found),
        }
    }
    bracket.close(ROUGH, coarse)?;
    // The finer accountant's zero is close by.
    let around = |z: f64, factor: f64| -> Result<(f64, f64)> { Ok((z * factor, fine(z * factor)?)) };
    let start = bracket.high.0;
    let mut factor = 1.0 + 2.0 * ROUGH;
    let (mut low, mut high) = (around(start, factor.recip())?, around(start, 1.0)?);
    while low.1 <= 0.0 || high.1 > 0.0 {
        factor *= factor;
        match low.1 <= 0.0 {
            true => (low, high) = (around(start, factor.recip())?, low),
            false => (low, high) = (high, around(start, factor)?),
        }
    }
    let mut bracket = Bracket { low, high };
    bracket.close(CLOSE, fine)?;
    Ok(bracket.high.0)
}

/// Where a falling function changes its sign: above 0 at `low`, not at `high`.
struct Bracket {
    low: (f64, f64),
    high: (f64, f64),
}

impl Bracket {
    /// Narrows it to this relative width: by chords, of which the side that stays counts for less and less
    /// (Illinois), and by halves where those are slow.
    fn close(&mut self, width: f64, f: impl Fn(f64) -> Result<f64>) -> Result<()> {
        let (mut low, mut high) = (self.low.1, self.high.1);
        for round in 0.. {
            let ratio = (self.high.0 / self.low.0).ln();
            if ratio <= width {
                break;
            }
            let chord = low / (low - high);
            let part = if round % 4 == 3 || !chord.is_finite() { 0.5 } else { chord };
            // Not closer to an end than what is asked for, so that the other end moves in the end.
            let part = part.clamp(0.4 * width / ratio, 1.0 - 0.4 * width / ratio);
            let z = self.low.0 * (part * ratio).exp();
            let found = f(z)?;
            if found > 0.0 {
                self.low = (z, found);
                (low, high) = (found, high / 2.0);
            } else {
                self.high = (z, found);
                (low, high) = (low / 2.0, found);
            }
        }
        Ok(())
    }
}

/// The largest number of rounds, up to `most`, with ε ≤ `epsilon` at `delta`; `releases` accounts for so
/// many of them.
///
/// # Errors
/// An ε that is not at least 0; those of `releases`.
pub fn most_rounds(
    epsilon: f64,
    delta: f64,
    most: u64,
    releases: impl Fn(u64) -> Result<Accountant>,
) -> Result<u64> {
    if epsilon.is_nan() || epsilon < 0.0 {
        return Err(Error::config("epsilon", format!("{epsilon} is not at least 0")));
    }
    let fits = |rounds: u64, precision| -> Result<bool> {
        Ok(releases(rounds)?.epsilon_with(delta, precision)?.least() <= epsilon)
    };
    // What the coarse accountant allows is allowed; some parts in ten thousand are left to the finer one.
    let (mut good, mut bad) = (0, 1);
    while bad <= most && fits(bad, Precision::Coarse)? {
        (good, bad) = (bad, bad.saturating_mul(2));
    }
    bad = bad.min(most.saturating_add(1));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle, Precision::Coarse)? { good = middle } else { bad = middle }
    }
    let mut stride = good / 4096 + 1;
    while good < most && fits((good + stride).min(most), Precision::Fine)? {
        good = (good + stride).min(most);
        stride *= 2;
    }
    let mut bad = (good + stride).min(most.saturating_add(1));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle, Precision::Fine)? { good = middle } else { bad = middle }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Adjacency, Integers, Noise, Sampling, Step};
    use crate::privacy::ldp;

    fn rounds_of(step: Step, times: u64) -> Accountant {
        let mut accountant = Accountant::new(step.adjacency());
        accountant.add(&step, times).unwrap();
        accountant
    }

    fn sampled(z: f64, rate: f64, times: u64) -> Result<Accountant> {
        Ok(rounds_of(Step::gaussian(z, Sampling::Poisson { rate }, Adjacency::AddOrRemove)?, times))
    }

    #[test]
    fn noise_without_sampling_is_in_closed_form() {
        for (epsilon, delta, times) in [(1.0, 1e-5, 1), (8.0, 1e-6, 1000), (0.1, 1e-12, 10)] {
            let got = least_multiplier(epsilon, delta, |z| sampled(z, 1.0, times)).unwrap();
            let want = (times as f64).sqrt() / ldp::mu(epsilon, delta);
            assert!(got >= want * (1.0 - 1e-12) && got <= want * (1.0 + 1e-6), "{got} for {want}");
        }
    }

    #[test]
    fn noise_is_the_least() {
        for (epsilon, rate, times) in [(8.0, 0.01, 1000), (1.0, 0.1, 50), (0.2, 0.001, 10_000)] {
            let z = least_multiplier(epsilon, 1e-5, |z| sampled(z, rate, times)).unwrap();
            let at = |z: f64| sampled(z, rate, times).unwrap().epsilon(1e-5).unwrap().least();
            assert!(at(z) <= epsilon && at(z * (1.0 - 2e-6)) > epsilon, "{epsilon} {rate} {times}: {z}");
        }
    }

    #[test]
    fn other_noise_is_calibrated_too() {
        let releases = |z: f64| {
            let variance = (100.0 * z).powi(2);
            let noise =
                Integers { l2: 100.0, l1: Integers::l1_of(100.0, 64), variance, shares: 4, dimension: 64 };
            Ok(rounds_of(Step::new(Noise::Skellam(noise), Sampling::None, Adjacency::ZeroOut)?, 10))
        };
        let z = least_multiplier(2.0, 1e-5, releases).unwrap();
        let gaussian = 10f64.sqrt() / ldp::mu(2.0, 1e-5);
        assert!(z > gaussian && z < 1.2 * gaussian, "{z} {gaussian}");
        assert!(releases(z).unwrap().epsilon(1e-5).unwrap().least() <= 2.0);
    }

    #[test]
    fn targets_that_cannot_be_met_are_refused_or_free() {
        // Whoever is drawn with less probability than δ needs no noise.
        assert_eq!(least_multiplier(1.0, 1e-3, |z| sampled(z, 1e-7, 10)).unwrap(), LEAST);
        let line = |epsilon: f64, delta: f64| {
            least_multiplier(epsilon, delta, |z| sampled(z, 0.1, 10)).unwrap_err().to_string()
        };
        assert_eq!(line(0.0, 1e-5), "epsilon: 0 is not above 0");
        assert_eq!(line(1.0, 1.0), "delta: 1 is no probability below 1");
        assert!(line(1.0, 0.0).starts_with("epsilon: no noise brings ε down to 1 at δ = 0"));
    }

    #[test]
    fn rounds_are_the_most() {
        let of = |times| sampled(1.1, 0.01, times);
        for epsilon in [0.1, 1.0, 8.0] {
            let most = most_rounds(epsilon, 1e-5, 1_000_000, of).unwrap();
            let at = |times| of(times).unwrap().epsilon(1e-5).unwrap().least();
            assert!(at(most) <= epsilon && at(most + 1) > epsilon, "{epsilon}: {most}");
        }
        assert_eq!(most_rounds(1e9, 1e-5, 500, of).unwrap(), 500);
        assert_eq!(most_rounds(1e-9, 1e-12, 500, of).unwrap(), 0);
    }
}
