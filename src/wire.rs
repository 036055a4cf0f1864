//! The binary form of envelopes, for parties that do not share a process.
//!
//! Everything is little-endian. A header of [`HEADER_BYTES`] bytes stands before the body:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0–7 | round | from 1 |
//! | 8–11 | attempt | from 0 |
//! | 12 | phase | from 0 |
//! | 13 | kind | [`VERSION`] in bits 5–7, the symbols ([`WireSymbol::CODE`]) in bits 3–4, the variant ([`Wire::variant`]) in bits 0–2 |
//! | 14–17 | from | [`PartyId::code`] |
//! | 18–21 | to | [`PartyId::code`] |
//! | 22–25 | length | bytes of the body, [`Message::bytes`] |
//!
//! A body is the symbols of its vector one after another; that of `gc-plus` starts with the list of the
//! shares in it, one bit each, the first in the lowest bit. The other messages of a scheme are described
//! where they are declared. Decoding allocates what the receiver expects ([`Form`]) and nothing by a length
//! that a peer claims; it refuses what is too short, too long, not a number, not a residue, or larger than
//! [`Form::largest`], and never panics.

use std::sync::Arc;

use crate::algebra::Symbol;
use crate::algebra::field::{M61, Prime, Small};
use crate::message::{Clock, Envelope, HEADER_BYTES, Message, PartyId};

/// The version of the binary form; another one is refused.
pub const VERSION: u8 = 1;

/// A symbol with a binary form of [`Symbol::BYTES`] bytes.
pub trait WireSymbol: Symbol {
    /// Tells the symbols of a message from those of another arithmetic, 0 to 3.
    const CODE: u8;

    /// Appends the symbol.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads the symbol from [`Symbol::BYTES`] bytes.
    ///
    /// # Errors
    /// Bytes that are no symbol.
    fn take(bytes: &[u8]) -> Result<Self, &'static str>;

    /// Its size where sizes have a meaning, 0 over a field.
    fn size(&self) -> f64;
}

macro_rules! real_wire {
    ($real:ty, $code:literal) => {
        impl WireSymbol for $real {
            const CODE: u8 = $code;

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &[u8]) -> Result<Self, &'static str> {
                let x = Self::from_le_bytes(bytes.try_into().map_err(|_| "a symbol of another size")?);
                if x.is_finite() { Ok(x) } else { Err("a coordinate that is not a finite number") }
            }

            fn size(&self) -> f64 {
                f64::from(*self)
            }
        }
    };
}
real_wire!(f32, 0);
real_wire!(f64, 1);

fn residue<F: Prime>(bytes: &[u8]) -> Result<F, &'static str> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len()).ok_or("a symbol of another size")?.copy_from_slice(bytes);
    let n = u64::from_le_bytes(word);
    if n < F::MODULUS { Ok(F::new(n)) } else { Err("a coordinate that is not a residue of the field") }
}

impl WireSymbol for M61 {
    const CODE: u8 = 2;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.residue().to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Result<Self, &'static str> {
        residue(bytes)
    }

    fn size(&self) -> f64 {
        0.0
    }
}

impl<const P: u32> WireSymbol for Small<P> {
    const CODE: u8 = 3;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.residue().to_le_bytes()[..Self::BYTES]);
    }

    fn take(bytes: &[u8]) -> Result<Self, &'static str> {
        residue(bytes)
    }

    fn size(&self) -> f64 {
        0.0
    }
}

/// What the receiver of a message expects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Entries of a vector: coordinates, or what else a scheme sends in its place.
    pub len: usize,
    /// Clients who may stand in a list: those of the sender's code row, or all; 0 where no list travels.
    pub members: usize,
    /// Largest root mean square of the coordinates that is accepted over the reals.
    pub largest: f64,
}

/// A message with a binary form.
pub trait Wire<S: WireSymbol>: Message<S> {
    /// Which of the protocol's messages this is, 0 to 7.
    fn variant(&self) -> u8;

    /// Appends the body, [`Message::bytes`] bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads the body of a message of this variant.
    ///
    /// # Errors
    /// What is wrong with it.
    fn take(variant: u8, body: &[u8], form: &Form) -> Result<Self, String>;
}

/// Appends the symbols of a vector.
pub fn put_vector<S: WireSymbol>(vector: &[S], out: &mut Vec<u8>) {
    vector.iter().for_each(|symbol| symbol.put(out));
}

/// Reads a vector of the length that is expected.
///
/// # Errors
/// Another length, a coordinate that is no symbol, coordinates beyond what is accepted.
pub fn take_vector<S: WireSymbol>(body: &[u8], form: &Form) -> Result<Arc<Vec<S>>, String> {
    if Some(body.len()) != form.len.checked_mul(S::BYTES) {
        return Err(format!("{} bytes instead of {} symbols of {}", body.len(), form.len, S::BYTES));
    }
    let mut vector = Vec::with_capacity(form.len);
    let mut power = 0.0;
    for bytes in body.chunks_exact(S::BYTES) {
        let symbol = S::take(bytes)?;
        power += symbol.size() * symbol.size();
        vector.push(symbol);
    }
    let size = (power / form.len.max(1) as f64).sqrt();
    // Not `>`: the square of a huge coordinate is infinite, and so is the limit of who accepts everything.
    if size <= form.largest {
        Ok(Arc::new(vector))
    } else {
        Err(format!("coordinates of size {size:.3e}, beyond the accepted {:.3e}", form.largest))
    }
}

/// Appends a list of bits, the first in the lowest bit.
pub fn put_bits(bits: &[bool], out: &mut Vec<u8>) {
    let byte = |bits: &[bool]| (0..).zip(bits).map(|(i, &bit)| u8::from(bit) << i).sum::<u8>();
    out.extend(bits.chunks(8).map(byte));
}

/// Reads a list of `count` bits; `None` for another length, and for a bit behind the last one.
#[must_use]
pub fn take_bits(bytes: &[u8], count: usize) -> Option<Vec<bool>> {
    let bit = |i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
    let fits = bytes.len() == count.div_ceil(8) && !(count..8 * bytes.len()).any(bit);
    fits.then(|| (0..count).map(bit).collect())
}

/// Appends a set of `count` clients, a bit each.
pub fn put_set(set: &[u16], count: usize, out: &mut Vec<u8>) {
    let bits: Vec<bool> = (0..count as u16).map(|k| set.binary_search(&k).is_ok()).collect();
    put_bits(&bits, out);
}

/// Reads a set of clients, ascending, of as many as the form has members.
///
/// # Errors
/// Another number of clients.
pub fn take_set(body: &[u8], form: &Form) -> Result<Vec<u16>, String> {
    let bits = take_bits(body, form.members);
    let bits = bits.ok_or_else(|| format!("a set that is not of {} clients", form.members))?;
    Ok((0..).zip(bits).filter_map(|(k, bit): (u16, bool)| bit.then_some(k)).collect())
}

/// The refusal of a variant that a protocol does not have.
#[must_use]
pub fn no_variant(variant: u8) -> String {
    format!("message variant {variant}, which this protocol does not have")
}

fn kind<S: WireSymbol>(variant: u8) -> u8 {
    VERSION << 5 | S::CODE << 3 | variant
}

/// The binary form of an envelope.
#[must_use]
pub fn encode<S: WireSymbol, M: Wire<S>>(envelope: &Envelope<M>) -> Vec<u8> {
    let Envelope { sent: Clock { round, attempt, phase }, from, to, ref body } = *envelope;
    let mut out = Vec::with_capacity(HEADER_BYTES + body.bytes());
    out.extend_from_slice(&round.to_le_bytes());
    out.extend_from_slice(&attempt.to_le_bytes());
    out.extend_from_slice(&[phase, kind::<S>(body.variant())]);
    out.extend_from_slice(&from.code().to_le_bytes());
    out.extend_from_slice(&to.code().to_le_bytes());
    out.extend_from_slice(&(body.bytes() as u32).to_le_bytes());
    body.put(&mut out);
    out
}

/// Reads an envelope.
///
/// # Errors
/// What is wrong with it.
pub fn decode<S: WireSymbol, M: Wire<S>>(bytes: &[u8], form: &Form) -> Result<Envelope<M>, String> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let party = |at| {
        let code = word(at);
        PartyId::from_code(code).ok_or_else(|| format!("no party has number {code}"))
    };
    let round = u64::from(word(0)) | u64::from(word(4)) << 32;
    let sent = Clock { round, attempt: word(8), phase: header[12] };
    let kind = header[13];
    let version = kind >> 5;
    if version != VERSION {
        return Err(format!("version {version} of the binary form, here {VERSION}"));
    }
    let symbols = kind >> 3 & 0b11;
    if symbols != S::CODE {
        return Err(format!("symbols of arithmetic {symbols}, here {}", S::CODE));
    }
    let (from, to, length) = (party(14)?, party(18)?, word(22));
    if u64::from(length) != body.len() as u64 {
        return Err(format!("a body of {} bytes that says it has {length}", body.len()));
    }
    Ok(Envelope { sent, from, to, body: M::take(kind & 0b111, body, form)? })
}
