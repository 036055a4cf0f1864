//! How fast training can be promised to converge where a round has the exact mean or nothing.
//!
//! Yang, Fang, Liu, *Achieving Linear Speedup with Partial Worker Participation in Non-IID Federated
//! Learning*, ICLR 2021, theorem 1 (every client takes part), for rounds of which a share P is lost whatever
//! the models are: a step is then taken with the probability 1 − P, and their descent lemma is summed over
//! all rounds.
//!
//! | symbol | here | |
//! |---|---|---|
//! | F(x_0) − F* | `gap` | |
//! | L | `smoothness` | Lipschitz constant of every client's gradient |
//! | σ² | `gradient_variance` | variance of a stochastic gradient, ‖·‖₂² |
//! | ζ² | `heterogeneity` | mean over the clients of ‖∇F_k − ∇F‖₂², at most |
//! | η | `learning_rate` | of local steps; the server's is 1 |
//! | K, M, T | `steps`, `clients`, `rounds` | |
//! | P | `outage` | |
//!
//! With c = ½ − 15 K²η²L² and η ≤ 1/(8KL)
//!
//! ```text
//! 1/T Σ_{t<T} E‖∇F(x_t)‖² ≤ (F(x_0) − F*) / (c η K (1 − P) T) + (Lησ²/(2M) + 5Kη²L² (σ² + 6Kζ²)/2) / c
//! ```
//!
//! The first term alone knows of outages: they cost time, not accuracy, while a mean over whoever arrives has
//! another optimum.

use crate::error::{Error, Result};

/// What is known of a problem and of its training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convergence {
    /// F(x_0) − F*, at least 0.
    pub gap: f64,
    /// L > 0.
    pub smoothness: f64,
    /// σ², at least 0.
    pub gradient_variance: f64,
    /// ζ², at least 0.
    pub heterogeneity: f64,
    /// η, 0 < η ≤ 1/(8KL).
    pub learning_rate: f64,
    /// K ≥ 1.
    pub steps: u64,
    /// M ≥ 1, of equal weight.
    pub clients: u64,
    /// T ≥ 1.
    pub rounds: u64,
    /// P, 0 ≤ P < 1.
    pub outage: f64,
}

impl Convergence {
    /// The bound on the mean of E‖∇F‖² over the models of all rounds.
    ///
    /// # Errors
    /// Numbers out of their range, by their names here.
    pub fn bound(&self) -> Result<f64> {
        let Self { gap, smoothness, gradient_variance, heterogeneity, learning_rate: rate, outage, .. } =
            *self;
        let finite = |key: &str, value: f64, least: bool| match value.is_finite() && least {
            true => Ok(()),
            false => Err(Error::config(key, format!("{value} is out of range"))),
        };
        finite("gap", gap, gap >= 0.0)?;
        finite("smoothness", smoothness, smoothness > 0.0)?;
        finite("gradient_variance", gradient_variance, gradient_variance >= 0.0)?;
        finite("heterogeneity", heterogeneity, heterogeneity >= 0.0)?;
        finite("outage", outage, (0.0..1.0).contains(&outage))?;
        let counts = [("steps", self.steps), ("clients", self.clients), ("rounds", self.rounds)];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::config(*key, "0 is too small; give at least 1"));
        }
        let [steps, clients, rounds] = counts.map(|(_, count)| count as f64);
        let largest = (8.0 * steps * smoothness).recip();
        if !(rate > 0.0 && rate <= largest) {
            let rule = format!("{rate} is outside (0, {largest:.3e}], where the bound holds: 1/(8KL)");
            return Err(Error::config("learning_rate", rule));
        }
        let c = 0.5 - 15.0 * (steps * rate * smoothness).powi(2);
        let time = gap / (c * rate * steps * (1.0 - outage) * rounds);
        let noise = smoothness * rate * gradient_variance / (2.0 * clients);
        let drift = 2.5 * steps * (rate * smoothness).powi(2);
        let drift = drift * (gradient_variance + 6.0 * steps * heterogeneity);
        Ok(time + (noise + drift) / c)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::algebra::Sample;
    use crate::seed::Seed;

    fn example() -> Convergence {
        Convergence {
            gap: 3.0,
            smoothness: 2.0,
            gradient_variance: 4.0,
            heterogeneity: 0.5,
            learning_rate: 0.01,
            steps: 5,
            clients: 10,
            rounds: 200,
            outage: 0.0,
        }
    }

    #[test]
    fn the_terms_by_hand() {
        // c = ½ − 15 · 0.01 = 0.35; 3/(0.35 · 0.05 · 200) = 0.857143; 0.08/20 = 0.004; 2.5 · 5 · 0.0004 · 19
        // = 0.095.
        let bound = example().bound().unwrap();
        assert!((bound - (0.857_142_857 + 0.099 / 0.35)).abs() < 1e-8, "{bound}");
        // Outages stretch time and nothing else.
        let half = Convergence { outage: 0.5, ..example() };
        let twice = Convergence { rounds: 400, ..half };
        assert!((half.bound().unwrap() - bound - 0.857_142_857).abs() < 1e-8);
        assert!((twice.bound().unwrap() - bound).abs() < 1e-12);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |problem: Convergence, key: &str| {
            let line = problem.bound().unwrap_err().to_string();
            assert!(line.starts_with(&format!("{key}: ")), "{line}");
        };
        refused(Convergence { gap: f64::NAN, ..example() }, "gap");
        refused(Convergence { smoothness: 0.0, ..example() }, "smoothness");
        refused(Convergence { gradient_variance: -1.0, ..example() }, "gradient_variance");
        refused(Convergence { heterogeneity: f64::INFINITY, ..example() }, "heterogeneity");
        refused(Convergence { outage: 1.0, ..example() }, "outage");
        refused(Convergence { steps: 0, ..example() }, "steps");
        refused(Convergence { learning_rate: 0.0126, ..example() }, "learning_rate");
    }

    /// F_k = ½ Σ_i a_i (x_i − b_ki)², noise of variance σ² in every gradient, rounds lost by a coin: the mean
    /// squared norm of the gradient over the rounds, in the mean of 20 runs.
    fn measured(problem: Convergence, curvatures: &[f64], optima: &[Vec<f64>], seed: u64) -> f64 {
        let Convergence { gradient_variance, learning_rate, steps, rounds, outage, .. } = problem;
        let d = curvatures.len();
        let std = (gradient_variance / d as f64).sqrt();
        let mean: Vec<f64> =
            (0..d).map(|i| optima.iter().map(|b| b[i]).sum::<f64>() / optima.len() as f64).collect();
        let mut rng = Seed::new(seed).rng();
        let mut total = 0.0;
        for _ in 0..20 {
            let mut x = vec![0.0; d];
            for _ in 0..rounds {
                total += (0..d).map(|i| (curvatures[i] * (x[i] - mean[i])).powi(2)).sum::<f64>();
                let mut next = vec![0.0; d];
                for b in optima {
                    let mut z = x.clone();
                    for _ in 0..steps {
                        let mut noise = vec![0.0; d];
                        f64::sample(&mut rng, &mut noise);
                        for i in 0..d {
                            z[i] -= learning_rate * (curvatures[i] * (z[i] - b[i]) + std * noise[i]);
                        }
                    }
                    next.iter_mut().zip(&z).for_each(|(next, z)| *next += z / optima.len() as f64);
                }
                if rng.random::<f64>() >= outage {
                    x = next;
                }
            }
        }
        total / (20.0 * rounds as f64)
    }

    #[test]
    fn measured_gradients_stay_below_the_bound() {
        let clients = 4u64;
        let curvatures = [2.0, 1.0, 0.25];
        let optima: Vec<Vec<f64>> =
            (0..clients).map(|k| (0..3).map(|i| 1.0 + ((k + i) % 4) as f64 / 2.0).collect()).collect();
        let mean = |i: usize| optima.iter().map(|b| b[i]).sum::<f64>() / clients as f64;
        let gap = (0..3).map(|i| curvatures[i] * mean(i) * mean(i) / 2.0).sum();
        let apart = |b: &Vec<f64>| (0..3).map(|i| (curvatures[i] * (b[i] - mean(i))).powi(2)).sum::<f64>();
        let heterogeneity = optima.iter().map(apart).sum::<f64>() / clients as f64;
        for outage in [0.0, 0.5, 0.9] {
            for (steps, share) in [(1u64, 1.0), (5, 1.0), (5, 0.2), (20, 0.5)] {
                for gradient_variance in [0.0, 3.0] {
                    let problem = Convergence {
                        gap,
                        smoothness: 2.0,
                        gradient_variance,
                        heterogeneity,
                        learning_rate: share / (16.0 * steps as f64),
                        steps,
                        clients,
                        rounds: 100,
                        outage,
                    };
                    let (got, bound) =
                        (measured(problem, &curvatures, &optima, steps), problem.bound().unwrap());
                    // Not far below, where time is what costs.
                    assert!(got <= bound && got > bound / 100.0, "{problem:?}: {got} for {bound}");
                }
            }
        }
    }
}
