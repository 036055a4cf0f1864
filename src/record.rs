//! The run directory: what a run leaves behind, and what it needs to go on after an interruption.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | the resolved configuration, every default written out |
//! | `run.json` | version, commit, device, cores, time of start, fingerprint of the data, changes of the configuration when the run went on; when the run is over, how it ended |
//! | `.seccogc-lock` | held by the process that writes the run |
//! | `rounds.csv` | one [`Row`] per round |
//! | `clients.csv` | one [`ClientRow`] per round and client |
//! | `leakage.csv` | one [`Entry`](crate::audit::Entry) per adversary layer and client, when nothing is lost |
//! | `checkpoint.bin` | the state after a round, see [`State`] |
//! | `start.safetensors` | with `start`, the model before the first round |
//! | `best.safetensors` | with `record.best`, the model of the highest test accuracy so far |
//! | `events.out.tfevents.seccogc` | with `record.tensorboard`, the numbers of `rounds.csv` for TensorBoard |
//! | `accuracy.svg`, `accuracy.png` | the figure |

mod change;
mod checkpoint;
mod flights;
mod folder;
mod measures;
mod played;
mod rounds;
mod seeds;
mod state;
mod stop;
mod target;
pub mod tensorboard;
mod write;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use change::{Change, changes, refused};
pub use checkpoint::Fingerprint;
pub use flights::{Flight, Flights};
use folder::lock;
pub use folder::{claim, free_folder, last_name};
pub use measures::Measures;
pub use played::Played;
#[cfg(feature = "cli")]
pub(crate) use played::by_loss;
pub(crate) use played::{kept, mark};
use rounds::{Rounds, keep_up_to};
pub use rounds::{column, read_rounds, rounds_csv};
pub use seeds::{keep_seeds, kept_seeds};
pub use state::{ClientStates, Presence, ServerState, State};
pub use stop::{Exhausted, Stop, best};
pub use target::{End, Reached, Target};
pub(crate) use write::TEMPORARY;
pub use write::{make_parent, write_atomically, write_named, write_new};
#[cfg(feature = "deploy")]
pub use write::{write_durably, write_secretly};

use crate::bounds;
use crate::error::{Diverged, Error, Result};
pub use crate::learn::Metrics;
use crate::message::Reason;
use crate::release::Promise;
use tensorboard::Events;

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The server decoded a sum over all clients.
    Recovered,
    /// The server obtained a sum over some clients only.
    Partial,
    /// The server obtained nothing.
    Outage,
    /// The server obtained an estimate of the sum over all clients.
    Estimate,
}

/// One round, one line of `rounds.csv`. Empty fields: not computed in that round, or nothing was decoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Round, from 1.
    pub round: u64,
    /// Attempts used.
    pub attempts: u32,
    /// What became of the round.
    pub outcome: Outcome,
    /// Why there was no sum: "links", "too-few" or "precision"; empty where there was one.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Clients in the round's cohort.
    #[serde(default)]
    pub cohort: usize,
    /// Clients of the cohort whose update or loss was not finite, and who therefore sent nothing.
    #[serde(default)]
    pub diverged: usize,
    /// Messages that reached the server, over all attempts.
    pub arrivals: u64,
    /// ‖decoded mean − true mean‖₂ / ‖true mean‖₂, the true mean being that of the cohort's updates.
    pub recovery_error: Option<f64>,
    /// Share of the coordinates of the weighted updates that were clipped by `quantisation.clip`; empty
    /// without a field.
    #[serde(default)]
    pub saturated: Option<f64>,
    /// Share of the coordinates of the weighted updates that are not 0 and were rounded to 0; empty without a
    /// field.
    #[serde(default)]
    pub underflowed: Option<f64>,
    /// Bytes sent between clients, lost ones included.
    pub bytes_client_client: u64,
    /// Bytes sent from clients to the server, lost ones included.
    pub bytes_client_server: u64,
    /// Bytes sent from clients to helpers, lost ones included; empty without helpers.
    #[serde(default)]
    pub bytes_client_helper: Option<u64>,
    /// Bytes sent between helpers, lost ones included; empty without helpers.
    #[serde(default)]
    pub bytes_helper_helper: Option<u64>,
    /// Bytes sent from helpers to the server, lost ones included; empty without helpers.
    #[serde(default)]
    pub bytes_helper_server: Option<u64>,
    /// Mean loss of the examples on which the clients trained, of classes the cross-entropy (nats).
    pub train_loss: f64,
    /// Mean loss of the global model on the test examples, of classes the cross-entropy (nats).
    pub test_loss: Option<f64>,
    /// Fraction of the test examples, or of their labels, that the global model tells rightly; empty for
    /// quantities.
    pub test_accuracy: Option<f64>,
    /// Smallest accuracy of the global model on a client's own held-out examples.
    pub client_accuracy_worst: Option<f64>,
    /// Largest accuracy of the global model on a client's own held-out examples.
    pub client_accuracy_best: Option<f64>,
    /// Standard deviation over the clients of the accuracy on their own held-out examples.
    pub client_accuracy_std: Option<f64>,
    /// Worst client's leakage to an eavesdropper of one client-to-client link, nats per coordinate.
    pub leakage_link: Option<f64>,
    /// Worst client's leakage to another client, nats per coordinate.
    pub leakage_neighbour: Option<f64>,
    /// Worst client's leakage to the server, nats per coordinate.
    pub leakage_server: Option<f64>,
    /// Simulated seconds of the clients' computing and of the exchange on the links; empty where neither
    /// takes time.
    pub seconds_simulated: Option<f64>,
    /// Seconds of local training.
    pub seconds_local: f64,
    /// Seconds of keys, coding, exchange and decoding.
    pub seconds_coding: f64,
    /// Seconds of testing.
    pub seconds_evaluation: f64,
    /// What an objective or a learner of one's own measured beside these, by column: `train_…`, the mean over
    /// the examples of the clients that tell it, and `test_…` of the global model.
    #[serde(skip)]
    pub metrics: Metrics,
}

impl Row {
    /// Bytes that did not go to the server, lost ones included.
    #[must_use]
    pub fn bytes_between(&self) -> u64 {
        let helpers = self.bytes_client_helper.unwrap_or(0) + self.bytes_helper_helper.unwrap_or(0);
        self.bytes_client_client + helpers
    }

    /// Seconds of the round, whatever they were spent on.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds_local + self.seconds_coding + self.seconds_evaluation
    }

    /// Bytes that went to the server, lost ones included.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.bytes_client_server + self.bytes_helper_server.unwrap_or(0)
    }
}

/// One client in one round, one line of `clients.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Round, from 1.
    pub round: u64,
    /// Client, from 1.
    pub client: usize,
    /// Examples on which the client trains.
    pub examples: usize,
    /// Mean loss during its local training, of classes the cross-entropy (nats).
    pub train_loss: f64,
    /// Fraction of its held-out examples that the global model classifies rightly after the round.
    pub test_accuracy: Option<f64>,
    /// ‖·‖₂ of its update as sent, of control variates and the like beside it nothing; NaN where it was not
    /// finite and therefore not sent.
    pub update_norm: f64,
    /// Leakage to the worst link, nats per coordinate.
    pub leakage_link: Option<f64>,
    /// Leakage to the worst other client, nats per coordinate.
    pub leakage_neighbour: Option<f64>,
    /// Leakage to the server, nats per coordinate.
    pub leakage_server: Option<f64>,
}

impl Row {
    /// A round that was over before anybody sent anything.
    pub(crate) fn lost(round: u64) -> Self {
        let (outcome, reason) = (Outcome::Outage, Some(Reason::Links));
        Self { outcome, reason, train_loss: f64::NAN, ..Self::blank(round) }
    }

    /// A recovered round in which nothing was measured, sent or lost.
    pub(crate) fn blank(round: u64) -> Self {
        Self {
            round,
            cohort: 0,
            diverged: 0,
            attempts: 1,
            outcome: Outcome::Recovered,
            reason: None,
            arrivals: 0,
            recovery_error: None,
            saturated: None,
            underflowed: None,
            bytes_client_client: 0,
            bytes_client_server: 0,
            bytes_client_helper: None,
            bytes_helper_helper: None,
            bytes_helper_server: None,
            train_loss: 1.0,
            test_loss: None,
            test_accuracy: None,
            client_accuracy_worst: None,
            client_accuracy_best: None,
            client_accuracy_std: None,
            leakage_link: None,
            leakage_neighbour: None,
            leakage_server: None,
            seconds_simulated: None,
            seconds_local: 0.0,
            seconds_coding: 0.0,
            seconds_evaluation: 0.0,
            metrics: Vec::new(),
        }
    }
}

/// Reads all rows of a CSV file.
///
/// # Errors
/// A missing file, or a line that is not a row of this kind.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let (file, _) = bounds::open(path)?;
    csv::Reader::from_reader(file)
        .deserialize()
        .collect::<Result<_, _>>()
        .map_err(|error| Error::file(path, format!("not a table of this kind: {error}")))
}

/// Rows as CSV with a header.
///
/// # Errors
/// A row that CSV cannot express.
pub fn to_csv<T: Serialize>(rows: &[T]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|error| Error::Refused(format!("cannot write CSV: {error}")))?;
    }
    writer.into_inner().map_err(|error| Error::Refused(format!("cannot write CSV: {error}")))
}

/// Lines of equal length as CSV.
///
/// # Errors
/// Lines of unequal length.
pub(crate) fn csv_of(lines: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>> {
    let refuse = |error: String| Error::Refused(format!("cannot write CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.write_record(&line).map_err(|error| refuse(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| refuse(error.to_string()))
}

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from.
    pub commit: String,
    /// Device of the learning.
    pub device: String,
    /// Cores of the host.
    pub cores: usize,
    /// Worker threads.
    pub threads: usize,
    /// Start, seconds since 1970-01-01 UTC.
    pub started: u64,
    /// Protocol, as configured.
    pub protocol: String,
    /// Parameters of the model.
    pub parameters: usize,
    /// Sections of `config.toml` that say nothing of this run: another program brought a part of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<String>,
    /// SHA-256 of the examples and of their division over the clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The configuration of the rounds that were played last, as TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What was changed when the run went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Most bytes that the process had held when the run was over; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// How it ended; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

impl RunInfo {
    /// Reads a `run.json`.
    ///
    /// # Errors
    /// A missing or damaged file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = bounds::read(path, 16 << 20, "a run description")?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(path, format!("not a run description: {error}")))
    }

    /// Describes this process.
    #[must_use]
    pub fn now(device: &str, protocol: &str, parameters: usize) -> Self {
        let started =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: COMMIT.clone(),
            device: device.into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            started,
            protocol: protocol.into(),
            parameters,
            own: Vec::new(),
            data: None,
            config: None,
            changes: Vec::new(),
            memory: None,
            end: None,
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| Error::Refused(error.to_string()))?;
        write_atomically(path, &json)
    }
}

/// The commit that the build was told, else [`source_commit`], asked once however many runs a sweep has.
static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let told = option_env!("SECCOGC_COMMIT").map(str::to_owned);
    told.or_else(source_commit).unwrap_or_else(|| "unknown".into())
});

/// The commit of the checkout that this program was built in and still lies in, as it is now: asked when a
/// run starts, so that a commit does not make the program out of date.
fn source_commit() -> Option<String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::current_exe().ok()?.strip_prefix(checkout).ok()?;
    let describe = ["describe", "--always", "--dirty", "--abbrev=12"];
    let output = std::process::Command::new("git").current_dir(checkout).args(describe).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A run directory that is being written.
pub struct RunDir {
    path: PathBuf,
    /// Held as long as this lives.
    _lock: File,
    rounds: Rounds,
    clients: csv::Writer<File>,
    events: Option<Events>,
}

impl RunDir {
    /// Starts a new run directory; it must not exist, or be empty. `tensorboard`: with an event file.
    ///
    /// # Errors
    /// A folder that holds something, or that cannot be written.
    pub fn create(path: &Path, config: &str, info: &RunInfo, tensorboard: bool) -> Result<Self> {
        claim(path)?;
        let lock = lock(path)?;
        write_atomically(&path.join("config.toml"), config.as_bytes())?;
        info.save(&path.join("run.json"))?;
        Self::open(path, lock, 0, tensorboard)
    }

    /// Goes on in an interrupted or diverged run directory, with this configuration and description: drops
    /// the rows after `round`, and that the run is over.
    ///
    /// # Errors
    /// Tables that are missing or damaged; a folder in which another process writes.
    pub fn resume(path: &Path, round: u64, config: &str, info: &RunInfo, tensorboard: bool) -> Result<Self> {
        let lock = lock(path)?;
        keep_up_to(round, &path.join("rounds.csv"))?;
        keep::<ClientRow>(&path.join("clients.csv"), |row| row.round <= round)?;
        write_atomically(&path.join("config.toml"), config.as_bytes())?;
        RunInfo { end: None, ..info.clone() }.save(&path.join("run.json"))?;
        Self::open(path, lock, round, tensorboard)
    }

    fn open(path: &Path, lock: File, round: u64, tensorboard: bool) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            rounds: Rounds::open(&path.join("rounds.csv"))?,
            clients: appender(&path.join("clients.csv"))?,
            events: tensorboard.then(|| Events::open(path, round)).transpose()?,
        })
    }

    /// The rounds so far.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn rows(&self) -> Result<Vec<Row>> {
        read_rounds(&self.path.join("rounds.csv"))
    }

    /// Writes down that the run is over, when it reached its target, if it has one, whether `stop` or
    /// divergence ended it, and what it promises.
    ///
    /// # Errors
    /// Tables that are missing or damaged, a folder that cannot be written.
    pub fn finish(
        &mut self,
        stop: &Stop,
        diverged: Option<Diverged>,
        promise: Option<Promise>,
    ) -> Result<End> {
        let rows = self.rows()?;
        if let (Some(diverged), Some(events)) = (&diverged, &mut self.events) {
            events.mark(diverged)?;
        }
        let target = stop.target.map(|accuracy| Target::of(accuracy, &rows));
        let (rounds, exhausted) = (rows.len() as u64, stop.exhausted(&rows));
        let end = End { rounds, target, exhausted, diverged, promise };
        let path = self.path.join("run.json");
        RunInfo { end: Some(end.clone()), memory: bounds::peak(), ..RunInfo::load(&path)? }.save(&path)?;
        Ok(end)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one round.
    ///
    /// # Errors
    /// A full or vanished disk.
    pub fn append(&mut self, row: &Row, clients: &[ClientRow]) -> Result<()> {
        let path = self.path.clone();
        let refuse = |error: csv::Error| Error::file(&path, format!("cannot append a row: {error}"));
        for client in clients {
            self.clients.serialize(client).map_err(refuse)?;
        }
        self.clients.flush().map_err(Error::io("write", self.path.join("clients.csv")))?;
        self.rounds.append(row)?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(row))
    }
}

fn appender(path: &Path) -> Result<csv::Writer<File>> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
    let empty = file.metadata().map_err(Error::io("read", path))?.len() == 0;
    Ok(csv::WriterBuilder::new().has_headers(empty).from_writer(file))
}

/// Rewrites a table with the rows that `wanted` accepts. A line that was cut off by the interruption is
/// dropped too.
fn keep<T: DeserializeOwned + Serialize>(path: &Path, wanted: impl Fn(&T) -> bool) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let (file, _) = bounds::open(path)?;
    let rows: Vec<T> = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(file)
        .deserialize()
        .map_while(Result::ok)
        .filter(wanted)
        .collect();
    write_atomically(path, &to_csv(&rows)?)
}
