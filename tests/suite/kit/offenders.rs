//! The kit's offenders among the parties of every kind, and parties that it must catch.

use std::sync::Arc;

use seccogc::algebra::field::M61;
use seccogc::algebra::{KeyStream, Symbol};
use seccogc::coding::assignment::{AssignmentKind, ReplicatedCode};
use seccogc::coding::{CodeKind, Coefficient};
use seccogc::conformance::{Breach, withstands};
use seccogc::keys::{KeyKind, KeySource, SeededKeys};
use seccogc::message::{Clock, Envelope, PartyId, Phase};
use seccogc::protocol::coffee::{Averaging, Coffee};
use seccogc::protocol::cogc::{CoGc, Codes};
use seccogc::protocol::dsa::Dsa;
use seccogc::protocol::fedacs::{Draws, FedAcs};
use seccogc::protocol::groupwise::Groupwise;
use seccogc::protocol::hierarchical::Hierarchical;
use seccogc::protocol::light_sec_agg::LightSecAgg;
use seccogc::protocol::mds_relay::MdsRelay;
use seccogc::protocol::relaying::{Noise, Relaying};
use seccogc::protocol::sec_agg::{Cryptographic, SecAgg, Uniform};
use seccogc::protocol::secure_gc::SecureGc;
use seccogc::protocol::two_round::Rounds;
use seccogc::protocol::uncoded::{Key, Mask, Role, Uncoded, Upload};
use seccogc::protocol::zhao_sun::ZhaoSun;
use seccogc::protocol::{Decoded, Input, Party, Protocol, ProtocolConfig};
use seccogc::seed::Seed;

use super::{Numbers, coded, uncoded};
use crate::two_round::{Vector, inputs};

fn sum(inputs: &[Vector<M61>], included: &[u16]) -> Vec<M61> {
    let mut sum = vec![M61::default(); inputs[0].0.len()];
    included.iter().for_each(|&k| inputs[usize::from(k)].add_to(&mut sum));
    sum
}

type Verdict = std::result::Result<(), Breach>;

fn refusals<P: Protocol<M61>>(
    scheme: impl Fn() -> P,
    clients: usize,
    survives: impl Fn(PartyId) -> bool,
) -> Verdict {
    withstands(scheme, |len| inputs::<M61>(clients, len), sum, &SeededKeys(Seed::new(4)), survives)
}

/// Masks and noise of 0. Where they do not cancel when a client is missing, the sum would not be exact.
struct Silent;

impl KeySource<M61> for Silent {
    fn fill(&self, _: KeyStream, _: usize, out: &mut [M61]) {
        out.fill(M61::default());
    }

    fn noise(&self, _: KeyStream, _: usize, out: &mut [M61]) {
        out.fill(M61::default());
    }

    fn coins(&self, _: KeyStream, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
}

/// Uploads with masks of a kind, each asked for twice.
fn masked(mask: Mask) -> Verdict {
    let scheme = || Uncoded { transmissions: 2, mask: mask.clone(), ..uncoded() };
    withstands(scheme, |len| inputs::<M61>(4, len), sum, &Silent, |_| true)
}

/// Both decoders. The lost shares of one client leave one complete row of four, and two are needed.
fn rows(keys: Option<KeyKind>) -> Verdict {
    refusals(|| coded::<M61>(keys, None), 4, |_| false)?;
    refusals(|| coded::<M61>(keys, Some(f64::INFINITY)), 4, |_| false)
}

/// Partial sums, once and in two repeats: what the others have of a client's row determines the others.
fn partial_rows() -> Verdict {
    for repeats in [1, 2] {
        let scheme = || {
            let code = Arc::new(M61::code(CodeKind::CyclicRandom, 4, 2, Seed::new(1)).unwrap());
            let codes = Codes::new(code, Some((Seed::new(2), f64::INFINITY)));
            let codes = codes.with_partial_sums().repeated(repeats).into();
            CoGc { codes, ..coded::<M61>(None, None) }
        };
        refusals(scheme, 4, is_client)?;
    }
    Ok(())
}

/// Both kinds of keys.
fn pairs(degree: Option<usize>) -> Verdict {
    let seed = Seed::new(1);
    refusals(|| SecAgg::<Cryptographic>::new(5, degree, Some(3), seed).unwrap(), 5, is_client)?;
    refusals(|| SecAgg::<Uniform>::new(5, degree, Some(3), seed).unwrap(), 5, is_client)
}

/// Both servers, whose estimates outlive every client.
fn windows() -> Verdict {
    for (steps, averaging) in
        [(0, Averaging::Mean), (2, Averaging::Mean), (1, Averaging::Adaptive), (2, Averaging::Adaptive)]
    {
        let scheme = || Coffee::new(4, Some(steps), averaging).unwrap();
        let numbers = |len: usize| -> Vec<Numbers> {
            (1..=4).map(|k| Numbers((0..len).map(|i| (k * i) as f64 / 8.0).collect())).collect()
        };
        let sum = |_: &[Numbers], _: &[u16]| Vec::new();
        withstands::<f64, _, _>(scheme, numbers, sum, &SeededKeys(Seed::new(4)), is_client)?;
    }
    Ok(())
}

fn replicated() -> SecureGc<M61> {
    SecureGc::new(ReplicatedCode::build(AssignmentKind::Cyclic, 5, 4, 2, Seed::new(1)).unwrap().0)
}

/// Real numbers as inputs.
struct Reals(Vec<f64>);

impl Input<f64> for Reals {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn add_to(&self, y: &mut [f64]) {
        f64::axpy(y, 1.0, &self.0);
    }
}

/// Clients who relay for all others but the next one.
fn relayed(noise: Option<Noise>) -> Verdict {
    let weight = |j: usize, k: usize| if k == (j + 1) % 4 { 0.0 } else { 0.25 + (j + 4 * k) as f64 / 8.0 };
    let weights = (0..4).map(|j| (0..4).map(|k| weight(j, k)).collect()).collect();
    let weights = Arc::new(weights);
    let scheme = || Relaying { weights: Arc::clone(&weights), noise: noise.clone() };
    let inputs = |len: usize| -> Vec<Reals> {
        (0..4).map(|k| Reals((0..len).map(|i| (k + 10 * i) as f64).collect())).collect()
    };
    let sum = |_: &[Reals], _: &[u16]| panic!("relays make no sums");
    withstands(scheme, inputs, sum, &SeededKeys(Seed::new(4)), |_| true)
}

/// Two clients who are drawn in both rounds.
fn drawn() -> Verdict {
    let draws = (0..).map(|seed| Draws::new(&[0.5, 0.9], &[], 4, Seed::new(seed)).unwrap());
    let draws: Vec<Draws> =
        draws.filter(|draws| [1, 2].iter().all(|r| draws.of(*r).len() == 2)).take(3).collect();
    for draws in draws {
        let scheme = || FedAcs(Arc::new(draws.clone()));
        let inputs = |len: usize| -> Vec<Reals> {
            (1..3).map(|k| Reals((0..len).map(|i| (k + 4 * i) as f64).collect())).collect()
        };
        let sum = |_: &[Reals], _: &[u16]| panic!("draws make no sums");
        withstands(scheme, inputs, sum, &SeededKeys(Seed::new(4)), |_| true)?;
    }
    Ok(())
}

fn is_client(id: PartyId) -> bool {
    matches!(id, PartyId::Client(_))
}

/// The kit's offenders among the parties of a kind; the sum survives those for whom the last argument holds.
fn offended(kind: &str) -> Verdict {
    match kind {
        "ideal" => refusals(uncoded, 4, |_| true),
        "fedavg" => refusals(|| Uncoded { transmissions: 2, ..uncoded() }, 4, |_| true),
        "gaussian" => masked(Mask::Gaussian(1.0)),
        "zero-sum" => masked(Mask::zero_sum(KeyKind::Fair, 1.0)),
        "cogc" => rows(None).and_then(|()| partial_rows()),
        "sec-cogc" => rows(Some(KeyKind::Fair)),
        "coffee" => windows(),
        "mds-relay" => {
            refusals(|| MdsRelay::new(4, 1).unwrap(), 4, |_| true)?;
            refusals(|| MdsRelay::new(4, 3).unwrap(), 4, |_| true)
        }
        "zhao-sun" => refusals(|| Rounds::new(ZhaoSun::new(4, 3, 1).unwrap()), 4, is_client),
        // Nobody else has the offender's shares, so that nobody can answer for a set with it.
        "light-sec-agg" => refusals(|| Rounds::new(LightSecAgg::new(4, 3, 1).unwrap()), 4, |_| false),
        "groupwise" => refusals(|| Rounds::new(Groupwise::new(4, 3, 2, Seed::new(3)).unwrap()), 4, is_client),
        "sec-agg" => pairs(None),
        "sec-agg-plus" => pairs(Some(4)),
        "hierarchical" => refusals(|| Hierarchical::new(3, 4, 3, 1).unwrap(), 3, |id| id != PartyId::Server),
        "secure-gc" => refusals(replicated, 5, |_| true),
        "colrel" => relayed(None),
        "pricer" => relayed(Some(Noise { relayed: Arc::new(vec![vec![0.5; 4]; 4]), own: 0.1 })),
        "fedacs" => drawn(),
        // The offender itself hears all others.
        "dsa" => refusals(|| Dsa::new(4).unwrap(), 4, |_| true),
        other => panic!("no parties of `{other}` misbehave: add them here"),
    }
}

#[test]
fn parties_refuse_what_does_not_belong() {
    let verdicts = ProtocolConfig::KINDS.iter().map(|kind| (kind, offended(kind)));
    let failed: Vec<_> = verdicts.filter(|(_, verdict)| verdict.is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// FedAvg whose parties take what comes.
struct Credulous(Uncoded);

struct Believer(Role<M61>);

impl Party<Upload<M61>, M61> for Believer {
    fn refusal(&self, _: &Envelope<Upload<M61>>) -> Option<String> {
        None
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<M61>>>) -> Vec<Envelope<Upload<M61>>> {
        self.0.step(clock, inbox)
    }

    fn decoded(&mut self) -> Option<Decoded<M61>> {
        self.0.decoded()
    }
}

impl Protocol<M61> for Credulous {
    type Message = Upload<M61>;
    type Key = Key<M61>;
    type Party = Believer;

    fn parties(&self) -> Vec<PartyId> {
        Protocol::<M61>::parties(&self.0)
    }

    fn phases(&self) -> Vec<Phase> {
        Protocol::<M61>::phases(&self.0)
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<M61>) -> Vec<Key<M61>> {
        self.0.deal(round, len, source)
    }

    fn party(&self, id: PartyId, key: Key<M61>, input: Option<&dyn Input<M61>>) -> Believer {
        Believer(self.0.party(id, key, input))
    }
}

#[test]
fn parties_that_refuse_nothing_are_caught() {
    let breach = refusals(|| Credulous(uncoded()), 4, |_| true).unwrap_err();
    assert_eq!(breach.rule, "refusal");
    assert!(breach.evidence.starts_with("Astray by client 1: "), "{}", breach.evidence);
}
