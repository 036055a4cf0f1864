//! Shamir's secret sharing over a prime field, symbol by symbol.
//!
//! Shamir, *How to Share a Secret*, 1979. Party k holds the value at k + 1 of a polynomial of degree t − 1
//! whose value at 0 is the secret: any t shares determine it, t − 1 are uniform.

use crate::algebra::field::Prime;
use crate::algebra::{Scalar, Symbol};

fn point<F: Prime>(party: u16) -> F {
    F::integer(i64::from(party) + 1)
}

/// The share of `party` of a secret, with the t − 1 uniform coefficient vectors `noise` of its length. The
/// field must have more elements than there are parties.
#[must_use]
pub fn share<S: Symbol<Scalar: Prime>>(secret: &[S], noise: &[&[S]], party: u16) -> Vec<S> {
    let x = point::<S::Scalar>(party);
    let mut power = S::Scalar::ONE;
    let mut terms = vec![(power, secret)];
    for coefficients in noise {
        power = power * x;
        terms.push((power, coefficients));
    }
    S::combine(secret.len(), &terms)
}

/// The secret from the shares of t distinct parties.
#[must_use]
pub fn recover<S: Symbol<Scalar: Prime>>(shares: &[(u16, &[S])]) -> Vec<S> {
    let weight = |k: u16| {
        // Lagrange at 0: Π x_j / (x_j − x_k).
        shares.iter().filter(|(j, _)| *j != k).fold(S::Scalar::ONE, |product, (j, _)| {
            let (a, b) = (point::<S::Scalar>(*j), point::<S::Scalar>(k));
            product * a * (a - b).inverse().unwrap_or(S::Scalar::ZERO)
        })
    };
    let terms: Vec<_> = shares.iter().map(|&(k, share)| (weight(k), share)).collect();
    S::combine(shares.first().map_or(0, |(_, share)| share.len()), &terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::field::Small;

    type F7 = Small<7>;

    #[test]
    fn shares_by_hand() {
        // 3 + 2x + 5x² over F_7 at 1 … 4: 10, 27, 54, 91.
        let f = |n: i64| vec![F7::integer(n)];
        let (secret, noise) = (f(3), [f(2), f(5)]);
        let noise: Vec<&[F7]> = noise.iter().map(Vec::as_slice).collect();
        let shares: Vec<Vec<F7>> = (0..4).map(|k| share(&secret, &noise, k)).collect();
        assert_eq!(shares, [f(3), f(6), f(5), f(0)]);
        for left_out in 0..4u16 {
            let of: Vec<(u16, &[F7])> =
                (0..4).filter(|k| *k != left_out).map(|k| (k, shares[usize::from(k)].as_slice())).collect();
            assert_eq!(recover(&of), secret);
        }
    }
}
