//! One party of a scheme in a process of its own: the state machine of [`crate::protocol::Party`] with
//! messages as bytes.

use std::sync::Arc;

use super::agreement::{Secrets, entropy};
use crate::algebra::field::Prime;
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::Quantiser;
use crate::algebra::{KeyStream, LinearForm, Real, Sample, Symbol};
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::message::HEADER_BYTES;
use crate::protocol::exchange::{Assemble, Part, Quantised, Setup, admit};
use crate::protocol::{Clock, Decoded, Envelope, Input, Party, PartyId, Protocol, ProtocolConfig, Update};
use crate::seed::Seed;
use crate::wire::{self, Form, Wire, WireSymbol};

/// A scheme among the clients of one cohort, who are numbered from 0.
pub trait Scheme: Send + Sync {
    /// The clients whose shares `client` waits for, ascending.
    fn sources(&self, client: u16) -> Vec<u16>;

    /// Complete sums that are sure to suffice; `None` where the server takes all that it can get.
    fn enough(&self) -> Option<usize>;

    /// Bytes of the list of shares in a message that has one.
    fn list_bytes(&self) -> usize;

    /// Bytes of the longest envelope for vectors of `len` coordinates.
    fn envelope_bytes(&self, len: usize) -> usize;

    /// The state machine of `client` in `round`, with keys that it makes alone.
    ///
    /// # Errors
    /// Keys that need a dealer.
    fn client(&self, client: u16, round: u64, update: &Update, secrets: &Secrets) -> Result<Box<dyn Seat>>;

    /// The server's state machine in `round`, for vectors of `len` coordinates.
    fn server(&self, round: u64, len: usize) -> Box<dyn Seat>;
}

/// An envelope as bytes.
#[derive(Debug)]
pub struct Letter {
    /// The receiver.
    pub to: PartyId,
    /// Its binary form.
    pub bytes: Vec<u8>,
}

/// A party in one round.
pub trait Seat: Send {
    /// Takes what `from` sent in the previous phase.
    ///
    /// # Errors
    /// The broken rule: it is malformed, of another moment, from or for another party, or here already. It is
    /// not taken then.
    fn admit(&mut self, from: PartyId, bytes: &[u8]) -> Result<(), String>;

    /// Steps through the next phase with what was admitted.
    fn step(&mut self) -> Vec<Letter>;

    /// As [`Party::decoded`].
    fn decoded(&mut self) -> Option<Decoded<f64>>;
}

/// The scheme of a configured protocol for `clients` clients. Vectors whose coordinates have a root mean
/// square beyond `largest` are refused.
///
/// # Errors
/// A protocol that cannot be deployed, or parameters that break one of its rules.
pub fn scheme(
    protocol: &ProtocolConfig,
    clients: usize,
    seed: Seed,
    public: &Public,
    largest: f64,
) -> Result<Box<dyn Scheme>> {
    protocol.assemble(clients, seed, public, Deployed { largest })?
}

/// Makes schemes whose parties are apart.
struct Deployed {
    largest: f64,
}

impl Deployed {
    fn table<P, S>(
        self,
        protocol: P,
        setup: Setup,
        input: InputOf<S>,
        numbers: Numbers<S>,
    ) -> Result<Box<dyn Scheme>>
    where
        S: Sample + WireSymbol,
        P: Protocol<S, Message: Wire<S>> + 'static,
    {
        if protocol.own_key(PartyId::Client(0), 0, 0, &Zeros).is_none() {
            let rule = "without a dealer keys are agreed by pairs of clients; take keys = \"pairwise\" and no link keys";
            return Err(Error::config("keys", rule));
        }
        if protocol.phases().len() > 2 {
            let rule = "a deployed client sends its upload once; take 1";
            return Err(Error::config("transmissions", rule));
        }
        let protocol = Arc::new(protocol);
        Ok(Box::new(Table {
            protocol,
            code: setup.code,
            largest: self.largest,
            input,
            numbers: Arc::new(numbers),
        }))
    }
}

impl Assemble for Deployed {
    type Output = Result<Box<dyn Scheme>>;

    fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
    where
        P: Protocol<f32, Message: Wire<f32>>
            + Protocol<f64, Message: Wire<f64>>
            + Protocol<LinearForm>
            + 'static,
    {
        let grid = setup.grid;
        if single {
            self.table::<P, f32>(protocol, setup, whole(grid), Box::new(f32::into_f64))
        } else {
            self.table::<P, f64>(protocol, setup, whole(grid), Box::new(f64::into_f64))
        }
    }

    fn field<F, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
    where
        F: Prime + WireSymbol,
        P: Protocol<F, Message: Wire<F>> + Protocol<LinearForm<F>> + 'static,
    {
        let input: InputOf<F> = Box::new(move |update, seed| {
            Box::new(Quantised { quantiser, update, part: 0..update.delta.len(), seed })
        });
        self.table::<P, F>(protocol, setup, input, Box::new(move |sum| quantiser.real(&sum)))
    }
}

/// A whole update as the input of a scheme over the reals.
fn whole<S: Real>(grid: Option<Grid>) -> InputOf<S> {
    Box::new(move |update, _| Box::new(Part { update, part: 0..update.delta.len(), grid }))
}

/// Stands for keys of no coordinates.
struct Zeros;

impl<S: Sample> KeySource<S> for Zeros {
    fn fill(&self, _: KeyStream, _: usize, out: &mut [S]) {
        out.fill(S::zero());
    }

    fn noise(&self, _: KeyStream, _: usize, out: &mut [S::Draw]) {
        out.fill(S::Draw::zero());
    }

    fn coins(&self, _: KeyStream, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
}

type InputOf<S> = Box<dyn for<'a> Fn(&'a Update, Seed) -> Box<dyn Input<S> + 'a> + Send + Sync>;
type Numbers<S> = Box<dyn Fn(Vec<S>) -> Vec<f64> + Send + Sync>;

/// A protocol over the symbols `S`.
struct Table<P, S> {
    protocol: Arc<P>,
    code: Option<Arc<dyn Code>>,
    largest: f64,
    /// An update as symbols; the seed feeds stochastic rounding.
    input: InputOf<S>,
    /// Symbols as numbers.
    numbers: Arc<Numbers<S>>,
}

impl<P, S> Table<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>> + 'static,
{
    fn members(&self) -> usize {
        self.code.as_ref().map_or(0, |code| code.stragglers() + 1)
    }

    fn seat(&self, id: PartyId, round: u64, phase: u8, len: usize, party: P::Party) -> Box<dyn Seat> {
        let form = Form { len, members: self.members(), largest: self.largest };
        let numbers = Arc::clone(&self.numbers);
        let clock = Clock { round, attempt: 0, phase };
        Box::new(Seated::<P, S> { id, clock, form, party, inbox: Vec::new(), numbers })
    }
}

impl<P, S> Scheme for Table<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>> + 'static,
{
    fn sources(&self, client: u16) -> Vec<u16> {
        let Some(code) = &self.code else { return Vec::new() };
        code.support(client.into()).iter().map(|&k| k as u16).filter(|&k| k != client).collect()
    }

    fn enough(&self) -> Option<usize> {
        let code = self.code.as_ref()?;
        (!code.takes_incomplete()).then(|| code.clients() - code.stragglers())
    }

    fn list_bytes(&self) -> usize {
        let listed = self.code.as_ref().is_some_and(|code| code.takes_incomplete());
        if listed { self.members().div_ceil(8) } else { 0 }
    }

    fn envelope_bytes(&self, len: usize) -> usize {
        HEADER_BYTES + self.list_bytes() + len * S::BYTES
    }

    fn client(&self, client: u16, round: u64, update: &Update, secrets: &Secrets) -> Result<Box<dyn Seat>> {
        let (id, len) = (PartyId::Client(client), update.delta.len());
        let coins = entropy()?;
        let coins = u64::from_le_bytes(*coins.bytes().first_chunk().expect("a secret has 32 bytes"));
        let input = (self.input)(update, Seed::new(coins));
        let key = self.protocol.own_key(id, round, len, secrets);
        let key = key.ok_or_else(|| Error::config("keys", "these keys need a dealer"))?;
        let party = self.protocol.party(id, key, Some(&*input));
        Ok(self.seat(id, round, 0, len, party))
    }

    fn server(&self, round: u64, len: usize) -> Box<dyn Seat> {
        let key = self.protocol.own_key(PartyId::Server, round, len, &Zeros);
        let party = self.protocol.party(PartyId::Server, key.expect("the server holds no key"), None);
        self.seat(PartyId::Server, round, self.protocol.phases().len() as u8, len, party)
    }
}

/// A party and what it waits for.
struct Seated<P: Protocol<S>, S: Sample> {
    id: PartyId,
    /// The next step.
    clock: Clock,
    form: Form,
    party: P::Party,
    inbox: Vec<Envelope<P::Message>>,
    numbers: Arc<Numbers<S>>,
}

impl<P, S> Seat for Seated<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>>,
{
    fn admit(&mut self, from: PartyId, bytes: &[u8]) -> Result<(), String> {
        let envelope = wire::decode::<S, P::Message>(bytes, &self.form)?;
        if self.inbox.iter().any(|other| other.from == from) {
            return Err("second message in one phase".into());
        }
        let known = |_| true;
        let (accepted, refused) = admit(&self.party, self.id, self.clock, known, vec![(from, envelope)]);
        self.inbox.extend(accepted);
        refused.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.rule))
    }

    fn step(&mut self) -> Vec<Letter> {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.sort_by_key(|envelope| envelope.from);
        let sent = self.party.step(self.clock, inbox);
        self.clock.phase += 1;
        let letter = |envelope: &Envelope<P::Message>| Letter {
            to: envelope.to,
            bytes: wire::encode::<S, _>(envelope),
        };
        sent.iter().map(letter).collect()
    }

    fn decoded(&mut self) -> Option<Decoded<f64>> {
        Some(self.party.decoded()?.map(&**self.numbers))
    }
}

#[cfg(test)]
mod own_key_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::agreement::KeyPair;
    use crate::keys::KeyKind;
    use crate::protocol::cogc::{CoGcConfig, DecoderKind, SecCoGcConfig};
    use crate::protocol::{Arithmetic, uncoded};

    /// Plays a round of 6 clients in which `lost(from, to)` messages are lost; returns what the server
    /// decodes.
    fn round(config: &ProtocolConfig, lost: impl Fn(PartyId, PartyId) -> bool) -> Decoded<f64> {
        let (m, len, round) = (6u16, 7, 9);
        let scheme = scheme(config, m.into(), Seed::new(4), &Public::default(), 1e6).unwrap();
        let pairs: Vec<KeyPair> = (0..m).map(|_| KeyPair::generate().unwrap()).collect();
        let public: Vec<_> = pairs.iter().map(KeyPair::public).collect();
        let secrets: Vec<_> =
            (0..m).map(|k| pairs[usize::from(k)].agree(k, &public, b"test").unwrap()).collect();
        let mut seats: Vec<_> = (0..m)
            .map(|k| {
                let delta = (0..len).map(|i| (i as f32 - 2.0) * f32::from(k + 1) / 16.0).collect();
                scheme
                    .client(
                        k,
                        round,
                        &Update { weight: 1.0, delta: Arc::new(delta) },
                        &secrets[usize::from(k)],
                    )
                    .unwrap()
            })
            .collect();
        let mut server = scheme.server(round, len);
        let shares: Vec<Vec<Letter>> = seats.iter_mut().map(|seat| seat.step()).collect();
        for (k, letter) in
            (0..m).zip(shares).flat_map(|(k, letters)| letters.into_iter().map(move |l| (k, l)))
        {
            let PartyId::Client(to) = letter.to else { panic!("phase 0 is among clients") };
            assert!(scheme.sources(to).contains(&k));
            assert_eq!(letter.bytes.len(), scheme.envelope_bytes(len) - scheme.list_bytes());
            if !lost(PartyId::Client(k), letter.to) {
                seats[usize::from(to)].admit(PartyId::Client(k), &letter.bytes).unwrap();
                assert!(seats[usize::from(to)].admit(PartyId::Client(k), &letter.bytes).is_err(), "twice");
            }
        }
        for k in 0..m {
            for letter in seats[usize::from(k)].step() {
                if !lost(PartyId::Client(k), letter.to) {
                    server.admit(PartyId::Client(k), &letter.bytes).unwrap();
                }
            }
        }
        server.step();
        server.decoded().unwrap()
    }

    fn schemes() -> Vec<ProtocolConfig> {
        let coded = |arithmetic, decoder| CoGcConfig {
            stragglers: 3.into(),
            arithmetic,
            decoder,
            ..CoGcConfig::default()
        };
        let secure = |arithmetic, decoder| {
            let config = SecCoGcConfig {
                stragglers: 3.into(),
                keys: KeyKind::Pairwise,
                arithmetic,
                decoder,
                ..SecCoGcConfig::default()
            };
            ProtocolConfig::SecCoGc(config)
        };
        let (standard, plus) = (DecoderKind::Standard, DecoderKind::GcPlus);
        vec![
            ProtocolConfig::FedAvg(uncoded::FedAvg::default()),
            ProtocolConfig::ZeroSum(uncoded::ZeroSum {
                keys: KeyKind::Pairwise,
                ..uncoded::ZeroSum::default()
            }),
            ProtocolConfig::CoGc(coded(Arithmetic::F64, standard)),
            ProtocolConfig::CoGc(coded(Arithmetic::F32, plus)),
            secure(Arithmetic::F64, standard),
            secure(Arithmetic::F64, plus),
            secure(Arithmetic::Field, standard),
        ]
    }

    fn check(config: &ProtocolConfig, decoded: &Decoded<f64>) {
        let Decoded::Sum { sum, included, .. } = decoded else { panic!("{}", config.kind()) };
        assert_eq!(included.len(), 6);
        for (i, x) in sum.iter().enumerate() {
            let exact = (i as f64 - 2.0) * 21.0 / 16.0;
            assert!((x - exact).abs() < 1e-4, "{}: {x} for {exact}", config.kind());
        }
    }

    #[test]
    fn every_deployed_scheme_decodes_the_sum_from_bytes() {
        for config in schemes() {
            check(&config, &round(&config, |_, _| false));
        }
    }

    #[test]
    fn lost_messages_give_the_exact_sum_or_an_outage() {
        // Any 3 complete sums suffice.
        let tolerated = |from, to| to == PartyId::Server && matches!(from, PartyId::Client(0 | 2 | 5));
        for config in &schemes()[2..] {
            check(config, &round(config, tolerated));
            let everything_to_two = |_, to| matches!(to, PartyId::Client(1 | 2));
            check(config, &round(config, everything_to_two));
            let one_is_gone = |from, _| from == PartyId::Client(3);
            assert_eq!(round(config, one_is_gone), Decoded::lost(), "{}", config.kind());
        }
    }

    #[test]
    fn a_seat_refuses_what_is_not_for_it_now() {
        let config = &schemes()[2];
        let scheme = scheme(config, 6, Seed::new(4), &Public::default(), 10.0).unwrap();
        let pair = KeyPair::generate().unwrap();
        let public: Vec<_> = (0..6)
            .map(|k| if k == 0 { pair.public() } else { KeyPair::generate().unwrap().public() })
            .collect();
        let secrets = pair.agree(0, &public, b"").unwrap();
        let update = |x: f32| Update { weight: 1.0, delta: Arc::new(vec![x; 4]) };
        let seat = |round, x| scheme.client(0, round, &update(x), &secrets).unwrap();
        let first = |mut seat: Box<dyn Seat>| seat.step().remove(0);
        let letter = first(seat(5, 1.0));
        let PartyId::Client(to) = letter.to else { panic!() };
        let mut receiver = scheme
            .client(to, 5, &update(0.0), &{
                let pair = KeyPair::generate().unwrap();
                let public: Vec<_> =
                    (0..6).map(|k| if k == to { pair.public() } else { public[usize::from(k)] }).collect();
                pair.agree(to, &public, b"").unwrap()
            })
            .unwrap();
        receiver.step();
        let mut refusal = |from, bytes: &[u8]| receiver.admit(from, bytes).unwrap_err();
        let sender = PartyId::Client(0);
        assert_eq!(refusal(sender, &first(seat(4, 1.0)).bytes), "it is from round 4, attempt 1");
        let other = refusal(PartyId::Client(4), &letter.bytes);
        assert_eq!(other, "it names client 1 as its sender");
        let huge = refusal(sender, &first(seat(5, 1e9)).bytes);
        assert!(huge.contains("beyond the accepted 1.000e1"), "{huge}");
        refusal(sender, &letter.bytes[..20]);
        receiver.admit(sender, &letter.bytes).unwrap();
    }

    #[test]
    fn a_dealer_or_a_simulated_scheme_is_refused() {
        let refusal = |config: &ProtocolConfig| {
            scheme(config, 6, Seed::new(1), &Public::default(), 1.0).err().unwrap().to_string()
        };
        assert_eq!(
            refusal(&ProtocolConfig::SecCoGc(SecCoGcConfig {
                stragglers: 3.into(),
                ..SecCoGcConfig::default()
            })),
            "keys: without a dealer keys are agreed by pairs of clients; take keys = \"pairwise\" and no link keys"
        );
        assert_eq!(
            refusal(&ProtocolConfig::Ideal(uncoded::Ideal::default())),
            "kind: ideal runs in simulation only; take fedavg, gaussian, zero-sum, cogc or sec-cogc"
        );
    }
}
