//! Optimised keys: what is wanted of them, and who looks at a round with a gradient code.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::coding::{Code, GradientCode};
use crate::error::{Error, Result};
use crate::keys::optimise::{Adversary, Goal, Measure, Optimum, Problem};

/// Coalitions that keys are optimised against at most.
const COALITIONS: usize = 2000;

/// What optimised keys are the best for: the largest that anybody who counts learns of any client, beyond
/// what the sum tells, is made the least possible at the total power of fair keys, Mσ² (see
/// [`crate::keys::optimise`]). Who looks sees the round without losses, in real numbers: what is provable of
/// bits ([`crate::privacy::floating`]) takes every masked update in a sum for seen, of all of which fair keys
/// hide the most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Optimise {
    /// How many times what a reader of one share between clients learns counts, from 0 (not at all) on.
    #[schemars(range(min = 0.0))]
    pub link: f64,
    /// How many times what a reader of one upload learns counts, from 0 on.
    #[schemars(range(min = 0.0))]
    pub upload: f64,
    /// How many times what another client learns counts, from 0 on.
    #[schemars(range(min = 0.0))]
    pub neighbour: f64,
    /// How many times what the server learns counts, from 0 on.
    #[schemars(range(min = 0.0))]
    pub server: f64,
    /// Clients who collude: every coalition of up to so many counts as a neighbour, and with the server as
    /// the server. 0 and 1 are one neighbour, and the server alone or with one client.
    pub colluders: usize,
    /// What is measured: "lmip" or "epsilon", for which neither `update_std` nor δ makes a difference.
    pub measure: Measure,
    /// Standard deviation of a coordinate of an update for "lmip", in the unit of the update, above 0: that
    /// of `privacy.update_std` where both mean the same run.
    #[schemars(range(min = 0.0))]
    pub update_std: f64,
    /// Weights of the clients in the sum, one each and above 0; left out, all are 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// How many times what is learned of each client counts, one number each and above 0: 2 asks for half the
    /// leakage. Left out, all are 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<f64>,
    /// Whether all masks have the same variance, as those of fair keys have.
    pub fair: bool,
    /// Share of the power that is spent as fair keys, above 0 and up to 1: so much protects from those who do
    /// not count.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fair_share: f64,
}

impl Default for Optimise {
    fn default() -> Self {
        Self {
            link: 1.0,
            upload: 1.0,
            neighbour: 1.0,
            server: 1.0,
            colluders: 0,
            measure: Measure::Lmip,
            update_std: 1.0,
            weights: Vec::new(),
            levels: Vec::new(),
            fair: false,
            fair_share: 0.1,
        }
    }
}

impl Optimise {
    /// The goal and the adversaries for keys of σ = `std` under a code.
    ///
    /// # Errors
    /// Numbers that break their rules, keyed relative to this section but for the protocol's own.
    pub fn problem(&self, code: &GradientCode, std: f64) -> Result<Problem> {
        let clients = code.clients();
        let of_each = |numbers: &[f64]| match numbers {
            [] => vec![1.0; clients],
            some => some.to_vec(),
        };
        let weights = of_each(&self.weights);
        if weights.len() != clients {
            let rule = format!("{} numbers for {clients} clients; give one each", weights.len());
            return Err(Error::config("optimise.weights", rule));
        }
        let goal = Goal {
            measure: self.measure,
            updates: weights.iter().map(|weight| weight * self.update_std).collect(),
            levels: of_each(&self.levels),
            fair: self.fair,
            fair_share: self.fair_share,
        };
        Problem::new(&self.adversaries(code)?, &goal, std).map_err(|error| match error {
            Error::Config { key, rule } if key != "keys" && key != "key_std" => {
                Error::Config { key: format!("optimise.{key}"), rule }
            }
            other => other,
        })
    }

    /// The best keys of σ = `std` under a code.
    ///
    /// # Errors
    /// As [`Optimise::problem`].
    pub fn optimum(&self, code: &GradientCode, std: f64) -> Result<Optimum> {
        self.problem(code, std)?.optimum()
    }

    /// Who looks, and what they see of a round in which nothing is lost: y_mk is b_mk (x_k + u_k), S_m is row
    /// m of B (x + u).
    fn adversaries(&self, code: &GradientCode) -> Result<Vec<Adversary>> {
        let layers = [
            ("link", self.link),
            ("upload", self.upload),
            ("neighbour", self.neighbour),
            ("server", self.server),
        ];
        if let Some((key, counts)) = layers.iter().find(|(_, counts)| !counts.is_finite() || *counts < 0.0) {
            let rule = format!("{counts} times is not a way to count; give a finite number ≥ 0");
            return Err(Error::config(format!("optimise.{key}"), rule));
        }
        let clients = code.clients();
        let rows = code.matrix();
        let shares = |of: &[usize]| {
            let mut seen: Vec<usize> = of.iter().flat_map(|&m| code.support(m)).copied().collect();
            seen.sort_unstable();
            seen.dedup();
            DMatrix::from_fn(seen.len(), clients, |i, k| if seen[i] == k { 1.0 } else { 0.0 })
        };
        let mut found = Vec::new();
        for k in 0..clients {
            // A share stays with its client where the code has no other row for it.
            if code.holders(k).len() > 1 {
                let sees = DMatrix::from_fn(1, clients, |_, j| if j == k { 1.0 } else { 0.0 });
                found.push(Adversary { holds: Vec::new(), sees, counts: self.link });
            }
            let sees = rows.rows(k, 1).into_owned();
            found.push(Adversary { holds: Vec::new(), sees, counts: self.upload });
        }
        found.push(Adversary { holds: Vec::new(), sees: rows.clone(), counts: self.server });
        let mut coalitions: Vec<Vec<usize>> = vec![Vec::new()];
        let mut seen = 0;
        for size in 1..=self.colluders.max(1).min(clients - 1) {
            coalitions = coalitions
                .iter()
                .flat_map(|some| {
                    let next = some.last().map_or(0, |last| last + 1);
                    (next..clients).map(|k| some.iter().copied().chain([k]).collect())
                })
                .take(COALITIONS + 1 - seen)
                .collect();
            seen += coalitions.len();
            if seen > COALITIONS {
                let rule = format!(
                    "more than {COALITIONS} coalitions of up to {} of {clients} clients; examine fewer",
                    self.colluders
                );
                return Err(Error::config("optimise.colluders", rule));
            }
            for holds in &coalitions {
                let sees = shares(holds);
                if size <= self.colluders {
                    let both = DMatrix::from_fn(sees.nrows() + clients, clients, |i, k| {
                        if i < sees.nrows() { sees[(i, k)] } else { rows[(i - sees.nrows(), k)] }
                    });
                    found.push(Adversary { holds: holds.clone(), sees: both, counts: self.server });
                }
                found.push(Adversary { holds: holds.clone(), sees, counts: self.neighbour });
            }
        }
        Ok(found)
    }
}
