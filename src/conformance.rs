//! One kit for every scheme: what a protocol promises, checked on the code that runs.
//!
//! [`check`] looks at a scheme as the round loop sees it:
//!
//! | rule | what holds |
//! |---|---|
//! | promise | over every pattern of losses and with several attempts the result is what the scheme promises ([`Promise`]), or an outage |
//! | forms | the formal run of the same party code ends as the numeric one does, and its result has each included input once |
//! | links | both runs send the same messages, each in a declared [`Phase`] |
//! | keys | no key serves two rounds, and nothing that the audit knows as a defect is found |
//! | repetition | the same round gives the same result, to the bit |
//! | parts | long inputs, which a round may take in parts, end as the promise says, and their first coordinates as if they were all |
//! | singles | a scheme that shows single updates tells one of each client whom a result includes, and they make up its sum, of long inputs too |
//! | finite | an update that is not finite never enters a result |
//!
//! [`withstands`] looks at a protocol as a party sees it: what is sent twice, late, again, astray, in
//! another's name or in another length is refused by somebody, and the sum is right or not at all.
//! [`travels`] looks at its messages: a round ends alike when they travel in their binary form.

mod binary;
mod hostile;

use std::sync::Arc;

use rand::RngExt;

use crate::algebra::CHUNK;
use crate::audit::erasures;
use crate::error::Result;
use crate::message::{Decoded, LinkUse, Phase};
use crate::network::Perfect;
use crate::privacy::Formal;
use crate::privacy::defect::{self, Defect};
use crate::protocol::{Aggregate, Aggregator, Update};
use crate::seed::Seed;
pub use binary::travels;
pub use hostile::{Act, withstands};

/// What a scheme makes of the inputs of those whom it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Their sum, and no key.
    Exact,
    /// Their sum, with keys or noise left in it.
    Noisy,
    /// An estimate.
    Estimate,
}

/// What is claimed of a scheme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Number of clients.
    pub clients: usize,
    /// What its results are.
    pub promise: Promise,
    /// The most by which an exact sum is off in a coordinate beside what it says itself: quantising, for
    /// inputs of size 1.
    pub tolerance: f64,
}

/// A rule that a scheme breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The rule, by its name in the table of this module.
    pub rule: &'static str,
    /// Where and how.
    pub evidence: String,
}

/// What [`check`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Patterns of losses that were tried.
    pub patterns: usize,
    /// Whether these are all that there are.
    pub all: bool,
    /// Results over them, sums or estimates.
    pub results: usize,
    /// Those over all clients.
    pub complete: usize,
    /// Rounds without a result.
    pub outages: usize,
    /// The rules that are broken, each once; none for a sound scheme.
    pub breaches: Vec<Breach>,
}

/// Coordinates of the inputs: two units of the schemes that split them, and one more.
const COORDINATES: usize = 13;

/// What single precision, and a few operations in it, are off by.
const SINGLE: f64 = 4.0 * f32::EPSILON as f64;

/// Attempts that are tried.
const ATTEMPTS: [u32; 2] = [1, 3];

impl Report {
    fn breach(&mut self, rule: &'static str, evidence: String) {
        if self.breaches.iter().all(|breach| breach.rule != rule) {
            self.breaches.push(Breach { rule, evidence });
        }
    }
}

/// Checks a scheme against what is claimed of it; a sound one leaves no [`Report::breaches`].
///
/// # Errors
/// More formal coordinates than an audit takes; a broken contract of the scheme.
pub fn check(scheme: &dyn Aggregator, claim: &Claim, seed: Seed) -> Result<Report> {
    let updates = updates(claim.clients, COORDINATES, seed);
    let lossless = scheme.formal(scheme.fullest(), &Perfect, 1)?;
    let phases = scheme.phases();
    let masks = scheme.scheme().key_std.is_some() || !scheme.scheme().keys.is_empty();
    let mut report = Report::default();
    for attempts in ATTEMPTS {
        let (patterns, all) =
            erasures::worst(&lossless, &phases, attempts, seed.child("patterns", attempts.into()));
        report.patterns += patterns.len();
        report.all = all || (attempts > 1 && report.all);
        for (round, links) in (1..).zip(&patterns) {
            let at = format!("{attempts} attempts, round {round}, {} messages lost", links.0.len());
            let played = scheme.aggregate(round, &updates, links, attempts)?;
            report.tally(&played, claim.clients);
            report.promise(&played, &updates, claim, &at);
            report.links(&played, &phases, &at);
            if scheme.shows_single_updates() {
                let singly = scheme.aggregate_singly(round, &updates, links, attempts)?;
                report.singles(&played, &singly, &updates, claim, &at);
            }
            let formal = scheme.formal(round, links, attempts)?;
            report.forms(&played, &formal, claim, masks, &at);
        }
    }
    report.keys(&lossless, &scheme.formal(2, &Perfect, 1)?);
    report.repetition(scheme, &updates)?;
    report.parts(scheme, claim, seed)?;
    report.finite(scheme, &updates)?;
    Ok(report)
}

/// Each from a stream of its own, so that longer ones start as shorter ones do.
fn updates(clients: usize, coordinates: usize, seed: Seed) -> Vec<Update> {
    let update = |k: usize| {
        let mut rng = seed.child("updates", k as u64).rng();
        let delta = (0..coordinates).map(|_| rng.random::<f32>() - 0.5).collect();
        Update { weight: 0.5 + k as f64 / clients as f64, delta: Arc::new(delta) }
    };
    (0..clients).map(update).collect()
}

/// What a round ended with, if not with nothing.
fn vector(decoded: &Decoded<f64>) -> Option<&[f64]> {
    match decoded {
        Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. } => Some(sum),
        Decoded::Outage(_) => None,
    }
}

/// Σ of these clients' inputs in one coordinate.
fn sum(updates: &[Update], included: &[u16], i: usize) -> f64 {
    let input = |&k: &u16| updates[usize::from(k)].weight * f64::from(updates[usize::from(k)].delta[i]);
    included.iter().map(input).sum()
}

impl Report {
    fn tally(&mut self, played: &Aggregate, clients: usize) {
        if played.decoded.reason().is_some() {
            self.outages += 1;
        } else {
            self.results += 1;
            self.complete += usize::from(played.decoded.included().len() == clients);
        }
    }

    fn promise(&mut self, played: &Aggregate, updates: &[Update], claim: &Claim, at: &str) {
        let included = played.decoded.included();
        let len = updates.first().map_or(0, |update| update.delta.len());
        let places =
            included.is_sorted_by(|a, b| a < b) && included.iter().all(|k| usize::from(*k) < claim.clients);
        if !places {
            self.breach("promise", format!("{at}: the sum is over {included:?}"));
        }
        match (&played.decoded, claim.promise) {
            (Decoded::Outage(_), _) => {}
            (Decoded::Sum { sum: got, error, .. }, Promise::Exact) => {
                let off = |i: usize| (got[i] - sum(updates, included, i)).abs();
                let most = (0..got.len()).map(off).fold(0.0, f64::max);
                if got.len() != len || included.is_empty() {
                    self.breach(
                        "promise",
                        format!("{at}: {} coordinates over {} clients", got.len(), included.len()),
                    );
                } else if most > error + claim.tolerance * included.len() as f64 {
                    self.breach(
                        "promise",
                        format!("{at}: a coordinate is off by {most:.1e}, and says {error:.1e}"),
                    );
                }
            }
            (Decoded::Sum { sum, .. }, Promise::Noisy)
            | (Decoded::Estimate { sum, .. }, Promise::Estimate)
                if sum.len() == len => {}
            (decoded, promise) => {
                let kind = if decoded.is_sum() { "a sum" } else { "an estimate" };
                self.breach("promise", format!("{at}: {kind} of {included:?} where {promise:?} is promised"));
            }
        }
    }

    fn singles(
        &mut self,
        played: &Aggregate,
        (singly, singles): &(Aggregate, Vec<Update>),
        updates: &[Update],
        claim: &Claim,
        at: &str,
    ) {
        let included = played.decoded.included();
        let weights = included.iter().map(|&k| updates[usize::from(k)].weight);
        if played.decoded != singly.decoded || played.sent != singly.sent {
            self.breach("singles", format!("{at}: the round goes otherwise when single updates are told"));
        } else if !singles.iter().map(|single| single.weight).eq(weights) {
            self.breach("singles", format!("{at}: {} single updates of {included:?}", singles.len()));
        } else if let Decoded::Sum { sum: got, .. } = &played.decoded {
            let everybody: Vec<u16> = (0..included.len() as u16).collect();
            let off = |i: usize| {
                let size: f64 = singles.iter().map(|x| x.weight * f64::from(x.delta[i].abs())).sum();
                let rounding = SINGLE * size + claim.tolerance * included.len() as f64;
                (got[i] - sum(singles, &everybody, i)).abs() - rounding
            };
            let short = singles.iter().any(|single| single.delta.len() != got.len());
            if short || (0..got.len()).any(|i| off(i) > 0.0) {
                self.breach("singles", format!("{at}: single updates do not make the sum over {included:?}"));
            }
        }
    }

    fn links(&mut self, played: &Aggregate, phases: &[Phase], at: &str) {
        let transfers = Phase::transfers(phases);
        let declared = |link: &LinkUse| {
            let ends = (link.from.role(), link.to.role(), link.transfer);
            phases.iter().zip(&transfers).any(|(phase, transfer)| (phase.from, phase.to, *transfer) == ends)
        };
        for (link, _) in &played.sent {
            if !declared(link) {
                self.breach(
                    "links",
                    format!("{at}: {} sends to {} in no declared phase", link.from, link.to),
                );
            }
        }
    }

    fn forms(&mut self, played: &Aggregate, formal: &Formal, claim: &Claim, masks: bool, at: &str) {
        let ends = |links: Vec<(LinkUse, bool)>| -> Vec<_> {
            links.into_iter().map(|(l, ok)| (l.attempt, l.transfer, l.from, l.to, ok)).collect()
        };
        if ends(formal.links()) != ends(played.sent.clone()) {
            self.breach("links", format!("{at}: the formal run sends other messages than the numeric one"));
        }
        // Numbers can be too large for a sum that symbols have.
        if formal.has_sum() != played.decoded.is_sum() && claim.promise != Promise::Estimate {
            self.breach("forms", format!("{at}: one run ends with a sum and the other without"));
        }
        for finding in defect::of_formal(formal) {
            let is_noise = claim.promise != Promise::Exact && finding.defect == Defect::KeysNotZeroSum;
            // Without keys everything is seen, and the audit says so.
            let is_open = !masks && matches!(finding.defect, Defect::BeyondSum | Defect::TwoDecodings);
            if !is_noise && !is_open {
                self.breach("forms", format!("{at}: {finding}"));
            }
        }
    }

    fn keys(&mut self, first: &Formal, second: &Formal) {
        if let Some(finding) = defect::of_rounds(first, second) {
            self.breach("keys", finding.to_string());
        }
    }

    fn repetition(&mut self, scheme: &dyn Aggregator, updates: &[Update]) -> Result<()> {
        let play = || scheme.aggregate(1, updates, &Perfect, 1);
        let (one, two) = (play()?, play()?);
        if one.decoded != two.decoded || one.sent != two.sent {
            self.breach("repetition", "the same round gives two results".into());
        }
        Ok(())
    }

    fn parts(&mut self, scheme: &dyn Aggregator, claim: &Claim, seed: Seed) -> Result<()> {
        let play = |coordinates: usize| {
            let updates = updates(claim.clients, coordinates, seed);
            scheme.aggregate(1, &updates, &Perfect, 1).map(|played| (played, updates))
        };
        let ((short, _), (long, updates)) = (play(CHUNK)?, play(2 * CHUNK + COORDINATES)?);
        self.promise(&long, &updates, claim, "long inputs");
        if scheme.shows_single_updates() {
            let singly = scheme.aggregate_singly(1, &updates, &Perfect, 1)?;
            self.singles(&long, &singly, &updates, claim, "long inputs");
        }
        let alike = match (vector(&short.decoded), vector(&long.decoded)) {
            (Some(short), Some(long)) => long.get(..CHUNK) == Some(short),
            (short, long) => short.is_none() && long.is_none(),
        };
        if !alike || short.decoded.included() != long.decoded.included() {
            self.breach("parts", "inputs of three parts do not start as those of one".into());
        }
        Ok(())
    }

    fn finite(&mut self, scheme: &dyn Aggregator, updates: &[Update]) -> Result<()> {
        for value in [f32::NAN, f32::INFINITY] {
            let mut broken = updates.to_vec();
            Arc::make_mut(&mut broken[0].delta)[0] = value;
            if scheme.aggregate(1, &broken, &Perfect, 1)?.decoded.reason().is_none() {
                self.breach("finite", format!("an update with {value} entered the result"));
            }
        }
        Ok(())
    }
}
