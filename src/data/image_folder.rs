//! Folders of images: a subfolder per class with PNG and JPEG files of one size.
//!
//! Images are grey when all of them are, else red, green and blue; transparency is dropped and 16-bit values
//! keep their upper byte.

use std::fs;
use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::Examples;
use super::table::check_classes;
use crate::{Error, Result};

/// One decoded image, pixel by pixel.
struct Picture {
    width: usize,
    height: usize,
    /// 1 (grey) or 3.
    channels: usize,
    pixels: Vec<u8>,
}

/// The images of one folder.
pub(super) struct Pictures {
    pictures: Vec<Picture>,
    labels: Vec<u8>,
    /// Of the first image, for refusals.
    first: PathBuf,
}

/// The visible entries of a folder, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths = listed
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("read", folder)))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort_unstable();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The classes of a folder: the names of its subfolders, in order.
pub(super) fn classes(folder: &Path) -> Result<Vec<String>> {
    let names: Vec<String> = entries(folder)?
        .iter()
        .map(|path| match path.is_dir() {
            true => Ok(name(path)),
            false => Err(Error::file(path, "not a folder; put every image into the folder of its class")),
        })
        .collect::<Result<_>>()?;
    match names.len() {
        0 | 1 => {
            let problem = format!(
                "{} class folders; a classification needs at least two, each with images",
                names.len()
            );
            Err(Error::file(folder, problem))
        }
        _ => check_classes(&names).map_err(|problem| Error::file(folder, problem)).map(|()| names),
    }
}

impl Pictures {
    /// Reads the images of a folder whose subfolders are among `classes`.
    pub fn read(folder: &Path, classes: &[String]) -> Result<Self> {
        let mut files = Vec::new();
        for subfolder in entries(folder)? {
            let class = classes.iter().position(|class| *class == name(&subfolder)).ok_or_else(|| {
                Error::file(
                    &subfolder,
                    "no training images are of this class; name it like a training folder",
                )
            })?;
            files.extend(entries(&subfolder)?.into_iter().map(|path| (path, class as u8)));
        }
        let pictures: Vec<Picture> = files.par_iter().map(|(path, _)| decode(path)).collect::<Result<_>>()?;
        let Some((first, _)) = files.first() else {
            return Err(Error::file(
                folder,
                "no image; put PNG or JPEG files into the folders of the classes",
            ));
        };
        let pictures =
            Self { first: first.clone(), labels: files.iter().map(|(_, label)| *label).collect(), pictures };
        for ((path, _), picture) in files.iter().zip(&pictures.pictures) {
            pictures.check_size(path, picture)?;
        }
        Ok(pictures)
    }

    /// Refuses an image of another size than the first.
    fn check_size(&self, path: &Path, picture: &Picture) -> Result<()> {
        let Picture { width, height, .. } = self.pictures[0];
        if (picture.width, picture.height) == (width, height) {
            return Ok(());
        }
        let problem = format!(
            "{}×{} pixels, but {width}×{height} in {}; bring all images to one size, for example with `mogrify -resize {width}x{height}!`",
            picture.width,
            picture.height,
            self.first.display()
        );
        Err(Error::file(path, problem))
    }

    /// Checks that the images have the size of the training images.
    pub fn check_beside(&self, training: &Self) -> Result<()> {
        training.check_size(&self.first, &self.pictures[0])
    }

    /// Whether no image has colours.
    pub fn are_grey(&self) -> bool {
        self.pictures.iter().all(|picture| picture.channels == 1)
    }

    /// The images as examples of one channel (when all are grey) or three.
    pub fn examples(self, grey: bool) -> Result<Examples> {
        let channels = if grey { 1 } else { 3 };
        let Picture { width, height, .. } = self.pictures[0];
        let mut pixels = Vec::with_capacity(self.pictures.len() * channels * width * height);
        for picture in &self.pictures {
            for channel in 0..channels {
                let offset = channel.min(picture.channels - 1);
                pixels.extend(picture.pixels.iter().skip(offset).step_by(picture.channels));
            }
        }
        Examples::new(pixels, self.labels, [channels, height, width])
    }
}

fn decode(path: &Path) -> Result<Picture> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let decoder = match ending.as_deref() {
        Some("png") => png,
        Some("jpg" | "jpeg") => jpeg,
        _ => return Err(Error::file(path, "not a .png, .jpg or .jpeg file; remove it from the folder")),
    };
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    decoder(&bytes).map_err(|problem| {
        let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
        Error::file(path, format!("damaged image ({problem})"))
    })
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new(BufReader::new(Cursor::new(bytes)));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let size = reader.output_buffer_size().ok_or("too large for this machine")?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).map_err(|error| error.to_string())?;
    let (stored, channels) = match frame.color_type {
        png::ColorType::Grayscale => (1, 1),
        png::ColorType::GrayscaleAlpha => (2, 1),
        png::ColorType::Rgb => (3, 3),
        png::ColorType::Rgba => (4, 3),
        png::ColorType::Indexed => return Err("a palette that was not expanded".into()),
    };
    let pixels = buffer.chunks_exact(stored).flat_map(|pixel| &pixel[..channels]).copied().collect();
    Ok(Picture { width: frame.width as usize, height: frame.height as usize, channels, pixels })
}

fn jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = JpegDecoder::new(Cursor::new(bytes));
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (colours, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("no size")?;
    Ok(Picture { width, height, channels, pixels })
}
