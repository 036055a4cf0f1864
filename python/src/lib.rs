//! The native half of the Python package `seccogc`, which is private to it: the program, configurations, and
//! the verbs over them. The typed half is `python/seccogc`.
//!
//! No thread but the caller's ever attaches to the interpreter: work runs detached ([`work`]), and calls into
//! Python are made between its parts. So the interpreter's lock and the threads of a phase cannot wait for each
//! other.

mod aggregate;
mod config;
#[cfg(feature = "deploy")]
mod deploy;
mod errors;
mod party;
mod train;
mod vector;
mod verbs;
mod work;

use std::ffi::OsString;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program: runs it on these arguments, of which the first is its own name, and returns the exit code.
#[pyfunction]
fn cli(py: Python<'_>, args: Vec<OsString>) -> PyResult<u8> {
    errors::same_process()?;
    Ok(py.detach(|| seccogc::cli::main_from(args)))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::remember_process();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(cli, module)?)?;
    aggregate::register(module)?;
    config::register(module)?;
    party::register(module)?;
    train::register(module)?;
    #[cfg(feature = "deploy")]
    deploy::register(module)?;
    vector::register(module)?;
    verbs::register(module)?;
    work::register(module)?;
    Ok(())
}
