//! Configuration, and what is made of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::weights::optimal;
use super::{Noise, Relaying};
use crate::algebra::grid::Public;
use crate::error::{Error, Result};
use crate::network::assumed::Assumed;
use crate::network::values::PerLink;
use crate::privacy::ldp;
use crate::protocol::exchange::{Aggregator, Given, Scheme, Session, Setup};
use crate::protocol::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use crate::protocol::uncoded::{check_std, real};
use crate::protocol::{Arithmetic, Numbers};
use crate::seed::Seed;

/// Collaborative relaying.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ColRel {
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// What the weights take the losses for; a table.
    pub assumed: Assumed,
}

/// Collaborative relaying with noise against the relays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriCer {
    /// ε > 0 of a round against each relay, at `delta`: one number, a list with one per sender, or a list of
    /// rows, one per relay, with a number per sender. Needs `solver.clip_norm`.
    pub epsilon: PerLink,
    /// δ of (ε, δ)-LDP against each relay, 0 < δ < 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub delta: f64,
    /// Standard deviation σ of noise that every client adds to its upload, per coordinate, in the unit of the
    /// update; at least 0. Without it the server may receive an update as it is.
    #[schemars(range(min = 0.0))]
    pub own_std: f64,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// What the weights take the losses for; a table.
    pub assumed: Assumed,
}

impl Default for ColRel {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, assumed: Assumed::default() }
    }
}

impl Default for PriCer {
    fn default() -> Self {
        Self {
            epsilon: PerLink::Same(1.0),
            delta: 1e-5,
            own_std: 0.0,
            arithmetic: Arithmetic::F32,
            assumed: Assumed::default(),
        }
    }
}

/// Bytes of a symbol on the wire.
fn symbol_bytes(arithmetic: Arithmetic) -> usize {
    if arithmetic == Arithmetic::F32 { 4 } else { 8 }
}

/// A scheme whose weights belong to given clients.
fn assemble(relaying: Relaying, arithmetic: Arithmetic, setup: Setup) -> Result<Box<dyn Aggregator>> {
    let numbers = real(arithmetic, "weights are real numbers")?;
    let setup = setup.estimating();
    Ok(Box::new(Session { protocol: relaying, single: numbers == Numbers::Real(true), setup }))
}

impl SchemeConfig for ColRel {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        let delivery = self.assumed.delivery(clients).map_err(|error| error.within("assumed"))?;
        let weights = Arc::new(optimal(&delivery, &|_, _| 0.0)?);
        let setup = Given { clients, seed, public }.setup(Scheme::default(), None);
        assemble(Relaying { weights, noise: None }, self.arithmetic, setup)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        Some(Links { symbol_bytes: symbol_bytes(self.arithmetic), assumed: &mut self.assumed })
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl PriCer {
    /// b_kj by relay j and by client k: σ_kj = b_kj α_jk makes what a relay sees (ε, δ)-LDP for inputs of
    /// norm up to `reach`.
    fn noise_per_weight(&self, clients: usize, reach: f64) -> Result<Vec<Vec<f64>>> {
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return Err(Error::config("delta", format!("{} is outside (0, 1)", self.delta)));
        }
        let epsilon = self.epsilon.between("epsilon", clients)?;
        let b = |epsilon: f64| 2.0 * reach / ldp::mu(epsilon, self.delta);
        Ok((0..clients)
            .map(|j| (0..clients).map(|k| if j == k { 0.0 } else { b(epsilon[j][k]) }).collect())
            .collect())
    }
}

impl SchemeConfig for PriCer {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        check_std("own_std", self.own_std)?;
        let (Some(reach), Some(d)) = (public.reach(), public.coordinates) else {
            let rule = "its noise follows from the largest norm of an update; set solver.clip_norm";
            return Err(Error::config("epsilon", rule));
        };
        let delivery = self.assumed.delivery(clients).map_err(|error| error.within("assumed"))?;
        let b = self.noise_per_weight(clients, reach)?;
        // σ does not enter S, so that the least that privacy asks for is best; its power counts beside S.
        let penalty = |j: usize, k: usize| d as f64 * (b[j][k] / reach).powi(2);
        let weights = optimal(&delivery, &penalty)?;
        let std = |j: usize, k: usize| b[j][k] * weights[j][k];
        let relayed: Vec<Vec<f64>> =
            (0..clients).map(|j| (0..clients).map(|k| std(j, k)).collect()).collect();
        let noise = Some(Noise { relayed: Arc::new(relayed), own: self.own_std });
        let key_std = (self.own_std > 0.0).then_some(self.own_std);
        let setup = Given { clients, seed, public }.setup(Scheme { key_std, ..Scheme::default() }, None);
        // A vector of noise for every relay.
        let setup = Setup { part_bytes: setup.part_bytes / clients.max(1), ..setup };
        assemble(Relaying { weights: Arc::new(weights), noise }, self.arithmetic, setup)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        Some(Keys { std: &mut self.own_std, kind: None, goal: None, links: None })
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        Some(Links { symbol_bytes: symbol_bytes(self.arithmetic), assumed: &mut self.assumed })
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}
