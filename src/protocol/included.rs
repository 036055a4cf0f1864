//! How few clients a sum over those who are left may have.

use crate::error::{Error, Result};

/// Fewest clients of a sum in which single updates are masked: `wanted`, else 3 and two more than the
/// `colluders` who may pool their own updates with the server, so that what they leave of a sum is never one
/// update; of few clients all.
pub(super) fn masked(wanted: Option<usize>, colluders: usize, clients: usize) -> Result<usize> {
    checked(wanted, clients).map(|least| least.unwrap_or(3.max(colluders + 2).min(clients)))
}

/// Fewest clients of a sum of updates that the server sees one by one anyway: `wanted`, else 1.
pub(super) fn visible(wanted: Option<usize>, clients: usize) -> Result<usize> {
    checked(wanted, clients).map(|least| least.unwrap_or(1))
}

fn checked(wanted: Option<usize>, clients: usize) -> Result<Option<usize>> {
    match wanted.filter(|least| !(1..=clients).contains(least)) {
        None => Ok(wanted),
        Some(least) => {
            let rule = format!("{least} is out of range; of {clients} clients give 1 to {clients}");
            Err(Error::config("least_included", rule))
        }
    }
}
