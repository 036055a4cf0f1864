//! The folder of a sweep.

use std::fs;
use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::record::{claim, write_atomically};
use crate::report;
use crate::sweep::{Sweep, SweepRun, results};

/// Makes the folder of a sweep, which must be new or empty unless the sweep `goes_on` there.
///
/// # Errors
/// A folder that holds something or cannot be written.
pub fn begin_sweep(config: &Config, folder: &Path, goes_on: bool) -> Result<()> {
    if goes_on {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    } else {
        claim(folder)?;
    }
    write_atomically(&folder.join("config.toml"), config.to_toml()?.as_bytes())
}

/// Writes the tables and figures of the runs that are finished.
///
/// # Errors
/// A run directory that is damaged; a folder that cannot be written.
pub fn gather_sweep(sweep: &Sweep, done: &[&SweepRun], folder: &Path, name: &str) -> Result<()> {
    results::write(&sweep.keys, done, folder)?;
    report::plot_sweep(&results::read(folder)?, folder, name)
}
