//! How far rounding can have moved a decoded sum, and what follows from it.
//!
//! The server outputs Σ_m a_m S_m with S_m = Σ_k b_mk (x̂_k + û_k), all of it computed with a relative error
//! of at most u (2⁻⁵³ or 2⁻²⁴) in each operation. It knows a, B, the standard deviations of the keys and the
//! norms of what it received, and from them a bound on the norm of what rounding added ([`Sizes::settle`]). A
//! sum that is not finite, or whose bound exceeds `outage.recovery_tolerance` times its norm, is an outage
//! for want of precision ([`checked`]): decided once, after all parts of a round, never retried, since
//! another attempt has the same updates and keys. A norm below 10⁻⁶ a coordinate ([`FLOOR`]) counts as that
//! much, lest updates of zero be an outage.
//!
//! # What the bound promises
//!
//! It is probabilistic, not worst-case. Rounding errors are taken for independent variables of mean zero
//! (Higham & Mary, *A New Approach to Probabilistic Rounding Error Analysis*, 2019), each bounded by u times
//! the size of what is rounded; then the norm of their sum over d coordinates exceeds u (1 + √(2t/d)) √(Σ
//! size²) with a probability of at most e⁻ᵗ (Hsu, Kakade & Zhang 2012), here e⁻³² = 10⁻¹⁴. Sizes are those of
//! keys of the declared σ, plus updates of norm w C under `solver.clip_norm`; without a clip each update is
//! taken to be at most as long as the longest vector that the server holds.
//!
//! # Exact sums
//!
//! On a grid of step γ ([`crate::algebra::grid`]) all x̂_k are multiples of γ and so is their sum. Where
//! every coordinate's error is below γ/2 in the worst case, all errors at their largest and of one sign, the
//! sum is rounded to the grid and then is Σ_k x̂_k bit for bit. A key counts as 10.2 of its standard
//! deviations long in every coordinate: no single draw is longer, and of 10²² that are summed one is. The
//! server also looks at what it decoded: a coordinate farther than γ/4 from the grid shows that an assumption
//! was wrong, and nothing is rounded. What remains is the rounding of the updates to the grid, at most γ/2
//! each.

use crate::algebra::gaussian::REACH;
use crate::algebra::grid::{Grid, Public};
use crate::algebra::{Scalar, Symbol, is_finite};
use crate::coding::{Code, Coefficient, GradientCode};
use crate::message::{Decoded, Reason};

/// Root mean square per coordinate below which a sum's norm is not taken.
pub const FLOOR: f64 = 1e-6;

/// t of the bound's probability e⁻ᵗ.
const CONFIDENCE: f64 = 32.0;

/// The largest coordinate of a weighted update for which a sum is rounded to the grid, where no clip bounds
/// it.
const UNCLIPPED: f64 = 256.0;

/// The outage, if a sum is not finite or may be less precise than `tolerance`.
#[must_use]
pub fn checked(decoded: Decoded<f64>, tolerance: f64) -> Decoded<f64> {
    let (sum, error) = match &decoded {
        Decoded::Sum { sum, error, .. } => (sum, error),
        // Nobody promises how near an estimate is, but it is a number.
        Decoded::Estimate { sum, .. } if !is_finite(sum) => return Decoded::Outage(Reason::Precision),
        _ => return decoded,
    };
    let floor = FLOOR * (sum.len() as f64).sqrt();
    let norm = f64::energy(sum).sqrt();
    // Not the other way round: NaN fails every comparison.
    if norm.is_finite() && *error <= tolerance * norm.max(floor) {
        decoded
    } else {
        Decoded::Outage(Reason::Precision)
    }
}

/// The bound on ‖error‖₂ of a plain sum of `uploads`, equally long: on a grid only the updates have been
/// rounded.
#[must_use]
pub fn of_plain_sum<S: Symbol>(uploads: &[&[S]], grid: Option<&Grid>) -> f64 {
    let Some(d) = uploads.first().map(|upload| upload.len() as f64) else { return 0.0 };
    let (n, spread) = (uploads.len() as f64, 1.0 + (2.0 * CONFIDENCE / d.max(1.0)).sqrt());
    match grid {
        Some(grid) => (n * d).sqrt() * grid.step() / 2.0 * spread,
        None if S::ROUNDOFF == 0.0 => 0.0,
        None => {
            let energy: f64 = uploads.iter().map(|upload| S::energy(upload)).sum();
            // Inputs are rounded once and partial sums, of n terms at most, as often as there are terms.
            S::ROUNDOFF * spread * ((1.0 + n * n) * energy).sqrt()
        }
    }
}

/// What the server knows of the sizes of masked inputs.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Var(u_k) per coordinate.
    pub keys: Vec<f64>,
    /// Var(v_mk) per coordinate.
    pub links: f64,
    /// What everybody knows of the inputs.
    pub public: Public,
    /// What masked inputs are multiples of.
    pub grid: Option<Grid>,
}

/// A received sum: its weight a_m in the decoded one, and b_mk by client.
pub struct Weighted<'a, S: Symbol> {
    /// a_m.
    pub weight: S::Scalar,
    /// (k, b_mk) of the shares in it.
    pub row: Vec<(usize, S::Scalar)>,
    /// S_m.
    pub sum: &'a [S],
}

impl<'a, S: Symbol<Scalar: Coefficient>> Weighted<'a, S> {
    /// The complete sum of a row of a code.
    #[must_use]
    pub fn of(code: &GradientCode<S::Scalar>, row: usize, weight: S::Scalar, sum: &'a [S]) -> Self {
        let shares = code.support(row).iter().map(|&k| (k, code.coefficient(row, k)));
        Self { weight, row: shares.collect(), sum }
    }
}

/// What a decoding does to masked inputs of one coordinate, all in root mean square or at most.
#[derive(Default)]
struct Work {
    /// Σ size² of what is rounded, over Var of a coordinate.
    rounded: f64,
    /// Σ_m |a_m| Σ_k |b_mk| z_k, z_k the largest size of client k's masked input.
    largest: f64,
    /// Most operations on one term.
    depth: f64,
}

/// How a symbol rounds.
#[derive(Clone, Copy)]
struct Rounding {
    /// u, the largest relative error of an operation.
    unit: f64,
    /// Roundings of a product: coefficients are rounded to single precision too.
    products: f64,
}

impl Rounding {
    fn of<S: Symbol>() -> Self {
        Self { unit: S::ROUNDOFF, products: if S::BYTES < 8 { 2.0 } else { 1.0 } }
    }
}

/// By how much a decoding can be off.
struct Bound {
    /// ‖·‖₂ of what decoding adds, and of what the grid has added to the updates.
    norms: (f64, f64),
    /// The most in one coordinate, decoding alone.
    worst: f64,
}

impl Sizes {
    /// Rounds the decoded `sum` over the clients `included` (ascending) to the grid if that is sure to be
    /// right. Returns the bound on ‖error‖₂ of what it is then.
    pub fn settle<S: Symbol>(&self, sum: &mut [S], terms: &[Weighted<'_, S>], included: &[u16]) -> f64 {
        if S::ROUNDOFF == 0.0 || sum.is_empty() {
            return 0.0;
        }
        let d = sum.len() as f64;
        let by = Rounding::of::<S>();
        if let Some(grid) = &self.grid {
            // What updates are makes no difference to the worst case.
            let Bound { norms: (_, of_updates), worst } = self.bound(d, 0.0, terms, included, by);
            if worst < grid.step() / 2.0 && S::snap(sum, grid, grid.step() / 4.0) {
                return of_updates;
            }
        }
        let update = match (self.public.reach(), self.public.coordinates) {
            (Some(reach), Some(coordinates)) => reach * reach / coordinates as f64,
            // A pass over all that was received, where nothing else tells.
            _ => terms.iter().map(|term| S::energy(term.sum)).fold(S::energy(sum), larger) / d,
        };
        let (decoding, of_updates) = self.bound(d, update, terms, included, by).norms;
        decoding.hypot(of_updates)
    }

    /// The bound on ‖error‖₂ over ‖sum‖₂ that can be told before a round, for updates whose coordinates have
    /// this root mean square and sums of the given rows.
    #[must_use]
    pub fn expected<S: Symbol>(&self, update: f64, terms: &[Weighted<'_, S>]) -> f64 {
        let d = self.public.coordinates.unwrap_or(1) as f64;
        let everybody: Vec<u16> = (0..self.keys.len() as u16).collect();
        let bound = self.bound(d, update * update, terms, &everybody, Rounding::of::<S>());
        let exact = self.grid.is_some_and(|grid| bound.worst < grid.step() / 2.0);
        let (decoding, of_updates) = bound.norms;
        let error = if exact { of_updates } else { decoding.hypot(of_updates) };
        error / ((self.keys.len() as f64 * d).sqrt() * update)
    }

    /// For `d` coordinates of which an update's have the mean square `update`.
    fn bound<S: Symbol>(
        &self,
        d: f64,
        update: f64,
        terms: &[Weighted<'_, S>],
        included: &[u16],
        by: Rounding,
    ) -> Bound {
        let spread = 1.0 + (2.0 * CONFIDENCE / d).sqrt();
        let work = self.work(terms, update, by.products);
        let residuals = self.residuals(terms, included);
        let of = |size: &dyn Fn(usize) -> f64| -> f64 {
            residuals.iter().enumerate().map(|(k, r)| r.abs() * size(k)).sum()
        };
        let rounding = by.unit * spread * work.rounded.sqrt();
        let decoding = d.sqrt() * (rounding + of(&|k| (self.keys[k] + update).sqrt()));
        let worst = of(&|k| self.largest(k)) + by.unit * work.depth * work.largest;
        let step = self.grid.map_or(0.0, |grid| grid.step());
        let of_updates = (included.len() as f64 * d).sqrt() * step / 2.0 * spread;
        // Link keys are no multiples of a step.
        let worst = if self.links > 0.0 { f64::INFINITY } else { worst };
        Bound { norms: (decoding, of_updates), worst }
    }

    fn work<S: Symbol>(&self, terms: &[Weighted<'_, S>], update: f64, products: f64) -> Work {
        let mut work = Work::default();
        let mut so_far = vec![0.0; self.keys.len()];
        for term in terms {
            let (a, n) = (term.weight.size(), term.row.len() as f64);
            let row = || term.row.iter().map(|(k, b)| (*k, b.size()));
            let variance = |(k, b): (usize, f64)| b * b * (self.keys[k] + update);
            // Partial sums of a row have at most twice the sum of their terms' variances, whichever the keys.
            let shares = row().map(variance).sum::<f64>() + n * self.links;
            work.rounded += a * a * (products + 2.0 * n) * shares;
            row().for_each(|(k, b)| so_far[k] += a * b);
            let decoded: f64 = so_far.iter().enumerate().map(|(k, &c)| variance((k, c))).sum();
            work.rounded += a * a * products * 2.0 * shares + 2.0 * decoded;
            work.largest += a.abs() * row().map(|(k, b)| b.abs() * self.largest(k)).sum::<f64>();
            work.depth = work.depth.max(n);
        }
        work.depth += 2.0 * products + terms.len() as f64;
        work
    }

    /// Σ_m a_m b_mk − 1 for every client who is `included`, and without the 1 for the others, as large as it
    /// can be.
    fn residuals<S: Symbol>(&self, terms: &[Weighted<'_, S>], included: &[u16]) -> Vec<f64> {
        let (mut sums, mut sizes) = (vec![0.0; self.keys.len()], vec![0.0f64; self.keys.len()]);
        included.iter().for_each(|&k| sums[usize::from(k)] = -1.0);
        for term in terms {
            for (k, b) in &term.row {
                let product = term.weight.size() * b.size();
                sums[*k] += product;
                sizes[*k] += product.abs();
            }
        }
        let rounding = f64::ROUNDOFF * (terms.len() as f64 + 1.0);
        sums.iter().zip(sizes).map(|(sum, size)| sum.abs() + rounding * size).collect()
    }

    /// The largest coordinate of client k's masked input.
    fn largest(&self, k: usize) -> f64 {
        REACH * self.keys[k].sqrt() + self.public.reach().unwrap_or(UNCLIPPED)
    }
}

/// The larger number; NaN if one is none.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}
