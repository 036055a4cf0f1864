//! What travels.

use std::sync::Arc;

use crate::algebra::{Scalar, Symbol};
use crate::message::Message;
use crate::wire::{Form, Wire, WireSymbol, no_variant, put_bits, put_vector, take_bits, take_vector};

/// A share or a sum.
#[derive(Clone, Debug)]
pub enum CoGcMessage<S: Symbol> {
    /// Phase 0, client → client: `scale · vector` = y_mk, d symbols. In one process the vector is shared, not
    /// copied.
    Share {
        /// b_mk, or 1 when the vector already holds the whole share.
        scale: S::Scalar,
        /// x_k + u_k.
        vector: Arc<Vec<S>>,
    },
    /// Phase 1, client → server: the complete sum S_m, d symbols.
    Sum(Arc<Vec<S>>),
    /// Phase 1 with `gc-plus`, client → server: the shares that m has, added up.
    Partial {
        /// Whether the sum contains the share of each of the s+1 clients of N(m), in order; a bit each on the
        /// wire.
        held: Vec<bool>,
        /// Σ y_mk over those, d symbols.
        sum: Arc<Vec<S>>,
    },
}

impl<S: Symbol> Message<S> for CoGcMessage<S> {
    fn bytes(&self) -> usize {
        match self {
            Self::Share { vector, .. } | Self::Sum(vector) => vector.len() * S::BYTES,
            Self::Partial { held, sum } => held.len().div_ceil(8) + sum.len() * S::BYTES,
        }
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        match self {
            Self::Share { scale, vector } => {
                let mut share = vector.to_vec();
                S::scale(&mut share, *scale);
                vec![share]
            }
            Self::Sum(sum) | Self::Partial { sum, .. } => vec![sum.to_vec()],
        }
    }
}

impl<S: WireSymbol> Wire<S> for CoGcMessage<S> {
    fn variant(&self) -> u8 {
        match self {
            Self::Share { .. } => 0,
            Self::Sum(_) => 1,
            Self::Partial { .. } => 2,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Share { scale, vector } => {
                let mut share = vector.to_vec();
                S::scale(&mut share, *scale);
                put_vector(&share, out);
            }
            Self::Sum(sum) => put_vector(sum, out),
            Self::Partial { held, sum } => {
                put_bits(held, out);
                put_vector(sum, out);
            }
        }
    }

    fn take(variant: u8, body: &[u8], form: &Form) -> Result<Self, String> {
        match variant {
            0 => Ok(Self::Share { scale: S::Scalar::ONE, vector: take_vector(body, form)? }),
            1 => Ok(Self::Sum(take_vector(body, form)?)),
            2 => {
                let Some((list, sum)) = body.split_at_checked(form.members.div_ceil(8)) else {
                    return Err(format!("{} bytes are too few for the list of shares", body.len()));
                };
                let held = take_bits(list, form.members);
                let held = held.ok_or("a list of shares that is longer than the code row")?;
                Ok(Self::Partial { held, sum: take_vector(sum, form)? })
            }
            other => Err(no_variant(other)),
        }
    }
}
