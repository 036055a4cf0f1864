//! Exact leakage: combinations of inputs that a view determines whatever the keys are, counted by rank.
//!
//! A view is V = A W + B K with inputs W and keys K. With N a basis of the left kernel of B, the rows of N·A
//! are the combinations of inputs that are seen without any key. Beyond what is allowed, C·W (the sum, and
//! what the coalition holds itself), the view determines
//!
//! ```text
//! rank [[A, B], [C, 0]] − rank B − rank C
//! ```
//!
//! field symbols (the symbols leaked for uniform keys over a finite field; over the reals what remains for
//! ever stronger keys).

use nalgebra::{DMatrix, RowDVector};

use super::SHIFT_TOLERANCE;
use super::split::{Split, is_hidden, spanned};
use super::view::View;
use crate::coding::singular_triples;
use crate::error::Result;

/// What a view determines of the inputs, free of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Determined {
    /// Independent combinations beyond what is allowed, in reduced form; M coefficients each, the largest
    /// being 1.
    pub combinations: Vec<Vec<f64>>,
    /// Clients whose own input is determined, of those outside the coalition.
    pub inputs: Vec<usize>,
    /// Whether the sum over the included clients, less what the coalition holds of it, is determined.
    pub sum: bool,
}

impl Determined {
    /// Analyses a view. Allowed are the colluders' inputs and, unless nobody but an eavesdropper looks on,
    /// the sum over the included clients: the new global model shows it to every party.
    ///
    /// # Errors
    /// A coefficient that is not finite.
    pub fn of(view: &View) -> Result<Self> {
        Ok(Self::with(view, &Split::of(&view.rows, view.clients)?))
    }

    pub(crate) fn with(view: &View, split: &Split) -> Self {
        let clients = view.clients;
        let mut own = split.bare.clone();
        for k in (0..clients).filter(|&k| view.knows(k)) {
            own.column_mut(k).fill(0.0);
        }
        let summed = view.summed();
        let over = |members: &[usize]| {
            let mut row = RowDVector::zeros(clients);
            members.iter().for_each(|&k| row[k] = 1.0);
            row
        };
        let ones = over(&summed);
        let direction = &ones / ones.norm();
        let (mut beyond, mut shown) = (own.clone(), 0.0f64);
        if !summed.is_empty() {
            for mut row in beyond.row_iter_mut() {
                let along = row.dot(&direction);
                shown = shown.hypot(along);
                row -= &direction * along;
            }
        }
        let allowed = !view.coalition.parties.is_empty() && !summed.is_empty();
        // All but the sum of several is rounding: what of it is in the row space turns that by less than
        // SUM_TOLERANCE.
        if summed.len() > 1 && allowed && is_hidden(&beyond) && shown > SUM_SHOWN {
            return Self { combinations: Vec::new(), inputs: Vec::new(), sum: true };
        }
        let seen = row_space(&own);
        let sum = !summed.is_empty() && spanned(&ones, seen.iter());
        let inputs = view.honest().filter(|&k| spanned(&over(&[k]), seen.iter())).collect();
        Self { combinations: reduced(if allowed { row_space(&beyond) } else { seen }), inputs, sum }
    }

    /// What leaked with the fewest inputs, for people: `x1`, `x1 − x2`. `None` when nothing leaked beyond
    /// what is allowed.
    #[must_use]
    pub fn counterexample(&self) -> Option<String> {
        if let (Some(k), false) = (self.inputs.first(), self.combinations.is_empty()) {
            return Some(format!("x{}", k + 1));
        }
        let terms = |row: &&Vec<f64>| row.iter().filter(|c| c.abs() > PRINTED).count();
        self.combinations.iter().min_by_key(terms).map(|row| combination(row))
    }
}

/// A view in which the sum is longer than this shows the sum, where everything else is rounding.
const SUM_SHOWN: f64 = 1e-2;

/// Coefficients below this are rounding and not printed.
const PRINTED: f64 = 1e-6;

/// An orthonormal basis of the span of rows whose largest coefficient was near 1, without directions that are
/// rounding.
fn row_space(matrix: &DMatrix<f64>) -> Vec<RowDVector<f64>> {
    if matrix.is_empty() || is_hidden(matrix) {
        return Vec::new();
    }
    let triples = singular_triples(matrix).into_iter();
    triples.filter(|(sigma, ..)| *sigma > SHIFT_TOLERANCE).map(|(_, _, right)| right.transpose()).collect()
}

/// Gauss–Jordan with full pivoting: every row gets coefficient 1 at a place where all others have 0.
fn reduced(basis: Vec<RowDVector<f64>>) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = basis.into_iter().map(|row| row.iter().copied().collect()).collect();
    for i in 0..rows.len() {
        let largest = |row: &Vec<f64>| row.iter().map(|c| c.abs()).fold(0.0, f64::max);
        let Some(best) = (i..rows.len()).max_by(|&p, &q| largest(&rows[p]).total_cmp(&largest(&rows[q])))
        else {
            break;
        };
        rows.swap(i, best);
        let size = largest(&rows[i]);
        let Some(pivot) = rows[i].iter().position(|c| c.abs() >= size) else { break };
        let by = rows[i][pivot];
        rows[i].iter_mut().for_each(|c| *c /= by);
        let chosen = rows[i].clone();
        for (j, row) in rows.iter_mut().enumerate() {
            if j != i {
                let factor = row[pivot];
                row.iter_mut().zip(&chosen).for_each(|(c, p)| *c -= factor * p);
            }
        }
    }
    for row in &mut rows {
        let by =
            row.iter().copied().fold(0.0f64, |best, c| if c.abs() > best.abs() + PRINTED { c } else { best });
        row.iter_mut().for_each(|c| *c /= by);
    }
    rows
}

/// `x1 − 0.5 x2`.
fn combination(row: &[f64]) -> String {
    let mut text = String::new();
    for (k, c) in row.iter().enumerate().filter(|(_, c)| c.abs() > PRINTED) {
        let sign = match (text.is_empty(), *c < 0.0) {
            (true, true) => "−",
            (true, false) => "",
            (false, true) => " − ",
            (false, false) => " + ",
        };
        let size = c.abs();
        let factor = if (size - 1.0).abs() < PRINTED { String::new() } else { format!("{size:.4} ") };
        text += &format!("{sign}{factor}x{}", k + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use nalgebra::DVector;

    use super::*;
    use crate::algebra::{KeyStream, LinearForm, Symbol, Unknown};
    use crate::message::PartyId;
    use crate::privacy::split::KeySpace;
    use crate::privacy::view::Coalition;

    /// Σ c x_k + Σ c · key, from pairs (k, c).
    fn form(inputs: &[(u16, f64)], keys: &[(u16, f64)]) -> LinearForm {
        let key = |a| Unknown::Key(KeyStream { purpose: "mask", round: 1, a, b: a }, 0);
        let mut sum = [LinearForm::zero()];
        for &(k, c) in inputs {
            LinearForm::axpy(&mut sum, c, &[LinearForm::unknown(Unknown::Input(k, 0))]);
        }
        for &(k, c) in keys {
            LinearForm::axpy(&mut sum, c, &[LinearForm::unknown(key(k))]);
        }
        let [sum] = sum;
        sum
    }

    fn determined(parties: &[PartyId], rows: Vec<LinearForm>) -> Determined {
        let coalition = Coalition::of(parties.iter().copied());
        let client = |party: &PartyId| if let PartyId::Client(k) = party { Some(*k) } else { None };
        let known = parties.iter().filter_map(client).collect();
        Determined::of(&View { clients: 3, len: 1, coalition, known, included: vec![0, 1, 2], rows }).unwrap()
    }

    #[test]
    fn a_key_used_twice_shows_the_difference() {
        let rows = vec![form(&[(0, 1.0)], &[(0, 5.0)]), form(&[(1, 0.5)], &[(0, 5.0)])];
        let found = determined(&[], rows.clone());
        assert_eq!(found.counterexample().unwrap(), "x1 − 0.5000 x2");
        assert_eq!((found.combinations.len(), found.sum, found.inputs.len()), (1, false, 0));
        // A colluder's own update turns it into the other one.
        let rows = [rows, vec![form(&[(1, 1.0)], &[])]].concat();
        let found = determined(&[PartyId::Client(1)], rows);
        assert_eq!(found.counterexample().unwrap(), "x1");
    }

    #[test]
    fn the_sum_is_allowed_to_parties_only() {
        let rows = || {
            vec![
                form(&[(0, 1.0)], &[(0, 1.0)]),
                form(&[(1, 1.0)], &[(1, 1.0)]),
                form(&[(2, 1.0)], &[(0, -1.0), (1, -1.0)]),
            ]
        };
        let server = determined(&[PartyId::Server], rows());
        assert_eq!((server.combinations.len(), server.sum), (0, true));
        let eavesdropper = determined(&[], rows());
        assert_eq!(eavesdropper.counterexample().unwrap(), "x1 + x2 + x3");
    }

    #[test]
    fn the_length_of_a_shift_is_counted_in_keys() {
        // Two rows with keys 3 and 4 times a draw of their own: the shift (3, 4) is (1, 1) draws long.
        let keys = KeySpace::of(&DMatrix::from_row_slice(2, 2, &[3.0, 0.0, 0.0, 4.0]));
        assert!((keys.distance(&DVector::from_vec(vec![3.0, 4.0])) - 2f64.sqrt()).abs() < 1e-12);
        let flat = KeySpace::of(&DMatrix::from_row_slice(2, 1, &[1.0, 1.0]));
        assert_eq!(flat.distance(&DVector::from_vec(vec![1.0, -1.0])), f64::INFINITY);
        assert_eq!(flat.distance(&DVector::zeros(2)), 0.0);
    }
}
