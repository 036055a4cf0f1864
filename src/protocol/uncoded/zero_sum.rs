//! Configuration of zero-sum masks, and what is made of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{assemble, check_clients_for_keys, check_std, check_transmissions, grid, real};
use super::split::{self, Split};
use super::{Mask, Uncoded};
use crate::algebra::grid::Public;
use crate::error::{Error, Result};
use crate::keys::{Construction, KeyChoice};
use crate::network::assumed::Assumed;
use crate::privacy::floating::Draws;
use crate::privacy::ldp;
use crate::protocol::exchange::{Aggregator, Assemble, Given, Scheme, Simulated};
use crate::protocol::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use crate::protocol::{Arithmetic, included};
use crate::seed::Seed;

/// Who adds how much noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// Keys of `key_std`, and alone each client adds noise of `residual_std`.
    #[default]
    Given,
    /// What leaves the least noise in an estimate over links that lose what they are assumed to lose.
    Best,
}

/// Zero-sum masks without a code, and noise that does not cancel beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZeroSum {
    /// Key construction: "plain", "fair" or "pairwise".
    pub keys: KeyChoice,
    /// Standard deviation σ of the keys per coordinate, in the unit of the update; at least 0. With `split =
    /// "best"`: keys and noise hide an update from whoever reads all uploads as well as independent noise of
    /// this σ would.
    #[schemars(range(min = 0.0))]
    pub key_std: f64,
    /// Standard deviation of the noise that every client adds beside its key, per coordinate, in the unit of
    /// the update; at least 0. It stays in the sum.
    #[schemars(range(min = 0.0))]
    pub residual_std: f64,
    /// "given": keys of `key_std` and noise of `residual_std`; the server adds what arrives. "best", with
    /// keys = "pairwise": what a pair shares and what a client adds alone are chosen such that the server's
    /// estimate of the sum over all, which counts each upload as 1/p of the probability that it arrives,
    /// holds the least noise.
    pub split: SplitKind,
    /// (ε, δ) against whoever reads all uploads, from which σ follows, with `split = "best"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What `split = "best"` takes the losses for; a table.
    pub assumed: Assumed,
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

/// What noise may cost: (ε, δ)-local differential privacy of an update, of real numbers; `seccogc audit` says
/// what is added by their bits. Needs `solver.clip_norm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// ε > 0 over all `rounds`.
    #[schemars(range(min = 0.0))]
    pub epsilon: f64,
    /// δ, 0 < δ < 1; by default 10⁻⁵.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "delta")]
    pub delta: f64,
    /// Rounds T over which it is spent, at least 1.
    #[schemars(range(min = 1))]
    pub rounds: u64,
}

fn delta() -> f64 {
    1e-5
}

impl Default for ZeroSum {
    fn default() -> Self {
        Self {
            keys: KeyChoice::default(),
            key_std: 1.0,
            residual_std: 0.0,
            split: SplitKind::Given,
            budget: None,
            assumed: Assumed::default(),
            arithmetic: Arithmetic::F64,
            grid: true,
            least_included: None,
            transmissions: 1,
        }
    }
}

impl Budget {
    /// The standard deviation of Gaussian noise that keeps the budget for inputs of norm up to `reach`: it
    /// makes a round μ-Gaussian-DP with μ = 2 reach/σ, and T rounds are μ√T.
    fn std(&self, reach: Option<f64>) -> Result<f64> {
        let Self { epsilon, delta, rounds } = *self;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(Error::config(
                "epsilon",
                format!("{epsilon} must be a finite number greater than 0"),
            ));
        }
        if !(delta > 0.0 && delta < 1.0) {
            return Err(Error::config("delta", format!("{delta} is outside (0, 1)")));
        }
        if rounds == 0 {
            return Err(Error::config("rounds", "0 is too small; give at least 1"));
        }
        let Some(reach) = reach else {
            let rule = "noise follows from the largest norm of an update; set solver.clip_norm";
            return Err(Error::config("epsilon", rule));
        };
        Ok(2.0 * reach * (rounds as f64).sqrt() / ldp::mu(epsilon, delta))
    }
}

impl ZeroSum {
    pub(in crate::protocol) fn assemble<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_std("residual_std", self.residual_std)?;
        check_transmissions(self.transmissions)?;
        check_clients_for_keys(given.clients)?;
        match self.split {
            SplitKind::Given => self.assemble_given(given, to),
            SplitKind::Best => self.assemble_best(given, to),
        }
    }

    fn assemble_given<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        let clients = given.clients;
        let best = "belongs to split = \"best\"; set that or remove it";
        if self.budget.is_some() {
            return Err(Error::config("budget", best));
        }
        if self.assumed != Assumed::default() {
            return Err(Error::config("assumed", best));
        }
        if self.residual_std > 0.0 && self.key_std == 0.0 {
            let rule = "without keys this is independent noise; take kind = \"gaussian\"";
            return Err(Error::config("residual_std", rule));
        }
        let least_included = Some(included::visible(self.least_included, clients)?);
        let rule = "without a code every adversary sees all clients alike, and fair keys are the best; take \"fair\"";
        let kind = self.keys.closed().ok_or_else(|| Error::config("keys", rule))?;
        let (draws, mask) = kind.stds(clients, self.key_std);
        let (mut stds, mut residual, mut draws_of_both) = ((draws, mask), Vec::new(), None);
        if self.residual_std > 0.0 {
            residual = vec![self.residual_std; clients];
            stds = (draws.min(self.residual_std), mask.hypot(self.residual_std));
            let m = clients as f64;
            let shared = if kind.name() == "pairwise" { m * (m - 1.0) / 2.0 } else { m };
            draws_of_both = Some(Draws {
                nodes: clients + 1,
                count: shared + m,
                stds: (stds.0, draws.max(self.residual_std)),
            });
        }
        let (keys, key_std) = (kind.name().into(), Some(self.key_std));
        let scheme = Scheme { keys, key_std, least_included, draws: draws_of_both, ..Scheme::default() };
        let rule = "one lost upload would leave a mask that is uniform over the field";
        let numbers = real(self.arithmetic, rule)?;
        let setup = given.setup(scheme, grid(self.grid, given, stds, &numbers));
        let mask = Mask::ZeroSum { keys: kind.into(), std: self.key_std, residual: residual.into() };
        let protocol = Uncoded { transmissions: self.transmissions, mask, ..Uncoded::new(clients) };
        Ok(assemble(protocol, numbers, setup, to))
    }

    fn assemble_best<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        let clients = given.clients;
        let refuse = |key: &str, rule: &str| Err(Error::config(key, rule));
        if A::APART {
            return refuse("split", "runs in simulation only; take \"given\"");
        }
        if self.keys != KeyChoice::Pairwise {
            return refuse("keys", "the best split is one of noise that pairs share; take \"pairwise\"");
        }
        if self.residual_std > 0.0 {
            return refuse(
                "residual_std",
                "follows from the best split; remove it, or take split = \"given\"",
            );
        }
        if self.least_included.is_some() {
            let rule = "the best split is for an estimate over whoever arrives; remove it";
            return refuse("least_included", rule);
        }
        if self.transmissions > 1 {
            let rule = "the best split is for uploads that are sent once; take 1, or split = \"given\"";
            return refuse("transmissions", rule);
        }
        let std = match &self.budget {
            Some(budget) => budget.std(given.public.reach()).map_err(|error| error.within("budget"))?,
            None => self.key_std,
        };
        let arrives = self.assumed.delivery(clients).map_err(|error| error.within("assumed"))?.up;
        let Split { pairs, residual } = split::best(&arrives)?;
        let residual: Arc<[f64]> = residual.iter().map(|own| std * own).collect();
        let (least, most) =
            residual.iter().fold(pairs.draws(std), |(least, most), own| (least.min(*own), most.max(*own)));
        let masks = pairs.variances(std).into_iter().zip(&*residual).map(|(pairs, own)| pairs + own * own);
        let largest = masks.fold(0.0, f64::max).sqrt();
        let m = clients as f64;
        let draws = Draws { nodes: clients + 1, count: m * (m + 1.0) / 2.0, stds: (least, most) };
        let scheme = Scheme {
            keys: self.keys.name().into(),
            key_std: Some(std),
            draws: Some(draws),
            ..Scheme::default()
        };
        let numbers = real(self.arithmetic, "noise that does not cancel would be all over the field")?;
        let setup = given.setup(scheme, grid(self.grid, given, (least, largest), &numbers)).estimating();
        let mask = Mask::ZeroSum { keys: Construction::Pairs(Arc::new(pairs)), std, residual };
        let weights = Some(arrives.iter().map(|p| p.recip()).collect());
        Ok(assemble(Uncoded { mask, weights, ..Uncoded::new(clients) }, numbers, setup, to))
    }
}

impl SchemeConfig for ZeroSum {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.assemble(Given { clients, seed, public }, Simulated)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        match self.split {
            SplitKind::Given => {
                Some(Keys { std: &mut self.key_std, kind: Some(&mut self.keys), links: None, goal: None })
            }
            // What it may cost is said beforehand.
            SplitKind::Best => None,
        }
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        let symbol_bytes = if self.arithmetic == Arithmetic::F32 { 4 } else { 8 };
        (self.split == SplitKind::Best).then_some(Links { symbol_bytes, assumed: &mut self.assumed })
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}
