//! The binary format of CIFAR-10 (Krizhevsky 2009): records of one label byte and 3072 pixel bytes, first
//! the 1024 red ones row by row, then green, then blue; 10,000 records a file.

use std::io::{BufRead, Seek, Write};

use crate::error::count;

/// (channels, height, width) of every image.
pub const SHAPE: [usize; 3] = [3, 32, 32];
const PLANE: usize = 1024;
/// Bytes of one record: a label and the pixels of [`SHAPE`].
pub const RECORD: usize = 1 + 3 * PLANE;

/// Appends the pixels (channel by channel) and labels of one file.
///
/// # Errors
/// What is wrong: not a whole number of records, no record, a label over 9.
pub fn extend(bytes: &[u8], pixels: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<(), String> {
    let start = labels.len();
    if bytes.is_empty() {
        return Err("holds no images".into());
    }
    if !bytes.len().is_multiple_of(RECORD) {
        return Err(format!(
            "truncated or with trailing bytes: {} in all, no whole number of CIFAR-10 records of {RECORD}",
            count(bytes.len(), "byte")
        ));
    }
    for record in bytes.chunks_exact(RECORD) {
        labels.push(record[0]);
        pixels.extend_from_slice(&record[1..]);
    }
    super::idx::check_labels(&labels[start..], 10)
}

/// Rewrites an 8-bit RGB picture 1024 pixels wide, one image a row, as one binary record per label.
///
/// # Errors
/// What is wrong with the picture, or why `out` cannot be written.
pub fn from_picture(picture: impl BufRead + Seek, labels: &[u8], mut out: impl Write) -> Result<(), String> {
    let mut reader = png::Decoder::new(picture).read_info().map_err(|error| error.to_string())?;
    let (width, height) = (reader.info().width, reader.info().height);
    let colour = reader.output_color_type();
    if (width as usize, height as usize) != (PLANE, labels.len())
        || colour != (png::ColorType::Rgb, png::BitDepth::Eight)
    {
        return Err(format!(
            "{width}×{height} {colour:?}, not {PLANE}×{} 8-bit RGB, one image a row",
            labels.len()
        ));
    }
    let mut record = [0; RECORD];
    for &label in labels {
        let row = reader.next_row().map_err(|error| error.to_string())?.ok_or("too few rows")?;
        record[0] = label;
        for (i, pixel) in row.data().chunks_exact(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                record[1 + channel * PLANE + i] = value;
            }
        }
        out.write_all(&record).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn picture(rows: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, PLANE as u32, rows);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..rows as usize * 3 * PLANE).map(|i| (i % 251) as u8).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        bytes
    }

    #[test]
    fn a_picture_becomes_records_with_separate_channels() {
        let mut file = Vec::new();
        from_picture(Cursor::new(picture(2)), &[7, 0], &mut file).unwrap();
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        extend(&file, &mut pixels, &mut labels).unwrap();
        assert_eq!(labels, [7, 0]);
        for image in 0..2 {
            for channel in 0..3 {
                for i in 0..PLANE {
                    let value = (((image * PLANE) + i) * 3 + channel) % 251;
                    assert_eq!(usize::from(pixels[(image * 3 + channel) * PLANE + i]), value);
                }
            }
        }
    }

    #[test]
    fn describes_every_damage() {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        assert_eq!(extend(&[], &mut pixels, &mut labels).unwrap_err(), "holds no images");
        assert_eq!(
            extend(&[0; RECORD + 1], &mut pixels, &mut labels).unwrap_err(),
            "truncated or with trailing bytes: 3074 bytes in all, no whole number of CIFAR-10 records of 3073"
        );
        assert_eq!(
            extend(&[10; RECORD], &mut pixels, &mut labels).unwrap_err(),
            "label 10 of example 0 is out of range 0..=9"
        );
        assert_eq!(
            from_picture(Cursor::new(picture(2)), &[0; 3], Vec::new()).unwrap_err(),
            "1024×2 (Rgb, Eight), not 1024×3 8-bit RGB, one image a row"
        );
        assert!(from_picture(Cursor::new(b"no picture"), &[0], Vec::new()).is_err());
        let half = picture(40);
        assert!(from_picture(Cursor::new(&half[..half.len() / 2]), &[0; 40], Vec::new()).is_err());
    }
}
