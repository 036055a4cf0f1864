//! The IDX format of MNIST and Fashion-MNIST (LeCun, Cortes, Burges: "The MNIST database").
//!
//! A big-endian header (two zero bytes, the type code 8 for unsigned bytes, the number of dimensions, then
//! one 32-bit size per dimension) is followed by the bytes. A problem is described in words for the caller,
//! who knows the file.

use crate::error::count;

/// Images: the pixels of all of them and their shape (channels = 1, height, width).
///
/// # Errors
/// What is wrong: no IDX header of unsigned bytes in three dimensions, no image or no pixel, too few or too
/// many bytes.
pub fn images(bytes: Vec<u8>) -> Result<(Vec<u8>, [usize; 3]), String> {
    let [_, height, width] = header(&bytes, "images")?;
    Ok((body(bytes, 16), [1, height, width]))
}

/// Labels, each smaller than `classes`.
///
/// # Errors
/// What is wrong: no IDX header of unsigned bytes in one dimension, no label, too few or too many bytes, a
/// label that is not smaller than `classes`.
pub fn labels(bytes: Vec<u8>, classes: usize) -> Result<Vec<u8>, String> {
    let [_] = header(&bytes, "labels")?;
    let labels = body(bytes, 8);
    check_labels(&labels, classes)?;
    Ok(labels)
}

/// Whether every label is smaller than `classes`.
///
/// # Errors
/// Names the first label that is not.
pub(super) fn check_labels(labels: &[u8], classes: usize) -> Result<(), String> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(i) => Err(format!(
            "label {} of example {i} is out of range 0..={}",
            labels[i],
            classes.saturating_sub(1)
        )),
    }
}

/// The sizes of the D dimensions, once the length of the file agrees with them.
fn header<const D: usize>(bytes: &[u8], what: &str) -> Result<[usize; D], String> {
    let magic = 0x0800 + D as u32;
    let word = |i: usize| {
        let word = bytes.get(4 * i..4 * i + 4)?;
        Some(u32::from_be_bytes(word.try_into().expect("four bytes")))
    };
    let truncated = |wanted: u128| format!("truncated: {} where {wanted} belong", count(bytes.len(), "byte"));
    match word(0) {
        None => return Err(truncated(4 * (D as u128 + 1))),
        Some(found) if found != magic => {
            return Err(format!("wrong magic number {found:#010x} for IDX {what} (expected {magic:#010x})"));
        }
        Some(_) => {}
    }
    let mut sizes = [0; D];
    for (i, size) in sizes.iter_mut().enumerate() {
        *size = word(i + 1).ok_or_else(|| truncated(4 * (D as u128 + 1)))? as usize;
    }
    let values: u128 = sizes.iter().map(|&size| size as u128).product();
    let (found, wanted) = (bytes.len() as u128, 4 * (D as u128 + 1) + values);
    match found {
        _ if values == 0 => Err(format!("holds no {what}")),
        _ if found < wanted => Err(truncated(wanted)),
        _ if found > wanted => {
            Err(format!("{} after the last of the {what}", count(found - wanted, "trailing byte")))
        }
        _ => Ok(sizes),
    }
}

fn body(mut bytes: Vec<u8>, header: usize) -> Vec<u8> {
    bytes.drain(..header);
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An IDX file of unsigned bytes.
    pub fn file(sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn reads_what_the_format_says() {
        let (pixels, shape) = images(file(&[2, 1, 3], &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((pixels, shape), (vec![1, 2, 3, 4, 5, 6], [1, 1, 3]));
        assert_eq!(labels(file(&[2], &[9, 0]), 10).unwrap(), [9, 0]);
    }

    #[test]
    fn describes_every_damage() {
        let image = |bytes| images(bytes).unwrap_err();
        let label = |bytes| labels(bytes, 10).unwrap_err();
        assert_eq!(image(vec![0, 0, 8]), "truncated: 3 bytes where 16 belong");
        assert_eq!(image(vec![0, 0, 8, 3, 0]), "truncated: 5 bytes where 16 belong");
        assert_eq!(image(file(&[2, 2, 2], &[0; 7])), "truncated: 23 bytes where 24 belong");
        assert_eq!(
            image(file(&[2], &[0; 2])),
            "wrong magic number 0x00000801 for IDX images (expected 0x00000803)"
        );
        assert_eq!(
            label(b"<html>".to_vec()),
            "wrong magic number 0x3c68746d for IDX labels (expected 0x00000801)"
        );
        assert_eq!(label(file(&[2], &[0; 5])), "3 trailing bytes after the last of the labels");
        assert_eq!(label(file(&[3], &[0, 9, 10])), "label 10 of example 2 is out of range 0..=9");
        assert_eq!(image(file(&[0, 28, 28], &[])), "holds no images");
        // Sizes whose product overflows 64 bits must not panic.
        assert_eq!(
            image(file(&[u32::MAX; 3], &[])),
            "truncated: 16 bytes where 79228162458924105385300197391 belong"
        );
    }
}
