//! Datasets and partitions: image-classification examples in memory, from a data directory or from inside the
//! program, and the ways to divide them among clients.
//!
//! Pixels stay `u8` in memory (complete MNIST: 55 MB); [`Examples::extend_batch`] standardises them when a
//! batch is built. `mnist-subset` is embedded in the program and needs no file; the complete datasets are
//! brought by [`fetch::fetch`].

mod catalogue;
pub mod cifar;
mod download;
pub mod fetch;
pub mod idx;
pub mod partition;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Labelled images; a pixel is one byte per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    shape: [usize; 3],
}

impl Examples {
    /// `pixels` holds `labels.len()` images one after another, each channel by channel, row by row;
    /// `shape` is (channels, height, width).
    ///
    /// # Errors
    /// [`Error::Refused`] when the number of pixels is not the number of labels times the image size, or
    /// when an image has no pixel.
    pub fn new(pixels: Vec<u8>, labels: Vec<u8>, shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        let size: usize = shape.iter().product();
        if size == 0 || pixels.len() != labels.len() * size {
            return Err(Error::Refused(format!(
                "{} pixels are not {} images of {channels}×{height}×{width}; give every label one whole image",
                pixels.len(),
                labels.len()
            )));
        }
        Ok(Self { pixels, labels, shape })
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// (channels, height, width) of every image.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of every example, counted from 0.
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The channels × height × width bytes of example `i`; panics when there is no such example.
    #[must_use]
    pub fn pixels(&self, i: usize) -> &[u8] {
        let size: usize = self.shape.iter().product();
        &self.pixels[i * size..(i + 1) * size]
    }

    /// Appends the standardised pixels (x/255 − mean_c)/std_c of the examples `indices` to `out`, in that
    /// order: `indices.len()` × channels × height × width values. Panics when there is no such example or
    /// when `norm` has another number of channels.
    pub fn extend_batch(&self, indices: &[usize], norm: &Normalisation, out: &mut Vec<f32>) {
        let [channels, height, width] = self.shape;
        assert_eq!(norm.mean.len(), channels, "one mean per channel");
        out.reserve(indices.len() * channels * height * width);
        for &i in indices {
            let planes = self.pixels(i).chunks_exact(height * width);
            for (plane, (&mean, &std)) in planes.zip(norm.mean.iter().zip(&norm.std)) {
                let (scale, offset) = (1.0 / (255.0 * std), -mean / std);
                out.extend(plane.iter().map(|&x| f32::from(x) * scale + offset));
            }
        }
    }
}

/// The mean and standard deviation of every channel over a training set, with pixels in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, positive.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// Leaves pixels as x/255.
    #[must_use]
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// The statistics of `examples`, from exact integer sums; a constant channel gets deviation 1.
    #[must_use]
    pub fn of(examples: &Examples) -> Self {
        let [channels, height, width] = examples.shape;
        let plane = height * width;
        let mut sums = vec![(0u64, 0u64); channels];
        for (i, chunk) in examples.pixels.chunks_exact(plane).enumerate() {
            // One image plane fits u32 sums (255² · 66,000 pixels), which vectorise; larger ones are cut.
            for piece in chunk.chunks(1 << 15) {
                let sum: u32 = piece.iter().map(|&x| u32::from(x)).sum();
                let squares: u32 = piece.iter().map(|&x| u32::from(x) * u32::from(x)).sum();
                let total = &mut sums[i % channels];
                total.0 += u64::from(sum);
                total.1 += u64::from(squares);
            }
        }
        let count = (examples.len() * plane).max(1) as f64;
        let mut norm = Self::identity(channels);
        for (c, (sum, squares)) in sums.into_iter().enumerate() {
            let mean = sum as f64 / count;
            let variance = squares as f64 / count - mean * mean;
            norm.mean[c] = (mean / 255.0) as f32;
            if variance > 0.0 {
                norm.std[c] = (variance.sqrt() / 255.0) as f32;
            }
        }
        norm
    }
}

/// A classification task: training and test examples of the same shape.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The name by which configurations choose it.
    pub name: &'static str,
    /// The number of classes; every label is smaller.
    pub classes: usize,
    /// The examples that clients share.
    pub train: Examples,
    /// The examples on which the global model is measured.
    pub test: Examples,
    /// The statistics of the training examples, or the identity.
    pub normalisation: Normalisation,
}

/// The datasets that a configuration can name.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// The first 10,000 training and 2,000 test images of MNIST, inside the program.
    #[default]
    MnistSubset,
    /// MNIST (LeCun, Bottou, Bengio, Haffner 1998): handwritten digits, 28×28 grey.
    Mnist,
    /// Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): articles of clothing, 28×28 grey.
    FashionMnist,
    /// CIFAR-10 (Krizhevsky 2009): photographs of ten kinds of object, 32×32 colour.
    Cifar10,
}

impl DatasetName {
    /// Every dataset.
    pub const ALL: [Self; 4] = [Self::MnistSubset, Self::Mnist, Self::FashionMnist, Self::Cifar10];

    /// The name as a configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }
}

impl std::fmt::Display for DatasetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which examples to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The dataset: mnist-subset (inside the program), mnist, fashion-mnist or cifar10.
    pub name: DatasetName,
    /// The data directory; each dataset has a folder of its name in it. Default: the environment variable
    /// SECCOGC_DATA, else `seccogc` in the platform's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Whether pixels are standardised to mean 0 and deviation 1 per channel, with the statistics of the
    /// training set; otherwise they are scaled to [0, 1].
    pub standardise: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { name: DatasetName::default(), dir: None, standardise: true }
    }
}

impl DataConfig {
    /// Checks the section without touching a file.
    ///
    /// # Errors
    /// [`Error::Config`] at `dir` when it is empty.
    pub fn check(&self) -> Result<()> {
        match &self.dir {
            Some(dir) if dir.as_os_str().is_empty() => Err(Error::config(
                "dir",
                "must not be empty; name a directory or leave the key out for the default one",
            )),
            _ => Ok(()),
        }
    }

    /// Reads the dataset.
    ///
    /// # Errors
    /// [`Error::Config`] from [`DataConfig::check`]; [`Error::File`] when a file is missing or damaged;
    /// [`Error::Io`] when the system refuses to read one.
    pub fn load(&self) -> Result<Dataset> {
        self.check()?;
        let entry = self.name.entry();
        let (train, test) = entry.load(&data_dir(self.dir.as_deref()))?;
        let normalisation = if self.standardise {
            Normalisation::of(&train)
        } else {
            Normalisation::identity(train.shape[0])
        };
        Ok(Dataset { name: entry.name, classes: entry.classes, train, test, normalisation })
    }
}

/// The data directory: `explicit`, else the environment variable `SECCOGC_DATA`, else `seccogc` in the
/// platform's cache directory (on Linux `~/.cache/seccogc`), else `seccogc-data` here.
#[must_use]
pub fn data_dir(explicit: Option<&Path>) -> PathBuf {
    let named = |value: std::ffi::OsString| (!value.is_empty()).then(|| PathBuf::from(value));
    explicit
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("SECCOGC_DATA").and_then(named))
        .or_else(|| directories::BaseDirs::new().map(|dirs| dirs.cache_dir().join("seccogc")))
        .unwrap_or_else(|| PathBuf::from("seccogc-data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Examples {
        // Two images of two channels, 1×2: channel 0 holds 0, 255, 255, 0; channel 1 is constant.
        Examples::new(vec![0, 255, 51, 51, 255, 0, 51, 51], vec![3, 1], [2, 1, 2]).unwrap()
    }

    #[test]
    fn batches_are_standardised_per_channel_in_the_order_asked() {
        let examples = tiny();
        let norm = Normalisation::of(&examples);
        assert_eq!(norm, Normalisation { mean: vec![0.5, 0.2], std: vec![0.5, 1.0] });
        let mut batch = vec![9.0];
        examples.extend_batch(&[1, 0, 1], &norm, &mut batch);
        let expected = [9.0, 1.0, -1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0];
        assert_eq!(batch.len(), expected.len());
        for (x, y) in batch.iter().zip(expected) {
            assert!((x - y).abs() < 1e-6, "{x} is not {y}");
        }
        let mut plain = Vec::new();
        examples.extend_batch(&[0], &Normalisation::identity(2), &mut plain);
        assert!(plain.iter().zip([0.0, 1.0, 0.2, 0.2]).all(|(x, y): (&f32, f32)| (x - y).abs() < 1e-6));
    }

    #[test]
    fn incomplete_images_are_refused() {
        let error = Examples::new(vec![0; 7], vec![3, 1], [2, 1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "7 pixels are not 2 images of 2×1×2; give every label one whole image");
        assert!(Examples::new(vec![], vec![], [0, 1, 2]).is_err());
    }

    #[test]
    fn the_embedded_subset_loads_without_any_directory() {
        let config = DataConfig { dir: Some("/nowhere".into()), ..DataConfig::default() };
        let data = config.load().unwrap();
        assert_eq!((data.name, data.classes), ("mnist-subset", 10));
        assert_eq!((data.train.len(), data.test.len()), (10_000, 2_000));
        assert_eq!(data.train.shape(), [1, 28, 28]);
        assert_eq!(data.train.labels()[..5], [5, 0, 4, 1, 9]);
        let (mean, std) = (data.normalisation.mean[0], data.normalisation.std[0]);
        // Complete MNIST has 0.1307 and 0.3081.
        assert!((mean - 0.1307).abs() < 0.002 && (std - 0.3081).abs() < 0.002, "{mean} {std}");

        let plain = DataConfig { standardise: false, ..config }.load().unwrap();
        assert_eq!(plain.normalisation, Normalisation::identity(1));
    }

    #[test]
    fn the_explicit_directory_comes_first() {
        assert_eq!(data_dir(Some(Path::new("/here"))), PathBuf::from("/here"));
        assert!(!data_dir(None).as_os_str().is_empty());
    }

    #[test]
    fn names_are_spelt_alike_everywhere() {
        use clap::ValueEnum;
        for name in DatasetName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
            assert_eq!(name.to_possible_value().unwrap().get_name(), name.as_str());
        }
        let error = toml::from_str::<DataConfig>("nmae = 'mnist'").unwrap_err();
        assert!(error.message().contains("unknown field `nmae`"), "{error}");
    }

    #[test]
    fn an_empty_directory_is_refused() {
        let error = DataConfig { dir: Some("".into()), ..DataConfig::default() }.load().unwrap_err();
        assert_eq!(
            error.within("data").to_string(),
            "data.dir: must not be empty; name a directory or leave the key out for the default one"
        );
    }
}
