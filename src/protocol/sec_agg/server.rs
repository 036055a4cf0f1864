//! What the server does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parties::{Mail, ascending, key};
use super::{Each, Graph, SecAggMessage, Suite};
use crate::algebra::{Scalar, Symbol};
use crate::protocol::{Clock, Decoded, Envelope, PartyId, Reason};

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
    pub(super) decoded: Option<Decoded<S>>,
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

    pub(super) fn refusal(&self, message: &Mail<S, X>) -> Option<String> {
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
    pub(super) fn introduce(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
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
    pub(super) fn forward(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
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
    pub(super) fn announce(&mut self, inbox: Vec<Mail<S, X>>, sent: Clock) -> Vec<Mail<S, X>> {
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
    pub(super) fn decode(&mut self, inbox: Vec<Mail<S, X>>) -> Decoded<S> {
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
