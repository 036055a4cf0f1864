//! Models that training starts from.

use std::path::Path;

use super::observer::CHECKPOINT;
use super::work::{ELSEWHERE, Work};
use crate::bounds;
use crate::error::{Error, Result};
use crate::learn::state_dict::{Layout, StateDict};
use crate::record::State;

/// Most bytes of a model's file.
const MOST_BYTES: u64 = 8 << 30;

/// The last model of a run folder, and the rounds that it was trained for.
///
/// # Errors
/// A folder without a checkpoint, a damaged checkpoint.
pub fn last_weights(run: &Path) -> Result<(u64, StateDict)> {
    let checkpoint = run.join(CHECKPOINT);
    if !checkpoint.is_file() {
        return Err(Error::file(run, "holds no checkpoint; name a run folder that has one"));
    }
    let (fingerprint, state) = State::read(&checkpoint)?;
    let size: usize = fingerprint.layers.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if size != state.server.parameters.len() {
        return Err(Error::file(checkpoint, "damaged checkpoint (its layers have another size)"));
    }
    let layout = if fingerprint.model == ELSEWHERE { Layout::Own } else { Layout::Burn };
    Ok((state.round, StateDict::of(layout, &fingerprint.layers, &state.server.parameters)))
}

/// The weights that a path names: of a run folder the last model, else a safetensors file.
///
/// # Errors
/// A file that is missing, damaged or of another kind; a run folder without a checkpoint.
pub fn weights(path: &Path) -> Result<StateDict> {
    if path.is_dir() {
        return last_weights(path).map(|(_, weights)| weights);
    }
    let bytes = bounds::read(path, MOST_BYTES, "a model")?;
    StateDict::from_safetensors(&bytes).map_err(|problem| Error::file(path, problem))
}

/// The flat vector that training starts from, if it is not drawn: the given weights, or those at a path.
pub(super) fn parameters(
    given: Option<StateDict>,
    path: Option<&Path>,
    work: &Work,
) -> Result<Option<Vec<f32>>> {
    let wrong = |problem: String| match path {
        Some(path) => Error::file(path, problem),
        None => Error::config("start", problem),
    };
    let weights = match (given, path) {
        (Some(weights), _) => weights,
        (None, Some(path)) => self::weights(path)?,
        (None, None) => return Ok(None),
    };
    weights.flat(work.layout(), &work.layers()).map(Some).map_err(wrong)
}
