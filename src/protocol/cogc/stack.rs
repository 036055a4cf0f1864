//! GC+: decoding from incomplete partial sums, stacked over the attempts of a round.
//!
//! Weng et al., *Cooperative Gradient Coding*, IEEE Trans. Commun. 73(12), 2025.
//!
//! Every sum that reaches the server is one row of coefficients over the masked inputs x_k + u_k: b_mk for
//! the clients k whose share is in it, 0 for the others. Inputs and masks do not change between attempts, so
//! rows of all attempts of a round may be combined, and the round decodes as soon as 1ᵀ is in their span. The
//! masks then cancel as they do in complete sums: Σ_k (x_k + u_k) = Σ_k x_k. Link keys cancel in complete
//! sums only and are refused.
//!
//! Without keys the rows also tell something when 1ᵀ is not in their span: with `gc-plus-partial` the server
//! then outputs the largest partial sum that is ([`crate::coding::partial`]), in which every single client is
//! that can be told. With keys the masks in it would remain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use nalgebra::DMatrix;

use crate::algebra::{Scalar, Symbol};
use crate::coding::{Code, CodeKind, Coefficient, GradientCode, Received, partial};
use crate::precision::Weighted;
use crate::seed::Seed;

/// The code of every attempt, and whether incomplete sums are decoded from. The first code is the one that
/// the standard decoder would use.
#[derive(Debug)]
pub struct Codes<K = f64> {
    first: Arc<GradientCode<K>>,
    stacking: Option<(Seed, f64)>,
    /// Whether partial sums are decoded.
    partial: bool,
    repeats: u32,
    fresh: Mutex<BTreeMap<u32, Arc<GradientCode<K>>>>,
    solved: Solved<K>,
}

/// Systems that are remembered with their weights, those of the attempts of a round: its parts have the same.
const REMEMBERED: usize = 8;

type Solved<K> = Arc<Mutex<VecDeque<(Vec<Vec<K>>, Option<Found<K>>)>>>;

/// Weights of rows, and the clients whose sum they make, ascending.
#[derive(Clone, Debug)]
struct Found<K> {
    weights: Vec<K>,
    included: Vec<u16>,
}

impl<K: Coefficient> Codes<K> {
    /// `first` in every attempt and the standard decoder or, with `stacking`, `gc-plus`: the attempts after
    /// the first draw codes from its seed, and its number is the largest ‖a‖₂ for stacked rows
    /// ([`amplification_limit`]). A fresh code has the supports of `first`, so that it decodes from the
    /// complete sums of any M−s clients just as `first` does.
    #[must_use]
    pub fn new(first: Arc<GradientCode<K>>, stacking: Option<(Seed, f64)>) -> Self {
        let (partial, repeats) = (false, 1);
        Self { first, stacking, partial, repeats, fresh: Mutex::default(), solved: Arc::default() }
    }

    /// The same with partial sums where stacked rows do not determine the sum over all.
    #[must_use]
    pub fn with_partial_sums(self) -> Self {
        Self { partial: true, ..self }
    }

    /// The same with shares and sums sent so many times in an attempt.
    #[must_use]
    pub fn repeated(self, repeats: u32) -> Self {
        Self { repeats, ..self }
    }

    /// An empty stack for a round, with `gc-plus`.
    #[must_use]
    pub fn stack<S: Symbol<Scalar = K>>(&self) -> Option<Stack<S>> {
        let stack = |(_, limit)| Stack {
            partial: self.partial,
            solved: Arc::clone(&self.solved),
            ..Stack::new(limit)
        };
        self.stacking.map(stack)
    }

    /// The code of the first attempt.
    #[must_use]
    pub fn first(&self) -> &Arc<GradientCode<K>> {
        &self.first
    }

    /// The code of `attempt`, or of a repeat where these are counted on through all attempts; the same in
    /// every round. Only `cyclic-random` can be drawn afresh; the other
    /// families have one matrix for (M, s), and new rows come from new received sets.
    #[must_use]
    pub fn of(&self, attempt: u32) -> Arc<GradientCode<K>> {
        let (clients, stragglers) = (self.first.clients(), self.first.stragglers());
        let random = attempt > 0 && self.first.kind() == CodeKind::CyclicRandom;
        let Some((seed, _)) = self.stacking.filter(|_| random) else {
            return Arc::clone(&self.first);
        };
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let draw = || {
            let seed = seed.child("code", u64::from(attempt));
            K::code(CodeKind::CyclicRandom, clients, stragglers, seed)
                .map_or_else(|_| Arc::clone(&self.first), Arc::new)
        };
        Arc::clone(fresh.entry(attempt).or_insert_with(draw))
    }
}

/// The row of coefficients of a sum over the masked inputs: b_mk where the share of client k is `held`, 0
/// elsewhere.
pub(super) fn row_of<K: Coefficient>(code: &GradientCode<K>, row: usize, held: &[bool]) -> Vec<K> {
    let mut coefficients = vec![K::ZERO; code.clients()];
    for (&k, _) in code.support(row).iter().zip(held).filter(|(_, held)| **held) {
        coefficients[k] = code.coefficient(row, k);
    }
    coefficients
}

impl<K: Coefficient> Code for Codes<K> {
    fn kind(&self) -> CodeKind {
        self.first.kind()
    }

    fn clients(&self) -> usize {
        self.first.clients()
    }

    fn stragglers(&self) -> usize {
        self.first.stragglers()
    }

    fn support(&self, row: usize) -> &[usize] {
        self.first.support(row)
    }

    fn holders(&self, k: usize) -> &[usize] {
        self.first.holders(k)
    }

    fn decodes(&self, rows: &[usize]) -> bool {
        self.first.decodes(rows)
    }

    fn amplification(&self, samples: usize, seed: Seed) -> f64 {
        self.first.amplification(samples, seed)
    }

    fn takes_incomplete(&self) -> bool {
        self.stacking.is_some()
    }

    fn repeats(&self) -> u32 {
        self.repeats
    }

    fn recovers(&self, sums: &[Received]) -> bool {
        let Some((_, limit)) = self.stacking else { return false };
        let mut rows: Vec<Vec<K>> = Vec::with_capacity(sums.len());
        for sum in sums {
            let row = row_of(&self.of(sum.attempt), sum.row, &sum.held);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        decoding(&rows, limit).is_some()
    }
}

/// Weights a with a · `rows` = 1ᵀ within the limit of amplification.
fn decoding<K: Coefficient>(rows: &[Vec<K>], limit: f64) -> Option<Vec<K>> {
    let clients = rows.first()?.len();
    // Most sets that do not decode miss somebody altogether.
    if (0..clients).any(|k| rows.iter().all(|row| row[k] == K::ZERO)) {
        return None;
    }
    let rows = DMatrix::from_fn(rows.len(), clients, |i, k| rows[i][k]);
    K::solve_ones(&rows).filter(|a| K::amplification(a) <= limit)
}

/// The weights of the largest partial sum that the rows determine within the limit of amplification.
fn partly_decoding<K: Coefficient>(rows: &[Vec<K>], limit: f64) -> Option<Found<K>> {
    let clients = rows.first()?.len();
    let matrix = DMatrix::from_fn(rows.len(), clients, |i, k| rows[i][k]);
    let over = |sets: &[Vec<usize>]| {
        let mut target = vec![K::ZERO; clients];
        sets.iter().flatten().for_each(|&k| target[k] = K::ONE);
        let weights = K::solve(&matrix, &target).filter(|a| K::amplification(a) <= limit)?;
        let included = (0..clients).filter(|&k| target[k] == K::ONE).map(|k| k as u16).collect();
        Some(Found { weights, included })
    };
    let sets = partial::determined(rows);
    if sets.is_empty() {
        return None;
    }
    // All at once, but where rounding is in the way only those that it leaves.
    over(&sets).or_else(|| {
        let (mut kept, mut found) = (Vec::new(), None);
        for set in sets {
            kept.push(set);
            match over(&kept) {
                None => drop(kept.pop()),
                more => found = more,
            }
        }
        found
    })
}

/// The largest decoding amplification ‖a‖₂ that is accepted from stacked rows in floating point, `single`
/// precision or double: rounding then changes the sum by at most about 10⁻⁵ (f32) or 10⁻¹⁰ (f64) of the
/// masked inputs. Beyond it the round is an outage.
#[must_use]
pub fn amplification_limit(single: bool) -> f64 {
    if single { 1e2 } else { 1e6 }
}

/// What the server received in a round, over all attempts.
#[derive(Debug)]
pub struct Stack<S: Symbol> {
    limit: f64,
    partial: bool,
    rows: Vec<Vec<S::Scalar>>,
    sums: Vec<Arc<Vec<S>>>,
    solved: Solved<S::Scalar>,
}

impl<S: Symbol<Scalar: Coefficient>> Stack<S> {
    /// Nothing yet; `limit` as in [`amplification_limit`].
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { limit, partial: false, rows: Vec::new(), sums: Vec::new(), solved: Arc::default() }
    }

    /// Number of symbols of the sums, `None` while there are none.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        self.sums.first().map(|sum| sum.len())
    }

    /// Adds `sum` = Σ_k `row`\[k\] (x_k + u_k), unless the same row is there already.
    pub fn push(&mut self, row: Vec<S::Scalar>, sum: Arc<Vec<S>>) {
        if !self.rows.contains(&row) {
            self.rows.push(row);
            self.sums.push(sum);
        }
    }

    /// What Σ_k x_k is made of if 1ᵀ is in the span of the rows, and all clients: exactly over a prime field,
    /// over the reals within [`crate::coding::RESIDUAL_TOLERANCE`] in every coefficient and with ‖a‖₂ within
    /// the limit. Else, where partial sums are decoded, what the largest of them is made of, and its clients.
    #[must_use]
    pub fn decode(&self) -> Option<(Vec<Weighted<'_, S>>, Vec<u16>)> {
        let Found { weights, included } = self.found()?;
        let row = |row: &[S::Scalar]| {
            row.iter().copied().enumerate().filter(|(_, b)| *b != S::Scalar::ZERO).collect()
        };
        let rows = weights.into_iter().zip(self.rows.iter().zip(&self.sums));
        let terms = rows.map(|(weight, (b, sum))| Weighted { weight, row: row(b), sum }).collect();
        Some((terms, included))
    }

    fn found(&self) -> Option<Found<S::Scalar>> {
        let solved = || self.solved.lock().unwrap_or_else(PoisonError::into_inner);
        let known = solved().iter().find(|(rows, _)| *rows == self.rows).map(|(_, found)| found.clone());
        known.unwrap_or_else(|| {
            let everybody = || (0..self.rows.first().map_or(0, Vec::len) as u16).collect();
            let whole = decoding(&self.rows, self.limit);
            let whole = whole.map(|weights| Found { weights, included: everybody() });
            let partly = || self.partial.then(|| partly_decoding(&self.rows, self.limit)).flatten();
            let found = whole.or_else(partly);
            let mut solved = solved();
            solved.truncate(REMEMBERED - 1);
            solved.push_front((self.rows.clone(), found.clone()));
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total((terms, _): (Vec<Weighted<'_, f64>>, Vec<u16>)) -> Vec<f64> {
        let terms: Vec<_> = terms.iter().map(|term| (term.weight, term.sum)).collect();
        f64::combine(terms[0].1.len(), &terms)
    }

    fn stack(limit: f64, rows: &[(&[f64], f64)]) -> Stack<f64> {
        let mut stack = Stack::new(limit);
        for (row, sum) in rows {
            stack.push(row.to_vec(), Arc::new(vec![*sum]));
        }
        stack
    }

    #[test]
    fn decodes_by_hand_from_incomplete_rows() {
        // x = (1, 2, 4): (x₁+x₂) + (x₂+x₃) + (x₁+x₃) = 2 Σ x.
        let rows: [(&[f64], f64); 3] =
            [(&[1.0, 1.0, 0.0], 3.0), (&[0.0, 1.0, 1.0], 6.0), (&[1.0, 0.0, 1.0], 5.0)];
        let sum = stack(1e6, &rows).decode().map(total).unwrap();
        assert!((sum[0] - 7.0).abs() < 1e-12, "{sum:?}");
        assert_eq!(stack(1e6, &rows[..2]).decode().map(total), None);
        assert_eq!(stack(1e6, &[]).decode().map(total), None);
    }

    #[test]
    fn a_partial_sum_by_hand() {
        // x = (1, 2, 4, 8): x₁, 2 x₁ + x₂ and x₃ + x₄ tell all; without x₁ the largest is x₃ + x₄.
        let rows: [(&[f64], f64); 3] =
            [(&[1.0, 0.0, 0.0, 0.0], 1.0), (&[1.0, 0.5, 0.0, 0.0], 2.0), (&[0.0, 0.0, 1.0, 1.0], 12.0)];
        let partly = |rows| {
            let stack = Stack { partial: true, ..stack(1e6, rows) };
            stack.decode().map(|(terms, included)| {
                // Weights of a solved system are rounded, and the sums are integers.
                let sum = total((terms, Vec::new()))[0];
                assert!((sum - sum.round()).abs() < 1e-12, "{sum}");
                (sum.round(), included)
            })
        };
        assert_eq!(partly(&rows), Some((15.0, vec![0, 1, 2, 3])));
        assert_eq!(partly(&rows[1..]), Some((12.0, vec![2, 3])));
        assert_eq!(partly(&rows[..2]), Some((3.0, vec![0, 1])));
        assert_eq!(partly(&rows[1..2]), None);
        assert!(stack(1e6, &rows[..2]).decode().is_none(), "not asked for");
    }

    #[test]
    fn what_rounding_leaves_of_a_partial_sum() {
        // x₁ and x₂ need weights of 10⁸; x₃ does not.
        let rows = [vec![1.0, 0.0, 0.0], vec![1.0, 1e-8, 0.0], vec![0.0, 0.0, 1.0]];
        assert_eq!(partly_decoding(&rows, 1e6).unwrap().included, [0, 2]);
        assert_eq!(partly_decoding(&rows, 1e9).unwrap().included, [0, 1, 2]);
    }

    #[test]
    fn a_barely_independent_row_is_an_outage_and_not_a_wrong_sum() {
        // x = (1, 2): the rows differ by 10⁻⁸ in one entry, a has entries of 10⁸.
        let rows: [(&[f64], f64); 2] = [(&[1.0, 0.0], 1.0), (&[1.0, 1e-8], 1.0 + 2e-8)];
        assert_eq!(stack(1e6, &rows).decode().map(total), None);
        assert!(stack(1e9, &rows).decode().map(total).is_some());
    }

    #[test]
    fn the_parts_of_a_round_solve_its_systems_once() {
        let code = GradientCode::build(CodeKind::CyclicRandom, 3, 1, Seed::new(1)).unwrap();
        let codes = Codes::new(Arc::new(code), Some((Seed::new(1), 1e6)));
        // x = part · (1, 2, 4).
        let rows = [([1.0, 1.0, 0.0], 3.0), ([0.0, 1.0, 1.0], 6.0), ([1.0, 0.0, 1.0], 5.0)];
        for part in [1.0, 2.0, 3.0] {
            let mut stack = codes.stack::<f64>().unwrap();
            for (row, sum) in rows {
                assert_eq!(stack.decode().map(total), None, "{part}");
                stack.push(row.to_vec(), Arc::new(vec![part * sum]));
            }
            let sum = stack.decode().map(total).unwrap();
            assert!((sum[0] - 7.0 * part).abs() < 1e-12, "{sum:?}");
            assert_eq!(codes.solved.lock().unwrap().len(), 4, "without a row, and after each");
        }
        for n in 1..=REMEMBERED {
            let mut stack = codes.stack::<f64>().unwrap();
            stack.push(vec![n as f64; 3], Arc::new(vec![3.0]));
            assert!(stack.decode().map(total).is_some());
        }
        assert_eq!(codes.solved.lock().unwrap().len(), REMEMBERED);
    }

    #[test]
    fn later_attempts_draw_fresh_random_codes_on_the_same_supports() {
        let build = |kind, s| Arc::new(GradientCode::build(kind, 6, s, Seed::new(1)).unwrap());
        let codes = Codes::new(build(CodeKind::CyclicRandom, 2), Some((Seed::new(1), 1e6)));
        assert!(Arc::ptr_eq(&codes.of(0), codes.first()));
        assert_ne!(codes.of(1).matrix(), codes.of(0).matrix());
        assert_ne!(codes.of(1).matrix(), codes.of(2).matrix());
        assert!((0..6).all(|m| codes.of(1).support(m) == codes.of(0).support(m)));
        assert!(Arc::ptr_eq(&codes.of(1), &codes.of(1)));
        let codes = Codes::new(build(CodeKind::CyclicMds, 3), Some((Seed::new(1), 1e6)));
        assert!(Arc::ptr_eq(&codes.of(5), codes.first()));
        let codes = Codes::new(build(CodeKind::CyclicRandom, 2), None);
        assert!(Arc::ptr_eq(&codes.of(5), codes.first()));
    }
}
