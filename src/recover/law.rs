//! How often a round is recovered, computed.

use super::Sizes;
use crate::coding::{Code, CodeKind, outage, stacked};
use crate::network::{Dependence, LinkModel, Node};

/// The exact probability that a round is recovered within `attempts` attempts, where a closed form holds:
/// when distinct links are independent, and with several attempts or repeats only when these are too. `None`
/// otherwise, and for a `cyclic-mds` code of more than [`outage::EXACT_CLIENTS`] clients; for `gc-plus` but
/// with a fractional repetition of small groups ([`stacked::success_probability`]). Of an
/// [`super::Outline`] what it counts.
#[must_use]
pub fn closed_form(code: &dyn Code, links: &dyn LinkModel, sizes: Sizes, attempts: u32) -> Option<f64> {
    if !is_independent(code, links, attempts)
        || code.kind() == CodeKind::CyclicMds && code.clients() > outage::EXACT_CLIENTS && !code.is_outlined()
    {
        return None;
    }
    let client = |k: usize| Node::Client(k as u32);
    let share = |to, from| links.erasure(client(from), client(to), sizes.share);
    let upload = |m| links.erasure(client(m), Node::Server, sizes.upload);
    if code.takes_incomplete() {
        return stacked::success_probability(code, share, upload, attempts * code.repeats());
    }
    let once = outage::success_probability(code, share, upload);
    Some(1.0 - (1.0 - once).powi(attempts as i32))
}

/// Bounds on the same with `gc-plus`, where there are any ([`stacked::bounds`]).
#[must_use]
pub fn bounds(code: &dyn Code, links: &dyn LinkModel, sizes: Sizes, attempts: u32) -> Option<[f64; 2]> {
    let client = |k: usize| Node::Client(k as u32);
    let holds = code.takes_incomplete() && is_independent(code, links, attempts);
    holds.then(|| {
        stacked::bounds(
            code,
            |to, from| links.erasure(client(from), client(to), sizes.share),
            |m| links.erasure(client(m), Node::Server, sizes.upload),
            attempts * code.repeats(),
        )
    })
}

/// Whether all uses of links that a code makes in so many attempts are independent.
fn is_independent(code: &dyn Code, links: &dyn LinkModel, attempts: u32) -> bool {
    match links.dependence() {
        Dependence::None => true,
        Dependence::Time => attempts == 1 && code.repeats() == 1,
        Dependence::Links => false,
    }
}
