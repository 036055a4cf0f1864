//! Rounds that look the same when all clients move up: coalitions that a rotation maps on each other then
//! learn the same about clients that it maps on each other.
//!
//! That is so with circulant codes, keys alike and weights alike. It is not concluded from their names: the
//! formal messages, keys and result of a round without losses are compared with themselves, moved up. Key
//! draws are renamed by a rotation, those of pairs up to their sign, and keep their law: they are independent
//! and symmetric.

use std::collections::{BTreeMap, HashMap};

use crate::algebra::{KeyStream, LinearForm, Unknown};
use crate::message::{Decoded, Observed, PartyId, Views};
use crate::privacy::Formal;
use crate::privacy::view::Coalition;

/// Coefficients that are this close, relative to the largest of their form, are the same: sums were rounded
/// in another order. It is below every tolerance of [`crate::privacy`].
const ROUNDING: f64 = 1e-12;

/// The same of a decoded sum, which is as far from one of ones as a code may be.
const RESIDUAL: f64 = crate::coding::RESIDUAL_TOLERANCE;

/// Client k becomes client k + `step`, cyclically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    clients: usize,
    pub(crate) step: usize,
}

impl Rotation {
    /// The smallest that leaves a round as it is; whether the clients' inputs are alike is not looked at.
    pub(crate) fn of(formal: &Formal) -> Option<Self> {
        let Formal::Real(views) = formal else { return None };
        let clients = views.clients;
        let plain = views.holds.is_empty() && views.announced.is_none();
        let steps = (1..clients).filter(|step| plain && clients.is_multiple_of(*step));
        steps.map(|step| Self { clients, step }).find(|rotation| rotation.keeps(views))
    }

    /// Whether it leaves these views as they are.
    pub(super) fn is_one_of(self, formal: &Formal) -> bool {
        matches!(formal, Formal::Real(views) if self.keeps(views))
    }

    fn client(self, k: u16, times: usize) -> u16 {
        ((usize::from(k) + times * self.step) % self.clients) as u16
    }

    fn party(self, id: PartyId, times: usize) -> PartyId {
        match id {
            PartyId::Client(k) => PartyId::Client(self.client(k, times)),
            other => other,
        }
    }

    /// The unknown moved up once, and the sign that it comes with.
    fn unknown(self, unknown: Unknown) -> (Unknown, f64) {
        match unknown {
            Unknown::Input(k, place) => (Unknown::Input(self.client(k, 1), place), 1.0),
            Unknown::Key(KeyStream { a, b, purpose, round }, place) => {
                let (c, d) = (self.client(a, 1), self.client(b, 1));
                // A pair's draw is added by the first and taken off by the second.
                let turned = purpose == "mask" && c > d;
                let (a, b, sign) = if turned { (d, c, -1.0) } else { (c, d, 1.0) };
                (Unknown::Key(KeyStream { purpose, round, a, b }, place), sign)
            }
        }
    }

    fn maps(self, form: &LinearForm, on: &LinearForm, rounding: f64) -> bool {
        let largest = form.terms().map(|(_, c)| c.abs()).fold(0.0, f64::max);
        let mut rest: BTreeMap<Unknown, f64> = on.terms().collect();
        for (unknown, c) in form.terms() {
            let (unknown, sign) = self.unknown(unknown);
            *rest.entry(unknown).or_default() -= sign * c;
        }
        rest.values().all(|c| c.abs() <= rounding * largest)
    }

    fn map_all(self, forms: &[LinearForm], on: &[LinearForm], rounding: f64) -> bool {
        forms.len() == on.len() && forms.iter().zip(on).all(|(form, on)| self.maps(form, on, rounding))
    }

    fn keeps(self, views: &Views) -> bool {
        let place = |message: &Observed| {
            (message.link.attempt, message.link.transfer, message.link.from, message.link.to)
        };
        let sent: HashMap<_, &Observed> = views.messages.iter().map(|one| (place(one), one)).collect();
        let keys: HashMap<PartyId, &Vec<LinearForm>> =
            views.keys.iter().map(|(id, keys)| (*id, keys)).collect();
        let message = |one: &Observed| {
            let (attempt, transfer, from, to) = place(one);
            let on = sent.get(&(attempt, transfer, self.party(from, 1), self.party(to, 1)));
            on.is_some_and(|on| {
                one.delivered == on.delivered && self.map_all(&one.forms, &on.forms, ROUNDING)
            })
        };
        let Decoded::Sum { sum, included, .. } = &views.decoded else { return false };
        sent.len() == views.messages.len()
            && included.len() == self.clients
            && self.map_all(sum, sum, RESIDUAL)
            && views.messages.iter().all(message)
            && views.keys.iter().all(|(id, held)| {
                keys.get(&self.party(*id, 1)).is_some_and(|on| self.map_all(held, on, ROUNDING))
            })
    }

    /// For each of these coalitions the first of them that rotations map on it, and how many of them do.
    pub(super) fn first_alike(self, coalitions: &[&Coalition]) -> Vec<(usize, usize)> {
        let turns = self.clients / self.step;
        let moved = |coalition: &Coalition, times: usize| {
            let mut parties: Vec<_> = coalition.parties.iter().map(|id| self.party(*id, times)).collect();
            let link = |(from, to): &(PartyId, PartyId)| (self.party(*from, times), self.party(*to, times));
            let mut links: Vec<_> = coalition.links.iter().map(link).collect();
            parties.sort_unstable();
            links.sort_unstable();
            (parties, links)
        };
        let mut known = HashMap::new();
        let find = |(place, coalition): (usize, &&Coalition)| {
            if let Some(found) = known.get(&moved(coalition, 0)) {
                return *found;
            }
            for times in 0..turns {
                known.entry(moved(coalition, times)).or_insert((place, times));
            }
            (place, 0)
        };
        coalitions.iter().enumerate().map(find).collect()
    }

    /// What is known of every client, after `times` rotations.
    pub(super) fn moved<T: Clone>(self, of_clients: &[T], times: usize) -> Vec<T> {
        let mut moved = of_clients.to_vec();
        moved.rotate_right(times * self.step % self.clients);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Adversaries, Assumptions, Audit, Erasures, Weights, audit_from};
    use super::*;
    use crate::coding::CodeKind;
    use crate::keys::KeyKind;
    use crate::network::Perfect;
    use crate::protocol::cogc::{DecoderKind, SecCoGcConfig};
    use crate::protocol::{Aggregator, ProtocolConfig, Stragglers};
    use crate::seed::Seed;

    fn scheme(clients: usize, code: CodeKind, stragglers: usize, keys: KeyKind) -> Box<dyn Aggregator> {
        let config = SecCoGcConfig {
            keys: keys.into(),
            code,
            stragglers: Stragglers::Count(stragglers),
            ..SecCoGcConfig::default()
        };
        ProtocolConfig::SecCoGc(config).build(clients, Seed::new(3)).unwrap()
    }

    fn assumptions(weights: Vec<f64>) -> Assumptions {
        Assumptions {
            input_std: 0.5,
            clip: Some(1.0),
            weights: weights.into(),
            delta: 1e-5,
            rounds: 10,
            coordinates: Some(1000),
        }
    }

    #[test]
    fn only_what_is_alike_is_found_alike() {
        use CodeKind::{CyclicMds, CyclicRandom, FractionalRepetition};
        use KeyKind::{Fair, Pairwise, Plain};
        let step = |code, stragglers, keys| {
            let formal = scheme(8, code, stragglers, keys).formal(1, &Perfect, 1).unwrap();
            Rotation::of(&formal).map(|rotation| rotation.step)
        };
        assert_eq!(step(CyclicMds, 3, Fair), Some(1));
        assert_eq!(step(CyclicMds, 3, Pairwise), Some(1));
        assert_eq!(step(FractionalRepetition, 3, Fair), Some(4));
        // The last of plain keys is not like the others, nor are the rows of a random code.
        assert_eq!(step(CyclicMds, 3, Plain), None);
        assert_eq!(step(CyclicRandom, 3, Fair), None);
        // Without stragglers there is nothing random in it.
        assert_eq!(step(CyclicRandom, 0, Fair), Some(1));
        assert!(Weights::from(vec![0.7; 8]).are_alike() && Weights::between(8, 0.5, 2.0).are_alike());
        assert!(!Weights::from(vec![1.0, 1.0, 1.0 + 1e-9]).are_alike());
    }

    /// The same numbers but for their rounding, and the same words.
    fn assert_alike(one: &Audit, other: &Audit) {
        assert_eq!((&one.erasures, &one.findings), (&other.erasures, &other.findings));
        assert_eq!(one.entries.len(), other.entries.len());
        for (a, b) in one.entries.iter().zip(&other.entries) {
            let words = |entry: &super::super::Entry| {
                let entry = entry.clone();
                (entry.layer, entry.client, entry.symbols, entry.counterexample, entry.sum)
            };
            assert_eq!(words(a), words(b));
            let numbers = |entry: &super::super::Entry| {
                let bits =
                    [entry.lmip_bits_floating, entry.epsilon_floating].map(|bits| bits.unwrap_or(-1.0));
                let epsilons = [entry.epsilon_view, entry.epsilon_view_total, entry.epsilon_beyond_sum];
                let rest = [entry.lmip_nats, entry.floor_bits, entry.epsilon_beyond_sum_total];
                [&bits[..], &epsilons, &rest].concat()
            };
            for (x, y) in numbers(a).into_iter().zip(numbers(b)) {
                assert!(x == y || (x - y).abs() <= 1e-9 * x.abs(), "{a:?}\n{b:?}");
            }
        }
    }

    #[test]
    fn an_audit_is_the_same_with_and_without() {
        use CodeKind::{CyclicMds, CyclicRandom, FractionalRepetition};
        use KeyKind::{Fair, Pairwise, Plain};
        let adversaries = Adversaries { all: 2, coalition: None };
        let unequal = vec![1.5, 1.0, 0.5, 1.0, 1.25, 0.75];
        let cases = [
            (CyclicMds, 3, Fair, DecoderKind::Standard, vec![1.0; 6]),
            (CyclicMds, 3, Fair, DecoderKind::GcPlus, vec![1.0; 6]),
            (CyclicMds, 1, Pairwise, DecoderKind::Standard, vec![1.0; 6]),
            (FractionalRepetition, 2, Fair, DecoderKind::Standard, vec![1.0; 6]),
            (CyclicMds, 3, Fair, DecoderKind::Standard, unequal),
            (CyclicRandom, 2, Plain, DecoderKind::Standard, vec![1.0; 6]),
        ];
        for (code, stragglers, keys, decoder, weights) in cases {
            let config = SecCoGcConfig {
                keys: keys.into(),
                key_std: 0.7,
                code,
                stragglers: Stragglers::Count(stragglers),
                decoder,
                ..SecCoGcConfig::default()
            };
            let weights: Weights = weights.into();
            let assumptions = Assumptions { weights, ..assumptions(Vec::new()) };
            let public = assumptions.public();
            let scheme = ProtocolConfig::SecCoGc(config).build_for(6, Seed::new(3), &public).unwrap();
            for attempts in [1, 2] {
                let audit = |least| {
                    let erasures = Erasures::Worst(Seed::new(4));
                    let scheme = (&*scheme, attempts);
                    audit_from(
                        least,
                        "x",
                        scheme,
                        erasures,
                        &adversaries,
                        &assumptions,
                        &mut |_, _, _| Ok(()),
                    )
                    .unwrap()
                };
                assert_alike(&audit(0), &audit(usize::MAX));
            }
        }
    }

    /// Without keys everything is seen, and is named as without the shortcut.
    #[test]
    fn what_is_seen_without_keys_is_named() {
        let code = ProtocolConfig::CoGc(crate::protocol::cogc::CoGcConfig {
            code: CodeKind::CyclicMds,
            stragglers: Stragglers::Count(3),
            ..Default::default()
        });
        let code = code.build(6, Seed::new(3)).unwrap();
        let assumptions = assumptions(vec![1.0; 6]);
        let audit = |least| {
            let erasures = Erasures::Worst(Seed::new(4));
            let (scheme, nobody) = ((&*code, 1), &Adversaries::default());
            audit_from(least, "x", scheme, erasures, nobody, &assumptions, &mut |_, _, _| Ok(())).unwrap()
        };
        assert!(audit(0).entries.iter().any(|entry| entry.symbols > 0));
        assert_alike(&audit(0), &audit(usize::MAX));
    }
}
