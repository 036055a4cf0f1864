//! Errors of the crate as exceptions, whose classes `seccogc/_errors.py` makes.

use std::sync::OnceLock;

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use seccogc::Error;

/// The process that loaded this: its threads are not those of a forked child.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Takes this process for the one whose threads work.
pub fn remember_process() {
    let _ = PROCESS.set(std::process::id());
}

/// Refuses a forked child, in which the parent's threads are missing and all work would wait for ever.
///
/// # Errors
/// A `RuntimeError` of one line.
pub fn same_process() -> PyResult<()> {
    match PROCESS.get() {
        Some(&own) if own != std::process::id() => Err(PyRuntimeError::new_err(
            "seccogc cannot work in a forked process, which has none of its threads; start processes with spawn or forkserver",
        )),
        _ => Ok(()),
    }
}

/// The exception that an error of the crate is, with the one line that the program prints. An exception of
/// the user's own code comes back as it was raised.
pub fn raise(py: Python<'_>, error: Error) -> PyErr {
    let line = error.line();
    let made = match error {
        Error::Own(own) => match own.downcast::<PyErr>() {
            Ok(raised) => return *raised,
            Err(_) => made(py, "Error", (line,)),
        },
        Error::Config { key, rule } | Error::NoCode { key, rule } => {
            made(py, "ConfigError", (line, key, rule))
        }
        Error::File { path, .. } => made(py, "FileError", (line, path)),
        Error::Diverged { diverged, .. } => {
            made(py, "DivergedError", (line, diverged.round, diverged.what.to_string()))
        }
        Error::Io { action, path, source } => match source.raw_os_error() {
            Some(number) => {
                let text = format!("cannot {action}: {source}");
                Ok(PyOSError::new_err((number, text, path.into_os_string())))
            }
            None => Ok(PyOSError::new_err(line)),
        },
        Error::Stopped => Ok(PyKeyboardInterrupt::new_err(line)),
        _ => made(py, "Error", (line,)),
    };
    made.unwrap_or_else(|failure| failure)
}

/// An instance of one of the package's own classes.
pub fn made<A>(py: Python<'_>, class: &'static str, args: A) -> PyResult<PyErr>
where
    A: for<'py> pyo3::call::PyCallArgs<'py>,
{
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || PyModule::import(py, "seccogc._errors").map(Bound::unbind))?;
    let class = module.bind(py).getattr(class)?.cast_into::<PyType>()?;
    Ok(PyErr::from_value(class.call1(args)?))
}

/// A result of the crate as one of Python.
pub trait Raised<T> {
    /// See [`raise`].
    fn raised(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raised<T> for seccogc::Result<T> {
    fn raised(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, error))
    }
}
