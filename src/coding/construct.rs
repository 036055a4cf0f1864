//! The constructions of the encoding matrix.

use super::{CodeKind, GradientCode, TRIED_SETS};
use crate::seed::Seed;
use nalgebra::DMatrix;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;

/// The search for a `cyclic-random` code ends when its worst tried ‖a‖₂ is at most this ...
const WELL_CONDITIONED: f64 = 10.0;

/// ... or after this many draws of H from scratch ...
const FRESH_DRAWS: u64 = 16;

/// ... and this many draws near the best one, fewer for M > 32 ...
const NEAR_DRAWS: u64 = 112;

/// ... where this bounds draws · M³, about the time that they take.
const NEAR_WORK: u64 = NEAR_DRAWS * 32_u64.pow(3);

/// Standard deviation of the entries of a step to a near draw; those of a fresh H have 1.
const STEP: f64 = 0.15;

/// The code of `kind`, known to exist for (M, s), with its worst ‖a‖₂ in [`TRIED_SETS`] sets of rows. `None` if
/// that is not below `limit`.
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
    let worst = code.amplification_until(TRIED_SETS, seed.child("judged", 0), limit);
    (worst < limit).then_some((worst, code))
}

/// Tandon et al. 2017, section 3: b_mk = 1 if ⌊m/(s+1)⌋ = ⌊k/(s+1)⌋, otherwise 0.
fn fractional_repetition(clients: usize, stragglers: usize) -> GradientCode {
    let size = stragglers + 1;
    let matrix = DMatrix::from_fn(clients, clients, |m, k| f64::from(u8::from(m / size == k / size)));
    let support = (0..clients).map(|m| (m / size * size..(m / size + 1) * size).collect()).collect();
    GradientCode::new(CodeKind::FractionalRepetition, stragglers, matrix, support)
}

/// Raviv et al. 2018, real cyclic MDS codes: row m is xᵐ g(x) mod xᴹ−1, where g is the monic polynomial whose
/// roots are the s M-th roots of unity nearest to −1, scaled.
///
/// The roots come in conjugate pairs, so g is real; they are consecutive, so
/// the cyclic code of g has distance s+1 (BCH bound) and any M−s rows span it; and 1 is not among them, so the
/// code contains the all-ones word (xᴹ−1)/(x−1), a multiple of g.
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
    cyclic(CodeKind::CyclicMds, clients, stragglers, |_, j| g[j])
}

/// The best conditioned `cyclic-random` code found. The worst ‖a‖₂ of a random H has heavy tails, so fresh draws
/// alone seldom help; steps from the best one do.
fn search_random(clients: usize, stragglers: usize, seed: Seed, mut limit: f64) -> Option<GradientCode> {
    let mut best: Option<(GradientCode, DMatrix<f64>)> = None;
    let near_draws = NEAR_DRAWS.min(NEAR_WORK / (clients as u64).pow(3));
    for draw in 0..FRESH_DRAWS + near_draws {
        let mut rng = seed.child("cyclic-random", draw).rng();
        let mut h = DMatrix::from_fn(stragglers, clients, |_, _| -> f64 { StandardNormal.sample(&mut rng) });
        match &best {
            Some(_) if limit <= WELL_CONDITIONED => break,
            Some((_, near)) if draw >= FRESH_DRAWS => h = near + h * STEP,
            _ => {}
        }
        let last = -h.columns(0, clients - 1).column_sum();
        h.set_column(clients - 1, &last);
        let Some(code) = cyclic_random(&h) else { continue };
        let worst = code.amplification_until(TRIED_SETS, seed.child("tried", 0), limit);
        if worst < limit {
            limit = worst;
            best = Some((code, h));
        }
    }
    best.map(|(code, _)| code)
}

/// Tandon et al. 2017, Algorithm 2: for an s×M matrix H with H·1 = 0, row m is the vector of null(H) that is
/// supported on m, m+1, …, m+s (mod M), scaled. The null space of a random H has dimension M−s, contains 1, and
/// is spanned by any M−s rows almost surely. `None` if a system is singular.
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
        rows.push(tail.insert_row(0, 1.0));
    }
    Some(cyclic(CodeKind::CyclicRandom, clients, stragglers, |m, j| rows[m][j]))
}

/// The code with b_{m,(m+j) mod M} ∝ `entry(m, j)` for j = 0..=s, every row scaled to max |b_mk| = 1.
fn cyclic(
    kind: CodeKind,
    clients: usize,
    stragglers: usize,
    entry: impl Fn(usize, usize) -> f64,
) -> GradientCode {
    let mut matrix = DMatrix::zeros(clients, clients);
    let mut support = Vec::with_capacity(clients);
    for m in 0..clients {
        let largest = (0..=stragglers).map(|j| entry(m, j).abs()).fold(0.0, f64::max);
        let mut row: Vec<usize> = (0..=stragglers).map(|j| (m + j) % clients).collect();
        for (j, &k) in row.iter().enumerate() {
            matrix[(m, k)] = entry(m, j) / largest;
        }
        row.sort_unstable();
        support.push(row);
    }
    GradientCode::new(kind, stragglers, matrix, support)
}
