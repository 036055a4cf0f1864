//! The aggregation layer alone.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::message::Decoded;
use seccogc::network::Network;
use seccogc::plan;
use seccogc::protocol::{Aggregate, Aggregator as Scheme, Update};
use seccogc::seed::Seed;

use crate::config::Resolved;
use crate::errors::{Raised, same_process};
use crate::vector::{Numbers, Vector};
use crate::work;

/// What decides a scheme beside the configuration: the number of coordinates, the largest weight.
type Size = (usize, u64);

/// A protocol among all clients of a configuration.
#[pyclass(frozen, module = "seccogc._native")]
pub struct Aggregator {
    config: Config,
    links: Network,
    /// The schemes of the sizes that were met last.
    built: Mutex<Vec<(Size, Arc<dyn Scheme>)>>,
}

/// Schemes that are kept.
const KEPT: usize = 4;

impl Aggregator {
    fn scheme(&self, coordinates: usize, weight: f64) -> Result<Arc<dyn Scheme>> {
        let size = (coordinates, weight.to_bits());
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, scheme)) = built.iter().find(|(known, _)| *known == size) {
            return Ok(Arc::clone(scheme));
        }
        let Self { config, .. } = self;
        let tolerance = config.outage.recovery_tolerance;
        let public = Public { clip: None, weight, coordinates: Some(coordinates), tolerance, noise: None };
        let protocol = plan::resolve(&config.protocol, config, coordinates)?;
        let seed = Seed::new(config.seed).child("protocol", 0);
        let scheme = protocol.build_for(config.clients, seed, &public);
        let scheme: Arc<dyn Scheme> = scheme.map_err(|error| error.within("protocol"))?.into();
        built.truncate(KEPT - 1);
        built.insert(0, (size, Arc::clone(&scheme)));
        Ok(scheme)
    }

    fn aggregate(&self, round: u64, updates: Vec<Update>) -> Result<Aggregate> {
        let Config { clients, .. } = self.config;
        if updates.len() != clients {
            let rule = format!("{} updates for {clients} clients; give one of each", updates.len());
            return Err(Error::Refused(rule));
        }
        for (k, Update { weight, delta }) in updates.iter().enumerate() {
            if !(weight.is_finite() && *weight > 0.0) {
                let rule = format!("the weight {weight} of client {k} must be a finite number above 0");
                return Err(Error::Refused(rule));
            }
            if let Some(i) = delta.iter().position(|x| !x.is_finite()) {
                let rule =
                    format!("the update of client {k} is not finite at coordinate {i}; nothing was sent");
                return Err(Error::Refused(rule));
            }
        }
        let weight = updates.iter().map(|update| update.weight).fold(0.0, f64::max);
        let coordinates = updates.first().map_or(0, |update| update.delta.len());
        if let Some(k) = updates.iter().position(|update| update.delta.len() != coordinates) {
            let own = updates[k].delta.len();
            let rule =
                format!("client {k} has {own} coordinates and client 0 {coordinates}; make them equal");
            return Err(Error::Refused(rule));
        }
        let scheme = self.scheme(coordinates, weight)?;
        if scheme.holders().is_some() {
            let rule = format!(
                "{} replicates the clients' examples, of which an aggregator knows nothing; take another protocol",
                self.config.protocol.kind()
            );
            return Err(Error::config("protocol.kind", rule));
        }
        scheme.aggregate(round, &updates, &self.links, self.config.outage.attempts())
    }
}

#[pymethods]
impl Aggregator {
    #[new]
    fn new(py: Python<'_>, config: &Bound<'_, Resolved>) -> PyResult<Self> {
        same_process()?;
        let config = config.get().config().clone();
        let links = config.links().raised(py)?;
        let own = Self { config, links, built: Mutex::default() };
        py.detach(|| own.scheme(1, 1.0)).raised(py)?;
        Ok(own)
    }

    /// Sums weighted updates of a round: what was decoded as a dictionary, with or without a `sum`.
    #[pyo3(name = "aggregate")]
    fn play<'py>(
        &self,
        py: Python<'py>,
        round: u64,
        updates: Vec<Bound<'py, Vector>>,
        weights: Vec<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        same_process()?;
        let taken = updates
            .iter()
            .zip(weights)
            .map(|(update, weight)| Ok(Update { weight, delta: Arc::new(update.get().take()?) }));
        let taken: Vec<Update> = taken.collect::<PyResult<_>>()?;
        let played = py.detach(|| self.aggregate(round, taken));
        work::log(py)?;
        let Aggregate { decoded, attempts, arrivals, traffic, seconds, lost, .. } = played.raised(py)?;
        let bytes = [
            ("client_client", traffic.client_client),
            ("client_server", traffic.client_server),
            ("client_helper", traffic.client_helper),
            ("helper_helper", traffic.helper_helper),
            ("helper_server", traffic.helper_server),
        ];
        let bytes = bytes.into_iter().filter(|(way, bytes)| !way.contains("helper") || *bytes > 0);
        let found = PyDict::new(py);
        found.set_item("attempts", attempts)?;
        found.set_item("arrivals", arrivals)?;
        found.set_item("bytes", bytes.collect::<Vec<_>>().into_py_dict(py)?)?;
        found.set_item("seconds", seconds)?;
        found.set_item("reason", decoded.reason().map(|reason| reason.to_string()))?;
        found.set_item("exact", matches!(decoded, Decoded::Sum { .. }))?;
        found.set_item("saturated", lost.map(|lost| lost.saturated))?;
        found.set_item("underflowed", lost.map(|lost| lost.underflowed))?;
        found.set_item("included", decoded.included().to_vec())?;
        if let Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. } = decoded {
            found.set_item("sum", Vector::new(Numbers::Double(sum)).into_pyobject(py)?)?;
        }
        Ok(found)
    }

    /// Whose updates each row of the code holds; `None` without a code.
    fn code(&self, py: Python<'_>) -> PyResult<Option<Vec<Vec<usize>>>> {
        let scheme = self.scheme(1, 1.0).raised(py)?;
        let rows = scheme.code().map(|code| (0..code.clients()).map(|row| code.support(row).to_vec()));
        Ok(rows.map(Iterator::collect))
    }

    /// Keys, code, tolerance and σ by name.
    fn scheme_of(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let built = self.scheme(1, 1.0).raised(py)?;
        let scheme = built.scheme();
        let about = PyDict::new(py);
        about.set_item("kind", self.config.protocol.kind())?;
        about.set_item("keys", &scheme.keys)?;
        about.set_item("code", &scheme.code)?;
        about.set_item("stragglers", scheme.stragglers)?;
        about.set_item("key_std", scheme.key_std)?;
        about.set_item("least_included", scheme.least_included)?;
        Ok(about.unbind())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Aggregator>()
}
