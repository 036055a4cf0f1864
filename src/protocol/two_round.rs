//! Secure aggregation in two rounds: what its schemes have in common.
//!
//! Zhao, Sun, *Information Theoretic Secure Aggregation with User Dropouts*, section 2; the same two rounds
//! carry Wan et al. and the SecAgg family.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | K, U | [`TwoRound::clients`], [`TwoRound::survivors`] | |
//! | W_k | the client's input, padded with zeros to a multiple of [`TwoRound::unit`] | L |
//! | Z_k | [`TwoRound::Key`] | |
//! | X_k | [`TwoRoundMessage::Upload`]: [`TwoRound::mask`] plus the input in its first d coordinates | R₁ L |
//! | U_1 | [`TwoRoundMessage::Survivors`] | K bits |
//! | Y_k^{U_1} | [`TwoRoundMessage::Answer`] | R₂ L |
//!
//! Phase 0: where nobody deals keys, clients send each other shares of their masks. Phase 1: every client
//! uploads X_k. Phase 2: once at least U uploads are there (and `least_included`, for the sum of a few is
//! close to an update), the server fixes U_1, whose uploads arrived, and announces it to its members. Phase
//! 3: they answer with what unmasks Σ_{U_1} X_k and nothing else. Phase 4: from the answers of any U of them
//! the server outputs Σ_{U_1} W_k; with fewer it is an outage. A lost upload or answer is a drop-out in that
//! round, and so is a lost share: its receiver cannot answer for a set with the sender.
//!
//! Answers for two survivor sets would unmask two sums. A client therefore answers for one set a round and
//! refuses a second. The attempts of a round go on with the same keys: uploads that arrived stay, the set
//! stays once it is announced, and what is sent again is what was sent before, so that attempts show the
//! server nothing new.

mod message;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Clock, Decoded, Envelope, Expects, Input, Message, Party, PartyId, Phase, Protocol, Reason, Secret,
};
use crate::algebra::{Scalar, Symbol};
use crate::keys::KeySource;
use crate::wire::Form;
pub use message::{Symbols, TwoRoundMessage};

/// What tells one two-round scheme from another.
pub trait TwoRound<S: Symbol>: Send + Sync + 'static {
    /// A client's key material Z_k for one round.
    type Key: Secret<S>;
    /// What clients send each other in phase 0, where they do.
    type Share: Message<S>;
    /// What a survivor sends in the second round.
    type Answer: Message<S>;

    /// Number of clients K.
    fn clients(&self) -> usize;

    /// Number of answers U that suffice.
    fn survivors(&self) -> usize;

    /// Inputs are padded to a multiple of this length.
    fn unit(&self) -> usize;

    /// Length of the mask of an input of the padded length `len`: R₁ · `len`.
    fn mask_len(&self, len: usize) -> usize {
        len
    }

    /// Fresh keys of all clients for one round, for inputs of the padded length `len`.
    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Self::Key>;

    /// As [`Protocol::own_key`], for inputs of the padded length `len`.
    fn own_key(&self, client: u16, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Self::Key> {
        let _ = (client, round, len, source);
        None
    }

    /// What `client` adds to its input: [`TwoRound::mask_len`] symbols.
    fn mask(&self, client: u16, key: &Self::Key) -> Vec<S>;

    /// Whether clients send each other shares in phase 0.
    fn has_shares(&self) -> bool {
        false
    }

    /// What `client` sends to other clients in phase 0, by receiver.
    fn shares(&self, _client: u16, _key: &Self::Key) -> Vec<(u16, Self::Share)> {
        Vec::new()
    }

    /// Entries of a share, and its bytes on the wire.
    fn share_form(&self, _len: usize) -> (usize, usize) {
        (0, 0)
    }

    /// Symbols of an answer for inputs of the padded length `len`.
    fn answer_len(&self, len: usize) -> usize;

    /// What is wrong with the form of a share that the owner of `key` received, if anything.
    fn refusal(&self, _key: &Self::Key, _share: &Self::Share) -> Option<String> {
        Some("this scheme has no shares".into())
    }

    /// Keeps a share in the receiver's `key`; of several from one sender the first.
    fn keep(&self, _key: &mut Self::Key, _from: u16, _share: &Self::Share) {}

    /// The answer of `client` for the survivors `included`, unless it lacks a share.
    fn answer(&self, client: u16, key: &Self::Key, included: &[u16]) -> Option<Self::Answer>;

    /// What is wrong with the form of an answer for inputs of the padded length `len`, if anything.
    fn malformed(&self, len: usize, included: &[u16], answer: &Self::Answer) -> Option<String>;

    /// Takes the masks out of `sum`, the sum of the uploads of `included`, with at least U answers in the
    /// order of the clients. False if these answers do not suffice.
    fn unmask(&self, sum: &mut [S], included: &[u16], answers: &[(u16, &Self::Answer)]) -> bool;
}

/// A party's key material; the server has none.
pub enum Dealt<K> {
    /// Z_k.
    Client(K),
    /// The padded length and the length d of inputs.
    Server(usize, usize),
}

impl<S, K: Secret<S>> Secret<S> for Dealt<K> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client(key) => key.held(),
            Self::Server(..) => Vec::new(),
        }
    }
}

/// The protocol of a two-round scheme.
#[derive(Clone, Debug)]
pub struct Rounds<C> {
    scheme: Arc<C>,
    least: usize,
}

impl<C> Rounds<C> {
    /// Carries out `scheme`.
    #[must_use]
    pub fn new(scheme: C) -> Self {
        Self { scheme: Arc::new(scheme), least: 1 }
    }

    /// With at least this many clients in a sum, even where U are fewer: a smaller set is not announced, and
    /// not answered.
    #[must_use]
    pub fn with_at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> &C {
        &self.scheme
    }
}

impl<S: Symbol, C: TwoRound<S>> Protocol<S> for Rounds<C> {
    type Message = TwoRoundMessage<S, C::Answer, C::Share>;
    type Key = Dealt<C::Key>;
    type Party = Role<S, C>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.scheme.clients() as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        let waits = if self.scheme.has_shares() { Expects::Everybody } else { Expects::Nobody };
        vec![
            Phase::shares("share", waits),
            Phase::upload("upload", Expects::Everybody),
            Phase::list("survivors"),
            Phase::upload("answer", Expects::Addressed),
        ]
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Self::Key> {
        let padded = len.next_multiple_of(self.scheme.unit());
        let keys = self.scheme.deal(round, padded, source).into_iter().map(Dealt::Client);
        keys.chain([Dealt::Server(padded, len)]).collect()
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Self::Key> {
        let padded = len.next_multiple_of(self.scheme.unit());
        match id {
            PartyId::Client(k) => self.scheme.own_key(k, round, padded, source).map(Dealt::Client),
            PartyId::Helper(_) | PartyId::Server => Some(Dealt::Server(padded, len)),
        }
    }

    fn formal_len(&self) -> usize {
        self.scheme.unit()
    }

    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        let (scheme, padded) = (&self.scheme, len.next_multiple_of(self.scheme.unit()));
        let vector = |len: usize| (len, 0, len * S::BYTES);
        let (len, members, bytes) = match phase {
            0 => {
                let (entries, bytes) = scheme.share_form(padded);
                (entries, 0, bytes)
            }
            1 => vector(scheme.mask_len(padded)),
            2 => (0, scheme.clients(), scheme.clients().div_ceil(8)),
            _ => vector(scheme.answer_len(padded)),
        };
        (Form { len, members, largest: f64::INFINITY }, bytes)
    }

    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<S>>) -> Self::Party {
        let scheme = Arc::clone(&self.scheme);
        let least = self.least.max(scheme.survivors());
        match (id, key, input) {
            (PartyId::Client(index), Dealt::Client(key), Some(input)) => {
                let mut masked = scheme.mask(index, &key);
                input.add_to(&mut masked[..input.len()]);
                Role::Client(Client { scheme, least, index, key, masked: Arc::new(masked), answered: None })
            }
            (_, Dealt::Server(padded, len), _) => Role::Server(Server {
                scheme,
                least,
                padded,
                len,
                uploads: BTreeMap::new(),
                included: None,
                answers: BTreeMap::new(),
                decoded: None,
            }),
            (_, Dealt::Client(_), _) => {
                unreachable!("clients, and only they, are dealt keys and have inputs")
            }
        }
    }
}

/// The two roles.
pub enum Role<S: Symbol, C: TwoRound<S>> {
    /// Uploads, then answers for one survivor set.
    Client(Client<S, C>),
    /// Announces the survivors, then decodes.
    Server(Server<S, C>),
}

/// What travels in a scheme.
type Body<S, C> = TwoRoundMessage<S, <C as TwoRound<S>>::Answer, <C as TwoRound<S>>::Share>;
type Mail<S, C> = Envelope<Body<S, C>>;

/// U_1 and Y_k.
type Answered<A> = (Arc<Vec<u16>>, Arc<A>);

/// A client's state.
pub struct Client<S: Symbol, C: TwoRound<S>> {
    scheme: Arc<C>,
    /// Fewest clients in a sum.
    least: usize,
    index: u16,
    key: C::Key,
    /// X_k.
    masked: Arc<Vec<S>>,
    answered: Option<Answered<C::Answer>>,
}

impl<S: Symbol, C: TwoRound<S>> Client<S, C> {
    fn send(&self, sent: Clock, body: Body<S, C>) -> Vec<Mail<S, C>> {
        vec![Envelope { sent, from: PartyId::Client(self.index), to: PartyId::Server, body }]
    }

    fn share(&self, sent: Clock) -> Vec<Mail<S, C>> {
        let shares = self.scheme.shares(self.index, &self.key).into_iter();
        shares
            .map(|(to, share)| Envelope {
                sent,
                from: PartyId::Client(self.index),
                to: PartyId::Client(to),
                body: TwoRoundMessage::Share(Arc::new(share)),
            })
            .collect()
    }

    fn refusal(&self, message: &Mail<S, C>) -> Option<String> {
        match (message.sent.phase, message.from, &message.body) {
            (0, PartyId::Client(_), TwoRoundMessage::Share(share)) => self.scheme.refusal(&self.key, share),
            (2, PartyId::Server, TwoRoundMessage::Survivors { included, .. }) => self.unanswerable(included),
            (phase, ..) => Some(format!("no message to a client in phase {phase}")),
        }
    }

    /// Why the survivor set `included` must not be answered.
    fn unanswerable(&self, included: &Arc<Vec<u16>>) -> Option<String> {
        let clients = self.scheme.clients();
        if !included.is_sorted_by(|a, b| a < b) || included.last().is_some_and(|&k| usize::from(k) >= clients)
        {
            return Some("the survivor set is not an ascending list of clients".into());
        }
        let (size, least) = (included.len(), self.least);
        if size < least {
            return Some(format!("{size} survivors are fewer than {least}; their sum must stay masked"));
        }
        if included.binary_search(&self.index).is_err() {
            return Some("the survivor set is without the receiver".into());
        }
        let other = self.answered.as_ref().is_some_and(|(known, _)| known != included);
        other.then(|| "second survivor set in one round; two sums would tell more than one".into())
    }

    fn keep(&mut self, inbox: Vec<Mail<S, C>>) {
        for envelope in inbox {
            if let (PartyId::Client(from), TwoRoundMessage::Share(share)) = (envelope.from, envelope.body) {
                self.scheme.keep(&mut self.key, from, &share);
            }
        }
    }

    /// The answer for the announced set, if one came and no share is missing.
    fn answer(&mut self, inbox: Vec<Mail<S, C>>) -> Option<Arc<C::Answer>> {
        let included = inbox.into_iter().find_map(|envelope| match envelope.body {
            TwoRoundMessage::Survivors { included, .. } => Some(included),
            _ => None,
        })?;
        if let Some((_, answer)) = &self.answered {
            return Some(Arc::clone(answer));
        }
        let answer = Arc::new(self.scheme.answer(self.index, &self.key, &included)?);
        self.answered = Some((included, Arc::clone(&answer)));
        Some(answer)
    }
}

/// The server's state.
pub struct Server<S: Symbol, C: TwoRound<S>> {
    scheme: Arc<C>,
    /// Fewest clients in a sum.
    least: usize,
    padded: usize,
    len: usize,
    /// X_k of everybody from whom it arrived, until U_1 is fixed; then of U_1.
    uploads: BTreeMap<u16, Arc<Vec<S>>>,
    /// U_1, once it is announced.
    included: Option<Arc<Vec<u16>>>,
    answers: BTreeMap<u16, Arc<C::Answer>>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol, C: TwoRound<S>> Server<S, C> {
    fn refusal(&self, message: &Mail<S, C>) -> Option<String> {
        match (message.sent.phase, message.from, &message.body, &self.included) {
            (1, PartyId::Client(_), TwoRoundMessage::Upload(upload), _) => {
                let (got, want) = (upload.len(), self.scheme.mask_len(self.padded));
                (got != want).then(|| format!("the upload has {got} symbols instead of {want}"))
            }
            (3, PartyId::Client(k), TwoRoundMessage::Answer(answer), Some(included)) => {
                if included.binary_search(&k).is_err() {
                    return Some("an answer from outside the survivor set".into());
                }
                self.scheme.malformed(self.padded, included, answer)
            }
            (phase, ..) => Some(format!("no message to the server in phase {phase}")),
        }
    }

    /// Takes the uploads of an attempt and announces the survivors whose answers are missing.
    fn announce(&mut self, inbox: Vec<Mail<S, C>>, sent: Clock) -> Vec<Mail<S, C>> {
        if self.included.is_none() {
            for envelope in inbox {
                if let (PartyId::Client(k), TwoRoundMessage::Upload(upload)) = (envelope.from, envelope.body)
                {
                    self.uploads.entry(k).or_insert(upload);
                }
            }
            if self.uploads.len() < self.least {
                return Vec::new();
            }
        }
        let arrived = || Arc::new(self.uploads.keys().copied().collect());
        let included = self.included.get_or_insert_with(arrived);
        let missing = included.iter().filter(|k| !self.answers.contains_key(k));
        let clients = self.scheme.clients();
        missing
            .map(|&k| Envelope {
                sent,
                from: PartyId::Server,
                to: PartyId::Client(k),
                body: TwoRoundMessage::Survivors { included: Arc::clone(included), clients },
            })
            .collect()
    }

    /// Takes the answers of an attempt and decodes from those of all attempts.
    fn decode(&mut self, inbox: Vec<Mail<S, C>>) -> Decoded<S> {
        for envelope in inbox {
            if let (PartyId::Client(k), TwoRoundMessage::Answer(answer)) = (envelope.from, envelope.body) {
                self.answers.insert(k, answer);
            }
        }
        let enough = |count: usize| count >= self.scheme.survivors();
        let Some(included) = self.included.as_ref().filter(|_| enough(self.answers.len())) else {
            let few = self.included.is_none() && enough(self.uploads.len());
            return Decoded::Outage(if few { Reason::TooFew } else { Reason::Links });
        };
        let uploads: Vec<_> =
            self.uploads.values().map(|upload| (S::Scalar::ONE, upload.as_slice())).collect();
        let mut sum = S::combine(self.scheme.mask_len(self.padded), &uploads);
        let answers: Vec<_> = self.answers.iter().map(|(&k, answer)| (k, &**answer)).collect();
        if !self.scheme.unmask(&mut sum, included, &answers) {
            return Decoded::lost();
        }
        sum.truncate(self.len);
        Decoded::exact(sum, included.to_vec())
    }
}

impl<S: Symbol, C: TwoRound<S>> Party<Body<S, C>, S> for Role<S, C> {
    fn refusal(&self, message: &Mail<S, C>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Mail<S, C>>) -> Vec<Mail<S, C>> {
        match (self, clock.phase) {
            (Self::Client(client), 0) => return client.share(clock),
            (Self::Client(client), 1) => {
                client.keep(inbox);
                if client.answered.is_none() {
                    return client.send(clock, TwoRoundMessage::Upload(Arc::clone(&client.masked)));
                }
            }
            (Self::Client(client), 3) => {
                if let Some(answer) = client.answer(inbox) {
                    return client.send(clock, TwoRoundMessage::Answer(answer));
                }
            }
            (Self::Server(server), 2) => return server.announce(inbox, clock),
            (Self::Server(server), 4) => server.decoded = Some(server.decode(inbox)),
            _ => {}
        }
        Vec::new()
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Client(_) => None,
            Self::Server(server) => server.decoded.take(),
        }
    }
}

#[cfg(test)]
mod tests;
