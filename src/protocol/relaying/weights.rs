//! Weights with which relays make the server's sum unbiased with the least error.
//!
//! With p_km the probability that k reaches m (p_kk = 1), p_j that of j's upload, and E_kl that both messages
//! of a pair arrive (p_kl p_lk if they are independent, p_kl if they are reciprocal), the estimate Σ_j τ_j
//! Σ_k τ_kj α_jk x_k is unbiased where Σ_j p_j p_kj α_jk = 1, and has the variance Σ_kl C_kl ⟨x_k, x_l⟩,
//!
//! ```text
//! C_kk = Σ_j p_j p_kj (1 − p_j p_kj) α_jk²
//! C_kl = Σ_j p_j (1 − p_j) p_kj p_lj α_jk α_jl + p_k p_l (E_kl − p_kl p_lk) α_lk α_kl
//! ```
//!
//! of which S = Σ_kl C_kl is minimised: R² S bounds the variance for inputs of norm up to R. One client's
//! weights are optimal in closed form while the others' rest; passes over the clients go on until nothing
//! moves. Without reciprocal links S is convex and the end is its minimum; with them a convex bound is
//! minimised first, from whose minimum S itself goes down.

use crate::error::{Error, Result};
use crate::network::assumed::Delivery;

/// Passes at most.
const SWEEPS: usize = 1000;

/// A pass that moves no weight by more than this fraction of the largest is the last.
const MOVED: f64 = 1e-13;

/// A path that carries less of a client than this is left out.
const DUST: f64 = 1e-9;

/// α with the least S + Σ_jk `penalty`(j, k) p_j p_kj α_jk², by relay j and by client k.
///
/// # Errors
/// A client of which nothing can reach the server.
pub fn optimal(delivery: &Delivery, penalty: &impl Fn(usize, usize) -> f64) -> Result<Vec<Vec<f64>>> {
    let mut alpha = start(delivery)?;
    settle(delivery, penalty, &mut alpha, Stage::Bound);
    if delivery.reciprocal {
        settle(delivery, penalty, &mut alpha, Stage::Exact);
    }
    sweep_dust(delivery, &mut alpha);
    Ok(alpha)
}

/// Leaves out the paths that carry no more of a client than rounding does: each would cost a message.
fn sweep_dust(delivery: &Delivery, alpha: &mut [Vec<f64>]) {
    for k in 0..alpha.len() {
        let mut carried = 0.0;
        for (j, row) in alpha.iter_mut().enumerate() {
            let share = path(delivery, k, j) * row[k];
            if share > DUST { carried += share } else { row[k] = 0.0 }
        }
        alpha.iter_mut().for_each(|row| row[k] /= carried);
    }
}

/// The same weight 1/(n p_j p_kj) on each of the n paths of a client.
fn start(delivery: &Delivery) -> Result<Vec<Vec<f64>>> {
    let clients = delivery.up.len();
    let mut alpha = vec![vec![0.0; clients]; clients];
    for k in 0..clients {
        let paths = (0..clients).filter(|&j| path(delivery, k, j) > 0.0).count();
        if paths == 0 {
            let rule = format!(
                "nothing of client {} is expected to reach the server, neither on its own link nor through another client; \
                 without it no sum is unbiased",
                k + 1
            );
            return Err(Error::config("assumed", rule));
        }
        for (j, row) in alpha.iter_mut().enumerate() {
            let path = path(delivery, k, j);
            row[k] = if path > 0.0 { 1.0 / (paths as f64 * path) } else { 0.0 };
        }
    }
    Ok(alpha)
}

/// p_j p_kj.
fn path(delivery: &Delivery, k: usize, j: usize) -> f64 {
    delivery.up[j] * delivery.between[k][j]
}

/// E_kl − p_kl p_lk.
fn covariance(delivery: &Delivery, k: usize, l: usize) -> f64 {
    let there = delivery.between[k][l];
    if delivery.reciprocal { there * (1.0 - there) } else { 0.0 }
}

/// What is minimised: S, or what bounds it by α_lk α_kl ≤ (α_lk² + α_kl²)/2.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Bound,
    Exact,
}

fn settle(delivery: &Delivery, penalty: &impl Fn(usize, usize) -> f64, alpha: &mut [Vec<f64>], stage: Stage) {
    let clients = alpha.len();
    let heard = |j: usize, row: &[f64]| (0..clients).map(|l| delivery.between[l][j] * row[l]).sum::<f64>();
    for _ in 0..SWEEPS {
        let mut totals: Vec<f64> = alpha.iter().enumerate().map(|(j, row)| heard(j, row)).collect();
        let (mut moved, mut largest) = (0.0f64, 0.0f64);
        for k in 0..clients {
            let column = column(delivery, penalty, alpha, &totals, k, stage);
            for (j, weight) in column.into_iter().enumerate() {
                let step = weight - alpha[j][k];
                totals[j] += delivery.between[k][j] * step;
                moved = moved.max(step.abs());
                largest = largest.max(weight);
                alpha[j][k] = weight;
            }
        }
        if moved <= MOVED * largest {
            return;
        }
    }
}

/// The best weights of client `k` while the others' rest: minimises Σ_j q_j (β_j α_j + κ_j α_j²) over Σ_j q_j
/// α_j = 1, α ≥ 0, with q_j = p_j p_kj.
fn column(
    delivery: &Delivery,
    penalty: &impl Fn(usize, usize) -> f64,
    alpha: &[Vec<f64>],
    totals: &[f64],
    k: usize,
    stage: Stage,
) -> Vec<f64> {
    /// q_j, β_j, κ_j of a relay j.
    struct Path {
        relay: usize,
        q: f64,
        beta: f64,
        kappa: f64,
    }
    let clients = alpha.len();
    let mut paths = Vec::with_capacity(clients);
    for j in (0..clients).filter(|&j| path(delivery, k, j) > 0.0) {
        let (q, there) = (path(delivery, k, j), delivery.between[k][j]);
        let others = totals[j] - there * alpha[j][k];
        // p_k (E_kj/p_kj − p_jk); nothing where j is k.
        let pair = if j == k { 0.0 } else { delivery.up[k] * covariance(delivery, k, j) / there };
        let (bound, exact) = match stage {
            Stage::Bound => (pair, 0.0),
            Stage::Exact => (0.0, 2.0 * pair * alpha[k][j]),
        };
        let beta = 2.0 * (1.0 - delivery.up[j]) * others + exact;
        paths.push(Path { relay: j, q, beta, kappa: 1.0 - q + bound + penalty(j, k) });
    }
    let mut weights = vec![0.0; clients];
    let certain: Vec<&Path> = paths.iter().filter(|path| path.kappa <= 0.0).collect();
    if !certain.is_empty() {
        // Paths that never fail and cost nothing: κ = 0 takes q = 1, and then β = 0.
        certain.iter().for_each(|path| weights[path.relay] = 1.0 / certain.len() as f64);
        return weights;
    }
    paths.sort_by(|a, b| a.beta.total_cmp(&b.beta).then(a.relay.cmp(&b.relay)));
    let (mut slopes, mut level) = (0.0, 1.0);
    let mut lambda = f64::INFINITY;
    for path in &paths {
        if lambda <= path.beta {
            break;
        }
        slopes += path.q / (2.0 * path.kappa);
        level += path.q * path.beta / (2.0 * path.kappa);
        lambda = level / slopes;
    }
    for path in &paths {
        weights[path.relay] = ((lambda - path.beta) / (2.0 * path.kappa)).max(0.0);
    }
    weights
}

/// C_kl.
#[must_use]
pub fn second_moment(delivery: &Delivery, alpha: &[Vec<f64>], k: usize, l: usize) -> f64 {
    let up = &delivery.up;
    let through = |j: usize| {
        let (to, from) = (path(delivery, k, j), delivery.between[l][j]);
        match k == l {
            true => to * (1.0 - to) * alpha[j][k] * alpha[j][k],
            false => to * (1.0 - up[j]) * from * alpha[j][k] * alpha[j][l],
        }
    };
    let pair =
        if k == l { 0.0 } else { up[k] * up[l] * covariance(delivery, k, l) * alpha[l][k] * alpha[k][l] };
    (0..alpha.len()).map(through).sum::<f64>() + pair
}

/// S.
#[must_use]
pub fn variance(delivery: &Delivery, alpha: &[Vec<f64>]) -> f64 {
    let all = 0..alpha.len();
    all.clone()
        .flat_map(|k| all.clone().map(move |l| (k, l)))
        .map(|(k, l)| second_moment(delivery, alpha, k, l))
        .sum()
}

#[cfg(test)]
mod tests;
