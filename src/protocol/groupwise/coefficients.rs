//! The coefficients of groupwise keys: first-round vectors, second-round matrices, decoding matrices.

use std::sync::Arc;

use super::{Agreement, Origin};
use crate::algebra::field::Field;
use crate::algebra::linear::{Echelon, null_space, product, rank};
use crate::coding::{Memory, binomial, next_subset};
use crate::error::{Error, Result};
use crate::parallel;
use crate::protocol::zhao_sun::check_survivors;
use crate::seed::Seed;
use nalgebra::DMatrix;

/// Largest U·D: a decoding matrix has up to (U·D)² entries and costs up to (U·D)³ multiplications for every
/// U_2 that occurs.
const LARGEST: usize = 2048;

/// Largest N: the set-up inverts N × N matrices for every client.
const LARGEST_PIECES: usize = 512;

/// Group keys are numbered in 16 bits.
const MOST_GROUPS: usize = 65_536;

/// Multiplications up to which all decoding matrices are computed at set-up.
const CHECKED: usize = 300_000_000;

/// Draws of the coefficients until the field counts as too small.
const DRAWS: u64 = 2048;

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

/// a_V for every group V of `size` of `clients` clients, one column a group in lexicographic order, from
/// `first`, the a_V of the N groups with client 1: a_V = Σ_i (−1)^(i−1) a_{V ∖ V(i) ∪ 1} for the others (25).
///
/// # Panics
/// If `first` does not have C(K−1, S−1) columns.
#[must_use]
pub fn coefficients<F: Field>(clients: usize, size: usize, first: &DMatrix<F>) -> DMatrix<F> {
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
pub(super) struct Encoder<F: Field> {
    /// The groups that hold it.
    pub(super) groups: Vec<usize>,
    /// Its upload: N combinations of its N sub-keys.
    pub(super) upload: Rows<F>,
    /// s_k, c × N with c = C(K−2, S−2): s_k a_V = 0 for every group V without it.
    known: DMatrix<F>,
    /// s_k F: combinations of the Z_V^{U_1} of its N groups.
    pub(super) answer: Rows<F>,
    /// [1, random], d × c: the direct rows, over the combinations s_{k,r} F of a part.
    pub(super) direct: Vec<Vec<F>>,
    /// [1, random], e × U (c − d): the mixed rows, over the parts of the combinations from the d-th on.
    pub(super) mixed: Vec<Vec<F>>,
}

/// How the answers of U clients give the pieces of F with input.
#[derive(Debug)]
pub(super) struct Decoder<F> {
    /// The e pieces for which the parts are not solved alone.
    pub(super) free: Vec<usize>,
    /// −F of the U d others: weights of the U d direct rows, the N − D pieces without input, and F of the
    /// free pieces.
    pub(super) direct: Vec<Vec<F>>,
    /// F of the free pieces, part by part: weights of the U e mixed rows, and of the parts of the direct rows
    /// and of the pieces without input.
    pub(super) mixed: Vec<Vec<F>>,
}

/// The scheme for fixed K, U and S.
///
/// # The second round
///
/// F = Σ_V a_V Z_V^{U_1} consists of N pieces of U parts each. Of every part client k can compute c = C(K−2,
/// S−2) combinations s_{k,r} F, and it may send D in all. With D = U d + e, e < U, it sends d combinations of
/// those of each part alone (*direct* rows, the same for every part) and e combinations over all parts
/// (*mixed* rows). The server solves each part for U d of its D unknown pieces, then U e mixed rows for the
/// rest: about N + U e multiplications a coordinate of the sum, where D mixed rows would take U N.
///
/// # How large a field must be
///
/// Let the first a_V, 1 ∈ V, be the columns of T = \[1 0; B 1\], and s_k = s_k⁰ T⁻¹, where s_k⁰ belongs to
/// T = 1 and has constant entries. The system of U clients, U D equations in the U D unknown parts, then has
/// entries of degree at most 1 in B and 1 in the client's own coefficients, and a determinant of degree at
/// most 2 U D. It is not the zero polynomial: any m clients know f(m) = N − C(K−1−m, S−1) independent
/// combinations of a part (Lemma 2), the increments of f fall, and so f(m) is at least what m of U clients
/// contribute when e of them send d + 1 combinations of this part and the others d; by Rado's theorem such
/// combinations can be chosen independent, for every part with another e clients, in turns; and those of a
/// D-dimensional space stay independent when the N − D pieces without input are taken out along a generic B.
/// By Schwartz and Zippel a random draw over q elements therefore fails for one U_2 with probability at most
/// 2 U D/q, for any of all with at most C(K, U) 2 U D/q. A field with more elements than C(K, U) 2 U D has
/// coefficients that decode for every U_2; smaller ones often have some, which [`Self::new`] searches and
/// checks.
#[derive(Debug)]
pub struct Groupwise<F: Field> {
    pub(super) clients: usize,
    pub(super) survivors: usize,
    /// N.
    pub(super) pieces: usize,
    /// D.
    pub(super) data: usize,
    pub(super) groups: Vec<Vec<u16>>,
    pub(super) encoders: Vec<Encoder<F>>,
    /// Where keys come from.
    pub(super) origin: Origin,
    /// For the U_2 that occurred; `None` for one that does not decode.
    decoders: Memory<u16, Option<Arc<Decoder<F>>>>,
}

fn rule(key: &str, rule: String) -> Error {
    Error::config(key, rule)
}

impl<F: Field> Groupwise<F> {
    /// The scheme among `clients` clients, with coefficients drawn from `seed`.
    ///
    /// Every decoding matrix is computed and checked here, and coefficients that fail are drawn again, unless
    /// the C(K, U) of them take too long. Then they are computed when they are needed; one is singular with
    /// probability at most 2 U D/q in a field of q elements, and the round is an outage.
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
        let (direct, mixed) = (data / survivors * survivors, data % survivors * survivors);
        let work = binomial(clients, survivors).saturating_mul(
            (direct * direct + mixed * direct * survivors) * (pieces + direct)
                + mixed * mixed * (2 * mixed + survivors * (direct + pieces - data)),
        );
        (0..DRAWS)
            .map(|draw| Self::draw(clients, survivors, pieces, data, &groups, seed.child("draw", draw)))
            .find(|scheme| {
                scheme.as_ref().is_some_and(|scheme| work > CHECKED || scheme.decodes_for_all())
            })
            .flatten()
            .ok_or_else(|| {
                let problem = format!(
                    "{DRAWS} draws over a field of {} elements gave no coefficients that decode; take a larger modulus",
                    F::ORDER
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
        let unit = DMatrix::from_fn(pieces, pieces, |i, j| if i == j { F::ONE } else { F::ZERO });
        let constant = coefficients(clients, size, &unit);
        let inverse = DMatrix::from_fn(pieces, pieces, |i, j| if i == j { F::ONE } else { -first[(i, j)] });
        let combinations = binomial(clients - 2, size - 2);
        let (each, rest) = (data / survivors, data % survivors);
        let encoder = |k: usize| {
            let with: Vec<usize> = (0..groups.len()).filter(|&v| groups[v].contains(&k)).collect();
            let own = all.select_columns(&with);
            // By Lemma 1 the groups with some other client span those of all groups without this one.
            let other = usize::from(k == 0);
            let without: Vec<usize> = (0..groups.len())
                .filter(|&v| !groups[v].contains(&k) && groups[v].contains(&other))
                .collect();
            let known = null_space(&constant.select_columns(&without).transpose());
            if rank(&own) < pieces || known.nrows() != combinations {
                return None;
            }
            let answer = sparse(&product(&known, &constant.select_columns(&with)));
            let known = product(&known, &inverse);
            let mut rng = seed.child("mixing", k as u64).rng();
            let mut systematic = |rows: usize, columns: usize| -> Vec<Vec<F>> {
                let mut entry = |i, j| match j {
                    _ if i == j => F::ONE,
                    _ if j < rows => F::ZERO,
                    _ => F::uniform(&mut rng),
                };
                (0..rows).map(|i| (0..columns).map(|j| entry(i, j)).collect()).collect()
            };
            let direct = systematic(each, combinations);
            let mixed = systematic(rest, survivors * (combinations - each));
            Some(Encoder { groups: with, upload: sparse(&own), known, answer, direct, mixed })
        };
        let encoders: Option<Vec<Encoder<F>>> = parallel::map(0..clients, encoder).into_iter().collect();
        let groups = groups.iter().map(|group| group.iter().map(|&k| k as u16).collect()).collect();
        let decoders = Memory::default();
        let encoders = encoders?;
        let origin = Origin::Dealer;
        Some(Self { clients, survivors, pieces, data, groups, encoders, origin, decoders })
    }

    /// Lets every group agree on a secret, from which the keys of all rounds are then expanded; the clients'
    /// randomness comes from `seed`. Returns what it took.
    pub fn agree(&mut self, seed: Seed) -> &Agreement {
        let agreement = Agreement::of(self.clients, &self.groups, seed);
        self.origin = Origin::Agreement(agreement);
        match &self.origin {
            Origin::Agreement(agreement) => agreement,
            Origin::Dealer | Origin::Owners => unreachable!("it was set in the line above"),
        }
    }

    /// Lets clients make their keys in every round by themselves: pairs from what they share, larger groups
    /// from what the owner of a sub-key sends the others in phase 0.
    #[must_use]
    pub fn apart(self) -> Self {
        Self { origin: Origin::Owners, ..self }
    }

    /// Groups that hold two given clients: C(K−2, S−2).
    pub(super) fn told(&self) -> usize {
        self.encoders[0].known.nrows()
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

    /// Solves the direct rows for pieces of one part, then the mixed rows for the other pieces of all parts.
    fn invert(&self, from: &[u16]) -> Option<Decoder<F>> {
        let (u, data) = (self.survivors, self.data);
        let (each, rest, keys) = (data / u, data % u, self.pieces - data);
        let encoders = || from.iter().map(|&k| &self.encoders[usize::from(k)]);
        let times_known = |row: &[F], encoder: &Encoder<F>, first: usize| -> Vec<F> {
            let known = encoder.known.rows(first, row.len());
            known.column_iter().map(|column| dot(row, column.iter())).collect()
        };
        // [data, 1, keys]
        let rows: Vec<Vec<F>> = encoders()
            .flat_map(|encoder| encoder.direct.iter().map(move |row| times_known(row, encoder, 0)))
            .collect();
        let n = rows.len();
        let unit = |i, j| if i == j { F::ONE } else { F::ZERO };
        let system = Echelon::of(&DMatrix::from_fn(n, data + n + keys, |i, j| match j {
            _ if j < data => rows[i][j],
            _ if j < data + n => unit(i, j - data),
            _ => rows[i][j - n],
        }));
        if system.rank() < n || system.pivots.last().is_some_and(|&pivot| pivot >= data) {
            return None;
        }
        let free: Vec<usize> = (0..data).filter(|j| system.pivots.binary_search(j).is_err()).collect();
        let direct = system.rows.row_iter().map(|row| {
            let answers = (data..data + n).map(|j| -row[j]);
            let others = (data + n..data + n + keys).chain(free.iter().copied()).map(|j| row[j]);
            answers.chain(others).collect()
        });
        let direct = direct.collect();
        // [free, 1, direct, keys], each part by part.
        let mut equations: Vec<Vec<F>> = Vec::with_capacity(rest * u);
        for (number, (encoder, row)) in
            encoders().flat_map(|encoder| encoder.mixed.iter().map(move |row| (encoder, row))).enumerate()
        {
            let mut equation = vec![F::ZERO; (2 * rest + n + keys) * u];
            equation[rest * u + number] = F::ONE;
            for part in 0..u {
                let row: Vec<F> = row.iter().copied().skip(part).step_by(u).collect();
                let row = times_known(&row, encoder, each);
                let row: Vec<F> = [&row[..data], &vec![F::ZERO; n], &row[data..]].concat();
                let left = system.reduce(&row);
                free.iter().enumerate().for_each(|(f, &j)| equation[f * u + part] = left[j]);
                (0..n).for_each(|i| equation[(2 * rest + i) * u + part] = left[data + i]);
                (0..keys).for_each(|i| equation[(2 * rest + n + i) * u + part] = -left[data + n + i]);
            }
            equations.push(equation);
        }
        let columns = (2 * rest + n + keys) * u;
        let mixed = Echelon::of(&DMatrix::from_fn(rest * u, columns, |i, j| equations[i][j]));
        mixed.pivots.iter().copied().eq(0..rest * u).then(|| Decoder {
            free,
            direct,
            mixed: mixed.rows.row_iter().map(|row| row.iter().skip(rest * u).copied().collect()).collect(),
        })
    }
}

fn dot<'a, F: Field>(a: &[F], b: impl Iterator<Item = &'a F>) -> F {
    a.iter().zip(b).fold(F::ZERO, |sum, (&a, &b)| sum + a * b)
}

fn sparse<F: Field>(matrix: &DMatrix<F>) -> Rows<F> {
    matrix
        .row_iter()
        .map(|row| row.iter().copied().enumerate().filter(|(_, c)| *c != F::ZERO).collect())
        .collect()
}
