//! Bursts of losses: every link is a two-state Markov chain, good or bad, of its own.
//!
//! Gilbert, *Capacity of a Burst-Noise Channel*, Bell System Technical Journal 1960; Elliott, *Estimates of
//! Error Rates for Codes on Burst-Noise Channels*, ibid. 1963.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | P, Q (in the papers: p, r) | `to_bad`, `to_good` | transition probabilities per round |
//! | π_B = P/(P+Q) | `bad_share` | share of bad rounds |
//! | 1/Q | `burst` | mean number of rounds of a bad spell, geometric |
//! | 1−k, 1−h | `erasure_good`, `erasure_bad` | probability of a loss in either state |
//!
//! The chain steps once a round and has run for ever before the first one. All attempts and phases of a round
//! meet the same state, within which losses are independent: a bad link that loses everything does so for
//! every retry of the round.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::draw::Draws;
use super::values::{PROBABILITY, PerLink, ROUNDS, SHARE, Table};
use super::{Dependence, LinkLaw, LinkModel, LinkUse, Side};
use crate::error::{Error, Result};
use crate::message::Node;
use crate::seed::mix;

/// Bursts on every link: give `to_bad` and `to_good`, or `bad_share` and `burst`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GilbertElliott {
    /// Probability per round that a good link turns bad, in [0, 1]: one number, one per sending client, or
    /// (between clients) a CSV matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_bad: Option<PerLink>,
    /// Probability per round that a bad link turns good, in [0, 1]; like `to_bad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_good: Option<PerLink>,
    /// Share of rounds in which the link is bad, in [0, 1); like `to_bad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_share: Option<PerLink>,
    /// Mean length of a bad spell in rounds, at least 1; like `to_bad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<PerLink>,
    /// Erasure probability of a use of a good link, in [0, 1]; like `to_bad`.
    pub erasure_good: PerLink,
    /// Erasure probability of a use of a bad link, in [0, 1]; like `to_bad`.
    pub erasure_bad: PerLink,
}

impl Default for GilbertElliott {
    fn default() -> Self {
        Self {
            to_bad: None,
            to_good: None,
            bad_share: None,
            burst: None,
            erasure_good: PerLink::Same(0.0),
            erasure_bad: PerLink::Same(1.0),
        }
    }
}

impl GilbertElliott {
    /// Checks the chains of all links.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`]; a chain without a stationary law.
    pub fn model(&self, side: &Side) -> Result<Model> {
        let (law, key) = match (&self.to_bad, &self.to_good, &self.bad_share, &self.burst) {
            (Some(to_bad), Some(to_good), None, None) => (
                Law::Transitions(
                    to_bad.load("to_bad", PROBABILITY, side)?,
                    to_good.load("to_good", PROBABILITY, side)?,
                ),
                "to_good",
            ),
            (None, None, Some(bad_share), Some(burst)) => (
                Law::Bursts(bad_share.load("bad_share", SHARE, side)?, burst.load("burst", ROUNDS, side)?),
                "burst",
            ),
            _ => {
                return Err(Error::config(
                    "",
                    "gilbert-elliott needs either to_bad and to_good, or bad_share and burst",
                ));
            }
        };
        let (Law::Transitions(first, second) | Law::Bursts(first, second)) = &law;
        for (from, to) in side.links(first.is_same() && second.is_same()) {
            law.chain(from, to)
                .map_err(|rule| Error::config(key, format!("link from {from} to {to}: {rule}")))?;
        }
        Ok(Model {
            law,
            good: self.erasure_good.load("erasure_good", PROBABILITY, side)?,
            bad: self.erasure_bad.load("erasure_bad", PROBABILITY, side)?,
            states: side.seed.child("state", 0).word(),
            draws: Draws::new(side.seed),
        })
    }
}

impl LinkLaw for GilbertElliott {
    fn resolve_paths(&mut self, folder: &Path) {
        let chain = [&mut self.to_bad, &mut self.to_good, &mut self.bad_share, &mut self.burst];
        for values in chain.into_iter().flatten().chain([&mut self.erasure_good, &mut self.erasure_bad]) {
            values.resolve_path(folder);
        }
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

#[derive(Clone, Debug)]
enum Law {
    Transitions(Table, Table),
    Bursts(Table, Table),
}

impl Law {
    fn chain(&self, from: Node, to: Node) -> Result<Chain, String> {
        match self {
            Self::Transitions(to_bad, to_good) => Chain::new(to_bad.at(from, to), to_good.at(from, to)),
            Self::Bursts(share, length) => Chain::of_bursts(share.at(from, to), length.at(from, to)),
        }
    }
}

/// The checked chains of one family of links.
#[derive(Clone, Debug)]
pub struct Model {
    law: Law,
    good: Table,
    bad: Table,
    states: u64,
    draws: Draws,
}

impl Model {
    fn chain(&self, from: Node, to: Node) -> Chain {
        self.law.chain(from, to).expect("every link's chain was checked when the model was built")
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let (from, to) = (link.from, link.to);
        let ends = u64::from(from.code()) << 32 | u64::from(to.code());
        let bad = self.chain(from, to).is_bad(mix(self.states ^ ends), link.round);
        let erasure = if bad { &self.bad } else { &self.good };
        self.draws.uniform(link) >= erasure.at(from, to)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        let share = self.chain(from, to).bad_share();
        share * self.bad.at(from, to) + (1.0 - share) * self.good.at(from, to)
    }

    fn dependence(&self) -> Dependence {
        Dependence::Time
    }
}
