//! What helpers and the server do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{HierarchicalMessage, Holdings, Matrices, part_len};
use crate::algebra::field::Prime;
use crate::algebra::{Scalar, Symbol};
use crate::protocol::{Clock, Decoded, Envelope, PartyId, Reason};

/// A helper's state; what it learned in one attempt it has in the next.
pub struct Helper<S: Symbol<Scalar: Prime>> {
    pub(super) index: u16,
    pub(super) clients: usize,
    /// Fewest clients in a sum.
    pub(super) least: usize,
    /// l.
    pub(super) part: usize,
    pub(super) matrices: Arc<Matrices<S::Scalar>>,
    pub(super) masks: BTreeMap<(u16, u16), Vec<S>>,
    /// X_{k,n}, received or repaired.
    pub(super) shares: BTreeMap<u16, Arc<Vec<S>>>,
    /// Masked shares for its missing ones, by client and sender.
    pub(super) received: BTreeMap<u16, BTreeMap<u16, Vec<S>>>,
    pub(super) announced: Option<Arc<Holdings>>,
}

/// The server's state.
pub struct Server<S: Symbol<Scalar: Prime>> {
    pub(super) clients: usize,
    /// Fewest clients in a sum.
    pub(super) least: usize,
    /// Whether a set was not announced for having fewer.
    pub(super) too_few: bool,
    pub(super) len: usize,
    pub(super) matrices: Arc<Matrices<S::Scalar>>,
    /// The clients whose sum is decoded; fixed for the round once announced.
    pub(super) included: Option<Vec<u16>>,
    pub(super) sums: BTreeMap<u16, Arc<Vec<S>>>,
    pub(super) decoded: Option<Decoded<S>>,
}

/// What is wrong with a vector that must have `want` symbols.
fn length(got: usize, want: usize) -> Option<String> {
    (got != want).then(|| format!("it has {got} symbols instead of {want}"))
}

impl<S: Symbol<Scalar: Prime>> Helper<S> {
    pub(super) fn id(&self) -> PartyId {
        PartyId::Helper(self.index)
    }

    pub(super) fn refusal(&self, message: &Envelope<HierarchicalMessage<S>>) -> Option<String> {
        let known = |k: u16| usize::from(k) < self.clients;
        let helper = |n: u16| usize::from(n) < self.matrices.helpers();
        match (message.sent.phase, message.from, &message.body) {
            (0, PartyId::Client(_), HierarchicalMessage::Share(share)) => length(share.len(), self.part),
            (2, PartyId::Server, HierarchicalMessage::Announcement(holdings, _)) => {
                let ascending = holdings.is_sorted_by(|(a, _), (b, _)| a < b)
                    && holdings.iter().all(|(_, holders)| holders.is_sorted_by(|a, b| a < b));
                let exist =
                    holdings.iter().all(|(k, holders)| known(*k) && holders.iter().all(|&n| helper(n)));
                if !ascending || !exist {
                    return Some("it does not list clients and helpers in order".into());
                }
                let (size, least) = (holdings.len(), self.least);
                (size < least)
                    .then(|| format!("{size} clients are fewer than {least}; their sum must stay hidden"))
            }
            (3, PartyId::Helper(_), HierarchicalMessage::Repair(shares)) => {
                let clients = shares.is_sorted_by(|(a, _), (b, _)| a < b);
                if !clients || !shares.iter().all(|(k, _)| known(*k)) {
                    return Some("it does not list clients in order".into());
                }
                shares.iter().find_map(|(_, share)| length(share.len(), self.part))
            }
            (phase, ..) => Some(format!("no message to a helper in phase {phase}")),
        }
    }

    pub(super) fn report(&mut self, inbox: Vec<Envelope<HierarchicalMessage<S>>>) -> HierarchicalMessage<S> {
        for envelope in inbox {
            if let (PartyId::Client(k), HierarchicalMessage::Share(share)) = (envelope.from, envelope.body) {
                self.shares.insert(k, share);
            }
        }
        HierarchicalMessage::Report((0..self.clients as u16).map(|k| self.shares.contains_key(&k)).collect())
    }

    /// M_{n→i} for every other helper i that takes part.
    pub(super) fn repairs(
        &mut self,
        inbox: Vec<Envelope<HierarchicalMessage<S>>>,
        sent: Clock,
    ) -> Vec<Envelope<HierarchicalMessage<S>>> {
        self.announced = inbox.into_iter().find_map(|envelope| match envelope.body {
            HierarchicalMessage::Announcement(holdings, _) => Some(holdings),
            _ => None,
        });
        let Some(holdings) = &self.announced else { return Vec::new() };
        let taking_part: BTreeSet<u16> =
            holdings.iter().flat_map(|(_, holders)| holders.iter().copied()).collect();
        let masked_for = |i: u16| -> Vec<(u16, Vec<S>)> {
            let missing = holdings
                .iter()
                .filter(|(_, holders)| holders.contains(&self.index) && !holders.contains(&i))
                .filter_map(|(k, _)| Some((*k, self.shares.get(k)?, self.masks.get(&(i, *k))?)));
            missing
                .map(|(k, share, mask)| {
                    let mut masked = mask.clone();
                    S::axpy(&mut masked, S::Scalar::ONE, share);
                    (k, masked)
                })
                .collect()
        };
        let others = taking_part.into_iter().filter(|&i| i != self.index);
        let messages = others.map(|i| (i, masked_for(i))).filter(|(_, shares)| !shares.is_empty());
        messages
            .map(|(i, shares)| Envelope {
                sent,
                from: self.id(),
                to: PartyId::Helper(i),
                body: HierarchicalMessage::Repair(shares),
            })
            .collect()
    }

    /// Y_n once every announced client's share is there.
    pub(super) fn sum(
        &mut self,
        inbox: Vec<Envelope<HierarchicalMessage<S>>>,
    ) -> Option<HierarchicalMessage<S>> {
        for envelope in inbox {
            if let (PartyId::Helper(from), HierarchicalMessage::Repair(shares)) =
                (envelope.from, envelope.body)
            {
                for (k, share) in shares {
                    self.received.entry(k).or_default().insert(from, share);
                }
            }
        }
        let holdings = self.announced.take()?;
        let threshold = self.matrices.threshold;
        for (k, _) in holdings.iter() {
            if self.shares.contains_key(k) {
                continue;
            }
            let received = self.received.get(k).filter(|received| received.len() >= threshold)?;
            let chosen = || received.iter().take(threshold);
            let holders: Vec<usize> = chosen().map(|(&n, _)| usize::from(n)).collect();
            let weights = self.matrices.missing_share(self.index.into(), &holders).ok()?;
            let terms: Vec<_> = weights
                .into_iter()
                .zip(chosen())
                .map(|(weight, (_, share))| (weight, share.as_slice()))
                .collect();
            let len = terms.first().map_or(0, |(_, share)| share.len());
            self.shares.insert(*k, Arc::new(S::combine(len, &terms)));
        }
        let terms: Vec<_> = holdings
            .iter()
            .filter_map(|(k, _)| Some((S::Scalar::ONE, self.shares.get(k)?.as_slice())))
            .collect();
        let len = terms.first().map_or(0, |(_, share)| share.len());
        Some(HierarchicalMessage::Sum(Arc::new(S::combine(len, &terms))))
    }
}

impl<S: Symbol<Scalar: Prime>> Server<S> {
    pub(super) fn refusal(&self, message: &Envelope<HierarchicalMessage<S>>) -> Option<String> {
        match (message.sent.phase, message.from, &message.body) {
            (1, PartyId::Helper(_), HierarchicalMessage::Report(held)) => {
                let (got, want) = (held.len(), self.clients);
                (got != want).then(|| format!("the report has {got} bits instead of {want}"))
            }
            (4, PartyId::Helper(_), HierarchicalMessage::Sum(sum)) => length(sum.len(), self.part()),
            (phase, ..) => Some(format!("no message to the server in phase {phase}")),
        }
    }

    /// l.
    fn part(&self) -> usize {
        part_len(self.len, self.matrices.parts())
    }

    /// The clients with enough holders, and who holds their shares.
    pub(super) fn announce(
        &mut self,
        inbox: Vec<Envelope<HierarchicalMessage<S>>>,
        sent: Clock,
    ) -> Vec<Envelope<HierarchicalMessage<S>>> {
        let reports: BTreeMap<u16, Vec<bool>> = inbox
            .into_iter()
            .filter_map(|envelope| match (envelope.from, envelope.body) {
                (PartyId::Helper(n), HierarchicalMessage::Report(held)) => Some((n, held)),
                _ => None,
            })
            .collect();
        let holders = |k: u16| -> Vec<u16> {
            reports.iter().filter(|(_, held)| held[usize::from(k)]).map(|(&n, _)| n).collect()
        };
        if self.included.is_none() {
            let enough = |&k: &u16| holders(k).len() >= self.matrices.threshold;
            let included: Vec<u16> = (0..self.clients as u16).filter(enough).collect();
            let enough = included.len() >= self.least;
            self.too_few = !included.is_empty() && !enough;
            if enough {
                self.included = Some(included);
            }
        }
        let Some(included) = &self.included else { return Vec::new() };
        let holdings: Arc<Holdings> = Arc::new(included.iter().map(|&k| (k, holders(k))).collect());
        let helpers = self.matrices.helpers();
        let envelope = |&n: &u16| Envelope {
            sent,
            from: PartyId::Server,
            to: PartyId::Helper(n),
            body: HierarchicalMessage::Announcement(Arc::clone(&holdings), helpers),
        };
        reports.keys().map(envelope).collect()
    }

    pub(super) fn decode(&mut self, inbox: Vec<Envelope<HierarchicalMessage<S>>>) -> Decoded<S> {
        let part = self.part();
        for envelope in inbox {
            if let (PartyId::Helper(n), HierarchicalMessage::Sum(sum)) = (envelope.from, envelope.body) {
                self.sums.insert(n, sum);
            }
        }
        let threshold = self.matrices.threshold;
        let Some(included) = self.included.as_ref().filter(|_| self.sums.len() >= threshold) else {
            let few = self.included.is_none() && self.too_few;
            return Decoded::Outage(if few { Reason::TooFew } else { Reason::Links });
        };
        let chosen = || self.sums.iter().take(threshold);
        let holders: Vec<usize> = chosen().map(|(&n, _)| usize::from(n)).collect();
        let Ok(decoding) = self.matrices.decoding(&holders) else { return Decoded::lost() };
        let mut sum = Vec::with_capacity(part * self.matrices.parts());
        for j in 0..self.matrices.parts() {
            let terms: Vec<_> = decoding
                .row(j)
                .iter()
                .zip(chosen())
                .map(|(&weight, (_, sum))| (weight, sum.as_slice()))
                .collect();
            sum.extend(S::combine(part, &terms));
        }
        sum.truncate(self.len);
        Decoded::exact(sum, included.clone())
    }
}
