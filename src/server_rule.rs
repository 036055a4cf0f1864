//! Server optimisers: how the global model x moves along the direction Δ of a round, which stands for minus a
//! gradient.
//!
//! Hsu, Qi, Brown, *Measuring the Effects of Non-Identical Data Distribution for Federated Visual
//! Classification*, 2019 (FedAvgM); Reddi et al., *Adaptive Federated Optimization*, ICLR 2021, algorithm 2
//! (`fedadagrad`, `fedadam`, `fedyogi`; per coordinate, without bias correction); Wang, Ji, *A Unified
//! Analysis of Federated Learning with Arbitrary Client Participation*, NeurIPS 2022 (`amplified`).
//!
//! | kind | step |
//! |---|---|
//! | `fedavg` | x ← x + ηΔ |
//! | `fedavgm` | v ← βv + Δ, x ← x + ηv |
//! | `fedadagrad` | m ← β₁m + (1 − β₁)Δ, v ← v + Δ², x ← x + η m/(√v + τ) |
//! | `fedadam` | the same with v ← β₂v + (1 − β₂)Δ² |
//! | `fedyogi` | the same with v ← v − (1 − β₂)Δ² sign(v − Δ²) |
//! | `amplified` | x ← x + ηΔ; after every P such steps x ← x₀ + η̂(x − x₀), x₀ the model P steps ago |
//!
//! m starts at 0 and v at τ². An outage leaves x, m and v as they are.

mod amplified;
mod fedadagrad;
mod fedadam;
mod fedavg;
mod fedavgm;
mod fedyogi;

use rayon::prelude::*;

use crate::choice::choice;
use crate::error::{Error, Result};
pub use amplified::Amplified;
pub use fedadagrad::FedAdagrad;
pub use fedadam::FedAdam;
pub use fedavg::FedAvg;
pub use fedavgm::FedAvgM;
pub use fedyogi::FedYogi;

/// What the server does with the direction of a round.
pub trait ServerRule: Send + Sync {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self) -> Result<()>;

    /// The vectors that the rule keeps from round to round, for `d` parameters before the first one.
    fn start(&self, d: usize) -> Vec<Vec<f32>>;

    /// One step of the global model along `direction` (d coordinates); `kept` are the vectors of
    /// [`ServerRule::start`], or what the last step made of them.
    fn step(&self, parameters: &mut [f32], kept: &mut [Vec<f32>], direction: &[f64]);
}

choice! {
    /// What the server does with the direction that it decoded.
    ServerConfig by "kind" or "fedavg" as rule: ServerRule {
        /// A step along the direction.
        "fedavg" => FedAvg(FedAvg),
        /// Momentum over the rounds (Hsu et al. 2019).
        "fedavgm" => FedAvgM(FedAvgM),
        /// Adagrad over the rounds (Reddi et al. 2021).
        "fedadagrad" => FedAdagrad(FedAdagrad),
        /// Adam over the rounds (Reddi et al. 2021).
        "fedadam" => FedAdam(FedAdam),
        /// Yogi over the rounds (Reddi et al. 2021).
        "fedyogi" => FedYogi(FedYogi),
        /// A step, and every some rounds again what they moved (Wang & Ji 2022).
        "amplified" => Amplified(Amplified),
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::FedAvg(FedAvg::default())
    }
}

fn positive(key: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(Error::config(key, format!("{value} must be a finite number greater than 0")))
    }
}

fn decay(key: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::config(key, format!("must be at least 0 and below 1, not {value}")))
    }
}

/// \[m, v\] of the adaptive rules.
fn moments(d: usize, tau: f64) -> Vec<Vec<f32>> {
    vec![vec![0.0; d], vec![(tau * tau) as f32; d]]
}

/// Algorithm 2 of Reddi et al. with the given rule v, Δ² → v.
fn adapt(
    parameters: &mut [f32],
    moments: &mut [Vec<f32>],
    direction: &[f64],
    [learning_rate, beta1, tau]: [f64; 3],
    second: impl Fn(f64, f64) -> f64 + Sync,
) {
    let [mean, uncentred] = moments else { unreachable!("two vectors of moments") };
    let moved = parameters.par_iter_mut().zip(mean).zip(uncentred).zip(direction);
    moved.for_each(|(((x, m), v), delta)| {
        let mean = beta1 * f64::from(*m) + (1.0 - beta1) * delta;
        let uncentred = second(f64::from(*v), delta * delta);
        *m = mean as f32;
        *v = uncentred as f32;
        *x = (f64::from(*x) + learning_rate * mean / (uncentred.sqrt() + tau)) as f32;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x, and the moments, after the directions 3 and 1 from x = 0.
    fn two_steps(toml: &str) -> (f32, Vec<f32>) {
        let server: ServerConfig = toml::from_str(toml).unwrap();
        let server = server.rule();
        server.check().unwrap();
        let (mut x, mut moments) = (vec![0.0; 1], server.start(1));
        server.step(&mut x, &mut moments, &[3.0]);
        server.step(&mut x, &mut moments, &[1.0]);
        (x[0], moments.concat())
    }

    fn near(got: f32, want: f64) {
        assert!((f64::from(got) - want).abs() < 1e-6 * want.abs(), "{got} for {want}");
    }

    #[test]
    fn two_steps_by_hand() {
        assert_eq!(two_steps("learning_rate = 0.5"), (2.0, vec![]));
        assert_eq!(
            two_steps("kind = \"fedavgm\"\nlearning_rate = 0.5\nmomentum = 0.5"),
            // v = 3, then 2.5.
            (2.75, vec![2.5])
        );
        // τ = 1, so that v starts at 1; m = 1.5, then 1.25.
        let keys = "learning_rate = 2.0\nbeta1 = 0.5\ntau = 1.0";
        let (x, moments) = two_steps(&format!("kind = \"fedadagrad\"\n{keys}"));
        near(x, 2.0 * (1.5 / (10f64.sqrt() + 1.0) + 1.25 / (11f64.sqrt() + 1.0)));
        assert_eq!(moments, [1.25, 11.0]);
        let (x, moments) = two_steps(&format!("kind = \"fedadam\"\n{keys}\nbeta2 = 0.5"));
        near(x, 2.0 * (1.5 / (5f64.sqrt() + 1.0) + 1.25 / (3f64.sqrt() + 1.0)));
        assert_eq!(moments, [1.25, 3.0]);
        // v = 1 + 9/2 = 5.5 (Δ² is above v), then 5.5 − 1/2.
        let (x, moments) = two_steps(&format!("kind = \"fedyogi\"\n{keys}\nbeta2 = 0.5"));
        near(x, 2.0 * (1.5 / (5.5f64.sqrt() + 1.0) + 1.25 / (5f64.sqrt() + 1.0)));
        assert_eq!(moments, [1.25, 5.0]);
    }

    #[test]
    fn what_three_rounds_moved_is_moved_again() {
        let rule = Amplified { learning_rate: 0.5, interval: 3, factor: 2.0 };
        let (mut x, mut kept) = (vec![1.0f32; 1], rule.start(1));
        let mut after = |direction: f64| {
            rule.step(&mut x, &mut kept, &[direction]);
            x[0]
        };
        // 1 + (2 + 4 − 1)/2 = 3.5; from 1 the movement 2.5 is made twice: 6.
        assert_eq!([after(2.0), after(4.0), after(-1.0)], [2.0, 4.0, 6.0]);
        assert_eq!([after(2.0), after(-2.0), after(2.0)], [7.0, 6.0, 8.0]);
        // An interval of one round is a longer step, and a factor of one none.
        for (interval, factor, rate) in [(1, 3.0, 1.5), (7, 1.0, 0.5)] {
            let rule = Amplified { learning_rate: 0.5, interval, factor };
            let plain = FedAvg { learning_rate: rate };
            let (mut x, mut kept, mut y) = (vec![0.25f32; 1], rule.start(1), vec![0.25f32; 1]);
            for round in 0..20 {
                let direction = [f64::from(round % 3) - 0.5];
                rule.step(&mut x, &mut kept, &direction);
                plain.step(&mut y, &mut [], &direction);
                assert_eq!(x, y);
            }
        }
    }

    #[test]
    fn adaptive_steps_have_the_scale_of_the_learning_rate() {
        // A constant direction Δ, however small or large, gives m = Δ and v = Δ² in the limit: steps of η
        // sign Δ.
        let server = FedAdam { tau: 1e-12, ..Default::default() };
        let (mut x, mut moments) = (vec![0.0; 2], server.start(2));
        for _ in 0..3000 {
            server.step(&mut x, &mut moments, &[1e-3, -1e3]);
        }
        let before = x.clone();
        server.step(&mut x, &mut moments, &[1e-3, -1e3]);
        assert!((x[0] - before[0] - 0.01).abs() < 1e-4 && (x[1] - before[1] + 0.01).abs() < 1e-4);
    }

    #[test]
    fn every_rule_names_its_key() {
        for (toml, key) in [
            ("learning_rate = 0.0", "learning_rate"),
            ("kind = \"fedavgm\"\nmomentum = 1.0", "momentum"),
            ("kind = \"fedadagrad\"\nbeta1 = -0.1", "beta1"),
            ("kind = \"fedadam\"\nbeta2 = 1.0", "beta2"),
            ("kind = \"fedyogi\"\ntau = 0.0", "tau"),
            ("kind = \"amplified\"\nfactor = 0.0", "factor"),
            ("kind = \"amplified\"\ninterval = 0", "interval"),
        ] {
            let error = toml::from_str::<ServerConfig>(toml).unwrap().rule().check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }
}
