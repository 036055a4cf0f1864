//! Whether a server sees sums only.

use crate::error::{Error, Result};
use crate::message::PartyId;
use crate::network::Perfect;
use crate::privacy::Formal;
use crate::privacy::view::Coalition;
use crate::protocol::Aggregator;
use crate::protocol::exchange::AUDITABLE;

/// Coalitions whose views over a field are looked at.
const RANKS: usize = 50;

/// Clients up to whom this is done for schemes of more than two phases, whose views are large.
const RANKED: usize = 40;

/// Whether the server with colluders sees nothing of another client beyond the sum in a round without losses,
/// by rank; with many coalitions some of them are looked at.
pub(super) fn is_hidden(
    scheme: &dyn Aggregator,
    clients: usize,
    colluders: usize,
    attempts: u32,
) -> Result<bool> {
    if scheme.shows_single_updates() {
        return Ok(false);
    }
    let many = clients > RANKED && scheme.phases().len() > 2;
    if many || scheme.formal_coordinates() > AUDITABLE {
        if colluders > 0 {
            let rule = format!(
                "whether the server with {colluders} of {clients} clients sees sums only is not found in time here; take 0, or cohorts of \
                 at most {RANKED} (cohort.sample)"
            );
            return Err(Error::config("privacy.release.colluders", rule));
        }
        tracing::warn!(
            "too many clients to find by rank that the server sees sums only, which is taken for granted; seccogc audit proves it for fewer"
        );
        return Ok(true);
    }
    let Formal::Field(views) = scheme.formal(0, &Perfect, attempts)? else { return Ok(false) };
    let sees_more = |first: usize| {
        let members = (0..colluders).map(|i| (first + i) % clients);
        let parties = members.map(|k| PartyId::Client(k as u16)).chain([PartyId::Server]);
        views.exposed(&Coalition::of(parties)).symbols > 0
    };
    let tried = if colluders == 0 { 1 } else { clients.min(RANKS) };
    Ok(!(0..tried).any(sees_more))
}
