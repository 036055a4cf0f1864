//! What a round of a scheme left behind: its result, and what it took.

use super::Refusal;
use crate::message::{Decoded, LinkUse, PartyId, Reason};

/// Bytes sent, counted where they are sent: a lost message has cost its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Between clients.
    pub client_client: u64,
    /// From clients to the server.
    pub client_server: u64,
    /// From the server to clients and helpers, beside the global model.
    pub server_client: u64,
    /// From clients to helpers.
    pub client_helper: u64,
    /// Between helpers.
    pub helper_helper: u64,
    /// From helpers to the server.
    pub helper_server: u64,
}

impl Traffic {
    pub(super) fn count(&mut self, link: LinkUse) {
        match (link.from, link.to) {
            (PartyId::Server, _) => self.server_client += link.bytes,
            (PartyId::Client(_), PartyId::Server) => self.client_server += link.bytes,
            (PartyId::Client(_), PartyId::Client(_)) => self.client_client += link.bytes,
            (PartyId::Client(_), PartyId::Helper(_)) => self.client_helper += link.bytes,
            (PartyId::Helper(_), PartyId::Server) => self.helper_server += link.bytes,
            (PartyId::Helper(_), _) => self.helper_helper += link.bytes,
        }
    }
}

/// What a scheme made of one round's updates.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The sum that the server decoded, or the outage.
    pub decoded: Decoded<f64>,
    /// Attempts used, at least 1.
    pub attempts: u32,
    /// Messages that reached the server, over all attempts.
    pub arrivals: u64,
    /// Bytes sent, over all attempts.
    pub traffic: Traffic,
    /// Simulated seconds on the links, over all attempts; `None` where messages take no time.
    pub seconds: Option<f64>,
    /// Every message in the order in which it was sent, and whether it arrived.
    pub sent: Vec<(LinkUse, bool)>,
    /// The messages that arrived and were not accepted; none among parties that follow the protocol.
    pub refused: Vec<Refusal>,
    /// What quantising lost of the updates, over a field.
    pub lost: Option<Lost>,
}

/// Shares of all coordinates of a round's weighted updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lost {
    /// Those beyond the clip of `quantisation`.
    pub saturated: f64,
    /// Those that are not 0 and less than half a step.
    pub underflowed: f64,
}

impl Aggregate {
    /// An outage without a message.
    #[must_use]
    pub fn nothing(reason: Reason) -> Self {
        Self {
            decoded: Decoded::Outage(reason),
            attempts: 0,
            arrivals: 0,
            traffic: Traffic::default(),
            seconds: None,
            sent: Vec::new(),
            refused: Vec::new(),
            lost: None,
        }
    }
}
