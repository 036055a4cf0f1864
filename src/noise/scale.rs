//! How fine the steps are, how far rounding can reach, and how rarely a sum wraps around.

use super::Kind;

/// Δ̂ in steps (Kairouz, Liu, Steinke 2021, with γ = 1): the bound on the norm of `coordinates` d′
/// integers to which a vector of at most `radius` sC steps is rounded. A stochastic rounding misses it with a
/// probability of at most `bias` b; with b = 0 none does.
#[must_use]
pub fn norm_bound(radius: f64, coordinates: usize, bias: f64) -> f64 {
    let side = (coordinates as f64).sqrt();
    let deviation = (-2.0 * bias.ln()).sqrt() * (radius + side / 2.0);
    let likely = (radius * radius + side * side / 4.0 + deviation).sqrt();
    // No coordinate moves by more than a step.
    likely.min(radius + side) * (1.0 + 8.0 * f64::EPSILON)
}

/// The step γ at which `deviations` k standard deviations of a sum fill `bits` bits (Kairouz, Liu, Steinke
/// 2021): 2^bits γ = 2k √(ρ C²M²/d′ + (γ²/4 + σ²) M), for `clients` M that clip to `clip` C and add noise of
/// standard deviation `std` σ to `coordinates` d′ that are as flat as `flatness` ρ says, 1 after a rotation.
/// `None` where no step is large enough.
#[must_use]
pub fn step(
    bits: u32,
    deviations: f64,
    flatness: f64,
    clip: f64,
    clients: usize,
    coordinates: usize,
    std: f64,
) -> Option<f64> {
    let m = clients as f64;
    let spread = flatness * (clip * m).powi(2) / coordinates as f64 + std * std * m;
    let room = (2f64.powi(bits as i32) / (2.0 * deviations)).powi(2) - m / 4.0;
    (room > 0.0).then(|| (spread / room).sqrt())
}

/// A sum of noisy integers, about which everybody knows this much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// Summands M.
    pub clients: usize,
    /// Coordinates d′ of each.
    pub coordinates: usize,
    /// Bound sC on the norm of a summand before it is rounded, in steps.
    pub radius: f64,
    /// The law of the noises.
    pub kind: Kind,
    /// Their variance, all together, in steps².
    pub variance: f64,
    /// Whether summands are turned by one [`Hadamard`](super::Hadamard) rotation, whose signs do not depend
    /// on them.
    pub flattened: bool,
}

impl Sum {
    /// An upper bound on the probability that any coordinate of the sum is beyond ±(p − 1)/2 and so is not
    /// read off its residue mod p.
    ///
    /// Noise: Chernoff's bound of the Skellam law, that of a normal law of the same variance for discrete
    /// Gaussians (Canonne, Kamath, Steinke 2020). Inputs: M ⌈sC⌉ at most; after a rotation, Hoeffding's bound
    /// for sums with random signs. A union bound over the coordinates.
    #[must_use]
    pub fn wraps(&self, modulus: u64) -> f64 {
        let half = (modulus / 2) as f64;
        let (m, d) = (self.clients as f64, self.coordinates as f64);
        let noise =
            |reach: f64| if reach <= 0.0 { f64::INFINITY } else { 2.0 * (-self.exponent(reach)).exp() };
        let certain = d * noise(half - m * self.radius.ceil());
        if !self.flattened {
            return certain.min(1.0);
        }
        let split = |part: f64| {
            let input = part * half;
            let beyond = 2.0 * (-input * input * d / (2.0 * (self.radius * m).powi(2))).exp();
            // Rounding moves a summand by less than a step.
            d * (beyond + noise(half - input - m))
        };
        (1..64).map(|part| split(f64::from(part) / 64.0)).fold(certain.min(1.0), f64::min)
    }

    /// x for a bound e⁻ˣ on the probability that the noise of a coordinate is `reach` or more.
    fn exponent(&self, reach: f64) -> f64 {
        let u = reach / self.variance;
        let exponent = match self.kind {
            // V (u asinh u − √(1 + u²) + 1).
            Kind::Skellam => self.variance * (u * u.asinh() - u * u / (1.0 + (1.0 + u * u).sqrt())),
            Kind::DiscreteGaussian => reach * u / 2.0,
        };
        exponent * (1.0 - 1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_of_the_design_page() {
        let bound = norm_bound(1024.0, 8192, (-0.5f64).exp());
        assert!((bound / 1024.0 - 1.001_485).abs() < 1e-6, "{bound}");
        assert!((norm_bound(3.0, 16, 0.0) - 7.0).abs() < 1e-12);
        // The first bound is the smaller one for few coordinates and a small b.
        assert!((norm_bound(3.0, 1, 1e-300) - 4.0).abs() < 1e-12);
    }

    #[test]
    fn the_step_solves_its_equation() {
        let (m, d, k, clip, std) = (10usize, 8192usize, 4.0, 1.5, 0.02);
        let gamma = step(16, k, 1.0, clip, m, d, std).unwrap();
        let spread = (clip * 10.0).powi(2) / 8192.0 + (gamma * gamma / 4.0 + std * std) * 10.0;
        assert!((65_536.0 * gamma / (2.0 * k * spread.sqrt()) - 1.0).abs() < 1e-12);
        assert_eq!(step(3, 4.0, 1.0, 1.0, 10, 8192, 0.1), None, "rounding alone fills three bits");
    }

    /// The exact probability of the discrete laws beyond some reach, against the bound.
    #[test]
    fn tails_are_bounded() {
        let pmf = |kind: Kind, variance: f64| -> Vec<f64> {
            let size = 400;
            let raw: Vec<f64> = match kind {
                Kind::DiscreteGaussian => {
                    (0..size).map(|k| (-f64::from(k * k) / (2.0 * variance)).exp()).collect()
                }
                Kind::Skellam => {
                    let mean = variance / 2.0;
                    let poisson: Vec<f64> = (0..2 * size)
                        .scan((-mean).exp(), |p, k| Some(std::mem::replace(p, *p * mean / f64::from(k + 1))))
                        .collect();
                    (0..size as usize)
                        .map(|x| poisson.iter().zip(&poisson[x..]).map(|(a, b)| a * b).sum())
                        .collect()
                }
            };
            let whole = raw[0] + 2.0 * raw[1..].iter().sum::<f64>();
            raw.into_iter().map(|p| p / whole).collect()
        };
        for kind in [Kind::Skellam, Kind::DiscreteGaussian] {
            for variance in [0.3, 4.0, 60.0] {
                let pmf = pmf(kind, variance);
                let sum = Sum { clients: 2, coordinates: 1, radius: 3.0, kind, variance, flattened: false };
                for modulus in [21u64, 41, 81] {
                    // Beyond the half of p, inputs of 3 each in its direction.
                    let least = (modulus / 2 - 6 + 1) as usize;
                    let exact = pmf[least..].iter().sum::<f64>();
                    let bound = sum.wraps(modulus);
                    assert!(exact <= bound, "{kind:?} {variance} {modulus}: {exact} {bound}");
                    assert!(bound < 1.0 || variance > 30.0 || modulus < 30, "{kind:?} {variance} {modulus}");
                }
            }
        }
    }

    #[test]
    fn large_fields_do_not_wrap_and_small_ones_do() {
        let sum = Sum {
            clients: 10,
            coordinates: 8192,
            radius: 16_384.0,
            kind: Kind::Skellam,
            variance: 1e9,
            flattened: false,
        };
        assert_eq!(sum.wraps((1 << 61) - 1), 0.0);
        assert!(sum.wraps((1 << 31) - 1) < 1e-300);
        assert_eq!(sum.wraps(65_537), 1.0);
        // 16 bits do after a rotation, with γ for seven standard deviations.
        let gamma = step(16, 7.0, 1.0, 1.0, 10, 8192, 0.01).unwrap();
        let few = Sum { radius: 1.0 / gamma, variance: 10.0 * (0.01 / gamma).powi(2), ..sum };
        assert_eq!(few.wraps(65_537), 1.0);
        let flat = Sum { flattened: true, ..few }.wraps(65_537);
        assert!(flat < 0.05, "{flat}");
    }

    proptest! {
        #[test]
        fn bounds_are_probabilities_and_fall_with_the_modulus(
            variance in 1e-3f64..1e12, radius in 1.0f64..1e6, clients in 1usize..1000, flattened in any::<bool>(),
            bits in 3u32..62,
        ) {
            let kind = Kind::Skellam;
            let sum = Sum { clients, coordinates: 4096, radius, kind, variance, flattened };
            let (small, large) = (sum.wraps(1 << bits), sum.wraps(1 << (bits + 1)));
            prop_assert!((0.0..=1.0).contains(&small) && large <= small, "{small} {large}");
        }
    }
}
