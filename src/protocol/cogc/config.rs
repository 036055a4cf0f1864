//! Configuration, and what is made of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::optimised::Optimise;
use super::stack::amplification_limit;
use super::{CoGc, Codes};
use crate::algebra::field::{M31, M61, Prime};
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::{Modulus, Quantisation, Quantiser};
use crate::coding::{Code, CodeKind, Coefficient, GradientCode};
use crate::error::{Error, Result};
use crate::keys::optimise::Optimum;
use crate::keys::{Construction, KeyChoice, KeyKind};
use crate::protocol::exchange::{Aggregator, Assemble, Given, Scheme, Setup, Simulated};
use crate::protocol::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use crate::protocol::uncoded::{check_clients_for_keys, check_std, grid};
use crate::protocol::{Arithmetic, Numbers, Stragglers, included};
use crate::seed::Seed;
use crate::wire::WireSymbol;

/// As many as an attempt has phases for.
const MOST_REPEATS: u32 = 100;

/// Which sums the server decodes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderKind {
    /// Complete sums of one attempt.
    #[default]
    Standard,
    /// Incomplete sums too, and those of all attempts of the round.
    GcPlus,
    /// The same, and the largest partial sum where the sum over all is not determined.
    GcPlusPartial,
}

impl DecoderKind {
    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::GcPlus => "gc-plus",
            Self::GcPlusPartial => "gc-plus-partial",
        }
    }

    /// Whether incomplete sums are sent and stacked over the attempts of a round.
    #[must_use]
    pub fn is_stacking(self) -> bool {
        self != Self::Standard
    }
}

/// Cooperative gradient coding without keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoGcConfig {
    /// Gradient code: "auto" (the best conditioned that exists), "cyclic-random", "cyclic-mds" or
    /// "fractional-repetition".
    pub code: CodeKind,
    /// Straggler tolerance s, 0 ≤ s < clients: any clients − s complete sums suffice; every client sends s
    /// shares a round. "default" is 7, or clients − 2 with fewer than nine clients. "auto" takes the
    /// tolerance (and with code = "auto" the code) with the fewest expected bytes per recovered round over
    /// the configured network.
    pub stragglers: Stragglers,
    /// Decoder: "standard" (complete sums of one attempt), "gc-plus" (incomplete sums too, of all attempts of
    /// the round; every client then uploads in every attempt, with the list of the shares in its sum) or
    /// "gc-plus-partial" (the same, and where the sum over all is not determined the largest sum over some
    /// clients that is; further attempts are made only where nothing is).
    pub decoder: DecoderKind,
    /// Times that shares and sums are sent in an attempt, whatever arrives, before the server decodes once
    /// from all of them, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub repeats: u32,
    /// Fewest clients in a sum, 1 to `clients`, by default 1: with "gc-plus-partial" a sum over fewer is an
    /// outage; with the other decoders sums are over all.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Arithmetic of coding and of what is sent: "f64", "f32", or "field" (quantised updates and a code over
    /// a prime field: the decoded sum has no rounding error).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
    /// Whether updates and keys are rounded to a public grid of powers of two before they are added, so that
    /// what is sent hides them bit by bit and sums are exact; without one privacy is a statement about real
    /// numbers only.
    pub grid: bool,
}

/// Secure cooperative gradient coding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecCoGcConfig {
    /// Key construction: "fair" (Fair-SecCoGC), "plain" (SecCoGC), "pairwise" (no dealer) or "optimised" (of
    /// the power of fair keys, the best for the goal of `[protocol.optimise]`).
    pub keys: KeyChoice,
    /// Standard deviation σ of the keys per coordinate, in the unit of the update; at least 0. With
    /// arithmetic = "field" keys are uniform over the field, and σ has no meaning.
    #[schemars(range(min = 0.0))]
    pub key_std: f64,
    /// Standard deviation of additional keys on every client-to-client link, which cancel within a complete
    /// sum; 0 for none, and with arithmetic = "field".
    #[schemars(range(min = 0.0))]
    pub link_key_std: f64,
    /// Gradient code: "auto" (the best conditioned that exists), "cyclic-random", "cyclic-mds" or
    /// "fractional-repetition".
    pub code: CodeKind,
    /// Straggler tolerance s, 0 ≤ s < clients: any clients − s complete sums suffice; every client sends s
    /// shares a round. "default" is 7, or clients − 2 with fewer than nine clients. "auto" takes the
    /// tolerance (and with code = "auto" the code) with the fewest expected bytes per recovered round over
    /// the configured network.
    pub stragglers: Stragglers,
    /// Decoder: "standard" (complete sums of one attempt) or "gc-plus" (incomplete sums too, of all attempts
    /// of the round; every client then uploads in every attempt, with the list of the shares in its sum).
    /// "gc-plus" decodes more rounds, shows the server more masked combinations, and needs link_key_std = 0.
    /// "gc-plus-partial" is refused, since the keys of a partial sum do not cancel.
    pub decoder: DecoderKind,
    /// Arithmetic of coding, keys and of what is sent: "f64", "f32", or "field" (quantised updates, a code
    /// and uniform keys over a prime field: the decoded sum has no rounding error, and nothing but the sum
    /// leaks).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
    /// Whether updates and keys are rounded to a public grid of powers of two before they are added, so that
    /// what is sent hides them bit by bit and sums are exact; without one privacy is a statement about real
    /// numbers only.
    pub grid: bool,
    /// What optimised keys are the best for, with keys = "optimised".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimise: Option<Optimise>,
}

impl Default for CoGcConfig {
    fn default() -> Self {
        Self {
            code: CodeKind::default(),
            stragglers: Stragglers::Default,
            decoder: DecoderKind::default(),
            repeats: 1,
            least_included: None,
            arithmetic: Arithmetic::F64,
            quantisation: None,
            grid: true,
        }
    }
}

impl Default for SecCoGcConfig {
    fn default() -> Self {
        let CoGcConfig { code, stragglers, decoder, arithmetic, quantisation, grid, .. } =
            CoGcConfig::default();
        Self {
            keys: KeyChoice::default(),
            key_std: 1.0,
            link_key_std: 0.0,
            code,
            stragglers,
            decoder,
            arithmetic,
            quantisation,
            grid,
            optimise: None,
        }
    }
}

impl CoGcConfig {
    pub(in crate::protocol) fn assemble<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        assemble(self, None, given, to)
    }
}

impl SecCoGcConfig {
    pub(in crate::protocol) fn assemble<A: Assemble>(&self, given: Given<'_>, to: A) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_std("link_key_std", self.link_key_std)?;
        check_clients_for_keys(given.clients)?;
        if self.arithmetic == Arithmetic::Field && self.link_key_std > 0.0 {
            let rule = "keys over the field hide every share completely; leave link keys out";
            return Err(Error::config("link_key_std", rule));
        }
        if self.decoder == DecoderKind::GcPlusPartial {
            let rule = "the keys of a partial sum do not cancel, and to take them out the server would have to learn them, and then \
                        sums over few clients down to a single one; take \"gc-plus\"";
            return Err(Error::config("decoder", rule));
        }
        if self.decoder.is_stacking() && self.link_key_std > 0.0 {
            let rule = "link keys cancel in complete sums only, and gc-plus sends incomplete ones; \
                        take 0 or decoder = \"standard\"";
            return Err(Error::config("link_key_std", rule));
        }
        if self.keys == KeyChoice::Optimised && self.link_key_std > 0.0 {
            let rule = "keys are optimised for shares without link keys; take 0 or another construction";
            return Err(Error::config("link_key_std", rule));
        }
        if self.keys != KeyChoice::Optimised && self.optimise.is_some() {
            let rule = "only optimised keys have a goal; take keys = \"optimised\" or leave the section out";
            return Err(Error::config("optimise", rule));
        }
        let coding = CoGcConfig {
            code: self.code,
            stragglers: self.stragglers,
            decoder: self.decoder,
            repeats: 1,
            least_included: None,
            arithmetic: self.arithmetic,
            quantisation: self.quantisation.clone(),
            grid: self.grid,
        };
        assemble(&coding, Some(self), given, to)
    }

    /// The masks under a code, and how good they are where that was asked for.
    fn construction(&self, code: &GradientCode) -> Result<(Construction, Option<Optimum>)> {
        let Some(kind) = self.keys.closed() else {
            let goal = self.optimise.clone().unwrap_or_default();
            let optimum = goal.optimum(code, self.key_std)?;
            return Ok((Construction::Correlated(Arc::clone(&optimum.covariance)), Some(optimum)));
        };
        Ok((kind.into(), None))
    }

    /// Over a field, where all masks have one law.
    fn uniform(&self) -> Result<KeyKind> {
        let rule = "over a field keys are uniform and leave nothing to optimise; take \"fair\"";
        self.keys.closed().ok_or_else(|| Error::config("keys", rule))
    }
}

fn assemble<A: Assemble>(
    coding: &CoGcConfig,
    keyed: Option<&SecCoGcConfig>,
    given: Given<'_>,
    to: A,
) -> Result<A::Output> {
    let numbers = coding.arithmetic.numbers(coding.quantisation.as_ref(), given.clients)?;
    Ok(match numbers {
        Numbers::Real(single) => {
            let code = code::<f64>(coding, given)?;
            let (mut keys, mut optimum, mut link_std) = (None, None, 0.0);
            if let Some(config) = keyed {
                let (construction, found) = config.construction(&code)?;
                (keys, optimum) = (Some((construction, config.key_std)), found);
                link_std = config.link_key_std;
            }
            let stds = keys.as_ref().map_or((0.0, 0.0), |(masks, std)| masks.stds(given.clients, *std));
            let grid = grid(coding.grid, given, stds, &numbers);
            let limit = amplification_limit(single);
            let keys = Keyed { keys, link_std, grid };
            let (protocol, mut setup) = protocol(coding, code, keys, limit, given)?;
            if let Some(config) = keyed {
                (setup.scheme.keys, setup.scheme.optimum) = (config.keys.name().into(), optimum);
            }
            to.real(protocol, single, setup)
        }
        Numbers::Field(modulus, quantiser) => match modulus {
            Modulus::M61 => field::<M61, A>(coding, keyed, quantiser, given, to)?,
            Modulus::M31 => field::<M31, A>(coding, keyed, quantiser, given, to)?,
        },
    })
}

fn field<F: Prime + WireSymbol, A: Assemble>(
    coding: &CoGcConfig,
    keyed: Option<&SecCoGcConfig>,
    quantiser: Quantiser,
    given: Given<'_>,
    to: A,
) -> Result<A::Output> {
    let kind = keyed.map(SecCoGcConfig::uniform).transpose()?;
    let keys = Keyed { keys: kind.map(|kind| (kind.into(), 1.0)), link_std: 0.0, grid: None };
    // Nothing is rounded, so that every decoding vector is as good as any other.
    let (protocol, mut setup) = protocol(coding, code::<F>(coding, given)?, keys, f64::INFINITY, given)?;
    setup.scheme.key_std = None;
    setup.scheme.keys = kind.map_or_else(String::new, |kind| kind.name().into());
    Ok(to.field::<F, _>(protocol, quantiser, setup))
}

/// The configured code.
fn code<K: Coefficient>(coding: &CoGcConfig, given: Given<'_>) -> Result<GradientCode<K>> {
    let stragglers = coding.stragglers.count(given.clients)?;
    K::code(coding.code, given.clients, stragglers, given.seed.child("code", 0))
}

/// What hides the updates.
struct Keyed {
    keys: Option<(Construction, f64)>,
    link_std: f64,
    grid: Option<Grid>,
}

fn protocol<K: Coefficient>(
    coding: &CoGcConfig,
    code: GradientCode<K>,
    Keyed { keys, link_std, grid }: Keyed,
    limit: f64,
    given: Given<'_>,
) -> Result<(CoGc<K>, Setup)> {
    if !(1..=MOST_REPEATS).contains(&coding.repeats) {
        let rule = format!("{} is out of range; give 1 to {MOST_REPEATS}", coding.repeats);
        return Err(Error::config("repeats", rule));
    }
    let least = included::visible(coding.least_included, given.clients)?;
    let partial = coding.decoder == DecoderKind::GcPlusPartial;
    let code = Arc::new(code);
    let scheme = Scheme {
        key_std: keys.as_ref().map(|(_, std)| *std),
        code: code.kind().name().into(),
        stragglers: Some(code.stragglers()),
        least_included: partial.then_some(least),
        ..Scheme::default()
    };
    let stacking = coding.decoder.is_stacking().then_some((given.seed, limit));
    let codes = Codes::new(code, stacking).repeated(coding.repeats);
    let codes = Arc::new(if partial { codes.with_partial_sums() } else { codes });
    let setup = Setup { code: Some(Arc::<Codes<K>>::clone(&codes)), ..given.setup(scheme, grid) };
    Ok((CoGc { codes, keys, link_std, grid, public: *given.public, least }, setup))
}

impl SchemeConfig for CoGcConfig {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.assemble(Given { clients, seed, public }, Simulated)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        let Self { code, stragglers, decoder, repeats, .. } = self;
        Some(Coding { code, stragglers, decoder, repeats: *repeats })
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl SchemeConfig for SecCoGcConfig {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.assemble(Given { clients, seed, public }, Simulated)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        Some(Keys {
            std: &mut self.key_std,
            kind: Some(&mut self.keys),
            links: Some(&mut self.link_key_std),
            goal: Some(&mut self.optimise),
        })
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        let Self { code, stragglers, decoder, .. } = self;
        Some(Coding { code, stragglers, decoder, repeats: 1 })
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}
