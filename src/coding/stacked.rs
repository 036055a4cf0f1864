//! The probability that a round decodes from incomplete sums of several attempts (`gc-plus`), when uses of
//! links fail independently: exact for a fractional repetition of small groups, else bounds.
//!
//! Sum m of an attempt arrives with probability 1 − q_m, and then holds the share of client k ∈ N(m)∖m with
//! probability 1 − p_mk, its own always. In a fractional repetition all coefficients are 1, so that a
//! received sum is the 0-1 vector of the clients in it, and groups have no client in common: the round
//! decodes if the vector of ones is in the span of what arrived of every group. The law of that span follows
//! sum by sum.

use std::collections::BTreeMap;

use nalgebra::DMatrix;

use super::{Code, CodeKind, outage};
use crate::algebra::Scalar;
use crate::algebra::field::M61;
use crate::algebra::linear::Echelon;

/// Clients of a group up to which the spans of 0-1 vectors are followed: they are 4.6 thousand for five.
pub const GROUP: usize = 5;

/// Clients up to which every set of clients that nobody is heard of is looked at.
pub const EXACT_CLIENTS: usize = 16;

/// The erasure probabilities of the links, as in [`outage::complete_probability`].
struct Links<P, Q> {
    p: P,
    q: Q,
}

/// The probability that a round decodes from the sums of `attempts` attempts, repeats counted; `None` but for
/// a fractional repetition of at most [`GROUP`] clients a group. `p` and `q` as in
/// [`outage::success_probability`].
#[must_use]
pub fn success_probability(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
    attempts: u32,
) -> Option<f64> {
    let size = code.stragglers() + 1;
    if code.kind() != CodeKind::FractionalRepetition || size > GROUP {
        return None;
    }
    let (links, mut spans) = (Links { p, q }, Spans::new(size));
    let groups = (0..code.clients()).step_by(size);
    Some(groups.map(|first| spans.decoding(first, &links, attempts)).product())
}

/// The spans of 0-1 vectors over a group, by number.
struct Spans {
    size: usize,
    /// The rows of each in reduced echelon form. Minors of such vectors are small integers, so that a large
    /// prime field tells what the reals would.
    known: Vec<Vec<Vec<M61>>>,
    numbers: BTreeMap<Vec<Vec<M61>>, usize>,
    /// The span of a known one and a set of clients, as bits.
    joined: BTreeMap<(usize, usize), usize>,
}

impl Spans {
    fn new(size: usize) -> Self {
        let mut spans = Self { size, known: Vec::new(), numbers: BTreeMap::new(), joined: BTreeMap::new() };
        spans.number(Vec::new());
        spans
    }

    fn number(&mut self, rows: Vec<Vec<M61>>) -> usize {
        let next = self.known.len();
        let number = *self.numbers.entry(rows.clone()).or_insert(next);
        if number == next {
            self.known.push(rows);
        }
        number
    }

    fn with(&mut self, span: usize, set: usize) -> usize {
        if let Some(&joined) = self.joined.get(&(span, set)) {
            return joined;
        }
        let size = self.size;
        let mut rows = self.known[span].clone();
        rows.push((0..size).map(|k| M61::integer((set >> k & 1) as i64)).collect());
        let echelon = Echelon::of(&DMatrix::from_fn(rows.len(), size, |i, j| rows[i][j]));
        let reduced = echelon.rows.row_iter().map(|row| row.iter().copied().collect()).collect();
        let joined = self.number(reduced);
        self.joined.insert((span, set), joined);
        joined
    }

    /// The probability that the sum over the group that starts with client `first` is determined.
    fn decoding<P: Fn(usize, usize) -> f64, Q: Fn(usize) -> f64>(
        &mut self,
        first: usize,
        links: &Links<P, Q>,
        attempts: u32,
    ) -> f64 {
        let size = self.size;
        let all = (1 << size) - 1;
        let mut law = vec![1.0];
        for row in (0..attempts).flat_map(|_| 0..size) {
            let mut next = vec![0.0; law.len()];
            for (span, chance) in law.into_iter().enumerate().filter(|(_, chance)| *chance > 0.0) {
                let lost = (links.q)(first + row);
                next[span] += chance * lost;
                for set in (0..=all).filter(|set| set >> row & 1 == 1) {
                    let held = |k: usize| {
                        let erased = (links.p)(first + row, first + k);
                        if set >> k & 1 == 1 { 1.0 - erased } else { erased }
                    };
                    let others: f64 = (0..size).filter(|&k| k != row).map(held).product();
                    let joined = self.with(span, set);
                    next.resize(self.known.len(), 0.0);
                    next[joined] += chance * (1.0 - lost) * others;
                }
            }
            law = next;
        }
        let decodes = |span: &usize| self.with(*span, all) == *span;
        let spans: Vec<usize> = (0..law.len()).collect();
        spans.into_iter().filter(decodes).map(|span| law[span]).sum()
    }
}

/// Bounds on the probability that a round decodes from the sums of `attempts` attempts, repeats counted.
///
/// - below: some attempt or repeat decodes from its complete sums ([`outage`]);
/// - above: every client is in some sum that arrives. By inclusion and exclusion over the sets U of clients
///   that nobody is heard of: with Π_m (q_m + (1−q_m) \[m ∉ U\] Π_{k∈N(m)∩U} p_mk) in one attempt. Beyond
///   [`EXACT_CLIENTS`] clients that of the client who is heard of least.
#[must_use]
pub fn bounds(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
    attempts: u32,
) -> [f64; 2] {
    let clients = code.clients();
    // Complete sums of several repeats are of several codes.
    let once = outage::decoding_probability(code, &outage::complete_probability(code, &p, &q));
    let below = 1.0 - (1.0 - once).powi(attempts as i32);
    let unheard = |is_in: &dyn Fn(usize) -> bool| -> f64 {
        let of_row = |m: usize| {
            if is_in(m) {
                return q(m);
            }
            let missing = code.support(m).iter().filter(|&&k| is_in(k)).map(|&k| p(m, k));
            q(m) + (1.0 - q(m)) * missing.product::<f64>()
        };
        (0..clients).map(of_row).product::<f64>().powi(attempts as i32)
    };
    let above: f64 = if clients <= EXACT_CLIENTS {
        let term = |set: u32| {
            let sign = if set.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            sign * unheard(&|k| set >> k & 1 == 1)
        };
        (0..1u32 << clients).map(term).sum()
    } else {
        (0..clients).map(|own| 1.0 - unheard(&|k| k == own)).fold(1.0, f64::min)
    };
    [below, above.clamp(below, 1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::GradientCode;
    use crate::seed::Seed;

    fn code(kind: CodeKind, clients: usize, stragglers: usize) -> GradientCode {
        GradientCode::build(kind, clients, stragglers, Seed::new(1)).unwrap()
    }

    /// Groups of two with p = q = 0.4: both shares arrive with 0.36, a client's own alone with 0.24. After t
    /// attempts the sum is there unless nobody sent both (0.64²ᵗ) and, given that, somebody did not send its
    /// own (each with (0.4/0.64)ᵗ).
    #[test]
    fn groups_of_two_by_hand() {
        let code = code(CodeKind::FractionalRepetition, 6, 1);
        for attempts in 1..5 {
            let own = 1.0 - (0.4f64 / 0.64).powi(attempts);
            let group = 1.0 - 0.64f64.powi(2 * attempts) * (1.0 - own * own);
            let got = success_probability(&code, |_, _| 0.4, |_| 0.4, attempts as u32).unwrap();
            assert!((got - group.powi(3)).abs() < 1e-12, "{got} for {}", group.powi(3));
        }
        let once = success_probability(&code, |_, _| 0.4, |_| 0.4, 1).unwrap();
        assert!((once - 0.648f64.powi(3)).abs() < 1e-12);
    }

    /// One group of three in one attempt, against all 2⁹ patterns of shares and uploads by solving each.
    #[test]
    fn a_group_of_three_by_enumeration() {
        use crate::coding::solve_ones;
        let code = code(CodeKind::FractionalRepetition, 3, 2);
        let (p, q) = (|m: usize, k: usize| 0.1 + 0.1 * (m + 2 * k) as f64, |m: usize| 0.2 + 0.2 * m as f64);
        let mut want = 0.0;
        for pattern in 0..1u32 << 9 {
            let arrives = |m: usize, k: usize| pattern >> (3 * m + k) & 1 == 1;
            let (mut chance, mut rows) = (1.0, Vec::new());
            for m in 0..3 {
                for k in 0..3 {
                    let lost = if m == k { q(m) } else { p(m, k) };
                    chance *= if arrives(m, k) { 1.0 - lost } else { lost };
                }
                if arrives(m, m) {
                    rows.push([0, 1, 2].map(|k| f64::from(u8::from(arrives(m, k)))));
                }
            }
            if solve_ones(&DMatrix::from_fn(rows.len(), 3, |i, j| rows[i][j])).is_some() {
                want += chance;
            }
        }
        let got = success_probability(&code, p, q, 1).unwrap();
        assert!((got - want).abs() < 1e-12, "{got} for {want}");
        let [below, above] = bounds(&code, p, q, 1);
        assert!(below < got && got < above, "{below} {got} {above}");
    }

    #[test]
    fn what_there_is_no_closed_form_for() {
        for (kind, clients, stragglers) in [
            (CodeKind::CyclicRandom, 6, 2),
            (CodeKind::CyclicMds, 6, 3),
            (CodeKind::FractionalRepetition, 6, 5),
        ] {
            let code = code(kind, clients, stragglers);
            assert_eq!(success_probability(&code, |_, _| 0.1, |_| 0.1, 1), None);
        }
    }

    /// Without losses all is certain, and without uploads nothing is; one attempt without shares shows every
    /// client if all uploads arrive, so that the upper bound is met.
    #[test]
    fn bounds_where_they_are_known() {
        for clients in [8, 18] {
            let code = code(CodeKind::CyclicRandom, clients, 3);
            assert_eq!(bounds(&code, |_, _| 0.0, |_| 0.0, 1), [1.0, 1.0]);
            assert_eq!(bounds(&code, |_, _| 0.3, |_| 1.0, 3), [0.0, 0.0]);
        }
        let [below, above] = bounds(&code(CodeKind::CyclicRandom, 8, 3), |_, _| 1.0, |_| 0.1, 1);
        assert!(below == 0.0 && (above - 0.9f64.powi(8)).abs() < 1e-12, "{below} {above}");
        let [_, above] = bounds(&code(CodeKind::CyclicRandom, 18, 3), |_, _| 1.0, |_| 0.1, 2);
        assert!((above - 0.99).abs() < 1e-12, "the best of 18 equal ones: {above}");
    }
}
