//! The seeds of several runs of one configuration, kept beside it: one a line.

use std::path::Path;

use super::write_atomically;
use crate::bounds;
use crate::error::{Error, Result};

const FILE: &str = "seeds.txt";

/// Writes down the seeds, so that whoever goes on knows them.
///
/// # Errors
/// The operating system's refusal.
pub fn keep_seeds(folder: &Path, seeds: &[u64]) -> Result<()> {
    let lines: String = seeds.iter().map(|seed| format!("{seed}\n")).collect();
    write_atomically(&folder.join(FILE), lines.as_bytes())
}

/// The seeds that were written down.
///
/// # Errors
/// A file that is missing or damaged.
pub fn kept_seeds(folder: &Path) -> Result<Vec<u64>> {
    let path = folder.join(FILE);
    let text = bounds::read_text(&path, 1 << 24, "a list of seeds")?;
    let seeds: Option<Vec<u64>> = text.lines().map(|line| line.parse().ok()).collect();
    seeds
        .filter(|seeds| !seeds.is_empty())
        .ok_or_else(|| Error::file(path, "not a list of seeds, one a line"))
}
