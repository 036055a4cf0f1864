//! What clients and the server do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Each, Graph, SecAggMessage, Suite};
use crate::algebra::{Scalar, Symbol};
use crate::protocol::{Clock, Decoded, Envelope, Party, PartyId, Reason};

type Mail<S, X> = Envelope<SecAggMessage<S, X>>;

/// Shares of b and of the secret key, by owner; `None` where they could not be opened.
type Held<T> = BTreeMap<u16, Option<[T; 2]>>;

/// U_3 and the shares for it.
type Answered<T> = (Arc<Vec<u16>>, Each<T>);

/// The two roles.
pub enum Role<S: Symbol, X: Suite<S>> {
    /// Advertises, shares, uploads, answers.
    Client(Box<Client<S, X>>),
    /// Relays, announces, decodes.
    Server(Box<Server<S, X>>),
}

/// A client's state.
pub struct Client<S: Symbol, X: Suite<S>> {
    index: u16,
    threshold: usize,
    /// Fewest clients in a sum.
    least: usize,
    graph: Arc<Graph>,
    secrets: X::Secrets,
    /// x_u, until it is masked.
    input: Vec<S>,
    /// d.
    len: usize,
    /// The keys of its neighbours in U_1.
    roster: Option<Each<X::Public>>,
    /// What it sent of its secrets.
    shares: Option<Each<X::Sealed>>,
    /// Of its neighbours in U_2, and of itself where everybody holds a share of its own.
    held: Held<X::Share>,
    /// y_u.
    upload: Option<Arc<Vec<S>>>,
    answered: Option<Answered<X::Share>>,
}

fn ascending(mut list: impl Iterator<Item = u16>) -> bool {
    let mut last = None;
    list.all(|k| last.replace(k).is_none_or(|last| last < k))
}

impl<S: Symbol, X: Suite<S>> Client<S, X> {
    pub(super) fn new(
        index: u16,
        (threshold, least): (usize, usize),
        graph: Arc<Graph>,
        secrets: X::Secrets,
        input: Vec<S>,
    ) -> Self {
        let (held, len) = (BTreeMap::new(), input.len());
        Self {
            index,
            threshold,
            least,
            graph,
            secrets,
            input,
            len,
            roster: None,
            shares: None,
            held,
            upload: None,
            answered: None,
        }
    }

    /// How many of `others` and this client itself hold shares of its secrets.
    fn holders(&self, others: usize) -> usize {
        others + usize::from(self.graph.holds(self.index, self.index))
    }

    /// What is wrong with a list of neighbours with whom this client is to go on.
    fn unfit<T>(&self, list: &[(u16, T)]) -> Option<String> {
        let neighbour = |k: &u16| self.graph.neighbours(self.index).binary_search(k).is_ok();
        if !ascending(list.iter().map(|(k, _)| *k)) || !list.iter().all(|(k, _)| neighbour(k)) {
            return Some("it is not an ascending list of neighbours".into());
        }
        let (left, least) = (self.holders(list.len()), self.threshold);
        (left < least).then(|| format!("{left} holders of shares are fewer than {least}"))
    }

    fn refusal(&self, message: &Mail<S, X>) -> Option<String> {
        match (message.sent.phase, message.from, &message.body) {
            (1, PartyId::Server, SecAggMessage::Roster(roster)) => self.unfit(roster).or_else(|| {
                if !roster.iter().all(|(_, public)| X::valid(public)) {
                    return Some("a public key has small order".into());
                }
                let same =
                    |known: &[(u16, X::Public)]| known.iter().map(|k| k.0).eq(roster.iter().map(|k| k.0));
                let second = self.roster.as_ref().is_some_and(|known| !same(known));
                second.then(|| "second list of keys in one round".into())
            }),
            (3, PartyId::Server, SecAggMessage::Forwarded(sealed)) => self.unfit(sealed).or_else(|| {
                let roster = self.roster.as_ref()?;
                if !sealed.iter().all(|(k, _)| key(roster, *k).is_some()) {
                    return Some("shares of a client without keys".into());
                }
                if !sealed.iter().all(|(k, sealed)| X::fits(sealed, &self.graph, *k, self.len)) {
                    return Some("a sealed share has a wrong length".into());
                }
                let others = || self.held.keys().copied().filter(|&k| k != self.index);
                let second = self.upload.is_some() && !others().eq(sealed.iter().map(|(k, _)| *k));
                second.then(|| {
                    "second set of sharing clients in one round; two masks would tell more than one".into()
                })
            }),
            (5, PartyId::Server, SecAggMessage::Survivors { included, .. }) => self.unanswerable(included),
            (phase, ..) => Some(format!("no message to a client in phase {phase}")),
        }
    }

    /// Why the survivor set `included` must not be answered.
    fn unanswerable(&self, included: &Arc<Vec<u16>>) -> Option<String> {
        let clients = self.graph.clients();
        if !ascending(included.iter().copied()) || included.last().is_some_and(|&k| usize::from(k) >= clients)
        {
            return Some("the survivor set is not an ascending list of clients".into());
        }
        if included.binary_search(&self.index).is_err() {
            return Some("the survivor set is without the receiver".into());
        }
        let neighbours = || included.iter().filter(|k| self.graph.neighbours(self.index).contains(k));
        if !neighbours().all(|k| self.held.contains_key(k)) {
            return Some("the survivor set has a client that shared nothing".into());
        }
        let (size, least) = (self.holders(neighbours().count()), self.threshold);
        if size < least {
            return Some(format!(
                "{size} holders of shares are fewer than {least}; the sum must stay masked"
            ));
        }
        let (size, least) = (included.len(), self.least);
        if size < least {
            return Some(format!("{size} survivors are fewer than {least}; their sum must stay masked"));
        }
        let other = self.answered.as_ref().is_some_and(|(known, _)| known != included);
        other.then(|| "second survivor set in one round; both shares of a client would unmask it".into())
    }

    fn send(&self, sent: Clock, body: SecAggMessage<S, X>) -> Vec<Mail<S, X>> {
        vec![Envelope { sent, from: PartyId::Client(self.index), to: PartyId::Server, body }]
    }

    /// e_{u,v} for the neighbours in U_1.
    fn share(&mut self, inbox: Vec<Mail<S, X>>) -> Option<Each<X::Sealed>> {
        for envelope in inbox {
            if let SecAggMessage::Roster(roster) = envelope.body {
                self.roster.get_or_insert(roster);
            }
        }
        let roster = self.roster.as_ref()?;
        if self.shares.is_none() {
            let sealed = |(k, public): &(u16, X::Public)| {
                let shares = X::shares(&self.secrets, *k);
                (*k, X::seal(&self.secrets, public, self.index, *k, shares))
            };
            self.shares = Some(Arc::new(roster.iter().map(sealed).collect()));
        }
        self.shares.clone()
    }

    /// Opens the shares of U_2 and masks the input with it.
    fn mask(&mut self, inbox: Vec<Mail<S, X>>) {
        let forwarded = inbox.into_iter().find_map(|envelope| match envelope.body {
            SecAggMessage::Forwarded(sealed) => Some(sealed),
            _ => None,
        });
        let (Some(sealed), Some(roster), None) = (forwarded, &self.roster, &self.upload) else { return };
        let (me, secrets) = (self.index, &self.secrets);
        let mut terms = vec![(false, X::own(secrets))];
        for (k, sealed) in sealed.iter() {
            let Some(public) = key(roster, *k) else { return };
            let Some(seed) = X::pair(secrets, public, me, *k) else { return };
            terms.push((*k < me, seed));
            self.held.insert(*k, X::open(secrets, public, *k, me, sealed));
        }
        if self.graph.holds(me, me) {
            self.held.insert(me, Some(X::shares(secrets, me)));
        }
        let mut masked = std::mem::take(&mut self.input);
        X::add_masks(&mut masked, &terms);
        self.upload = Some(Arc::new(masked));
    }

    /// The shares that unmask the announced sum.
    fn answer(&mut self, inbox: Vec<Mail<S, X>>) -> Option<Each<X::Share>> {
        let included = inbox.into_iter().find_map(|envelope| match envelope.body {
            SecAggMessage::Survivors { included, .. } => Some(included),
            _ => None,
        })?;
        if self.answered.is_none() {
            let needed = |(&k, held): (&u16, &Option<[X::Share; 2]>)| {
                let [own, secret] = held.clone()?;
                let survived = included.binary_search(&k).is_ok();
                Some((k, if survived { own } else { X::needed(secret, &included) }))
            };
            let shares = Arc::new(self.held.iter().filter_map(needed).collect());
            self.answered = Some((included, shares));
        }
        self.answered.as_ref().map(|(_, shares)| Arc::clone(shares))
    }
}

fn key<T>(list: &[(u16, T)], k: u16) -> Option<&T> {
    list.binary_search_by_key(&k, |(k, _)| *k).ok().map(|place| &list[place].1)
}

/// The server's state.
pub struct Server<S: Symbol, X: Suite<S>> {
    threshold: usize,
    /// Fewest clients in a sum.
    least: usize,
    /// Whether a set was not fixed for having fewer.
    too_few: bool,
    graph: Arc<Graph>,
    round: u64,
    len: usize,
    /// Of those from whom they arrived, until U_1 is fixed; then of U_1.
    keys: BTreeMap<u16, X::Public>,
    roster: Option<Vec<u16>>,
    shares: BTreeMap<u16, Each<X::Sealed>>,
    /// U_2.
    sharers: Option<Vec<u16>>,
    uploads: BTreeMap<u16, Arc<Vec<S>>>,
    /// U_3.
    included: Option<Arc<Vec<u16>>>,
    answers: BTreeMap<u16, Each<X::Share>>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol, X: Suite<S>> Server<S, X> {
    pub(super) fn new((threshold, least): (usize, usize), graph: Arc<Graph>, round: u64, len: usize) -> Self {
        Self {
            threshold,
            least,
            too_few: false,
            graph,
            round,
            len,
            keys: BTreeMap::new(),
            roster: None,
            shares: BTreeMap::new(),
            sharers: None,
            uploads: BTreeMap::new(),
            included: None,
            answers: BTreeMap::new(),
            decoded: None,
        }
    }

    fn refusal(&self, message: &Mail<S, X>) -> Option<String> {
        let PartyId::Client(from) = message.from else { return Some("not a client".into()) };
        let outside =
            |set: &Option<Vec<u16>>| set.as_ref().is_none_or(|set| set.binary_search(&from).is_err());
        match (message.sent.phase, &message.body) {
            (0, SecAggMessage::Keys(public)) => {
                (!X::valid(public)).then(|| "a public key has small order".into())
            }
            (2, SecAggMessage::Shares(sealed)) => {
                if outside(&self.roster) {
                    return Some("shares of a client without keys".into());
                }
                let wanted = self.neighbours(from, self.roster.as_deref().unwrap_or_default());
                if !wanted.eq(sealed.iter().map(|(k, _)| *k)) {
                    return Some("its shares are not for its neighbours in order".into());
                }
                let fits = sealed.iter().all(|(_, sealed)| X::fits(sealed, &self.graph, from, self.len));
                (!fits).then(|| "a sealed share has a wrong length".into())
            }
            (4, SecAggMessage::Upload(upload)) => {
                if outside(&self.sharers) {
                    return Some("an upload from outside the set that shared".into());
                }
                let (got, want) = (upload.len(), self.len);
                (got != want).then(|| format!("the upload has {got} symbols instead of {want}"))
            }
            (6, SecAggMessage::Answer(shares)) => {
                let (Some(included), Some(sharers)) = (&self.included, &self.sharers) else {
                    return Some("nobody was asked".into());
                };
                if included.binary_search(&from).is_err() {
                    return Some("an answer from outside the survivor set".into());
                }
                let holds = |k: u16| sharers.binary_search(&k).is_ok() && self.graph.holds(from, k);
                if !ascending(shares.iter().map(|(k, _)| *k)) || !shares.iter().all(|(k, _)| holds(*k)) {
                    return Some("it does not list shares that it holds in order".into());
                }
                let key = |k: u16| included.binary_search(&k).is_err();
                let formed = shares.iter().all(|(k, share)| X::well_formed(share, key(*k), self.len));
                (!formed).then(|| "a share has a wrong length".into())
            }
            (phase, _) => Some(format!("no message to the server in phase {phase}")),
        }
    }

    /// The neighbours of client `k` in an ascending `set`.
    fn neighbours<'a>(&'a self, k: u16, set: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
        self.graph.neighbours(k).iter().copied().filter(|v| set.binary_search(v).is_ok())
    }

    /// The largest part of `set` in which everybody has t holders of its shares, if it is large enough for a
    /// sum.
    fn core(&mut self, mut set: Vec<u16>) -> Option<Vec<u16>> {
        loop {
            let kept: Vec<u16> =
                set.iter().copied().filter(|&k| self.graph.holders(k, &set) >= self.threshold).collect();
            if kept.len() == set.len() {
                return self.enough(&kept).then_some(kept);
            }
            set = kept;
        }
    }

    /// Whether a set may end in a sum.
    fn enough(&mut self, set: &[u16]) -> bool {
        let few = !set.is_empty() && set.len() < self.least;
        self.too_few |= few;
        !set.is_empty() && !few
    }

    fn to(k: u16, sent: Clock, body: SecAggMessage<S, X>) -> Mail<S, X> {
        Envelope { sent, from: PartyId::Server, to: PartyId::Client(k), body }
    }

    /// Fixes U_1 and hands out its keys.
    fn introduce(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
        self.too_few = false;
        if self.roster.is_none() {
            for envelope in inbox {
                if let (PartyId::Client(k), SecAggMessage::Keys(public)) = (envelope.from, envelope.body) {
                    self.keys.entry(k).or_insert(public);
                }
            }
            self.roster = self.core(self.keys.keys().copied().collect());
        }
        let (Some(roster), None) = (&self.roster, &self.sharers) else { return Vec::new() };
        let keys = |k: u16| {
            let of = |v: u16| Some((v, self.keys.get(&v)?.clone()));
            SecAggMessage::Roster(Arc::new(self.neighbours(k, roster).filter_map(of).collect()))
        };
        roster.iter().map(|&k| Self::to(k, sent, keys(k))).collect()
    }

    /// Fixes U_2 and forwards its shares.
    fn forward(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
        if self.sharers.is_none() {
            for envelope in inbox {
                if let (PartyId::Client(k), SecAggMessage::Shares(sealed)) = (envelope.from, envelope.body) {
                    self.shares.entry(k).or_insert(sealed);
                }
            }
            self.sharers = self.core(self.shares.keys().copied().collect());
        }
        let (Some(sharers), None) = (&self.sharers, &self.included) else { return Vec::new() };
        let sealed = |k: u16| {
            let from = |v: u16| Some((v, key(self.shares.get(&v)?, k)?.clone()));
            SecAggMessage::Forwarded(Arc::new(self.neighbours(k, sharers).filter_map(from).collect()))
        };
        sharers.iter().map(|&k| Self::to(k, sent, sealed(k))).collect()
    }

    /// Fixes U_3, if its members can unmask their sum, and announces it to those whose answers are missing.
    fn announce(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
        let Some(sharers) = &self.sharers else { return Vec::new() };
        if self.included.is_none() {
            for envelope in inbox {
                if let (PartyId::Client(k), SecAggMessage::Upload(upload)) = (envelope.from, envelope.body) {
                    self.uploads.entry(k).or_insert(upload);
                }
            }
            let arrived: Vec<u16> = self.uploads.keys().copied().collect();
            let masks = |k: u16| arrived.contains(&k) || self.neighbours(k, &arrived).next().is_some();
            let enough = |&k: &u16| !masks(k) || self.graph.holders(k, &arrived) >= self.threshold;
            if arrived.is_empty() || !sharers.iter().all(enough) {
                return Vec::new();
            }
            if !self.enough(&arrived) {
                return Vec::new();
            }
            self.included = Some(Arc::new(arrived));
        }
        let Some(included) = &self.included else { return Vec::new() };
        let missing = included.iter().filter(|k| !self.answers.contains_key(k));
        let clients = self.graph.clients();
        let body = || SecAggMessage::Survivors { included: Arc::clone(included), clients };
        missing.map(|&k| Self::to(k, sent, body())).collect()
    }

    /// Takes the answers of an attempt and unmasks with those of all attempts.
    fn decode(&mut self, inbox: Vec<Mail<S, X>>) -> Decoded<S> {
        for envelope in inbox {
            if let (PartyId::Client(k), SecAggMessage::Answer(shares)) = (envelope.from, envelope.body) {
                self.answers.insert(k, shares);
            }
        }
        let Some(included) = &self.included else {
            return Decoded::Outage(if self.too_few { Reason::TooFew } else { Reason::Links });
        };
        let Some(masks) = self.masks(included) else { return Decoded::lost() };
        let uploads: Vec<_> =
            self.uploads.values().map(|upload| (S::Scalar::ONE, upload.as_slice())).collect();
        let mut sum = S::combine(self.len, &uploads);
        X::add_masks(&mut sum, &masks);
        Decoded::exact(sum, included.to_vec())
    }

    /// What takes the masks out of the sum over `included`, if there are enough shares of everything.
    fn masks(&self, included: &[u16]) -> Option<Vec<(bool, X::Seed)>> {
        let shares = |k: u16| {
            let of = self.answers.iter().filter_map(|(&holder, shares)| Some((holder, key(shares, k)?)));
            let shares: Vec<(u16, &X::Share)> = of.take(self.threshold).collect();
            (shares.len() == self.threshold).then_some(shares)
        };
        let mut masks = Vec::new();
        for &k in self.sharers.as_ref()? {
            if included.binary_search(&k).is_ok() {
                masks.push((true, X::recover_own(&shares(k)?)?));
                continue;
            }
            let peers: Option<Vec<(u16, &X::Public)>> =
                self.neighbours(k, included).map(|v| Some((v, self.keys.get(&v)?))).collect();
            let peers = peers?;
            if peers.is_empty() {
                continue;
            }
            let seeds = X::recover_pairs(self.round, (k, self.keys.get(&k)?), &shares(k)?, &peers)?;
            // Of a pair the first added its mask and the second subtracted it.
            masks.extend(peers.iter().map(|(v, _)| *v < k).zip(seeds));
        }
        Some(masks)
    }
}

impl<S: Symbol, X: Suite<S>> Party<SecAggMessage<S, X>, S> for Role<S, X> {
    fn refusal(&self, message: &Mail<S, X>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Mail<S, X>>) -> Vec<Mail<S, X>> {
        match (self, clock.phase) {
            (Self::Client(client), 0) => {
                return client.send(clock, SecAggMessage::Keys(X::public(&client.secrets)));
            }
            (Self::Client(client), 2) => {
                if let Some(sealed) = client.share(inbox) {
                    return client.send(clock, SecAggMessage::Shares(sealed));
                }
            }
            (Self::Client(client), 4) => {
                client.mask(inbox);
                if let (Some(upload), None) = (&client.upload, &client.answered) {
                    return client.send(clock, SecAggMessage::Upload(Arc::clone(upload)));
                }
            }
            (Self::Client(client), 6) => {
                if let Some(shares) = client.answer(inbox) {
                    return client.send(clock, SecAggMessage::Answer(shares));
                }
            }
            (Self::Server(server), 1) => return server.introduce(inbox, clock),
            (Self::Server(server), 3) => return server.forward(inbox, clock),
            (Self::Server(server), 5) => return server.announce(inbox, clock),
            (Self::Server(server), 7) => server.decoded = Some(server.decode(inbox)),
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
