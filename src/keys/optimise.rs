//! The masks of a total power that keep the most from given adversaries.
//!
//! Fair keys give every client the same variance, and spend as much on directions in which an adversary sees
//! nothing as on those in which it sees everything. Which covariance Σ is best depends on who looks:
//!
//! ```text
//! minimise    the largest of w I_a(x_k)           over adversaries a and clients k whom they do not hold
//! over        Σ ⪰ φ Σ_fair, Σ 1 = 0, tr Σ = M σ²  and, if asked for, equal variances
//! ```
//!
//! An adversary holds the updates and keys of clients T and sees rows of x + u, those of masked updates or of
//! coded sums. I is its LMIP beyond what the sum tells, or a distance μ of Gaussian differential privacy
//! ([`Measure`]); w is what the adversary counts, times what the client counts.
//!
//! # This is a convex problem
//!
//! With R a basis of the rows without the columns of T, and the keys of T as rows of their own, the view is A
//! x + C u with covariance V(Σ) = A D Aᵀ + C Σ Cᵀ, which is affine in Σ. What is told of x_k is e = d_k a_kᵀ
//! V⁻¹ a_k, the variance of its best estimate, and I = −½ ln(1 − e). V ↦ aᵀV⁻¹a is convex and falls with V,
//! and −½ ln(1 − e) is convex and grows with e: so I is a convex function of Σ that falls as Σ grows, and so
//! is the largest of them. If the sum of the others is seen, 1ᵀ spans a row that no key reaches; of the
//! remaining rows those with r D 1ᵀ = 0 are independent of it, and what is told beyond the share f_k of the
//! sum is −½ ln(1 − e/(1 − f_k)) exactly, without a difference of large numbers.
//!
//! # How it is solved, and how one knows
//!
//! An interior point method on Σ = Q X Qᵀ, Q an orthonormal basis of 1⊥. Every step of it has weights y_i ≥
//! 0, Σ y_i = 1, of the terms I_i, and by convexity, for whatever keys Z are allowed,
//!
//! ```text
//! max_i I_i(Z) ≥ Σ y_i [I_i(X) + ⟨∇I_i(X), Z − X⟩]
//!              ≥ Σ y_i [I_i(X) − ⟨∇I_i(X), X⟩] + min_Z ⟨Σ y_i ∇I_i(X), Z⟩
//! ```
//!
//! of which the last minimum is a smallest eigenvalue: [`Optimum::bound`] is a number that no keys of that
//! power go below, however [`Optimum::leakage`] was found. The two are no further apart than a relative 10⁻⁵,
//! or the difference is there to be seen.
//!
//! The centre that the method follows is unique, so that where a permutation of the clients changes nothing
//! (a circulant code and equal weights), it leaves the keys as they are: they then have equal variances
//! without being asked to.
//!
//! # Fair keys
//!
//! Versions 2 and 3 of the paper (see [`crate::protocol::cogc`]) say in their abstract that Fair-SecCoGC is
//! optimal under a per-key total power constraint. What holds of it, by LMIP:
//!
//! - *Against links* only the variances matter, ½ ln(1 + σ_x²/Var(u_k)), and equal ones are the best for the
//!   worst client: fair keys are optimal, as are all others of equal variances.
//! - *Against adversaries who see every x_k + u_k*, as without a code, the goal is the same for every order
//!   of the clients. By convexity the mean of all permutations of the best keys is no worse, and that mean is
//!   a multiple of Σ_fair: fair keys are optimal. So they are for I(x; x + u) of all clients together.
//! - *Against neighbours* they are for the cyclic codes at M = 10 and s = 7, within the bound; with
//!   fractional repetition masks that are independent inside a group of the code are better.
//! - *Against the server and uploads* they are not: the code shows few directions, and keys that are stronger
//!   there leave the server 0.019 instead of 0.056 nats beyond the sum (M = 10, s = 7, σ = σ_x).
//!
//! The tests `optimised` of the suite hold these numbers, `seccogc experiment keys` the fronts in between.

mod barrier;
mod sight;

use std::sync::Arc;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::Covariance;
use crate::error::{Error, Result};
use sight::Sight;

/// Clients among which keys are optimised at most: a step takes the sixth power.
pub const CLIENTS: usize = 40;

/// What adversaries learn of clients is at most so many numbers.
const TERMS: usize = 4000;

/// Keys are at least this fraction of the updates: below, what they hide is lost in rounding.
const WEAKEST: f64 = 1e-4;

/// What an adversary's knowledge of a client is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// I(x_k; view) in nats per coordinate, beyond what the sum tells ([`crate::privacy::lmip`]).
    #[default]
    Lmip,
    /// μ between two updates of a client, or, for those who have the sum, between pairs of clients' updates
    /// of one sum ([`crate::privacy::distance`]): ε grows with it.
    Epsilon,
}

/// Who looks: a coalition, and what it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Adversary {
    /// The clients whose updates and keys it holds.
    pub holds: Vec<usize>,
    /// Rows over the M clients: combinations of masked updates x_k + u_k that it sees.
    pub sees: DMatrix<f64>,
    /// How many times what it learns counts; at least 0.
    pub counts: f64,
}

/// What is wanted of the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is measured.
    pub measure: Measure,
    /// Standard deviation of a coordinate of each client's weighted update, in the unit of σ; with
    /// [`Measure::Epsilon`] the bound on its norm instead.
    pub updates: Vec<f64>,
    /// How many times what is learned of each client counts.
    pub levels: Vec<f64>,
    /// Whether all masks must have one variance.
    pub fair: bool,
    /// φ: the share of the power that is spent as fair keys, over 0 up to 1.
    pub fair_share: f64,
}

/// The best keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// Of the masks, of trace M.
    pub covariance: Arc<Covariance>,
    /// The largest that counts of what adversaries learn of clients.
    pub leakage: f64,
    /// What the same is at least, under any keys that are allowed.
    pub bound: f64,
}

/// Adversaries and a goal, for keys of one power.
#[derive(Clone, Debug)]
pub struct Problem {
    clients: usize,
    measure: Measure,
    fair: bool,
    fair_share: f64,
    sights: Vec<Sight>,
    /// Columns: Q.
    basis: DMatrix<f64>,
}

impl Problem {
    /// What `adversaries` learn under keys of the total power Mσ², σ = `std`.
    ///
    /// # Errors
    /// Numbers out of their ranges, lists that do not have an entry a client, more clients or adversaries
    /// than can be computed with, and nobody who learns anything that keys could hide.
    pub fn new(adversaries: &[Adversary], goal: &Goal, std: f64) -> Result<Self> {
        let clients = goal.updates.len();
        check(goal, std)?;
        let basis = orthogonal_to_ones(clients);
        let scale = match goal.measure {
            Measure::Lmip => std,
            Measure::Epsilon => goal.updates.iter().copied().fold(0.0, f64::max),
        };
        let updates: Vec<f64> = goal.updates.iter().map(|update| update / scale).collect();
        let mut sights = Vec::new();
        let mut terms = 0;
        for adversary in adversaries.iter().filter(|adversary| adversary.counts > 0.0) {
            let sight = Sight::of(adversary, goal, &updates, &basis);
            terms += sight.secrets();
            if terms > TERMS {
                let rule = format!(
                    "more than {TERMS} numbers of adversaries and clients to optimise; examine fewer colluders"
                );
                return Err(Error::config("colluders", rule));
            }
            sights.extend((sight.secrets() > 0).then_some(sight));
        }
        if sights.is_empty() {
            let rule = "nobody who counts sees anything that keys could hide; let a link, a neighbour or the server count";
            return Err(Error::config("server", rule));
        }
        let Goal { measure, fair, fair_share, .. } = *goal;
        Ok(Self { clients, measure, fair, fair_share, sights, basis })
    }

    /// The largest that counts of what the adversaries learn under keys of some `covariance`, of trace M.
    #[must_use]
    pub fn leakage(&self, covariance: &Covariance) -> f64 {
        self.named(self.worst(&(self.basis.transpose() * covariance.matrix() * &self.basis)))
    }

    /// The best keys.
    ///
    /// # Errors
    /// Keys whose covariance is no covariance, by rounding.
    pub fn optimum(&self) -> Result<Optimum> {
        let (x, leakage, bound) = barrier::solve(self);
        let matrix = &self.basis * x * self.basis.transpose();
        // Exactly symmetric.
        let matrix = (&matrix + matrix.transpose()) * 0.5;
        let covariance = Arc::new(Covariance::new(matrix)?);
        Ok(Optimum { covariance, leakage: self.named(leakage), bound: self.named(bound.max(0.0)) })
    }

    /// The largest term at X; infinite where X is no covariance.
    fn worst(&self, x: &DMatrix<f64>) -> f64 {
        let values = self.sights.iter().map(|sight| sight.values(x));
        values.fold(0.0, |worst, values| {
            values.map_or(f64::INFINITY, |values| values.into_iter().fold(worst, f64::max))
        })
    }

    /// A term in the unit of the measure: distances are squared while they are computed with.
    fn named(&self, term: f64) -> f64 {
        match self.measure {
            Measure::Lmip => term,
            Measure::Epsilon => term.sqrt(),
        }
    }
}

fn check(goal: &Goal, std: f64) -> Result<()> {
    let clients = goal.updates.len();
    if !(2..=CLIENTS).contains(&clients) {
        let rule = format!("keys are optimised for 2 to {CLIENTS} clients, not {clients}; take \"fair\"");
        return Err(Error::config("keys", rule));
    }
    if goal.levels.len() != clients {
        let rule = format!("{} numbers for {clients} clients; give one each", goal.levels.len());
        return Err(Error::config("levels", rule));
    }
    let positive = |x: &f64| x.is_finite() && *x > 0.0;
    if !goal.levels.iter().all(positive) {
        return Err(Error::config("levels", "every level is a finite number above 0"));
    }
    if !goal.updates.iter().all(positive) {
        return Err(Error::config("update_std", "every client's updates vary by a finite number above 0"));
    }
    if !(goal.fair_share > 0.0 && goal.fair_share <= 1.0) {
        let rule = format!("{} is not a share above 0 and up to 1", goal.fair_share);
        return Err(Error::config("fair_share", rule));
    }
    let largest = goal.updates.iter().copied().fold(0.0, f64::max);
    if goal.measure == Measure::Lmip && std < WEAKEST * largest || !(std > 0.0 && std.is_finite()) {
        let rule =
            format!("keys of {std} against updates of {largest} leave nothing to optimise; take larger ones");
        return Err(Error::config("key_std", rule));
    }
    Ok(())
}

/// Orthonormal columns that are orthogonal to 1 (Helmert's).
fn orthogonal_to_ones(clients: usize) -> DMatrix<f64> {
    DMatrix::from_fn(clients, clients - 1, |k, j| {
        let n = (j + 1) as f64;
        let length = (n * (n + 1.0)).sqrt();
        match k {
            k if k <= j => 1.0 / length,
            k if k == j + 1 => -n / length,
            _ => 0.0,
        }
    })
}

#[cfg(test)]
mod tests;
