//! What travels.

use std::sync::Arc;

use crate::algebra::Symbol;
use crate::message::Message;
use crate::wire::{Form, Wire, WireSymbol, no_variant, put_vector, take_vector};

/// One vector, here a client's masked update of d symbols.
#[derive(Clone, Debug)]
pub struct Upload<S>(pub Arc<Vec<S>>);

impl<S: Symbol> Message<S> for Upload<S> {
    fn bytes(&self) -> usize {
        self.0.len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.0.to_vec()]
    }
}

impl<S: WireSymbol> Wire<S> for Upload<S> {
    fn variant(&self) -> u8 {
        0
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_vector(&self.0, out);
    }

    fn take(variant: u8, body: &[u8], form: &Form) -> Result<Self, String> {
        match variant {
            0 => Ok(Self(take_vector(body, form)?)),
            other => Err(no_variant(other)),
        }
    }
}
