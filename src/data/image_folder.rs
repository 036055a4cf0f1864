//! Folders of images: a subfolder per class with PNG and JPEG files of one size.
//!
//! Images are grey when all of them are, else red, green and blue, and turned as their EXIF data says.
//! Transparency is dropped, with a warning. Of 16-bit values the upper eight of the bits that the training
//! images use are kept.

mod decode;

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Examples;
use super::table::{alike, check_classes, warn};
use crate::error::count;
use crate::{Error, Result, bounds};
use decode::{Picture, Pixels, Shape, decode};

/// Names of parts of a dataset, which are no classes.
const TRAINING: [&str; 2] = ["train", "training"];
const TESTING: [&str; 5] = ["test", "testing", "val", "valid", "validation"];

/// The images of one folder.
pub(super) struct Pictures {
    pictures: Vec<Picture>,
    labels: Vec<u16>,
    /// Of the first image, for refusals.
    first: PathBuf,
}

/// The visible entries of a folder, in the order of their names.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths = listed
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("read", folder)))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort_unstable();
    Ok(paths)
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The classes of a folder: the names of its subfolders, in order.
pub(super) fn classes(folder: &Path) -> Result<Vec<String>> {
    let paths = entries(folder)?;
    check_parts(folder, &paths)?;
    let names: Vec<String> = paths
        .iter()
        .map(|path| match path.is_dir() {
            true => Ok(name(path)),
            false => Err(Error::file(path, "not a folder; put every image into the folder of its class")),
        })
        .collect::<Result<_>>()?;
    match names.len() {
        0 | 1 => {
            let found = count(names.len(), "class folder");
            let problem = format!("{found}; a classification needs at least two, each with images");
            Err(Error::file(folder, problem))
        }
        _ => {
            check_classes(&names).map_err(|problem| Error::file(folder, problem))?;
            alike(&names).into_iter().for_each(|doubt| warn(folder, doubt));
            Ok(names)
        }
    }
}

/// Refuses a folder whose subfolders are the parts of a dataset, with folders of classes in them.
fn check_parts(folder: &Path, paths: &[PathBuf]) -> Result<()> {
    let part = |names: &[&str]| {
        let has_folders =
            |path: &Path| entries(path).is_ok_and(|inside| inside.iter().any(|path| path.is_dir()));
        let found = paths.iter().find(|path| names.contains(&name(path).to_lowercase().as_str()));
        found.filter(|path| has_folders(path))
    };
    let Some(train) = part(&TRAINING) else { return Ok(()) };
    let test = part(&TESTING).map(|test| format!(", data.test = \"{}\"", test.display())).unwrap_or_default();
    let problem =
        format!("holds parts of a dataset, not classes; take data.train = \"{}\"{test}", train.display());
    Err(Error::file(folder, problem))
}

impl Pictures {
    /// Reads the images of a folder whose subfolders are among `classes`; they have one size, that of the
    /// `training` images where these are others.
    pub fn read(folder: &Path, classes: &[String], training: Option<&Self>) -> Result<Self> {
        let mut files = Vec::new();
        for subfolder in entries(folder)? {
            let class = classes.iter().position(|class| *class == name(&subfolder)).ok_or_else(|| {
                Error::file(
                    &subfolder,
                    "no training images are of this class; name it like a training folder",
                )
            })?;
            files.extend(entries(&subfolder)?.into_iter().map(|path| (path, class as u16)));
        }
        let Some((first, _)) = files.first() else {
            return Err(Error::file(
                folder,
                "no image; put PNG or JPEG files into the folders of the classes",
            ));
        };
        let fits = |shape: &Shape| check_memory(folder, files.len(), shape);
        let leads = match training {
            Some(training) => decode(first, &|shape| {
                training.check_size(first, shape)?;
                fits(shape)
            })?,
            None => decode(first, &fits)?,
        };
        let leads = Self { first: first.clone(), labels: Vec::new(), pictures: vec![leads] };
        let read = |(path, _): &(PathBuf, u16)| decode(path, &|shape| leads.check_size(path, shape));
        let others: Vec<Picture> = files[1..].par_iter().map(read).collect::<Result<_>>()?;
        let mut pictures = Self { labels: files.iter().map(|(_, label)| *label).collect(), ..leads };
        pictures.pictures.extend(others);
        match pictures.pictures.iter().filter(|picture| picture.transparent).count() {
            0 => {}
            n => {
                let all = count(files.len(), "image");
                let doubt =
                    format!("{n} of {all} transparent in places; the colours are taken as they are stored");
                warn(folder, doubt);
            }
        }
        Ok(pictures)
    }

    /// Images of no class and of one shape (channels, height, width), with their paths: a file, or all of a
    /// folder and its subfolders.
    pub fn unlabelled(path: &Path, [_, height, width]: [usize; 3]) -> Result<(Vec<PathBuf>, Self)> {
        fs::metadata(path).map_err(Error::io("read", path))?;
        let inside = |path: PathBuf| if path.is_dir() { entries(&path) } else { Ok(vec![path]) };
        let mut files = Vec::new();
        for entry in inside(path.to_owned())? {
            files.extend(inside(entry)?);
        }
        let Some(first) = files.first().cloned() else {
            return Err(Error::file(path, "no image; put PNG or JPEG files into it"));
        };
        let fits = |file: &Path, shape: &Shape| match (shape.width, shape.height) == (width, height) {
            true => check_memory(path, files.len(), shape),
            false => {
                let Shape { width: w, height: h, .. } = shape;
                let problem = format!("{w}×{h} pixels, but the model takes {width}×{height}");
                Err(Error::file(file, problem))
            }
        };
        let read = |file: &PathBuf| decode(file, &|shape| fits(file, shape));
        let pictures = files.par_iter().map(read).collect::<Result<Vec<_>>>()?;
        let pictures = Self { labels: vec![0; pictures.len()], pictures, first };
        Ok((files, pictures))
    }

    /// Refuses images with colours, for a model that learns from grey ones.
    pub fn check_grey(&self) -> Result<()> {
        if self.are_grey() {
            return Ok(());
        }
        let problem = "not all images are grey, as those are that the model learnt from; convert them";
        Err(Error::file(&self.first, problem))
    }

    fn shape(&self) -> Shape {
        self.pictures[0].shape
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// The first image only, which says what size others have.
    pub fn first(mut self) -> Self {
        self.pictures.truncate(1);
        self.labels.truncate(1);
        self
    }

    /// Refuses an image of another size than the first.
    fn check_size(&self, path: &Path, shape: &Shape) -> Result<()> {
        let Shape { width, height, .. } = self.shape();
        if (shape.width, shape.height) == (width, height) {
            return Ok(());
        }
        let problem = format!(
            "{}×{} pixels, but {width}×{height} in {}; bring all images to one size, for example with `mogrify -resize {width}x{height}!`",
            shape.width,
            shape.height,
            self.first.display()
        );
        Err(Error::file(path, problem))
    }

    /// Whether no image has colours.
    pub fn are_grey(&self) -> bool {
        self.pictures.iter().all(|picture| picture.shape.channels == 1)
    }

    /// Bits that the 16-bit images among these use, 8 to 16; none without such images.
    pub fn bits(&self) -> Option<u32> {
        let largest = |picture: &Picture| match &picture.pixels {
            Pixels::Eight(_) => None,
            Pixels::Sixteen(values) => values.iter().max().copied(),
        };
        let largest = self.pictures.iter().filter_map(largest).max()?;
        Some((u16::BITS - largest.leading_zeros()).max(8))
    }

    /// The images as examples of one channel (when all are grey) or three; 16-bit values use `bits`.
    pub fn examples(self, grey: bool, bits: u32) -> Result<Examples> {
        let channels = if grey { 1 } else { 3 };
        let Shape { width, height, .. } = self.shape();
        let mut pixels = Vec::with_capacity(self.pictures.len() * channels * width * height);
        for picture in &self.pictures {
            let stored = picture.shape.channels;
            for channel in 0..channels {
                let offset = channel.min(stored - 1);
                match &picture.pixels {
                    Pixels::Eight(values) => pixels.extend(values.iter().skip(offset).step_by(stored)),
                    Pixels::Sixteen(values) => {
                        let upper = |value: &u16| (value >> (bits - 8)).min(255) as u8;
                        pixels.extend(values.iter().skip(offset).step_by(stored).map(upper));
                    }
                }
            }
        }
        Examples::new(pixels, self.labels, [channels, height, width])
    }
}

/// Bits that 16-bit images are scaled by: those that are given, else those that were found in the images of
/// `path`, of which a warning tells.
pub(super) fn bits_in_use(given: Option<u32>, found: Option<u32>, path: &Path) -> u32 {
    let found = found.unwrap_or(u16::BITS);
    if given.is_none() && found < u16::BITS {
        let doubt =
            format!("16-bit images that use {found} bits are scaled by these; data.bits = {found} says so");
        warn(path, doubt);
    }
    given.unwrap_or(found)
}

/// Whether so many images of this shape fit into the memory: decoded, and once more as examples.
fn check_memory(folder: &Path, images: usize, shape: &Shape) -> Result<()> {
    let bytes = shape.size().saturating_mul(images as u64).saturating_mul(2);
    bounds::check_memory(bytes).map_err(|free| {
        let Shape { width, height, .. } = shape;
        let images = count(images, "image");
        let problem =
            format!("{images} of {width}×{height} pixels would take {free}; make them smaller or fewer");
        Error::file(folder, problem)
    })
}
