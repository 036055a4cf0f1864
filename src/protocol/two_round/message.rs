//! What travels.

use std::sync::Arc;

use crate::algebra::Symbol;
use crate::message::Message;
use crate::wire::{Form, Wire, WireSymbol, no_variant, put_set, put_vector, take_set, take_vector};

/// A share or an answer that is one vector of symbols.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbols<S>(pub Vec<S>);

impl<S: Symbol> Message<S> for Symbols<S> {
    fn bytes(&self) -> usize {
        self.0.len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.0.clone()]
    }
}

impl<S> Symbols<S> {
    /// What is wrong when the answer must have `len` symbols.
    pub(in crate::protocol) fn malformed(&self, len: usize) -> Option<String> {
        let got = self.0.len();
        (got != len).then(|| format!("the answer has {got} symbols instead of {len}"))
    }
}

/// What travels.
#[derive(Clone, Debug)]
pub enum TwoRoundMessage<S, A, H = Symbols<S>> {
    /// Phase 0, client → client: a share of the sender's mask.
    Share(Arc<H>),
    /// Phase 1, client → server: the masked input.
    Upload(Arc<Vec<S>>),
    /// Phase 2, server → survivor: whose uploads arrived, ascending; a bit for each client on the wire.
    Survivors {
        /// U_1.
        included: Arc<Vec<u16>>,
        /// K.
        clients: usize,
    },
    /// Phase 3, survivor → server.
    Answer(Arc<A>),
}

impl<S: Symbol, A: Message<S>, H: Message<S>> Message<S> for TwoRoundMessage<S, A, H> {
    fn bytes(&self) -> usize {
        match self {
            Self::Share(share) => share.bytes(),
            Self::Upload(upload) => upload.len() * S::BYTES,
            Self::Survivors { clients, .. } => clients.div_ceil(8),
            Self::Answer(answer) => answer.bytes(),
        }
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        match self {
            Self::Share(share) => share.reveals(),
            Self::Upload(upload) => vec![upload.to_vec()],
            Self::Survivors { .. } => Vec::new(),
            Self::Answer(answer) => answer.reveals(),
        }
    }

    fn announces(&self) -> Option<Vec<u16>> {
        match self {
            Self::Survivors { included, .. } => Some(included.to_vec()),
            Self::Share(_) | Self::Upload(_) | Self::Answer(_) => None,
        }
    }
}

impl<S: WireSymbol> Wire<S> for Symbols<S> {
    fn variant(&self) -> u8 {
        0
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_vector(&self.0, out);
    }

    fn take(_: u8, body: &[u8], form: &Form) -> Result<Self, String> {
        take_vector(body, form).map(|vector| Self(Arc::unwrap_or_clone(vector)))
    }
}

impl<S: WireSymbol, A: Wire<S>, H: Wire<S>> Wire<S> for TwoRoundMessage<S, A, H> {
    fn variant(&self) -> u8 {
        match self {
            Self::Share(_) => 0,
            Self::Upload(_) => 1,
            Self::Survivors { .. } => 2,
            Self::Answer(_) => 3,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Share(share) => share.put(out),
            Self::Upload(upload) => put_vector(upload, out),
            Self::Survivors { included, clients } => put_set(included, *clients, out),
            Self::Answer(answer) => answer.put(out),
        }
    }

    fn take(variant: u8, body: &[u8], form: &Form) -> Result<Self, String> {
        Ok(match variant {
            0 => Self::Share(Arc::new(H::take(0, body, form)?)),
            1 => Self::Upload(take_vector(body, form)?),
            2 => Self::Survivors { included: Arc::new(take_set(body, form)?), clients: form.members },
            3 => Self::Answer(Arc::new(A::take(0, body, form)?)),
            other => return Err(no_variant(other)),
        })
    }
}
