//! Privacy that is computed from what the parties really send.
//!
//! [`Aggregator::views`](crate::protocol::Aggregator::views) runs a protocol's own party code with formal symbols; here the
//! view of an adversary becomes a matrix [A, B] over the clients' inputs and the key draws, and a number.

pub mod audit;
pub mod calibrate;
pub mod defect;
pub mod erasures;
pub mod ldp;
pub mod rank;
pub mod view;

use crate::algebra::LinearForm;
use crate::coding::singular_triples;
use crate::protocol::{PartyId, Views};
use view::{Coalition, View};

/// Singular values below this fraction of the largest count as zero. A sum that emerges from masks of standard
/// deviation σ shows as a ratio of about σ_x/σ, so that keys up to 10⁹ times the update are judged rightly. Keys
/// that are weaker than the strongest ones by this factor count as none: the error is on the side of leakage.
pub const RANK_TOLERANCE: f64 = 1e-11;

/// A combination of inputs counts as seen without keys when more than this fraction of it lies outside what the keys reach. A
/// decoding vector a shows as 1/‖a‖₂, so that codes up to an amplification of about 10⁸ are judged rightly.
pub const SHIFT_TOLERANCE: f64 = 1e-9;

/// A leverage this close to 1 determines the input: the leakage is infinite.
const DETERMINED: f64 = 1e-9;

/// Local mutual information privacy of each client against an adversary that sees `view`, in nats per coordinate.
///
/// LMIP is I(x_k; view | what the adversary holds itself) for independent x_j ~ N(0, `input_std`²) and N(0, 1) key draws
/// (Weng, section V). The adversary's own inputs and keys belong into the view. With the view's rows scaled to unit-variance
/// unknowns, Z = [σ_x A, B], the squared correlation of x_k with its best linear estimate is the leverage
/// ρ_k² = ‖P e_k‖², P the projector on the row space of Z, and I = −½ ln(1 − ρ_k²): the log-det formula
/// without a difference of large logarithms. Infinite when the view determines x_k.
#[must_use]
pub fn lmip(view: &[LinearForm], clients: usize, input_std: f64) -> Vec<f64> {
    if view.is_empty() {
        return vec![0.0; clients];
    }
    let (inputs, keys) = view::matrices(view, clients);
    let mut z = (inputs * input_std).resize_horizontally(clients + keys.ncols(), 0.0);
    z.columns_mut(clients, keys.ncols()).copy_from(&keys);
    let triples = singular_triples(&z);
    let largest = triples.first().map_or(0.0, |(sigma, ..)| *sigma);
    let basis: Vec<_> = triples.iter().filter(|(sigma, ..)| *sigma > RANK_TOLERANCE * largest).collect();
    (0..clients)
        .map(|k| {
            let leverage: f64 = basis.iter().map(|(_, _, right)| right[k].powi(2)).sum();
            if leverage > 1.0 - DETERMINED { f64::INFINITY } else { -0.5 * (-leverage).ln_1p() }
        })
        .collect()
}

/// Leakage of one round about each client's input, in nats per coordinate, by adversary.
#[derive(Clone, Debug, PartialEq)]
pub struct Leakage {
    /// The worst single client-to-client link, an eavesdropper who reads the message whether or not it is then lost.
    pub link: Vec<f64>,
    /// The worst other client, who knows its own update, its keys and the shares it received.
    pub neighbour: Vec<f64>,
    /// The server, who knows everything it received.
    pub server: Vec<f64>,
}

impl Leakage {
    /// Measures the views of one round under x_k ~ N(0, `input_std`²).
    #[must_use]
    pub fn of(views: &Views, input_std: f64) -> Self {
        let clients = views.clients;
        let mut link = vec![0.0f64; clients];
        let mut neighbour = vec![0.0f64; clients];
        let worst = |total: &mut [f64], own: Option<usize>, leak: &[f64]| {
            for (k, (total, leak)) in total.iter_mut().zip(leak).enumerate() {
                if own != Some(k) {
                    *total = total.max(*leak);
                }
            }
        };
        for message in &views.messages {
            if let PartyId::Client(_) = message.link.to {
                worst(&mut link, None, &lmip(&message.forms, clients, input_std));
            }
        }
        for m in 0..clients as u16 {
            let view = View::of(views, Coalition::of([PartyId::Client(m)]));
            worst(&mut neighbour, Some(usize::from(m)), &lmip(&view.rows, clients, input_std));
        }
        let server = View::of(views, Coalition::of([PartyId::Server]));
        let server = lmip(&server.rows, clients, input_std);
        Self { link, neighbour, server }
    }

    /// The unavoidable leakage of the sum of `clients` independent inputs, ½ ln(M/(M−1)) nats per coordinate.
    #[must_use]
    pub fn floor(clients: usize) -> f64 {
        let m = clients as f64;
        -0.5 * (-1.0 / m).ln_1p()
    }
}
