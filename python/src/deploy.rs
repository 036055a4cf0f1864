//! Parties of a deployment: a server and clients whose models are of Python, and certificates.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use seccogc::deploy::policy::Policy;
use seccogc::deploy::{self, Begin, LocalWork, Work, pki};
use seccogc::error::{Error, Result};
use seccogc::train::{Crew, Experiment, Run, State, Tested, Trained, Turn};

use crate::config::Resolved;
use crate::errors::Raised;
use crate::train::{Own, Rounds, ended, seed, tested, titled};
use crate::vector::{Numbers, Vector};
use crate::verbs::drawn;
use crate::work::{self, Any, Caller, Hooks};

/// The tests of a server, which the caller's thread carries out. Clients train elsewhere.
struct Tests<'a> {
    own: &'a Own,
    caller: &'a Caller<'a>,
}

impl Crew for Tests<'_> {
    fn train(&self, _: &Run<'_>, _: &State, _: &[u32]) -> Result<Vec<Trained>> {
        Err(Error::Refused("the clients of a deployment train themselves".into()))
    }

    fn test(&self, _: &Run<'_>, round: u64, parameters: &[f32]) -> Result<Tested> {
        let (own, parameters) = (self.own.again(), parameters.to_vec());
        self.caller.call(move |py| tested(py, &own, round, parameters))
    }
}

/// Serves a run of a model of Python into the folder `out`, or with `resume` the rest of the one there.
#[pyfunction]
#[pyo3(signature = (config, learner, out, resume, progress, stop))]
fn serve(
    py: Python<'_>,
    config: &Bound<'_, Resolved>,
    learner: Bound<'_, PyAny>,
    out: PathBuf,
    resume: bool,
    progress: Any<'_>,
    stop: Any<'_>,
) -> PyResult<()> {
    let config = config.get().config();
    let own = Own::new(learner.unbind());
    let elsewhere = own.elsewhere(config).raised(py)?;
    let end = work::run(py, &Hooks { progress, stop }, |caller| {
        deploy::server::check(config)?;
        let setting = Experiment::new(config.clone()).elsewhere(elsewhere).build()?;
        let crew = Tests { own: &own, caller };
        let run = setting.run(&config.protocol)?.with_crew(&crew);
        let begin = if resume { Begin::Resume(&out) } else { Begin::New(&out) };
        let mut rounds = Rounds::new("", config.rounds);
        let end = deploy::serve(&run, &begin, &mut |row| caller.tell(rounds.message(row)))?;
        drawn(&out, &titled(&out))?;
        Ok(end)
    });
    ended(end?).raised(py)
}

/// A client's training, which the caller's thread carries out.
struct Local<'a> {
    layers: Vec<(String, Vec<usize>)>,
    examples: usize,
    own: &'a Own,
    caller: &'a Caller<'a>,
}

impl LocalWork for Local<'_> {
    fn layers(&self) -> Vec<(String, Vec<usize>)> {
        self.layers.clone()
    }

    fn examples(&self) -> usize {
        self.examples
    }

    fn train(&self, turn: &Turn, global: Vec<f32>) -> Result<(Vec<f32>, Option<f64>)> {
        let (own, turn) = (self.own.again(), *turn);
        self.caller.call(move |py| {
            let vector = Bound::new(py, Vector::new(Numbers::Single(global)))?;
            let args = (turn.round, turn.client, seed(&turn), turn.factor, turn.rate, &vector);
            let loss = own.bind(py).call_method1("train_one", args)?.extract()?;
            Ok((vector.get().take()?, loss))
        })
    }
}

/// Takes part in a run until the server says that it is over.
#[pyfunction]
#[pyo3(signature = (server, name, learner, pki, listen, patience, policy, ledger, stop))]
#[expect(clippy::too_many_arguments, reason = "what the verb is told")]
fn join(
    py: Python<'_>,
    server: String,
    name: String,
    learner: Bound<'_, PyAny>,
    pki: PathBuf,
    listen: Option<String>,
    patience: f64,
    policy: Option<PathBuf>,
    ledger: Option<PathBuf>,
    stop: Any<'_>,
) -> PyResult<()> {
    let own = Own::new(learner.unbind());
    let (layers, examples) = own.shape().raised(py)?;
    let patience = Duration::try_from_secs_f64(patience)
        .map_err(|error| Error::Refused(format!("patience: {error}")))
        .raised(py)?;
    work::run(py, &Hooks { progress: None, stop }, |caller| {
        let policy = policy.as_deref().map(Policy::load).transpose()?.unwrap_or_default();
        let local = Local { layers, examples, own: &own, caller };
        let (work, stop) = (Work::Own(&local), caller.stop());
        deploy::join(&deploy::Join { server, name, pki, work, listen, patience, policy, ledger, stop })
    })
}

/// See `seccogc.pki`.
#[pyfunction]
fn pki_init(py: Python<'_>, folder: PathBuf, hosts: Vec<String>) -> PyResult<()> {
    py.detach(|| pki::init(&folder, &hosts)).raised(py)
}

/// See `seccogc.pki`.
#[pyfunction]
fn pki_issue(
    py: Python<'_>,
    folder: PathBuf,
    name: String,
    hosts: Vec<String>,
    days: Option<u16>,
) -> PyResult<()> {
    py.detach(|| pki::issue(&folder, &name, &hosts, days.unwrap_or(pki::DAYS))).raised(py)
}

/// See `seccogc.pki`.
#[pyfunction]
fn pki_revoke(py: Python<'_>, folder: PathBuf, name: String) -> PyResult<()> {
    py.detach(|| pki::revoke(&folder, &name)).raised(py)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(serve, module)?)?;
    module.add_function(wrap_pyfunction!(join, module)?)?;
    module.add_function(wrap_pyfunction!(pki_init, module)?)?;
    module.add_function(wrap_pyfunction!(pki_issue, module)?)?;
    module.add_function(wrap_pyfunction!(pki_revoke, module)?)
}
