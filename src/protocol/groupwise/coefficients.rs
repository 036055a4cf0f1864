//! The coefficients of groupwise keys: first-round vectors, second-round matrices, decoding matrices.

use std::sync::Arc;

use super::Agreement;
use crate::algebra::field::Prime;
use crate::algebra::linear::{Echelon, null_space, product, rank};
use crate::coding::{Memory, binomial, next_subset};
use crate::error::{Error, Result};
use crate::parallel;
use crate::protocol::zhao_sun::check_survivors;
use crate::seed::Seed;
use nalgebra::DMatrix;

/// Largest U·D: a decoding matrix has (U·D)² entries and costs (U·D)³ multiplications for every U_2 that occurs.
const LARGEST: usize = 2048;

/// Largest N: the set-up inverts N × N matrices for every client.
const LARGEST_PIECES: usize = 512;

/// Group keys are numbered in 16 bits.
const MOST_GROUPS: usize = 65_536;

/// Multiplications up to which all decoding matrices are computed at set-up.
const CHECKED: usize = 300_000_000;

/// Draws of the coefficients until the field counts as too small.
const DRAWS: u64 = 256;

/// Sparse rows: (column, coefficient ≠ 0).
type Rows<F> = Vec<Vec<(usize, F)>>;

/// Every subset of 0..n of `size` members, in lexicographic order.
pub(super) fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
    let mut subset: Vec<usize> = (0..size).collect();
    let mut all = vec![subset.clone()];
    while next_subset(&mut subset, n) {
        all.push(subset.clone());
    }
    all
}

/// a_V for every group V of `size` of `clients` clients, one column a group in lexicographic order, from `first`, the a_V of the N
/// groups with client 1: a_V = Σ_i (−1)^(i−1) a_{V ∖ V(i) ∪ 1} for the others (25).
///
/// # Panics
/// If `first` does not have C(K−1, S−1) columns.
#[must_use]
pub fn coefficients<F: Prime>(clients: usize, size: usize, first: &DMatrix<F>) -> DMatrix<F> {
    let groups = subsets(clients, size);
    assert_eq!(first.ncols(), binomial(clients - 1, size - 1), "one column for each group with client 1");
    let mut all = DMatrix::from_element(first.nrows(), groups.len(), F::ZERO);
    all.columns_mut(0, first.ncols()).copy_from(first);
    for (v, group) in groups.iter().enumerate().skip(first.ncols()) {
        for i in 0..size {
            let with_first: Vec<usize> =
                [0].into_iter().chain(group.iter().copied().filter(|&k| k != group[i])).collect();
            // In lexicographic order the groups with client 1 come first.
            let Ok(u) = groups[..first.ncols()].binary_search(&with_first) else { continue };
            for row in 0..first.nrows() {
                let term = first[(row, u)];
                all[(row, v)] = if i % 2 == 0 { all[(row, v)] + term } else { all[(row, v)] - term };
            }
        }
    }
    all
}

/// What one client computes.
#[derive(Debug)]
pub(super) struct Encoder<F: Prime> {
    /// The groups that hold it.
    pub(super) groups: Vec<usize>,
    /// Its upload: N combinations of its N sub-keys.
    pub(super) upload: Rows<F>,
    /// s_k, C(K−2, S−2) × N: s_k a_V = 0 for every group V without it.
    known: DMatrix<F>,
    /// s_k F: combinations of the Z_V^{U_1} of its N groups.
    pub(super) answer: Rows<F>,
    /// S_k = [1, `mixing`] (1_U ⊗ s_k), D × (U C(K−2, S−2) − D).
    pub(super) mixing: DMatrix<F>,
}

/// A decoding matrix, one row for each of the U·D parts with input: weights of the U·D parts of the answers, then of the U·(N−D)
/// parts without input.
pub(super) type Decoder<F> = Vec<Vec<F>>;

/// The scheme for fixed K, U and S.
#[derive(Debug)]
pub struct Groupwise<F: Prime> {
    pub(super) clients: usize,
    pub(super) survivors: usize,
    /// N.
    pub(super) pieces: usize,
    /// D.
    pub(super) data: usize,
    pub(super) groups: Vec<Vec<u16>>,
    pub(super) encoders: Vec<Encoder<F>>,
    /// The secrets of the groups, unless their keys are drawn.
    pub(super) agreement: Option<Agreement>,
    /// For the U_2 that occurred; `None` for one that does not decode.
    decoders: Memory<u16, Option<Arc<Decoder<F>>>>,
}

fn rule(key: &str, rule: String) -> Error {
    Error::config(key, rule)
}

impl<F: Prime> Groupwise<F> {
    /// The scheme among `clients` clients, with coefficients drawn from `seed`.
    ///
    /// Every decoding matrix is computed and checked here, and coefficients that fail are drawn again, unless the C(K, U) of them
    /// take too long. Then they are computed when they are needed; one is singular with probability at most U·D/p, and the round
    /// is an outage.
    ///
    /// # Errors
    /// U outside 1..=K, S outside 2..=K, sizes that cannot be built, a field in which no draw decodes.
    pub fn new(clients: usize, survivors: usize, size: usize, seed: Seed) -> Result<Self> {
        check_survivors(clients, survivors)?;
        if size == 1 {
            let problem =
                "a key of one client alone cannot cancel, so that no scheme is secure; give at least 2";
            return Err(rule("group_size", problem.into()));
        }
        if !(2..=clients).contains(&size) {
            let problem =
                format!("groups of {size} among {clients} clients do not exist; give 2 to {clients}");
            return Err(rule("group_size", problem));
        }
        let count = binomial(clients, size);
        let pieces = binomial(clients - 1, size - 1);
        let absent = (clients - 1).checked_sub(survivors).filter(|&rest| rest >= size - 1);
        let data = pieces - absent.map_or(0, |rest| binomial(rest, size - 1));
        let decoder = survivors.saturating_mul(data);
        if count > MOST_GROUPS || pieces > LARGEST_PIECES || decoder > LARGEST {
            let problem = format!(
                "{count} group keys, {pieces} of them a client, and decoding matrices of {decoder} × {decoder} cannot be \
                 built; the limits are {MOST_GROUPS}, {LARGEST_PIECES} and {LARGEST}; take smaller groups or fewer survivors"
            );
            return Err(rule("group_size", problem));
        }
        let groups: Vec<Vec<usize>> = subsets(clients, size);
        let work = binomial(clients, survivors)
            .saturating_mul(decoder * decoder)
            .saturating_mul(survivors * (pieces + data));
        (0..DRAWS)
            .map(|draw| Self::draw(clients, survivors, pieces, data, &groups, seed.child("draw", draw)))
            .find(|scheme| {
                scheme.as_ref().is_some_and(|scheme| work > CHECKED || scheme.decodes_for_all())
            })
            .flatten()
            .ok_or_else(|| {
                let problem = format!(
                    "{DRAWS} draws over a field of {} elements gave no coefficients that decode; take a larger modulus",
                    F::MODULUS
                );
                rule("quantisation.modulus", problem)
            })
    }

    /// Coefficients with (49) and Lemma 2.
    fn draw(
        clients: usize,
        survivors: usize,
        pieces: usize,
        data: usize,
        groups: &[Vec<usize>],
        seed: Seed,
    ) -> Option<Self> {
        let mut rng = seed.child("first", 0).rng();
        let first = DMatrix::from_fn(pieces, pieces, |i, j| match (i == j, i < data || j >= data) {
            (true, _) => F::ONE,
            (false, true) => F::ZERO,
            (false, false) => F::uniform(&mut rng),
        });
        let size = groups[0].len();
        let all = coefficients(clients, size, &first);
        let encoder = |k: usize| {
            let with: Vec<usize> = (0..groups.len()).filter(|&v| groups[v].contains(&k)).collect();
            let own = all.select_columns(&with);
            // By Lemma 1 the groups with some other client span those of all groups without this one.
            let other = usize::from(k == 0);
            let without: Vec<usize> = (0..groups.len())
                .filter(|&v| !groups[v].contains(&k) && groups[v].contains(&other))
                .collect();
            let known = null_space(&all.select_columns(&without).transpose());
            let combinations = binomial(clients - 2, size - 2);
            if rank(&own) < pieces || known.nrows() != combinations {
                return None;
            }
            let mut rng = seed.child("mixing", k as u64).rng();
            let mixing = DMatrix::from_fn(data, survivors * combinations - data, |_, _| F::uniform(&mut rng));
            let answer = sparse(&product(&known, &own));
            Some(Encoder { groups: with, upload: sparse(&own), known, answer, mixing })
        };
        let encoders: Option<Vec<Encoder<F>>> = parallel::map(0..clients, encoder).into_iter().collect();
        let groups = groups.iter().map(|group| group.iter().map(|&k| k as u16).collect()).collect();
        let decoders = Memory::default();
        let encoders = encoders?;
        Some(Self { clients, survivors, pieces, data, groups, encoders, agreement: None, decoders })
    }

    /// Lets every group agree on a secret, from which the keys of all rounds are then expanded; the clients' randomness comes from
    /// `seed`. Returns what it took.
    pub fn agree(&mut self, seed: Seed) -> &Agreement {
        self.agreement.insert(Agreement::of(self.clients, &self.groups, seed))
    }

    /// (45) for every U_2 of U clients.
    fn decodes_for_all(&self) -> bool {
        let all = subsets(self.clients, self.survivors);
        all.iter().all(|from| {
            let from: Vec<u16> = from.iter().map(|&k| k as u16).collect();
            self.decoder(&from).is_some()
        })
    }

    /// The decoding matrix for the answers of `from`, U clients.
    pub(super) fn decoder(&self, from: &[u16]) -> Option<Arc<Decoder<F>>> {
        self.decoders.get(from, || self.invert(from).map(Arc::new))
    }

    /// S_k as D rows over the parts (piece j, part i) in the order j·U + i.
    fn answer_rows(&self, k: u16) -> Vec<Vec<F>> {
        let (u, encoder) = (self.survivors, &self.encoders[usize::from(k)]);
        let combinations = encoder.known.nrows();
        let mut rows = vec![vec![F::ZERO; self.pieces * u]; self.data];
        for (d, row) in rows.iter_mut().enumerate() {
            let mut add = |column: usize, weight: F| {
                let (i, r) = (column / combinations, column % combinations);
                for (j, &s) in encoder.known.row(r).iter().enumerate() {
                    row[j * u + i] = row[j * u + i] + weight * s;
                }
            };
            add(d, F::ONE);
            encoder.mixing.row(d).iter().enumerate().for_each(|(c, &weight)| add(self.data + c, weight));
        }
        rows
    }

    /// With the answers Y = Q F_data + P F_keys: [Q⁻¹, Q⁻¹ P].
    fn invert(&self, from: &[u16]) -> Option<Decoder<F>> {
        let rows: Vec<Vec<F>> = from.iter().flat_map(|&k| self.answer_rows(k)).collect();
        let (n, all) = (rows.len(), self.pieces * self.survivors);
        let unit = |i, j| if i == j { F::ONE } else { F::ZERO };
        let system = DMatrix::from_fn(n, n + all, |i, j| match j {
            _ if j < n => rows[i][j],
            _ if j < 2 * n => unit(i, j - n),
            _ => rows[i][j - n],
        });
        let echelon = Echelon::of(&system);
        echelon
            .pivots
            .iter()
            .copied()
            .eq(0..n)
            .then(|| echelon.rows.row_iter().map(|row| row.iter().skip(n).copied().collect()).collect())
    }
}

fn sparse<F: Prime>(matrix: &DMatrix<F>) -> Rows<F> {
    matrix
        .row_iter()
        .map(|row| row.iter().copied().enumerate().filter(|(_, c)| *c != F::ZERO).collect())
        .collect()
}
