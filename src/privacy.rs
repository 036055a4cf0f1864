//! Privacy that is computed from what the parties really send.
//!
//! [`Aggregator::views`](crate::protocol::Aggregator::views) runs a protocol's own party code with formal
//! symbols: every message is a combination of the clients' inputs W and the key draws K. What an adversary
//! sees, receives and holds itself is then a matrix, V = A W + B K ([`view`]), and every measure below is a
//! number of that matrix: the code that runs is the code that is audited. [`crate::audit`] collects them for
//! every layer of adversaries, `seccogc audit` prints them, `leakage.csv` in a run directory keeps them for a
//! round without losses, and [`defect`] names what is wrong with a scheme that is not sound.
//!
//! # Who looks
//!
//! | layer | what it sees in one round |
//! |---|---|
//! | link | every message on one client-to-client link, lost ones included |
//! | upload | the same on one link to the server |
//! | neighbour | another client: the messages it received, its own update and keys |
//! | server | the messages that it received, over all attempts |
//! | server + T clients, T clients | all of these together |
//!
//! The adversaries follow the protocol and pool what they saw (honest but curious, chosen before the round).
//!
//! # What each measure promises, and what it does not
//!
//! | measure | promise | assumption | no promise about |
//! |---|---|---|---|
//! | symbols ([`rank`]) | 0: without breaking a key, the view determines nothing but the sum and the colluders' own updates. Otherwise that many combinations leak exactly, and one is printed | none on the updates; keys are unknown | how *precisely* a view with real-valued keys lets one guess: those hide up to their strength only |
//! | LMIP ([`lmip`], nats or bits per coordinate) | I(x_k; view): a better guess than the prior is worth no more than this | every coordinate of every update is independent N(0, `privacy.update_std`²), weighted by w_k | updates that are correlated across clients, coordinates or rounds, or of another law; single unlucky clients (it is a mean) |
//! | ε on the view ([`ldp`]) | (ε, δ)-local differential privacy of x_k: whatever else is known, two updates of norm ≤ C are indistinguishable to that degree | updates are clipped to C = `solver.clip_norm`; keys are Gaussian and fresh in every round | adversaries who also see the sum: there it is ∞, since the sum is exact |
//! | ε beyond the sum | the same for pairs of inputs with the same sum, (x_k + h, x_j − h), worst over honest j: what is seen *besides* the sum | as above | what the sum itself reveals. With one honest client left in the sum it is ∞: there is no such pair |
//!
//! The *floor* is the LMIP of the sum alone, −½ ln(1 − w_k²/Σ w²) over the honest clients *whose updates the
//! sum includes* (½ ln(m/(m−1)) for m equal ones, ∞ for the only one); no key can bring an adversary who
//! obtains the sum below it, and no printed number is below it. Every party obtains the sum of a recovered
//! round from the new global model, so that it counts as allowed for every coalition, not for an
//! eavesdropper. A client obtains it early, even in an outage, when it receives a share from everybody (s = M
//! − 1). ε over T rounds composes adaptively as √(Σ μ_t²); inputs are weighted (w_k x_k, w_k = n_k M/N), so
//! that the reach of client k is w_k C and that of a pair the smaller one.
//!
//! # Which numbers are upper bounds, and of what
//!
//! - What is seen without keys is decided by B and A alone, with the tolerances below: neither σ nor
//!   `update_std` has a say in it, and LMIP is computed from there without over- or underflow. A number that
//!   is not finite is an error, never 0. Tests compare 40 decades of σ, `update_std` and weights with exact
//!   rational arithmetic.
//! - A sum over those who are left is announced from `protocol.least_included` clients on; the worst case
//!   tries the smallest sums that the server can obtain, and the floor is theirs.
//! - Where it is drawn who takes part (`cohort`), every number of clients that may occur is audited, each
//!   with any of the weights that occur ([`Config::cases`](crate::config::Config::cases)). Clients of a
//!   deployment bring their own examples: their weights are those of `deploy.weights`, which every client
//!   enforces, or without it anything up to the number of clients.
//!
//! Not covered: parties who deviate from the protocol; what trained models, timing or the pattern of losses
//! give away; the security of the channels and of the key exchange.
//!
//! # Floating point
//!
//! All of this is about real numbers. What is sent are bits, and those of a floating-point key added to an
//! update tell the update: [`floating`] says what is provable of bits, with updates and keys on a public grid
//! and the sampler's distance from N(0, 1) counted in δ. The audit prints it beside the figures for real
//! numbers ([`crate::audit::Entry::epsilon_floating`]), declared bounds and [`crate::audit::calibrate`] count
//! it where it is known, and the columns of `rounds.csv` are for real numbers.
//!
//! # Over a prime field
//!
//! With `arithmetic = "field"` keys are uniform and views are judged by rank alone ([`exact`]): 0 symbols
//! beyond the sum is perfect privacy for inputs of any law, LMIP is stated for uniform inputs (the sum then
//! tells nothing about one of them), and ε is 0 or ∞.
//!
//! Where keys are agreed (`keys = "agreement"`), the audited symbols are drawn for every agreed name: agreed
//! keys, their expansions and ciphertexts count as independent uniform symbols. The audit then proves what
//! the scheme does with its keys, and names the idealisation ([`crate::audit::Audit::idealised`]); that the
//! keys themselves are secret rests on Curve25519, HKDF-SHA-256 and ChaCha20, and on
//! [`groupwise::Agreement`](crate::protocol::groupwise::Agreement) and [`sec_agg`](crate::protocol::sec_agg)
//! using them rightly.
//!
//! # Losses
//!
//! A view that is contained in another reveals no more. The worst case over losses is therefore no loss,
//! unless a scheme sends something *because* of a loss; [`crate::audit::erasures::worst`] tries patterns for
//! that. `actual` uses the run's own links, round by round.
//!
//! # How strong the keys must be
//!
//! [`crate::audit::calibrate`] turns a target into the smallest σ. For M = 10, s = 7 (the cyclic MDS code)
//! and all adversaries up to the server with one client, the target ε = 8 at δ = 10⁻⁵ over 150 rounds, C = 1
//! and equal weights, as every other target that was tried, costs plain keys 2.0 times the total power of
//! fair or pairwise ones: plain keys protect all but one client worse than their power would allow.

pub mod defect;
mod draws;
pub mod exact;
pub mod floating;
mod keyless;
pub mod ldp;
pub mod rank;
pub(crate) mod split;
pub mod view;

use std::collections::BTreeSet;

use crate::algebra::LinearForm;
use crate::error::Result;
use crate::message::{LinkUse, PartyId, Views};
use exact::ExactViews;
use view::{Coalition, View};

/// Singular values of the keys below this fraction of the largest count as zero, whatever their scale and
/// that of the updates: keys that are weaker than the strongest ones by this factor count as none. The error
/// is on the side of leakage.
pub const RANK_TOLERANCE: f64 = 1e-11;

/// A combination of inputs counts as seen without keys when more than this fraction of it lies outside what
/// the keys reach. A decoding vector a shows as 1/‖a‖₂, so that codes up to an amplification of about 10⁸ are
/// judged rightly; the decoded sum itself is seen whatever the amplification ([`view::View::with_result`]).
pub const SHIFT_TOLERANCE: f64 = 1e-9;

/// Distance within which the sum or an input counts as determined, relative to its norm: a badly conditioned
/// code magnifies rounding.
pub const SUM_TOLERANCE: f64 = 1e-6;

/// Local mutual information privacy of each client against an adversary that sees `view`, in nats per
/// coordinate.
///
/// LMIP is I(x_k; view | what the adversary holds itself) for independent inputs x_j ~ N(0, `stds[j]`²),
/// weights included, and N(0, 1) key draws (Weng et al., arXiv 2507.07565, section V). The adversary's own
/// inputs and keys belong into the view. What is seen without keys is decided by the rows alone. What keys
/// hide is then a mean square error: in orthogonal directions r_i of the inputs in units of their standard
/// deviations, each seen with noise 1/d_i, the variance of x_k that stays unknown is 1 − ρ_k² = ‖e_k − Σ r_i
/// r_ik‖² + Σ r_ik²/(1 + d_i²), and I = −½ ln(1 − ρ_k²). Infinite when the view determines x_k, and above
/// some 23 nats (33 bits), where rounding ends.
///
/// # Errors
/// A number that is not finite: it is never taken for "no leakage".
pub fn lmip(view: &[LinearForm], stds: &[f64]) -> Result<Vec<f64>> {
    if view.is_empty() {
        return Ok(vec![0.0; stds.len()]);
    }
    check_stds(stds)?;
    split::Split::of(view, stds.len())?.lmip(stds)
}

/// μ of Gaussian differential privacy between inputs that differ by `shift`, one number a client: ‖H⁺ A
/// shift‖₂ for a view A x + H n of N(0, 1) key draws n. Infinite where the keys do not reach what moves.
///
/// # Errors
/// As [`lmip`].
pub fn distance(view: &[LinearForm], shift: &[f64]) -> Result<f64> {
    if view.is_empty() {
        return Ok(0.0);
    }
    let split = split::Split::of(view, shift.len())?;
    let moved = &split.a * nalgebra::DVector::from_column_slice(shift);
    split::number(split.keys.distance(&moved), "the reach of an update through the keys")
}

/// [`distance`] for each client's input alone, which moves by its `reach`.
///
/// # Errors
/// As [`lmip`].
pub fn distances(view: &[LinearForm], reach: &[f64]) -> Result<Vec<f64>> {
    if view.is_empty() {
        return Ok(vec![0.0; reach.len()]);
    }
    let split = split::Split::of(view, reach.len())?;
    let each = split.a.column_iter().zip(reach);
    each.map(|(a, reach)| {
        split::number(split.keys.distance(&(a * *reach)), "the reach of an update through the keys")
    })
    .collect()
}

fn check_stds(stds: &[f64]) -> Result<()> {
    let deviation = |std: &f64| std.is_finite() && *std >= 0.0;
    if stds.iter().all(deviation) { Ok(()) } else { Err(split::not_finite("the deviation of an update")) }
}

/// The adversary's best linear guess: weights a, one per row of `view`, such that aᵀ·view has coefficient 1
/// on x_k and the least variance from everything else, under the assumptions of [`lmip`]. `None` when the
/// view says nothing about x_k.
///
/// # Errors
/// As [`lmip`].
pub fn best_estimate(view: &[LinearForm], stds: &[f64], k: usize) -> Result<Option<Vec<f64>>> {
    if view.is_empty() {
        return Ok(None);
    }
    check_stds(stds)?;
    split::Split::of(view, stds.len())?.best_estimate(k, stds)
}

/// The views of a scheme, in its own arithmetic.
pub enum Formal {
    /// Over the reals: privacy is a matter of degree.
    Real(Views),
    /// Over a prime field: privacy is a matter of rank.
    Field(Box<dyn ExactViews>),
}

impl Formal {
    /// Number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        match self {
            Self::Real(views) => views.clients,
            Self::Field(views) => views.clients(),
        }
    }

    /// Whether the round ended with a sum.
    #[must_use]
    pub fn has_sum(&self) -> bool {
        match self {
            Self::Real(views) => views.decoded.is_sum(),
            Self::Field(views) => views.has_sum(),
        }
    }

    /// Whether nobody who looks on sees anything that the `other` round does not show: every message is one
    /// of the other's that arrives there too if it arrives here, and the same sum is allowed to be known.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Real(views), Self::Real(other)) => view::is_within(views, other),
            (Self::Field(views), Self::Field(other)) => views.is_within(&**other),
            _ => false,
        }
    }

    /// Every message in the order in which it was sent, and whether it arrived.
    #[must_use]
    pub fn links(&self) -> Vec<(LinkUse, bool)> {
        match self {
            Self::Real(views) => {
                views.messages.iter().map(|message| (message.link, message.delivered)).collect()
            }
            Self::Field(views) => views.links(),
        }
    }
}

/// Leakage of one round about each client's input, in nats per coordinate, by adversary.
#[derive(Clone, Debug, PartialEq)]
pub struct Leakage {
    /// The worst single link between clients, to a helper or between helpers: an eavesdropper who reads the
    /// message whether or not it is then lost.
    pub link: Vec<f64>,
    /// The worst other client or helper, who knows its own update, its keys and the shares it received.
    pub neighbour: Vec<f64>,
    /// The server, who knows everything it received.
    pub server: Vec<f64>,
}

impl Leakage {
    /// Measures the views of one round under x_k ~ N(0, `stds[k]`²), weights included.
    ///
    /// # Errors
    /// As [`lmip`].
    pub fn of(views: &Views, stds: &[f64]) -> Result<Self> {
        let clients = views.clients;
        let mut link = vec![0.0f64; clients];
        let mut neighbour = vec![0.0f64; clients];
        let worst = |total: &mut [f64], own: Option<usize>, leak: &[f64]| {
            for (k, (total, leak)) in total.iter_mut().zip(leak).enumerate() {
                if own != Some(k) {
                    *total = total.max(*leak);
                }
            }
        };
        for message in &views.messages {
            if let PartyId::Client(_) = message.link.to {
                worst(&mut link, None, &lmip(&message.forms, stds)?);
            }
        }
        for m in 0..clients as u16 {
            let view = View::of(views, Coalition::of([PartyId::Client(m)]));
            worst(&mut neighbour, Some(usize::from(m)), &lmip(&view.rows, stds)?);
        }
        let server = View::with_result(views, Coalition::of([PartyId::Server]));
        let server = lmip(&server.rows, stds)?;
        Ok(Self { link, neighbour, server })
    }

    /// Measures the views of one round of any scheme: [`Leakage::of`], or over a prime field I(x_k; view) for
    /// uniform inputs.
    ///
    /// # Errors
    /// As [`lmip`].
    pub fn measure(formal: &Formal, stds: &[f64]) -> Result<Self> {
        match formal {
            Formal::Real(views) => Self::of(views, stds),
            Formal::Field(views) => Ok(Self::exact(&**views)),
        }
    }

    fn exact(views: &dyn ExactViews) -> Self {
        let clients = views.clients();
        let nats = views.symbol_bits() * std::f64::consts::LN_2;
        let about = |coalition: Coalition| -> Vec<f64> {
            views.about(&coalition).into_iter().map(|symbols| symbols * nats).collect()
        };
        let worst = |total: Vec<f64>, leak: Vec<f64>| -> Vec<f64> {
            total.into_iter().zip(leak).map(|(total, leak)| total.max(leak)).collect()
        };
        let links: BTreeSet<(PartyId, PartyId)> =
            views.links().iter().map(|(link, _)| (link.from, link.to)).collect();
        let between = links.iter().filter(|(_, to)| *to != PartyId::Server);
        let link =
            between.map(|&(from, to)| about(Coalition::link(from, to))).fold(vec![0.0; clients], worst);
        let helpers = views.links().into_iter().map(|(link, _)| link.to);
        let helpers: BTreeSet<PartyId> = helpers.filter(|to| matches!(to, PartyId::Helper(_))).collect();
        let neighbour = (0..clients as u16)
            .map(PartyId::Client)
            .chain(helpers)
            .map(|party| {
                let mut leak = about(Coalition::of([party]));
                if let PartyId::Client(m) = party {
                    leak[usize::from(m)] = 0.0;
                }
                leak
            })
            .fold(vec![0.0; clients], worst);
        Self { link, neighbour, server: about(Coalition::of([PartyId::Server])) }
    }

    /// The unavoidable leakage of the sum of `clients` independent inputs, ½ ln(M/(M−1)) nats per coordinate.
    #[must_use]
    pub fn floor(clients: usize) -> f64 {
        let m = clients as f64;
        -0.5 * (-1.0 / m).ln_1p()
    }
}
