//! Aggregation protocols as sans-I/O parties.
//!
//! A [`Protocol`] deals keys and makes one [`Party`] per participant. A party takes a phase and the envelopes
//! that arrived, and returns the envelopes that it sends; a lost or refused message is simply absent. The
//! same party code runs in the trainer ([`exchange`]), under test with hand-picked erasures, and under audit
//! with formal symbols ([`crate::privacy`]).
//!
//! | file | schemes | source |
//! |---|---|---|
//! | [`uncoded`] | `ideal`, `fedavg`, `gaussian`, `zero-sum` | McMahan et al. 2017; Weng et al., section IX |
//! | [`relaying`] | `colrel`, `pricer` | Yemini et al. 2024; Saha et al. 2024 |
//! | [`cogc`] | `cogc`, `sec-cogc` | Weng et al. 2024; 2025; arXiv 2507.07565 |
//! | [`fedacs`] | `fedacs` | Weng, Ren, Xiao, Skoglund, *Heterogeneity-Aware Client Sampling*, arXiv 2505.11304 |
//! | [`coffee`] | `coffee` | *Communication-Efficient Semi-Decentralized Federated Learning in the Presence of Stragglers*, IEEE Trans. Commun. 2025 |
//! | [`mds_relay`] | `mds-relay` | Weng et al., *Coded Cooperative Networks for Semi-Decentralized Federated Learning*, 2024 |
//! | [`hierarchical`] | `hierarchical` | Lu, Cheng, Kang, Liu, *Capacity of Hierarchical Secure Coded Gradient Aggregation* |
//! | [`secure_gc`] | `secure-gc` | *Secure gradient coding, minimum source key size* |
//! | [`zhao_sun`] | `zhao-sun` | Zhao & Sun, *Information Theoretic Secure Aggregation with User Dropouts* |
//! | [`light_sec_agg`] | `light-sec-agg` | So et al., *LightSecAgg*, MLSys 2022 |
//! | [`groupwise`] | `groupwise` | Wan et al., *Information Theoretic Secure Aggregation with Uncoded Groupwise Keys* |
//! | [`dsa`] | `dsa` | Zhang et al., *Information-Theoretic Decentralized Secure Aggregation*, arXiv 2508.00596 |
//! | [`sec_agg`] | `sec-agg`, `sec-agg-plus` | Bonawitz et al. 2017, Bell et al. 2020 |
//!
//! A new protocol is one file that implements the two traits and a configuration struct, and one line in
//! [`ProtocolConfig`].

pub mod coffee;
pub mod cogc;
pub mod dsa;
pub mod exchange;
pub mod fedacs;
pub mod groupwise;
pub mod hierarchical;
mod included;
pub mod light_sec_agg;
pub mod mds_relay;
pub mod relaying;
pub mod sec_agg;
mod section;
pub mod secure_gc;
mod stragglers;
pub mod two_round;
pub mod uncoded;
pub mod unkeyed;
#[cfg(test)]
mod wire_tests;
pub mod zhao_sun;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::algebra::Symbol;
use crate::algebra::field::{M31, M61, Prime};
use crate::algebra::grid::Public;
use crate::algebra::quantise::{Modulus, Quantisation, Quantiser};
use crate::choice::choice;
use crate::coding::CodeKind;
use crate::error::{Error, Result};
use crate::keys::KeySource;
pub use crate::message::{
    Clock, Decoded, Envelope, Expects, Message, Observed, PartyId, Phase, Reason, Views,
};
pub use crate::privacy::Formal;
use crate::seed::Seed;
use crate::wire::{Form, WireSymbol};
use exchange::Assemble;
pub use exchange::{Aggregate, Aggregator, Refusal, Scheme, Traffic, Update};
pub use section::{Coding, Keys, LARGE, Links, SMALL, SchemeConfig};
pub use stragglers::Stragglers;

/// What a party holds before the round starts.
pub trait Secret<S>: Send {
    /// The symbol vectors of the key material.
    fn held(&self) -> Vec<&[S]>;
}

/// A client's input: the vector that enters the sum.
pub trait Input<S>: Sync {
    /// Number of coordinates d.
    fn len(&self) -> usize;

    /// Whether there are no coordinates.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `y += input`; `y` has [`Input::len`] symbols.
    fn add_to(&self, y: &mut [S]);
}

/// One participant's state machine for one round.
pub trait Party<M, S>: Send {
    /// Which rule of the protocol the body of a message breaks, if any. Its sender, addressee and time are
    /// right, and nobody has sent two ([`exchange::admit`]); what is refused never reaches [`Party::step`].
    fn refusal(&self, message: &Envelope<M>) -> Option<String>;

    /// Consumes what arrived from the previous phase and was accepted, and returns what to send in this one.
    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<M>>) -> Vec<Envelope<M>>;

    /// The result after the last step of an attempt, of whoever obtains it: the server. `None` for everybody
    /// else.
    fn decoded(&mut self) -> Option<Decoded<S>> {
        None
    }

    /// The inputs that the last result was made of, as the server holds them: one for each client that it
    /// includes, in that order. Asked of the server where [`Protocol::singles`] says that it sees them.
    fn singles(&mut self) -> Vec<Arc<Vec<S>>> {
        Vec::new()
    }
}

/// What the server sees of a single client's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Singles {
    /// Nothing: sums only.
    Hidden,
    /// The input as it is.
    Plain,
    /// The input with noise that the client adds.
    Noisy,
}

/// An aggregation scheme over symbols `S`.
pub trait Protocol<S: Symbol>: Send + Sync {
    /// What travels.
    type Message: Message<S>;
    /// A party's key material for one round.
    type Key: Secret<S>;
    /// The state machine of every role.
    type Party: Party<Self::Message, S>;

    /// All participants; clients first, then helpers, each in order.
    fn parties(&self) -> Vec<PartyId>;

    /// The phases of an attempt: what is sent in each, from whom to whom. Nothing else is sent: the time of a
    /// round, the link states that messages meet and the drop-outs that audits try follow from it.
    fn phases(&self) -> Vec<Phase>;

    /// Offline phase: fresh keys for one round, one per party in the order of [`Protocol::parties`], for
    /// inputs of `len` coordinates.
    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Self::Key>;

    /// The key that [`Protocol::deal`] gives to `id`, made by that party alone: only streams of the party
    /// itself and of pairs that contain it are drawn. `None` where keys need a dealer.
    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Self::Key> {
        let _ = (id, round, len, source);
        None
    }

    /// What `id` knows beside that key: the draws that it is made of, where the party makes them itself.
    /// Audits let colluders know them.
    fn draws(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Vec<S>> {
        let _ = (id, round, len, source);
        Vec::new()
    }

    /// What the receivers of a phase expect, for inputs of `len` coordinates, and the most bytes of a body;
    /// by default one vector as long as an input.
    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        let _ = phase;
        (Form { len, members: 0, largest: f64::INFINITY }, len * S::BYTES)
    }

    /// Whether all coordinates are treated alike: every message carries one vector as long as an input, the
    /// server's none, beside a part of constant size; coordinate i of a key is made of the symbols i of its
    /// streams; and who sends what to whom, and whether the server decodes, depends on nothing but what
    /// arrived. A round is then played part by part, with the same result, without holding all vectors of all
    /// clients at once.
    fn is_separable(&self) -> bool {
        false
    }

    /// Whether all that a link carries in an attempt are copies of one message, each sent only where those
    /// before it were lost, so that a receiver may combine them.
    fn resends(&self) -> bool {
        false
    }

    /// What the server sees of a single client's input; beyond [`Singles::Hidden`] its party hands over what
    /// it holds ([`Party::singles`]).
    fn singles(&self) -> Singles {
        Singles::Hidden
    }

    /// The bound on a decoded sum's rounding error over its norm, when keys are `scale` times as strong and
    /// the coordinates of updates have the root mean square `update`; `None` where nothing is rounded, or
    /// that is not known before a round.
    fn imprecision(&self, scale: f64, update: f64) -> Option<f64> {
        let _ = (scale, update);
        None
    }

    /// A round in which as much is sent as in any: what audits look at.
    fn fullest(&self) -> u64 {
        1
    }

    /// Coordinates that an input needs in an audit: 1 where all coordinates are treated alike.
    fn formal_len(&self) -> usize {
        1
    }

    /// The inputs that a client knows, ascending; its [`Protocol::party`] gets them one after the other. Its
    /// own one, unless data is replicated.
    fn holds(&self, client: u16) -> Vec<u16> {
        vec![client]
    }

    /// The state machine of `id`. Clients have an input, helpers and the server have none.
    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<S>>) -> Self::Party;
}

/// Precision of the symbols that a scheme computes with and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// Single precision, 4 bytes a coordinate.
    F32,
    /// Double precision, 8 bytes a coordinate.
    F64,
    /// Quantised updates over a prime field, exact; see `quantisation`.
    Field,
}

/// Where keys that several clients share come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SharedKeys {
    /// Agreed with X25519, expanded with HKDF-SHA-256 and ChaCha20: secure against bounded adversaries.
    #[default]
    Agreement,
    /// Independent uniform symbols, as long as what they mask: secure against everybody.
    Uniform,
}

impl SharedKeys {
    /// The name used in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::Uniform => "uniform",
        }
    }

    /// Keys that parties who are apart can make.
    ///
    /// # Errors
    /// Uniform ones.
    fn check_apart(self) -> Result<()> {
        match self {
            Self::Agreement => Ok(()),
            Self::Uniform => {
                let rule = "uniform keys need a dealer, and a deployment has none; take \"agreement\"";
                Err(Error::config("keys", rule))
            }
        }
    }
}

/// What a scheme that can use any arithmetic computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    /// Floating point; whether in single precision.
    Real(bool),
    /// A prime field.
    Field(Modulus, Quantiser),
}

impl Arithmetic {
    /// Checks `quantisation`, which belongs to `field`, for the sum of `clients` updates.
    fn numbers(self, quantisation: Option<&Quantisation>, clients: usize) -> Result<Numbers> {
        match (self, quantisation) {
            (Self::Field, None) => Self::Field.numbers(Some(&Quantisation::default()), clients),
            (Self::Field, Some(quantisation)) => {
                let quantiser =
                    quantisation.quantiser(clients).map_err(|error| error.within("quantisation"))?;
                Ok(Numbers::Field(quantisation.modulus, quantiser))
            }
            (_, Some(_)) => {
                Err(Error::config("quantisation", "belongs to arithmetic = \"field\"; set that or remove it"))
            }
            (real, None) => Ok(Numbers::Real(real == Self::F32)),
        }
    }
}

/// The configuration of a scheme that exists over every prime field.
trait OverField {
    /// How updates become field symbols.
    fn quantisation(&self) -> &Quantisation;

    /// The scheme over `F`.
    fn over<F: Prime + WireSymbol>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
    ) -> Result<Box<dyn Aggregator>>;

    /// As [`SchemeConfig::memory`].
    fn memory(&self) -> u64;

    /// The scheme over the field that [`OverField::quantisation`] names, which is checked for the sum of
    /// `clients` updates.
    fn build(&self, clients: usize, seed: Seed) -> Result<Box<dyn Aggregator>> {
        let quantisation = self.quantisation();
        let quantiser = quantisation.quantiser(clients).map_err(|error| error.within("quantisation"))?;
        match quantisation.modulus {
            Modulus::M61 => self.over::<M61>(quantiser, clients, seed),
            Modulus::M31 => self.over::<M31>(quantiser, clients, seed),
        }
    }
}

/// Such a scheme whose parties can be apart: messages have a binary form, and nobody deals keys.
trait Deployable: OverField {
    /// What `to` makes of the scheme over `F`.
    ///
    /// # Errors
    /// Parameters that break a rule of the scheme, keyed relative to the section.
    fn assemble_over<F: Prime + WireSymbol, A: Assemble>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
        to: A,
    ) -> Result<A::Output>;

    /// The same over the field that is configured.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(feature = "parties", test))]
    fn assemble<A: Assemble>(&self, clients: usize, seed: Seed, to: A) -> Result<A::Output> {
        let quantisation = self.quantisation();
        let quantiser = quantisation.quantiser(clients).map_err(|error| error.within("quantisation"))?;
        match quantisation.modulus {
            Modulus::M61 => self.assemble_over::<M61, A>(quantiser, clients, seed, to),
            Modulus::M31 => self.assemble_over::<M31, A>(quantiser, clients, seed, to),
        }
    }
}

choice! {
    /// An aggregation protocol, chosen by `kind`.
    ProtocolConfig by "kind" or "sec-cogc" as section / section_mut: SchemeConfig {
        /// Plain FedAvg over links that never fail: the upper reference.
        "ideal" => Ideal(uncoded::Ideal),
        /// FedAvg over the failing links: the mean of what arrives.
        "fedavg" => FedAvg(uncoded::FedAvg),
        /// Local Gaussian noise on every update, over the failing links.
        "gaussian" => Gaussian(uncoded::Gaussian),
        /// Zero-sum masks without a code, over the failing links: the sum of what arrives.
        "zero-sum" => ZeroSum(uncoded::ZeroSum),
        /// Cooperative gradient coding: exact or nothing, no privacy.
        "cogc" => CoGc(cogc::CoGcConfig),
        /// Secure cooperative gradient coding: exact or nothing, with secret keys.
        "sec-cogc" => SecCoGc(cogc::SecCoGcConfig),
        /// Clients share some steps of an exact consensus and upload the averages that they hold: an
        /// estimate, no privacy.
        "coffee" => Coffee(coffee::CoffeeConfig),
        /// Clients upload coded combinations of the updates that they heard: exact over those that the server
        /// can solve for, no privacy.
        "mds-relay" => MdsRelay(mds_relay::MdsRelayConfig),
        /// Two rounds with ramp-shared masks: exact over who uploaded, nothing more for the server with T
        /// clients (Zhao & Sun).
        "zhao-sun" => ZhaoSun(zhao_sun::ZhaoSunConfig),
        /// The same without a dealer: clients share their masks among themselves first (So et al. 2022).
        "light-sec-agg" => LightSecAgg(light_sec_agg::LightSecAggConfig),
        /// Two rounds with plain keys shared by groups: exact over who uploaded, nothing more for the server
        /// alone (Wan et al.).
        "groupwise" => Groupwise(groupwise::GroupwiseConfig),
        /// Pairwise masks, self masks and Shamir's scheme: exact over who uploaded (Bonawitz et al. 2017).
        "sec-agg" => SecAgg(sec_agg::SecAggConfig),
        /// The same over a sparse random graph of the clients (Bell et al. 2020).
        "sec-agg-plus" => SecAggPlus(sec_agg::SecAggPlusConfig),
        /// Aggregation through helpers over straggling links, with information-theoretic privacy.
        "hierarchical" => Hierarchical(hierarchical::HierarchicalConfig),
        /// Gradient coding over replicated shards of the data, with short transmissions and few keys.
        "secure-gc" => SecureGc(secure_gc::SecureGcConfig),
        /// Collaborative relaying: unbiased sums of what relays heard, no privacy (Yemini et al.).
        "colrel" => ColRel(relaying::ColRel),
        /// The same with Gaussian noise against the relays (Saha et al.).
        "pricer" => PriCer(relaying::PriCer),
        /// Clients are drawn the more often, the more their links lose: an estimate (Weng et al. 2025).
        "fedacs" => FedAcs(fedacs::FedAcsConfig),
        /// Every client obtains the sum over all, without a server: exact where one does (Zhang et al.).
        "dsa" => Dsa(dsa::DsaConfig),
    }
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self::SecCoGc(cogc::SecCoGcConfig::default())
    }
}

impl ProtocolConfig {
    /// Builds the scheme for `clients` clients. `seed` feeds what is drawn once per run (the code) and the
    /// keys.
    ///
    /// # Errors
    /// Parameters that break a rule of the scheme, keyed relative to the section.
    pub fn build(&self, clients: usize, seed: Seed) -> Result<Box<dyn Aggregator>> {
        self.build_for(clients, seed, &Public::default())
    }

    /// [`ProtocolConfig::build`] for inputs of which more is known.
    ///
    /// # Errors
    /// As there.
    pub fn build_for(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        self.section().build(clients, seed, public)
    }

    /// σ of its keys or noise, if it has any.
    #[must_use]
    pub fn key_std(&self) -> Option<f64> {
        self.clone().section_mut().keys().map(|keys| *keys.std)
    }

    /// The same with another σ; `None` if it has neither keys nor noise.
    #[must_use]
    pub fn with_key_std(&self, key_std: f64) -> Option<Self> {
        let mut other = self.clone();
        *other.section_mut().keys()?.std = key_std;
        Some(other)
    }

    /// The protocol for a smaller cohort: a straggler tolerance that would let a single client decode becomes
    /// the largest that does not, and a code that does not exist for the new numbers becomes "auto".
    #[must_use]
    pub fn fitted(&self, clients: usize) -> Self {
        let mut protocol = self.clone();
        if let Some(Coding { code, stragglers, .. }) = protocol.section_mut().coding()
            && let Ok(s) = stragglers.count(clients)
        {
            let s = s.min(clients.saturating_sub(2));
            *stragglers = Stragglers::Count(s);
            if !code.exists(clients, s) {
                *code = CodeKind::Auto;
            }
        }
        protocol
    }

    /// Makes something of the scheme whose messages have a binary form.
    ///
    /// # Errors
    /// As [`ProtocolConfig::build`]; a scheme without a binary form.
    #[cfg(any(feature = "parties", test))]
    pub(crate) fn assemble<A: exchange::Assemble>(
        &self,
        given: exchange::Given<'_>,
        to: A,
    ) -> Result<A::Output> {
        match self {
            Self::FedAvg(config) => config.assemble(given, to),
            Self::Gaussian(config) => config.assemble(given, to),
            Self::ZeroSum(config) => config.assemble(given, to),
            Self::CoGc(config) => config.assemble(given, to),
            Self::SecCoGc(config) => config.assemble(given, to),
            Self::LightSecAgg(config) => config.assemble(given.clients, given.seed, to),
            Self::Groupwise(config) => config.assemble(given.clients, given.seed, to),
            Self::SecAgg(config) => config.assemble(given.clients, given.seed, to),
            Self::SecAggPlus(config) => config.assemble(given.clients, given.seed, to),
            Self::ZhaoSun(_) => {
                let rule =
                    "zhao-sun needs a dealer of its masks' shares; take light-sec-agg, the same without one";
                Err(Error::config("kind", rule))
            }
            Self::Hierarchical(_) => {
                let rule = "hierarchical needs helpers, and a deployment has none; take light-sec-agg";
                Err(Error::config("kind", rule))
            }
            Self::SecureGc(_) => {
                let rule = "secure-gc needs data that several clients hold, and deployed clients keep theirs; take sec-cogc";
                Err(Error::config("kind", rule))
            }
            Self::Ideal(_)
            | Self::Coffee(_)
            | Self::MdsRelay(_)
            | Self::ColRel(_)
            | Self::PriCer(_)
            | Self::FedAcs(_)
            | Self::Dsa(_) => {
                let rule = format!(
                    "{} runs in simulation only; take fedavg, gaussian, zero-sum, cogc, sec-cogc, light-sec-agg, groupwise, \
                     sec-agg or sec-agg-plus",
                    self.kind()
                );
                Err(Error::config("kind", rule))
            }
        }
    }
}
