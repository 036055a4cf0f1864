//! Event files of TensorBoard: records of length, masked CRC-32C of the length, payload, masked CRC-32C of
//! the payload; each payload an `Event` message of protocol buffers.
//!
//! The format is that of `tensorflow/core/lib/io/record_writer.cc`, `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`; six fields of these messages are enough for scalars.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Diverged, Outcome, Row, write_atomically};
use crate::bounds;
use crate::error::{Error, Result};

/// TensorBoard finds event files by `tfevents` in their name.
pub const FILE: &str = "events.out.tfevents.seccogc";

/// Bytes around a payload: length, its checksum, the payload's checksum.
const LENGTH: usize = 8;
const CHECKSUM: usize = 4;

/// An event file that is being written.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Opens the event file of a run directory after `round` rounds: later events and a torn end are dropped.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(folder: &Path, round: u64) -> Result<Self> {
        let path = folder.join(FILE);
        let old = if path.exists() { bounds::whole(&path, "an event file")? } else { Vec::new() };
        let mut kept: Vec<u8> = records(&old)
            .filter(|payload| step(payload).is_some_and(|step| step <= round))
            .flat_map(frame)
            .collect();
        if kept.is_empty() {
            kept = frame(&version());
        }
        write_atomically(&path, &kept)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io("write", &path))?;
        Ok(Self { path, file })
    }

    /// Appends the numbers of one round.
    ///
    /// # Errors
    /// A full or vanished disk.
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let own = row.metrics.iter().map(|(name, value)| (name.as_str(), Some(*value)));
        self.write(&event(row.round, &scalars(row).into_iter().chain(own).collect::<Vec<_>>()))
    }

    /// Marks the round in which the run diverged.
    ///
    /// # Errors
    /// A full or vanished disk.
    pub fn mark(&mut self, diverged: &Diverged) -> Result<()> {
        self.write(&event(diverged.round, &[("round/diverged", Some(1.0))]))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&frame(event)).map_err(Error::io("write", &self.path))
    }
}

/// The payloads of a file's records, up to the first that is torn or damaged.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (checksum, rest) = rest.split_first_chunk::<CHECKSUM>()?;
        let (payload, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (own, rest) = rest.split_first_chunk::<CHECKSUM>()?;
        bytes = rest;
        (masked(length) == *checksum && masked(payload) == *own).then_some(payload)
    })
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), payload, &masked(payload)].concat()
}

/// CRCs of data that holds CRCs are weak, so they are rotated and shifted.
fn masked(bytes: &[u8]) -> [u8; CHECKSUM] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u8, wire: u8, content: &[u8]) -> Vec<u8> {
    let key = number << 3 | wire;
    let length = if wire == BYTES { varint(content.len() as u64) } else { Vec::new() };
    [&[key], &length[..], content].concat()
}

/// `Event.wall_time` and `Event.step`.
fn head(step: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
    [field(1, FIXED64, &now.to_le_bytes()), field(2, VARINT, &varint(step))].concat()
}

/// `Event.file_version`, which every file starts with.
fn version() -> Vec<u8> {
    [head(0), field(3, BYTES, b"brain.Event:2")].concat()
}

/// `Event.summary`, a list of `Summary.Value` with `tag` and `simple_value`.
fn event(round: u64, scalars: &[(&str, Option<f64>)]) -> Vec<u8> {
    let values = scalars.iter().filter_map(|&(tag, value)| Some((tag, value?))).flat_map(|(tag, value)| {
        let value = field(2, FIXED32, &(value as f32).to_le_bytes());
        field(1, BYTES, &[field(1, BYTES, tag.as_bytes()), value].concat())
    });
    [head(round), field(5, BYTES, &values.collect::<Vec<u8>>())].concat()
}

fn scalars(row: &Row) -> [(&'static str, Option<f64>); 17] {
    [
        ("test/accuracy", row.test_accuracy),
        ("test/loss", row.test_loss),
        ("train/loss", Some(row.train_loss)),
        ("round/recovered", Some(f64::from(u8::from(row.outcome == Outcome::Recovered)))),
        ("round/attempts", Some(f64::from(row.attempts))),
        ("round/cohort", Some(row.cohort as f64)),
        ("round/arrivals", Some(row.arrivals as f64)),
        ("round/recovery_error", row.recovery_error),
        ("bytes/client_client", Some(row.bytes_client_client as f64)),
        ("bytes/client_server", Some(row.bytes_client_server as f64)),
        ("leakage/link", row.leakage_link),
        ("leakage/neighbour", row.leakage_neighbour),
        ("leakage/server", row.leakage_server),
        ("seconds/simulated", row.seconds_simulated),
        ("seconds/local", Some(row.seconds_local)),
        ("seconds/coding", Some(row.seconds_coding)),
        ("seconds/evaluation", Some(row.seconds_evaluation)),
    ]
}

/// The step of an event that [`head`] starts.
fn step(payload: &[u8]) -> Option<u64> {
    let rest = payload.get(1 + 8..)?.strip_prefix(&[2 << 3 | VARINT])?;
    let mut value = 0;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::NotFinite;

    fn row(round: u64) -> Row {
        Row {
            bytes_client_client: 1 << 40,
            test_accuracy: Some(0.75),
            leakage_server: Some(f64::INFINITY),
            ..Row::blank(round)
        }
    }

    #[test]
    fn checksums_are_the_known_ones() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, and 32 bytes of ones.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        // ((c >> 15) | (c << 17)) + 0xa282ead8 of the first, by hand.
        assert_eq!(u32::from_le_bytes(masked(&[0; 32])), 0x0fd7_fffa);
    }

    #[test]
    fn varints_are_those_of_the_specification() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    #[test]
    fn an_event_holds_the_bytes_of_its_message() {
        let payload = event(300, &scalars(&row(300)));
        assert_eq!((payload[0], payload[9..12].to_vec()), (0x09, vec![0x10, 0xac, 0x02]));
        assert_eq!(step(&payload), Some(300));
        // Value { tag: "test/accuracy", simple_value: 0.75 } stands first in the summary.
        let mut value = vec![0x0a, 20, 0x0a, 13];
        value.extend(b"test/accuracy");
        value.extend([0x15, 0x00, 0x00, 0x40, 0x3f]);
        assert!(payload[12..].windows(value.len()).any(|window| window == value));
        assert!(!payload.windows(9).any(|window| window == b"test/loss"), "an empty field is no number");
    }

    /// The file as TensorBoard's own reader sees it was checked with
    /// `pip install tensorboard tbparse` and
    /// `python -c "from tbparse import SummaryReader; print(SummaryReader('runs/x').scalars)"`.
    #[test]
    fn a_resumed_file_keeps_the_rounds_of_the_checkpoint_and_drops_what_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let steps = || {
            let bytes = fs::read(&path).unwrap();
            records(&bytes).map(|payload| step(payload).unwrap()).collect::<Vec<_>>()
        };
        let mut events = Events::open(folder.path(), 0).unwrap();
        for round in 1..=5 {
            events.append(&row(round)).unwrap();
        }
        assert_eq!(steps(), [0, 1, 2, 3, 4, 5]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3, 4]);

        let mut events = Events::open(folder.path(), 3).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3]);
        events.mark(&Diverged { round: 4, client: None, what: NotFinite::Sum }).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3, 4]);
        let marked = fs::read(&path).unwrap();
        assert!(marked.windows(14).any(|tag| tag == b"round/diverged"));

        let mut events = Events::open(folder.path(), 3).unwrap();
        events.append(&row(4)).unwrap();
        assert_eq!(steps(), [0, 1, 2, 3, 4]);
        let resumed = fs::read(&path).unwrap();
        assert!(!resumed.windows(14).any(|tag| tag == b"round/diverged"), "the round is played again");

        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut damaged = good.clone();
            damaged[place] ^= 1;
            assert!(records(&damaged).count() < 5, "a flipped bit at {place} goes unseen");
        }
    }
}
