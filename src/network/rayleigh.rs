//! Rayleigh block fading: a message is lost when the channel of its block is too weak for its rate.
//!
//! Tse & Viswanath, *Fundamentals of Wireless Communication*, 2005, section 5.4.1. The power gain |h|² of
//! every use is a fresh exponential variable with mean 1, and the message gets through when log₂(1 + |h|²
//! SNR) ≥ R; so it is lost with probability 1 − exp(−(2^R − 1)/SNR).
//!
//! With `combining = "chase"` the receiver adds up what it received of a message that is sent again (Chase,
//! *Code Combining*, IEEE Trans. Commun. 33(5), 1985): a transmission gets through when the gains of all
//! transfers of the attempt up to it are enough together, log₂(1 + Σ |h|² SNR) ≥ R. With θ = (2^R − 1)/SNR a
//! message is then lost after r transmissions with probability 1 − e^−θ Σ_{n<r} θⁿ/n!, instead of
//! (1 − e^−θ)^r where each stands alone. It goes with protocols whose later transfers on a link are copies of
//! the first (`Protocol::resends`). A new attempt begins anew.
//!
//! With `radius` > 0 the clients are placed uniformly in a disc around the server, the same for both families
//! of links, and the mean SNR at distance d is SNR · max(d, 1)^−α.

use std::f64::consts::TAU;
use std::path::Path;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::Draws;
use super::values::{NOT_NEGATIVE, POSITIVE, PerLink, Table};
use super::{Dependence, LinkLaw, LinkModel, LinkUse, Shape, Side};
use crate::error::{Error, Result};
use crate::message::{Node, SIGN_OF_LIFE};

/// What a receiver does with a transmission that is too weak alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combining {
    /// It forgets it.
    #[default]
    None,
    /// It adds the power of all copies of the message.
    Chase,
}

/// Rayleigh block fading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rayleigh {
    /// Mean signal-to-noise ratio within the reference distance, a power ratio (not dB) greater than 0: one
    /// number, one per sending client, or (between clients) a CSV matrix.
    pub snr: PerLink,
    /// Rate R of the transmission in bit/s/Hz, greater than 0.
    #[schemars(range(min = 0.0))]
    pub rate: f64,
    /// Radius of the disc around the server in which the clients are placed at random, in reference
    /// distances, at least 0; 0 for no geometry.
    #[schemars(range(min = 0.0))]
    pub radius: f64,
    /// Path-loss exponent α, at least 0: the mean SNR falls as distance^−α beyond the reference distance.
    #[schemars(range(min = 0.0))]
    pub path_loss: f64,
    /// What becomes of copies of a message within an attempt: "none" (each stands alone) or "chase" (their
    /// power adds up), the latter with protocols that send an upload again (`transmissions`).
    pub combining: Combining,
}

impl Default for Rayleigh {
    fn default() -> Self {
        Self { snr: PerLink::Same(10.0), rate: 1.0, radius: 0.0, path_loss: 3.0, combining: Combining::None }
    }
}

impl Rayleigh {
    /// Checks the numbers and places the clients.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`].
    pub fn model(&self, side: &Side) -> Result<Model> {
        let snr = self.snr.load("snr", POSITIVE, side)?;
        let rate = POSITIVE.check("rate", self.rate)?;
        let radius = NOT_NEGATIVE.check("radius", self.radius)?;
        if radius > 0.0 && matches!(side.shape, Shape::ToHelpers | Shape::OfHelpers) {
            return Err(Error::config("radius", "helpers have no place; take 0 for their links"));
        }
        let places = if radius > 0.0 {
            (0..side.clients)
                .map(|k| {
                    let mut rng = side.common.child("place", k as u64).rng();
                    let (distance, angle) = (radius * rng.random::<f64>().sqrt(), TAU * rng.random::<f64>());
                    [distance * angle.cos(), distance * angle.sin()]
                })
                .collect()
        } else {
            Vec::new()
        };
        Ok(Model {
            snr,
            needed: rate.exp2() - 1.0,
            path_loss: NOT_NEGATIVE.check("path_loss", self.path_loss)?,
            combining: self.combining,
            places,
            draws: Draws::new(side.seed),
        })
    }
}

impl LinkLaw for Rayleigh {
    fn resolve_paths(&mut self, folder: &Path) {
        self.snr.resolve_path(folder);
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

/// Checked channels of one family of links.
#[derive(Clone, Debug)]
pub struct Model {
    snr: Table,
    /// 2^R − 1.
    needed: f64,
    path_loss: f64,
    combining: Combining,
    /// Places of the clients in reference distances, the server at the origin; empty without a geometry.
    places: Vec<[f64; 2]>,
    draws: Draws,
}

impl Model {
    /// The mean SNR of a link.
    #[must_use]
    pub fn mean_snr(&self, from: Node, to: Node) -> f64 {
        let snr = self.snr.at(from, to);
        if self.places.is_empty() {
            return snr;
        }
        let place = |party| match party {
            Node::Client(k) => self.places[k as usize],
            Node::Helper(_) | Node::Server => [0.0, 0.0],
        };
        let ([x, y], [u, v]) = (place(from), place(to));
        snr * (x - u).hypot(y - v).max(1.0).powf(-self.path_loss)
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let first = match self.combining {
            Combining::Chase if link.transfer != SIGN_OF_LIFE => 0,
            _ => link.transfer,
        };
        let copies = (first..=link.transfer).map(|transfer| LinkUse { transfer, ..link });
        let gain: f64 = copies.map(|copy| self.draws.exponential(copy)).sum();
        gain * self.mean_snr(link.from, link.to) >= self.needed
    }

    fn combines(&self) -> bool {
        self.combining == Combining::Chase
    }

    fn dependence(&self) -> Dependence {
        if self.combines() { Dependence::Time } else { Dependence::None }
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        -(-self.needed / self.mean_snr(from, to)).exp_m1()
    }
}
