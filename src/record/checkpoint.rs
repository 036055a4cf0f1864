//! Checkpoints: magic, header length, JSON header, little-endian f32 vectors, SHA-256 of all that stands
//! before.
//!
//! The magic ends with the version. Version 1 knew `parameters` and `carried` only, and wrote under `sgd` and
//! `fedavg`; it is read as such.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::flights::{Flight, Flights};
use super::write_atomically;
use crate::algebra::is_finite;
use crate::error::{Error, Result};
use crate::release::Ledger;

const MAGIC: &[u8; 8] = b"SECCOGC2";
const MAGIC_1: &[u8; 8] = b"SECCOGC1";
const DIGEST: usize = 32;

/// What a checkpoint must agree with to be continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Kind of the model.
    pub model: String,
    /// Names and shapes of its layers.
    pub layers: Vec<(String, Vec<usize>)>,
    /// Number of clients.
    pub clients: usize,
    /// Kind of the local solver.
    #[serde(default = "sgd")]
    pub solver: String,
    /// Kind of the server's optimiser.
    #[serde(default = "fedavg")]
    pub server: String,
}

fn sgd() -> String {
    "sgd".into()
}

fn fedavg() -> String {
    "fedavg".into()
}

/// The state of a run after a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Rounds done.
    pub round: u64,
    /// The global model, d parameters.
    pub parameters: Vec<f32>,
    /// Under the policies `accumulate`, `postpone` and `echo` each client's local model − global model; empty
    /// where all are the same.
    pub carried: Vec<Vec<f32>>,
    /// The server's control vector ([`crate::learn::solver`]), d numbers; empty for solvers without.
    pub control: Vec<f32>,
    /// Each client's control vector, d numbers, or none where it is still zero; empty for solvers without.
    pub controls: Vec<Vec<f32>>,
    /// The vectors of the server's optimiser ([`crate::server_rule`]).
    pub moments: Vec<Vec<f32>>,
    /// What a rule of participation remembers of each client; empty without one.
    pub memory: Vec<Vec<f32>>,
    /// Rounds in a row in which each client was not heard ([`crate::cohort`]); empty for fixed cohorts.
    pub misses: Vec<u32>,
    /// What the rounds have cost each client of its privacy ([`crate::release`]); empty where that is not
    /// charged.
    pub ledger: Ledger,
    /// The clip of the next round, where it moves ([`crate::release::Clipping`]).
    pub clip: Option<f64>,
    /// The model from which each client trains that missed the global one, d parameters, empty for a client
    /// that has it; empty where it always arrives.
    pub received: Vec<Vec<f32>>,
    /// What the server keeps of compressed updates that it did not take yet ([`crate::compress`]); empty
    /// where it keeps nothing.
    pub residual: Vec<f32>,
    /// What each client keeps of its updates that was not carried, d numbers; empty where they keep nothing.
    pub residuals: Vec<Vec<f32>>,
    /// Simulated seconds that have passed.
    pub seconds: f64,
    /// Who computes on the model of which round, under buffered aggregation.
    pub flights: Flights,
}

#[derive(Serialize, Deserialize)]
struct Header {
    round: u64,
    fingerprint: Fingerprint,
    parameters: usize,
    carried: usize,
    #[serde(default)]
    control: usize,
    /// Lengths.
    #[serde(default)]
    controls: Vec<usize>,
    #[serde(default)]
    moments: Vec<usize>,
    #[serde(default)]
    memory: Vec<usize>,
    #[serde(default)]
    misses: Vec<u32>,
    #[serde(default)]
    ledger: Ledger,
    /// By its bits, lest a run that goes on clips otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    received: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    residuals: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_none")]
    residual: usize,
    /// By their bits.
    #[serde(default, skip_serializing_if = "is_none")]
    seconds: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    flights: BTreeSet<Flight>,
    /// Rounds before each model, and its length.
    #[serde(default, skip_serializing_if = "is_none")]
    models: Vec<(u64, usize)>,
}

fn is_none<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

fn lengths(vectors: &[Vec<f32>]) -> Vec<usize> {
    vectors.iter().map(Vec::len).collect()
}

impl Checkpoint {
    /// Whether both have the same vectors, those aside that come and go: carried ones, and models of clients
    /// who missed the last.
    #[must_use]
    pub fn same_shape(&self, other: &Self) -> bool {
        let shape = |state: &Self| {
            let charged = state.ledger.clients();
            let moves = usize::from(state.clip.is_some());
            let clients = [state.misses.len(), state.controls.len(), state.residuals.len(), charged, moves];
            let own = [state.parameters.len(), state.control.len(), state.residual.len()];
            [[&own[..], &clients].concat(), lengths(&state.moments), lengths(&state.memory)]
        };
        shape(self) == shape(other)
    }

    /// A copy without the clients' own vectors, for [`Checkpoint::restore`].
    #[must_use]
    pub fn of_server(&self) -> Self {
        Self {
            round: self.round,
            parameters: self.parameters.clone(),
            control: self.control.clone(),
            moments: self.moments.clone(),
            memory: self.memory.clone(),
            misses: self.misses.clone(),
            clip: self.clip,
            ledger: Ledger::default(),
            carried: Vec::new(),
            controls: Vec::new(),
            received: Vec::new(),
            residual: self.residual.clone(),
            residuals: Vec::new(),
            seconds: self.seconds,
            flights: self.flights.clone(),
        }
    }

    /// The model from which client `k` trains, d parameters: the global one, or an older one where that did
    /// not arrive, or came while the client computed.
    #[must_use]
    pub fn model_of(&self, k: usize) -> &[f32] {
        let received = self.received.get(k).filter(|own| !own.is_empty());
        received.or_else(|| self.flights.model_of(k)).unwrap_or(&self.parameters)
    }

    /// Takes everything from a copy but the clients' own vectors and what they have paid, which stay as they
    /// are: what was told cannot be taken back.
    pub fn restore(&mut self, copy: Self) {
        let own = [&mut self.carried, &mut self.controls, &mut self.received, &mut self.residuals];
        let [carried, controls, received, residuals] = own.map(std::mem::take);
        let ledger = std::mem::take(&mut self.ledger);
        *self = Self { carried, controls, received, residuals, ledger, ..copy };
    }

    /// Whether all that the server steps with is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let vectors = [&self.parameters, &self.control];
        vectors.into_iter().chain(&self.moments).all(|vector| is_finite(vector))
    }

    /// Writes the checkpoint atomically.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<()> {
        let header = Header {
            round: self.round,
            fingerprint: fingerprint.clone(),
            parameters: self.parameters.len(),
            carried: self.carried.len(),
            control: self.control.len(),
            controls: lengths(&self.controls),
            moments: lengths(&self.moments),
            memory: lengths(&self.memory),
            misses: self.misses.clone(),
            ledger: self.ledger.clone(),
            clip: self.clip.map(f64::to_bits),
            received: lengths(&self.received),
            residuals: lengths(&self.residuals),
            residual: self.residual.len(),
            seconds: self.seconds.to_bits(),
            flights: self.flights.aloft.clone(),
            models: self.flights.models.iter().map(|(version, model)| (*version, model.len())).collect(),
        };
        let header = serde_json::to_vec(&header).map_err(|error| Error::Refused(error.to_string()))?;
        let groups =
            [&self.carried, &self.controls, &self.moments, &self.memory, &self.received, &self.residuals];
        let first = [&self.parameters, &self.control];
        let taken = || self.flights.models.values().map(|model| &**model);
        let last = || [&self.residual].into_iter().chain(taken());
        let vectors = || first.into_iter().chain(groups.into_iter().flatten()).chain(last());
        let mut bytes = Vec::with_capacity(64 + header.len() + 4 * vectors().map(Vec::len).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&header);
        for vector in vectors() {
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        write_atomically(path, &bytes)
    }

    /// Reads a checkpoint and checks that it belongs to this run.
    ///
    /// # Errors
    /// A damaged file, or a checkpoint of another model or another number of clients.
    pub fn load(path: &Path, expected: &Fingerprint) -> Result<Self> {
        let (found, checkpoint) = Self::read(path)?;
        if (&found.solver, &found.server) != (&expected.solver, &expected.server) {
            return Err(Error::file(
                path,
                format!(
                    "the checkpoint belongs to solver `{}` and server `{}`, this run has solver `{}` and server `{}`; resume with its own configuration",
                    found.solver, found.server, expected.solver, expected.server
                ),
            ));
        }
        if found != *expected {
            return Err(Error::file(
                path,
                format!(
                    "the checkpoint belongs to model `{}` with {} parameters and {} clients, this run has model `{}` with {} clients; resume with its own configuration",
                    found.model,
                    checkpoint.parameters.len(),
                    found.clients,
                    expected.model,
                    expected.clients
                ),
            ));
        }
        Ok(checkpoint)
    }

    /// Reads a checkpoint, of whatever run.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(path: &Path) -> Result<(Fingerprint, Self)> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let damaged = |what: &str| {
            Error::file(path, format!("damaged checkpoint ({what}); delete it to start from round 1"))
        };
        let Some((body, digest)) = bytes.len().checked_sub(DIGEST).map(|at| bytes.split_at(at)) else {
            return Err(damaged("truncated"));
        };
        if !body.starts_with(MAGIC) && !body.starts_with(MAGIC_1) {
            return Err(Error::file(path, "not a checkpoint of seccogc"));
        }
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged("checksum differs"));
        }
        let rest = &body[MAGIC.len()..];
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("no header"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged("header"))?;
        let (header, mut payload) = rest.split_at_checked(length).ok_or_else(|| damaged("header"))?;
        let header: Header = serde_json::from_slice(header).map_err(|_| damaged("header"))?;
        let mut vector = |length: usize| -> Result<Vec<f32>> {
            let bytes = length.checked_mul(4).ok_or_else(|| damaged("header"))?;
            let (head, tail) = payload.split_at_checked(bytes).ok_or_else(|| damaged("payload"))?;
            payload = tail;
            let words = head.as_chunks::<4>().0;
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        };
        let (parameters, control) = (vector(header.parameters)?, vector(header.control)?);
        let carried = (0..header.carried).map(|_| vector(header.parameters)).collect::<Result<_>>()?;
        let mut group =
            |lengths: Vec<usize>| lengths.into_iter().map(&mut vector).collect::<Result<Vec<_>>>();
        let checkpoint = Self {
            round: header.round,
            parameters,
            carried,
            control,
            controls: group(header.controls)?,
            moments: group(header.moments)?,
            memory: group(header.memory)?,
            received: group(header.received)?,
            residuals: group(header.residuals)?,
            residual: group(vec![header.residual])?.concat(),
            misses: header.misses,
            ledger: header.ledger,
            clip: header.clip.map(f64::from_bits),
            seconds: f64::from_bits(header.seconds),
            flights: Flights {
                aloft: header.flights,
                landed: BTreeMap::new(),
                models: {
                    let (versions, lengths): (Vec<u64>, _) = header.models.into_iter().unzip();
                    versions.into_iter().zip(group(lengths)?.into_iter().map(Arc::new)).collect()
                },
            },
        };
        Ok((header.fingerprint, checkpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Adversary, Cost};

    fn fingerprint(model: &str) -> Fingerprint {
        Fingerprint {
            model: model.into(),
            layers: vec![("w".into(), vec![3])],
            clients: 2,
            solver: "scaffold".into(),
            server: "fedadam".into(),
        }
    }

    #[test]
    fn round_trip_and_every_damage_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let checkpoint = Checkpoint {
            round: 7,
            parameters: vec![1.0, f32::NAN, -0.0],
            carried: vec![vec![0.5; 3], vec![-1.5; 3]],
            control: vec![2.5; 3],
            controls: vec![vec![3.5; 3], vec![4.5; 3]],
            moments: vec![vec![5.5; 3]; 2],
            memory: vec![vec![6.5], vec![7.5, 8.5]],
            misses: vec![0, 9],
            ledger: {
                let mut ledger = Ledger::new(2);
                ledger.charge(1, Adversary::Server, Cost::Gaussian(1.1));
                ledger.charge(0, Adversary::Observer, Cost::Fixed(f64::INFINITY, 2, 3));
                ledger
            },
            clip: Some(0.1 + 0.2),
            received: vec![Vec::new(), vec![9.5; 3]],
            residual: vec![10.5; 2],
            residuals: vec![vec![11.5; 3], vec![12.5; 3]],
            seconds: 0.1 + 0.7,
            flights: Flights {
                aloft: [Flight::new(1, 6, 0.1, 0.8), Flight::new(0, 7, 0.2, 0.7)].into(),
                landed: BTreeMap::new(),
                models: [(6, Arc::new(vec![13.5; 3]))].into(),
            },
        };
        assert_eq!((checkpoint.model_of(1), checkpoint.model_of(7).len()), (&[9.5; 3][..], 3));
        checkpoint.save(&path, &fingerprint("mlp")).unwrap();
        let loaded = Checkpoint::load(&path, &fingerprint("mlp")).unwrap();
        assert_eq!(loaded.round, 7);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&loaded.parameters), bits(&checkpoint.parameters));
        let parameters = Vec::new();
        let without = |state: &Checkpoint| Checkpoint { parameters: parameters.clone(), ..state.clone() };
        assert_eq!(without(&loaded), without(&checkpoint));
        assert!(loaded.same_shape(&checkpoint));
        assert!(!loaded.is_finite() && Checkpoint { parameters: vec![1.0], ..loaded.clone() }.is_finite());
        assert!(!Checkpoint { moments: vec![vec![f32::INFINITY]], ..Checkpoint::default() }.is_finite());
        let mut moved = Checkpoint { carried: vec![vec![9.0; 3]], ..Checkpoint::default() };
        moved.restore(without(&checkpoint).of_server());
        assert_eq!(
            moved,
            Checkpoint {
                carried: vec![vec![9.0; 3]],
                controls: Vec::new(),
                ledger: Ledger::default(),
                received: Vec::new(),
                residuals: Vec::new(),
                ..without(&checkpoint)
            }
        );
        assert!(!loaded.same_shape(&Checkpoint { memory: Vec::new(), ..checkpoint.clone() }));
        assert!(!loaded.same_shape(&Checkpoint { residual: Vec::new(), ..checkpoint.clone() }));
        assert!(!loaded.same_shape(&Checkpoint { residuals: Vec::new(), ..checkpoint.clone() }));

        let plain = Fingerprint { solver: "sgd".into(), ..fingerprint("mlp") };
        assert_eq!(
            Checkpoint::load(&path, &plain).unwrap_err().to_string(),
            format!(
                "{}: the checkpoint belongs to solver `scaffold` and server `fedadam`, this run has solver `sgd` and server `fedadam`; resume with its own configuration",
                path.display()
            )
        );

        let other = Checkpoint::load(&path, &fingerprint("cnn")).unwrap_err().to_string();
        assert!(
            other.contains("belongs to model `mlp`") && other.contains("this run has model `cnn`"),
            "{other}"
        );

        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = Checkpoint::load(&path, &fingerprint("mlp")).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1);
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert!(Checkpoint::load(&path, &fingerprint("mlp")).is_err(), "{place}");
        }
    }

    #[test]
    fn version_1_is_read_as_sgd_and_fedavg() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let header = br#"{"round":4,"fingerprint":{"model":"mlp","layers":[["w",[3]]],"clients":2},"parameters":3,"carried":2}"#;
        let mut bytes = MAGIC_1.to_vec();
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(header);
        bytes.extend((0..9u8).flat_map(|x| f32::from(x).to_le_bytes()));
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        std::fs::write(&path, bytes).unwrap();
        let run = Fingerprint { solver: "sgd".into(), server: "fedavg".into(), ..fingerprint("mlp") };
        let loaded = Checkpoint::load(&path, &run).unwrap();
        let carried = vec![vec![3.0, 4.0, 5.0], vec![6.0, 7.0, 8.0]];
        let parameters = vec![0.0, 1.0, 2.0];
        assert_eq!(loaded, Checkpoint { round: 4, parameters, carried, ..Checkpoint::default() });
        assert!(Checkpoint::load(&path, &fingerprint("mlp")).is_err());
    }
}
