//! Which partial sums received rows determine, when they do not determine the whole one.
//!
//! Σ_{k∈T} x_k is determined if 1_T is in the row span. In a reduced echelon form the rows of such a
//! combination have the weights 0 and 1, which is what it has in their pivot columns; so it is looked for
//! among the sums of some rows. Rows that share no other column than pivots do not disturb each other: each
//! of their connected components has a largest set of its own, and the largest set of all is their union. It
//! contains every single client who is determined, since a unit vector is a component.

use super::Coefficient;

/// Entries up to this size, of rows whose largest entry is 1, are what elimination leaves of 0.
const NEGLIGIBLE: f64 = 1e-9;

/// Choices of rows that are looked at in one component, at most.
pub const CHOICES: u32 = 1 << 16;

/// The largest determined set of clients as disjoint sets, each determined and ascending: one for every
/// connected component of the rows, the largest first; none where nothing is determined. Rows have an entry
/// for every client. Over the reals these are candidates, for which weights are to be found
/// ([`Coefficient::solve`]) and looked at; and in a component of more than [`CHOICES`] choices the largest of
/// those that were looked at is taken.
#[must_use]
pub fn determined<K: Coefficient>(rows: &[Vec<K>]) -> Vec<Vec<usize>> {
    let (rows, pivots) = reduced(rows);
    let mut sets: Vec<Vec<usize>> = components(&rows, &pivots)
        .into_iter()
        .filter_map(|component| {
            let rows: Vec<&[K]> = component.iter().map(|&i| rows[i].as_slice()).collect();
            let pivots: Vec<usize> = component.iter().map(|&i| pivots[i]).collect();
            Search::largest(&rows, &pivots)
        })
        .collect();
    sets.sort_by_key(|set| (usize::MAX - set.len(), set[0]));
    sets
}

/// The rows of a reduced echelon form by complete pivoting, and the pivot column of each: 1 there and 0 in
/// the other rows' pivot columns.
fn reduced<K: Coefficient>(rows: &[Vec<K>]) -> (Vec<Vec<K>>, Vec<usize>) {
    let mut rows = rows.to_vec();
    let mut pivots: Vec<usize> = Vec::new();
    loop {
        let rank = pivots.len();
        let mut best = (0.0, 0, 0);
        for (i, row) in rows.iter().enumerate().skip(rank) {
            for (j, entry) in row.iter().enumerate() {
                // Of equals the first, so that the form does not depend on rounding alone.
                if entry.magnitude() > best.0 {
                    best = (entry.magnitude(), i, j);
                }
            }
        }
        let (size, at, column) = best;
        let inverse = rows.get(at).and_then(|row| row[column].inverse());
        let Some(inverse) = inverse.filter(|_| size > NEGLIGIBLE) else { break };
        rows.swap(rank, at);
        rows[rank].iter_mut().for_each(|entry| *entry = *entry * inverse);
        let pivot = rows[rank].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != rank) {
            let factor = row[column];
            if factor != K::ZERO {
                row.iter_mut().zip(&pivot).for_each(|(entry, by)| *entry = *entry - factor * *by);
                row[column] = K::ZERO;
            }
        }
        pivots.push(column);
    }
    rows.truncate(pivots.len());
    (rows, pivots)
}

/// Whether an entry counts as other than 0.
fn is_there<K: Coefficient>(entry: K) -> bool {
    entry.magnitude() > NEGLIGIBLE
}

/// The rows that are connected by common columns.
fn components<K: Coefficient>(rows: &[Vec<K>], pivots: &[usize]) -> Vec<Vec<usize>> {
    let mut components: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let columns = row.iter().enumerate().filter(|(j, entry)| *j != pivots[i] && is_there(**entry));
        let mut own = (vec![i], columns.map(|(j, _)| j).collect::<Vec<_>>());
        let (joined, apart): (Vec<_>, Vec<_>) =
            components.into_iter().partition(|(_, columns)| columns.iter().any(|j| own.1.contains(j)));
        for (rows, columns) in joined {
            own.0.extend(rows);
            own.1.extend(columns);
        }
        own.0.sort_unstable();
        components = apart;
        components.push(own);
    }
    components.into_iter().map(|(rows, _)| rows).collect()
}

/// A search over the choices of rows of one component.
struct Search<'a, K> {
    rows: &'a [&'a [K]],
    /// The columns that are not pivots and in which some row has an entry, with the last such row.
    columns: Vec<(usize, usize)>,
    /// Sums of the chosen rows in these columns.
    sums: Vec<K>,
    chosen: Vec<bool>,
    left: u32,
    /// Columns and rows of the largest set so far.
    best: Option<(usize, Vec<bool>, Vec<K>)>,
}

impl<'a, K: Coefficient> Search<'a, K> {
    /// The largest set of clients that some of the rows add up to.
    fn largest(rows: &'a [&'a [K]], pivots: &[usize]) -> Option<Vec<usize>> {
        let width = rows.first().map_or(0, |row| row.len());
        let last = |j: usize| rows.iter().rposition(|row| !pivots.contains(&j) && is_there(row[j]));
        let columns: Vec<(usize, usize)> = (0..width).filter_map(|j| Some((j, last(j)?))).collect();
        let sums = vec![K::ZERO; columns.len()];
        let mut search = Self { rows, columns, sums, chosen: Vec::new(), left: CHOICES, best: None };
        search.choose();
        let (_, chosen, sums) = search.best?;
        let of_rows = pivots.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(&pivot, _)| pivot);
        let of_columns =
            search.columns.iter().zip(sums).filter(|(_, sum)| is_there(*sum)).map(|((j, _), _)| *j);
        let mut set: Vec<usize> = of_rows.chain(of_columns).collect();
        set.sort_unstable();
        Some(set)
    }

    /// Tries the next row in the sum, then without.
    fn choose(&mut self) {
        let row = self.chosen.len();
        if row == self.rows.len() {
            let columns = self.sums.iter().filter(|sum| is_there(**sum)).count();
            let size = columns + self.chosen.iter().filter(|chosen| **chosen).count();
            if size > self.best.as_ref().map_or(0, |(size, ..)| *size) {
                self.best = Some((size, self.chosen.clone(), self.sums.clone()));
            }
            return;
        }
        for chosen in [true, false] {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let before = self.sums.clone();
            if chosen {
                for (sum, (j, _)) in self.sums.iter_mut().zip(&self.columns) {
                    *sum = *sum + self.rows[row][*j];
                }
            }
            let is_bit = |sum: K| !is_there(sum) || !is_there(sum - K::ONE);
            let decided = self.columns.iter().zip(&self.sums).filter(|((_, last), _)| *last == row);
            if decided.into_iter().all(|(_, &sum)| is_bit(sum)) {
                self.chosen.push(chosen);
                self.choose();
                self.chosen.pop();
            }
            self.sums = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;
    use rand::RngExt;

    use super::*;
    use crate::algebra::field::{Field, M61, Small};
    use crate::algebra::linear::rank;
    use crate::seed::Seed;

    fn of(rows: &[&[f64]]) -> Vec<Vec<usize>> {
        determined(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn partial_sums_by_hand() {
        // Two groups of a fractional repetition: client 1 alone, and the sum of the second group.
        assert_eq!(of(&[&[1.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 1.0]]), [vec![2, 3], vec![0]]);
        // x₁ + x₂ and x₂ + x₃: either, not both; x₁ − x₃ is no sum.
        assert_eq!(of(&[&[1.0, 1.0, 0.0], &[0.0, 1.0, 1.0]]).concat().len(), 2);
        // With x₂ + x₄ too: x₁ + x₂ and x₂ + x₃ and x₂ + x₄ have nothing larger than one of them.
        assert_eq!(
            of(&[&[1.0, 1.0, 0.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, 1.0, 0.0, 1.0]]).concat().len(),
            2
        );
        // Half of x₁ + 2 x₂ and x₂ make x₁; a third is out of reach.
        assert_eq!(of(&[&[0.5, 1.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.3, 0.6]]).concat(), [0, 1, 2]);
        assert_eq!(of(&[&[0.5, 1.0, 0.0], &[0.0, 1.0, 0.5]]), [[0; 0]; 0]);
        assert_eq!(of(&[]), [[0; 0]; 0]);
        assert_eq!(of(&[&[0.0, 0.0]]), [[0; 0]; 0]);
    }

    /// Against all sets by their ranks, over a field small enough for coincidences and over a large one.
    fn agrees_with_ranks<F: Field + crate::algebra::field::Prime>(seed: u64, entries: u64) -> [usize; 2] {
        let mut rng = Seed::new(seed).rng();
        let (mut found, mut proper) = (0, 0);
        for _ in 0..400 {
            let (n, columns) = (rng.random_range(1..6usize), rng.random_range(2..7usize));
            let mut entry = || {
                if rng.random_bool(0.5) { F::ZERO } else { F::integer(rng.random_range(1..=entries) as i64) }
            };
            let rows: Vec<Vec<F>> = (0..n).map(|_| (0..columns).map(|_| entry()).collect()).collect();
            let of = |rows: &[Vec<F>]| rank(&DMatrix::from_fn(rows.len(), columns, |i, j| rows[i][j]));
            let is_determined = |set: u32| {
                let target = (0..columns).map(|j| F::integer(i64::from(set >> j & 1))).collect();
                of(&rows) == of(&[rows.clone(), vec![target]].concat())
            };
            let largest = (1..1u32 << columns).filter(|&set| is_determined(set)).map(u32::count_ones).max();
            let sets = determined(&rows);
            let all = sets.concat();
            assert_eq!(all.len(), largest.unwrap_or(0) as usize, "{rows:?}: {sets:?}");
            let bits = |set: &[usize]| set.iter().map(|j| 1 << j).sum::<u32>();
            assert!(sets.iter().all(|set| is_determined(bits(set))), "{rows:?}: {sets:?}");
            let singles = (0..columns).filter(|j| is_determined(1 << j));
            assert!(singles.into_iter().all(|j| all.contains(&j)), "{rows:?}: {sets:?}");
            found += usize::from(!all.is_empty());
            proper += usize::from(!all.is_empty() && all.len() < columns);
        }
        [found, proper]
    }

    #[test]
    fn the_largest_sum_is_found_and_holds_every_single_client() {
        for [found, proper] in [agrees_with_ranks::<Small<3>>(1, 2), agrees_with_ranks::<M61>(2, 3)] {
            assert!(found > 150 && proper > 80, "{found} {proper}");
        }
    }
}
