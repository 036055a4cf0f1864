//! Datasets and partitions: examples in memory, from a data directory, from the user's own
//! files or from inside the program, and the ways to divide them among clients.
//!
//! Pixels stay `u8` in memory (complete MNIST: 55 MB); [`Examples::extend_batch`] standardises them when a
//! batch is built. `mnist-subset` is embedded in the program and needs no file; the complete datasets are
//! brought by [`fetch::fetch`]; `table` and `image-folder` are the user's own files.

mod augmentation;
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "places to fetch data from"))]
mod catalogue;
pub mod cifar;
#[cfg(feature = "cli")]
mod download;
mod examples;
#[cfg(feature = "cli")]
pub mod fetch;
pub mod idx;
mod image_folder;
mod normalisation;
pub mod partition;
mod section;
mod table;
pub mod users;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use augmentation::Augmentation;
pub use examples::Examples;
pub use normalisation::Normalisation;
pub use section::DataConfig;
pub use table::{Column, Columns, OnMissing};
pub use users::Users;

/// What is to be told of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The one class that it is of.
    #[default]
    Class,
    /// One quantity or several: regression.
    Quantity,
    /// Which labels it has, none, one or several.
    Labels,
}

/// Training and test examples of the same shape, and what is to be told of them.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The name by which configurations choose it.
    pub name: &'static str,
    /// What is to be told of an example.
    pub response: Response,
    /// The number of classes, quantities or labels: of the outputs of a model. Every class is smaller.
    pub classes: usize,
    /// The name of every class, quantity or label.
    pub class_names: Vec<String>,
    /// What quantities are standardised by before they are learnt; the identity otherwise.
    pub scale: Normalisation,
    /// The examples that clients share; none, but of their shape, where they belong to `users`.
    pub train: Examples,
    /// The examples on which the global model is measured.
    pub test: Examples,
    /// The statistics of the training examples, or the identity.
    pub normalisation: Normalisation,
    /// What local training does to the images.
    pub augmentation: Augmentation,
    /// Those who hold the training examples, where the data says so; each client is then one of them.
    pub users: Option<Arc<dyn Users>>,
}

/// The datasets that a configuration can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
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
    /// The user's own CSV file: one example a line, numeric features, one column with the class.
    #[cfg_attr(feature = "cli", value(skip))]
    Table,
    /// The user's own images: a subfolder per class with PNG and JPEG files of one size.
    #[cfg_attr(feature = "cli", value(skip))]
    ImageFolder,
    /// Images of many users: a folder per user with a subfolder per class in it.
    #[cfg_attr(feature = "cli", value(skip))]
    UserFolders,
    /// Users in JSON files of LEAF's form (Caldas et al. 2018), such as FEMNIST.
    #[cfg_attr(feature = "cli", value(skip))]
    Leaf,
    /// A population that follows a law, made when it is needed.
    #[cfg_attr(feature = "cli", value(skip))]
    Synthetic,
}

impl DatasetName {
    /// Every published dataset.
    pub const ALL: [Self; 4] = [Self::MnistSubset, Self::Mnist, Self::FashionMnist, Self::Cifar10];

    /// The name as a configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MnistSubset => "mnist-subset",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::Table => "table",
            Self::ImageFolder => "image-folder",
            Self::UserFolders => "user-folders",
            Self::Leaf => "leaf",
            Self::Synthetic => "synthetic",
        }
    }

    /// Shape (channels, height, width) and number of classes, where they are known without a file.
    #[must_use]
    pub fn shape(self) -> Option<([usize; 3], usize)> {
        self.entry().ok().map(|entry| (entry.shape, entry.classes))
    }
}

impl std::fmt::Display for DatasetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
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
        for name in DatasetName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
            #[cfg(feature = "cli")]
            assert_eq!(clap::ValueEnum::to_possible_value(&name).unwrap().get_name(), name.as_str());
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
