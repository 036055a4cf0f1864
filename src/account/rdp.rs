//! Rényi differential privacy (Mironov 2017): at every order a a bound R(a) on the Rényi divergence between
//! the outputs for neighbours, which adds up over steps.
//!
//! | step | R(a) | source |
//! |---|---|---|
//! | Gaussian | a μ²/2 | Mironov 2017, proposition 7 |
//! | the same, Poisson, add-or-remove or zero-out | ln A_a/(a−1), A_a = E_{t ~ N(0, 1)} (1 − q + q e^{μt − μ²/2})^a | Mironov, Talwar & Zhang 2019, section 3 |
//! | any, fixed size (or Poisson), replace-one | by ternary divergences, at integers | Wang, Balle & Kasiviswanathan 2019, theorem 9 |
//! | any other, Poisson, add-or-remove or zero-out | by powers of the rate, at integers | Zhu & Wang 2019, theorem 5 |
//! | Skellam | aΔ₂²/(2v) + min(((2a−1)Δ₂² + 6Δ₁)/(4v²), 3Δ₁/(2v)), at integers | Agarwal, Kairouz & Liu 2021, section 3 |
//! | discrete Gaussians | least of three, with τ for the distance of their sum from one | Kairouz, Liu & Steinke 2021, proposition 14 |
//!
//! Sampling tells never more than none, so that the lesser of both bounds counts at every order. To (ε, δ)
//! leads Canonne, Kamath & Steinke 2020, proposition 12 (as Asoodeh et al. 2020):
//!
//! ```text
//! ε = R(a) + ln(1 − 1/a) + (ln 1/δ − ln a)/(a − 1)
//! ```

use std::f64::consts::PI;
use std::sync::LazyLock;

use super::step::{Adjacency, Integers, Noise, Sampling, Step};

/// The orders that are tried: fractions near 1, the integers to 64, and from there four an octave to 2¹⁶.
pub static ORDERS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let fractions = [1.01, 1.02, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9];
    let halves = (2..16).map(|a| f64::from(a) + 0.5);
    let octaves = (25..=64).map(|quarter| (f64::from(quarter) / 4.0).exp2().round());
    fractions.into_iter().chain(halves).chain((2..=64).map(f64::from)).chain(octaves).collect()
});

/// R at each of [`ORDERS`]; infinite where nothing is known.
#[must_use]
pub fn curve(step: &Step) -> Vec<f64> {
    ORDERS.iter().map(|&a| divergence(step, a)).collect()
}

/// R(a) of one step, for a > 1.
#[must_use]
pub fn divergence(step: &Step, a: f64) -> f64 {
    let adjacency = step.adjacency();
    let whole = |a: f64| unsampled(step.noise(), adjacency, a);
    let q = step.sampling().rate();
    if q == 0.0 {
        return 0.0;
    }
    if q == 1.0 {
        return whole(a);
    }
    let sampled = match (step.noise(), step.sampling()) {
        (Noise::Gaussian { mu }, Sampling::Poisson { .. }) if adjacency != Adjacency::ReplaceOne => {
            sampled_gaussian(q, mu, a)
        }
        _ if a.fract() > 0.0 => f64::INFINITY,
        (_, Sampling::Poisson { .. }) if adjacency != Adjacency::ReplaceOne => thinned(q, a as u32, whole),
        _ => replaced(q, a as u32, whole),
    };
    sampled.min(whole(a))
}

fn unsampled(noise: Noise, adjacency: Adjacency, a: f64) -> f64 {
    match noise {
        Noise::Gaussian { mu } => a * mu * mu / 2.0,
        Noise::Skellam(sum) => skellam(&sum, adjacency.reach(), a),
        Noise::DiscreteGaussian(sum) => discrete_gaussians(&sum, adjacency.reach(), a),
    }
}

/// Skellam noise, for integers a: aΔ₂²/(2v) + min(((2a−1)Δ₂² + 6Δ₁)/(4v²), 3Δ₁/(2v)), with both norms times
/// `reach`.
fn skellam(sum: &Integers, reach: f64, a: f64) -> f64 {
    if a.fract() > 0.0 {
        return f64::INFINITY;
    }
    let (square, l1, v) = ((reach * sum.l2).powi(2), reach * sum.l1, sum.variance);
    let first = ((2.0 * a - 1.0) * square + 6.0 * l1) / (4.0 * v * v);
    a * square / (2.0 * v) + first.min(3.0 * l1 / (2.0 * v))
}

/// A sum of n discrete Gaussians, which is almost one: with τ of [`distance`], the least of aΔ₂²/(2v) + τd,
/// (a/2)(Δ₂²/v + 2τΔ₁/√v + τ²d) and (a/2)(Δ₂/√v + τ√d)².
fn discrete_gaussians(sum: &Integers, reach: f64, a: f64) -> f64 {
    let (std, d) = (sum.variance.sqrt(), sum.dimension as f64);
    let (l2, l1, tau) = (reach * sum.l2 / std, reach * sum.l1 / std, distance(sum));
    let flat = a * l2 * l2 / 2.0 + tau * d;
    let cross = a / 2.0 * (l2 * l2 + 2.0 * tau * l1 + tau * tau * d);
    flat.min(cross).min(a / 2.0 * (l2 + tau * d.sqrt()).powi(2))
}

/// τ = 10 Σ_{k=1}^{n−1} exp(−2π² (v/n) k/(k+1)): how far a sum of n discrete Gaussians is from one.
fn distance(sum: &Integers) -> f64 {
    let each = 2.0 * PI * PI * sum.variance / sum.shares as f64;
    let term = |k: u64| (-each * (k as f64 / (k as f64 + 1.0))).exp();
    // From some share on all count as the last one that is written out, which is more.
    let (last, spelled) = (sum.shares - 1, (sum.shares - 1).min(1 << 16));
    10.0 * ((1..=spelled).map(term).sum::<f64>() + (last - spelled) as f64 * term(spelled.max(1)))
}

/// ln A_a/(a − 1).
fn sampled_gaussian(q: f64, mu: f64, a: f64) -> f64 {
    let log = match a.fract() > 0.0 {
        true => by_quadrature(q, mu, a),
        false => {
            // Σ_k C(a, k) (1−q)^{a−k} q^k e^{k(k−1)μ²/2}.
            let square = mu * mu / 2.0;
            binomial(a as u32, q, |k| k * (k - 1.0) * square).total()
        }
    };
    log.max(0.0) / (a - 1.0)
}

/// ln A_a by the trapezoid rule, which for a function without singularities within π/μ of the real line is
/// exact to rounding.
fn by_quadrature(q: f64, mu: f64, a: f64) -> f64 {
    const REACH: f64 = 12.0;
    let width = (0.5 / mu).min(0.125);
    let points = ((a * mu + 2.0 * REACH) / width).ceil();
    if points.is_nan() || points >= 1e7 {
        return f64::INFINITY;
    }
    let mut total = LogSum::default();
    for i in 0..=points as u64 {
        let t = i as f64 * width - REACH;
        total.add(a * loss(q, mu * t - mu * mu / 2.0) - t * t / 2.0);
    }
    total.total() + (width / (2.0 * PI).sqrt()).ln()
}

/// ln(1 − q + q e^x), for q in (0, 1].
pub(super) fn loss(q: f64, x: f64) -> f64 {
    if q == 1.0 {
        return x;
    }
    if x > 600.0 {
        return x + q.ln();
    }
    let change = q * x.exp_m1();
    if change > -0.5 { change.ln_1p() } else { (1.0 - q + q * x.exp()).ln() }
}

/// The x of [`loss`], for y > ln(1 − q).
pub(super) fn exponent(q: f64, y: f64) -> f64 {
    if q == 1.0 {
        return y;
    }
    if y > 600.0 {
        return y - q.ln();
    }
    let change = y.exp_m1() / q;
    if change > -0.5 { change.ln_1p() } else { ((y.exp() - (1.0 - q)) / q).ln() }
}

/// Samples of fixed size under replace-one, at rate γ and integer order a ≥ 2: ln(1 + γ² C(a,2)
/// min(4(e^{R(2)} − 1), 2e^{R(2)}) + Σ_{j=3}^a 2γ^j C(a,j) e^{(j−1)R(j)})/(a−1).
///
/// The proof bounds E|P − P'|^j/Q^{j−1} for three neighbours, among whom the difference of the two outputs
/// is γ times that of two. That holds where every client is drawn independently, too.
fn replaced(q: f64, a: u32, r: impl Fn(f64) -> f64) -> f64 {
    let mut total = LogSum::default();
    total.add(0.0);
    let mut choose = 0.0;
    for j in 1..=a {
        choose += (f64::from(a + 1 - j) / f64::from(j)).ln();
        let power = f64::from(j) * q.ln() + choose;
        match j {
            1 => {}
            2 => total.add(power + (4.0 * r(2.0).exp_m1()).min(2.0 * r(2.0).exp()).ln()),
            _ => total.add(power + 2f64.ln() + f64::from(j - 1) * r(f64::from(j))),
        }
    }
    total.total() / f64::from(a - 1)
}

/// Poisson sampling where one client more is told from one less, at rate q and integer order a ≥ 2:
/// ln((1−q)^{a−1}(aq − q + 1) + C(a,2) q²(1−q)^{a−2} e^{R(2)} + 3 Σ_{j=3}^a C(a,j)(1−q)^{a−j} q^j
/// e^{(j−1)R(j)})/(a−1).
fn thinned(q: f64, a: u32, r: impl Fn(f64) -> f64) -> f64 {
    let weight = |j: f64| match j {
        ..2.0 => 0.0,
        2.0 => r(2.0),
        _ => 3f64.ln() + (j - 1.0) * r(j),
    };
    binomial(a, q, weight).total() / f64::from(a - 1)
}

/// Σ_k C(a, k) (1−q)^{a−k} q^k e^{f(k)}, for q strictly between 0 and 1.
fn binomial(a: u32, q: f64, f: impl Fn(f64) -> f64) -> LogSum {
    let (stay, go) = ((-q).ln_1p(), q.ln());
    let mut total = LogSum::default();
    let mut choose = 0.0;
    for k in 0..=a {
        total.add(choose + f64::from(a - k) * stay + f64::from(k) * go + f(f64::from(k)));
        choose += (f64::from(a - k) / f64::from(k + 1)).ln();
    }
    total
}

/// The logarithm of a sum of exponentials.
pub(super) struct LogSum {
    most: f64,
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { most: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    pub(super) fn add(&mut self, log: f64) {
        if log > self.most {
            self.sum = if self.sum == 0.0 { 1.0 } else { self.sum * (self.most - log).exp() + 1.0 };
            self.most = log;
        } else if log > f64::NEG_INFINITY {
            self.sum += (log - self.most).exp();
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.most + self.sum.ln()
    }
}

/// The least ε for this δ in (0, 1), and the order that gives it: `totals` are divergences at [`ORDERS`].
#[must_use]
pub fn epsilon(totals: &[f64], delta: f64) -> (f64, f64) {
    let at = |(&r, &a): (&f64, &f64)| {
        let epsilon = r + (-1.0 / a).ln_1p() - (delta.ln() + a.ln()) / (a - 1.0);
        (epsilon.max(0.0), a)
    };
    let least = totals.iter().zip(&*ORDERS).map(at).min_by(|x, y| x.0.total_cmp(&y.0));
    least.unwrap_or((f64::INFINITY, f64::NAN))
}

/// The least δ for this ε ≥ 0, and the order that gives it.
#[must_use]
pub fn delta(totals: &[f64], epsilon: f64) -> (f64, f64) {
    let at = |(&r, &a): (&f64, &f64)| {
        let log = (a - 1.0) * (r - epsilon + (-1.0 / a).ln_1p()) - a.ln();
        (log.exp().min(1.0), a)
    };
    let least = totals.iter().zip(&*ORDERS).map(at).min_by(|x, y| x.0.total_cmp(&y.0));
    least.unwrap_or((1.0, f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::super::loss::{Cloud, Sampled, Side};
    use super::*;

    /// Rényi divergence of a pair by quadrature: ln E e^{(a−1)Y}/(a − 1).
    fn by_cloud(rate: f64, mu: f64, side: Side, a: f64) -> f64 {
        Cloud::of(Sampled { rate, mu }, side, 40.0 + a * mu).cumulants(a - 1.0)[0] / (a - 1.0)
    }

    fn step(rate: f64, mu: f64, adjacency: Adjacency) -> Step {
        Step::new(Noise::Gaussian { mu }, Sampling::Poisson { rate }, adjacency).unwrap()
    }

    const CASES: [(f64, f64); 6] =
        [(0.01, 1.0), (0.2, 0.5), (1e-3, 2.0), (0.5, 1.0), (0.9, 0.3), (1e-6, 0.7)];

    #[test]
    fn the_sampled_gaussian_is_its_integral() {
        for (rate, mu) in CASES {
            let own = step(rate, mu, Adjacency::AddOrRemove);
            // Masses of a cloud end 38 deviations from the centre.
            for a in [1.05, 1.5, 2.0, 2.5, 3.0, 7.0, 7.5, 13.0, 64.0].into_iter().filter(|a| a * mu < 27.0) {
                let (want, got) = (by_cloud(rate, mu, Side::Removed, a), divergence(&own, a));
                let rounding = 1e-11 / (a - 1.0);
                assert!((got - want).abs() <= 1e-9 * want + rounding, "{rate} {mu} {a}: {got} for {want}");
                // Mironov, Talwar & Zhang 2019, section 3: the other way round it is not more.
                let other = by_cloud(rate, mu, Side::Added, a);
                assert!(other <= got * (1.0 + 1e-9) + rounding, "{rate} {mu} {a}: {other} above {got}");
            }
        }
    }

    #[test]
    fn replaced_clients_are_bounded() {
        for (rate, mu) in CASES {
            for adjacency in [Adjacency::ReplaceOne, Adjacency::AddOrRemove] {
                let sides = match adjacency {
                    Adjacency::ReplaceOne => vec![Side::Replaced],
                    _ => vec![Side::Removed, Side::Added],
                };
                for a in [2, 3, 5, 12, 40].into_iter().filter(|a| f64::from(*a) * mu < 27.0) {
                    let whole = |a: f64| a * mu * mu / 2.0;
                    let got = match adjacency {
                        Adjacency::ReplaceOne => replaced(rate, a, whole),
                        _ => thinned(rate, a, whole),
                    };
                    for &side in &sides {
                        let exact = by_cloud(rate, mu, side, f64::from(a));
                        assert!(exact <= got + 1e-11, "{rate} {mu} {a} {side:?}: {exact} above {got}");
                    }
                }
            }
        }
    }

    /// Rényi divergence of integer noise from itself, moved by `shift`.
    fn moved(masses: &[f64], shift: usize, a: f64) -> f64 {
        let pairs = masses.iter().zip(&masses[shift..]).filter(|(p, q)| **p > 0.0 && **q > 0.0);
        pairs.map(|(p, q)| (a * p.ln() + (1.0 - a) * q.ln()).exp()).sum::<f64>().ln() / (a - 1.0)
    }

    fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; a.len() + b.len() - 1];
        for (i, x) in a.iter().enumerate() {
            b.iter().enumerate().for_each(|(j, y)| sum[i + j] += x * y);
        }
        sum
    }

    fn sum(l2: f64, l1: f64, variance: f64, shares: u64) -> Integers {
        Integers { l2, l1, variance, shares, dimension: 1 }
    }

    /// The worked numbers of shared/design/competitors.md, section 7.
    #[test]
    fn skellam_noise_is_bounded() {
        for (v, shift, a, exact, bound) in
            [(16.0f64, 1, 2.0, 0.06241, 0.071_289), (100.0, 5, 8.0, 0.969_194, 1.010_125)]
        {
            let poisson: Vec<f64> = (0..400)
                .scan(-v / 2.0, |log, k| {
                    let mass = log.exp();
                    *log += (v / 2.0).ln() - f64::from(k + 1).ln();
                    Some(mass)
                })
                .collect();
            let back: Vec<f64> = poisson.iter().rev().copied().collect();
            let masses: Vec<f64> =
                convolved(&poisson, &back).into_iter().map(|p| if p < 1e-280 { 0.0 } else { p }).collect();
            let got = moved(&masses, shift, a);
            assert!((got - exact).abs() < 1e-5, "{got} for {exact}");
            let own = skellam(&sum(shift as f64, shift as f64, v, 1), 1.0, a);
            assert!((own - bound).abs() < 1e-6 && got <= own, "{own} for {bound}");
            assert_eq!(skellam(&sum(shift as f64 / 2.0, shift as f64 / 2.0, v, 1), 2.0, a), own);
        }
    }

    #[test]
    fn discrete_gaussians_are_bounded() {
        for (std, tau, exact, bound) in
            [(0.7f64, 0.102_286, 0.510_236, 0.612_490), (1.0, 5.402e-4, 0.25, 0.250_540)]
        {
            let one: Vec<f64> = (-12..=12).map(|k| (-f64::from(k * k) / (2.0 * std * std)).exp()).collect();
            let total: f64 = one.iter().sum();
            let one: Vec<f64> = one.into_iter().map(|p| p / total).collect();
            let two = convolved(&one, &one);
            let four = convolved(&two, &two);
            let got = moved(&four, 1, 2.0);
            assert!((got - exact).abs() < 2e-6, "{got} for {exact}");
            let noise = sum(1.0, 1.0, 4.0 * std * std, 4);
            assert!((distance(&noise) / tau - 1.0).abs() < 1e-4, "{}", distance(&noise));
            let own = discrete_gaussians(&noise, 1.0, 2.0);
            assert!((own - bound).abs() < 1e-6 && got <= own, "{own} for {bound}");
        }
        // Of many shares the last ones count alike.
        let many = distance(&sum(1.0, 1.0, 3e5, 300_000));
        let all: f64 = (1..300_000).map(|k| (-2.0 * PI * PI * f64::from(k) / f64::from(k + 1)).exp()).sum();
        assert!(many >= 10.0 * all && many < 10.0 * all * 1.001, "{many}");
    }

    /// d = 7850, M = 10 clients' shares, 1024 steps to the clipping norm, a deviation of five norms, 100
    /// rounds, δ = 1e−5.
    #[test]
    fn a_whole_run_over_the_field() {
        let l2 = 1.001_485 * 1024.0;
        let noise = Integers {
            l2,
            l1: Integers::l1_of(l2, 8192),
            variance: (5.0f64 * 1024.0).powi(2),
            shares: 10,
            dimension: 8192,
        };
        let total = |noise| {
            let step = Step::new(noise, Sampling::None, Adjacency::ZeroOut).unwrap();
            // At integer orders, as it was worked out.
            let at = |(r, a): (f64, &f64)| if a.fract() > 0.0 { f64::INFINITY } else { 100.0 * r };
            let totals: Vec<f64> = curve(&step).into_iter().zip(&*ORDERS).map(at).collect();
            epsilon(&totals, 1e-5).0
        };
        for (noise, want) in [
            (Noise::Skellam(noise), 10.8195),
            (Noise::DiscreteGaussian(noise), 10.8195),
            (Noise::Gaussian { mu: 0.2 }, 10.8017),
        ] {
            let got = total(noise);
            assert!((got - want).abs() < 6e-4, "{noise:?}: {got}");
        }
    }

    #[test]
    fn integer_noise_is_sampled() {
        let noise = Noise::Skellam(sum(1.0, 1.0, 16.0, 1));
        let of = |sampling, adjacency| Step::new(noise, sampling, adjacency).unwrap();
        let fixed = of(Sampling::Fixed { cohort: 1, clients: 100 }, Adjacency::ReplaceOne);
        let poisson = of(Sampling::Poisson { rate: 0.01 }, Adjacency::ZeroOut);
        for (sampled, whole) in [
            (fixed, of(Sampling::None, Adjacency::ReplaceOne)),
            (poisson, of(Sampling::None, Adjacency::ZeroOut)),
        ] {
            assert!(divergence(&sampled, 2.0) < 0.01 * divergence(&whole, 2.0));
            assert_eq!(divergence(&sampled, 2.5), f64::INFINITY);
            assert!(divergence(&sampled, 1024.0) <= divergence(&whole, 1024.0));
        }
    }

    /// Where R(a) = a/2 exactly, the conversion is above the curve of the Gaussian, and not far.
    #[test]
    fn conversion_is_an_upper_bound() {
        use crate::privacy::ldp;
        for mu in [0.01, 1.0, 10.0] {
            let totals: Vec<f64> = ORDERS.iter().map(|a| a * mu * mu / 2.0).collect();
            for target in [1e-3, 1e-5, 1e-12, 1e-300] {
                let (got, exact) = (epsilon(&totals, target).0, ldp::epsilon(mu, target));
                assert!(got >= exact && got < 1.2 * exact + 0.01, "{mu} {target}: {got} for {exact}");
                let back = delta(&totals, got).0;
                assert!(got == 0.0 || (back / target - 1.0).abs() < 1e-6, "{mu} {target}: {back}");
            }
        }
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        let mut sum = LogSum::default();
        assert_eq!(sum.total(), f64::NEG_INFINITY);
        [1000.0, f64::NEG_INFINITY, 1001.0, 1000.0].into_iter().for_each(|x| sum.add(x));
        assert!((sum.total() - (1001.0 + (2.0 * (-1.0f64).exp()).ln_1p())).abs() < 1e-12);
    }
}
