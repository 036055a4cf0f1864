//! Exact privacy: what a view over a finite field determines, by rank alone.
//!
//! A view is V = A W + B K with keys K uniform over F_q. Whatever the law of the inputs W, it tells about
//! them what
//!
//! ```text
//! leakage = rank [[A, B], [C, 0]] − rank B − rank C
//! ```
//!
//! counts, in field symbols, beyond the allowed C·W: the sum of the included clients and the coalition's own
//! inputs. 0 is perfect privacy, no matter how much computing the adversary can do. Nothing is rounded here,
//! and no tolerance is chosen.

use std::any::Any;
use std::collections::BTreeSet;

use nalgebra::DMatrix;

use super::defect::{Defect, Finding};
use super::keyless::keyless;
use super::view::{Coalition, View, is_within};
use crate::algebra::field::Field;
use crate::algebra::linear::{Echelon, rank};
use crate::algebra::{LinearForm, Unknown};
use crate::message::{Decoded, LinkUse, PartyId, Views};

/// What a coalition learns from one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    /// I(x_k; view) for every client k in field symbols per coordinate of the input, for uniform inputs.
    pub about: Vec<f64>,
    /// Whether the view is the same whatever x_k is, all else being equal: 0-differential privacy.
    pub hidden: Vec<bool>,
    /// The same for pairs of inputs with the same sum.
    pub hidden_beyond_sum: Vec<bool>,
    /// Field symbols leaked beyond the sum and the coalition's own inputs.
    pub symbols: usize,
    /// One of the combinations that leak.
    pub counterexample: Option<String>,
    /// Whether the sum is determined.
    pub sum: bool,
    /// The clients whose sum is left when the coalition takes its own inputs out of it.
    pub summed: Vec<usize>,
}

/// The views of one round over some finite field.
pub trait ExactViews: Send + Sync {
    /// Number of clients.
    fn clients(&self) -> usize;

    /// log₂ q.
    fn symbol_bits(&self) -> f64;

    /// The clients whose sum is allowed to be known, ascending.
    fn included(&self) -> Vec<u16>;

    /// Whether the round ended with a sum.
    fn has_sum(&self) -> bool;

    /// Every message that was sent, and whether it arrived.
    fn links(&self) -> Vec<(LinkUse, bool)>;

    /// Symbols that `coalition` learns about each client alone, per coordinate of its input.
    fn about(&self, coalition: &Coalition) -> Vec<f64>;

    /// What `coalition` learns.
    fn exposed(&self, coalition: &Coalition) -> Exact;

    /// What is wrong with the scheme.
    fn findings(&self) -> Vec<Finding>;

    /// What is wrong with the decoded sum.
    fn findings_of_sum(&self) -> Vec<Finding>;

    /// As [`Formal::is_within`](super::Formal::is_within); views over another field are not.
    fn is_within(&self, other: &dyn ExactViews) -> bool;

    /// The views themselves.
    fn as_any(&self) -> &dyn Any;

    /// The key draws that mask messages.
    fn keys(&self) -> BTreeSet<Unknown>;
}

impl<F: Field> Views<F> {
    /// One row for each coordinate of the sum over the included clients.
    fn sums(&self) -> Vec<Vec<F>> {
        let included = Self::included(self);
        let row = |i: usize| {
            let mut row = vec![F::ZERO; self.clients * self.len];
            included.iter().for_each(|&k| row[usize::from(k) * self.len + i] = F::ONE);
            row
        };
        (0..self.len).map(row).collect()
    }

    fn server(&self, attempt: Option<u32>) -> Self {
        let of_attempt = |link: &LinkUse| attempt.is_none_or(|attempt| link.attempt == attempt);
        let messages = self.messages.iter().filter(|message| of_attempt(&message.link)).cloned().collect();
        Self { messages, ..self.clone() }
    }
}

fn stacked<F: Field>(rows: &[Vec<F>], columns: usize) -> DMatrix<F> {
    DMatrix::from_fn(rows.len(), columns, |i, j| rows[i][j])
}

/// Symbols that a view whose combinations without keys are `bare` tells about each client alone, per
/// coordinate of its input: the ranks with and without the columns of a client differ.
fn about<F: Field>(bare: &[Vec<F>], clients: usize, len: usize) -> Vec<f64> {
    let without = |k: usize| {
        let kept: Vec<usize> = (0..clients * len).filter(|j| j / len != k).collect();
        rank(&DMatrix::from_fn(bare.len(), kept.len(), |i, j| bare[i][kept[j]]))
    };
    (0..clients).map(|k| (bare.len() - without(k)) as f64 / len as f64).collect()
}

impl<F: Field> ExactViews for Views<F> {
    fn clients(&self) -> usize {
        self.clients
    }

    fn symbol_bits(&self) -> f64 {
        (F::ORDER as f64).log2()
    }

    fn included(&self) -> Vec<u16> {
        Self::included(self)
    }

    fn has_sum(&self) -> bool {
        self.decoded.is_sum()
    }

    fn links(&self) -> Vec<(LinkUse, bool)> {
        self.messages.iter().map(|message| (message.link, message.delivered)).collect()
    }

    fn about(&self, coalition: &Coalition) -> Vec<f64> {
        let view = View::of(self, coalition.clone());
        about(&keyless(&view.rows, self.clients, self.len), self.clients, self.len)
    }

    fn exposed(&self, coalition: &Coalition) -> Exact {
        let (len, columns) = (self.len, self.clients * self.len);
        let view = View::of(self, coalition.clone());
        let bare = keyless(&view.rows, self.clients, len);
        let honest: Vec<usize> = view.honest().collect();
        let of = |k: usize| k * len..(k + 1) * len;

        // Keys reach what moves, and so hide it, where no combination without keys moves.
        let alone = |k: usize| of(k).all(|j| bare.iter().all(|row| row[j] == F::ZERO));
        let hidden: Vec<bool> = (0..self.clients).map(alone).collect();
        let included = Self::included(self);
        let of_sum = |k: usize| included.contains(&(k as u16));
        let together = |j: usize, l: usize| bare.iter().all(|row| row[j] == row[l]);
        let hidden_beyond_sum = (0..self.clients)
            .map(|k| {
                let mut others = honest.iter().copied().filter(|&l| l != k && of_sum(l));
                // With nobody to pair it with, the sum is the input itself.
                let alone = view.summed() == [k];
                match of_sum(k) && !alone {
                    false => hidden[k],
                    true => others.all(|l| of(k).zip(of(l)).all(|(j, l)| together(j, l))),
                }
            })
            .collect();

        let own = (0..self.clients).filter(|&k| view.knows(k)).flat_map(of).map(|j| {
            let mut row = vec![F::ZERO; columns];
            row[j] = F::ONE;
            row
        });
        let own: Vec<Vec<F>> = own.collect();
        let known = Echelon::of(&stacked(&[bare.clone(), own.clone()].concat(), columns));
        let sum = self.sums().iter().all(|row| known.reduce(row).iter().all(|&x| x == F::ZERO));
        let allowed = if coalition.parties.is_empty() { own } else { [own, self.sums()].concat() };
        let allowed = Echelon::of(&stacked(&allowed, columns));
        let shown: Vec<Vec<F>> = known.rows.row_iter().map(|row| row.iter().copied().collect()).collect();
        let rest: Vec<Vec<F>> = shown.iter().map(|row| allowed.reduce(row)).collect();
        let beyond = Echelon::of(&stacked(&rest, columns));
        let single = (0..columns).find(|&j| {
            let mut unit = vec![F::ZERO; columns];
            unit[j] = F::ONE;
            honest.contains(&(j / len)) && known.reduce(&unit).iter().all(|&x| x == F::ZERO)
        });
        let counterexample = (beyond.rank() > 0).then(|| match single {
            Some(j) => Unknown::Input((j / len) as u16, (j % len) as u16).to_string(),
            None => {
                let terms = |row: &[F]| row.iter().filter(|&&c| c != F::ZERO).count();
                let leaks = shown.iter().zip(&rest).filter(|(_, rest)| terms(rest) > 0).map(|(row, _)| row);
                leaks.min_by_key(|row| terms(row)).map_or_else(String::new, |row| combination(row, len))
            }
        });
        Exact {
            about: about(&bare, self.clients, len),
            hidden,
            hidden_beyond_sum,
            symbols: beyond.rank(),
            counterexample,
            sum,
            summed: view.summed(),
        }
    }

    fn findings_of_sum(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Decoded::Sum { sum, included, .. } = &self.decoded {
            for (i, form) in sum.iter().enumerate() {
                for k in 0..self.clients as u16 {
                    let want = i64::from(included.contains(&k));
                    let got = form.coefficient(Unknown::Input(k, i as u16));
                    if got != F::integer(want) {
                        let evidence = format!("x{} is decoded {got} times, not {want}", k + 1);
                        findings.push(Finding { defect: Defect::WrongSum, evidence });
                    }
                }
                if let Some((key, c)) = form.terms().find(|(unknown, _)| matches!(unknown, Unknown::Key(..)))
                {
                    let evidence = format!("the sum keeps {c} {key}");
                    findings.push(Finding { defect: Defect::KeysNotZeroSum, evidence });
                }
            }
        }
        findings
    }

    fn is_within(&self, other: &dyn ExactViews) -> bool {
        other.as_any().downcast_ref().is_some_and(|other| is_within(self, other))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.findings_of_sum();
        let server = Coalition::of([PartyId::Server]);
        if let Some(found) = self.exposed(&server).counterexample {
            let attempts: BTreeSet<u32> = self.messages.iter().map(|message| message.link.attempt).collect();
            let sound = |&attempt: &u32| self.server(Some(attempt)).exposed(&server).symbols == 0;
            findings.push(if attempts.len() > 1 && attempts.iter().all(sound) {
                let evidence = format!("every attempt is sound, all together give the server {found}");
                Finding { defect: Defect::TwoDecodings, evidence }
            } else {
                let evidence = format!("the server determines {found}");
                Finding { defect: Defect::BeyondSum, evidence }
            });
        }
        findings
    }

    fn keys(&self) -> BTreeSet<Unknown> {
        let forms = self.messages.iter().flat_map(|message| &message.forms);
        let unknowns = forms.flat_map(LinearForm::terms).map(|(unknown, _)| unknown);
        unknowns.filter(|unknown| matches!(unknown, Unknown::Key(..))).collect()
    }
}

/// `x1 − 2 x2`.
fn combination<F: Field>(row: &[F], len: usize) -> String {
    let mut text = String::new();
    for (j, c) in row.iter().enumerate().filter(|(_, c)| **c != F::ZERO) {
        let c = c.to_string();
        // A sum of powers of α keeps its signs.
        let (negative, size) = match c.strip_prefix('−') {
            _ if c.contains(' ') => (false, format!("({c})")),
            Some(size) => (true, size.to_owned()),
            None => (false, c),
        };
        text += match (text.is_empty(), negative) {
            (true, true) => "−",
            (true, false) => "",
            (false, true) => " − ",
            (false, false) => " + ",
        };
        if size != "1" {
            text += &format!("{size} ");
        }
        text += &Unknown::Input((j / len) as u16, (j % len) as u16).to_string();
    }
    text
}

/// The exact analogue of what the other measures give: LMIP in nats per coordinate for uniform inputs, and
/// the distances of [`super::rank`], which are 0 or infinite.
pub(crate) fn measures(views: &dyn ExactViews, exact: &Exact) -> Vec<(f64, [f64; 2])> {
    let nats = views.symbol_bits() * std::f64::consts::LN_2;
    let distance = |hidden: bool| if hidden { 0.0 } else { f64::INFINITY };
    (0..views.clients())
        .map(|k| {
            let distances = [exact.hidden[k], exact.hidden_beyond_sum[k]].map(distance);
            (exact.about[k] * nats, distances)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::field::Small;
    use crate::algebra::{KeyStream, Scalar, Symbol};
    use crate::message::Observed;
    use crate::seed::Seed;
    use rand::RngExt;

    type F7 = Small<7>;

    /// Σ c x_k(i) + Σ c · key, from (k, i, c) and (key, c).
    fn form(inputs: &[(u16, u16, i64)], keys: &[(u16, i64)]) -> LinearForm<F7> {
        let key = |a| Unknown::Key(KeyStream { purpose: "mask", round: 1, a, b: a }, 0);
        let mut sum = [LinearForm::zero()];
        let inputs = inputs.iter().map(|&(k, i, c)| (Unknown::Input(k, i), c));
        for (unknown, c) in inputs.chain(keys.iter().map(|&(a, c)| (key(a), c))) {
            LinearForm::axpy(&mut sum, F7::integer(c), &[LinearForm::unknown(unknown)]);
        }
        let [sum] = sum;
        sum
    }

    /// Three clients with inputs of `len` symbols; each row is a message to the server.
    fn views(len: usize, rows: Vec<LinearForm<F7>>, included: Option<Vec<u16>>) -> Views<F7> {
        let message = |(k, form)| Observed {
            link: LinkUse {
                round: 1,
                attempt: 0,
                transfer: 0,
                from: PartyId::Client(k),
                to: PartyId::Server,
                bytes: 1,
            },
            delivered: true,
            forms: vec![form],
        };
        let decoded = included.map_or(Decoded::lost(), |included| Decoded::exact(Vec::new(), included));
        let messages = (0..).zip(rows).map(message).collect();
        Views { clients: 3, len, holds: Vec::new(), messages, keys: Vec::new(), announced: None, decoded }
    }

    #[test]
    fn masks_of_sum_zero_show_the_sum_and_nothing_else() {
        let rows = vec![
            form(&[(0, 0, 1)], &[(0, 1)]),
            form(&[(1, 0, 1)], &[(1, 1)]),
            form(&[(2, 0, 1)], &[(0, -1), (1, -1)]),
        ];
        let server = views(1, rows.clone(), None).exposed(&Coalition::of([PartyId::Server]));
        assert_eq!((server.symbols, server.sum, server.counterexample), (0, true, None));
        assert_eq!(server.about, [0.0; 3], "a uniform sum says nothing about one summand");
        assert_eq!((server.hidden, server.hidden_beyond_sum), (vec![false; 3], vec![true; 3]));
        // With client 2 the server knows x1 + x3: that is the sum less what it holds.
        let pair =
            views(1, rows.clone(), None).exposed(&Coalition::of([PartyId::Server, PartyId::Client(1)]));
        assert_eq!((pair.symbols, pair.sum), (0, true));
        // To an eavesdropper even the sum is a leak.
        let links = (0..3).map(|k| (PartyId::Client(k), PartyId::Server)).collect();
        let outside = views(1, rows, None).exposed(&Coalition { parties: Vec::new(), links });
        assert_eq!((outside.symbols, outside.counterexample.unwrap().as_str()), (1, "x1 + x2 + x3"));
    }

    #[test]
    fn leaks_are_counted_and_named() {
        let server = Coalition::of([PartyId::Server]);
        // Over F_7, 4 · (2 x1 + u) − (x2 + 4 u) = x1 − x2.
        let rows = vec![form(&[(0, 0, 2)], &[(0, 1)]), form(&[(1, 0, 1)], &[(0, 4)])];
        let found = views(1, rows.clone(), None).exposed(&server);
        assert_eq!((found.symbols, found.counterexample.as_deref()), (1, Some("x1 − x2")));
        // Together with the sum it gives 2 x1 + x3, one symbol, and no single input.
        let rows = [rows, vec![form(&[(0, 0, 1), (1, 0, 1), (2, 0, 1)], &[])]].concat();
        let found = views(1, rows.clone(), None).exposed(&server);
        assert_eq!((found.symbols, found.sum), (1, true));
        // The sum of clients 1 and 3 only is allowed: x2 is a leak of its own.
        let found = views(1, vec![form(&[(1, 0, 3)], &[])], Some(vec![0, 2])).exposed(&server);
        assert_eq!((found.symbols, found.counterexample.as_deref()), (1, Some("x2")));
        assert_eq!((found.about[1], found.hidden_beyond_sum[1]), (1.0, false));
    }

    #[test]
    fn inputs_of_several_symbols() {
        let server = Coalition::of([PartyId::Server]);
        // One symbol of two is in the clear.
        let rows = vec![form(&[(0, 1, 1)], &[]), form(&[(0, 0, 1)], &[(0, 1)])];
        let found = views(2, rows, None).exposed(&server);
        assert_eq!((found.symbols, found.counterexample.as_deref()), (1, Some("x1(2)")));
        assert_eq!(found.about, [0.5, 0.0, 0.0]);
    }

    /// I(x_k; view) = rank [A, B] − rank [A without x_k, B] for uniform inputs.
    #[test]
    fn what_is_learned_of_a_client_is_a_difference_of_ranks() {
        let server = Coalition::of([PartyId::Server]);
        let (mut rng, mut seen) = (Seed::new(1).rng(), BTreeSet::new());
        for _ in 0..300 {
            let mut entry = || if rng.random_bool(0.75) { 0 } else { rng.random_range(1..7) };
            let rows: Vec<_> = (0..5)
                .map(|_| {
                    let inputs: Vec<_> = (0..6).map(|j| (j / 2, j % 2, entry())).collect();
                    form(&inputs, &[(0, entry()), (1, entry())])
                })
                .collect();
            let views = views(2, rows, None);
            let (a, b) = View::of(&views, server.clone()).matrices();
            let of = |kept: &dyn Fn(usize) -> bool| {
                let columns: Vec<_> = (0..6).filter(|&j| kept(j)).map(|j| a.column(j)).collect();
                let columns: Vec<_> = columns.into_iter().chain(b.column_iter()).collect();
                rank(&DMatrix::from_columns(&columns))
            };
            let want: Vec<f64> = (0..3).map(|k| (of(&|_| true) - of(&|j| j / 2 != k)) as f64 / 2.0).collect();
            assert_eq!(views.about(&server), want);
            seen.extend(want.iter().map(|about| (2.0 * about) as usize));
        }
        assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    }
}
