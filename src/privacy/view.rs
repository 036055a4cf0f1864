//! What a coalition sees: a matrix [A, B] over the clients' inputs and the key draws.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use nalgebra::DMatrix;

use crate::algebra::{LinearForm, Scalar, Unknown};
use crate::error::{Error, Result};
use crate::message::{Decoded, Observed, PartyId, Views};
use crate::privacy::defect;

/// Parties who pool what they know, and links on which they listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coalition {
    /// Who colludes.
    pub parties: Vec<PartyId>,
    /// (sender, receiver) of every link on which all messages are read, lost ones included.
    pub links: Vec<(PartyId, PartyId)>,
}

impl Coalition {
    /// A coalition of parties.
    #[must_use]
    pub fn of(parties: impl IntoIterator<Item = PartyId>) -> Self {
        Self { parties: parties.into_iter().collect(), links: Vec::new() }
    }

    /// An eavesdropper on one link.
    #[must_use]
    pub fn link(from: PartyId, to: PartyId) -> Self {
        Self { parties: Vec::new(), links: vec![(from, to)] }
    }

    /// Reads `server+2+h1+1-3+4-server`: parties, clients and helpers numbered from 1, and eavesdropped links
    /// sender-receiver.
    ///
    /// # Errors
    /// A member that is neither, a client above `clients`, a link from the server or to its own sender.
    pub fn parse(text: &str, clients: usize) -> Result<Self> {
        let refuse =
            |member: &str, rule: &str| Error::Refused(format!("coalition `{text}`: `{member}` {rule}"));
        let party = |member: &str| match member.trim() {
            "server" => Ok(PartyId::Server),
            helper if helper.starts_with('h') => match helper[1..].parse::<u16>() {
                Ok(n @ 1..) => Ok(PartyId::Helper(n - 1)),
                _ => Err(refuse(helper, "is not a helper; they are h1, h2 and so on")),
            },
            number => match number.parse::<usize>() {
                Ok(k) if (1..=clients).contains(&k) => Ok(PartyId::Client((k - 1) as u16)),
                Ok(_) => Err(refuse(number, &format!("is not a client; they are numbered 1 to {clients}"))),
                Err(_) => Err(refuse(
                    number,
                    "is neither `server`, a client's number, a helper like h1 nor a link like 1-3",
                )),
            },
        };
        let mut coalition = Self::default();
        for member in text.split('+') {
            match member.split_once('-') {
                None => coalition.parties.push(party(member)?),
                Some((from, to)) => {
                    let (from, to) = (party(from)?, party(to)?);
                    if from == to || from == PartyId::Server {
                        return Err(refuse(member, "is not a link on which clients or helpers send"));
                    }
                    coalition.links.push((from, to));
                }
            }
        }
        Ok(coalition)
    }

    /// Whether `party` colludes.
    #[must_use]
    pub fn has(&self, party: PartyId) -> bool {
        self.parties.contains(&party)
    }
}

impl fmt::Display for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |party: &PartyId| match party {
            PartyId::Client(k) => (k + 1).to_string(),
            PartyId::Helper(n) => format!("h{}", n + 1),
            PartyId::Server => "server".into(),
        };
        let links = self.links.iter().map(|(from, to)| format!("{}-{}", name(from), name(to)));
        let members: Vec<String> = self.parties.iter().map(name).chain(links).collect();
        f.write_str(&members.join("+"))
    }
}

/// Everything that a coalition learns in one round, one row per real number.
#[derive(Clone, Debug, PartialEq)]
pub struct View<K = f64> {
    /// Number of clients M.
    pub clients: usize,
    /// Coordinates of one client's input.
    pub len: usize,
    /// Whose view it is.
    pub coalition: Coalition,
    /// The inputs that the colluders hold, as coordinates of clients.
    pub known: Vec<u16>,
    /// The clients whose sum the round is about, ascending.
    pub included: Vec<u16>,
    /// What is seen: messages, and the inputs and keys of the colluders.
    pub rows: Vec<LinearForm<K>>,
}

impl<K: Scalar> View<K> {
    /// Collects what `coalition` learns: every message that reached a member, in whichever attempt, every
    /// message on a link where it listens, and the members' own inputs and keys.
    #[must_use]
    pub fn of(views: &Views<K>, coalition: Coalition) -> Self {
        let seen = |message: &&Observed<K>| {
            let link = message.link;
            message.delivered && coalition.has(link.to) || coalition.links.contains(&(link.from, link.to))
        };
        let mut rows: Vec<LinearForm<K>> =
            views.messages.iter().filter(seen).flat_map(|message| message.forms.iter().cloned()).collect();
        let mut known: Vec<u16> = Vec::new();
        for party in &coalition.parties {
            if let PartyId::Client(k) = party {
                match views.holds.get(usize::from(*k)) {
                    Some(holds) => known.extend(holds),
                    None => known.push(*k),
                }
            }
        }
        known.sort_unstable();
        known.dedup();
        for &k in &known {
            rows.extend((0..views.len as u16).map(|i| LinearForm::unknown(Unknown::Input(k, i))));
        }
        for (party, keys) in &views.keys {
            if coalition.has(*party) {
                rows.extend(keys.iter().cloned());
            }
        }
        let included = views.included();
        Self { clients: views.clients, len: views.len, coalition, known, included, rows }
    }

    /// The clients whose inputs the coalition does not hold.
    pub fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.clients).filter(|&k| !self.knows(k))
    }

    /// The clients whose sum is left when the coalition takes its own inputs out of the round's.
    #[must_use]
    pub fn summed(&self) -> Vec<usize> {
        self.included.iter().map(|&k| usize::from(k)).filter(|&k| !self.knows(k)).collect()
    }

    /// Whether a colluder holds the input of client `k`.
    #[must_use]
    pub fn knows(&self, k: usize) -> bool {
        self.known.contains(&(k as u16))
    }

    /// (A, B): the rows' coefficients on the coordinates of the M inputs, client by client, and on the key
    /// draws in the order of their names.
    #[must_use]
    pub fn matrices(&self) -> (DMatrix<K>, DMatrix<K>) {
        let (a, b, _) = matrices(&self.rows, self.clients, self.len);
        (a, b)
    }
}

impl<K> Views<K> {
    /// The clients whose sum is allowed to be known, ascending: those of the decoded sum, else of the
    /// announced one, of which parts may be known without all of it, else all.
    #[must_use]
    pub fn included(&self) -> Vec<u16> {
        match (&self.decoded, &self.announced) {
            (Decoded::Sum { included, .. }, _) => included.clone(),
            (_, Some(announced)) => announced.clone(),
            (_, None) => (0..self.clients as u16).collect(),
        }
    }
}

impl View {
    /// [`View::of`], and for the server the sum that it decoded, as rows of their own without the rounding
    /// that decoding left in them: what it has in hand is seen, however a decomposition of the messages
    /// rounds.
    #[must_use]
    pub fn with_result(views: &Views, coalition: Coalition) -> Self {
        let mut view = Self::of(views, coalition);
        if let (Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. }, true) =
            (&views.decoded, view.coalition.has(PartyId::Server))
        {
            let least = defect::rounding(views, defect::is_key);
            view.rows.extend(sum.iter().map(|form| form.without_keys_below(least)));
        }
        view
    }
}

/// [`Formal::is_within`](super::Formal::is_within); whichever attempt a message is of.
pub(super) fn is_within<K: Scalar>(views: &Views<K>, other: &Views<K>) -> bool {
    let link = |message: &Observed<K>| (message.link.from, message.link.to, message.link.transfer);
    let mut there: HashMap<_, Vec<&Observed<K>>> = HashMap::new();
    other.messages.iter().for_each(|message| there.entry(link(message)).or_default().push(message));
    let is_known = |message: &Observed<K>| {
        let alike = there.get(&link(message)).into_iter().flatten();
        alike.into_iter().any(|known| (known.delivered || !message.delivered) && known.forms == message.forms)
    };
    views.included() == other.included()
        && (&views.holds, &views.keys) == (&other.holds, &other.keys)
        && views.messages.iter().all(is_known)
}

/// [`View::matrices`] for bare rows, and the key draws.
pub(super) fn matrices<K: Scalar>(
    rows: &[LinearForm<K>],
    clients: usize,
    len: usize,
) -> (DMatrix<K>, DMatrix<K>, Vec<Unknown>) {
    let unknowns = rows.iter().flat_map(LinearForm::terms).map(|(unknown, _)| unknown);
    // One after the other: collected, all of them would be sorted first.
    let mut keys = BTreeSet::new();
    keys.extend(unknowns.filter(|unknown| matches!(unknown, Unknown::Key(..))));
    let keys: Vec<Unknown> = keys.into_iter().collect();
    let mut a = DMatrix::from_element(rows.len(), clients * len, K::ZERO);
    let mut b = DMatrix::from_element(rows.len(), keys.len(), K::ZERO);
    for (i, row) in rows.iter().enumerate() {
        for (unknown, c) in row.terms() {
            match unknown {
                Unknown::Input(k, place) => a[(i, usize::from(k) * len + usize::from(place))] = c,
                Unknown::Key(..) => {
                    if let Ok(place) = keys.binary_search(&unknown) {
                        b[(i, place)] = c;
                    }
                }
            }
        }
    }
    (a, b, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalitions_are_read_and_printed_alike() {
        for text in ["server", "server+2", "1+3", "server+2+1-3+4-server", "2-1", "h2+1-h1+h1-h3+h1-server"] {
            assert_eq!(Coalition::parse(text, 4).unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_coalitions_are_refused_in_one_line() {
        let message = |text: &str| Coalition::parse(text, 4).unwrap_err().to_string();
        assert_eq!(
            message("server+5"),
            "coalition `server+5`: `5` is not a client; they are numbered 1 to 4"
        );
        assert_eq!(
            message("you"),
            "coalition `you`: `you` is neither `server`, a client's number, a helper like h1 nor a link like 1-3"
        );
        assert_eq!(message("2-2"), "coalition `2-2`: `2-2` is not a link on which clients or helpers send");
        assert_eq!(
            message("server-1"),
            "coalition `server-1`: `server-1` is not a link on which clients or helpers send"
        );
        assert_eq!(message("h0"), "coalition `h0`: `h0` is not a helper; they are h1, h2 and so on");
        assert_eq!(message("0"), "coalition `0`: `0` is not a client; they are numbered 1 to 4");
    }
}
