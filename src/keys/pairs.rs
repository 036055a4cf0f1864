//! Masks of pairs: what client k adds of a draw that it shares with client j, the other takes off.
//!
//! u_k = Σ_{j>k} σ_kj g_kj − Σ_{j<k} σ_jk g_jk. Every client makes its own mask from the secrets that it
//! shares with each other one.

use super::{KeySource, Noise, chunkwise, noise};
use crate::algebra::grid::Grid;
use crate::algebra::{KeyStream, Scalar, Symbol};

/// Standard deviations σ_kj of the draws of pairs, in units of σ; symmetric, of as many clients as rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs(pub Vec<Vec<f64>>);

impl Pairs {
    /// σ_kj at σ = `std`.
    #[must_use]
    pub fn std(&self, k: usize, j: usize, std: f64) -> f64 {
        std * self.0[k][j]
    }

    /// Var(u_k) per coordinate of every client's mask at σ = `std`.
    #[must_use]
    pub fn variances(&self, std: f64) -> Vec<f64> {
        self.0.iter().map(|row| row.iter().map(|pair| (std * pair).powi(2)).sum()).collect()
    }

    /// The smallest and the largest standard deviation of a draw at σ = `std`; pairs that share nothing draw
    /// nothing.
    #[must_use]
    pub fn draws(&self, std: f64) -> (f64, f64) {
        let drawn = self.0.iter().flatten().filter(|pair| **pair > 0.0);
        let (least, most) = drawn.fold((f64::INFINITY, 0.0f64), |(a, b), pair| (a.min(*pair), b.max(*pair)));
        if most == 0.0 { (0.0, 0.0) } else { (std * least, std * most) }
    }
}

fn stream(round: u64, k: usize, j: usize) -> KeyStream {
    KeyStream { purpose: "mask", round, a: k.min(j) as u16, b: k.max(j) as u16 }
}

/// The masks of all `clients` clients for pairs of these standard deviations.
pub(super) fn masks<S: Symbol>(
    clients: usize,
    len: usize,
    std: impl Fn(usize, usize) -> f64 + Sync,
    grid: Option<&Grid>,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<Vec<S>> {
    chunkwise(clients, len, |chunk, masks| {
        let len = masks.first().map_or(0, |mask| mask.len());
        let (mut noise, mut symbols) = (Noise::new(len, grid), vec![S::zero(); len]);
        for j in 0..clients {
            for k in (0..j).filter(|&k| std(k, j) > 0.0) {
                let scale = S::Scalar::deviation(std(k, j));
                S::set(&mut symbols, noise.draw(stream(round, k, j), chunk, scale, source));
                S::axpy(masks[k], S::Scalar::ONE, &symbols);
                S::axpy(masks[j], -S::Scalar::ONE, &symbols);
            }
        }
    })
}

/// The draws that `client` shares with these other clients, and the sign that each enters its mask with:
/// only streams of pairs that contain it are drawn.
fn shared<'a, S: Symbol>(
    client: usize,
    others: impl Iterator<Item = usize> + 'a,
    len: usize,
    std: impl Fn(usize) -> f64 + 'a,
    grid: Option<&'a Grid>,
    round: u64,
    source: &'a impl KeySource<S>,
) -> impl Iterator<Item = (S::Scalar, Vec<S>)> + 'a {
    others.map(move |j| (j, std(j))).filter(|(_, std)| *std > 0.0).map(move |(j, std)| {
        let sign = if client < j { S::Scalar::ONE } else { -S::Scalar::ONE };
        (sign, noise(stream(round, client, j), len, S::Scalar::deviation(std), grid, source))
    })
}

/// The draws that the mask of `client` is made of, as it adds them, beginning with that of the next client:
/// it knows each of them.
#[must_use]
pub fn draws_of<S: Symbol>(
    client: usize,
    clients: usize,
    len: usize,
    std: impl Fn(usize) -> f64,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<Vec<S>> {
    let others = (1..clients).map(|step| (client + step) % clients);
    let drawn = shared(client, others, len, std, None, round, source);
    drawn.map(|(sign, draw)| S::combine(len, &[(sign, &draw)])).collect()
}

/// The mask u_k of one of `clients` ≥ 2 clients, which makes it alone.
#[must_use]
pub fn mask_of<S: Symbol>(
    client: usize,
    clients: usize,
    len: usize,
    std: impl Fn(usize) -> f64,
    grid: Option<&Grid>,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<S> {
    let mut mask = vec![S::zero(); len];
    let others = (0..clients).filter(|&j| j != client);
    for (sign, draw) in shared(client, others, len, std, grid, round, source) {
        S::axpy(&mut mask, sign, &draw);
    }
    mask
}
