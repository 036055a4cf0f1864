//! Leakage and correctness of a scheme over a prime field, by rank, from formal messages.

use std::collections::BTreeMap;

use nalgebra::DMatrix;
use seccogc::algebra::field::Prime;
use seccogc::algebra::linear::rank;
use seccogc::algebra::{KeyStream, LinearForm, Symbol, Unknown};
use seccogc::keys::{FormalKeys, KeySource};
use seccogc::network::{LinkModel, LinkUse, Node};

/// Links that deliver what the rule says, where everybody takes part.
pub struct Rule<R>(pub R);

impl<R: Fn(LinkUse) -> bool + Send + Sync> LinkModel for Rule<R> {
    fn delivers(&self, LinkUse { round, attempt, transfer, from, to, bytes }: LinkUse<Node>) -> bool {
        let [from, to] = [from, to].map(|node| node.party().expect("a number of the scheme"));
        self.0(LinkUse { round, attempt, transfer, from, to, bytes })
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.5
    }
}

/// Formal keys of which one symbol is the constant 0.
pub struct Without(pub KeyStream, pub u16);

impl<F: Prime> KeySource<LinearForm<F>> for Without {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm<F>]) {
        FormalKeys.fill(name, chunk, out);
        if name == self.0 {
            out[usize::from(self.1)] = LinearForm::zero();
        }
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm<F>]) {
        self.fill(name, chunk, out);
    }

    fn coins(&self, _: KeyStream, _: usize, _: &mut [u8]) {}
}

/// rank [[A, B], [C, 0]] − rank B − rank C for a view A W + B K and the allowed C W: the field symbols that
/// leak. Rows that share no unknown with a row that shows an input are independent of the inputs and are left
/// out first.
pub fn leakage<F: Prime>(view: &[LinearForm<F>], allowed: &[LinearForm<F>]) -> usize {
    let rows: Vec<&LinearForm<F>> = view.iter().chain(allowed).collect();
    let mut component: Vec<usize> = (0..rows.len()).collect();
    fn root(component: &mut [usize], mut i: usize) -> usize {
        while component[i] != i {
            component[i] = component[component[i]];
            i = component[i];
        }
        i
    }
    let mut first: BTreeMap<Unknown, usize> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        for (unknown, _) in row.terms() {
            let other = *first.entry(unknown).or_insert(i);
            let (a, b) = (root(&mut component, i), root(&mut component, other));
            component[a] = b;
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..rows.len() {
        parts.entry(root(&mut component, i)).or_default().push(i);
    }
    let is_input = |unknown: Unknown| matches!(unknown, Unknown::Input(..));
    let leak = |part: &Vec<usize>| {
        if !part.iter().any(|&i| rows[i].terms().any(|(unknown, _)| is_input(unknown))) {
            return 0;
        }
        let of = |wanted: &dyn Fn(usize) -> bool, keys_only: bool| {
            let rows: Vec<&LinearForm<F>> = part.iter().filter(|&&i| wanted(i)).map(|&i| rows[i]).collect();
            let mut columns: Vec<Unknown> = rows.iter().flat_map(|row| row.terms()).map(|(u, _)| u).collect();
            columns.retain(|&unknown| !(keys_only && is_input(unknown)));
            columns.sort_unstable();
            columns.dedup();
            let mut matrix = DMatrix::from_element(rows.len(), columns.len(), F::ZERO);
            for (i, row) in rows.iter().enumerate() {
                for (unknown, c) in row.terms() {
                    if let Ok(j) = columns.binary_search(&unknown) {
                        matrix[(i, j)] = c;
                    }
                }
            }
            rank(&matrix)
        };
        let seen = |i: usize| i < view.len();
        of(&|_| true, false) - of(&seen, true) - of(&|i| !seen(i), false)
    };
    parts.values().map(leak).sum()
}

/// The coordinates of client `k`'s input.
pub fn inputs<F: Prime>(k: u16, len: usize) -> Vec<LinearForm<F>> {
    (0..len as u16).map(|i| LinearForm::unknown(Unknown::Input(k, i))).collect()
}

/// The coordinates of the sum over `clients`.
pub fn sum<F: Prime>(clients: &[u16], len: usize) -> Vec<LinearForm<F>> {
    let all: Vec<Vec<LinearForm<F>>> = clients.iter().map(|&k| inputs(k, len)).collect();
    let terms: Vec<_> = all.iter().map(|input| (F::ONE, input.as_slice())).collect();
    LinearForm::combine(len, &terms)
}

/// All sets of `size` of the numbers 0 … n − 1.
pub fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
    let bits = (0usize..1 << n).filter(|bits| bits.count_ones() as usize == size);
    bits.map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect()).collect()
}
