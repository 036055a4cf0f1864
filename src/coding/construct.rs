//! The constructions of the encoding matrix.

use super::{CodeKind, Coefficient, GradientCode, affordable};
use crate::algebra::field::Prime;
use crate::algebra::linear;
use crate::seed::Seed;
use nalgebra::DMatrix;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;

/// The search for a `cyclic-random` code ends when its worst tried ‖a‖₂ is at most this ...
const WELL_CONDITIONED: f64 = 10.0;

/// ... or after this many draws of H from scratch, fewer for many clients ...
const FRESH_DRAWS: u64 = 16;

/// ... and this many draws near the best one, fewer for M > 32 ...
const NEAR_DRAWS: u64 = 112;

/// ... where this bounds draws · M³, about the time that they take.
const NEAR_WORK: u64 = NEAR_DRAWS * 32_u64.pow(3);

/// Standard deviation of the entries of a step to a near draw; those of a fresh H have 1.
const STEP: f64 = 0.15;

/// The code of `kind`, known to exist for (M, s), with its worst ‖a‖₂ in [`affordable`] sets of rows. `None`
/// if that is not below `limit`.
pub(super) fn construct(
    kind: CodeKind,
    clients: usize,
    stragglers: usize,
    seed: Seed,
    limit: f64,
) -> Option<(f64, GradientCode)> {
    let code = match kind {
        CodeKind::FractionalRepetition => fractional_repetition(clients, stragglers),
        CodeKind::CyclicMds => cyclic_mds(clients, stragglers),
        CodeKind::CyclicRandom | CodeKind::Auto => search_random(clients, stragglers, seed, limit)?,
    };
    // Not the sets of the search, which it has fitted.
    let worst = code.amplification_until(affordable(clients), seed.child("judged", 0), limit);
    (worst < limit).then_some((worst, code))
}

/// Tandon et al. 2017, section 3: b_mk = 1 if ⌊m/(s+1)⌋ = ⌊k/(s+1)⌋, otherwise 0.
pub(super) fn fractional_repetition<K: Coefficient>(clients: usize, stragglers: usize) -> GradientCode<K> {
    let size = stragglers + 1;
    let rows = vec![vec![K::ONE; size]; clients];
    let support = (0..clients).map(|m| (m / size * size..(m / size + 1) * size).collect()).collect();
    GradientCode::new(CodeKind::FractionalRepetition, stragglers, rows, support)
}

/// Raviv et al. 2018, real cyclic MDS codes: row m is xᵐ g(x) mod xᴹ−1, where g is the monic polynomial whose
/// roots are the s M-th roots of unity nearest to −1, scaled.
///
/// The roots come in conjugate pairs, so g is real; they are consecutive, so the cyclic code of g has
/// distance s+1 (BCH bound) and any M−s rows span it; and 1 is not among them, so the code contains the
/// all-ones word (xᴹ−1)/(x−1), a multiple of g.
fn cyclic_mds(clients: usize, stragglers: usize) -> GradientCode {
    // (x+1) if −1 is a root, then (x² − 2 cos θ x + 1) for each pair e^{±iθ}. With odd M and s − or with the
    // identity's s = 0 − there are only pairs.
    let mut g = if stragglers % 2 == 1 { vec![1.0, 1.0] } else { vec![1.0] };
    for pair in 1..=stragglers / 2 {
        let from_minus_one = pair as f64 - if stragglers % 2 == 1 { 0.0 } else { 0.5 };
        let middle = 2.0 * (2.0 * PI * from_minus_one / clients as f64).cos();
        let mut product = vec![0.0; g.len() + 2];
        for (i, &c) in g.iter().enumerate() {
            product[i] += c;
            product[i + 1] += middle * c;
            product[i + 2] += c;
        }
        g = product;
    }
    if stragglers + 1 == clients {
        g.fill(1.0);
    }
    let g = scaled(&g);
    cyclic(CodeKind::CyclicMds, clients, stragglers, |_, j| g[j])
}

/// The best conditioned `cyclic-random` code found. The worst ‖a‖₂ of a random H has heavy tails, so fresh
/// draws alone seldom help; steps from the best one do.
fn search_random(clients: usize, stragglers: usize, seed: Seed, mut limit: f64) -> Option<GradientCode> {
    let mut best: Option<(GradientCode, DMatrix<f64>)> = None;
    let near_draws = NEAR_DRAWS.min(NEAR_WORK / (clients as u64).pow(3));
    let fresh_draws = FRESH_DRAWS.min(affordable(clients) as u64);
    for draw in 0..fresh_draws + near_draws {
        let mut rng = seed.child("cyclic-random", draw).rng();
        let mut h = DMatrix::from_fn(stragglers, clients, |_, _| -> f64 { StandardNormal.sample(&mut rng) });
        match &best {
            Some(_) if limit <= WELL_CONDITIONED => break,
            Some((_, near)) if draw >= fresh_draws => h = near + h * STEP,
            _ => {}
        }
        let last = -h.columns(0, clients - 1).column_sum();
        h.set_column(clients - 1, &last);
        let Some(code) = cyclic_random(&h) else { continue };
        let worst = code.amplification_until(affordable(clients), seed.child("tried", 0), limit);
        if worst < limit {
            limit = worst;
            best = Some((code, h));
        }
    }
    best.map(|(code, _)| code)
}

/// Tandon et al. 2017, Algorithm 2: for an s×M matrix H with H·1 = 0, row m is the vector of null(H) that is
/// supported on m, m+1, …, m+s (mod M), scaled. The null space of a random H has dimension M−s, contains 1,
/// and is spanned by any M−s rows almost surely. `None` if a system is singular.
fn cyclic_random(h: &DMatrix<f64>) -> Option<GradientCode> {
    let (stragglers, clients) = h.shape();
    // Without H every vector is in the null space; with M−1 rows only 1, which the solves below would only
    // approximate.
    if stragglers == 0 || stragglers + 1 == clients {
        return Some(cyclic(CodeKind::CyclicRandom, clients, stragglers, |_, _| 1.0));
    }
    let mut rows = Vec::with_capacity(clients);
    for m in 0..clients {
        let others: Vec<usize> = (1..=stragglers).map(|j| (m + j) % clients).collect();
        let tail = h.select_columns(&others).full_piv_lu().solve(&-h.column(m))?;
        rows.push(scaled(tail.insert_row(0, 1.0).as_slice()));
    }
    Some(cyclic(CodeKind::CyclicRandom, clients, stragglers, |m, j| rows[m][j]))
}

/// The same over a prime field, with a uniform H: 1ᵀ is in the span of any M−s rows but for a chance of about
/// (M choose s)/p a draw, which the tried sets bound. Decoding checks every set again, so that a bad one is
/// an outage.
pub(super) fn search_field<F: Prime>(
    clients: usize,
    stragglers: usize,
    seed: Seed,
) -> Option<GradientCode<F>> {
    (0..FRESH_DRAWS).find_map(|draw| {
        let mut rng = seed.child("cyclic-random", draw).rng();
        let mut h = DMatrix::from_fn(stragglers, clients, |_, _| F::uniform(&mut rng));
        for row in 0..stragglers {
            let sum = h.row(row).columns(0, clients - 1).iter().fold(F::ZERO, |sum, &x| sum + x);
            h[(row, clients - 1)] = -sum;
        }
        let code = field_code(&h)?;
        let tried = code.amplification_until(affordable(clients), seed.child("tried", draw), 1.0);
        (tried <= 1.0).then_some(code)
    })
}

/// As [`cyclic_random`]. `None` if a system is singular or a coefficient is 0.
fn field_code<F: Prime>(h: &DMatrix<F>) -> Option<GradientCode<F>> {
    let (stragglers, clients) = h.shape();
    if stragglers == 0 || stragglers + 1 == clients {
        return Some(cyclic(CodeKind::CyclicRandom, clients, stragglers, |_, _| F::ONE));
    }
    let mut rows = Vec::with_capacity(clients);
    for m in 0..clients {
        // H restricted to m, m+1, …, m+s has a null space of dimension 1 spanned by (1, tail).
        let minor = DMatrix::from_fn(stragglers, stragglers, |i, j| h[(i, (m + 1 + j) % clients)]);
        let target: Vec<F> = h.column(m).iter().map(|&x| -x).collect();
        let tail = linear::solve_left(&minor.transpose(), &target)?;
        if linear::rank(&minor) < stragglers || tail.contains(&F::ZERO) {
            return None;
        }
        rows.push(tail);
    }
    Some(cyclic(
        CodeKind::CyclicRandom,
        clients,
        stragglers,
        |m, j| if j == 0 { F::ONE } else { rows[m][j - 1] },
    ))
}

/// `row` scaled to max |b_mk| = 1.
fn scaled(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().map(|b| b.abs()).fold(0.0, f64::max);
    row.iter().map(|b| b / largest).collect()
}

/// The code with b_{m,(m+j) mod M} = `entry(m, j)` for j = 0..=s.
fn cyclic<K: Coefficient>(
    kind: CodeKind,
    clients: usize,
    stragglers: usize,
    entry: impl Fn(usize, usize) -> K,
) -> GradientCode<K> {
    let mut rows = Vec::with_capacity(clients);
    let mut support = Vec::with_capacity(clients);
    for m in 0..clients {
        let mut row: Vec<(usize, K)> = (0..=stragglers).map(|j| ((m + j) % clients, entry(m, j))).collect();
        row.sort_unstable_by_key(|(k, _)| *k);
        support.push(row.iter().map(|(k, _)| *k).collect());
        rows.push(row.into_iter().map(|(_, b)| b).collect());
    }
    GradientCode::new(kind, stragglers, rows, support)
}
