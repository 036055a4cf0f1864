//! The privacy loss of a sampled Gaussian step: as a cloud of points, to plan with, and on a lattice, to
//! compose.
//!
//! With noise of deviation 1 let Q = N(0, 1), P = (1 − q) N(0, 1) + q N(μ, 1) and y(t) = ln P(t)/Q(t) =
//! ln(1 − q + q e^{μt − μ²/2}), which grows with t. A pair of distributions *dominates* a step if no test
//! tells two neighbours apart better than the pair; then so do the pairs' products for many steps (Zhu,
//! Dong & Wang 2022). The loss of a pair (A, B) is ln A(t)/B(t) for t ~ A.
//!
//! | [`Side`] | pair | dominates, at rate q |
//! |---|---|---|
//! | `Removed` | (P, Q) | the output with a client against that without (or with zero), Poisson sampling |
//! | `Added` | (Q, P) | the same the other way round |
//! | `Replaced` | see below | both ways, replace-one, samples of fixed size or Poisson |
//!
//! **Replaced.** Let ν₁, ν₁' be the outputs given that the client is drawn, with one update and the other,
//! and ν₀ that given that it is not. Then H_α((1−q)ν₀ + qν₁ ‖ (1−q)ν₀ + qν₁') = q H_α'(ν₁ ‖ (1−β)ν₀ + βν₁')
//! for α ≥ 1, with α' = 1 + (α−1)/q and β = α/α' (Balle, Barthe & Gaboardi 2018, theorem 2), and at most q
//! times the larger of H_α'(ν₁‖ν₀) and H_α'(ν₁‖ν₁'). Both pairs are within the reach μ of one update in
//! place of another: for a cohort of fixed size, ν₀ is ν₁ with a client that was not drawn in the place of
//! ours. So the step is bounded by q H_α'(N(μ)‖N(0)) = H_α(P‖Q) for α ≥ 1, in both directions, and by
//! symmetry by 1 − α + α H_{1/α}(P‖Q) below. This curve is that of a pair: its losses above 0 are those of
//! (P, Q), those below 0 are those of (Q, P), both from t > μ/2, and the rest of the mass, (1−q)(2Φ(μ/2) −
//! 1), has loss 0.

use std::f64::consts::PI;

use super::rdp::{exponent, loss};

/// Which pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Removed,
    Added,
    Replaced,
}

/// A sampled Gaussian step: rate in (0, 1] and μ in (0, ∞).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampled {
    pub rate: f64,
    pub mu: f64,
}

/// Mass `weight` · φ(t − `centre`) on t > `from`, with loss ± y(t).
struct Piece {
    weight: f64,
    centre: f64,
    from: f64,
    sign: f64,
}

/// Widest step of the quadrature, and that below which two nodes are as good as four.
const WIDTH: f64 = 1.0 / 32.0;
const NARROW: f64 = 1e-3;
/// Gauss-Legendre nodes in [−1, 1] and their weights.
const TWO: [(f64, f64); 2] = [(-0.577_350_269_189_625_8, 1.0), (0.577_350_269_189_625_8, 1.0)];
const FOUR: [(f64, f64); 4] = [
    (-0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
    (-0.339_981_043_584_856_26, 0.652_145_154_862_546_1),
    (0.339_981_043_584_856_26, 0.652_145_154_862_546_1),
    (0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
];

impl Sampled {
    fn pieces(self, side: Side) -> Vec<Piece> {
        let (q, mu) = (self.rate, self.mu);
        let piece = |weight, centre, from, sign| Piece { weight, centre, from, sign };
        let everywhere = f64::NEG_INFINITY;
        let mut pieces = match side {
            Side::Removed => vec![piece(1.0 - q, 0.0, everywhere, 1.0), piece(q, mu, everywhere, 1.0)],
            Side::Added => vec![piece(1.0, 0.0, everywhere, -1.0)],
            Side::Replaced => vec![
                piece(1.0 - q, 0.0, mu / 2.0, 1.0),
                piece(q, mu, mu / 2.0, 1.0),
                piece(1.0, 0.0, mu / 2.0, -1.0),
            ],
        };
        pieces.retain(|piece| piece.weight > 0.0);
        pieces
    }

    /// Mass of loss 0 beside the pieces.
    fn still(self, side: Side) -> f64 {
        match side {
            Side::Replaced => (1.0 - self.rate) * crate::privacy::ldp::delta(self.mu, 0.0),
            _ => 0.0,
        }
    }

    fn loss(self, t: f64) -> f64 {
        loss(self.rate, self.exponent(t))
    }

    fn exponent(self, t: f64) -> f64 {
        self.mu * t - self.mu * self.mu / 2.0
    }

    /// The t of this loss, which is above ln(1 − q).
    fn inverse(self, y: f64) -> f64 {
        (exponent(self.rate, y) + self.mu * self.mu / 2.0) / self.mu
    }

    /// The largest loss there is.
    pub(super) fn ceiling(self, side: Side) -> f64 {
        if side == Side::Added { -(-self.rate).ln_1p() } else { f64::INFINITY }
    }

    /// How far a loss may be off by rounding: its own, and that of the exponent x, as far as y grows with it.
    fn rounding(self, t: f64, y: f64) -> f64 {
        let odds = self.rate * self.exponent(t).min(600.0).exp();
        let slope = (odds / (1.0 - self.rate + odds)).min(1.0);
        8.0 * f64::EPSILON * (y.abs() + slope * (self.mu * t.abs() + self.mu * self.mu))
    }

    /// Where a piece is, up to `tail` deviations, and its loss above `floor`; where its loss is below.
    fn ranges(self, piece: &Piece, tail: f64, floor: f64) -> [(f64, f64); 2] {
        let (low, high) = ((piece.centre - tail).max(piece.from), piece.centre + tail);
        let cut = self.inverse(piece.sign * floor);
        match (piece.sign > 0.0, cut > low && cut < high) {
            (true, true) => [(cut, high), (low, cut)],
            (false, true) => [(low, cut), (cut, high)],
            (_, false) => [(low, high), (high, high)],
        }
    }

    /// Losses and masses of a piece at the nodes of a quadrature that stops at the multiples of `step`.
    fn walk(self, piece: &Piece, (low, high): (f64, f64), step: f64, mut visit: impl FnMut(f64, f64)) {
        let wide = if step.is_finite() { WIDTH } else { 4.0 * WIDTH };
        let density = piece.weight / (2.0 * PI).sqrt();
        let mut t = low;
        let mut next = (self.loss(low) / step).floor() + 1.0;
        let mut crossing = if step.is_finite() { self.inverse(next * step) } else { f64::INFINITY };
        while t < high {
            // A loss at its lower bound has no inverse.
            while crossing.is_nan() || crossing <= t {
                next += 1.0;
                crossing = self.inverse(next * step);
            }
            let end = (t + wide).min(crossing).min(high);
            let (middle, half) = (f64::midpoint(t, end), (end - t) / 2.0);
            let narrow = half * (2.0 + t.abs() + self.mu) < NARROW;
            for &(node, weight) in if narrow { &TWO[..] } else { &FOUR[..] } {
                let at = middle + half * node;
                let mass = weight * half * density * (-(at - piece.centre).powi(2) / 2.0).exp();
                visit(at, mass);
            }
            t = end;
        }
    }
}

/// Masses and losses of some thousand points: what sums of them do tells about where to compute exactly.
pub(super) struct Cloud(Vec<(f64, f64)>);

impl Cloud {
    pub(super) fn of(step: Sampled, side: Side, tail: f64) -> Self {
        let mut points = vec![(step.still(side), 0.0)];
        for piece in step.pieces(side) {
            let [range, _] = step.ranges(&piece, tail, f64::NEG_INFINITY);
            step.walk(&piece, range, f64::INFINITY, |t, mass| points.push((mass, piece.sign * step.loss(t))));
        }
        points.retain(|&(mass, _)| mass > 0.0);
        Self(points)
    }

    /// The highest loss to which all that is below may be moved: with at most this part of the mass that is
    /// tilted by e^{θY}.
    pub(super) fn floor(&self, theta: f64, part: f64) -> f64 {
        let log = self.cumulants(theta)[0];
        let mut points = self.0.clone();
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut below = 0.0;
        let within = points.iter().take_while(|&&(mass, y)| {
            below += mass;
            below * (theta * y - log).exp() <= part
        });
        within.last().map_or(f64::NEG_INFINITY, |&(_, y)| y)
    }

    /// ln E e^{θY} and its first two derivatives.
    pub(super) fn cumulants(&self, theta: f64) -> [f64; 3] {
        let most = self.0.iter().map(|&(_, y)| theta * y).fold(f64::NEG_INFINITY, f64::max);
        let (mut m, mut my, mut myy) = (0.0, 0.0, 0.0);
        for &(mass, y) in &self.0 {
            let w = mass * (theta * y - most).exp();
            m += w;
            my += w * y;
            myy += w * y * y;
        }
        let mean = my / m;
        [most + m.ln(), mean, (myy / m - mean * mean).max(0.0)]
    }
}

/// The loss on the multiples of a step.
pub(super) struct Lattice {
    /// The width of a cell.
    pub step: f64,
    /// Masses at consecutive multiples, from the first.
    runs: Vec<(i64, Vec<f64>)>,
    /// Mass that counts as infinite loss.
    pub infinite: f64,
}

impl Lattice {
    /// Cells that a step of width 1 would need.
    pub(super) fn extent(step: Sampled, side: Side, tail: f64, floor: f64) -> f64 {
        let ranges = step.pieces(side).into_iter().map(|piece| step.ranges(&piece, tail, floor)[0]);
        ranges.map(|(low, high)| (step.loss(high) - step.loss(low)).max(0.0)).sum()
    }

    /// The loss, moved to the multiples of `width`: every point to its two neighbours, so that its mass and
    /// E e^{−Y} stay ("connect the dots", Doroshenko et al. 2022), which lets nobody tell the pair apart
    /// worse. What is below `floor` counts as that, and what is more than `tail` deviations from a centre
    /// as infinite.
    pub(super) fn of(step: Sampled, side: Side, width: f64, tail: f64, floor: f64) -> Self {
        let still = step.still(side);
        let mut runs = if still > 0.0 { vec![(0, vec![still])] } else { Vec::new() };
        let mut infinite = 0.0;
        let whole = (-width).exp_m1();
        for piece in step.pieces(side) {
            infinite += piece.weight * (-tail * tail / 2.0).exp();
            let [(low, high), below] = step.ranges(&piece, tail, floor);
            if low >= high {
                continue;
            }
            let ends = [low, high].map(|t| (piece.sign * step.loss(t)).max(floor));
            let first = (ends[0].min(ends[1]) / width).floor() as i64 - 1;
            let cells = (ends[0].max(ends[1]) / width).floor() as i64 - first + 4;
            let mut masses = vec![0.0; cells as usize];
            let mut visit = |t: f64, mass: f64| {
                let y = step.loss(t);
                let y = (piece.sign * y).max(floor) + step.rounding(t, y);
                let cell = (y / width).floor();
                let upper = ((cell * width - y).exp_m1() / whole).clamp(0.0, 1.0);
                match masses.get_mut((cell as i64 - first) as usize..) {
                    Some([lower, higher, ..]) => {
                        *lower += mass * (1.0 - upper);
                        *higher += mass * upper;
                    }
                    _ => infinite += mass,
                }
            };
            step.walk(&piece, (low, high), width, &mut visit);
            step.walk(&piece, below, f64::INFINITY, &mut visit);
            runs.push((first, masses));
        }
        Self { step: width, runs, infinite }
    }

    /// Visits every multiple that has mass.
    pub(super) fn each(&self, mut visit: impl FnMut(i64, f64)) {
        for (first, masses) in &self.runs {
            for (k, &mass) in (*first..).zip(masses).filter(|(_, mass)| **mass > 0.0) {
                visit(k, mass);
            }
        }
    }

    /// ln Σ p_k e^{θ k step}.
    pub(super) fn log_moment(&self, theta: f64) -> f64 {
        let ends = self.runs.iter().flat_map(|(first, masses)| [*first, first + masses.len() as i64]);
        let most = ends.map(|k| theta * k as f64 * self.step).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        self.each(|k, mass| sum += mass * (theta * k as f64 * self.step - most).exp());
        most + sum.ln()
    }

    /// The masses p_k e^{θ k step − `log`}, wrapped around `n` places.
    pub(super) fn fold(&self, theta: f64, log: f64, n: usize) -> Vec<f64> {
        let mut folded = vec![0.0; n];
        self.each(|k, mass| {
            folded[k.rem_euclid(n as i64) as usize] += mass * (theta * k as f64 * self.step - log).exp();
        });
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Sampled; 7] = [
        Sampled { rate: 1.0, mu: 3.0 },
        Sampled { rate: 1.0 - 1e-9, mu: 3.0 },
        Sampled { rate: 0.01, mu: 1.0 },
        Sampled { rate: 0.5, mu: 0.1 },
        Sampled { rate: 1e-4, mu: 4.0 },
        Sampled { rate: 0.9, mu: 2.0 },
        Sampled { rate: 1e-9, mu: 0.5 },
    ];

    /// Both distributions of a pair have mass 1, before losses are moved and after.
    #[test]
    fn masses_are_those_of_two_distributions() {
        for step in STEPS {
            for side in [Side::Removed, Side::Added, Side::Replaced] {
                for theta in [0.0, -1.0] {
                    let cloud = Cloud::of(step, side, 11.0).cumulants(theta)[0];
                    assert!(cloud.abs() < 2e-12, "{step:?} {side:?} {theta}: {cloud}");
                    let width = Lattice::extent(step, side, 11.0, f64::NEG_INFINITY) / 5000.0;
                    let lattice = Lattice::of(step, side, width, 11.0, f64::NEG_INFINITY);
                    let moved = lattice.log_moment(theta);
                    assert!(moved.abs() < 2e-12, "{step:?} {side:?} {theta}: {moved}");
                    assert!(lattice.infinite < 1e-25);
                }
            }
        }
    }

    /// Moving losses up to a floor moves nothing down.
    #[test]
    fn a_floor_keeps_the_mass() {
        for step in STEPS {
            for side in [Side::Removed, Side::Added, Side::Replaced] {
                let floor = Cloud::of(step, side, 9.0).floor(0.0, 1e-3);
                let width = Lattice::extent(step, side, 9.0, floor) / 1000.0;
                let lattice = Lattice::of(step, side, width, 9.0, floor);
                assert!(lattice.log_moment(0.0).abs() < 1e-12, "{step:?} {side:?}");
                let reversed = lattice.log_moment(-1.0);
                assert!(reversed <= 1e-12, "{step:?} {side:?} {reversed}");
            }
        }
    }

    #[test]
    fn losses_have_inverses() {
        for step in STEPS {
            for t in [-7.0, -2.0, 0.0, 1.0, 7.0, 30.0, 800.0] {
                let y = step.loss(t);
                let back = step.inverse(y);
                let slope =
                    step.mu * (step.rate.ln() + step.mu * t - step.mu * step.mu / 2.0 - y).exp().min(1.0);
                // At the lower bound there is no inverse.
                assert!(
                    slope < 1e-12 || (back - t).abs() * slope < 1e-14 * (1.0 + y.abs() + step.mu * t.abs()),
                    "{step:?} {t}: {back}"
                );
            }
        }
    }

    /// One client's update is 1 or −1, those of all others −1, or all 0: sums of cohorts and of independent
    /// draws, told apart in both directions. Where all others are −1 a cohort of one meets the bound.
    #[test]
    fn replaced_bounds_what_replacing_does() {
        use crate::privacy::ldp;
        const H: f64 = 1e-3;
        let normal = |t: f64, mean: f64| (-(t - mean).powi(2) / 2.0).exp() / (2.0 * PI).sqrt();
        for (q, std) in [(0.5f64, 1.0f64), (0.1, 0.7), (0.01, 2.0)] {
            let c = 1.0 / std;
            // Over the deviation of the noise, the sum is `rest` where the client is not drawn; else it moves
            // by its update, and by `other` for whom it displaces.
            for (rest, other) in [(0.0, 0.0), (-c, c)] {
                let with = |x: f64, t: f64| (1.0 - q) * normal(t, rest) + q * normal(t, rest + other + x);
                for epsilon in [0.01f64, 0.1, 0.5, 1.0, 2.0] {
                    let told = |x: f64, y: f64| -> f64 {
                        let gap = |t: f64| (with(x, t) - epsilon.exp() * with(y, t)).max(0.0);
                        (0..40_000).map(|i| H * gap(f64::from(i) * H - 20.0)).sum()
                    };
                    let bound = q * ldp::delta(2.0 * c, (epsilon.exp_m1() / q).ln_1p());
                    let (there, back) = (told(c, -c), told(-c, c));
                    let at = format!("{q} {std} {rest} {epsilon}: {there} {back} for {bound}");
                    assert!(there.max(back) <= bound * (1.0 + 1e-4), "{at}");
                    assert!(rest == 0.0 || there >= bound * (1.0 - 1e-4), "{at}");
                }
            }
        }
    }
}
