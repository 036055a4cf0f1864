//! Devices: which clients are there when a round begins, and how long they compute.
//!
//! Time is that of `seconds_simulated`, from 0 on. A round lasts until the last client that is waited for has
//! computed, and then as long as its messages take ([`crate::network`]). Everything follows from the seed,
//! the client and the moment or the round: nothing is kept of a client, and whoever is not asked for costs
//! nothing.
//!
//! | `availability.kind` | client k is there at time t |
//! |---|---|
//! | `always` | always |
//! | `diurnal` | with probability mean + amplitude · sin(2π(t/period + φ_k)), φ_k uniform in \[0, 1); drawn anew for every session |
//! | `trace` | as a file says |
//!
//! | `compute.kind` | seconds per example of client k in round t |
//! |---|---|
//! | `instant` | 0 |
//! | `log-normal` | median · exp(σ z_k + jitter · z_kt), z_k and z_kt standard normal |
//! | `pareto` | median · (2 u_k)^(−1/shape) · exp(jitter · z_kt), u_k uniform in (0, 1\] |
//! | `trace` | as a file says |
//!
//! A client is asked who is there when the round begins. Who leaves before it has computed sends nothing, and
//! is waited for as long as it would have taken, as nobody can know; who has computed stays until the round
//! is over. Days and nights of devices that are phones, and their tails: Bonawitz et al., *Towards Federated
//! Learning at Scale: System Design*, MLSys 2019, sections 5 and 9.

mod always;
mod diurnal;
mod instant;
mod log_normal;
mod pareto;
mod trace;

use std::f64::consts::TAU;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::choice::choice;
use crate::error::{Error, Result};
use crate::seed::{Seed, mix, unit};
pub use always::Always;
pub use diurnal::Diurnal;
pub use instant::Instant;
pub use log_normal::LogNormal;
pub use pareto::Pareto;
pub use trace::Trace;

/// When clients are there.
pub trait Availability: Send + Sync {
    /// Whether a client is there at `time`, in seconds.
    fn is_there(&self, client: u32, time: f64) -> bool;

    /// Whether a client that is there at the moment `from` stays until `to`.
    fn stays(&self, client: u32, from: f64, to: f64) -> bool;
}

/// How fast clients compute.
pub trait Compute: Send + Sync {
    /// Seconds that a client needs for the gradient of one example in a round that it begins at `time`;
    /// finite and not negative.
    fn seconds_per_example(&self, client: u32, round: u64, time: f64) -> f64;
}

/// The section of a law of availability.
pub trait AvailabilityLaw: Send + Sync {
    /// Makes paths absolute: they are relative to the configuration's `folder`.
    fn resolve_paths(&mut self, _folder: &Path) {}

    /// Builds the law for `clients` clients.
    ///
    /// # Errors
    /// A number out of its range, by its key relative to the section; a file that cannot be read.
    fn build(&self, clients: usize, seed: Seed) -> Result<Box<dyn Availability>>;
}

/// The section of a law of speed.
pub trait ComputeLaw: Send + Sync {
    /// As [`AvailabilityLaw::resolve_paths`].
    fn resolve_paths(&mut self, _folder: &Path) {}

    /// As [`AvailabilityLaw::build`].
    ///
    /// # Errors
    /// As there.
    fn build(&self, clients: usize, seed: Seed) -> Result<Box<dyn Compute>>;
}

choice! {
    /// When clients are there.
    AvailabilityConfig by "kind" or "always" as law / law_mut: AvailabilityLaw {
        /// Always.
        "always" => Always(Always),
        /// By day or by night, each client by a clock of its own.
        "diurnal" => Diurnal(Diurnal),
        /// As a CSV file says.
        "trace" => Trace(Trace),
    }
}

choice! {
    /// How long clients compute.
    ComputeConfig by "kind" or "instant" as law / law_mut: ComputeLaw {
        /// Computing takes no time.
        "instant" => Instant(Instant),
        /// Most devices are about as fast, some are many times slower.
        "log-normal" => LogNormal(LogNormal),
        /// None is much faster than most, and there is no slowest one.
        "pareto" => Pareto(Pareto),
        /// As a CSV file says.
        "trace" => Trace(Trace),
    }
}

impl Default for AvailabilityConfig {
    fn default() -> Self {
        Self::Always(Always {})
    }
}

impl Default for ComputeConfig {
    fn default() -> Self {
        Self::Instant(Instant {})
    }
}

/// The clients' devices: who is there, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesConfig {
    /// When clients are there.
    pub availability: AvailabilityConfig,
    /// How long clients compute.
    pub compute: ComputeConfig,
    /// Seconds after which the server looks again where too few clients were there, greater than 0; the round
    /// is an outage that takes so long.
    #[schemars(range(min = 0.0))]
    pub wait: f64,
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self { availability: AvailabilityConfig::default(), compute: ComputeConfig::default(), wait: 60.0 }
    }
}

impl DevicesConfig {
    /// Whether nothing is said of devices.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether clients are always there.
    #[must_use]
    pub fn are_there(&self) -> bool {
        matches!(self.availability, AvailabilityConfig::Always(_))
    }

    /// Whether computing takes time.
    #[must_use]
    pub fn take_time(&self) -> bool {
        !matches!(self.compute, ComputeConfig::Instant(_))
    }

    /// Makes the paths of the section absolute: they are relative to the configuration's `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        self.availability.law_mut().resolve_paths(folder);
        self.compute.law_mut().resolve_paths(folder);
    }

    /// Builds the devices of `clients` clients.
    ///
    /// # Errors
    /// A number out of its range, a file that cannot be read; keys are relative to the section.
    pub fn build(&self, clients: usize, seed: Seed) -> Result<Devices> {
        check("wait", self.wait, "(0, ∞)", self.wait > 0.0)?;
        let availability = self.availability.law().build(clients, seed.child("availability", 0));
        let compute = self.compute.law().build(clients, seed.child("compute", 0));
        Ok(Devices {
            availability: availability.map_err(|error| error.within("availability"))?,
            compute: compute.map_err(|error| error.within("compute"))?,
        })
    }
}

/// The devices of all clients.
pub struct Devices {
    availability: Box<dyn Availability>,
    compute: Box<dyn Compute>,
}

impl Devices {
    /// Whether a client is there at `time`, in seconds.
    #[must_use]
    pub fn is_there(&self, client: u32, time: f64) -> bool {
        self.availability.is_there(client, time)
    }

    /// Whether a client that is there at the moment `from` stays until `to`.
    #[must_use]
    pub fn stays(&self, client: u32, from: f64, to: f64) -> bool {
        self.availability.stays(client, from, to)
    }

    /// Seconds that a client computes the gradients of so many examples, in a round that it begins at `time`.
    #[must_use]
    pub fn seconds(&self, client: u32, round: u64, time: f64, examples: usize) -> f64 {
        self.compute.seconds_per_example(client, round, time) * examples as f64
    }
}

/// Refuses a number that is not finite, or for which something else does not hold.
fn check(key: &str, value: f64, bounds: &str, holds: bool) -> Result<()> {
    match holds && value.is_finite() {
        true => Ok(()),
        false => Err(Error::config(key, format!("{value} is outside {bounds}"))),
    }
}

/// Draws that belong to a client and a number, one stream of them.
#[derive(Clone, Copy, Debug)]
struct Draws(u64);

impl Draws {
    fn new(seed: Seed, name: &str) -> Self {
        Self(seed.child(name, 0).word())
    }

    fn word(self, client: u32, number: u64) -> u64 {
        mix(mix(mix(self.0) ^ u64::from(client)) ^ number)
    }

    /// Uniform in [0, 1).
    fn uniform(self, client: u32, number: u64) -> f64 {
        unit(self.word(client, number))
    }

    /// Standard normal, by Box and Muller.
    fn normal(self, client: u32, number: u64) -> f64 {
        let word = self.word(client, number);
        (-2.0 * (-unit(word)).ln_1p()).sqrt() * (TAU * unit(mix(word))).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(text: &str) -> Devices {
        let config: DevicesConfig = toml::from_str(text).unwrap();
        config.build(1000, Seed::new(3)).unwrap()
    }

    fn refusal(text: &str) -> String {
        let config: DevicesConfig = toml::from_str(text).unwrap();
        config.build(10, Seed::new(3)).err().unwrap().to_string()
    }

    /// Over 20,000 clients: what is below the median, what is above a point of the tail, within 5 standard
    /// errors (α < 10⁻⁵ for all).
    #[test]
    fn speeds_have_their_median_and_their_tail() {
        let share = |devices: &Devices, above: f64| {
            let slow = (0..20_000).filter(|&k| devices.seconds(k, 1, 0.0, 10) > 10.0 * above).count();
            slow as f64 / 20_000.0
        };
        let near = |got: f64, want: f64| (got - want).abs() < 5.0 * (want * (1.0 - want) / 20_000.0).sqrt();
        let normal = devices("compute = { kind = 'log-normal', median = 0.02, sigma = 1.5 }");
        assert!(near(share(&normal, 0.02), 0.5));
        // One standard deviation: 1 − Φ(1).
        assert!(near(share(&normal, 0.02 * 1.5f64.exp()), 0.158_655));
        let pareto = devices("compute = { kind = 'pareto', median = 0.02, shape = 1.5 }");
        assert!(near(share(&pareto, 0.02), 0.5));
        assert!(near(share(&pareto, 0.02 * 8.0), 0.5 * 8f64.powf(-1.5)));
        assert_eq!(share(&pareto, 0.02 * 0.5f64.powf(1.0 / 1.5) * 0.999), 1.0);
        // A device is as fast in every round, but for its jitter: a factor exp(0.1 z).
        let rounds = |devices: &Devices| (1..=400).map(|t| devices.seconds(7, t, 0.0, 1)).collect::<Vec<_>>();
        assert!(rounds(&pareto).windows(2).all(|pair| pair[0] == pair[1]));
        let shaky =
            rounds(&devices("compute = { kind = 'pareto', median = 0.02, shape = 1.5, jitter = 0.1 }"));
        let logs: Vec<f64> = shaky.iter().map(|x| (x / pareto.seconds(7, 1, 0.0, 1)).ln()).collect();
        let mean = logs.iter().sum::<f64>() / 400.0;
        let variance = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 400.0;
        assert!(mean.abs() < 0.025 && (variance.sqrt() - 0.1).abs() < 0.018, "{mean}, {variance}");
    }

    /// The share of clients that are there over a day swings for none of them alone, each with a phase of its
    /// own, but for those of one phase by the amplitude.
    #[test]
    fn clients_come_and_go_by_a_day_of_their_own() {
        let day = devices(
            "availability = { kind = 'diurnal', mean = 0.5, amplitude = 0.5, period = 1000.0, session = 10.0 }",
        );
        let times = |k: u32| (0..4000).map(move |i| (k, 10.0 * f64::from(i) + 5.0));
        // The first harmonic of a client's presence over 40 days is half the amplitude, whatever its phase,
        // within 5 standard errors of at most 1/√(2 · 4000).
        for k in 0..20 {
            let (mut sin, mut cos, mut there) = (0.0, 0.0, 0.0);
            for (k, t) in times(k).filter(|&(k, t)| day.is_there(k, t)) {
                let angle = TAU * (t - 5.0) / 1000.0;
                (sin, cos, there) = (sin + angle.sin(), cos + angle.cos(), there + 1.0);
                // A session is 10 s long.
                assert!(day.is_there(k, t + 4.9) && day.stays(k, t - 4.9, t + 4.9));
                assert_eq!(day.stays(k, t, t + 10.0), day.is_there(k, t + 10.0));
            }
            let harmonic = f64::hypot(sin, cos) / 4000.0;
            assert!((harmonic - 0.25).abs() < 5.0 / 8000f64.sqrt(), "{k}: {harmonic}");
            assert!((there / 4000.0 - 0.5f64).abs() < 5.0 * 0.5 / 4000f64.sqrt());
        }
        let always = devices("availability = { kind = 'diurnal', mean = 1.0, amplitude = 0.0 }");
        assert!(always.stays(3, 5.0, 1e300));
    }

    #[test]
    fn what_no_device_can_be_is_refused() {
        for (text, line) in [
            ("wait = 0.0", "wait: 0 is outside (0, ∞)"),
            ("compute = { kind = 'pareto', shape = 0.0 }", "compute.shape: 0 is outside [0.1, ∞)"),
            ("compute = { kind = 'log-normal', sigma = 11.0 }", "compute.sigma: 11 is outside [0, 10]"),
            (
                "compute = { kind = 'log-normal', median = 1e9 }",
                "compute.median: 1000000000 is outside (0, 1000000]",
            ),
            ("compute = { kind = 'pareto', jitter = -1.0 }", "compute.jitter: -1 is outside [0, 10]"),
            (
                "availability = { kind = 'diurnal', mean = 0.7, amplitude = 0.4 }",
                "availability.amplitude: 0.4 is outside [0, 0.3], by which probabilities stay in [0, 1]",
            ),
            (
                "availability = { kind = 'diurnal', session = 1e6 }",
                "availability.session: 1000000 is outside (0, 86400 (`period`)]",
            ),
            ("compute = { kind = 'trace' }", "compute.path: a trace needs the CSV file to replay"),
        ] {
            assert_eq!(refusal(text), line);
        }
    }
}
