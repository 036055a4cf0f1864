//! Privacy-loss distributions, composed by Fourier transform: an upper bound on ε or δ, with its error.
//!
//! The loss of many steps is the sum of theirs, S, and δ(ε) = E (1 − e^{ε−S})₊ (Sommer, Meiser & Mohammadi
//! 2019; Koskela, Jälkö & Honkela 2020). What is computed differs from that by four errors, all of which
//! are on the side of a larger δ:
//!
//! - **Lattice.** Losses are moved to the multiples of a width h, so that E e^{−Y} stays (`account/loss.rs`):
//!   the pair is told apart better. Sums move up by more than E = Th²/8 + h √(T ln(1/η)/2) with probability
//!   at most η only (Hoeffding; as Gopi, Lee & Wutschitz 2021). That is the error that is stated.
//! - **Tails.** Noise beyond some deviations, as rare as δ/10⁷ over all steps, counts as infinite loss.
//! - **Wrap-around.** The transform adds up sums that are n places apart. Each place then holds too much,
//!   and what lies above the window is added by Chernoff's bound.
//! - **Rounding.** The transform of masses f errs by at most η_n ‖f‖₂ in ℓ₂ (Higham 2002, theorem 24.2),
//!   and powers pass that on. So that it is small *relative to δ*, however small that is, masses are tilted
//!   first: by e^{θY}, with the θ for which the tilted sum lies around ε (the saddle point). The tilt is
//!   taken back afterwards.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::loss::{Cloud, Lattice, Sampled, Side};

/// What a bound by privacy-loss distributions says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Composed {
    /// The upper bound.
    pub value: f64,
    /// Of ε: for a δ smaller by at most two parts in a thousand the pair of distributions has an ε of at
    /// least `value − error`. Of δ: the same for δ at an ε smaller by `error`.
    pub error: f64,
}

/// How finely losses are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// A stated error of a thousandth of ε, and at most 2²¹ places.
    Fine,
    /// For a number after every round: two hundredths, and at most 2¹⁷ places. What it is really off is some
    /// hundred times less.
    Coarse,
}

impl Precision {
    fn limits(self) -> (f64, usize) {
        match self {
            Self::Fine => (1e-3, 1 << 21),
            Self::Coarse => (2e-2, 1 << 17),
        }
    }
}

/// Least δ for which rounding of single numbers plays no part.
const LEAST_DELTA: f64 = 1e-300;
/// Largest μ of a step: above it nothing is left to compute.
const MOST_MU: f64 = 1e6;
/// Part of δ that tails, and the stated error, may take.
const TAILS: f64 = 1e-7;
const SLIP: f64 = 1e-3;
/// What lies outside the window of the tilted sum.
const OUTSIDE: f64 = 1e-12;
/// Part of the tilted sums in which a low loss is moved up to a common one.
const LUMPED: f64 = 1e-9;
/// Cells of one step.
const CELLS: f64 = (1 << 21) as f64;
/// Relative error of sums of up to 2²¹ positive numbers, and of masses by quadrature.
const SUMS: f64 = 2e-9;
const QUADRATURE: f64 = 1e-13;
/// Unit roundoff of a transform, per doubling: Higham's bound is below 8.
const TRANSFORM: f64 = 10.0 * f64::EPSILON / 2.0;

/// What is asked for.
#[derive(Clone, Copy)]
enum Target {
    Delta(f64),
    Epsilon(f64),
}

/// Steps of one side, each with the times it is taken.
type Steps = [(Sampled, u64)];

pub(super) fn epsilon(steps: &Steps, sides: &[Side], delta: f64, precision: Precision) -> Option<Composed> {
    worst(steps, sides, Target::Delta(delta), precision)
}

pub(super) fn delta(steps: &Steps, sides: &[Side], epsilon: f64, precision: Precision) -> Option<Composed> {
    worst(steps, sides, Target::Epsilon(epsilon), precision)
}

fn worst(steps: &Steps, sides: &[Side], target: Target, precision: Precision) -> Option<Composed> {
    let mut worst = Composed { value: 0.0, error: 0.0 };
    // Whoever is never drawn tells nothing.
    let seldom =
        -steps.iter().map(|&(step, times)| times as f64 * (-step.rate).ln_1p()).sum::<f64>().exp_m1();
    if matches!(target, Target::Delta(delta) if delta >= seldom) {
        return Some(worst);
    }
    let is_small = matches!(target, Target::Delta(delta) if delta < LEAST_DELTA);
    if is_small || steps.iter().any(|(step, _)| step.mu > MOST_MU) {
        return None;
    }
    for &side in sides {
        let ceiling: f64 = steps.iter().map(|&(step, times)| times as f64 * step.ceiling(side)).sum();
        let found = match target {
            Target::Delta(delta) => match by_delta(steps, side, delta, worst.value, precision) {
                Some(found) if found.value <= ceiling => found,
                _ if ceiling.is_finite() => Composed { value: ceiling, error: ceiling },
                found => found?,
            },
            Target::Epsilon(epsilon) if epsilon >= ceiling => Composed { value: 0.0, error: 0.0 },
            Target::Epsilon(epsilon) => by_epsilon(steps, side, epsilon, precision)?,
        };
        if found.value >= worst.value {
            worst = found;
        }
    }
    Some(worst)
}

fn by_delta(steps: &Steps, side: Side, delta: f64, scale: f64, precision: Precision) -> Option<Composed> {
    let clouds = clouds(steps, side, tail(steps, delta));
    let theta = crossing(|theta| delta.ln() - log_delta(cumulants(&clouds, theta), theta)).unwrap_or(1e12);
    let plan = Plan::of(steps, &clouds, side, theta, Aim { delta, scale, precision })?;
    plan.compose(steps, side, Target::Delta(delta))
}

fn by_epsilon(steps: &Steps, side: Side, epsilon: f64, precision: Precision) -> Option<Composed> {
    let wide = clouds(steps, side, tail(steps, LEAST_DELTA));
    let theta = crossing(|theta| cumulants(&wide, theta)[1] - epsilon).unwrap_or(1e12);
    let mut delta = log_delta(cumulants(&wide, theta), theta).exp();
    // The estimate says how far the tails must reach; where it was too high, what is found is a better one.
    for _ in 0..4 {
        if delta < LEAST_DELTA {
            let least = by_delta(steps, side, LEAST_DELTA, 0.0, precision)?;
            return (least.value <= epsilon).then_some(Composed { value: LEAST_DELTA, error: least.error });
        }
        let clouds = clouds(steps, side, tail(steps, delta));
        let plan = Plan::of(steps, &clouds, side, theta, Aim { delta, scale: epsilon, precision })?;
        let found = plan.compose(steps, side, Target::Epsilon(epsilon))?;
        if found.value > 0.1 * delta {
            return Some(found);
        }
        delta = found.value;
    }
    None
}

/// Deviations beyond which noise counts as infinite loss.
fn tail(steps: &Steps, delta: f64) -> f64 {
    let times = steps.iter().map(|&(_, times)| times as f64).sum::<f64>();
    (-2.0 * (TAILS * delta / (4.0 * times)).ln()).sqrt()
}

fn clouds(steps: &Steps, side: Side, tail: f64) -> Vec<(Cloud, f64)> {
    steps.iter().map(|&(step, times)| (Cloud::of(step, side, tail), times as f64)).collect()
}

/// ln δ by the saddle point, as far as it is needed to know where ε lies.
fn log_delta([k, mean, variance]: [f64; 3], theta: f64) -> f64 {
    let spread = theta * (theta + 1.0) * (2.0 * PI * variance).sqrt();
    k - theta * mean - spread.max(1.0).ln()
}

/// Where to compute.
struct Plan {
    /// Deviations beyond which noise counts as infinite loss.
    tail: f64,
    /// Losses of each step below which all counts as so much.
    floors: Vec<f64>,
    /// The tilt θ.
    theta: f64,
    /// A tilt by which what lies above the window is bounded.
    above: f64,
    /// Width of a cell.
    width: f64,
    /// First place of the window, and places.
    first: i64,
    places: usize,
    /// The stated error.
    error: f64,
}

/// ln E e^{θS} and its first two derivatives.
fn cumulants(clouds: &[(Cloud, f64)], theta: f64) -> [f64; 3] {
    clouds.iter().fold([0.0; 3], |total, (cloud, times)| {
        let own = cloud.cumulants(theta);
        [0, 1, 2].map(|i| total[i] + times * own[i])
    })
}

/// The θ ≥ 0 where a growing function becomes positive, to relative 10⁻⁴; none where it never does.
fn crossing(grows: impl Fn(f64) -> f64) -> Option<f64> {
    if grows(0.0) >= 0.0 {
        return Some(0.0);
    }
    let mut high = 1.0;
    while grows(high) < 0.0 {
        high *= 4.0;
        if high > 1e12 {
            return None;
        }
    }
    let mut low = if high > 1.0 { high / 4.0 } else { 0.0 };
    while high - low > 1e-4 * high && high > 1e-12 {
        let middle = f64::midpoint(low, high);
        if grows(middle) < 0.0 { low = middle } else { high = middle }
    }
    Some(high)
}

/// What a plan is for.
struct Aim {
    /// δ, or an estimate of it.
    delta: f64,
    /// An ε that matters: what is much finer than that needs no resolution.
    scale: f64,
    precision: Precision,
}

impl Plan {
    fn of(steps: &Steps, clouds: &[(Cloud, f64)], side: Side, theta: f64, aim: Aim) -> Option<Self> {
        let times = steps.iter().map(|&(_, times)| times as f64).sum::<f64>();
        let tail = tail(steps, aim.delta);
        let [k, mean, variance] = cumulants(clouds, theta);
        let deviation = variance.sqrt();
        if !(deviation > 0.0 && deviation.is_finite() && k.is_finite()) {
            return None;
        }
        let floors: Vec<f64> =
            clouds.iter().map(|(cloud, times)| cloud.floor(theta, LUMPED / times)).collect();
        let extent = |(&(step, _), &floor): (&(Sampled, u64), &f64)| Lattice::extent(step, side, tail, floor);
        let cells = steps.iter().zip(&floors).map(extent).fold(0.0, f64::max) / CELLS;
        let (tolerance, most) = aim.precision.limits();
        let log = -(SLIP * aim.delta).ln();
        let width = (tolerance * mean.max(deviation).max(aim.scale) / (times * log / 2.0).sqrt()).max(cells);
        // Chernoff's bounds, by tilts that do not notice the lattice.
        let reach = |t: f64| (cumulants(clouds, theta + t)[0] - k - OUTSIDE.ln()) / t;
        let tilts = [0.5, 1.0, 2.0, 4.0, 7.0, 12.0].map(|tilt| (tilt / deviation).min(0.5 / width));
        let (high, above) = tilts.map(|t| (reach(t), t)).into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
        let low = tilts.map(|t| reach(-t)).into_iter().fold(f64::NEG_INFINITY, f64::max);
        if high.is_nan() || low.is_nan() || high <= low {
            return None;
        }
        let width = width.max((high - low) / most as f64 * 1.01);
        let above = theta + above.min(0.5 / width);
        let places = (((high - low) / width) as usize + 4).next_power_of_two().max(64);
        let error = times * width * width / 8.0 + width * (times * log / 2.0).sqrt();
        Some(Self { tail, floors, theta, above, width, first: (low / width).floor() as i64, places, error })
    }

    fn compose(&self, steps: &Steps, side: Side, target: Target) -> Option<Composed> {
        let n = self.places;
        let mut planner = RealFftPlanner::<f64>::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let doublings = TRANSFORM * f64::from(n.ilog2());
        let top = (self.first + n as i64) as f64 * self.width;
        let mut product: Vec<Complex<f64>> = Vec::new();
        // ln of all that the tilt took, mass of infinite loss, rounding in ℓ₂, ln P(S ≥ top).
        let (mut log, mut infinite, mut wrong, mut above) = (0.0, 0.0, 0.0, -self.above * top);
        let mut all = 0.0;
        for (&(step, times), &floor) in steps.iter().zip(&self.floors) {
            let lattice = Lattice::of(step, side, self.width, self.tail, floor);
            let own = lattice.log_moment(self.theta);
            let mut folded = lattice.fold(self.theta, own, n);
            wrong += times as f64 * doublings * norm(&folded);
            log += times as f64 * own;
            above += times as f64 * lattice.log_moment(self.above);
            infinite += times as f64 * lattice.infinite;
            all += times as f64;
            let factor = transform(&forward, &mut folded)?;
            match product.is_empty() {
                true => product = factor.into_iter().map(|z| power(z, times)).collect(),
                false => product.iter_mut().zip(factor).for_each(|(p, z)| *p *= power(z, times)),
            }
        }
        let tilted = back(&inverse, product)?;
        wrong += (doublings + 8.0 * f64::EPSILON * all) * norm(&tilted);
        // ‖Σ_{S > ε} e^{−θ(S − ε)}‖ over the places.
        let places = (-(-2.0 * self.theta * self.width).exp_m1()).recip().min(n as f64);
        let spread = wrong * places.sqrt();
        let slack = 1.0 + SUMS + QUADRATURE * all;
        // Tilting back errs as the logarithms do.
        let slack = slack * (1.0 + 4.0 * f64::EPSILON * (log.abs() + self.theta * top.abs() + all));
        let beyond = infinite + above.exp();
        let loose = |scale: f64, delta: f64| slack * (delta + scale * spread) + beyond;

        // From above: `delta` is Σ_{S ≥ k} (1 − e^{k−S}) m_S, `weight` the same sum of e^{k−S} m_S, in
        // units of the cell.
        let (mut delta, mut weight) = (0.0, 0.0);
        let fall = (-self.width).exp();
        let rise = -(-self.width).exp_m1();
        let scale = |k: i64| (log - self.theta * k as f64 * self.width).exp();
        let mut lower = scale(self.first + n as i64 - 1);
        for k in (self.first..self.first + n as i64).rev() {
            let s = k as f64 * self.width;
            // Below s, by x < width, δ is `delta` + (1 − e^{−x}) `weight`, and the transform errs by its
            // scale one place further down.
            let here = std::mem::replace(&mut lower, scale(k - 1));
            delta += rise * weight;
            weight = fall * weight + tilted[k.rem_euclid(n as i64) as usize] * here;
            match target {
                Target::Epsilon(epsilon) if epsilon > s - self.width => {
                    let x = (s - epsilon).max(0.0);
                    let value = loose(lower, delta - (-x).exp_m1() * weight);
                    return Some(Composed { value: value.clamp(0.0, 1.0), error: self.error });
                }
                Target::Delta(target) => {
                    // What is not a number fits nowhere.
                    let fits = |delta: f64| loose(lower, delta) <= target;
                    if fits(delta + rise * weight) {
                        continue;
                    }
                    let room = ((target - beyond) / slack - lower * spread - delta) / weight;
                    let x = match fits(delta) {
                        true => -(-room.clamp(0.0, rise)).ln_1p(),
                        // The place itself fits as the end of the cell above, if there is one.
                        false if k + 1 < self.first + n as i64 => 0.0,
                        false => return None,
                    };
                    return Some(Composed { value: (s - x).max(0.0), error: self.error });
                }
                Target::Epsilon(_) => {}
            }
        }
        match target {
            // Everything in the window is allowed.
            Target::Delta(_) => {
                Some(Composed { value: (self.first as f64 * self.width).max(0.0), error: self.error })
            }
            // Nothing lies between ε and the window but what was wrapped into it.
            Target::Epsilon(epsilon) => {
                let x = self.first as f64 * self.width - epsilon;
                let value = loose((log - self.theta * epsilon).exp(), delta - (-x).exp_m1() * weight);
                Some(Composed { value: value.clamp(0.0, 1.0), error: self.error })
            }
        }
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn transform(forward: &Arc<dyn RealToComplex<f64>>, values: &mut [f64]) -> Option<Vec<Complex<f64>>> {
    let mut spectrum = forward.make_output_vec();
    forward.process(values, &mut spectrum).ok()?;
    Some(spectrum)
}

fn back(inverse: &Arc<dyn ComplexToReal<f64>>, mut spectrum: Vec<Complex<f64>>) -> Option<Vec<f64>> {
    let mut values = inverse.make_output_vec();
    // Those of a real function are real where it is its own mirror image.
    spectrum.first_mut()?.im = 0.0;
    spectrum.last_mut()?.im = 0.0;
    inverse.process(&mut spectrum, &mut values).ok()?;
    let places = values.len() as f64;
    values.iter_mut().for_each(|x| *x /= places);
    Some(values)
}

/// z to the power of `times`.
fn power(z: Complex<f64>, mut times: u64) -> Complex<f64> {
    let (mut result, mut square) = (Complex::new(1.0, 0.0), z);
    while times > 0 {
        if times & 1 == 1 {
            result *= square;
        }
        square *= square;
        times >>= 1;
    }
    result
}

#[cfg(test)]
mod tests;
