//! Who sees the rounds of a run as they are over: tables, checkpoints, the best model, and whoever shows how
//! far it is.

use std::path::PathBuf;

use super::{Run, State};
use crate::error::{Diverged, Result};
use crate::record::{ClientRow, Row, RunDir, best, write_atomically};

/// The model of the highest test accuracy, in a run directory.
pub const BEST: &str = "best.safetensors";

/// The state after the last round that was saved.
pub(super) const CHECKPOINT: &str = "checkpoint.bin";

/// A round that is over.
#[derive(Clone, Copy)]
pub struct Over<'a> {
    /// The run.
    pub run: &'a Run<'a>,
    /// The state after the round.
    pub state: &'a State,
    /// Its row.
    pub row: &'a Row,
    /// All rows up to this one.
    pub rows: &'a [Row],
    /// The rows of its clients; none where they do not tell.
    pub clients: &'a [ClientRow],
    /// Whether no further round is played.
    pub is_last: bool,
}

/// Sees the rounds of a run. An error ends the run after the last whole round.
pub trait Observer {
    /// Before the first round that is now played, with the rows of those that were played earlier.
    ///
    /// # Errors
    /// Whatever is to end the run.
    fn begin(&mut self, _run: &Run<'_>, _state: &State, _rows: &[Row]) -> Result<()> {
        Ok(())
    }

    /// A round is over.
    ///
    /// # Errors
    /// Whatever is to end the run.
    fn round(&mut self, over: &Over<'_>) -> Result<()>;

    /// The run ends, for now or for good, with the state after its last whole round; the next one `diverged`,
    /// or was kept from being played.
    ///
    /// # Errors
    /// What could not be kept.
    fn cut_off(&mut self, _run: &Run<'_>, _state: &State, _diverged: Option<&Diverged>) -> Result<()> {
        Ok(())
    }
}

/// Sees the rows only.
impl<F: FnMut(&Row) -> Result<()>> Observer for F {
    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        self(over.row)
    }
}

/// The tables, and the numbers for TensorBoard.
impl Observer for RunDir {
    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        self.append(over.row, over.clients)
    }
}

/// Keeps the state in the run directory, and the best model where it is wanted. A checkpoint is written
/// first, so that no best model is of a round that an interruption undoes.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// Rounds between two checkpoints.
    every: u64,
    /// The round of the last one.
    saved: u64,
}

impl Checkpoints {
    /// Of a run that goes on from `state` in `directory`, every so many rounds.
    pub fn new(directory: &RunDir, state: &State, every: u64) -> Self {
        Self { folder: directory.path().into(), every, saved: state.round }
    }

    fn save(&mut self, run: &Run<'_>, state: &State) -> Result<()> {
        state.save(&self.folder.join(CHECKPOINT), &run.fingerprint())?;
        self.saved = state.round;
        Ok(())
    }

    fn keep_best(&self, run: &Run<'_>, state: &State) -> Result<()> {
        let weights = run.setting.state_dict(&state.server.parameters, state.round);
        write_atomically(&self.folder.join(BEST), &weights.to_safetensors()?)
    }
}

/// Whether the best model is kept, and is that of this state.
fn is_best(run: &Run<'_>, state: &State, rows: &[Row]) -> bool {
    run.setting.config.record.best && best(rows).is_some_and(|row| row.round == state.round)
}

impl Observer for Checkpoints {
    /// The last process may have been cut off between the checkpoint and the best model.
    fn begin(&mut self, run: &Run<'_>, state: &State, rows: &[Row]) -> Result<()> {
        if is_best(run, state, rows) { self.keep_best(run, state) } else { Ok(()) }
    }

    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        let Over { run, state, rows, is_last, .. } = *over;
        let best = is_best(run, state, rows);
        if state.round.is_multiple_of(self.every) || is_last || best {
            self.save(run, state)?;
        }
        if best { self.keep_best(run, state) } else { Ok(()) }
    }

    fn cut_off(&mut self, run: &Run<'_>, state: &State, diverged: Option<&Diverged>) -> Result<()> {
        if diverged.is_some() || state.round > self.saved { self.save(run, state) } else { Ok(()) }
    }
}
