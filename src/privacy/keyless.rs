//! What rows over a finite field show of the inputs without any key.
//!
//! Formal messages are sparse: a share holds a secret and the few draws of its polynomial. Keys are therefore
//! eliminated one by one, the rarest first. A key that one row alone holds can be cancelled by nothing, so
//! that its row goes; most rows of a view go that way.

use std::collections::{BTreeSet, HashMap};

use nalgebra::DMatrix;

use crate::algebra::field::Field;
use crate::algebra::linear::Echelon;
use crate::algebra::{LinearForm, Unknown};

/// A row by ascending columns: inputs, and keys behind them.
type Row<F> = Vec<(usize, F)>;

/// The rows that are left, and who holds which key.
struct Elimination<F> {
    inputs: usize,
    rows: Vec<Row<F>>,
    /// The rows that hold a key.
    holders: Vec<BTreeSet<usize>>,
    /// (number of rows that hold it, key), without those that nobody holds.
    rarest: BTreeSet<(usize, usize)>,
}

/// A basis, in reduced row echelon form, of the combinations of inputs that `rows` show without any key:
/// coordinates of `clients` inputs of `len` symbols each, client by client.
pub(super) fn keyless<F: Field>(rows: &[LinearForm<F>], clients: usize, len: usize) -> Vec<Vec<F>> {
    let inputs = clients * len;
    let mut left = Elimination::of(rows, inputs, len);
    while let Some((_, key)) = left.rarest.pop_first() {
        left.eliminate(key);
    }
    let rows: Vec<&Row<F>> = left.rows.iter().filter(|row| !row.is_empty()).collect();
    let mut dense = DMatrix::from_element(rows.len(), inputs, F::ZERO);
    for (i, row) in rows.into_iter().enumerate() {
        row.iter().for_each(|&(column, c)| dense[(i, column)] = c);
    }
    Echelon::of(&dense).rows.row_iter().map(|row| row.iter().copied().collect()).collect()
}

impl<F: Field> Elimination<F> {
    fn of(forms: &[LinearForm<F>], inputs: usize, len: usize) -> Self {
        let mut names: HashMap<Unknown, usize> = HashMap::new();
        let mut row = |form: &LinearForm<F>| {
            let mut row: Row<F> = form
                .terms()
                .map(|(unknown, c)| match unknown {
                    Unknown::Input(k, place) => (usize::from(k) * len + usize::from(place), c),
                    Unknown::Key(..) => {
                        let next = inputs + names.len();
                        (*names.entry(unknown).or_insert(next), c)
                    }
                })
                .collect();
            row.sort_unstable_by_key(|(column, _)| *column);
            row
        };
        let rows: Vec<Row<F>> = forms.iter().map(&mut row).collect();
        let mut holders = vec![BTreeSet::new(); names.len()];
        for (i, row) in rows.iter().enumerate() {
            for key in keys(row, inputs) {
                holders[key].insert(i);
            }
        }
        let rarest = holders.iter().enumerate().map(|(key, rows)| (rows.len(), key)).collect();
        Self { inputs, rows, holders, rarest }
    }

    /// Takes out a key with the shortest row that holds it; the row is used up.
    fn eliminate(&mut self, key: usize) {
        let rows = std::mem::take(&mut self.holders[key]);
        let Some(&at) = rows.iter().min_by_key(|&&i| self.rows[i].len()) else { return };
        let pivot = std::mem::take(&mut self.rows[at]);
        let column = self.inputs + key;
        let inverse = coefficient(&pivot, column).inverse().unwrap_or(F::ONE);
        for other in keys(&pivot, self.inputs).filter(|other| *other != key) {
            self.change(other, |holders| holders.remove(&at));
        }
        for i in rows.into_iter().filter(|&i| i != at) {
            let factor = -(coefficient(&self.rows[i], column) * inverse);
            let sum = sum(&self.rows[i], factor, &pivot);
            for other in keys(&pivot, self.inputs).filter(|other| *other != key) {
                let holds = coefficient(&sum, self.inputs + other) != F::ZERO;
                self.change(other, |holders| if holds { holders.insert(i) } else { holders.remove(&i) });
            }
            self.rows[i] = sum;
        }
    }

    fn change(&mut self, key: usize, by: impl FnOnce(&mut BTreeSet<usize>) -> bool) {
        let holders = &mut self.holders[key];
        let before = holders.len();
        if by(holders) {
            self.rarest.remove(&(before, key));
            if !holders.is_empty() {
                self.rarest.insert((holders.len(), key));
            }
        }
    }
}

fn keys<F>(row: &Row<F>, inputs: usize) -> impl Iterator<Item = usize> + '_ {
    let first = row.partition_point(|(column, _)| *column < inputs);
    row[first..].iter().map(move |(column, _)| column - inputs)
}

fn coefficient<F: Field>(row: &Row<F>, column: usize) -> F {
    row.binary_search_by_key(&column, |(column, _)| *column).map_or(F::ZERO, |place| row[place].1)
}

/// `a + factor · b`.
fn sum<F: Field>(a: &Row<F>, factor: F, b: &Row<F>) -> Row<F> {
    let mut sum = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let (column, c) = match (a.peek(), b.peek()) {
            (None, None) => return sum,
            (Some(&&(x, c)), Some((y, d))) if x == *y => {
                a.next();
                b.next();
                (x, c + factor * *d)
            }
            (Some(&&(x, c)), other) if other.is_none_or(|(y, _)| x < *y) => {
                a.next();
                (x, c)
            }
            (_, Some(&&(y, d))) => {
                b.next();
                (y, factor * d)
            }
            (Some(_), None) => unreachable!("a row comes first where there is no other"),
        };
        if c != F::ZERO {
            sum.push((column, c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::field::Small;
    use crate::algebra::{KeyStream, Scalar, Symbol};
    use crate::seed::Seed;
    use rand::RngExt;

    type F7 = Small<7>;

    /// The same by dense elimination: what is left of [B, A] once the keys are pivots.
    fn dense(rows: &[Vec<i64>], keys: usize) -> Vec<Vec<F7>> {
        let columns = rows.first().map_or(0, Vec::len);
        let matrix = DMatrix::from_fn(rows.len(), columns, |i, j| F7::integer(rows[i][j]));
        let echelon = Echelon::of(&matrix);
        let free = echelon.pivots.iter().position(|&pivot| pivot >= keys).unwrap_or(echelon.rank());
        let row = |i| echelon.rows.row(i).iter().skip(keys).copied().collect();
        (free..echelon.rank()).map(row).collect()
    }

    #[test]
    fn sparse_and_dense_elimination_agree() {
        let (mut rng, mut ranks) = (Seed::new(5).rng(), BTreeSet::new());
        for round in 0..400 {
            let (n, keys, inputs) = (rng.random_range(1..14), rng.random_range(0..9), 6);
            let zeros = f64::from(round % 4) * 0.2 + 0.2;
            let mut entry = || if rng.random_bool(zeros) { 0 } else { rng.random_range(0..7) };
            let rows: Vec<Vec<i64>> = (0..n).map(|_| (0..keys + inputs).map(|_| entry()).collect()).collect();
            let form = |row: &Vec<i64>| {
                let mut form = [LinearForm::zero()];
                for (j, &c) in row.iter().enumerate() {
                    let unknown = match j.checked_sub(keys) {
                        Some(input) => Unknown::Input((input / 2) as u16, (input % 2) as u16),
                        None => {
                            let a = j as u16;
                            Unknown::Key(KeyStream { purpose: "mask", round: 1, a, b: a }, 0)
                        }
                    };
                    LinearForm::axpy(&mut form, F7::integer(c), &[LinearForm::unknown(unknown)]);
                }
                let [form] = form;
                form
            };
            let forms: Vec<LinearForm<F7>> = rows.iter().map(form).collect();
            let found = keyless(&forms, 3, 2);
            assert_eq!(found, dense(&rows, keys), "{rows:?}");
            ranks.insert(found.len());
        }
        assert_eq!(ranks, (0..=6).collect());
    }
}
