//! Leakage and ε over 40 decades of σ, `update_std` and weights, against exact rational arithmetic.

use num_bigint::{BigInt, BigUint};
use num_rational::Ratio;
use rand::RngExt;
use seccogc::algebra::{KeyStream, LinearForm, Symbol, Unknown};
use seccogc::privacy::{distance, ldp, lmip};
use seccogc::seed::{Rng, Seed};

/// Without the crate's own name for it, whose feature would build half the dependencies anew.
type BigRational = Ratio<BigInt>;

type Rows = Vec<Vec<BigRational>>;

fn rational(x: f64) -> BigRational {
    let bits = x.abs().to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    assert!(exponent < 0x7ff, "{x} is no number");
    let mantissa = BigInt::from(if exponent > 0 { fraction | 1 << 52 } else { fraction });
    let mantissa = if x < 0.0 { -mantissa } else { mantissa };
    match exponent.max(1) - 1075 {
        up @ 0.. => BigRational::from_integer(mantissa << up as u32),
        down => BigRational::new(mantissa, BigInt::from(1) << down.unsigned_abs()),
    }
}

fn zero() -> BigRational {
    rational(0.0)
}

/// ln of a positive integer.
fn ln_of(x: &BigUint) -> f64 {
    let excess = x.bits().saturating_sub(64);
    let top = (x >> excess).to_u64_digits()[0];
    (top as f64).ln() + excess as f64 * std::f64::consts::LN_2
}

fn ln(x: &BigRational) -> f64 {
    ln_of(x.numer().magnitude()) - ln_of(x.denom().magnitude())
}

/// x with [rows] x = right for independent rows, by exact elimination.
fn solve(mut rows: Rows, mut right: Vec<BigRational>) -> Vec<BigRational> {
    let n = rows.len();
    for i in 0..n {
        let pivot = (i..n).find(|&j| rows[j][i] != zero()).expect("a Gram matrix of independent rows");
        rows.swap(i, pivot);
        right.swap(i, pivot);
        for j in (0..n).filter(|&j| j != i) {
            let factor = &rows[j][i] / &rows[i][i];
            if factor != zero() {
                let chosen = rows[i].clone();
                rows[j].iter_mut().zip(&chosen).for_each(|(x, c)| *x = &*x - &factor * c);
                right[j] = &right[j] - &factor * &right[i];
            }
        }
    }
    (0..n).map(|i| &right[i] / &rows[i][i]).collect()
}

/// The first rows that are independent of those before them.
fn independent(rows: &Rows) -> Rows {
    let (mut kept, mut reduced): (Rows, Rows) = (Vec::new(), Vec::new());
    for row in rows {
        let mut rest = row.clone();
        for basis in &reduced {
            let pivot = basis.iter().position(|x| *x != zero()).unwrap();
            let factor = &rest[pivot] / &basis[pivot];
            rest.iter_mut().zip(basis).for_each(|(x, c)| *x = &*x - &factor * c);
        }
        if rest.iter().any(|x| *x != zero()) {
            kept.push(row.clone());
            reduced.push(rest);
        }
    }
    kept
}

/// −½ ln(1 − z_kᵀ (Z Zᵀ)⁻¹ z_k) for Z = [A S, B] with its dependent rows left out.
fn exact(a: &[Vec<f64>], b: &[Vec<f64>], stds: &[f64]) -> Vec<f64> {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<BigRational> {
        let inputs = a.iter().zip(stds).map(|(c, std)| rational(*c) * rational(*std));
        inputs.chain(b.iter().map(|c| rational(*c))).collect()
    };
    let z = independent(&a.iter().zip(b).map(row).collect());
    let dot = |x: &[BigRational], y: &[BigRational]| x.iter().zip(y).fold(zero(), |sum, (x, y)| sum + x * y);
    let gram: Rows = z.iter().map(|x| z.iter().map(|y| dot(x, y)).collect()).collect();
    let about = |k: usize| {
        let column: Vec<BigRational> = z.iter().map(|row| row[k].clone()).collect();
        let told = dot(&column, &solve(gram.clone(), column.clone()));
        let hidden = BigRational::from_integer(BigInt::from(1)) - &told;
        if hidden == zero() {
            f64::INFINITY
        } else if told == zero() {
            0.0
        } else if ln(&told) < -0.7 {
            -0.5 * (-ln(&told).exp()).ln_1p()
        } else {
            -0.5 * ln(&hidden)
        }
    };
    (0..stds.len()).map(about).collect()
}

fn form(inputs: &[f64], keys: &[f64]) -> LinearForm {
    let mut sum = [LinearForm::zero()];
    let key = |j: usize| KeyStream { purpose: "mask", round: 1, a: j as u16, b: j as u16 };
    let inputs = inputs.iter().enumerate().map(|(k, c)| (Unknown::Input(k as u16, 0), *c));
    let keys = keys.iter().enumerate().map(|(j, c)| (Unknown::Key(key(j), 0), *c));
    for (unknown, c) in inputs.chain(keys).filter(|(_, c)| *c != 0.0) {
        LinearForm::axpy(&mut sum, c, &[LinearForm::unknown(unknown)]);
    }
    let [sum] = sum;
    sum
}

fn small(rng: &mut Rng) -> f64 {
    f64::from(rng.random_range(-3i32..=3))
}

/// A power of 2 from 10⁻²⁰ to 10²⁰: products with small integers are exact, and so is the reference.
fn scale(rng: &mut Rng) -> f64 {
    f64::from(rng.random_range(-66i32..=66)).exp2()
}

/// Messages C (x + U k) of `clients` clients, as integers: zero-sum keys, or independent ones.
fn messages(rng: &mut Rng, clients: usize, zero_sum: bool) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let count = rng.random_range(1..=clients + 1);
    let mut a: Vec<Vec<f64>> = (0..count).map(|_| (0..clients).map(|_| small(rng)).collect()).collect();
    if rng.random_bool(0.5) {
        a.push(vec![1.0; clients]);
    }
    let keys = if zero_sum { clients - 1 } else { clients };
    // u_k = k_k, and the last one −Σ of the others.
    let key = |k: usize, j: usize| match (zero_sum && k == clients - 1, k == j) {
        (true, _) => -1.0,
        (false, same) => f64::from(u8::from(same)),
    };
    let of = |row: &Vec<f64>| (0..keys).map(|j| (0..clients).map(|k| row[k] * key(k, j)).sum()).collect();
    let mut b: Vec<Vec<f64>> = a.iter().map(of).collect();
    // Some messages lack their keys, so that inputs are seen.
    for row in &mut b {
        if rng.random_bool(0.15) {
            row.fill(0.0);
        }
    }
    (a, b)
}

#[test]
fn leakage_is_never_below_the_exact_one() {
    let mut rng = Seed::new(5).rng();
    let (mut open, mut tight, mut spread) = (0, 0, [f64::INFINITY, 0.0f64]);
    for case in 0..1500 {
        let clients = rng.random_range(2..=5);
        let (a, b) = messages(&mut rng, clients, case % 3 != 0);
        let (key_std, update_std) = (scale(&mut rng), scale(&mut rng));
        let b: Vec<Vec<f64>> =
            b.into_iter().map(|row| row.into_iter().map(|c| c * key_std).collect()).collect();
        let equal = case % 2 == 0;
        let weights: Vec<f64> = (0..clients).map(|_| if equal { 1.0 } else { scale(&mut rng) }).collect();
        let stds: Vec<f64> = weights.iter().map(|w| w * update_std).collect();
        let view: Vec<LinearForm> = a.iter().zip(&b).map(|(a, b)| form(a, b)).collect();
        let got = lmip(&view, &stds).unwrap();
        for (k, (got, want)) in got.iter().zip(exact(&a, &b, &stds)).enumerate() {
            let told = || format!("case {case}, client {k}: {got} for {want}; {a:?} {b:?} {stds:?}");
            assert!(*got >= want * (1.0 - 1e-9) - 1e-12, "{}", told());
            if want.is_infinite() {
                open += 1;
            } else if want < 10.0 && equal && (update_std / key_std).ln().abs() < 25.0 {
                assert!(*got <= want * (1.0 + 1e-6) + 1e-9, "{}", told());
                tight += 1;
            }
            if want > 0.0 && want.is_finite() {
                spread = [spread[0].min(want), spread[1].max(want)];
            }
        }
    }
    assert!(open > 100 && tight > 300 && spread[0] < 1e-60 && spread[1] > 60.0, "{open} {tight} {spread:?}");
}

/// ‖c‖₂ of the shortest c with B c = A shift, and infinity where there is none.
fn exact_distance(a: &[Vec<f64>], b: &[Vec<f64>], shift: &[f64]) -> f64 {
    let dot = |x: &[BigRational], y: &[BigRational]| x.iter().zip(y).fold(zero(), |sum, (x, y)| sum + x * y);
    let rationals = |row: &Vec<f64>| -> Vec<BigRational> { row.iter().map(|c| rational(*c)).collect() };
    let shift = rationals(&shift.to_vec());
    let b: Rows = b.iter().map(rationals).collect();
    let moved: Vec<BigRational> = a.iter().map(|row| dot(&rationals(row), &shift)).collect();
    let basis = independent(&b);
    let place = |row: &Vec<BigRational>| b.iter().position(|other| other == row).unwrap();
    let gram: Rows = basis.iter().map(|x| basis.iter().map(|y| dot(x, y)).collect()).collect();
    let right: Vec<BigRational> = basis.iter().map(|row| moved[place(row)].clone()).collect();
    let mix = solve(gram, right.clone());
    let keys = |row: &Vec<BigRational>| {
        basis.iter().zip(&mix).fold(zero(), |sum, (other, c)| sum + dot(row, other) * c)
    };
    if b.iter().zip(&moved).any(|(row, moved)| keys(row) != *moved) {
        return f64::INFINITY;
    }
    let square = dot(&right, &mix);
    if square == zero() { 0.0 } else { (0.5 * ln(&square)).exp() }
}

#[test]
fn epsilon_is_never_below_the_exact_one() {
    let mut rng = Seed::new(6).rng();
    let (mut open, mut tight, mut spread) = (0, 0, [f64::INFINITY, 0.0f64]);
    for case in 0..1500 {
        let clients = rng.random_range(2..=5);
        let (a, b) = messages(&mut rng, clients, case % 3 != 0);
        let (key_std, clip) = (scale(&mut rng), scale(&mut rng));
        let b: Vec<Vec<f64>> =
            b.into_iter().map(|row| row.into_iter().map(|c| c * key_std).collect()).collect();
        // One client moves, or two so that the sum stays; of any weight.
        let k = rng.random_range(0..clients);
        let mut shift = vec![0.0; clients];
        shift[k] = scale(&mut rng) * clip;
        if case % 2 == 0 {
            shift[(k + 1) % clients] = -shift[k];
        }
        let view: Vec<LinearForm> = a.iter().zip(&b).map(|(a, b)| form(a, b)).collect();
        let (got, want) = (distance(&view, &shift).unwrap(), exact_distance(&a, &b, &shift));
        let told = || format!("case {case}: {got} for {want}; {a:?} {b:?} {shift:?}");
        assert!(got >= want * (1.0 - 1e-9), "{}", told());
        for delta in [1e-2, 1e-5, 1e-12] {
            assert!(ldp::epsilon(got, delta) >= ldp::epsilon(want * (1.0 - 1e-9), delta), "{}", told());
        }
        if want.is_infinite() {
            open += 1;
        } else {
            assert!(got <= want * (1.0 + 1e-6), "{}", told());
            tight += 1;
        }
        if want > 0.0 && want.is_finite() {
            spread = [spread[0].min(want), spread[1].max(want)];
        }
    }
    assert!(open > 100 && tight > 300 && spread[0] < 1e-45 && spread[1] > 1e45, "{open} {tight} {spread:?}");
}
