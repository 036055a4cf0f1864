//! The conformance kit over every kind of protocol, and schemes that it must catch.

mod offenders;

use std::sync::Arc;

use seccogc::algebra::field::M61;
use seccogc::algebra::grid::Public;
use seccogc::coding::{CodeKind, Coefficient};
use seccogc::conformance::{Breach, Claim, Promise, check, travels};
use seccogc::error::Result;
use seccogc::keys::{KeyKind, KeySource, SeededKeys};
use seccogc::message::{Clock, Envelope, Message, PartyId, Phase};
use seccogc::network::LinkModel;
use seccogc::privacy::Formal;
use seccogc::protocol::cogc::{CoGc, Codes};
use seccogc::protocol::exchange::{Aggregate, Aggregator, Scheme};
use seccogc::protocol::uncoded::{Key, Mask, Role, Uncoded, Upload};
use seccogc::protocol::{Decoded, Input, Party, Protocol, ProtocolConfig, Update};
use seccogc::seed::Seed;
use seccogc::wire::{Form, Wire, WireSymbol};

use crate::two_round::inputs;

/// Inputs of up to 1 quantised to 24 bits of ±8 are off by 2⁻²¹.
const FIELD: &str = "quantisation = { clip = 8.0, bits = 24 }";

/// What relays are told of their links; comes last.
const RELAYS: &str = "[assumed]\nclient_client = 0.2\nclient_server = [0.1, 0.5, 0.9]";

/// Configurations of a kind: keys, number of clients, what is promised, by how much a coordinate is off for
/// each client.
fn cases(kind: &str) -> Vec<(String, usize, Promise, f64)> {
    use Promise::{Estimate, Exact, Noisy};
    let over_field = |text: &str, clients| vec![(format!("{text}\n{FIELD}"), clients, Exact, 1e-6)];
    let real = |texts: &[&str], clients, promise| {
        texts.iter().map(|text| ((*text).to_owned(), clients, promise, 1e-6)).collect()
    };
    match kind {
        "ideal" => real(&["", "arithmetic = 'f64'"], 3, Exact),
        "fedavg" => [
            real(&["", "transmissions = 2", "least_included = 2"], 3, Exact),
            over_field("arithmetic = 'field'", 3),
        ]
        .concat(),
        "gaussian" => real(&["key_std = 0.5", "key_std = 0.5\narithmetic = 'f64'"], 3, Noisy),
        "zero-sum" => [
            real(&["keys = 'plain'", "keys = 'fair'", "keys = 'pairwise'"], 3, Noisy),
            real(&["keys = 'fair'\nresidual_std = 0.5", "keys = 'pairwise'\nresidual_std = 0.5"], 3, Noisy),
            real(&[&format!("keys = 'pairwise'\nsplit = 'best'\n{RELAYS}")], 3, Estimate),
        ]
        .concat(),
        "cogc" => [
            real(
                &[
                    "stragglers = 0",
                    "stragglers = 1",
                    "stragglers = 2",
                    "stragglers = 1\ndecoder = 'gc-plus'",
                    "stragglers = 1\ndecoder = 'gc-plus-partial'",
                    "stragglers = 1\nrepeats = 2",
                    "stragglers = 1\nrepeats = 2\ndecoder = 'gc-plus-partial'\nleast_included = 2",
                ],
                3,
                Exact,
            ),
            over_field("stragglers = 1\ndecoder = 'gc-plus-partial'\narithmetic = 'field'", 4),
            real(&["stragglers = 3"], 7, Exact),
        ]
        .concat(),
        "sec-cogc" => [
            real(
                &[
                    "stragglers = 1\nkeys = 'plain'",
                    "stragglers = 1\nkeys = 'fair'",
                    "stragglers = 1\nkeys = 'pairwise'",
                    "stragglers = 1\nlink_key_std = 0.5",
                    "stragglers = 1\ndecoder = 'gc-plus'",
                    "stragglers = 1\narithmetic = 'f32'",
                ],
                3,
                Exact,
            ),
            over_field("stragglers = 1\narithmetic = 'field'", 3),
            real(&["stragglers = 3\nkeys = 'fair'"], 7, Exact),
        ]
        .concat(),
        "coffee" => [
            real(&["", "server = 'adaptive'", "steps = 2\narithmetic = 'f64'", "steps = 0"], 3, Estimate),
            real(&["steps = 2\nserver = 'adaptive'"], 4, Estimate),
        ]
        .concat(),
        "mds-relay" => [
            over_field("combinations = 1", 3),
            over_field("combinations = 2", 3),
            over_field("combinations = 3\nleast_included = 2", 3),
        ]
        .concat(),
        "zhao-sun" => over_field("survivors = 3\ncolluders = 1", 4),
        "light-sec-agg" => over_field("survivors = 3\ncolluders = 1", 4),
        "groupwise" => over_field("survivors = 3\ngroup_size = 3", 4),
        "sec-agg" => {
            [over_field("threshold = 2", 3), over_field("threshold = 3\nkeys = 'uniform'", 4)].concat()
        }
        "sec-agg-plus" => over_field("neighbours = 2\nthreshold = 2", 4),
        "dsa" => over_field("", 3),
        "hierarchical" => over_field("helpers = 3\nthreshold = 2\ncolluding = 1", 3),
        "secure-gc" => over_field("responders = 3\nreduction = 2", 4),
        "colrel" => real(&[RELAYS, &format!("arithmetic = 'f64'\n{RELAYS}\nreciprocal = true")], 3, Estimate),
        "fedacs" => real(&[&format!("draws = 3\nshares = [1.0, 2.0, 3.0]\n{RELAYS}")], 3, Estimate),
        "pricer" => real(&[&format!("epsilon = 5.0\nown_std = 0.1\n{RELAYS}")], 3, Estimate),
        other => panic!("the kit has no case of `{other}`: add one here"),
    }
}

fn build(kind: &str, text: &str, clients: usize) -> Box<dyn Aggregator> {
    let config: ProtocolConfig = toml::from_str(&format!("kind = '{kind}'\n{text}")).unwrap();
    // Some schemes need to know how large updates are.
    let clip = (kind == "pricer").then_some(4.0);
    let public = Public { clip, coordinates: clip.map(|_| 13), ..Public::default() };
    config.build_for(clients, Seed::new(1), &public).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

#[test]
fn every_kind_conforms() {
    let mut failed = Vec::new();
    for kind in ProtocolConfig::KINDS {
        for (text, clients, promise, tolerance) in cases(kind) {
            let claim = Claim { clients, promise, tolerance };
            let report = check(&*build(kind, &text, clients), &claim, Seed::new(3)).unwrap();
            // To most who weigh by probabilities nothing is the estimate 0.
            let never_out =
                *kind == "ideal" || promise == Promise::Estimate && !["coffee", "fedacs"].contains(kind);
            let tried = report.complete > 0 && (report.outages > 0) != never_out;
            if !report.breaches.is_empty() || !tried {
                failed.push(format!("{kind}: {text}: {report:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A sound scheme, of which one answer is changed.
struct Flawed {
    scheme: Box<dyn Aggregator>,
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    WrongSum,
    WrongIncluded,
    SumDespiteLosses,
    UndeclaredPhase,
    OldKeys,
    OtherMessages,
    Fickle,
    LengthDependent,
    Estimating,
    FewerSingles,
    OtherSingles,
    Unlike,
}

impl Aggregator for Flawed {
    fn aggregate(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate> {
        let mut played = self.scheme.aggregate(round, updates, links, attempts)?;
        match (self.flaw, &mut played.decoded) {
            (Flaw::WrongSum, Decoded::Sum { sum, .. }) => sum[0] += 1e-3,
            (Flaw::WrongIncluded, Decoded::Sum { included, .. }) => {
                included.pop();
            }
            (Flaw::SumDespiteLosses, decoded @ Decoded::Outage(_)) => {
                *decoded = Decoded::exact(vec![0.0; 13], vec![0]);
            }
            (Flaw::OtherMessages, _) => {
                played.sent.pop();
            }
            (Flaw::Fickle, Decoded::Sum { sum, .. }) => {
                use std::sync::atomic::{AtomicU64, Ordering};
                static TIMES: AtomicU64 = AtomicU64::new(0);
                sum[0] += 1e-12 * TIMES.fetch_add(1, Ordering::Relaxed) as f64;
            }
            (Flaw::LengthDependent, Decoded::Sum { sum, .. }) => sum[0] += 1e-13 * sum.len() as f64,
            (Flaw::Estimating, decoded) => {
                if let Decoded::Sum { sum, included, .. } = std::mem::replace(decoded, Decoded::lost()) {
                    *decoded = Decoded::Estimate { sum, included };
                }
            }
            _ => {}
        }
        Ok(played)
    }

    fn shows_single_updates(&self) -> bool {
        let of_singles = [Flaw::FewerSingles, Flaw::OtherSingles, Flaw::Unlike];
        of_singles.contains(&self.flaw) && self.scheme.shows_single_updates()
    }

    fn aggregate_singly(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<(Aggregate, Vec<Update>)> {
        let (mut played, mut singles) = self.scheme.aggregate_singly(round, updates, links, attempts)?;
        match (self.flaw, singles.first_mut()) {
            (Flaw::FewerSingles, Some(_)) => drop(singles.pop()),
            (Flaw::OtherSingles, Some(first)) => Arc::make_mut(&mut first.delta)[0] += 1e-3,
            (Flaw::Unlike, Some(_)) => played.decoded = Decoded::lost(),
            _ => {}
        }
        Ok((played, singles))
    }

    fn phases(&self) -> Vec<Phase> {
        let phases = self.scheme.phases();
        if self.flaw == Flaw::UndeclaredPhase { phases[1..].to_vec() } else { phases }
    }

    fn formal(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Formal> {
        self.scheme.formal(if self.flaw == Flaw::OldKeys { 1 } else { round }, links, attempts)
    }

    fn received(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        party: PartyId,
    ) -> Result<Vec<Vec<f64>>> {
        self.scheme.received(round, updates, links, attempts, party)
    }

    fn formal_coordinates(&self) -> usize {
        self.scheme.formal_coordinates()
    }

    fn scheme(&self) -> &Scheme {
        self.scheme.scheme()
    }
}

#[test]
fn flaws_are_caught_by_the_rule_that_they_break() {
    for (flaw, rule) in [
        (Flaw::WrongSum, "promise"),
        (Flaw::WrongIncluded, "promise"),
        (Flaw::SumDespiteLosses, "promise"),
        (Flaw::UndeclaredPhase, "links"),
        (Flaw::OldKeys, "keys"),
        (Flaw::OtherMessages, "links"),
        (Flaw::Fickle, "repetition"),
        (Flaw::LengthDependent, "parts"),
    ] {
        let scheme = build("sec-cogc", "stragglers = 1", 3);
        let claim = Claim { clients: 3, promise: Promise::Exact, tolerance: 1e-6 };
        let report = check(&Flawed { scheme, flaw }, &claim, Seed::new(3)).unwrap();
        let rules: Vec<&str> = report.breaches.iter().map(|Breach { rule, .. }| *rule).collect();
        assert!(rules.contains(&rule), "{flaw:?}: {:?}", report.breaches);
    }
    for flaw in [Flaw::FewerSingles, Flaw::OtherSingles, Flaw::Unlike] {
        let noisy = Flawed { scheme: build("gaussian", "key_std = 0.5", 3), flaw };
        let claim = Claim { clients: 3, promise: Promise::Noisy, tolerance: 1e-6 };
        let report = check(&noisy, &claim, Seed::new(3)).unwrap();
        let rules: Vec<&str> = report.breaches.iter().map(|Breach { rule, .. }| *rule).collect();
        assert_eq!(rules, ["singles"], "{flaw:?}: {:?}", report.breaches);
    }
    // An estimate is what it says, and no sum.
    for (promise, sound) in [(Promise::Estimate, true), (Promise::Exact, false)] {
        let estimating = Flawed { scheme: build("fedavg", "", 3), flaw: Flaw::Estimating };
        let report =
            check(&estimating, &Claim { clients: 3, promise, tolerance: 1e-6 }, Seed::new(3)).unwrap();
        assert_eq!(report.breaches.is_empty(), sound, "{:?}", report.breaches);
        assert!(report.results > 0 && report.outages > 0, "{report:?}");
    }
    // Noise where a sum is promised.
    let noisy = build("gaussian", "key_std = 0.5", 3);
    let claim = Claim { clients: 3, promise: Promise::Exact, tolerance: 1e-6 };
    let report = check(&*noisy, &claim, Seed::new(3)).unwrap();
    assert!(report.breaches.iter().any(|breach| breach.rule == "promise"), "{:?}", report.breaches);
}

/// A code for four clients that misses two of them, with the decoder gc-plus if there is a limit to it.
fn coded<S: Coefficient>(keys: Option<KeyKind>, limit: Option<f64>) -> CoGc<S> {
    let code = Arc::new(S::code(CodeKind::CyclicRandom, 4, 2, Seed::new(1)).unwrap());
    CoGc {
        codes: Codes::new(code, limit.map(|limit| (Seed::new(2), limit))).into(),
        keys: keys.map(|kind| (kind.into(), 1.0)),
        link_std: 0.0,
        grid: None,
        public: Public::default(),
        least: 1,
    }
}

fn uncoded() -> Uncoded {
    Uncoded::new(4)
}

/// Plays rounds of four clients with inputs of five coordinates, with and without the binary form.
fn travelling<S, P>(protocol: P, inputs: &[impl Input<S>], keys: &impl KeySource<S>) -> Option<Breach>
where
    S: WireSymbol + PartialEq,
    P: Protocol<S, Message: Wire<S>>,
{
    let form = Form { len: 5, members: 3, largest: 1e6 };
    let inputs: Vec<&dyn Input<S>> = inputs.iter().map(|input| input as _).collect();
    travels(protocol, &inputs, form, keys).err()
}

#[test]
fn messages_survive_their_binary_form() {
    let keys = SeededKeys(Seed::new(4));
    let residues = inputs::<M61>(4, 5);
    let numbers: Vec<Numbers> =
        (1..=4).map(|k| Numbers((0..5).map(|i| f64::from(k * i) / 7.0).collect())).collect();
    for (keyed, limit) in [(None, None), (Some(KeyKind::Fair), None), (None, Some(1e3))] {
        assert_eq!(travelling(coded::<M61>(keyed, limit), &residues, &keys), None);
        assert_eq!(travelling(coded::<f64>(keyed, limit), &numbers, &keys), None);
    }
    for mask in [Mask::None, Mask::Gaussian(1.0), Mask::zero_sum(KeyKind::Pairwise, 1.0)] {
        assert_eq!(travelling::<f64, _>(Uncoded { mask, ..uncoded() }, &numbers, &keys), None);
    }

    // What is read is too long for those who expect four coordinates.
    let short = inputs::<M61>(4, 4);
    let breach = travelling(uncoded(), &short, &keys).unwrap();
    assert_eq!(breach.rule, "binary");
    assert_eq!(breach.evidence, "client 1 to server: 32 bytes instead of 5 symbols of 8");
    let breach = travelling(Forgetful(uncoded()), &residues, &keys).unwrap();
    assert_eq!(breach.evidence, "nothing lost: the round ends otherwise");
}

struct Numbers(Vec<f64>);

impl Input<f64> for Numbers {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn add_to(&self, y: &mut [f64]) {
        y.iter_mut().zip(&self.0).for_each(|(y, x)| *y += x);
    }
}

/// FedAvg whose binary form drops the first coordinate.
struct Forgetful(Uncoded);

#[derive(Clone)]
struct Dropped(Upload<M61>);

struct Dropping(Role<M61>);

fn with<M, N>(Envelope { sent, from, to, body }: Envelope<M>, other: fn(M) -> N) -> Envelope<N> {
    Envelope { sent, from, to, body: other(body) }
}

impl Message<M61> for Dropped {
    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn reveals(&self) -> Vec<Vec<M61>> {
        self.0.reveals()
    }
}

impl Wire<M61> for Dropped {
    fn variant(&self) -> u8 {
        0
    }

    fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.0.put(out);
        out[start..start + 8].fill(0);
    }

    fn take(variant: u8, body: &[u8], form: &Form) -> std::result::Result<Self, String> {
        Upload::take(variant, body, form).map(Self)
    }
}

impl Party<Dropped, M61> for Dropping {
    fn refusal(&self, message: &Envelope<Dropped>) -> Option<String> {
        self.0.refusal(&with(message.clone(), |body| body.0))
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Dropped>>) -> Vec<Envelope<Dropped>> {
        let inbox = inbox.into_iter().map(|envelope| with(envelope, |body| body.0)).collect();
        self.0.step(clock, inbox).into_iter().map(|envelope| with(envelope, Dropped)).collect()
    }

    fn decoded(&mut self) -> Option<Decoded<M61>> {
        self.0.decoded()
    }
}

impl Protocol<M61> for Forgetful {
    type Message = Dropped;
    type Key = Key<M61>;
    type Party = Dropping;

    fn parties(&self) -> Vec<PartyId> {
        Protocol::<M61>::parties(&self.0)
    }

    fn phases(&self) -> Vec<Phase> {
        Protocol::<M61>::phases(&self.0)
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<M61>) -> Vec<Key<M61>> {
        self.0.deal(round, len, source)
    }

    fn party(&self, id: PartyId, key: Key<M61>, input: Option<&dyn Input<M61>>) -> Dropping {
        Dropping(self.0.party(id, key, input))
    }
}
