//! What tools ask of a scheme's configuration: one trait in which every kind answers for itself.

use super::exchange::Aggregator;
use super::{OverField, Stragglers, cogc::DecoderKind, cogc::Optimise};
use crate::algebra::grid::Public;
use crate::coding::CodeKind;
use crate::error::Result;
use crate::keys::KeyChoice;
use crate::network::assumed::Assumed;
use crate::seed::Seed;

/// The keys or the noise of a scheme over the reals, to be read and varied.
#[derive(Debug)]
pub struct Keys<'a> {
    /// σ.
    pub std: &'a mut f64,
    /// How zero-sum masks are made; `None` where there is noise instead.
    pub kind: Option<&'a mut KeyChoice>,
    /// Standard deviation of the link keys, 0 for none; `None` where nothing is sent between clients.
    pub links: Option<&'a mut f64>,
    /// What optimised keys are the best for; `None` where keys are not optimised.
    pub goal: Option<&'a mut Option<Optimise>>,
}

/// The gradient code of a scheme, to be read and varied.
#[derive(Debug)]
pub struct Coding<'a> {
    /// The family.
    pub code: &'a mut CodeKind,
    /// The tolerance s.
    pub stragglers: &'a mut Stragglers,
    /// How the server decodes.
    pub decoder: &'a mut DecoderKind,
    /// Times that shares and sums are sent in an attempt.
    pub repeats: u32,
}

/// What a scheme takes the losses of the links for.
#[derive(Debug)]
pub struct Links<'a> {
    /// The probabilities; what is left open in them the network says.
    pub assumed: &'a mut Assumed,
    /// Bytes of a symbol on the wire.
    pub symbol_bytes: usize,
}

/// A section `[protocol]` of some kind. Nothing has a default, so that no tool overlooks a new kind.
pub trait SchemeConfig: Send + Sync {
    /// Builds the scheme for `clients` clients and inputs of which this is known. `seed` feeds what is drawn
    /// once per run and the keys.
    ///
    /// # Errors
    /// Parameters that break a rule of the scheme, keyed relative to the section.
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>>;

    /// Its keys or noise of a strength σ; `None` where there are none, or uniform ones.
    fn keys(&mut self) -> Option<Keys<'_>>;

    /// Its gradient code, if it has one that tools may vary.
    fn coding(&mut self) -> Option<Coding<'_>>;

    /// What it takes the losses for, if it needs to know them.
    fn links(&mut self) -> Option<Links<'_>>;

    /// Bytes per client and parameter that a run in one process takes at most, its data aside: [`SMALL`], or
    /// [`LARGE`] for schemes that hold a share for every pair of parties.
    fn memory(&self) -> u64;
}

/// With ten clients and a network of 1.66 million parameters the peak of a process was 13 bytes per client
/// and parameter (`ideal`), 14 (`sec-cogc`), 19 (`sec-agg-plus`) and 23 (`secure-gc`), the data included;
/// solvers with control variates exchange vectors of twice the length.
pub const SMALL: u64 = 32;

/// The same was 40 (`groupwise`), 50 (`zhao-sun`), 72 (`light-sec-agg`) and 84 (`hierarchical`).
pub const LARGE: u64 = 96;

impl<T: OverField + Send + Sync> SchemeConfig for T {
    fn build(&self, clients: usize, seed: Seed, _: &Public) -> Result<Box<dyn Aggregator>> {
        OverField::build(self, clients, seed)
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
        OverField::memory(self)
    }
}
