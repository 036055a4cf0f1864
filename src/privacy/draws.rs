//! Views of many key draws, in fewer draws of the same law.
//!
//! Pairwise keys draw once for every pair of clients: among 100 clients B has 4950 columns, where fair keys
//! bring 100. What a view V = A W + B n of N(0, I) draws n tells about the inputs W depends on B through the
//! law of B n alone, that is through B Bᵀ, and is the same for T V with any invertible T. That allows two
//! steps, neither of which trusts a name: what they suppose is computed.
//!
//! # Draws that are seen bare
//!
//! Where a row of V is c g for one draw g, c ≠ 0, multiples of it take g out of every other row. No row that
//! is left holds g, so that c g is independent of them and of W and tells nothing: the row goes, and with it
//! the column of g. So goes what a colluder shares with each other client, and the keys that are left are
//! those of the honest clients among themselves.
//!
//! # Draws of pairs
//!
//! Let the columns of draws g_kj, k < j, of all pairs of h clients be differences b_kj = d_k − d_j. So they
//! are where a view holds the draws through masks u_k = Σ_{j>k} g_kj − Σ_{j<k} g_jk alone: if row i has
//! Σ_k c_ik u_k, the entry of g_kj is c_ik − c_ij. The d_k are given but for a common vector; let Σ_k d_k be
//! 0. Then
//!
//! ```text
//! Σ_{k<j} b_kj b_kjᵀ = ½ Σ_{k,j} (d_k − d_j)(d_k − d_j)ᵀ
//!                    = h Σ_k d_k d_kᵀ − (Σ_k d_k)(Σ_k d_k)ᵀ = h Σ_k d_k d_kᵀ,
//! ```
//!
//! so that h independent draws with the columns √h d_k have the law of the h (h − 1)/2 pairs, and
//! Σ_{j>k} b_kj − Σ_{j<k} b_jk = h d_k − Σ_j d_j = h d_k tells the columns. These are fair keys: pairs of
//! deviation p make masks p √h (g_k − ḡ), which for h = M and p = σ/√(M − 1) is what the table of
//! [`crate::keys`] says.
//!
//! Pairs of unequal strength are no such differences, and stay.

use std::collections::{BTreeMap, BTreeSet};

use nalgebra::DMatrix;

use crate::algebra::{KeyStream, Unknown};

/// Draws up to which a view stays as it is: with fewer an audit is fast, and every number keeps its own
/// rounding. 24 clients have 276 pairs.
pub(super) const FEW: usize = 256;

/// A difference this close to a column, relative to the largest coefficient of its row, is that column but
/// for rounding. It is below [`RANK_TOLERANCE`](super::RANK_TOLERANCE).
const ROUNDING: f64 = 1e-12;

/// (row, row of a bare draw, c): so many times the second was taken out of the first; places in the view.
pub(super) type Taken = (usize, usize, f64);

/// A view's rows and key draws, as few as have its law.
pub(super) struct Draws {
    /// The rows that are left, by their places in the view.
    pub rows: Vec<usize>,
    /// Their coefficients on independent N(0, 1) draws.
    pub b: DMatrix<f64>,
    /// What was taken out of them.
    pub taken: Vec<Taken>,
}

impl Draws {
    /// All rows of a view, and all of its draws.
    pub(super) fn all(b: DMatrix<f64>) -> Self {
        Self { rows: (0..b.nrows()).collect(), b, taken: Vec::new() }
    }

    /// Those of a view with the coefficients `a` on inputs and `b` on draws of these `names`.
    pub(super) fn fewest(a: &DMatrix<f64>, b: DMatrix<f64>, names: &[Unknown]) -> Self {
        let (rows, columns, taken) = without_bare(a, &b);
        let b = b.select_rows(&rows).select_columns(&columns);
        let names: Vec<Unknown> = columns.into_iter().map(|column| names[column]).collect();
        Self { rows, b: paired(b, &names), taken }
    }
}

/// What is left without draws that are seen bare: rows, columns, and what was taken out of which.
fn without_bare(a: &DMatrix<f64>, b: &DMatrix<f64>) -> (Vec<usize>, Vec<usize>, Vec<Taken>) {
    let mut bare: BTreeMap<usize, usize> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    for (i, (inputs, draws)) in a.row_iter().zip(b.row_iter()).enumerate() {
        let mut held = draws.iter().enumerate().filter(|(_, c)| **c != 0.0).map(|(column, _)| column);
        if let (Some(column), None) = (held.next(), held.next())
            && inputs.iter().all(|c| *c == 0.0)
        {
            bare.entry(column).or_insert(i);
            gone.insert(i);
        }
    }
    let rows: Vec<usize> = (0..b.nrows()).filter(|i| !gone.contains(i)).collect();
    let mut taken = Vec::new();
    for (&column, &of) in &bare {
        let holds = rows.iter().filter(|&&i| b[(i, column)] != 0.0);
        taken.extend(holds.map(|&i| (i, of, b[(i, column)] / b[(of, column)])));
    }
    let columns = (0..b.ncols()).filter(|column| !bare.contains_key(column)).collect();
    (rows, columns, taken)
}

/// The same law with one draw a client for each family of pairs.
fn paired(b: DMatrix<f64>, names: &[Unknown]) -> DMatrix<f64> {
    type Family = (&'static str, u64, u16);
    let mut families: BTreeMap<Family, BTreeMap<(u16, u16), usize>> = BTreeMap::new();
    let mut single = Vec::new();
    for (column, name) in names.iter().enumerate() {
        match *name {
            Unknown::Key(KeyStream { purpose, round, a, b }, place) if a < b => {
                families.entry((purpose, round, place)).or_default().insert((a, b), column);
            }
            _ => single.push(column),
        }
    }
    let mut parts = Vec::new();
    for pairs in families.values() {
        match of_clients(&b, pairs) {
            Some(part) => parts.push(part),
            None => single.extend(pairs.values()),
        }
    }
    if parts.is_empty() {
        return b;
    }
    parts.push(b.select_columns(&single));
    let columns: Vec<_> = parts.iter().flat_map(|part| part.column_iter()).collect();
    DMatrix::from_columns(&columns)
}

/// √h d_k of every client, where the columns of these pairs are differences d_k − d_j; a pair that is missing
/// has a column of zeros.
fn of_clients(b: &DMatrix<f64>, pairs: &BTreeMap<(u16, u16), usize>) -> Option<DMatrix<f64>> {
    let clients: BTreeSet<u16> = pairs.keys().flat_map(|(k, j)| [*k, *j]).collect();
    let clients: Vec<u16> = clients.into_iter().collect();
    let h = clients.len();
    if pairs.len() <= h {
        return None;
    }
    let place = |client: u16| clients.binary_search(&client).unwrap_or_default();
    let mut d = DMatrix::zeros(b.nrows(), h);
    for (&(k, j), &column) in pairs {
        d.column_mut(place(k)).axpy(1.0, &b.column(column), 1.0);
        d.column_mut(place(j)).axpy(-1.0, &b.column(column), 1.0);
    }
    d /= h as f64;
    let bounds: Vec<f64> = b.row_iter().map(|row| ROUNDING * row.amax()).collect();
    let is_difference = |k: usize, j: usize| {
        let column = pairs.get(&(clients[k], clients[j]));
        bounds.iter().enumerate().all(|(i, bound)| {
            let is = column.map_or(0.0, |&column| b[(i, column)]);
            (is - (d[(i, k)] - d[(i, j)])).abs() <= *bound
        })
    };
    let all = (1..h).all(|j| (0..j).all(|k| is_difference(k, j)));
    all.then(|| d * (h as f64).sqrt())
}

#[cfg(test)]
#[path = "draws_tests.rs"]
mod tests;
