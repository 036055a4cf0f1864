//! The parties of a round whose messages somebody else carries, and the losses of simulated links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use seccogc::Error;
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Network, Node};
use seccogc::party::agreement::{self, STORED_BYTES, Secrets};
use seccogc::party::exchange::{self, Exchange, Summed};
use seccogc::protocol::{Decoded, Update};

use crate::config::Resolved;
use crate::errors::{Raised, raise, same_process};

/// A client's key pair for one round; of `stored` bytes the one that stored them, else a fresh one.
#[pyclass(frozen, module = "seccogc._native")]
struct KeyPair(agreement::KeyPair);

#[pymethods]
impl KeyPair {
    #[new]
    #[pyo3(signature = (stored=None))]
    fn new(py: Python<'_>, stored: Option<&[u8]>) -> PyResult<Self> {
        same_process()?;
        let Some(stored) = stored else {
            return agreement::KeyPair::generate().map(Self).raised(py);
        };
        let Ok(bytes) = <&[u8; STORED_BYTES]>::try_from(stored) else {
            let rule = format!("a stored key pair of {} bytes instead of {STORED_BYTES}", stored.len());
            return Err(raise(py, Error::Refused(rule)));
        };
        Ok(Self(agreement::KeyPair::restored(bytes)))
    }

    /// What others may know, 32 bytes.
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }

    /// What nobody else may know, 96 bytes.
    fn stored<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &*self.0.stored())
    }
}

/// A client's sum, if it has one, and whose shares were refused, with the rule.
type Sum<'py> = (Option<Bound<'py, PyBytes>>, Vec<(u16, String)>);

/// Whose updates a sum holds, and the sum; or why there is none.
type Ended<'py> = (Option<(Vec<u16>, Bound<'py, PyBytes>)>, Option<String>);

/// A client in a round: every call makes it anew from its key pair and its update, and gives the same bytes.
#[pyclass(frozen, module = "seccogc._native")]
struct Seat {
    exchange: Exchange,
    place: u16,
    update: Update,
    secrets: Secrets,
}

#[pymethods]
impl Seat {
    /// The client at `place` of a cohort with these weights and public keys, and its update, 32-bit floats in
    /// little-endian order. `context` is what all of the cohort must have seen alike.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "what a client knows of a round")]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, Resolved>,
        round: u64,
        weights: Vec<f64>,
        place: u16,
        public: Vec<[u8; 32]>,
        context: &[u8],
        keys: &Bound<'_, KeyPair>,
        update: &[u8],
    ) -> PyResult<Self> {
        same_process()?;
        let (config, keys) = (config.get().config(), &keys.get().0);
        py.detach(|| {
            let Some(&weight) = weights.get(usize::from(place)) else {
                return Err(Error::Refused(format!("place {place} of {} clients", weights.len())));
            };
            if public.len() != weights.len() {
                let (keys, clients) = (public.len(), weights.len());
                return Err(Error::Refused(format!("{keys} public keys of {clients} clients")));
            }
            let (words, rest) = update.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(Error::Refused(format!(
                    "an update of {} bytes is not of 32-bit floats",
                    update.len()
                )));
            }
            let delta: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            let exchange = Exchange::new(config, &weights, delta.len(), round)?;
            let secrets = keys.agree(place, &public, context)?;
            Ok(Self { exchange, place, update: Update { weight, delta: Arc::new(delta) }, secrets })
        })
        .raised(py)
    }

    /// Its sealed shares, by receiver.
    fn shares<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        same_process()?;
        let shares =
            py.detach(|| self.exchange.shares(self.place, &self.update, &self.secrets)).raised(py)?;
        let dict = PyDict::new(py);
        for (to, sealed) in shares {
            dict.set_item(to, PyBytes::new(py, &sealed))?;
        }
        Ok(dict)
    }

    /// Its sum from the sealed shares that came, by sender; None where some are missing that it needs. And
    /// whose shares were refused, with the rule.
    fn sum<'py>(&self, py: Python<'py>, shares: BTreeMap<u16, PyBackedBytes>) -> PyResult<Sum<'py>> {
        same_process()?;
        let Summed { sum, refused } = py
            .detach(|| {
                let arrived = shares.iter().map(|(from, sealed)| (*from, &sealed[..]));
                self.exchange.sum(self.place, &self.update, &self.secrets, arrived)
            })
            .raised(py)?;
        Ok((sum.map(|bytes| PyBytes::new(py, &bytes)), refused))
    }
}

/// The server in a round.
#[pyclass(frozen, module = "seccogc._native")]
struct Decoder(Mutex<Option<exchange::Decoder>>);

#[pymethods]
impl Decoder {
    /// The server of a cohort with these weights, whose updates have `coordinates` coordinates.
    #[new]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, Resolved>,
        round: u64,
        weights: Vec<f64>,
        coordinates: usize,
    ) -> PyResult<Self> {
        same_process()?;
        let config = config.get().config();
        let decoder =
            py.detach(|| Ok(Exchange::new(config, &weights, coordinates, round)?.decoder())).raised(py)?;
        Ok(Self(Mutex::new(Some(decoder))))
    }

    /// Takes the sum of the client at `place`; an error says which rule it breaks.
    fn admit(&self, py: Python<'_>, place: u16, sum: &[u8]) -> PyResult<()> {
        same_process()?;
        py.detach(|| match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(decoder) => decoder.admit(place, sum).map_err(Error::Refused),
            None => Err(over()),
        })
        .raised(py)
    }

    /// The places of the clients in the sum, and the sum, 64-bit floats in little-endian order. In an outage
    /// its reason. Only once.
    fn decode<'py>(&self, py: Python<'py>) -> PyResult<Ended<'py>> {
        same_process()?;
        let decoded = py
            .detach(|| {
                let decoder = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                Ok(decoder.ok_or_else(over)?.decode())
            })
            .raised(py)?;
        match decoded {
            Decoded::Sum { sum, included, .. } | Decoded::Estimate { sum, included } => {
                let bytes = PyBytes::new_with(py, 8 * sum.len(), |bytes| {
                    let (places, _) = bytes.as_chunks_mut::<8>();
                    places.iter_mut().zip(&sum).for_each(|(place, x)| *place = x.to_le_bytes());
                    Ok(())
                })?;
                Ok((Some((included, bytes)), None))
            }
            Decoded::Outage(reason) => Ok((None, Some(reason.to_string()))),
        }
    }
}

fn over() -> Error {
    Error::Refused("this round is decoded already".into())
}

/// The links of a configuration, whose losses follow from its seed: those of a run with it.
#[pyclass(frozen, module = "seccogc._native")]
struct Links(Network);

#[pymethods]
impl Links {
    #[new]
    fn new(py: Python<'_>, config: &Bound<'_, Resolved>) -> PyResult<Self> {
        same_process()?;
        let config = config.get().config();
        py.detach(|| config.links()).map(Self).raised(py)
    }

    /// Whether a message of so many bytes arrives in `round`, from 1: a share of client `sender` for client
    /// `receiver`, or its sum for the server, None.
    #[pyo3(signature = (round, sender, receiver, bytes))]
    fn delivers(&self, round: u64, sender: u32, receiver: Option<u32>, bytes: u64) -> bool {
        let (from, to) = (Node::Client(sender), receiver.map_or(Node::Server, Node::Client));
        self.0.delivers(LinkUse { round, attempt: 0, transfer: 0, from, to, bytes })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<KeyPair>()?;
    module.add_class::<Seat>()?;
    module.add_class::<Decoder>()?;
    module.add_class::<Links>()
}
