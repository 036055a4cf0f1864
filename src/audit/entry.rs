//! What an audit prints: one line a layer and client.

use serde::{Deserialize, Serialize, Serializer};

use super::Assumptions;
use super::Coalitions;
use super::learned::{Exposure, Learned};
use crate::error::Result;
use crate::message::PartyId;
use crate::privacy::floating::Sampler;
use crate::privacy::ldp;

/// One layer and one client: each number is the worst over the layer's adversaries, and `adversary` is the
/// one with the largest LMIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The protocol, by name.
    pub protocol: String,
    /// The layer: `link`, `upload`, `neighbour`, `server`, `server + 1 client`, …
    pub layer: String,
    /// The worst adversary.
    pub adversary: String,
    /// The client, from 1; in a cohort that is drawn, its place in the cohort.
    pub client: usize,
    /// Clients of the round.
    #[serde(default)]
    pub cohort: usize,
    /// Local mutual information privacy, nats per coordinate, of the worst round.
    #[serde(serialize_with = "number")]
    pub lmip_nats: f64,
    /// The same in bits.
    #[serde(serialize_with = "number")]
    pub lmip_bits: f64,
    /// What the sum over the included clients alone gives this adversary, bits per coordinate; 0 for one who
    /// does not obtain it. `inf` when all others in it collude.
    #[serde(serialize_with = "number")]
    pub floor_bits: f64,
    /// Field symbols leaked per coordinate: combinations of updates, beyond the sum and the colluders' own,
    /// that are seen without any key.
    pub symbols: usize,
    /// One of them, empty when there is none.
    pub counterexample: String,
    /// Whether the adversary obtains the sum.
    pub sum: bool,
    /// ε of one round on the view: `inf` when the sum, or the update itself, is seen.
    #[serde(serialize_with = "number")]
    pub epsilon_view: f64,
    /// The same over all rounds.
    #[serde(serialize_with = "number")]
    pub epsilon_view_total: f64,
    /// ε of one round beyond the sum; `inf` when the sum is over no other honest client.
    #[serde(serialize_with = "number")]
    pub epsilon_beyond_sum: f64,
    /// The same over all rounds.
    #[serde(serialize_with = "number")]
    pub epsilon_beyond_sum_total: f64,
    /// LMIP, bits per coordinate, of what is sent in floating point: of all masked inputs that the messages
    /// hold ([`crate::privacy::floating`]); empty where no grid makes it provable.
    #[serde(serialize_with = "optional", default)]
    pub lmip_bits_floating: Option<f64>,
    /// ε over all rounds of what is sent in floating point, beyond the sum where that is seen, the distance
    /// of the draws from ideal ones included; empty where no grid makes it provable.
    #[serde(serialize_with = "optional", default)]
    pub epsilon_floating: Option<f64>,
    /// δ.
    pub delta: f64,
    /// Rounds T.
    pub rounds: u64,
}

impl Entry {
    /// ε over all rounds in the sense that applies: beyond the sum where the sum is seen, else on the view.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        if self.sum { self.epsilon_beyond_sum_total } else { self.epsilon_view_total }
    }

    /// The same of what is provable of the bits that are sent, where there is such a number.
    #[must_use]
    pub fn provable_epsilon(&self) -> f64 {
        self.epsilon_floating.unwrap_or(0.0).max(self.epsilon())
    }

    /// LMIP in bits per coordinate, of the bits that are sent where it is provable.
    #[must_use]
    pub fn provable_lmip_bits(&self) -> f64 {
        self.lmip_bits_floating.unwrap_or(0.0).max(self.lmip_bits)
    }
}

fn optional<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// JSON has no infinity.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_str("inf") }
}

/// The lines of one layer: every client that is outside at least one of its coalitions.
pub(super) fn entries(
    (protocol, layer): (&str, &str),
    coalitions: &[&Coalitions],
    sampler: Option<&Sampler>,
    clients: usize,
    assumptions: &Assumptions,
) -> Vec<Entry> {
    let all = coalitions;
    let coalitions: Vec<&Learned> = all.iter().map(|both| &both.ideal).collect();
    let line = |k: usize| {
        let outside =
            || coalitions.iter().filter(move |learned| !learned.coalition.has(PartyId::Client(k as u16)));
        // The first of equals, so that the named adversary does not depend on rounding at the end of a list.
        let worst = outside().copied().reduce(|best, learned| {
            if learned.clients[k].lmip > best.clients[k].lmip * (1.0 + 1e-9) { learned } else { best }
        })?;
        let most = outside()
            .copied()
            .reduce(|best, learned| if learned.symbols > best.symbols { learned } else { best })?;
        let largest = |of: &dyn Fn(&Exposure) -> f64| {
            outside().map(|learned| of(&learned.clients[k])).fold(0.0, f64::max)
        };
        let epsilon = |mu: f64| ldp::epsilon(mu, assumptions.delta);
        let sum = outside().any(|learned| learned.sum);
        let bits = all.iter().filter(|both| !both.ideal.coalition.has(PartyId::Client(k as u16)));
        let bits: Option<Vec<&Learned>> = bits.map(|both| both.floating.as_ref()).collect();
        let of_bits = |of: &dyn Fn(&Exposure) -> f64| {
            let values = bits.as_ref()?.iter().map(|learned| of(&learned.clients[k]));
            values.reduce(f64::max)
        };
        let mu_of_bits = of_bits(&|e| e.squares[usize::from(sum)].sqrt());
        let lmip_nats = worst.clients[k].lmip;
        Some(Entry {
            protocol: protocol.to_owned(),
            layer: layer.to_owned(),
            adversary: worst.coalition.to_string(),
            client: k + 1,
            cohort: clients,
            lmip_nats,
            lmip_bits: lmip_nats / std::f64::consts::LN_2,
            floor_bits: worst.clients[k].floor / std::f64::consts::LN_2,
            symbols: most.symbols,
            counterexample: most.counterexample.clone(),
            sum,
            epsilon_view: epsilon(largest(&|e| e.mu[0])),
            epsilon_view_total: epsilon(largest(&|e| e.squares[0]).sqrt()),
            epsilon_beyond_sum: epsilon(largest(&|e| e.mu[1])),
            epsilon_beyond_sum_total: epsilon(largest(&|e| e.squares[1]).sqrt()),
            lmip_bits_floating: of_bits(&|e| e.lmip / std::f64::consts::LN_2),
            epsilon_floating: mu_of_bits
                .zip(sampler)
                .map(|(mu, sampler)| sampler.epsilon(mu, assumptions.delta)),
            delta: assumptions.delta,
            rounds: assumptions.rounds,
        })
    };
    (0..clients).filter_map(line).collect()
}
