//! Configurations: what Python says → what is written → what is valid.

use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyMapping, PySequence, PyString};
use seccogc::Error;
use seccogc::config::{Config, Set, Written, Wrong, explain, schema};
use toml::{Table, Value};

use crate::errors::{Raised, made, raise, same_process};
use crate::work;

/// A configuration that was checked: what is written in it, its folder, and the file it came from.
#[pyclass(frozen, module = "seccogc._native")]
pub struct Resolved {
    written: Written,
    config: Config,
    #[pyo3(get)]
    folder: PathBuf,
}

#[pymethods]
impl Resolved {
    /// The keys that were written, as TOML.
    fn written(&self, py: Python<'_>) -> PyResult<String> {
        self.written.to_toml().raised(py)
    }

    /// The file of a run: every key, as TOML, with paths that hold anywhere; that of a sweep as it was written.
    fn toml(&self, py: Python<'_>) -> PyResult<String> {
        self.config.to_toml().raised(py)
    }

    /// Every key, as TOML, with paths that hold anywhere.
    fn values(&self, py: Python<'_>) -> PyResult<String> {
        let no_form = |error| Error::Refused(format!("the configuration has no TOML form: {error}"));
        toml::to_string(&self.config).map_err(no_form).raised(py)
    }
}

impl Resolved {
    /// The checked configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder that paths in it are relative to.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}

/// Reads a configuration: from a file, a mapping, the TOML of another one or nothing, with `sets` as `--set`
/// and values at dotted keys.
#[pyfunction]
#[pyo3(signature = (source, folder, sets, values))]
fn config(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    folder: PathBuf,
    sets: Vec<String>,
    values: &Bound<'_, PyDict>,
) -> PyResult<Resolved> {
    same_process()?;
    let written = if let Ok(resolved) = source.cast::<Resolved>() {
        resolved.get().written.clone()
    } else if source.cast::<PyMapping>().is_ok() {
        Written::new(table(source, "")?, &folder)
    } else {
        let path: PathBuf = source.extract()?;
        Written::load(&path).raised(py)?
    };
    let mut all = sets.iter().map(|set| Set::parse(set)).collect::<seccogc::Result<Vec<_>>>().raised(py)?;
    for (key, value) in leaves(values, "")? {
        all.push(Set::new(key, value));
    }
    let read = py.detach(|| written.read(&all));
    work::log(py)?;
    match read {
        Ok((config, written)) => Ok(Resolved { written, config, folder }),
        Err(wrong) => Err(is_wrong(py, wrong)),
    }
}

/// The exception of a wrong value, whoever wrote it.
fn is_wrong(py: Python<'_>, wrong: Wrong) -> PyErr {
    let (key, rule) = (wrong.key.clone(), wrong.rule.clone());
    let line = Error::from(wrong).line();
    made(py, "ConfigError", (line, key, rule)).unwrap_or_else(|failure| failure)
}

/// The reference of all keys, or of a section or key.
#[pyfunction(name = "explain")]
fn explained(py: Python<'_>, section: &str) -> PyResult<String> {
    explain(section).raised(py)
}

/// The JSON schema of all keys, as JSON.
#[pyfunction(name = "schema")]
fn schema_text() -> String {
    schema().to_string()
}

/// The values of nested mappings at dotted keys.
fn leaves(values: &Bound<'_, PyAny>, path: &str) -> PyResult<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for (key, value) in items(values, path)? {
        let path = join(path, &key);
        match value.cast::<PyMapping>() {
            // The keys of a grid are dotted themselves.
            Ok(section) if items(section, &path)?.iter().all(|(key, _)| !key.contains('.')) => {
                found.extend(leaves(section, &path)?);
            }
            _ => found.push((path.clone(), toml_value(&value, &path)?)),
        }
    }
    Ok(found)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn items<'py>(mapping: &Bound<'py, PyAny>, path: &str) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
    let mapping = mapping.cast::<PyMapping>()?;
    let mut found = Vec::new();
    for item in mapping.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(key) = key.extract::<String>() else {
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            return Err(PyTypeError::new_err(format!("{place}the key {} is no text", key.repr()?)));
        };
        found.push((key, value));
    }
    Ok(found)
}

fn table(mapping: &Bound<'_, PyAny>, path: &str) -> PyResult<Table> {
    let value = |(key, value): (String, Bound<'_, PyAny>)| {
        let path = join(path, &key);
        Ok((key, toml_value(&value, &path)?))
    };
    items(mapping, path)?.into_iter().map(value).collect()
}

/// A value of Python as one of TOML; numbers may be NumPy's.
fn toml_value(value: &Bound<'_, PyAny>, path: &str) -> PyResult<Value> {
    let py = value.py();
    let refuse = |what: &str| {
        let rule = format!("{what}; give text, a number, True, False, a list or a mapping");
        raise(py, Error::config(path, rule))
    };
    if value.is_none() {
        return Err(refuse("None is no value, and a key that is left away has its default"));
    }
    if let Ok(value) = value.cast::<PyBool>() {
        return Ok(Value::Boolean(value.is_true()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(text.to_str()?.to_owned()));
    }
    if value.cast::<PyMapping>().is_ok() {
        return table(value, path).map(Value::Table);
    }
    if value.cast::<PyFloat>().is_ok() {
        return Ok(Value::Float(value.extract()?));
    }
    if value.cast::<PyInt>().is_ok() || value.hasattr("__index__")? {
        let index = value.call_method0("__index__");
        if let Ok(index) = index {
            let whole = index.extract::<i64>();
            return whole.map(Value::Integer).map_err(|_| refuse("a whole number beyond 64 bits"));
        }
    }
    if let Ok(items) = value.cast::<PySequence>() {
        let mut list = Vec::new();
        for (i, item) in items.try_iter()?.enumerate() {
            list.push(toml_value(&item?, &format!("{path}[{i}]"))?);
        }
        return Ok(Value::Array(list));
    }
    if let Ok(path) = value.call_method0("__fspath__") {
        return Ok(Value::String(path.extract()?));
    }
    if let Ok(plain) = value.call_method0("tolist") {
        return toml_value(&plain, path);
    }
    if value.hasattr("__float__")? {
        return Ok(Value::Float(value.extract()?));
    }
    Err(refuse(&format!("a {} is no value", value.get_type().name()?)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Resolved>()?;
    module.add_function(wrap_pyfunction!(config, module)?)?;
    module.add_function(wrap_pyfunction!(explained, module)?)?;
    module.add_function(wrap_pyfunction!(schema_text, module)?)
}
