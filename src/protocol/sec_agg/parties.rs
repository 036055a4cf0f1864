//! What clients do, and the two roles.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Each, Graph, SecAggMessage, Server, Suite};
use crate::algebra::Symbol;
use crate::protocol::{Clock, Decoded, Envelope, Party, PartyId};

pub(super) type Mail<S, X> = Envelope<SecAggMessage<S, X>>;

/// Shares of b and of the secret key, by owner.
type Held<T> = BTreeMap<u16, [T; 2]>;

/// Sealed shares, and the shares.
type Opened<E, T> = (Each<E>, Held<T>);

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
    /// What the server forwarded last, and what was in it: opened to check it, and not a second time.
    opened: RefCell<Option<Opened<X::Sealed, X::Share>>>,
    /// Of its neighbours in U_2, and of itself where everybody holds a share of its own.
    held: Held<X::Share>,
    /// y_u.
    upload: Option<Arc<Vec<S>>>,
    answered: Option<Answered<X::Share>>,
}

pub(super) fn ascending(mut list: impl Iterator<Item = u16>) -> bool {
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
            opened: RefCell::new(None),
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
                if self.upload.is_some() {
                    let second = !others().eq(sealed.iter().map(|(k, _)| *k));
                    return second.then(|| {
                        "second set of sharing clients in one round; two masks would tell more than one"
                            .into()
                    });
                }
                let opened = self.open(roster, sealed);
                opened.map(|held| drop(self.opened.replace(Some((Arc::clone(sealed), held))))).err()
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

    /// The shares that neighbours sealed for this client, whose keys must be those that were advertised.
    fn open(
        &self,
        roster: &[(u16, X::Public)],
        sealed: &[(u16, X::Sealed)],
    ) -> Result<Held<X::Share>, String> {
        let open = |(k, sealed): &(u16, X::Sealed)| {
            let shares = key(roster, *k)
                .and_then(|public| X::open(&self.secrets, public, *k, self.index, sealed))
                .ok_or_else(|| {
                    format!("the shares of {} were changed, or sealed for other keys", PartyId::Client(*k))
                })?;
            Ok((*k, shares))
        };
        sealed.iter().map(open).collect()
    }

    /// Opens the shares of U_2 and masks the input with it.
    fn mask(&mut self, inbox: Vec<Mail<S, X>>) {
        let forwarded = inbox.into_iter().find_map(|envelope| match envelope.body {
            SecAggMessage::Forwarded(sealed) => Some(sealed),
            _ => None,
        });
        let (Some(sealed), Some(roster), None) = (forwarded, &self.roster, &self.upload) else { return };
        let checked = self.opened.take().filter(|(checked, _)| Arc::ptr_eq(checked, &sealed));
        let Some((_, held)) = checked else { return };
        let (me, secrets) = (self.index, &self.secrets);
        let mut terms = vec![(false, X::own(secrets))];
        for (k, _) in sealed.iter() {
            let Some(public) = key(roster, *k) else { return };
            let Some(seed) = X::pair(secrets, public, me, *k) else { return };
            terms.push((*k < me, seed));
        }
        self.held = held;
        if self.graph.holds(me, me) {
            self.held.insert(me, X::shares(secrets, me));
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
            let needed = |(&k, [own, secret]): (&u16, &[X::Share; 2])| {
                let survived = included.binary_search(&k).is_ok();
                (k, if survived { own.clone() } else { X::needed(secret.clone(), &included) })
            };
            let shares = Arc::new(self.held.iter().map(needed).collect());
            self.answered = Some((included, shares));
        }
        self.answered.as_ref().map(|(_, shares)| Arc::clone(shares))
    }
}

pub(super) fn key<T>(list: &[(u16, T)], k: u16) -> Option<&T> {
    list.binary_search_by_key(&k, |(k, _)| *k).ok().map(|place| &list[place].1)
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
