//! One image: its header, its pixels, and which way is up.

use std::io::{BufReader, Cursor};
use std::path::Path;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::{Error, Result, bounds};

/// Most bytes of a file.
const MOST_BYTES: u64 = 1 << 30;

/// One decoded image as it is looked at, pixel by pixel, from the upper left.
pub(super) struct Picture {
    pub shape: Shape,
    pub pixels: Pixels,
    /// Whether a pixel is transparent, which is not kept.
    pub transparent: bool,
}

/// The values of pixels, those of one after another.
pub(super) enum Pixels {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

/// What the header of an image says.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub width: usize,
    pub height: usize,
    /// 1 (grey) or 3.
    pub channels: usize,
    /// Bytes of one value.
    pub bytes: usize,
}

impl Shape {
    /// Of the decoded pixels.
    pub fn size(&self) -> u64 {
        let [width, height] = [self.width, self.height].map(|side| side as u64);
        width.saturating_mul(height).saturating_mul((self.channels * self.bytes) as u64)
    }

    fn turned(self, orientation: u8) -> Self {
        match orientation {
            5..=8 => Self { width: self.height, height: self.width, ..self },
            _ => self,
        }
    }
}

/// Decodes a PNG or JPEG file, if `admit` has nothing against what its header says.
pub(super) fn decode(path: &Path, admit: &dyn Fn(&Shape) -> Result<()>) -> Result<Picture> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let decoder = match ending.as_deref() {
        _ if path.is_dir() => {
            let problem = "a folder within that of a class; put images into the folder of their class itself";
            return Err(Error::file(path, problem));
        }
        Some("png") => png,
        Some("jpg" | "jpeg") => jpeg,
        _ => return Err(Error::file(path, "not a .png, .jpg or .jpeg file; remove it from the folder")),
    };
    let bytes = bounds::read(path, MOST_BYTES, "an image")?;
    decoder(&bytes, admit).map_err(|problem| match problem {
        Problem::Damage(problem) => {
            let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
            Error::file(path, format!("damaged image ({problem})"))
        }
        Problem::NotAdmitted(error) => error,
    })
}

enum Problem {
    Damage(String),
    NotAdmitted(Error),
}

fn damage(error: impl ToString) -> Problem {
    Problem::Damage(error.to_string())
}

type Admit<'a> = &'a dyn Fn(&Shape) -> Result<()>;

fn png(bytes: &[u8], admit: Admit) -> Result<Picture, Problem> {
    let mut decoder = png::Decoder::new(BufReader::new(Cursor::new(bytes)));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(damage)?;
    let (colour, depth) = reader.output_color_type();
    let (stored, channels) = match colour {
        png::ColorType::Grayscale => (1, 1),
        png::ColorType::GrayscaleAlpha => (2, 1),
        png::ColorType::Rgb => (3, 3),
        png::ColorType::Rgba => (4, 3),
        png::ColorType::Indexed => return Err(damage("a palette that was not expanded")),
    };
    let info = reader.info();
    let bytes = if depth == png::BitDepth::Sixteen { 2 } else { 1 };
    let shape = Shape { width: info.width as usize, height: info.height as usize, channels, bytes };
    let orientation = info.exif_metadata.as_deref().map_or(1, orientation);
    admit(&shape.turned(orientation)).map_err(Problem::NotAdmitted)?;
    let size = reader.output_buffer_size().ok_or_else(|| damage("too large for this machine"))?;
    let mut buffer = vec![0; size];
    reader.next_frame(&mut buffer).map_err(damage)?;
    let pixel = stored * bytes;
    let transparent = stored > channels
        && buffer.chunks_exact(pixel).any(|pixel| pixel[channels * bytes..].iter().any(|&a| a < 255));
    let colours = buffer.chunks_exact(pixel).flat_map(|pixel| &pixel[..channels * bytes]).copied();
    let pixels = match bytes {
        1 => Pixels::Eight(colours.collect()),
        _ => {
            let colours: Vec<u8> = colours.collect();
            Pixels::Sixteen(
                colours.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
            )
        }
    };
    Ok(Picture { shape, pixels, transparent }.turned(orientation))
}

fn jpeg(bytes: &[u8], admit: Admit) -> Result<Picture, Problem> {
    let mut decoder = JpegDecoder::new(Cursor::new(bytes));
    decoder.decode_headers().map_err(damage)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (colours, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    let (width, height) = decoder.dimensions().ok_or_else(|| damage("no size"))?;
    let shape = Shape { width, height, channels, bytes: 1 };
    let orientation = decoder.exif().map_or(1, |exif| orientation(exif));
    admit(&shape.turned(orientation)).map_err(Problem::NotAdmitted)?;
    decoder.set_options(DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(colours));
    let pixels = Pixels::Eight(decoder.decode().map_err(damage)?);
    Ok(Picture { shape, pixels, transparent: false }.turned(orientation))
}

impl Picture {
    /// The picture that a file with this orientation shows.
    fn turned(self, orientation: u8) -> Self {
        let pixels = match self.pixels {
            _ if !(2..=8).contains(&orientation) => return self,
            Pixels::Eight(pixels) => Pixels::Eight(turn(&pixels, self.shape, orientation)),
            Pixels::Sixteen(pixels) => Pixels::Sixteen(turn(&pixels, self.shape, orientation)),
        };
        Self { shape: self.shape.turned(orientation), pixels, transparent: self.transparent }
    }
}

/// `pixels` of `shape` in the order of what the orientation, 2 to 8, makes of them.
fn turn<T: Copy>(pixels: &[T], shape: Shape, orientation: u8) -> Vec<T> {
    let Shape { width, height, channels, .. } = shape;
    let to = shape.turned(orientation);
    let mut turned = Vec::with_capacity(pixels.len());
    for y in 0..to.height {
        for x in 0..to.width {
            let (column, row) = match orientation {
                2 => (width - 1 - x, y),
                3 => (width - 1 - x, height - 1 - y),
                4 => (x, height - 1 - y),
                5 => (y, x),
                6 => (y, height - 1 - x),
                7 => (width - 1 - y, height - 1 - x),
                _ => (width - 1 - y, x),
            };
            turned.extend_from_slice(&pixels[(row * width + column) * channels..][..channels]);
        }
    }
    turned
}

/// The orientation (tag 0x0112 of the first directory, 1 to 8) in EXIF data (CIPA DC-008, section 4.6); 1,
/// which is upright, where there is none.
fn orientation(exif: &[u8]) -> u8 {
    let big = exif.starts_with(b"MM");
    let short = |at: usize| -> Option<u16> {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let found = || -> Option<u16> {
        let halves = [short(4)?, short(6)?].map(usize::from);
        let directory = if big { halves[0] << 16 | halves[1] } else { halves[1] << 16 | halves[0] };
        let entry = (0..usize::from(short(directory)?))
            .map(|i| directory + 2 + 12 * i)
            .take_while(|&entry| entry < exif.len())
            .find(|&entry| short(entry) == Some(0x0112))?;
        short(entry + 8)
    };
    match found() {
        Some(orientation @ 1..=8) => orientation as u8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with another tag before the orientation.
    fn exif(big: bool, orientation: u16) -> Vec<u8> {
        let order = |bytes: [u8; 2]| if big { bytes } else { [bytes[1], bytes[0]] };
        let short = |x: u16| order(x.to_be_bytes());
        let long =
            |x: u16| if big { [0, 0, short(x)[0], short(x)[1]] } else { [short(x)[0], short(x)[1], 0, 0] };
        let mut bytes = if big { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend(short(42));
        bytes.extend(long(8));
        bytes.extend(short(2));
        for (tag, value) in [(0x0100, 3), (0x0112, orientation)] {
            bytes.extend([short(tag), short(3)].concat());
            bytes.extend(long(1));
            bytes.extend([short(value), short(0)].concat());
        }
        bytes
    }

    #[test]
    fn the_orientation_is_found_in_either_order_of_bytes() {
        for big in [true, false] {
            assert_eq!(orientation(&exif(big, 6)), 6);
            assert_eq!(orientation(&exif(big, 9)), 1);
            let whole = exif(big, 6);
            (0..whole.len() - 4).for_each(|cut| assert_eq!(orientation(&whole[..cut]), 1, "{cut}"));
        }
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), 1);
    }

    #[test]
    fn every_orientation_turns_the_picture_upright() {
        let shape = Shape { width: 3, height: 2, channels: 1, bytes: 1 };
        // a b c
        // d e f
        let turned = |orientation| String::from_utf8(turn(b"abcdef", shape, orientation)).unwrap();
        let all: Vec<String> = (2..=8).map(turned).collect();
        assert_eq!(all, ["cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"]);
        let rgb = Shape { width: 2, height: 1, channels: 3, bytes: 1 };
        assert_eq!(turn(&[1, 2, 3, 4, 5, 6], rgb, 6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(turn(&[1, 2, 3, 4, 5, 6], rgb, 2), [4, 5, 6, 1, 2, 3]);
        assert_eq!((shape.turned(6).width, shape.turned(2).width), (2, 3));
    }
}
