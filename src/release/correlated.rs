//! Noise that takes itself back: a trusted server's noise of a round, less a part of that of the rounds
//! before.
//!
//! A model is a sum over rounds, and so is the noise in it. With r_0 = 1 and r_j the coefficients of √(1 − x)
//! up to `bands` of them, the noise of round t is Σ_j r_j z_{t−j}, the z being independent Gaussians: a round
//! has about as much noise as before, and the model after t of them Σ_i b_{t−i} z_i, b_n = Σ_{j≤n} r_j,
//! instead of Σ_i z_i. Banded inverse square root: Kalinin, McKenna, Upadhyay, Lampert, *Back to Square
//! Roots: An Optimal Bound on the Matrix Factorization Error for Multi-Epoch Differentially Private SGD*,
//! 2025; DP-FTRL by matrix factorisation: Denisov, McMahan, Rush, Smith, Thakurta 2022; Choquette-Choo et al.
//! 2023. What is here is derived anew, and measured in the tests.
//!
//! What is seen, R z + x over all rounds with R the Toeplitz matrix of r, is as private as z + R⁻¹x. The
//! coefficients c of R⁻¹, those of 1/Σ_j r_j x^j, are not negative, so that a client with x_i ≠ 0 in the
//! rounds S moves it the most, whatever it adapts to, when all its x_i point the same way:
//!
//! ```text
//! μ² = (reach/σ)² Σ_t v_t²,   v_t = Σ_{i ∈ S, i ≤ t} c_{t−i}.
//! ```
//!
//! A client goes on paying after its last round, since later noise tells about earlier one. A round without a
//! result shows nothing, and costs nothing.

/// The coefficients of the noise and of its inverse.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlated {
    /// r_0, r_1, …
    bands: Vec<f64>,
    /// c_0, c_1, … for every round.
    inverse: Vec<f64>,
}

impl Correlated {
    /// With so many bands, at least 1 (independent noise), for `rounds` rounds.
    #[must_use]
    pub fn new(bands: usize, rounds: u64) -> Self {
        let mut r = vec![1.0];
        for j in 1..bands {
            r.push(r[j - 1] * (j as f64 - 1.5) / j as f64);
        }
        let mut c: Vec<f64> = Vec::with_capacity(rounds as usize);
        for n in 0..rounds as usize {
            let before: f64 = (1..=n.min(bands - 1)).map(|j| r[j] * c[n - j]).sum();
            c.push(if n == 0 { 1.0 } else { -before });
        }
        Self { bands: r, inverse: c }
    }

    /// What the noise of a `round`, counted from 1, is made of: rounds, and the factors of their z.
    pub fn parts(&self, round: u64) -> impl Iterator<Item = (u64, f64)> + '_ {
        self.bands.iter().enumerate().map_while(move |(j, &r)| {
            let earlier = round.checked_sub(j as u64).filter(|&earlier| earlier > 0)?;
            Some((earlier, r))
        })
    }

    /// v_t of a client who took part in these rounds, none of them after `round`, whether they had a result
    /// or not.
    #[must_use]
    pub fn seen(&self, took_part: &[u64], round: u64) -> f64 {
        took_part.iter().map(|own| self.inverse[(round - own) as usize]).sum()
    }

    /// √Σ_t v_t² over all rounds of a client who takes part in these.
    #[must_use]
    pub fn distance(&self, takes_part: &[u64]) -> f64 {
        let before = |round: u64| takes_part.partition_point(|own| *own <= round);
        let rounds = 1..=self.inverse.len() as u64;
        let square = |round| self.seen(&takes_part[..before(round)], round).powi(2);
        rounds.map(square).sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// √(1 − x) = 1 − x/2 − x²/8 − x³/16 − …, and 1/√(1 − x) = 1 + x/2 + 3x²/8 + 5x³/16 + ….
    #[test]
    fn coefficients_by_hand() {
        let whole = Correlated::new(4, 4);
        assert_eq!(whole.bands, [1.0, -0.5, -0.125, -0.0625]);
        assert_eq!(whole.inverse, [1.0, 0.5, 0.375, 0.3125]);
        assert_eq!(Correlated::new(2, 4).inverse, [1.0, 0.5, 0.25, 0.125]);
        assert_eq!(Correlated::new(1, 3).inverse, [1.0, 0.0, 0.0]);
        assert_eq!(whole.parts(2).collect::<Vec<_>>(), [(2, 1.0), (1, -0.5)]);
        assert_eq!(whole.parts(9).map(|(round, _)| round).collect::<Vec<_>>(), [9, 8, 7, 6]);
    }

    #[test]
    fn independent_noise_costs_the_root_of_the_rounds() {
        let plain = Correlated::new(1, 50);
        assert!((plain.distance(&[3, 10, 11, 50]) - 2.0).abs() < 1e-12);
    }

    /// Two bands: one round costs 1 + ¼ + 1/16 in three rounds; both the first and the third
    /// 1 + ¼ + (1 + ¼)².
    #[test]
    fn distances_by_hand() {
        let two = Correlated::new(2, 3);
        assert!((two.distance(&[1]) - 1.3125f64.sqrt()).abs() < 1e-12);
        assert!((two.distance(&[1, 3]) - 2.8125f64.sqrt()).abs() < 1e-12);
        assert_eq!(two.distance(&[3]), 1.0);
        assert_eq!(two.distance(&[]), 0.0);
    }

    /// Solves R y = x, and then ‖y‖ is the distance of two Gaussians whose noise is R z and whose means
    /// differ by x: for whatever signs and sizes up to 1 of a client's parts it is no more than what is
    /// charged.
    #[test]
    fn no_client_moves_what_is_seen_by_more() {
        use rand::RngExt;
        let (rounds, mut rng) = (24, crate::seed::Seed::new(8).rng());
        for bands in [1, 2, 5, 24] {
            let own = Correlated::new(bands, rounds);
            let away = |x: &[f64]| {
                let mut y: Vec<f64> = Vec::new();
                for t in 0..x.len() {
                    let before: f64 = (1..=t.min(bands - 1)).map(|j| own.bands[j] * y[t - j]).sum();
                    y.push(x[t] - before);
                }
                y.iter().map(|y| y * y).sum::<f64>().sqrt()
            };
            let takes_part: Vec<u64> = (1..=rounds).filter(|round| round % 5 == 2).collect();
            let charged = own.distance(&takes_part);
            let with = |mut part: Box<dyn FnMut() -> f64>| -> Vec<f64> {
                (1..=rounds).map(|t| if takes_part.contains(&t) { part() } else { 0.0 }).collect()
            };
            let worst = away(&with(Box::new(|| 1.0)));
            assert!((worst - charged).abs() < 1e-9, "{bands}: {worst} is not {charged}");
            for _ in 0..200 {
                let parts: Vec<f64> = (0..rounds).map(|_| rng.random_range(-1.0..=1.0)).collect();
                let mut parts = parts.into_iter();
                let any = away(&with(Box::new(move || parts.next().unwrap())));
                assert!(any <= charged + 1e-9, "{bands}: {any} is more than {charged}");
            }
        }
    }

    /// What a model holds in the end, per ε: of clients in every tenth of 40 rounds less than a third of the
    /// variance of independent noise.
    #[test]
    fn the_last_model_has_less_noise() {
        let variance = |bands| {
            let own = Correlated::new(bands, 40);
            let partial = |n: usize| own.bands.iter().take(n + 1).sum::<f64>();
            own.distance(&[1, 11, 21, 31]).powi(2) * (0..40).map(|n| partial(n).powi(2)).sum::<f64>()
        };
        assert_eq!(variance(1), 160.0);
        assert!(variance(10) < variance(1) / 3.0, "{}", variance(10));
    }
}
