//! Configuration, and what is made of it.

use serde::{Deserialize, Serialize};

use super::{Mask, Uncoded};
use crate::algebra::field::{M31, M61};
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::{Modulus, Quantisation};
use crate::error::{Error, Result};
use crate::protocol::exchange::{Aggregator, Assemble, Given, Scheme, Setup, Simulated};
use crate::protocol::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use crate::protocol::{Arithmetic, Numbers, included};
use crate::seed::Seed;

/// Plain FedAvg over links that never fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ideal {
    /// What is sent and summed: "f32", "f64", or "field" (quantised updates over a prime field).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
}

/// FedAvg over the failing links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvg {
    /// What is sent and summed: "f32", "f64", or "field" (quantised updates over a prime field).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an
    /// outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Times that a client sends its upload at most, 1 to 100: the server asks again for what did not arrive.
    #[schemars(range(min = 1, max = 100))]
    pub transmissions: u32,
}

/// Local Gaussian noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussian {
    /// Standard deviation σ of the noise per coordinate, in the unit of the update; at least 0.
    #[schemars(range(min = 0.0))]
    pub key_std: f64,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Whether updates and keys are rounded to a public grid of powers of two before they are added, so that
    /// what is sent hides them bit by bit and sums are exact; without one privacy is a statement about real
    /// numbers only.
    pub grid: bool,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an
    /// outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Times that a client sends its upload at most, 1 to 100: the server asks again for what did not arrive.
    #[schemars(range(min = 1, max = 100))]
    pub transmissions: u32,
}

impl Default for Ideal {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None }
    }
}

impl Default for FedAvg {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None, least_included: None, transmissions: 1 }
    }
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { key_std: 1.0, arithmetic: Arithmetic::F32, grid: true, least_included: None, transmissions: 1 }
    }
}

/// A standard deviation is a finite number ≥ 0.
pub(in crate::protocol) fn check_std(key: &str, std: f64) -> Result<()> {
    if std.is_finite() && std >= 0.0 {
        Ok(())
    } else {
        Err(Error::config(key, format!("{std} is not a standard deviation; give a finite number ≥ 0")))
    }
}

/// As many as an attempt has phases for.
pub(super) fn check_transmissions(transmissions: u32) -> Result<()> {
    if (1..=100).contains(&transmissions) {
        return Ok(());
    }
    Err(Error::config("transmissions", format!("{transmissions} is out of range; give 1 to 100")))
}

/// Zero-sum keys need somebody to cancel with.
pub(in crate::protocol) fn check_clients_for_keys(clients: usize) -> Result<()> {
    if clients >= 2 { Ok(()) } else { Err(Error::config("keys", "zero-sum keys need at least 2 clients")) }
}

impl FedAvg {
    pub(in crate::protocol) fn assemble<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), given.clients)?;
        check_transmissions(self.transmissions)?;
        let least_included = Some(included::visible(self.least_included, given.clients)?);
        let scheme = Scheme { least_included, ..Scheme::default() };
        let protocol = Uncoded { transmissions: self.transmissions, ..Uncoded::new(given.clients) };
        Ok(assemble(protocol, numbers, given.setup(scheme, None), to))
    }
}

impl Gaussian {
    pub(in crate::protocol) fn assemble<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_transmissions(self.transmissions)?;
        let least_included = Some(included::visible(self.least_included, given.clients)?);
        let scheme = Scheme { key_std: Some(self.key_std), least_included, ..Scheme::default() };
        let numbers = real(self.arithmetic, "Gaussian noise does not exist over a field")?;
        let stds = (self.key_std, self.key_std);
        let grid = grid(self.grid, given, stds, &numbers);
        let mask = Mask::Gaussian(self.key_std);
        let protocol = Uncoded { transmissions: self.transmissions, mask, ..Uncoded::new(given.clients) };
        Ok(assemble(protocol, numbers, given.setup(scheme, grid), to))
    }
}

impl SchemeConfig for Ideal {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), clients)?;
        let setup = Given { clients, seed, public }.setup(Scheme::default(), None).reliable();
        Ok(assemble(Uncoded::new(clients), numbers, setup, Simulated))
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl SchemeConfig for FedAvg {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.assemble(Given { clients, seed, public }, Simulated)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl SchemeConfig for Gaussian {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.assemble(Given { clients, seed, public }, Simulated)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        Some(Keys { std: &mut self.key_std, kind: None, links: None, goal: None })
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

/// The grid of a scheme whose keys have these smallest and largest standard deviations, if it is `wanted` and
/// there are real numbers.
pub(in crate::protocol) fn grid(
    wanted: bool,
    given: Given<'_>,
    stds: (f64, f64),
    numbers: &Numbers,
) -> Option<Grid> {
    match numbers {
        Numbers::Real(single) if wanted => Grid::new(given.clients, stds, *single, given.public),
        _ => None,
    }
}

/// Floating point, for schemes that make no sense over a field.
pub(in crate::protocol) fn real(arithmetic: Arithmetic, rule: &str) -> Result<Numbers> {
    match arithmetic {
        Arithmetic::Field => Err(Error::config("arithmetic", format!("{rule}; take \"f32\" or \"f64\""))),
        real => real.numbers(None, 0),
    }
}

/// The scheme with these numbers, whose sums and grid are those of `setup`.
pub(super) fn assemble<A: Assemble>(protocol: Uncoded, numbers: Numbers, setup: Setup, to: A) -> A::Output {
    let least = setup.scheme.least_included.unwrap_or(1);
    let protocol = Uncoded { least, grid: setup.grid, ..protocol };
    match numbers {
        Numbers::Real(single) => to.real(protocol, single, setup),
        Numbers::Field(Modulus::M61, quantiser) => to.field::<M61, _>(protocol, quantiser, setup),
        Numbers::Field(Modulus::M31, quantiser) => to.field::<M31, _>(protocol, quantiser, setup),
    }
}
