//! What travels.
//!
//! On the wire a list is one entry after another: the client's index in two bytes, then its content, which
//! has one size in all entries of a list.

use std::sync::Arc;

use super::suite::{Encoded, PublicKeys, SEALED_BYTES, ShortShare};
use super::{Content, Suite};
use crate::algebra::Symbol;
use crate::message::Message;
use crate::wire::{Form, Wire, WireSymbol, no_variant, put_set, put_vector, take_set, take_vector};

/// Something for each of several clients, ascending.
pub type Each<T> = Arc<Vec<(u16, T)>>;

/// What travels.
#[derive(Clone, Debug)]
pub enum SecAggMessage<S: Symbol, X: Suite<S>> {
    /// Phase 0, client → server: c_u^PK and s_u^PK.
    Keys(X::Public),
    /// Phase 1, server → client: the keys of its neighbours in U_1.
    Roster(Each<X::Public>),
    /// Phase 2, client → server: encrypted shares, by receiver.
    Shares(Each<X::Sealed>),
    /// Phase 3, server → client: encrypted shares, by sender in U_2.
    Forwarded(Each<X::Sealed>),
    /// Phase 4, client → server: y_u, d symbols.
    Upload(Arc<Vec<S>>),
    /// Phase 5, server → client: U_3, ascending; a bit for each client on the wire.
    Survivors {
        /// U_3.
        included: Arc<Vec<u16>>,
        /// K.
        clients: usize,
    },
    /// Phase 6, client → server: the shares that unmask.
    Answer(Each<X::Share>),
}

impl<S: Symbol, X: Suite<S>> Message<S> for SecAggMessage<S, X> {
    fn bytes(&self) -> usize {
        fn each<S, T: Content<S>>(list: &[(u16, T)]) -> usize {
            list.iter().map(|(_, content)| 2 + content.bytes()).sum()
        }
        match self {
            Self::Keys(public) => public.bytes(),
            Self::Roster(list) => each::<S, _>(list),
            Self::Shares(list) | Self::Forwarded(list) => each::<S, _>(list),
            Self::Upload(upload) => upload.len() * S::BYTES,
            Self::Survivors { clients, .. } => clients.div_ceil(8),
            Self::Answer(list) => each::<S, _>(list),
        }
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        match self {
            Self::Keys(public) => public.symbols(),
            Self::Roster(list) => list.iter().flat_map(|(_, public)| public.symbols()).collect(),
            Self::Shares(list) | Self::Forwarded(list) => {
                list.iter().flat_map(|(_, sealed)| sealed.symbols()).collect()
            }
            Self::Upload(upload) => vec![upload.to_vec()],
            Self::Survivors { .. } => Vec::new(),
            Self::Answer(list) => list.iter().flat_map(|(_, share)| share.symbols()).collect(),
        }
    }

    fn announces(&self) -> Option<Vec<u16>> {
        match self {
            Self::Survivors { included, .. } => Some(included.to_vec()),
            _ => None,
        }
    }

    fn lists(&self) -> Option<Vec<u16>> {
        match self {
            Self::Forwarded(list) => Some(list.iter().map(|(k, _)| *k).collect()),
            _ => self.announces(),
        }
    }
}

/// Bytes of a client's index in a list.
const INDEX_BYTES: usize = 2;

/// Most bytes of the body of a message of `phase`.
pub(super) fn most<S: Symbol>(phase: u8, form: &Form) -> usize {
    let each = |bytes: usize| form.members * (INDEX_BYTES + bytes);
    match phase {
        0 => PublicKeys::BYTES,
        1 => each(PublicKeys::BYTES),
        2 | 3 => each(SEALED_BYTES),
        4 => form.len * S::BYTES,
        5 => form.members.div_ceil(8),
        _ => each(ShortShare::BYTES),
    }
}

fn put_list<T: Encoded>(list: &[(u16, T)], out: &mut Vec<u8>) {
    for (k, content) in list {
        out.extend_from_slice(&k.to_le_bytes());
        content.put(out);
    }
}

fn take_list<T: Encoded>(body: &[u8], form: &Form) -> Result<Each<T>, String> {
    let entry = INDEX_BYTES + T::BYTES;
    if !body.len().is_multiple_of(entry) || body.len() / entry > form.members {
        return Err(format!("{} bytes instead of up to {} entries of {entry}", body.len(), form.members));
    }
    let read = |entry: &[u8]| {
        let (k, content) = entry.split_first_chunk::<INDEX_BYTES>().ok_or("an entry without a client")?;
        Ok((u16::from_le_bytes(*k), T::take(content)?))
    };
    body.chunks_exact(entry).map(read).collect::<Result<Vec<_>, String>>().map(Arc::new)
}

impl<S: WireSymbol, X> Wire<S> for SecAggMessage<S, X>
where
    X: Suite<S, Public: Encoded, Sealed: Encoded, Share: Encoded>,
{
    fn variant(&self) -> u8 {
        match self {
            Self::Keys(_) => 0,
            Self::Roster(_) => 1,
            Self::Shares(_) => 2,
            Self::Forwarded(_) => 3,
            Self::Upload(_) => 4,
            Self::Survivors { .. } => 5,
            Self::Answer(_) => 6,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Keys(public) => public.put(out),
            Self::Roster(list) => put_list(list, out),
            Self::Shares(list) | Self::Forwarded(list) => put_list(list, out),
            Self::Upload(upload) => put_vector(upload, out),
            Self::Survivors { included, clients } => put_set(included, *clients, out),
            Self::Answer(list) => put_list(list, out),
        }
    }

    fn take(variant: u8, body: &[u8], form: &Form) -> Result<Self, String> {
        Ok(match variant {
            0 => Self::Keys(X::Public::take(body)?),
            1 => Self::Roster(take_list(body, form)?),
            2 => Self::Shares(take_list(body, form)?),
            3 => Self::Forwarded(take_list(body, form)?),
            4 => Self::Upload(take_vector(body, form)?),
            5 => Self::Survivors { included: Arc::new(take_set(body, form)?), clients: form.members },
            6 => Self::Answer(take_list(body, form)?),
            other => return Err(no_variant(other)),
        })
    }
}
