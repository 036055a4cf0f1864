//! Checkpoints: magic, header length, JSON header, little-endian f32 vectors, SHA-256 of all that stands before.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::write_atomically;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"SECCOGC1";
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
}

/// The state of a run after a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Rounds done.
    pub round: u64,
    /// The global model, d parameters.
    pub parameters: Vec<f32>,
    /// Under the `accumulate` policy each client's local model − global model; empty otherwise.
    pub carried: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    round: u64,
    fingerprint: Fingerprint,
    parameters: usize,
    carried: usize,
}

impl Checkpoint {
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
        };
        let header = serde_json::to_vec(&header).map_err(|error| Error::Refused(error.to_string()))?;
        let mut bytes =
            Vec::with_capacity(64 + header.len() + 4 * self.parameters.len() * (1 + self.carried.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&header);
        for vector in std::iter::once(&self.parameters).chain(&self.carried) {
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
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let damaged = |what: &str| {
            Error::file(path, format!("damaged checkpoint ({what}); delete it to start from round 1"))
        };
        let Some((body, digest)) = bytes.len().checked_sub(DIGEST).map(|at| bytes.split_at(at)) else {
            return Err(damaged("truncated"));
        };
        if !body.starts_with(MAGIC) {
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
        if header.fingerprint != *expected {
            let found = &header.fingerprint;
            return Err(Error::file(
                path,
                format!(
                    "the checkpoint belongs to model `{}` with {} parameters and {} clients, this run has model `{}` with {} clients; resume with its own configuration",
                    found.model, header.parameters, found.clients, expected.model, expected.clients
                ),
            ));
        }
        let mut vector = || -> Result<Vec<f32>> {
            let (head, tail) =
                payload.split_at_checked(4 * header.parameters).ok_or_else(|| damaged("payload"))?;
            payload = tail;
            let words = head.as_chunks::<4>().0;
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        };
        let parameters = vector()?;
        let carried = (0..header.carried).map(|_| vector()).collect::<Result<_>>()?;
        Ok(Self { round: header.round, parameters, carried })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(model: &str) -> Fingerprint {
        Fingerprint { model: model.into(), layers: vec![("w".into(), vec![3])], clients: 2 }
    }

    #[test]
    fn round_trip_and_every_damage_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let checkpoint = Checkpoint {
            round: 7,
            parameters: vec![1.0, f32::NAN, -0.0],
            carried: vec![vec![0.5; 3], vec![-1.5; 3]],
        };
        checkpoint.save(&path, &fingerprint("mlp")).unwrap();
        let loaded = Checkpoint::load(&path, &fingerprint("mlp")).unwrap();
        assert_eq!(loaded.round, 7);
        assert_eq!(loaded.carried, checkpoint.carried);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&loaded.parameters), bits(&checkpoint.parameters));

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
}
