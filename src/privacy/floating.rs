//! Privacy of the bits that are sent: what holds in floating point of the promises that real-valued keys
//! make.
//!
//! (ε, δ) and LMIP of real-valued keys are statements about real numbers. Added as they come, a
//! floating-point key and an update leave traces in the last bits of their sum: at σ = 100, C = 1 a wrong
//! candidate for the update is impossible in every eighth coordinate. With the grid
//! ([`crate::algebra::grid`]) the following is true. γ is its step, R rounds every coordinate to the nearest
//! multiple of γ, x̂_k = R(w_k x_k), and û_k are the keys of [`crate::keys`], all multiples of γ, so that
//! ẑ_k = x̂_k + û_k is computed without an error.
//!
//! # One draw
//!
//! û = R(u) + γV, u ~ N(0, σ²), V uniform on 2ᵇ neighbouring integers. As x̂ is a multiple of γ, x̂ + R(u) +
//! γV = R(x̂ + u + γV): a function of the ideal mechanism at x̂, and of an independent V. Two updates of norm
//! at most C have x̂ at a distance of at most 2wC + γ√d: with that reach the ideal (ε, δ) holds for ẑ. The
//! same is true of several clients at once, and of u with any joint law.
//!
//! # Sums of draws
//!
//! All masked vectors are x̂ + H n̂ with independent (for `fair` and `optimised`: jointly Gaussian, rounded)
//! n̂ and an integer matrix H: for `plain`, `fair` and `optimised` n̂ = (û_1 … û_{M−1}) and H = [I; −1ᵀ], for
//! `pairwise` n̂ = (ĝ_kj) and H the incidence matrix of the complete graph. What a coalition sees are rows of
//! H, and what it holds itself are unit rows: altogether a totally unimodular matrix (it is that of a
//! network), so that r independent rows have columns J with det H_J = ±1, and H ℤⁿ = ℤʳ.
//!
//! *The joint view of all masked vectors with `plain`, `fair` and `optimised` keys* is a function of (x̂_k +
//! û_k)_{k<M} and of Σ x̂, as ẑ_M = Σ x̂ − Σ_{k<M} ẑ_k. The first are rounded ideal vectors, by the last
//! section. So for pairs of inputs with one sum Σ x̂ all ẑ_k together tell no more than the ideal masked
//! vectors do. No distance has to be paid.
//!
//! *Any other view*, and `pairwise` keys. P(n̂ = z) is the density f of u + γV + t at z, t uniform on (−γ/2,
//! γ/2)ⁿ. The probability of H n̂ = v is the sum of f over the points of a lattice, all z with Hz = v, and by
//! Poisson's formula it is the integral of f over the plane Hz = v, i.e. the density of H(u + γV + t) at v,
//! times the volume of a cell, but for a relative distance of at most what [`aliasing`] bounds, nothing that
//! a computer could tell from 0. Split H t = H_J t_J + H_{J'} t_{J'}: H_J t_J is uniform on a cell of the
//! lattice, and to take the density with that cell added at lattice points is to round H u + γHV + H_{J'}
//! t_{J'} to the lattice cell by cell. So H n̂ has, within that distance, the law of a function of the ideal
//! H u and of independent coins.
//!
//! *Noise of each client's own* beside zero-sum keys is one more unit column of H for each: H is then the
//! matrix of a network with one more node, and all of the last paragraph holds of M + 1.
//!
//! # Combinations with real coefficients
//!
//! What is sent and decoded beyond that, b_mk ẑ_k and Σ_k b_mk ẑ_k in floating point, are functions of masked
//! vectors; and as B is real, the bits of one sum can determine all ẑ_k in it. What is provable of a view
//! with such sums is therefore what holds of those ẑ_k. At M = 10, s = 7 and σ = 1 the server's LMIP is
//! 0.3736 nats instead of the 0.1083 of ideal arithmetic; at σ = 10 it is 0.0572 instead of 0.0537. The audit
//! prints both. LMIP takes the coordinates of x̂ for normal, which on a grid they are up to γ/σ_x. Link keys
//! leave the grid: with them nothing is claimed of bits.
//!
//! # The sampler
//!
//! u is computed from words ([`crate::algebra::gaussian`]). Coupled with exact uniform numbers whose leading
//! bits they are, a draw is within e of the ideal one, and beyond 9 σ, which one draw in 2⁵⁸ is, nothing is
//! claimed. e moves the probability of a window of width D = γ 2ᵇ, which is what R(u) + γV takes a value
//! from, by a relative η ≤ 2 e max φ / (D mean φ) ≤ 8 e/D inside 9 σ. That is why keys are spread by V: a
//! window of one step would pay e/γ. Over all N draws of a run this costs either of two ([`Sampler`]):
//!
//! - total variation τ ≤ N 2⁻⁵⁸ + √(N η²/2) (Pinsker): (ε, δ + (1 + e^ε) τ);
//! - likelihood ratios within e^{±Nη}: (ε + 2Nη, e^{Nη} δ + N 2⁻⁵⁸), which is less for large ε.
//!
//! The words themselves are taken for uniform: they come from ChaCha.

use super::ldp;
use crate::algebra::gaussian::ERROR;
use crate::algebra::grid::Grid;
use crate::algebra::{KeyStream, LinearForm, Symbol, Unknown};
use crate::message::{Observed, PartyId, Views};

/// Probability that a pair of draws lies beyond 9 standard deviations: e^(−81/2) < 2⁻⁵⁸.
const BEYOND: f64 = 1.0 / (1u64 << 58) as f64;

/// What the words' finite number of bits may add to the log-likelihood ratio of a run.
const DISCRETE: f64 = 1e-3;

/// What the keys and the noise of a round are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// Nodes of the network whose matrix turns draws into masks: the clients, and one more where each has
    /// noise of its own.
    pub nodes: usize,
    /// Draws per coordinate.
    pub count: f64,
    /// Standard deviations of the smallest and of the largest, as [`Sampler::of`] takes them.
    pub stds: (f64, f64),
}

/// How far the keys of a run are from ideal ones, rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Total variation over all draws of the run, τ.
    pub total_variation: f64,
    /// Nη: the most by which the logarithm of a probability is off, where no draw lies beyond 9 σ.
    pub log_ratio: f64,
    /// The probability that more than that happens.
    pub failure: f64,
    /// γ: what a client's reach grows by in every coordinate.
    pub step: f64,
}

impl Sampler {
    /// For a run of `draws` key draws of standard deviation `std` on a grid, for `clients` clients.
    #[must_use]
    pub fn new(grid: &Grid, clients: usize, std: f64, draws: f64) -> Self {
        Self::of(grid, clients, (std, std), draws)
    }

    /// [`Sampler::new`] for key draws that are made of others: `least`² over the number of clients is at most
    /// the smallest eigenvalue of their covariance, `most` their errors over those of one draw of N(0, 1).
    #[must_use]
    pub fn of(grid: &Grid, clients: usize, (least, most): (f64, f64), draws: f64) -> Self {
        let m = clients as f64;
        // Fair keys subtract a mean of M draws: three times the error of one, and the rounding of M partial
        // sums.
        let error = most * (4.0 * ERROR + m.sqrt() * 10.0 * f64::EPSILON);
        let width = grid.spread();
        let eta = 8.0 * error / width;
        // u is a multiple of 2⁻⁷⁵: the radius r is off by 2⁻⁷⁵ e^{r²/2}/r. Mean and mean square of what that
        // adds to η, up to r = 9.
        let discrete = 8.0 * most / width * 2f64.powi(-75);
        let (mean, square) = (9.0 * discrete, discrete * discrete * 40.5f64.exp() / 81.0);
        let aliased = draws * aliasing(grid, clients, least);
        let total_variation = draws * BEYOND + (draws * (eta * eta + square) / 2.0).sqrt() + aliased;
        Self {
            total_variation: total_variation.min(1.0),
            log_ratio: draws * eta + DISCRETE,
            failure: (draws * (BEYOND + mean / DISCRETE) + aliased).min(1.0),
            step: grid.step(),
        }
    }

    /// ε at δ = `target` of keys that make an ideal mechanism μ-Gaussian-DP; infinite where nothing can be
    /// promised.
    #[must_use]
    pub fn epsilon(&self, mu: f64, target: f64) -> f64 {
        if mu == 0.0 {
            return 0.0;
        }
        let ratio = target.min(1.0) - self.failure;
        let by_ratio = if ratio > 0.0 {
            ldp::epsilon(mu, ratio * (-self.log_ratio).exp()) + 2.0 * self.log_ratio
        } else {
            f64::INFINITY
        };
        self.by_distance(mu, target).min(by_ratio)
    }

    /// The least ε with δ(ε) + (1 + e^ε) τ ≤ `target`: the left side falls, then grows.
    fn by_distance(&self, mu: f64, target: f64) -> f64 {
        let cost = |epsilon: f64| (1.0 + epsilon.exp()) * self.total_variation;
        let ideal = ldp::epsilon(mu, target);
        let fits = |epsilon: f64| ldp::delta(mu, epsilon) + cost(epsilon) <= target;
        if ideal.is_infinite() || cost(ideal) >= target {
            return f64::INFINITY;
        }
        // δ(ε) at most what the cost of a slightly larger ε leaves: from there on both sides are monotone.
        let mut high = ideal;
        for _ in 0..64 {
            let left = target - cost(high);
            if left <= 0.0 {
                return f64::INFINITY;
            }
            let next = ldp::epsilon(mu, left);
            if next <= high || fits(high) {
                break;
            }
            high = next;
        }
        if fits(high) { high } else { f64::INFINITY }
    }
}

/// The most that the law of a sum of rounded draws is, relatively, off that of a rounded sum of draws.
///
/// By Poisson's formula it is Σ e^{−2π² ξᵀΣξ/γ²} over the dual vectors ξ ≠ 0 of the lattice of all z with Hz
/// = 0. As H is totally unimodular that lattice has a basis of vectors of entries 0 and ±1, at most M of them
/// not 0, so that |ξ| ≥ 1/√M; the smallest eigenvalue of the draws' covariance Σ is std² (`pairwise`,
/// `plain`) or at least std²/M (`fair`, `optimised`), in at most M²/2 or M dimensions n. With c = √(2π)
/// std/(γ M^{3/2}) Banaszczyk's bound (1993, lemma 1.5) is (c √(2πe) e^{−πc²})ⁿ, at most its value for n = 1.
#[must_use]
pub fn aliasing(grid: &Grid, clients: usize, std: f64) -> f64 {
    let c = (2.0 * std::f64::consts::PI).sqrt() * std / (grid.step() * (clients as f64).powf(1.5));
    if c >= 1.0 { 2.0 * 4.14 * c * (-std::f64::consts::PI * c * c).exp() } else { 1.0 }
}

/// What a round's messages can tell at most in floating point: each shows the masked inputs of all clients in
/// it, as a real coefficient can separate them. `None` with link keys, which leave the grid.
#[must_use]
pub fn masked(views: &Views) -> Option<Views> {
    let is_link =
        |(unknown, _): (Unknown, f64)| matches!(unknown, Unknown::Key(KeyStream { purpose: "link", .. }, _));
    if views.keys.iter().flat_map(|(_, keys)| keys).any(|key| key.terms().any(is_link)) {
        return None;
    }
    let input = |k: u16| Unknown::Input(k, 0);
    let of_client = |k: u16| {
        let mut form = [LinearForm::unknown(input(k))];
        let held = views.keys.iter().find(|(party, _)| *party == PartyId::Client(k));
        if let Some(mask) = held.and_then(|(_, keys)| keys.first()) {
            LinearForm::axpy(&mut form, 1.0, std::slice::from_ref(mask));
        }
        let [form] = form;
        form
    };
    let inputs: Vec<LinearForm> = (0..views.clients as u16).map(of_client).collect();
    let shown = |message: &Observed| {
        let has = |k: &u16| message.forms.iter().any(|form| form.coefficient(input(*k)) != 0.0);
        (0..views.clients as u16).filter(has).map(|k| inputs[usize::from(k)].clone()).collect()
    };
    let messages = views.messages.iter().map(|message| Observed { forms: shown(message), ..message.clone() });
    Some(Views { messages: messages.collect(), ..views.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::grid::Public;
    use proptest::prelude::*;

    fn grid(std: f64, single: bool) -> Grid {
        let public = Public { clip: Some(1.0), coordinates: Some(1_663_370), ..Public::default() };
        Grid::new(10, (std, std), single, &public).unwrap()
    }

    #[test]
    fn a_long_run_costs_little() {
        // 100 rounds of ten clients with the CNN of McMahan et al.: 1.7·10⁹ draws, of which single
        // precision's old tail lost 0.02.
        for single in [false, true] {
            let sampler = Sampler::new(&grid(100.0, single), 10, 100.0, 1.66e9);
            assert!(sampler.total_variation < 1e-6, "{sampler:?}");
            assert!(sampler.failure < 1e-6 && sampler.log_ratio < 0.2, "{sampler:?}");
            for mu in [0.01, 0.1, 1.0] {
                let (ideal, got) = (ldp::epsilon(mu, 1e-5), sampler.epsilon(mu, 1e-5));
                assert!(ideal <= got && got <= 1.03 * ideal, "{mu}: {got} for {ideal}");
            }
            // Where e^ε τ exceeds δ the bound on likelihood ratios takes over.
            let got = sampler.epsilon(20.0, 1e-5);
            assert!(got.is_finite() && got > ldp::epsilon(20.0, 1e-5), "{got}");
        }
    }

    #[test]
    fn keys_that_are_made_of_draws_cost_their_errors_and_their_weakest_direction() {
        let grid = grid(1.0, false);
        assert_eq!(Sampler::of(&grid, 10, (1.0, 1.0), 1e9), Sampler::new(&grid, 10, 1.0, 1e9));
        let (one, more) = (Sampler::new(&grid, 10, 1.0, 1e9), Sampler::of(&grid, 10, (1.0, 3.0), 1e9));
        assert!(more.total_variation > 2.0 * one.total_variation && more.log_ratio > one.log_ratio);
        // A direction weaker than the step is none.
        assert_eq!(Sampler::of(&grid, 10, (1e-12, 3.0), 1e9).total_variation, 1.0);
    }

    #[test]
    fn nothing_is_promised_below_what_the_draws_keep() {
        let sampler = Sampler::new(&grid(1.0, false), 10, 1.0, 1.66e9);
        assert_eq!(sampler.epsilon(1.0, 1e-30), f64::INFINITY);
        assert_eq!(sampler.epsilon(f64::INFINITY, 1e-5), f64::INFINITY);
        assert_eq!(sampler.epsilon(0.0, 1e-30), 0.0);
        // Keys below the step are none.
        assert_eq!(aliasing(&grid(1.0, false), 10, 1e-12), 1.0);
        assert_eq!(aliasing(&grid(1.0, false), 10, 1.0), 0.0);
    }

    proptest! {
        #[test]
        fn the_bound_is_one_and_grows_with_everything(mu in 1e-3f64..30.0, power in 3i32..12, draws in 1e3f64..1e11) {
            let target = 10f64.powi(-power);
            let sampler = Sampler::new(&grid(1.0, false), 10, 1.0, draws);
            let more = Sampler::new(&grid(1.0, false), 10, 1.0, 2.0 * draws);
            let epsilon = sampler.epsilon(mu, target);
            prop_assert!(epsilon >= ldp::epsilon(mu, target));
            prop_assert!(more.epsilon(mu, target) >= epsilon * (1.0 - 1e-9));
            prop_assert!(sampler.epsilon(1.1 * mu, target) >= epsilon * (1.0 - 1e-9));
            let by_distance = sampler.by_distance(mu, target);
            if by_distance.is_finite() {
                let spent = ldp::delta(mu, by_distance) + (1.0 + by_distance.exp()) * sampler.total_variation;
                prop_assert!(spent <= target * (1.0 + 1e-9), "{} {}", spent, target);
            }
        }
    }
}
