use super::*;
use crate::algebra::CHUNK;
use crate::seed::Seed;
use proptest::prelude::*;
use rand::Rng;

type F7 = Small<7>;

/// The textbook definitions in wide integers.
fn agrees<F: Prime>(a: u64, b: u64) {
    let p = u128::from(F::MODULUS);
    let (wide_a, wide_b) = (u128::from(a) % p, u128::from(b) % p);
    let (x, y) = (F::new(a), F::new(b));
    let check = |got: F, want: u128| assert_eq!(u128::from(got.residue()), want % p, "{a} {b}");
    check(x, wide_a);
    check(x + y, wide_a + wide_b);
    check(x - y, wide_a + p - wide_b);
    check(x * y, wide_a * wide_b);
    check(-x, p - wide_a);
    assert_eq!(F::integer(x.centred()), x);
    assert_eq!((F::signed(x.centred()), F::signed(-(x.residue() as i64))), (x, -x));
    assert!(x.centred().unsigned_abs() <= F::MODULUS / 2);
    match x.inverse() {
        Some(inverse) => assert_eq!(x * inverse, F::ONE),
        None => assert_eq!(x, F::ZERO),
    }
}

/// Every coordinate of a long combination against scalar arithmetic, for 1 to 70 terms.
fn combines<F: Prime>(seed: u64) {
    let mut rng = Seed::new(seed).rng();
    let len = CHUNK + BLOCK + 5;
    for count in [1, 2, 3, 4, 5, 70] {
        let mut vectors = vec![vec![F::ZERO; len]; count];
        vectors.iter_mut().for_each(|vector| F::sample(&mut rng, vector));
        // The largest residues are where a lazy sum would overflow.
        vectors.iter_mut().for_each(|vector| vector[0] = -F::ONE);
        let mut weights: Vec<F> = (0..count).map(|_| F::uniform(&mut rng)).collect();
        weights[count - 1] = -F::ONE;
        let terms: Vec<(F, &[F])> = weights.iter().zip(&vectors).map(|(&a, x)| (a, x.as_slice())).collect();
        let sum = F::combine(len, &terms);
        for i in [0, 1, BLOCK - 1, BLOCK, CHUNK, len - 1] {
            let want = terms.iter().fold(F::ZERO, |sum, (a, x)| sum + *a * x[i]);
            assert_eq!(sum[i], want, "{count} terms, coordinate {i}");
        }
    }
}

proptest! {
    #[test]
    fn arithmetic_is_that_of_residues(a in any::<u64>(), b in any::<u64>()) {
        agrees::<M61>(a, b);
        agrees::<M31>(a, b);
        agrees::<F7>(a, b);
    }
}

#[test]
fn the_ends_of_the_range_reduce() {
    for a in [0, 1, 2, P61 - 1, P61, P61 + 1, u64::MAX, (1 << 31) - 2, (1 << 31) - 1, 1 << 31] {
        for b in [0, 1, P61 - 1, u64::MAX, (1 << 31) - 2] {
            agrees::<M61>(a, b);
            agrees::<M31>(a, b);
            agrees::<F7>(a, b);
        }
    }
    assert_eq!(reduce61(u128::MAX), (u128::MAX % u128::from(P61)) as u64);
}

#[test]
fn long_combinations_are_exact() {
    combines::<M61>(1);
    combines::<M31>(2);
    combines::<F7>(3);
    combines::<Small<65_537>>(4);
}

#[test]
fn draws_are_uniform() {
    // χ² of 7 classes, 70,000 draws; 6 degrees of freedom, α = 10⁻⁵ at 33.
    let mut draws = vec![F7::ZERO; 70_000];
    F7::sample(&mut Seed::new(5).rng(), &mut draws);
    let mut counts = [0f64; 7];
    draws.iter().for_each(|draw| counts[draw.residue() as usize] += 1.0);
    let chi: f64 = counts.iter().map(|n| (n - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(chi < 33.0, "{counts:?}");
    // The top three bits of 61, 8 classes, 7 degrees of freedom, α = 10⁻⁵ at 36.
    let mut draws = vec![M61::ZERO; 80_000];
    M61::sample(&mut Seed::new(6).rng(), &mut draws);
    let mut counts = [0f64; 8];
    draws.iter().for_each(|draw| counts[(draw.residue() >> 58) as usize] += 1.0);
    let chi: f64 = counts.iter().map(|n| (n - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(chi < 36.0, "{counts:?}");
}

#[test]
fn draws_are_the_accepted_words_in_order() {
    // F_7 refuses one word in eight.
    let mut draws = vec![F7::ZERO; 5000];
    F7::sample(&mut Seed::new(7).rng(), &mut draws);
    let mut rng = Seed::new(7).rng();
    let mut accepted = std::iter::repeat_with(|| rng.next_u32() >> 29).filter(|&word| word < 7);
    for draw in draws {
        assert_eq!(Some(draw.residue()), accepted.next().map(u64::from));
    }
}

#[test]
fn bytes_hold_the_largest_residue() {
    assert_eq!((M61::BYTES, M31::BYTES, F7::BYTES, Small::<65_537>::BYTES), (8, 4, 1, 3));
}
