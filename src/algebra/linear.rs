//! Linear algebra over a finite field, by Gaussian elimination: exact, so that ranks and solutions need no
//! tolerance.

use nalgebra::DMatrix;

use super::field::{Field, Prime};

/// A matrix in reduced row echelon form.
#[derive(Clone, Debug)]
pub struct Echelon<F: Field> {
    /// The non-zero rows; row i has 1 in column `pivots[i]` and 0 in the other pivot columns.
    pub rows: DMatrix<F>,
    /// Ascending.
    pub pivots: Vec<usize>,
}

impl<F: Field> Echelon<F> {
    /// Of any matrix; rows and columns may be 0.
    #[must_use]
    pub fn of(matrix: &DMatrix<F>) -> Self {
        let (n, columns) = matrix.shape();
        // Row-major: elimination works on rows.
        let mut rows: Vec<Vec<F>> = matrix.row_iter().map(|row| row.iter().copied().collect()).collect();
        let mut pivots = Vec::new();
        for column in 0..columns {
            let rank = pivots.len();
            if rank == n {
                break;
            }
            let Some(at) = (rank..n).find(|&i| rows[i][column] != F::ZERO) else { continue };
            rows.swap(rank, at);
            let mut pivot = std::mem::take(&mut rows[rank]);
            if let Some(inverse) = pivot[column].inverse() {
                F::scale(&mut pivot[column..], inverse);
            }
            for row in &mut rows {
                if let Some(&factor) = row.get(column).filter(|&&factor| factor != F::ZERO) {
                    F::axpy(&mut row[column..], -factor, &pivot[column..]);
                }
            }
            rows[rank] = pivot;
            pivots.push(column);
        }
        let rank = pivots.len();
        Self { rows: DMatrix::from_fn(rank, columns, |i, j| rows[i][j]), pivots }
    }

    /// The rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.pivots.len()
    }

    /// What is left of `row` when the row space is taken out: 0 in all pivot columns; all 0 when `row` lies
    /// in it.
    #[must_use]
    pub fn reduce(&self, row: &[F]) -> Vec<F> {
        let mut rest = row.to_vec();
        for (i, &pivot) in self.pivots.iter().enumerate() {
            let factor = rest[pivot];
            if factor != F::ZERO {
                rest.iter_mut().zip(self.rows.row(i).iter()).for_each(|(r, &b)| *r = *r - factor * b);
            }
        }
        rest
    }
}

/// The rank of a matrix.
#[must_use]
pub fn rank<F: Field>(matrix: &DMatrix<F>) -> usize {
    Echelon::of(matrix).rank()
}

/// Some a with a · `matrix` = `target`, or `None` if `target` is not in the row span. Unused rows have
/// weight 0.
///
/// # Panics
/// If `target` does not have as many entries as `matrix` has columns.
#[must_use]
pub fn solve_left<F: Field>(matrix: &DMatrix<F>, target: &[F]) -> Option<Vec<F>> {
    let (n, columns) = matrix.shape();
    assert_eq!(target.len(), columns, "one entry for each column");
    // Bᵀ a = target, as rows [Bᵀ | target].
    let system = DMatrix::from_fn(columns, n + 1, |k, i| if i < n { matrix[(i, k)] } else { target[k] });
    let echelon = Echelon::of(&system);
    if echelon.pivots.last() == Some(&n) {
        return None;
    }
    let mut a = vec![F::ZERO; n];
    for (i, &pivot) in echelon.pivots.iter().enumerate() {
        a[pivot] = echelon.rows[(i, n)];
    }
    Some(a)
}

/// A basis of {x : `matrix` · x = 0}, one vector a row.
#[must_use]
pub fn null_space<F: Field>(matrix: &DMatrix<F>) -> DMatrix<F> {
    let echelon = Echelon::of(matrix);
    let columns = matrix.ncols();
    let free: Vec<usize> = (0..columns).filter(|j| echelon.pivots.binary_search(j).is_err()).collect();
    let mut basis = DMatrix::from_element(free.len(), columns, F::ZERO);
    for (row, &j) in free.iter().enumerate() {
        basis[(row, j)] = F::ONE;
        for (i, &pivot) in echelon.pivots.iter().enumerate() {
            basis[(row, pivot)] = -echelon.rows[(i, j)];
        }
    }
    basis
}

/// `matrix`⁻¹, or `None` if it is singular.
///
/// # Panics
/// If `matrix` is not square.
#[must_use]
pub fn inverse<F: Field>(matrix: &DMatrix<F>) -> Option<DMatrix<F>> {
    let n = matrix.nrows();
    assert!(matrix.is_square(), "only square matrices have inverses");
    let unit = |i, j| if i == j { F::ONE } else { F::ZERO };
    let system = DMatrix::from_fn(n, 2 * n, |i, j| if j < n { matrix[(i, j)] } else { unit(i, j - n) });
    let echelon = Echelon::of(&system);
    (echelon.rank() == n && echelon.pivots.iter().copied().eq(0..n))
        .then(|| echelon.rows.columns(n, n).into_owned())
}

/// The Cauchy matrix 1/(α_i − β_j) with α_i = i and β_j = `rows` + j: every square sub-matrix is invertible.
/// `None` when the field has fewer than `rows` + `columns` elements.
#[must_use]
pub fn cauchy<F: Prime>(rows: usize, columns: usize) -> Option<DMatrix<F>> {
    ((rows + columns) as u64 <= F::MODULUS).then(|| {
        let entry = |i, j| F::integer(i as i64 - (rows + j) as i64).inverse();
        DMatrix::from_fn(rows, columns, |i, j| entry(i, j).expect("the points are distinct"))
    })
}

/// `a · b` for a row vector `a`.
///
/// # Panics
/// If `a` does not have as many entries as `b` has rows.
#[must_use]
pub fn row_times<F: Field>(a: &[F], b: &DMatrix<F>) -> Vec<F> {
    assert_eq!(a.len(), b.nrows(), "one entry for each row");
    b.column_iter()
        .map(|column| a.iter().zip(column.iter()).fold(F::ZERO, |sum, (&a, &b)| sum + a * b))
        .collect()
}

/// `a · b`.
///
/// # Panics
/// If `a` does not have as many columns as `b` has rows.
#[must_use]
pub fn product<F: Field>(a: &DMatrix<F>, b: &DMatrix<F>) -> DMatrix<F> {
    assert_eq!(a.ncols(), b.nrows(), "one row for each column");
    DMatrix::from_fn(a.nrows(), b.ncols(), |i, j| {
        (0..a.ncols()).fold(F::ZERO, |sum, k| sum + a[(i, k)] * b[(k, j)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::Scalar;
    use crate::algebra::field::{M61, Small};
    use crate::seed::Seed;
    use proptest::prelude::*;

    type F7 = Small<7>;

    fn matrix<F: Prime>(rows: usize, columns: usize, entries: &[i64]) -> DMatrix<F> {
        DMatrix::from_row_iterator(rows, columns, entries.iter().map(|&n| F::integer(n)))
    }

    #[test]
    fn ranks_and_solutions_by_hand() {
        // Over F_7 the third row is 3·first + second: (1 2 3) · 3 + (4 5 6) = (7 11 15) = (0 4 1).
        let m: DMatrix<F7> = matrix(3, 3, &[1, 2, 3, 4, 5, 6, 0, 4, 1]);
        assert_eq!(rank(&m), 2);
        assert_eq!(inverse(&m), None);
        let null = null_space(&m);
        // x = (1, −2, 1): 1 − 4 + 3 = 0, 4 − 10 + 6 = 0, −8 + 1 = −7 = 0.
        assert_eq!(null, matrix(1, 3, &[1, -2, 1]));
        assert_eq!(solve_left(&m, &[1, 2, 4].map(F7::integer)), None);
        let a = solve_left(&m, &[5, 0, 2].map(F7::integer)).unwrap();
        assert_eq!(row_times(&a, &m), [5, 0, 2].map(F7::integer));
        let two: DMatrix<F7> = matrix(2, 2, &[2, 1, 1, 1]);
        assert_eq!(inverse(&two).unwrap(), matrix(2, 2, &[1, -1, -1, 2]));
        assert_eq!(rank::<F7>(&DMatrix::from_element(0, 3, F7::ZERO)), 0);
    }

    /// Every choice of `size` of 0..n.
    fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
        (0u32..1 << n)
            .filter(|bits| bits.count_ones() as usize == size)
            .map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect())
            .collect()
    }

    #[test]
    fn every_square_part_of_a_cauchy_matrix_is_invertible() {
        let c: DMatrix<F7> = cauchy(4, 3).unwrap();
        assert_eq!(c[(0, 0)], F7::integer(-4).inverse().unwrap());
        for size in 1..=3 {
            for rows in subsets(4, size) {
                for columns in subsets(3, size) {
                    assert_eq!(rank(&c.select_rows(&rows).select_columns(&columns)), size);
                }
            }
        }
        assert_eq!(cauchy::<F7>(5, 3), None);
    }

    proptest! {
        #[test]
        fn products_of_random_matrices(n in 1usize..7, k in 1usize..7, seed in any::<u64>()) {
            let mut rng = Seed::new(seed).rng();
            let m = DMatrix::from_fn(n, k, |_, _| F7::uniform(&mut rng));
            let echelon = Echelon::of(&m);
            prop_assert_eq!(rank(&m.transpose()), echelon.rank());
            let null = null_space(&m);
            prop_assert_eq!(null.nrows(), k - echelon.rank());
            for x in null.row_iter() {
                for row in m.row_iter() {
                    let dot = row.iter().zip(x.iter()).fold(F7::ZERO, |sum, (&a, &b)| sum + a * b);
                    prop_assert_eq!(dot, F7::ZERO);
                }
            }
            let weights: Vec<F7> = (0..n).map(|_| F7::uniform(&mut rng)).collect();
            let target = row_times(&weights, &m);
            let a = solve_left(&m, &target).unwrap();
            prop_assert_eq!(row_times(&a, &m), target.clone());
            prop_assert!(echelon.reduce(&target).iter().all(|&x| x == F7::ZERO));
            let square = DMatrix::from_fn(n, n, |_, _| M61::uniform(&mut rng));
            let inverse = inverse(&square).unwrap();
            for i in 0..n {
                let row: Vec<M61> = square.row(i).iter().copied().collect();
                let unit: Vec<M61> = (0..n).map(|j| M61::integer(i64::from(i == j))).collect();
                prop_assert_eq!(row_times(&row, &inverse), unit);
            }
        }
    }
}
