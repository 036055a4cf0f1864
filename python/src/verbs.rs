//! The verbs over a configuration. Tables are handed over as CSV, which Python parses once.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use seccogc::audit::{Audit, Entry};
use seccogc::audits::{Losses, Subject};
use seccogc::config::Config;
use seccogc::data::{DatasetName, data_dir, fetch};
use seccogc::error::{Error, Result};
use seccogc::inference::{Format, TrainedModel, Which};
use seccogc::learn::Device;
use seccogc::record::{Played, kept_seeds, to_csv};
use seccogc::report::{audit_table, plot_run};
use seccogc::sweep::{Over, Plan, Sweep, SweepRun, Watch as SweepWatch, results};
use seccogc::train::Setting;
use seccogc::verbs::{self, Recovery, Size, Step, Watch};
use serde_json::json;

use crate::config::Resolved;
use crate::errors::{Raised, raise};
use crate::work::{self, Any, Caller, Hooks};

/// A listener of a verb that passes everything on to the caller.
fn told(caller: &Caller<'_>, step: &Step<'_>) -> Result<()> {
    caller.tell(json!({ "place": step.place, "total": step.total, "text": step.what }).to_string())
}

/// `recover.csv` of a grid: the values of a key, each with its configuration, and tolerances.
#[pyfunction]
#[pyo3(signature = (title, key, columns, stragglers, rounds, parameters, out, progress, stop))]
#[expect(clippy::too_many_arguments, reason = "the flags of the verb")]
fn recover<'py>(
    py: Python<'py>,
    title: String,
    key: String,
    columns: Vec<(String, Bound<'py, Resolved>)>,
    stragglers: Vec<usize>,
    rounds: Option<u64>,
    parameters: Option<usize>,
    out: PathBuf,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let columns = columns.into_iter().map(|(value, one)| (value, one.get().config().clone())).collect();
    let grid = Recovery { title, key, columns, stragglers, rounds };
    let csv = work::run(py, &Hooks { progress, stop }, |caller| {
        let mut hear = |step: &Step<'_>| told(caller, step);
        let mut watch = Watch { stop: caller.stop(), hear: &mut hear };
        let rows = grid.rows(&mut Size::new(parameters, None), &mut watch)?;
        Ok(grid.write(&rows, &out)?.csv)
    })?;
    Ok(PyBytes::new(py, &csv))
}

/// The table of `plan` as CSV.
#[pyfunction]
#[pyo3(signature = (config, attempts, rounds, parameters, progress, stop))]
fn plan<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    attempts: Vec<u32>,
    rounds: u64,
    parameters: Option<usize>,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let config = config.get().config();
    let csv = work::run(py, &Hooks { progress, stop }, |caller| {
        let mut hear = |step: &Step<'_>| told(caller, step);
        let mut watch = Watch { stop: caller.stop(), hear: &mut hear };
        let mut size = Size::new(parameters, None);
        to_csv(&verbs::plan(config, &mut size, &attempts, rounds, &mut watch)?)
    })?;
    Ok(PyBytes::new(py, &csv))
}

/// An audit: its entries as CSV, a text of each protocol, its findings, and the bounds that are exceeded.
type Audited<'py> = (Bound<'py, PyBytes>, Vec<String>, Vec<String>, Vec<String>);

#[pyfunction]
#[pyo3(signature = (config, coalition, all_coalitions, erasures, progress, stop))]
fn audit<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    coalition: Option<String>,
    all_coalitions: usize,
    erasures: String,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<Audited<'py>> {
    let config = config.get().config();
    let (csv, texts, findings, exceeded) = work::run(py, &Hooks { progress, stop }, |caller| {
        let subject = Subject::new(config, Size::default().of(config)?)?.with_stop(caller.stop());
        let adversaries = subject.adversaries(coalition.as_deref(), all_coalitions)?;
        let audits = subject.audits(&adversaries, &Losses::named(&erasures), &mut |place, total, what| {
            told(caller, &Step { place, total, what })
        })?;
        let entries: Vec<&Entry> = audits.iter().flat_map(|audit| &audit.entries).collect();
        let texts: Vec<String> = audits.iter().map(|audit| audit_table(audit, &subject.cases()[0])).collect();
        let finding = |audit: &Audit| -> Vec<String> {
            audit.findings.iter().map(|finding| format!("{}: {finding}", audit.protocol)).collect()
        };
        let findings: Vec<String> = audits.iter().flat_map(finding).collect();
        Ok((to_csv(&entries)?, texts, findings, subject.exceeded(&audits)))
    })?;
    Ok((PyBytes::new(py, &csv), texts, findings, exceeded))
}

/// The smallest keys that keep the bounds of `[privacy]`, as CSV.
#[pyfunction]
#[pyo3(signature = (config, coalition, all_coalitions, stop))]
fn calibrate<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    coalition: Option<String>,
    all_coalitions: usize,
    stop: Any<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let config = config.get().config();
    let csv = work::run(py, &Hooks { progress: None, stop }, |caller| {
        let subject = Subject::new(config, Size::default().of(config)?)?.with_stop(caller.stop());
        let adversaries = subject.adversaries(coalition.as_deref(), all_coalitions)?;
        to_csv(&subject.sufficient(&adversaries)?)
    })?;
    Ok(PyBytes::new(py, &csv))
}

/// `accuracy_privacy.csv` of a study in a folder; without seeds the folder's own, which goes on.
#[pyfunction]
#[pyo3(signature = (config, seeds, device, out, progress, stop))]
fn privacy<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    seeds: Option<Vec<u64>>,
    device: String,
    out: PathBuf,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let config = config.get().config();
    let csv = work::run(py, &Hooks { progress, stop }, |caller| {
        let device: Device = device.parse()?;
        let resume = seeds.is_none();
        let seeds = seeds.map_or_else(|| kept_seeds(&out), Ok)?;
        let mut hear = |step: &Step<'_>| told(caller, step);
        let mut watch = Watch { stop: caller.stop(), hear: &mut hear };
        Ok(verbs::privacy(config, &seeds, &device, &out, resume, &mut watch)?.csv)
    })?;
    Ok(PyBytes::new(py, &csv))
}

/// `membership.csv` of an attack in a folder.
#[pyfunction]
#[pyo3(signature = (config, device, out, resume, progress, stop))]
fn attack<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    device: String,
    out: PathBuf,
    resume: bool,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    let config = config.get().config();
    let csv = work::run(py, &Hooks { progress, stop }, |caller| {
        let setting = Setting::build(config, device.parse()?)?;
        let mut hear = |step: &Step<'_>| told(caller, step);
        let mut watch = Watch { stop: caller.stop(), hear: &mut hear };
        Ok(verbs::attack(config, setting, &out, resume, &mut watch)?.csv)
    })?;
    Ok(PyBytes::new(py, &csv))
}

/// Draws every run of a sweep that ends, and tells of it.
struct Drawing<'a> {
    caller: &'a Caller<'a>,
    /// Runs of the sweep.
    all: usize,
    over: AtomicUsize,
    /// Runs that end together are told in the order of their numbers.
    turn: Mutex<()>,
}

impl SweepWatch for Drawing<'_> {
    fn rounds(&self, _: &SweepRun, _: u64) -> Result<()> {
        Ok(())
    }

    fn stop(&self) -> &AtomicBool {
        self.caller.stop()
    }

    fn over(&self, run: &SweepRun, how: &Over<'_>) -> Result<()> {
        plot_run(how.played, &run.folder.to_string_lossy(), &how.folder.join("accuracy"))?;
        let _turn = self.turn.lock();
        let place = self.over.fetch_add(1, Ordering::Relaxed) + 1;
        let step = Step { place, total: self.all, what: &run.folder.to_string_lossy() };
        told(self.caller, &step)
    }
}

/// Executes a sweep, or one of its parts (I of N, I from 1), into a folder, and gathers the results. Returns
/// whether they are all there.
#[pyfunction]
#[pyo3(signature = (config, name, device, out, resume, shard, jobs, progress, stop))]
#[expect(clippy::too_many_arguments, reason = "the flags of the verb")]
fn sweep<'py>(
    py: Python<'py>,
    config: &Bound<'py, Resolved>,
    name: String,
    device: String,
    out: PathBuf,
    resume: bool,
    shard: Option<(usize, usize)>,
    jobs: Option<usize>,
    progress: Any<'py>,
    stop: Any<'py>,
) -> PyResult<bool> {
    let (config, beside) = (config.get().config(), config.get().folder().to_owned());
    work::run(py, &Hooks { progress, stop }, |caller| {
        let sweep = Sweep::of(config, &beside)?;
        let (part, of) = shard.unwrap_or((1, 1));
        if !(1..=of).contains(&part) {
            return Err(Error::Refused(format!("shard ({part}, {of}): give it as (I, N) with 1 ≤ I ≤ N")));
        }
        let plan = Plan::new(&sweep, &out, device.parse()?, (part - 1, of))?;
        verbs::begin_sweep(config, &out, resume || shard.is_some())?;
        let over = AtomicUsize::new(plan.finished());
        let watch = Drawing { caller, all: plan.runs(), over, turn: Mutex::new(()) };
        plan.execute(jobs.unwrap_or_else(|| plan.jobs()), &watch)?;
        let (done, open) = results::finished(&sweep, &out)?;
        if shard.is_some() && !open.is_empty() {
            return Ok(false);
        }
        verbs::gather_sweep(&sweep, &done, &out, &name)?;
        Ok(true)
    })
}

/// Values, their shape, and classes, or so many responses for each example.
type Examples<'py> = (Bound<'py, PyByteArray>, [usize; 4], Bound<'py, PyByteArray>, usize);

fn examples<'py>(py: Python<'py>, (values, shape, labels, each): &Loaded) -> Examples<'py> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    (PyByteArray::new(py, &bytes), *shape, PyByteArray::new(py, labels), *each)
}

type Loaded = (Vec<f32>, [usize; 4], Vec<u8>, usize);

/// Classes of 16 bits, or responses of 64 and how many an example has.
fn labels(examples: &seccogc::data::Examples) -> (Vec<u8>, usize) {
    let responses = |i| examples.responses(i).iter().flat_map(|x| x.to_ne_bytes());
    match (examples.len(), examples.labels()) {
        (1.., []) => ((0..examples.len()).flat_map(responses).collect(), examples.responses(0).len()),
        (_, classes) => (classes.iter().flat_map(|label| label.to_ne_bytes()).collect(), 0),
    }
}

/// The training and test examples of `[data]`, as the models see them, in single precision, and what is to be
/// told of them.
#[pyfunction]
fn data<'py>(py: Python<'py>, config: &Bound<'py, Resolved>) -> PyResult<(Examples<'py>, Examples<'py>)> {
    let config: &Config = config.get().config();
    let (train, test) = work::run(py, &Hooks::default(), |_| {
        let dataset = config.data.load().map_err(|error| error.within("data"))?;
        let load = |examples: &seccogc::data::Examples| -> Loaded {
            let all: Vec<usize> = (0..examples.len()).collect();
            let mut values = Vec::new();
            examples.extend_batch(&all, &dataset.normalisation, &mut values);
            let [channels, height, width] = examples.shape();
            let (labels, each) = labels(examples);
            (values, [examples.len(), channels, height, width], labels, each)
        };
        Ok((load(&dataset.train), load(&dataset.test)))
    })?;
    Ok((examples(py, &train), examples(py, &test)))
}

/// The training examples of every client, by their places in the training data.
#[pyfunction]
fn shards(py: Python<'_>, config: &Bound<'_, Resolved>) -> PyResult<Vec<Vec<usize>>> {
    let config = config.get().config();
    work::run(py, &Hooks::default(), |_| {
        seccogc::train::shards(config, &config.data.load().map_err(|error| error.within("data"))?)
    })
}

/// Brings a published dataset into a folder; says where it is.
#[pyfunction(name = "fetch")]
#[pyo3(signature = (name, dir, quiet))]
fn fetched(py: Python<'_>, name: &str, dir: Option<PathBuf>, quiet: bool) -> PyResult<String> {
    let Some(name) = DatasetName::ALL.into_iter().find(|known| known.as_str() == name) else {
        let known = DatasetName::ALL.map(DatasetName::as_str).join(", ");
        return Err(raise(py, Error::Refused(format!("no dataset `{name}`; take one of {known}"))));
    };
    let report = work::run(py, &Hooks::default(), |_| fetch::fetch(name, &data_dir(dir.as_deref()), quiet))?;
    Ok(report.to_string())
}

/// Draws the figure of a run folder.
pub fn drawn(run: &Path, title: &str) -> Result<()> {
    plot_run(&Played::read(run)?, title, &run.join("accuracy"))
}

/// Draws the figure of a run folder again.
#[pyfunction]
fn draw(py: Python<'_>, run: PathBuf, title: String) -> PyResult<()> {
    py.detach(|| drawn(&run, &title)).raised(py)
}

/// The model of a run folder, the last or the best one, as a file of the kind that its extension names.
#[pyfunction]
fn export<'py>(py: Python<'py>, run: PathBuf, extension: &str, best: bool) -> PyResult<Bound<'py, PyBytes>> {
    let known = [Format::Safetensors, Format::Npz, Format::Onnx, Format::Csv];
    let Some(format) = known.into_iter().find(|known| known.extension() == extension) else {
        let known = known.map(Format::extension).join(", ");
        return Err(raise(
            py,
            Error::Refused(format!("no kind of model file `{extension}`; take one of {known}")),
        ));
    };
    let bytes = work::run(py, &Hooks::default(), |_| {
        let which = if best { Which::Best } else { Which::Last };
        TrainedModel::load(&run, which, "cpu".parse()?, None)?.export(format)
    })?;
    Ok(PyBytes::new(py, &bytes))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(recover, module)?)?;
    module.add_function(wrap_pyfunction!(plan, module)?)?;
    module.add_function(wrap_pyfunction!(audit, module)?)?;
    module.add_function(wrap_pyfunction!(calibrate, module)?)?;
    module.add_function(wrap_pyfunction!(privacy, module)?)?;
    module.add_function(wrap_pyfunction!(attack, module)?)?;
    module.add_function(wrap_pyfunction!(sweep, module)?)?;
    module.add_function(wrap_pyfunction!(data, module)?)?;
    module.add_function(wrap_pyfunction!(shards, module)?)?;
    module.add_function(wrap_pyfunction!(fetched, module)?)?;
    module.add_function(wrap_pyfunction!(draw, module)?)?;
    module.add_function(wrap_pyfunction!(export, module)?)
}
