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
use super::state::{ClientStates, Presence, ServerState, State, lengths};
use super::write_atomically;
use crate::bounds;
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

impl State {
    /// Writes the checkpoint atomically.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<()> {
        let Self { round, server, presence, clients, ledger } = self;
        let flights = &presence.flights;
        let header = Header {
            round: *round,
            fingerprint: fingerprint.clone(),
            parameters: server.parameters.len(),
            carried: clients.carried.len(),
            control: server.control.len(),
            controls: lengths(&clients.controls),
            moments: lengths(&server.moments),
            memory: lengths(&server.memory),
            misses: presence.misses.clone(),
            ledger: ledger.clone(),
            clip: server.clip.map(f64::to_bits),
            received: lengths(&clients.received),
            residuals: lengths(&clients.residuals),
            residual: server.residual.len(),
            seconds: presence.seconds.to_bits(),
            flights: flights.aloft.clone(),
            models: flights.models.iter().map(|(version, model)| (*version, model.len())).collect(),
        };
        let header = serde_json::to_vec(&header).map_err(|error| Error::Refused(error.to_string()))?;
        let groups = [
            &clients.carried,
            &clients.controls,
            &server.moments,
            &server.memory,
            &clients.received,
            &clients.residuals,
        ];
        let first = [&server.parameters, &server.control];
        let taken = || flights.models.values().map(|model| &**model);
        let last = || [&server.residual].into_iter().chain(taken());
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
        let (found, state) = Self::read(path)?;
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
                    state.server.parameters.len(),
                    found.clients,
                    expected.model,
                    expected.clients
                ),
            ));
        }
        Ok(state)
    }

    /// Reads a checkpoint, of whatever run.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(path: &Path) -> Result<(Fingerprint, Self)> {
        let bytes = bounds::whole(path, "a checkpoint")?;
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
        // The payload bounds how many vectors there are, unless they are empty.
        if header.parameters == 0 && header.carried > 0 {
            return Err(damaged("header"));
        }
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
        // In the order of the file.
        let controls = group(header.controls)?;
        let (moments, memory) = (group(header.moments)?, group(header.memory)?);
        let (received, residuals) = (group(header.received)?, group(header.residuals)?);
        let residual = group(vec![header.residual])?.concat();
        let (versions, lengths): (Vec<u64>, _) = header.models.into_iter().unzip();
        let models = versions.into_iter().zip(group(lengths)?.into_iter().map(Arc::new)).collect();
        let clip = header.clip.map(f64::from_bits);
        let flights = Flights { aloft: header.flights, landed: BTreeMap::new(), models };
        let state = Self {
            round: header.round,
            server: ServerState { parameters, control, moments, memory, residual, clip },
            presence: Presence { misses: header.misses, seconds: f64::from_bits(header.seconds), flights },
            clients: ClientStates { carried, controls, received, residuals },
            ledger: header.ledger,
        };
        Ok((header.fingerprint, state))
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
        let server = ServerState {
            parameters: vec![1.0, f32::NAN, -0.0],
            control: vec![2.5; 3],
            moments: vec![vec![5.5; 3]; 2],
            memory: vec![vec![6.5], vec![7.5, 8.5]],
            residual: vec![10.5; 2],
            clip: Some(0.1 + 0.2),
        };
        let flights = Flights {
            aloft: [Flight::new(1, 6, 0.1, 0.8), Flight::new(0, 7, 0.2, 0.7)].into(),
            landed: BTreeMap::new(),
            models: [(6, Arc::new(vec![13.5; 3]))].into(),
        };
        let clients = ClientStates {
            carried: vec![vec![0.5; 3], vec![-1.5; 3]],
            controls: vec![vec![3.5; 3], vec![4.5; 3]],
            received: vec![Vec::new(), vec![9.5; 3]],
            residuals: vec![vec![11.5; 3], vec![12.5; 3]],
        };
        let mut ledger = Ledger::new(2);
        ledger.charge(1, Adversary::Server, Cost::Gaussian(1.1));
        ledger.charge(0, Adversary::Observer, Cost::Fixed(f64::INFINITY, 2, 3));
        let presence = Presence { misses: vec![0, 9], seconds: 0.1 + 0.7, flights };
        let mut state = State { round: 7, server, presence, clients, ledger };
        assert_eq!((state.model_of(1), state.model_of(7).len()), (&[9.5; 3][..], 3));
        state.save(&path, &fingerprint("mlp")).unwrap();
        let mut loaded = State::load(&path, &fingerprint("mlp")).unwrap();
        assert!(loaded.same_shape(&state));
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        // NaN is not equal to itself.
        let [is, was] = [&mut loaded, &mut state].map(|state| std::mem::take(&mut state.server.parameters));
        assert_eq!(bits(is), bits(was));
        assert_eq!(loaded, state);

        let plain = Fingerprint { solver: "sgd".into(), ..fingerprint("mlp") };
        assert_eq!(
            State::load(&path, &plain).unwrap_err().to_string(),
            format!(
                "{}: the checkpoint belongs to solver `scaffold` and server `fedadam`, this run has solver `sgd` and server `fedadam`; resume with its own configuration",
                path.display()
            )
        );

        let other = State::load(&path, &fingerprint("cnn")).unwrap_err().to_string();
        assert!(
            other.contains("belongs to model `mlp`") && other.contains("this run has model `cnn`"),
            "{other}"
        );

        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = State::load(&path, &fingerprint("mlp")).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1);
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert!(State::load(&path, &fingerprint("mlp")).is_err(), "{place}");
        }
    }

    /// Bytes of a checkpoint with this header and the payload 0, 1, 2 and so on.
    fn framed(magic: &[u8], header: &str, payload: u8) -> Vec<u8> {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend((0..payload).flat_map(|x| f32::from(x).to_le_bytes()));
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    #[test]
    fn crafted_headers_take_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let print = r#""round":4,"fingerprint":{"model":"mlp","layers":[["w",[3]]],"clients":2}"#;
        for sizes in [
            r#""parameters":0,"carried":1000000000000"#,
            r#""parameters":1,"carried":1000000000000"#,
            r#""parameters":1000000000000,"carried":0"#,
            r#""parameters":18446744073709551615,"carried":1"#,
        ] {
            std::fs::write(&path, framed(MAGIC, &format!("{{{print},{sizes}}}"), 9)).unwrap();
            let error = State::read(&path).unwrap_err().to_string();
            assert!(error.contains("damaged checkpoint (") && error.lines().count() == 1, "{error}");
        }
        #[cfg(unix)]
        {
            let error = State::read(Path::new("/dev/zero")).unwrap_err().to_string();
            assert_eq!(error, "/dev/zero: a device, not a file; name a regular file");
        }
    }

    #[test]
    fn version_1_is_read_as_sgd_and_fedavg() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let header = r#"{"round":4,"fingerprint":{"model":"mlp","layers":[["w",[3]]],"clients":2},"parameters":3,"carried":2}"#;
        std::fs::write(&path, framed(MAGIC_1, header, 9)).unwrap();
        let run = Fingerprint { solver: "sgd".into(), server: "fedavg".into(), ..fingerprint("mlp") };
        let loaded = State::load(&path, &run).unwrap();
        let carried = vec![vec![3.0, 4.0, 5.0], vec![6.0, 7.0, 8.0]];
        let parameters = vec![0.0, 1.0, 2.0];
        let server = ServerState { parameters, ..ServerState::default() };
        let clients = ClientStates { carried, ..ClientStates::default() };
        assert_eq!(loaded, State { round: 4, server, clients, ..State::default() });
        assert!(State::load(&path, &fingerprint("mlp")).is_err());
    }
}
