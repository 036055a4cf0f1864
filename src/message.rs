//! The words that schemes, links, audits and carriers share: who speaks to whom and when, what is sent, what
//! comes of a round.
//!
//! | word | meaning |
//! |---|---|
//! | [`PartyId`] | a client, a helper or the server, as a round's scheme numbers them |
//! | [`Node`] | the same as links number them: clients among all that there are, whoever takes part |
//! | [`Clock`] | round, attempt and phase |
//! | [`Phase`] | a step of an attempt: who sends what to whom, and who is waited for |
//! | [`Envelope`] | a message on its way |
//! | [`LinkUse`] | what links see of it: ends, moment and size |
//! | [`Decoded`] | the sum that a round ends with, or why there is none ([`Reason`]) |
//! | [`Views`] | all that was sent and dealt in a round, in formal symbols ([`Observed`]) |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::algebra::LinearForm;

/// A participant of a round's scheme, of whom there are at most [`COHORT`] clients. Clients and helpers are
/// numbered from 0 in code and from 1 in everything that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartyId {
    /// The client with this index.
    Client(u16),
    /// The helper with this index: an aggregator between clients and server.
    Helper(u16),
    /// The server.
    Server,
}

impl PartyId {
    /// A number that identifies the party among all: [`Node::code`].
    #[must_use]
    pub fn code(self) -> u32 {
        Node::from(self).code()
    }

    /// The party with this [`PartyId::code`].
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        match code.checked_sub(1) {
            None => Some(Self::Server),
            Some(k) => match (u16::try_from(k), u16::try_from(code ^ 1 << 17)) {
                (Ok(k), _) => Some(Self::Client(k)),
                (_, Ok(n)) => Some(Self::Helper(n)),
                _ => None,
            },
        }
    }
}

impl PartyId {
    /// What the party is.
    #[must_use]
    pub fn role(self) -> Role {
        Node::from(self).role()
    }
}

/// Most clients of a round.
pub const COHORT: usize = u16::MAX as usize;

/// Most clients that there are.
pub const POPULATION: usize = 10_000_000;

/// An end of a link. Clients are numbered among all that there are; where all of them take part, these are
/// the numbers of the scheme's parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The client with this index.
    Client(u32),
    /// The helper with this index.
    Helper(u16),
    /// The server.
    Server,
}

impl Node {
    /// A number that identifies the node among all; clients that no scheme has room for are beyond all
    /// others.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Server => 0,
            Self::Client(k) if k <= u32::from(u16::MAX) => 1 + k,
            Self::Client(k) => (1 << 18) + k,
            Self::Helper(n) => 1 << 17 | u32::from(n),
        }
    }

    /// What the node is.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Client(_) => Role::Client,
            Self::Helper(_) => Role::Helper,
            Self::Server => Role::Server,
        }
    }

    /// The party with this number, where everybody takes part; `None` for a client that no scheme has room
    /// for.
    #[must_use]
    pub fn party(self) -> Option<PartyId> {
        match self {
            Self::Client(k) => u16::try_from(k).ok().map(PartyId::Client),
            Self::Helper(n) => Some(PartyId::Helper(n)),
            Self::Server => Some(PartyId::Server),
        }
    }
}

impl From<PartyId> for Node {
    fn from(party: PartyId) -> Self {
        match party {
            PartyId::Client(k) => Self::Client(k.into()),
            PartyId::Helper(n) => Self::Helper(n),
            PartyId::Server => Self::Server,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(k) => write!(f, "client {}", k + 1),
            Self::Helper(n) => write!(f, "helper {}", n + 1),
            Self::Server => f.write_str("server"),
        }
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Node::from(*self).fmt(f)
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Envelope<M> {
    /// The moment at which it is sent.
    pub sent: Clock,
    /// The sender.
    pub from: PartyId,
    /// The receiver.
    pub to: PartyId,
    /// The content.
    pub body: M,
}

/// What a protocol's messages tell about themselves.
pub trait Message<S>: Clone + Send + Sync {
    /// Bytes of the encoded body, without the envelope's header.
    fn bytes(&self) -> usize;

    /// The symbol vectors that a reader of this message learns.
    fn reveals(&self) -> Vec<Vec<S>>;

    /// The clients whose sum the rest of the round is about (ascending), where the message says so.
    fn announces(&self) -> Option<Vec<u16>> {
        None
    }

    /// The clients who go on (ascending, perhaps without the receiver), in a [`Phase`] whose receivers are
    /// told one list; by default those of [`Message::announces`].
    fn lists(&self) -> Option<Vec<u16>> {
        self.announces()
    }
}

/// The moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Training round, from 1.
    pub round: u64,
    /// Attempt within the round, from 0.
    pub attempt: u32,
    /// Phase, from 0; the last step of an attempt comes after all declared [`Phase`]s and sends nothing.
    pub phase: u8,
}

/// Bytes of an envelope's header: round (8), attempt (4), phase (1), kind (1), from (4), to (4), length (4).
pub const HEADER_BYTES: usize = 26;

/// What a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It has an update.
    Client,
    /// It stands between clients and server.
    Helper,
    /// It obtains the sum.
    Server,
}

/// For whom the receivers of a phase wait: one of them who stays silent costs the whole deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// Every party of the sending role.
    Everybody,
    /// Those to whom the server has sent its last announcement in this attempt.
    Addressed,
    /// Nobody: silence is no news.
    Nobody,
}

/// A step of an attempt: what is sent in it, from whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What the messages are called, in files and reports.
    pub name: &'static str,
    /// Who sends.
    pub from: Role,
    /// Who receives.
    pub to: Role,
    /// For whom the receivers wait.
    pub expects: Expects,
    /// Whether the receivers are told one list, of themselves ([`Message::lists`]): clients who are apart act
    /// on it only when enough of them were told the same.
    pub is_list: bool,
}

impl Phase {
    /// Messages between clients.
    #[must_use]
    pub const fn shares(name: &'static str, expects: Expects) -> Self {
        Self { name, from: Role::Client, to: Role::Client, expects, is_list: false }
    }

    /// Messages from clients to the server.
    #[must_use]
    pub const fn upload(name: &'static str, expects: Expects) -> Self {
        Self { name, from: Role::Client, to: Role::Server, expects, is_list: false }
    }

    /// What the server tells parties of a role; it always arrives.
    #[must_use]
    pub const fn announcement(name: &'static str, to: Role) -> Self {
        Self { name, from: Role::Server, to, expects: Expects::Nobody, is_list: false }
    }

    /// What the server tells clients of who goes on: the same list for all who are on it.
    #[must_use]
    pub const fn list(name: &'static str) -> Self {
        Self { is_list: true, ..Self::announcement(name, Role::Client) }
    }

    /// [`LinkUse::transfer`] of a message between parties of these roles after the phases `before` of its
    /// attempt.
    #[must_use]
    pub fn transfer(before: &[Self], from: Role, to: Role) -> u8 {
        before.iter().filter(|phase| (phase.from, phase.to) == (from, to)).count() as u8
    }

    /// [`LinkUse::transfer`] of every phase of an attempt.
    #[must_use]
    pub fn transfers(phases: &[Self]) -> Vec<u8> {
        phases.iter().enumerate().map(|(i, own)| Self::transfer(&phases[..i], own.from, own.to)).collect()
    }
}

/// The [`LinkUse::transfer`] of signs of life: after all transfers of a protocol.
pub const SIGN_OF_LIFE: u8 = 127;

/// One use of one link, between parties of a scheme or, for the links themselves, between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkUse<P = PartyId> {
    /// Training round, from 1.
    pub round: u64,
    /// Attempt within the round, from 0.
    pub attempt: u32,
    /// Which transfer between parties of these roles it is in its attempt, from 0: 0 for a share and for the
    /// first upload, 1 for the second. The same transfer meets the same link state under every protocol.
    pub transfer: u8,
    /// The sender.
    pub from: P,
    /// The receiver.
    pub to: P,
    /// Size of the message with its header.
    pub bytes: u64,
}

impl From<LinkUse> for LinkUse<Node> {
    fn from(link: LinkUse) -> Self {
        let LinkUse { round, attempt, transfer, from, to, bytes } = link;
        Self { round, attempt, transfer, from: from.into(), to: to.into(), bytes }
    }
}

/// The result of a round at the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded<S> {
    /// The sum of the inputs of `included` (client indices, ascending).
    Sum {
        /// Σ of the included clients' inputs, d symbols.
        sum: Vec<S>,
        /// Whose inputs the sum contains.
        included: Vec<u16>,
        /// The most that rounding can have moved `sum`, ‖·‖₂ ([`crate::precision`]); 0 where nothing is
        /// rounded.
        error: f64,
    },
    /// What stands in for the sum over all clients: neither exact nor an outage. The server divides it by the
    /// weight of all clients, whoever was heard.
    Estimate {
        /// An estimate of Σ of all clients' inputs, d symbols.
        sum: Vec<S>,
        /// Whose inputs it is made of (client indices, ascending).
        included: Vec<u16>,
    },
    /// The server learns no sum.
    Outage(Reason),
}

impl<S> Decoded<S> {
    /// A sum without rounding error.
    #[must_use]
    pub fn exact(sum: Vec<S>, included: Vec<u16>) -> Self {
        Self::Sum { sum, included, error: 0.0 }
    }

    /// Too much was lost.
    #[must_use]
    pub fn lost() -> Self {
        Self::Outage(Reason::Links)
    }

    /// The same in other symbols.
    #[must_use]
    pub fn map<T>(self, symbols: impl FnOnce(Vec<S>) -> Vec<T>) -> Decoded<T> {
        match self {
            Self::Sum { sum, included, error } => Decoded::Sum { sum: symbols(sum), included, error },
            Self::Estimate { sum, included } => Decoded::Estimate { sum: symbols(sum), included },
            Self::Outage(reason) => Decoded::Outage(reason),
        }
    }

    /// Why there is neither a sum nor an estimate; `None` where there is one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Sum { .. } | Self::Estimate { .. } => None,
            Self::Outage(reason) => Some(*reason),
        }
    }

    /// Whose inputs the result is made of; nobody's in an outage.
    #[must_use]
    pub fn included(&self) -> &[u16] {
        match self {
            Self::Sum { included, .. } | Self::Estimate { included, .. } => included,
            Self::Outage(_) => &[],
        }
    }

    /// Whether there is an exact sum.
    #[must_use]
    pub fn is_sum(&self) -> bool {
        matches!(self, Self::Sum { .. })
    }
}

/// Why a round has no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too many messages were lost.
    Links,
    /// The sum would have been over fewer clients than the configuration allows.
    TooFew,
    /// The sum is not finite, or rounding may have moved it by more than `outage.recovery_tolerance`.
    Precision,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Links => "links",
            Self::TooFew => "too-few",
            Self::Precision => "precision",
        })
    }
}

/// A message as the links saw it, in formal symbols.
#[derive(Clone, Debug)]
pub struct Observed<K = f64> {
    /// Which link carried it, and when.
    pub link: LinkUse,
    /// Whether it arrived.
    pub delivered: bool,
    /// One form per symbol of the message.
    pub forms: Vec<LinearForm<K>>,
}

/// Everything that was sent in one round and all key material, in formal symbols.
#[derive(Clone, Debug)]
pub struct Views<K = f64> {
    /// Number of clients.
    pub clients: usize,
    /// Coordinates of one client's formal input; 1 for the schemes over the reals.
    pub len: usize,
    /// The inputs that each client knows; empty where each knows its own one.
    pub holds: Vec<Vec<u16>>,
    /// All messages in the order in which they were sent.
    pub messages: Vec<Observed<K>>,
    /// The keys dealt to each party.
    pub keys: Vec<(PartyId, Vec<LinearForm<K>>)>,
    /// The clients whose sum the server announced that it would decode, where it announces them.
    pub announced: Option<Vec<u16>>,
    /// The server's result.
    pub decoded: Decoded<LinearForm<K>>,
}
