//! Tensors as a file of NumPy: a ZIP archive without compression of one `.npy` file per tensor.
//!
//! The format of `.npy` is that of NumPy's `numpy.lib.format`, version 1.0; the archive is that of PKWARE's
//! APPNOTE 6.3.3, sections 4.3.7, 4.3.12 and 4.3.16.

use flate2::Crc;

use super::NamedTensor;
use crate::error::{Error, Result};

/// 1 January 1980, the first day of the format: the same tensors give the same bytes.
const DATE: u16 = 0x21;

/// Places and sizes are 32-bit, the number of files 16-bit.
fn refuse<E>(_: E) -> Error {
    Error::Refused("the model has more tensors or bytes than an npz file holds; take safetensors".into())
}

/// A tensor as `.npy`.
fn npy(tensor: &NamedTensor) -> Vec<u8> {
    // A tuple of one has a comma in Python.
    let sides: String = tensor.shape.iter().map(|side| format!("{side}, ")).collect();
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sides.trim_end());
    // The values begin at a multiple of 64 bytes, after 10 bytes, the dictionary and a line feed.
    let length = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{dictionary:<width$}\n", width = length - 1).bytes());
    bytes.extend(tensor.values.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// What both headers of a file in the archive say of it.
fn entry(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut crc = Crc::new();
    crc.update(content);
    let (size, name) = (u32::try_from(content.len()).map_err(refuse)?, u16::try_from(name.len()));
    // Version 2.0, names in UTF-8, stored, no time, the date.
    let mut bytes: Vec<u8> = [20u16, 1 << 11, 0, 0, DATE].iter().flat_map(|x| x.to_le_bytes()).collect();
    bytes.extend([crc.sum(), size, size].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([name.map_err(refuse)?, 0].iter().flat_map(|x| x.to_le_bytes()));
    Ok(bytes)
}

/// The tensors as an archive.
pub(super) fn archive(tensors: &[NamedTensor]) -> Result<Vec<u8>> {
    let (mut files, mut directory) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let (name, content) = (format!("{}.npy", tensor.name), npy(tensor));
        let (place, entry) = (u32::try_from(files.len()).map_err(refuse)?, entry(&name, &content)?);
        files.extend(b"PK\x03\x04");
        files.extend(&entry);
        files.extend(name.bytes());
        files.extend(content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(entry);
        // No comment, the first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(place.to_le_bytes());
        directory.extend(name.bytes());
    }
    let count = u16::try_from(tensors.len()).map_err(refuse)?;
    let (place, size) = (u32::try_from(files.len()), u32::try_from(directory.len()));
    files.extend(directory);
    files.extend(b"PK\x05\x06\0\0\0\0");
    files.extend([count, count].iter().flat_map(|x| x.to_le_bytes()));
    files.extend([size.map_err(refuse)?, place.map_err(refuse)?].iter().flat_map(|x| x.to_le_bytes()));
    files.extend([0; 2]);
    Ok(files)
}
