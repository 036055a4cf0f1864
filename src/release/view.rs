//! What a round tells about each client's update, noise included.

use crate::algebra::{KeyStream, LinearForm, Symbol, Unknown};
use crate::error::{Error, Result};
use crate::message::{Decoded, PartyId, Views};
use crate::privacy;
use crate::privacy::view::{Coalition, View};

/// Most coalitions of the server with T clients that are tried.
const MOST_COALITIONS: usize = 1000;

/// The formal draws of the noise of input `k`.
fn noise_of(k: u16, place: u16) -> LinearForm {
    LinearForm::unknown(Unknown::Key(KeyStream { purpose: "release", round: 0, a: k, b: k }, place))
}

/// The rows of a view in which every input carries noise of the standard deviation `share`, and those who
/// hold an input know its noise, too.
fn noised(view: View, share: f64) -> Vec<LinearForm> {
    let mut rows = view.rows;
    for row in &mut rows {
        let inputs: Vec<_> =
            row.terms().filter(|(unknown, _)| matches!(unknown, Unknown::Input(..))).collect();
        for (unknown, c) in inputs {
            if let Unknown::Input(k, place) = unknown {
                LinearForm::axpy(std::slice::from_mut(row), c * share, &[noise_of(k, place)]);
            }
        }
    }
    let places = 0..view.len as u16;
    rows.extend(view.known.iter().flat_map(|&k| places.clone().map(move |place| noise_of(k, place))));
    rows
}

/// μ of Gaussian differential privacy of each client's input against the server with `colluders` clients, the
/// worst of them, in a round that was played like this: inputs move by `reach` and carry noise of the
/// standard deviation `share`. A colluder's own number says nothing about itself.
///
/// # Errors
/// More coalitions than can be tried; inputs of several formal coordinates; what is not finite.
pub fn server(views: &Views, share: f64, colluders: usize, reach: &[f64]) -> Result<Vec<f64>> {
    one_coordinate(views)?;
    let mut worst = vec![0.0f64; views.clients];
    for clients in coalitions(views.clients, colluders)? {
        let parties = clients.iter().map(|&k| PartyId::Client(k)).chain([PartyId::Server]);
        let view = View::with_result(views, Coalition::of(parties));
        let known = view.known.clone();
        let mu = privacy::distances(&noised(view, share), reach)?;
        for (k, (worst, mu)) in worst.iter_mut().zip(mu).enumerate() {
            if !known.contains(&(k as u16)) {
                *worst = worst.max(mu);
            }
        }
    }
    Ok(worst)
}

/// The same against who sees the result only, in a round that has one; 0 in an outage.
///
/// # Errors
/// As [`server`].
pub fn observer(views: &Views, share: f64, reach: &[f64]) -> Result<Vec<f64>> {
    one_coordinate(views)?;
    if let Decoded::Outage(_) = views.decoded {
        return Ok(vec![0.0; views.clients]);
    }
    let nobody = View::of(views, Coalition::default());
    let server = View::with_result(views, Coalition::of([PartyId::Server]));
    let received = View::of(views, Coalition::of([PartyId::Server])).rows.len();
    let result = View { rows: server.rows[received..].to_vec(), ..nobody };
    privacy::distances(&noised(result, share), reach)
}

fn one_coordinate(views: &Views) -> Result<()> {
    if views.len == 1 {
        return Ok(());
    }
    let rule = "its inputs are split, and what the server sees of Gaussian noise in them is not known; take arithmetic = \"field\"";
    Err(Error::config("privacy.release", rule))
}

/// All sets of `size` of so many clients.
fn coalitions(clients: usize, size: usize) -> Result<Vec<Vec<u16>>> {
    let mut sets: Vec<Vec<u16>> = vec![Vec::new()];
    for _ in 0..size {
        let longer = sets.iter().flat_map(|set| {
            let next = set.last().map_or(0, |&last| last + 1);
            (next..clients as u16).map(move |k| [&set[..], &[k]].concat())
        });
        sets = longer.take(MOST_COALITIONS + 1).collect();
        if sets.len() > MOST_COALITIONS {
            let rule = format!(
                "{size} of {clients} clients are more than {MOST_COALITIONS} coalitions; take fewer colluders or arithmetic = \"field\""
            );
            return Err(Error::config("privacy.release.colluders", rule));
        }
    }
    Ok(sets)
}
