use super::*;
use crate::privacy::ldp;

const SIDES: [Side; 3] = [Side::Removed, Side::Added, Side::Replaced];

/// δ(ε) of one sampled step, ε ≥ 0: q δ(ln(1 + (e^ε − 1)/q)) of the Gaussian where a client is removed
/// or replaced, and by symmetry 1 − e^ε + e^ε δ(−ε) of that where one is added.
fn profile(step: Sampled, side: Side, epsilon: f64) -> f64 {
    let (q, mu) = (step.rate, step.mu);
    match side {
        Side::Removed | Side::Replaced => q * ldp::delta(mu, (epsilon.exp_m1() / q).ln_1p()),
        // P(y ≥ ε) for P = N(0, 1) where the loss is −ln(1 − q + q e^{μt − μ²/2}).
        Side::Added if epsilon >= step.ceiling(side) => 0.0,
        Side::Added => {
            let inner = ((-epsilon).exp_m1() / q).ln_1p();
            let odds = epsilon.exp() * q;
            // 1 − e^ε (1 − q) − e^ε q e^{inner} vanishes there, so that (1 − e^ε(1−q)) Φ(s) − e^ε q Φ(s
            // − μ).
            let s = inner / mu + mu / 2.0;
            (1.0 - epsilon.exp() * (1.0 - q)) * phi(s) - odds * phi(s - mu)
        }
    }
}

/// Φ, by what the Gaussian curve says of far ε: δ_μ(0) = 2Φ(μ/2) − 1.
fn phi(x: f64) -> f64 {
    let half = ldp::delta(2.0 * x.abs(), 0.0) / 2.0;
    0.5 + half.copysign(x)
}

#[test]
fn one_step_is_its_own_curve() {
    for step in
        [Sampled { rate: 0.3, mu: 1.0 }, Sampled { rate: 0.01, mu: 2.0 }, Sampled { rate: 0.9, mu: 0.2 }]
    {
        for side in SIDES {
            for epsilon in [1e-3, 0.01, 0.1, 0.3] {
                let want = profile(step, side, epsilon);
                if want < 1e-12 {
                    continue;
                }
                let found = delta(&[(step, 1)], &[side], epsilon, Precision::Fine).unwrap();
                let below = profile(step, side, (epsilon - found.error).max(0.0));
                assert!(
                    found.value >= want && found.value <= below.max(want * 1.002),
                    "{step:?} {side:?} {epsilon}: {found:?}, {want}"
                );
                let back = super::epsilon(&[(step, 1)], &[side], want, Precision::Fine).unwrap();
                assert!(
                    back.value >= epsilon && back.value < (epsilon * 1.01).min(epsilon + back.error),
                    "{step:?} {side:?} {epsilon}: {back:?}"
                );
            }
        }
    }
}

/// As rare as it may be; where a client is added there is a largest loss, and nothing above.
#[test]
fn one_step_far_out_is_its_own_curve() {
    for step in
        [Sampled { rate: 0.01, mu: 1.0 }, Sampled { rate: 0.2, mu: 3.0 }, Sampled { rate: 0.99, mu: 0.3 }]
    {
        for side in SIDES {
            for target in [1e-4, 1e-8, 1e-12, 1e-60, 1e-250] {
                let found = epsilon(&[(step, 1)], &[side], target, Precision::Fine).unwrap();
                let at = format!("{step:?} {side:?} {target}: {found:?}");
                if side == Side::Added {
                    assert!(
                        found.value <= step.ceiling(side)
                            && profile(step, side, found.value) <= target * 1.001,
                        "{at}"
                    );
                } else {
                    assert!(profile(step, side, found.value) <= target * (1.0 + 1e-9), "{at}");
                    assert!(profile(step, side, found.value - found.error) >= target * 0.998, "{at}");
                }
            }
        }
    }
}

/// Without sampling the sum is known: √T μ.
#[test]
fn gaussians_compose_to_a_gaussian() {
    for (mu, times) in [(1.0, 1), (0.1, 1000), (0.01, 100_000), (3.0, 40), (1e-4, 10)] {
        for delta in [0.3, 1e-5, 1e-12, 1e-100, 1e-299] {
            let step = Sampled { rate: 1.0, mu };
            let exact = ldp::epsilon(mu * (times as f64).sqrt(), delta);
            let at = format!("{mu} {times} {delta}");
            for precision in [Precision::Fine, Precision::Coarse] {
                let found = epsilon(&[(step, times)], &[Side::Removed], delta, precision).expect(&at);
                assert!(found.value >= exact * (1.0 - 1e-12), "{at}: {found:?} for {exact}");
                assert!(found.value <= exact + found.error, "{at}: {found:?} for {exact}");
                let close = if precision == Precision::Fine { 1e-5 } else { 3e-3 };
                assert!(found.value <= exact + close * exact.max(mu), "{at}: {found:?} for {exact}");
            }
        }
    }
}

#[test]
fn different_steps_compose() {
    let steps =
        [(0.3, 20), (1.5, 2), (0.01, 500), (0.7, 1)].map(|(mu, times)| (Sampled { rate: 1.0, mu }, times));
    let total = steps.iter().map(|(step, times)| *times as f64 * step.mu * step.mu).sum::<f64>().sqrt();
    for delta in [1e-3, 1e-10] {
        let exact = ldp::epsilon(total, delta);
        let found = epsilon(&steps, &[Side::Removed], delta, Precision::Fine).unwrap();
        assert!(found.value >= exact && found.value <= exact * 1.00001, "{found:?} for {exact}");
        let back = super::delta(&steps, &[Side::Removed], exact, Precision::Fine).unwrap();
        assert!(back.value >= delta && back.value <= delta * 1.001, "{back:?} for {delta}");
    }
}

/// Against sums that are added up one by one: no transform, no tilt.
#[test]
fn the_transform_is_a_convolution() {
    let steps = [(Sampled { rate: 0.2, mu: 1.2 }, 3), (Sampled { rate: 0.6, mu: 0.5 }, 2)];
    let (width, tail) = (0.02, 9.0);
    for side in SIDES {
        let mut sum = std::collections::BTreeMap::from([(0i64, 1.0f64)]);
        for (step, times) in steps {
            let lattice = Lattice::of(step, side, width, tail, f64::NEG_INFINITY);
            let mut own = std::collections::BTreeMap::<i64, f64>::new();
            lattice.each(|k, mass| *own.entry(k).or_default() += mass);
            for _ in 0..times {
                let mut next = std::collections::BTreeMap::<i64, f64>::new();
                for (a, p) in sum.iter().filter(|(_, p)| **p > 1e-18) {
                    own.iter().for_each(|(b, q)| *next.entry(a + b).or_default() += p * q);
                }
                sum = next;
            }
        }
        for epsilon in [0.1, 0.5, 1.0] {
            let losses = sum.iter().map(|(k, p)| (*k as f64 * width, p));
            let naive: f64 = losses.map(|(s, p)| p * (1.0 - (epsilon - s).exp()).max(0.0)).sum();
            let found = delta(&steps, &[side], epsilon, Precision::Fine).unwrap();
            // The naive lattice is coarser: it is above, by about 5 h²/6 of variance.
            assert!(found.value <= naive * (1.0 + 1e-9) + 1e-15, "{side:?} {epsilon}: {found:?} {naive}");
            assert!(found.value >= naive * 0.99, "{side:?} {epsilon}: {found:?} {naive}");
        }
    }
}

#[test]
fn what_cannot_be_computed_is_none() {
    let step = |mu| [(Sampled { rate: 0.1, mu }, 10)];
    assert_eq!(epsilon(&step(1.0), &SIDES, 1e-305, Precision::Fine), None);
    assert_eq!(epsilon(&step(1e7), &SIDES, 1e-5, Precision::Fine), None);
}
