//! Populations that follow a written law, made user by user when they are asked for.
//!
//! After the synthetic data of Li et al. 2020 (*Federated Optimization in Heterogeneous Networks*, section
//! 5.1), with a classifier that all users have in common and a power law of sizes. With d features and C
//! classes, W ∈ ℝ^{C×d} and b ∈ ℝ^C standard normal and one for all, and for user k
//!
//! | what | law |
//! |---|---|
//! | number of examples | density ∝ n^{−a} on \[least, most\], rounded down; a = `exponent` |
//! | the user's style | s_k ∈ ℝ^d standard normal |
//! | the user's labelling | V_k ∈ ℝ^{C×d} standard normal |
//! | features | x_j = j^{−0.6} z_j + `style` · s_kj, z standard normal, j = 1, …, d |
//! | class | argmax of (W + `labelling` · V_k) x + b |
//!
//! so that `style` says how far the features of users differ and `labelling` how far their classes do for
//! equal features. Every draw belongs to `seed` and the user's number alone.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Users;
use crate::data::{Examples, Normalisation};
use crate::error::{Error, Result};
use crate::message::POPULATION;
use crate::seed::{Rng, Seed};

/// Exponent of the variance of the features: Σ_jj = j^{−1.2}.
const DECAY: f64 = 0.6;

/// Most numbers of one user.
const LARGEST: usize = 1 << 27;

/// A population that follows a law.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Synthetic {
    /// Users with training examples, 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub users: usize,
    /// Further users, whose examples are the test set, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub test_users: usize,
    /// Features of an example, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub features: usize,
    /// Classes, 2 to 1000.
    #[schemars(range(min = 2, max = 1000))]
    pub classes: usize,
    /// Fewest examples of a user, at least 1.
    #[schemars(range(min = 1))]
    pub least: usize,
    /// Most examples of a user, at least `least`.
    pub most: usize,
    /// The exponent a of the law of sizes, n^{−a}; a finite number from 0 on. 0 is uniform.
    #[schemars(range(min = 0.0))]
    pub exponent: f64,
    /// How far the features of users differ, as a deviation per feature; a finite number from 0 on.
    #[schemars(range(min = 0.0))]
    pub style: f64,
    /// How far users differ in the class of equal features, as a deviation per weight beside weights of
    /// deviation 1; a finite number from 0 on.
    #[schemars(range(min = 0.0))]
    pub labelling: f64,
    /// The seed of the population; runs with different seeds share it.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            users: 1000,
            test_users: 100,
            features: 60,
            classes: 10,
            least: 10,
            most: 500,
            exponent: 2.0,
            style: 0.5,
            labelling: 0.2,
            seed: 1,
        }
    }
}

impl Synthetic {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self) -> Result<()> {
        let within =
            |key: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
                true => Ok(()),
                false => Err(Error::config(key, format!("{value} is out of range; give {least} to {most}"))),
            };
        within("users", self.users, 1, POPULATION)?;
        within("test_users", self.test_users, 1, 1_000_000)?;
        within("features", self.features, 1, 100_000)?;
        within("classes", self.classes, 2, 1000)?;
        within("least", self.least, 1, LARGEST / self.features)?;
        within("most", self.most, self.least, LARGEST / self.features)?;
        for (key, value) in
            [("exponent", self.exponent), ("style", self.style), ("labelling", self.labelling)]
        {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(key, format!("{value} must be a finite number from 0 on")));
            }
        }
        Ok(())
    }

    /// The population.
    ///
    /// # Errors
    /// As [`Synthetic::check`].
    pub fn population(&self) -> Result<Population> {
        self.check()?;
        let seed = Seed::new(self.seed).child("population", 0);
        let mut sizes = seed.child("sizes", 0).rng();
        let counts = (0..self.users + self.test_users).map(|_| self.size(sizes.random())).collect();
        let classifier = normal(self.classes * (self.features + 1), &mut seed.child("classifier", 0).rng());
        Ok(Population { law: self.clone(), counts, classifier, seed })
    }

    /// The size of a user of whom a share `u` in [0, 1) of all is smaller.
    fn size(&self, u: f64) -> u32 {
        // The density reaches to the end of the largest whole number.
        let (low, high) = (self.least as f64, self.most as f64 + 1.0);
        let power = 1.0 - self.exponent;
        let size = match power.abs() < 1e-9 {
            true => low * (high / low).powf(u),
            false => (low.powf(power) + u * (high.powf(power) - low.powf(power))).powf(power.recip()),
        };
        (size as u32).clamp(self.least as u32, self.most as u32)
    }

    /// Mean and deviation of every feature over the population.
    #[must_use]
    pub fn statistics(&self) -> Normalisation {
        let std = (1..=self.features).map(|j| (j as f64).powf(-DECAY).hypot(self.style)).collect();
        Normalisation { mean: vec![0.0; self.features], std }
    }
}

fn normal(n: usize, rng: &mut Rng) -> Vec<f64> {
    (0..n).map(|_| StandardNormal.sample(rng)).collect()
}

/// The users of a [`Synthetic`] law.
#[derive(Debug)]
pub struct Population {
    law: Synthetic,
    /// Examples of each user, those of the test set last.
    counts: Vec<u32>,
    /// W, row by row, then b.
    classifier: Vec<f64>,
    seed: Seed,
}

impl Population {
    /// The examples of the further users, one after another.
    ///
    /// # Errors
    /// More than fit into the memory.
    pub fn test(&self) -> Result<Examples> {
        let of_test = self.law.users..self.counts.len();
        let rows: u64 = self.counts[of_test.clone()].iter().map(|&n| u64::from(n)).sum();
        crate::bounds::check_memory(rows.saturating_mul(16 * self.law.features as u64))
            .map_err(|free| Error::config("test_users", format!("their examples take {free}; give fewer")))?;
        let mut all = Examples::of_features(Vec::new(), Vec::new(), self.law.features)?;
        for user in of_test {
            all.append(&self.make(user)?)?;
        }
        Ok(all)
    }

    fn make(&self, user: usize) -> Result<Examples> {
        let Synthetic { features, classes, style, labelling, .. } = self.law;
        let mut rng = self.seed.child("user", user as u64).rng();
        let own_style = normal(features, &mut rng);
        let mut classifier = self.classifier.clone();
        if labelling > 0.0 {
            let own = normal(classes * features, &mut rng);
            classifier.iter_mut().zip(own).for_each(|(w, v)| *w += labelling * v);
        }
        let (weights, bias) = classifier.split_at(classes * features);
        let rows = self.counts[user] as usize;
        let (mut values, mut labels) = (Vec::with_capacity(rows * features), Vec::with_capacity(rows));
        for _ in 0..rows {
            let start = values.len();
            for (j, own) in own_style.iter().enumerate() {
                let z: f64 = StandardNormal.sample(&mut rng);
                values.push(((j + 1) as f64).powf(-DECAY) * z + style * own);
            }
            let x = &values[start..];
            let score = |class: usize| {
                let row = &weights[class * features..(class + 1) * features];
                bias[class] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
            };
            let best = (1..classes).fold((0, score(0)), |best, class| {
                let own = score(class);
                if own > best.1 { (class, own) } else { best }
            });
            labels.push(best.0 as u16);
        }
        Examples::of_features(values, labels, features)
    }
}

impl Users for Population {
    fn number(&self) -> usize {
        self.law.users
    }

    fn count(&self, user: usize) -> usize {
        self.counts[user] as usize
    }

    fn read(&self, user: usize) -> Result<Examples> {
        self.make(user)
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(format!("{:?}", self.law)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20,000 sizes between 10 and 500 with a = 2: the share of those above n is that of the law within 4.9
    /// standard errors, α < 10⁻⁵ for all three.
    #[test]
    fn sizes_follow_the_power_law() {
        let law = Synthetic { users: 20_000, ..Synthetic::default() };
        let population = law.population().unwrap();
        let sizes: Vec<usize> = (0..population.number()).map(|user| population.count(user)).collect();
        assert!(sizes.iter().all(|n| (10..=500).contains(n)));
        for n in [11.0, 20.0, 100.0] {
            let share = |x: f64| 1.0 / x - 1.0 / 501.0;
            let (p, all) = (share(n) / share(10.0), sizes.len() as f64);
            let above = sizes.iter().filter(|size| **size as f64 >= n).count() as f64;
            assert!(
                (above - p * all).abs() < 4.9 * (all * p * (1.0 - p)).sqrt(),
                "{n}: {above}, {}",
                p * all
            );
        }
        let uniform = Synthetic { least: 1, most: 4, exponent: 0.0, ..law.clone() };
        assert_eq!([0.0, 0.3, 0.6, 0.99].map(|u| uniform.size(u)), [1, 2, 3, 4]);
        let harmonic = Synthetic { least: 1, most: 7, exponent: 1.0, ..law };
        // log₈ of 1, 2, 4, 8.
        assert_eq!([0.0, 0.34, 0.67, 0.99].map(|u| harmonic.size(u)), [1, 2, 4, 7]);
    }

    #[test]
    fn users_are_the_same_whenever_they_are_asked_for() {
        let law = Synthetic { users: 50, test_users: 3, features: 4, classes: 3, ..Synthetic::default() };
        let (one, other) = (law.population().unwrap(), law.population().unwrap());
        assert_eq!((one.number(), one.read(7).unwrap()), (50, other.read(7).unwrap()));
        assert_eq!(one.read(7).unwrap().len(), one.count(7));
        assert_ne!(one.read(7).unwrap(), one.read(8).unwrap());
        assert_eq!(one.test().unwrap().len(), one.counts[50..].iter().map(|n| *n as usize).sum::<usize>());
        let seeded = Synthetic { seed: 2, ..law.clone() }.population().unwrap();
        assert!(seeded.digest() != one.digest() && seeded.read(7).unwrap() != one.read(7).unwrap());
        // More users leave the first ones as they are.
        let more = Synthetic { users: 60, ..law }.population().unwrap();
        assert_eq!(more.read(7).unwrap(), one.read(7).unwrap());
    }

    /// Over 4000 users of 100 examples: mean and deviation of a feature and of what users differ in, within
    /// 4.9 standard errors (of the users' means for the first), α < 10⁻⁵ each.
    #[test]
    fn features_have_the_deviation_of_the_law() {
        let sizes = Synthetic { users: 4000, least: 100, most: 100, style: 0.7, ..Synthetic::default() };
        let law = Synthetic { features: 2, classes: 2, labelling: 0.0, ..sizes };
        let population = law.population().unwrap();
        let (mut means, mut squares) = (Vec::new(), 0.0);
        let mut values = Vec::new();
        for user in 0..4000 {
            values.clear();
            let all: Vec<usize> = (0..100).collect();
            population.read(user).unwrap().extend_batch(&all, &Normalisation::identity(2), &mut values);
            let second: Vec<f64> = values.iter().skip(1).step_by(2).map(|x| f64::from(*x)).collect();
            means.push(second.iter().sum::<f64>() / 100.0);
            squares += second.iter().map(|x| x * x).sum::<f64>();
        }
        let variance = 2f64.powf(-1.2) / 100.0 + 0.49;
        let found = means.iter().map(|m| m * m).sum::<f64>() / 4000.0;
        assert!((found / variance - 1.0).abs() < 4.9 * (2.0f64 / 4000.0).sqrt(), "{found} {variance}");
        let mean = means.iter().sum::<f64>() / 4000.0;
        assert!(mean.abs() < 4.9 * (variance / 4000.0).sqrt(), "{mean}");
        let std = law.statistics().std[1];
        let all = squares / 400_000.0;
        assert!((all / (std * std) - 1.0).abs() < 4.9 * (2.0f64 / 4000.0).sqrt(), "{all} {std}");
    }

    #[test]
    fn a_bad_law_is_one_line() {
        let line = |law: Synthetic| law.check().unwrap_err().to_string();
        let law = Synthetic::default();
        assert_eq!(
            line(Synthetic { users: 0, ..law.clone() }),
            "users: 0 is out of range; give 1 to 10000000"
        );
        assert_eq!(line(Synthetic { most: 9, ..law.clone() }), "most: 9 is out of range; give 10 to 2236962");
        assert_eq!(
            line(Synthetic { style: f64::NAN, ..law }),
            "style: NaN must be a finite number from 0 on"
        );
    }
}
