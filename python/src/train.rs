//! The verbs `train` and `compare`: with the crate's own models beside a caller that listens, and with
//! learners of Python on the caller's own thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use rayon::prelude::*;
use seccogc::compare::{Over, Players, Watch, compare as play, path_of};
use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::learn::Device;
use seccogc::parallel::NEVER;
use seccogc::record::{End, Metrics, Outcome, Row, kept_seeds};
use seccogc::report::{Spread, plot_accuracy, plot_run};
use seccogc::train::{
    Alone, Crew, Elsewhere, Experiment, Run, Setting, State, Tested, Trained, Turn, last_weights,
};
use serde_json::{Value, json};

use crate::config::Resolved;
use crate::errors::{Raised, same_process};
use crate::vector::{Numbers, Vector};
use crate::verbs::drawn;
use crate::work::{self, Any, Hooks};

/// A learner of Python: `seccogc._learner.Work`. It is called on the thread that called the verb, between the
/// phases of a round.
pub struct Own(Arc<Py<PyAny>>);

/// What a call into Python raises ends the run, and is raised again.
fn own(error: PyErr) -> Error {
    Error::Own(Box::new(error))
}

/// Names and shapes of the parameters of a model, and the examples of a client.
#[cfg(feature = "deploy")]
type Shape = (Vec<(String, Vec<usize>)>, usize);

impl Own {
    /// A `seccogc._learner.Work`.
    pub fn new(work: Py<PyAny>) -> Self {
        Self(Arc::new(work))
    }

    /// The learner once more, for a call on another thread.
    #[cfg(feature = "deploy")]
    pub fn again(&self) -> Arc<Py<PyAny>> {
        Arc::clone(&self.0)
    }

    /// What a client of a deployment trains.
    #[cfg(feature = "deploy")]
    pub fn shape(&self) -> Result<Shape> {
        let Elsewhere { layers, examples, .. } = self.elsewhere(&Config::default())?;
        Ok((layers, examples.first().copied().unwrap_or(0)))
    }

    /// The setting of a configuration, with a start of its seed.
    fn setting(&self, config: &Config) -> Result<Setting> {
        Experiment::new(config.clone()).elsewhere(self.elsewhere(config)?).build()
    }

    /// Model and examples, with a start of the configuration's seed.
    pub fn elsewhere(&self, config: &Config) -> Result<Elsewhere> {
        let elsewhere = Python::attach(|py| -> PyResult<Elsewhere> {
            let work = self.0.bind(py);
            let start = work.call_method1("start", (config.seed,))?;
            let start = start.cast::<Vector>()?.get().take()?;
            let layers = work.getattr("layers")?.extract()?;
            let examples = work.getattr("examples")?.extract()?;
            Ok(Elsewhere { layers, start, examples })
        });
        elsewhere.map_err(own)
    }
}

/// How a model does, as the learner says.
pub fn tested(py: Python<'_>, learner: &Py<PyAny>, round: u64, parameters: Vec<f32>) -> PyResult<Tested> {
    let vector = Bound::new(py, Vector::new(Numbers::Single(parameters)))?;
    let (metrics, accuracies): (Metrics, Vec<f64>) =
        learner.bind(py).call_method1("test", (round, vector))?.extract()?;
    let mut tested = Tested { accuracies, ..Tested::default() };
    for (name, value) in metrics {
        match name.as_str() {
            "loss" => tested.loss = Some(value),
            "accuracy" => tested.accuracy = Some(value),
            _ => tested.metrics.push((name, value)),
        }
    }
    Ok(tested)
}

/// The seed of a client's turn, small enough for every library.
pub fn seed(turn: &Turn) -> u32 {
    turn.seed.word() as u32
}

/// What a client's training tells: its loss, if it has one, and whatever else it measured.
type Told = (Option<f64>, Metrics);

impl Crew for Own {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let starts: Vec<Vec<f32>> = members.par_iter().map(|&k| run.local_start(state, k)).collect();
        let turns: Vec<Turn> = members.iter().map(|&k| run.turn(state.round, k)).collect();
        let seeds: Vec<u32> = turns.iter().map(seed).collect();
        // All of a round train by the same ones.
        let (factor, rate) = turns.first().map_or((1.0, 0.0), |turn| (turn.factor, turn.rate));
        let trained = Python::attach(|py| -> PyResult<Vec<(Vec<f32>, Told)>> {
            let vectors = starts.into_iter().map(|start| Bound::new(py, Vector::new(Numbers::Single(start))));
            let vectors: Vec<Bound<'_, Vector>> = vectors.collect::<PyResult<_>>()?;
            let args = (state.round, members.to_vec(), seeds, factor, rate, PyList::new(py, &vectors)?);
            let told: Vec<Told> = self.0.bind(py).call_method1("train", args)?.extract()?;
            vectors.into_iter().zip(told).map(|(vector, told)| Ok((vector.get().take()?, told))).collect()
        });
        let send = |((model, (loss, metrics)), &k): ((Vec<f32>, Told), &u32)| {
            Trained::elsewhere(run.update(state, k, model), loss, metrics)
        };
        Ok(trained.map_err(own)?.into_par_iter().zip(members).map(send).collect())
    }

    fn test(&self, _: &Run<'_>, round: u64, parameters: &[f32]) -> Result<Tested> {
        Python::attach(|py| tested(py, &self.0, round, parameters.to_vec())).map_err(own)
    }
}

/// The state of a run for whoever watches it.
pub struct Rounds {
    label: String,
    total: u64,
    recovered: u64,
    accuracy: Option<f64>,
}

impl Rounds {
    pub fn new(label: &str, total: u64) -> Self {
        Self { label: label.into(), total, recovered: 0, accuracy: None }
    }

    fn before(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.take(row));
    }

    fn take(&mut self, row: &Row) {
        self.recovered += u64::from(row.outcome == Outcome::Recovered);
        self.accuracy = row.test_accuracy.or(self.accuracy);
    }

    /// What a caller hears of a round that is over.
    pub fn message(&mut self, row: &Row) -> String {
        self.take(row);
        let accuracy = self.accuracy.map_or_else(String::new, |a| format!("accuracy {:.2} %, ", 100.0 * a));
        let text = format!("{} {accuracy}recovered {}/{}", self.label, self.recovered, row.round);
        let mut known = json!(row);
        if let Value::Object(known) = &mut known {
            known.insert("name".into(), json!(self.label));
            known.extend(row.metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        }
        json!({ "place": row.round, "total": self.total, "text": text.trim_start(), "row": known })
            .to_string()
    }
}

/// Trains into a folder, which must be new or empty, or goes on in it.
fn train_into(
    run: &Run<'_>,
    folder: &Path,
    resume: bool,
    hear: &mut dyn FnMut(String) -> Result<()>,
) -> Result<End> {
    let (state, mut directory) = if resume { run.resume(folder)? } else { run.create(folder)? };
    let mut rounds = Rounds::new("", run.config().rounds);
    rounds.before(&directory.rows()?);
    let (_, end) = run.record(state, &mut directory, &mut |row| hear(rounds.message(row)))?;
    drawn(folder, &titled(folder))?;
    Ok(end)
}

/// What the figure of a run folder is called.
pub fn titled(folder: &Path) -> String {
    folder.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// The end of a run as one of the call: what diverged is raised.
pub fn ended(end: End) -> Result<()> {
    end.diverged.map_or(Ok(()), |diverged| Err(diverged.into()))
}

/// A caller of Python that hears messages on its own thread.
fn hear(progress: Option<&Py<PyAny>>, message: String) -> Result<()> {
    Python::attach(|py| -> PyResult<()> {
        py.check_signals()?;
        work::log(py)?;
        progress.map_or(Ok(()), |progress| progress.call1(py, (message,)).map(drop))
    })
    .map_err(own)
}

/// Work with a learner, on the caller's own thread, detached but for the calls into Python.
fn with_learner<T: Send>(
    py: Python<'_>,
    learner: Bound<'_, PyAny>,
    progress: Any<'_>,
    work: impl FnOnce(&Own, &mut dyn FnMut(String) -> Result<()>) -> Result<T> + Send,
) -> PyResult<T> {
    same_process()?;
    work::listen();
    let (crew, progress) = (Own::new(learner.unbind()), progress.map(Bound::unbind));
    let done = py.detach(|| work(&crew, &mut |message| hear(progress.as_ref(), message)));
    work::log(py)?;
    done.raised(py)
}

/// One run into the folder `out`, or with `resume` the rest of the one there.
#[pyfunction]
#[pyo3(signature = (config, learner, device, out, resume, progress, stop))]
#[expect(clippy::too_many_arguments, reason = "what the verb is told")]
fn train(
    py: Python<'_>,
    config: &Bound<'_, Resolved>,
    learner: Any<'_>,
    device: String,
    out: PathBuf,
    resume: bool,
    progress: Any<'_>,
    stop: Any<'_>,
) -> PyResult<()> {
    let config = config.get().config();
    let Some(learner) = learner else {
        let end = work::run(py, &Hooks { progress, stop }, |caller| {
            let setting = Setting::build(config, device.parse()?)?;
            let run = setting.run(&config.protocol)?.with_stop(caller.stop());
            train_into(&run, &out, resume, &mut |message| caller.tell(message))
        });
        return ended(end?).raised(py);
    };
    with_learner(py, learner, progress, |crew, hear| {
        let setting = crew.setting(config)?;
        let run = setting.run(&config.protocol)?.with_crew(crew);
        train_into(&run, &out, resume, hear).and_then(ended)
    })
}

/// Passes on what a comparison does, and draws each run that ends.
struct Passing<'a> {
    total: u64,
    rounds: Rounds,
    hear: &'a mut dyn FnMut(String) -> Result<()>,
}

impl Watch for Passing<'_> {
    fn begins(&mut self, _: &Setting) {}

    fn run(&mut self, label: &str, before: &[Row]) {
        self.rounds = Rounds::new(label, self.total);
        self.rounds.before(before);
    }

    fn round(&mut self, row: &Row) -> Result<()> {
        (self.hear)(self.rounds.message(row))
    }

    fn over(&mut self, how: &Over<'_>) -> Result<()> {
        plot_run(how.played, how.label, &how.folder.join("accuracy"))
    }
}

/// Names of the contenders, and their run directories with seed.
type Compared = Vec<(String, u64, PathBuf)>;

fn compare_into(
    config: &Config,
    seeds: &[u64],
    players: &Players<'_>,
    (out, resume): (&Path, bool),
    hear: &mut dyn FnMut(String) -> Result<()>,
) -> Result<Compared> {
    let total = config.rounds;
    let mut watch = Passing { total, rounds: Rounds::new("", total), hear };
    let found = play(config, seeds, players, out, resume, &mut watch)?;
    let title = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    plot_accuracy(&found.series, Spread::Deviation, &title, &out.join("comparison"))?;
    found.unless_all_diverged()?;
    let runs = config.compare.iter().flat_map(|contender| {
        let name = &contender.name;
        seeds.iter().map(move |&seed| (name.clone(), seed, path_of(out, name, seed)))
    });
    Ok(runs.collect())
}

/// The contenders of `[[compare]]` into the folder `out`; without seeds the rest of the comparison there.
#[pyfunction]
#[pyo3(signature = (config, learner, seeds, device, out, progress, stop))]
#[expect(clippy::too_many_arguments, reason = "what the verb is told")]
fn compare(
    py: Python<'_>,
    config: &Bound<'_, Resolved>,
    learner: Any<'_>,
    seeds: Option<Vec<u64>>,
    device: String,
    out: PathBuf,
    progress: Any<'_>,
    stop: Any<'_>,
) -> PyResult<Compared> {
    let config = config.get().config();
    let resume = seeds.is_none();
    let seeds = seeds.map_or_else(|| kept_seeds(&out), Ok).raised(py)?;
    let Some(learner) = learner else {
        return work::run(py, &Hooks { progress, stop }, |caller| {
            let device: Device = device.parse()?;
            let setting = |config: &Config| Setting::build(config, device.clone());
            let players = Players { setting: &setting, crew: &Alone, stop: caller.stop() };
            compare_into(config, &seeds, &players, (&out, resume), &mut |message| caller.tell(message))
        });
    };
    with_learner(py, learner, progress, |crew, hear| {
        let setting = |config: &Config| crew.setting(config);
        let players = Players { setting: &setting, crew, stop: &NEVER };
        compare_into(config, &seeds, &players, (&out, resume), hear)
    })
}

/// Names and shapes of the tensors of the last model of a run, and their numbers one after the other.
type Weights = (Vec<(String, Vec<usize>)>, Vector);

#[pyfunction]
fn weights(py: Python<'_>, run: PathBuf) -> PyResult<Weights> {
    let (_, weights) = py.detach(|| last_weights(&run)).raised(py)?;
    let shapes = weights.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
    let flat = weights.tensors.into_iter().flat_map(|tensor| tensor.values).collect();
    Ok((shapes, Vector::new(Numbers::Single(flat))))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(train, module)?)?;
    module.add_function(wrap_pyfunction!(weights, module)?)?;
    module.add_function(wrap_pyfunction!(compare, module)?)
}
