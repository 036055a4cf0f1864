//! Gaussian differential privacy: from the strength of the keys to ε.
//!
//! Keys that add N(0, 1) noise to a shift of length μ make a mechanism that is μ-Gaussian-DP (Dong, Roth & Su
//! 2022), with the exact curve (Balle & Wang 2018, theorem 8)
//!
//! ```text
//! δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)
//! ```
//!
//! and T mechanisms with fresh keys compose to √(Σ μ_t²).

use std::f64::consts::{FRAC_PI_2, PI};

/// Below this μ the Mills ratios of δ(ε) are expanded: the fifth order is μ⁴ of the first.
const SERIES: f64 = 1e-3;

/// δ(ε) of a μ-Gaussian-DP mechanism, for μ ≥ 0 and ε ≥ 0.
///
/// With a = μ/2 − ε/μ and b = −μ/2 − ε/μ, e^ε φ(b) = φ(a): both terms are φ(a) times a Mills ratio, so
/// nothing overflows and the relative error stays near 10⁻¹² where δ is tiny.
#[must_use]
pub fn delta(mu: f64, epsilon: f64) -> f64 {
    if mu == 0.0 {
        return 0.0;
    }
    if mu.is_infinite() {
        return if epsilon.is_infinite() { 0.0 } else { 1.0 };
    }
    let (a, b) = (mu / 2.0 - epsilon / mu, -mu / 2.0 - epsilon / mu);
    let density = (-a * a / 2.0).exp() / (2.0 * PI).sqrt();
    if mu < SERIES {
        // m(t − μ/2) − m(t + μ/2) to the third order: the difference itself would be rounding.
        let t = epsilon / mu;
        let m = mills(t);
        let first = t * m - 1.0;
        let third = 2.0 * first + t * (m + t * first);
        return (density * (-mu * first - mu.powi(3) / 24.0 * third)).clamp(0.0, 1.0);
    }
    let delta =
        if a < 0.0 { density * (mills(-a) - mills(-b)) } else { 1.0 - density * (mills(a) + mills(-b)) };
    delta.clamp(0.0, 1.0)
}

/// The smallest ε ≥ 0 with δ(ε) ≤ `delta`, for 0 < `delta` < 1, by bisection to relative 10⁻¹³; infinite for
/// μ = ∞.
#[must_use]
pub fn epsilon(mu: f64, target: f64) -> f64 {
    if mu.is_infinite() {
        return f64::INFINITY;
    }
    if delta(mu, 0.0) <= target {
        return 0.0;
    }
    // δ(ε) ≤ Φ(μ/2 − ε/μ) ≤ exp(−(ε/μ − μ/2)²/2) bounds ε from above.
    let (mut low, mut high) = (0.0, mu * mu / 2.0 + mu * (-2.0 * target.ln()).sqrt());
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if delta(mu, middle) > target { low = middle } else { high = middle }
    }
    high
}

/// The largest μ with δ(ε) ≤ `target`, for ε ≥ 0 and 0 < `target` < 1, by bisection to relative 10⁻¹³, from
/// below.
#[must_use]
pub fn mu(epsilon: f64, target: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while delta(high, epsilon) <= target && high < f64::MAX / 2.0 {
        (low, high) = (high, 2.0 * high);
    }
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if delta(middle, epsilon) > target { high = middle } else { low = middle }
    }
    low
}

/// (1 − Φ(x))/φ(x) for x ≥ 0, to some 14 digits.
fn mills(x: f64) -> f64 {
    if x < 1.5 {
        // (Φ(x) − ½)/φ(x) = x + x³/3 + x⁵/(3·5) + …
        let terms = (0..60).scan(x, |term, n| {
            let this = *term;
            *term *= x * x / f64::from(2 * n + 3);
            Some(this)
        });
        return FRAC_PI_2.sqrt() * (x * x / 2.0).exp() - terms.sum::<f64>();
    }
    // Laplace's continued fraction x + 1/(x + 2/(x + 3/(x + …))), backwards.
    (1..=200).rev().fold(x, |tail, n| x + f64::from(n) / tail).recip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_has_its_limits() {
        // δ(0) = 2Φ(μ/2) − 1; at μ = 1 that is 0.382924922548026.
        assert!((delta(1.0, 0.0) - 0.382_924_922_548_026).abs() < 1e-12);
        assert_eq!(delta(0.0, 0.0), 0.0);
        assert_eq!(delta(f64::INFINITY, 1e9), 1.0);
        assert_eq!(epsilon(f64::INFINITY, 1e-5), f64::INFINITY);
        assert_eq!(epsilon(0.0, 1e-5), 0.0);
        assert_eq!(epsilon(1e-5, 1e-5), 0.0, "δ(0) ≈ 0.4 μ is below the target");
    }

    #[test]
    fn mu_is_the_inverse_of_epsilon() {
        for (wanted, target) in [(0.1, 1e-5), (1.0, 1e-5), (10.0, 1e-3), (0.0, 0.1), (1e3, 1e-12)] {
            let found = mu(wanted, target);
            assert!(delta(found, wanted) <= target && delta(found * (1.0 + 1e-9), wanted) > target);
            assert!(wanted == 0.0 || (epsilon(found, target) / wanted - 1.0).abs() < 1e-9, "{wanted}");
        }
        // The classical bound μ = ε/√(2 ln(1.25/δ)) spends more than ε at ε = 10, δ = 10⁻³, and less at 1.
        let classical = |epsilon: f64| epsilon / (2.0 * (1.25f64 / 1e-3).ln()).sqrt();
        assert!((epsilon(classical(10.0), 1e-3) - 11.03).abs() < 0.005);
        assert!((delta(classical(10.0), 10.0) - 3.4e-3).abs() < 5e-5);
        assert!((epsilon(classical(1.0), 1e-3) - 0.634).abs() < 0.0005);
    }

    #[test]
    fn the_mills_ratio_has_known_values() {
        // √(π/2) erfcx(t) at x = t √2, by scipy 1.17.
        let known = [
            (0.1, 1.123_542_206_490_464_8),
            (0.5, 0.771_653_412_585_640_1),
            (1.0, 0.535_896_540_879_991_7),
            (2.0, 0.320_091_011_729_210_3),
            (3.0, 0.224_344_673_371_385_2),
        ];
        for (t, want) in known {
            let got = mills(t * 2f64.sqrt());
            assert!((got / want - 1.0).abs() < 1e-12, "{t}: {got} for {want}");
        }
    }

    #[test]
    fn weak_views_are_not_lost_in_rounding() {
        // δ(0) = μ/√(2π) (1 − μ²/24 + …), and one μ further it is that times 1 − √(π/2) erfcx(1/√2) e^… =
        // φ(1) − Φ(−1) over φ(0).
        for mu in [1e-18, 1e-9, 1e-6] {
            let first = 0.398_942_280_401_432_7 * mu;
            assert!((delta(mu, 0.0) / first - 1.0).abs() < 1e-12, "{mu}");
            let second = (0.241_970_724_519_143_37 - 0.158_655_253_931_457_05) * mu;
            assert!((delta(mu, mu) / second - 1.0).abs() < 2.0 * mu + 1e-11, "{mu}");
        }
        // Both ways agree where they meet.
        for ratio in [0.0, 0.5, 1.0, 3.0, 6.0] {
            let (below, above) = (SERIES * (1.0 - 1e-9), SERIES * (1.0 + 1e-9));
            let (series, ratios) = (delta(below, ratio * below), delta(above, ratio * above));
            assert!((series / ratios - 1.0).abs() < 1e-8, "{ratio}: {series} {ratios}");
        }
    }

    #[test]
    fn epsilon_inverts_delta_from_weak_to_absurdly_strong_views() {
        for mu in [1e-20, 1e-10, 1e-5, 0.999e-3, 1e-3, 0.1, 1.0, 7.0, 50.0, 1e4] {
            for target in [1e-2, 1e-5, 1e-12, 1e-30] {
                let epsilon = epsilon(mu, target);
                if epsilon > 0.0 {
                    let back = delta(mu, epsilon);
                    let condition = 1.0 + epsilon;
                    assert!((back / target - 1.0).abs() < 1e-9 * condition, "{mu} {target} {epsilon} {back}");
                }
            }
        }
    }
}
