//! Datasets and partitions: classification examples in memory, from a data directory, from the user's own
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
pub mod partition;
mod table;

use crate::seed::Seed;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use augmentation::Augmentation;
pub use examples::{Examples, Normalisation};
pub use table::Column;

use image_folder::Pictures;
use table::{Format, Table};

/// A classification task: training and test examples of the same shape.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The name by which configurations choose it.
    pub name: &'static str,
    /// The number of classes; every label is smaller.
    pub classes: usize,
    /// The name of every class.
    pub class_names: Vec<String>,
    /// The examples that clients share.
    pub train: Examples,
    /// The examples on which the global model is measured.
    pub test: Examples,
    /// The statistics of the training examples, or the identity.
    pub normalisation: Normalisation,
    /// What local training does to the images.
    pub augmentation: Augmentation,
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

/// Which examples to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The dataset: mnist-subset (inside the program), mnist, fashion-mnist or cifar10; or your own: table
    /// (CSV) or image-folder.
    pub name: DatasetName,
    /// The data directory; each complete dataset has a folder of its name in it. Default: the environment
    /// variable SECCOGC_DATA, else `seccogc` in the platform's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Whether values are standardised to mean 0 and deviation 1 per channel (images) or per feature
    /// (tables), with the statistics of the training set; otherwise pixels are scaled to [0, 1] and features
    /// stay as they are.
    pub standardise: bool,
    /// Whether local training mirrors every image left to right with probability 1/2. Not for tables.
    pub flip: bool,
    /// Local training pads every image with this many black pixels on each side and cuts it back to its size
    /// at a random place; 4 is usual for CIFAR-10, 0 is off. Not for tables.
    pub crop: usize,
    /// Own data: the CSV file, or the folder with a subfolder of PNG and JPEG files per class. Relative to
    /// the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Own data: test examples of the same form. Without it, `test_share` of the examples are set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Own data without `test`: the share of examples set aside for testing, above 0 and below 1; 0.2 when
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test_share: Option<f64>,
    /// Own data without `test`: which examples are set aside; 1 when left out. Runs with different seeds
    /// share the test set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_seed: Option<u64>,
    /// Table: the column of the class, by its name in the header or its number from 1; the last column when
    /// left out. Classes are any text; all other columns are numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Column>,
    /// Table: whether the first line names the columns; true when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// Table: the character between two fields; a comma when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            name: DatasetName::default(),
            dir: None,
            standardise: true,
            flip: false,
            crop: 0,
            train: None,
            test: None,
            test_share: None,
            test_seed: None,
            label: None,
            header: None,
            delimiter: None,
        }
    }
}

impl DataConfig {
    /// Checks the section without touching a file.
    ///
    /// # Errors
    /// [`Error::Config`] at the key of a value that breaks a rule, or that the chosen dataset has no use for.
    pub fn check(&self) -> Result<()> {
        let refuse = |key, rule: String| Err(Error::config(key, rule));
        let empty = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        if empty(&self.dir) {
            let rule = "must not be empty; name a directory or leave the key out for the default one";
            return refuse("dir", rule.into());
        }
        let (name, table) = (self.name, self.name == DatasetName::Table);
        let own = table || name == DatasetName::ImageFolder;
        let table_keys = [
            ("label", self.label.is_some()),
            ("header", self.header.is_some()),
            ("delimiter", self.delimiter.is_some()),
        ];
        let own_keys = [
            ("train", self.train.is_some()),
            ("test", self.test.is_some()),
            ("test_share", self.test_share.is_some()),
            ("test_seed", self.test_seed.is_some()),
        ];
        if let Some((key, _)) = table_keys.iter().find(|(_, given)| *given && !table) {
            return refuse(key, format!("is for name = \"table\", not {name}; remove it"));
        }
        if let Some((key, _)) = own_keys.iter().find(|(_, given)| *given && !own) {
            let rule = format!("is for name = \"table\" and \"image-folder\", not {name}; remove it");
            return refuse(key, rule);
        }
        if own && (self.train.is_none() || empty(&self.train)) {
            let what = if table { "the CSV file" } else { "the folder" };
            return refuse("train", format!("is missing; name {what} of the training examples"));
        }
        if own && empty(&self.test) {
            return refuse("test", "must not be empty; leave the key out to set examples aside".into());
        }
        for (key, given) in &own_keys[2..] {
            if *given && self.test.is_some() {
                return refuse(key, "cannot stand beside `test`; remove one of the two".into());
            }
        }
        if let Some(share) = self.test_share.filter(|share| !(*share > 0.0 && *share < 1.0)) {
            return refuse("test_share", format!("{share} must be above 0 and below 1; try 0.2"));
        }
        if let Some(delimiter) = self.delimiter.filter(|c| !c.is_ascii() || "\"\r\n".contains(*c)) {
            let rule =
                format!("{delimiter:?} cannot separate fields; take one ASCII character such as \";\"");
            return refuse("delimiter", rule);
        }
        match (self.flip, self.crop) {
            (true, _) if table => refuse("flip", "a table's rows cannot be mirrored; remove it".into()),
            (_, 1..) if table => refuse("crop", "a table's rows cannot be cropped; remove it".into()),
            _ => Ok(()),
        }
    }

    /// Shape (channels, height, width) and number of classes; only own data is read for it.
    ///
    /// # Errors
    /// As [`DataConfig::load`].
    pub fn shape(&self) -> Result<([usize; 3], usize)> {
        match self.name.shape() {
            Some(shape) => Ok(shape),
            None => self.load().map(|dataset| (dataset.train.shape(), dataset.classes)),
        }
    }

    /// Makes the paths of own data absolute: they are relative to the configuration's `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.train, &mut self.test].into_iter().flatten() {
            if !path.as_os_str().is_empty() {
                let joined = folder.join(&*path);
                *path = std::path::absolute(&joined).unwrap_or(joined);
            }
        }
    }

    /// Reads the dataset.
    ///
    /// # Errors
    /// [`Error::Config`] from [`DataConfig::check`], and at `crop` when it is not below the sides of the
    /// images; [`Error::File`] when a file is missing or damaged; [`Error::Io`] when the system refuses to
    /// read one.
    pub fn load(&self) -> Result<Dataset> {
        self.check()?;
        let (class_names, train, test) = match self.name {
            DatasetName::Table => self.load_table()?,
            DatasetName::ImageFolder => self.load_images()?,
            published => {
                let entry = published.entry()?;
                let (train, test) = entry.load(&data_dir(self.dir.as_deref()))?;
                ((0..entry.classes).map(|class| class.to_string()).collect(), train, test)
            }
        };
        let [channels, height, width] = train.shape();
        if self.crop >= height.min(width) && self.crop > 0 {
            let rule = format!("{} is not below the sides of {height}×{width} images; try 4", self.crop);
            return Err(Error::config("crop", rule));
        }
        let normalisation =
            if self.standardise { Normalisation::of(&train) } else { Normalisation::identity(channels) };
        let augmentation = Augmentation { flip: self.flip, crop: self.crop };
        let (name, classes) = (self.name.as_str(), class_names.len());
        Ok(Dataset { name, classes, class_names, train, test, normalisation, augmentation })
    }

    /// The path of own training data; [`DataConfig::check`] has seen that it is there.
    fn own(&self) -> &Path {
        self.train.as_deref().unwrap_or(Path::new(""))
    }

    /// All examples in `path`, own data of the form that this section describes, with these classes and of
    /// this shape.
    #[cfg(feature = "deploy")]
    pub(crate) fn load_own(&self, path: &Path, classes: &[String], shape: [usize; 3]) -> Result<Examples> {
        let examples = match self.name {
            DatasetName::Table => Table::read(path, &self.format())?.examples(path, classes)?,
            DatasetName::ImageFolder => Pictures::read(path, classes)?.examples(shape[0] == 1)?,
            published => {
                let rule = format!(
                    "this run learns {published}, of which every client takes the part that `partition` gives it; take --data {published}"
                );
                return Err(Error::file(path, rule));
            }
        };
        if examples.shape() == shape {
            return Ok(examples);
        }
        let text = |[channels, height, width]: [usize; 3]| format!("{channels}×{height}×{width}");
        let (own, wanted) = (text(examples.shape()), text(shape));
        Err(Error::file(path, format!("examples of {own}, but the run learns from examples of {wanted}")))
    }

    fn format(&self) -> Format<'_> {
        Format {
            header: self.header.unwrap_or(true),
            delimiter: self.delimiter.map_or(b',', |delimiter| delimiter as u8),
            label: self.label.as_ref(),
        }
    }

    fn load_table(&self) -> Result<(Vec<String>, Examples, Examples)> {
        let format = self.format();
        let path = self.own();
        let table = Table::read(path, &format)?;
        let classes = table.classes(path)?;
        let (train, test) = match &self.test {
            Some(test_path) => {
                let test = Table::read(test_path, &format)?;
                test.check_beside(&table, test_path)?;
                (table.examples(path, &classes)?, test.examples(test_path, &classes)?)
            }
            None => self.set_aside(&table.examples(path, &classes)?)?,
        };
        Ok((classes, train, test))
    }

    fn load_images(&self) -> Result<(Vec<String>, Examples, Examples)> {
        let path = self.own();
        let classes = image_folder::classes(path)?;
        let pictures = Pictures::read(path, &classes)?;
        let (train, test) = match &self.test {
            Some(test_path) => {
                let test = Pictures::read(test_path, &classes)?;
                test.check_beside(&pictures)?;
                let grey = pictures.are_grey() && test.are_grey();
                (pictures.examples(grey)?, test.examples(grey)?)
            }
            None => {
                let grey = pictures.are_grey();
                self.set_aside(&pictures.examples(grey)?)?
            }
        };
        Ok((classes, train, test))
    }

    /// Training examples, and those set aside for testing.
    fn set_aside(&self, examples: &Examples) -> Result<(Examples, Examples)> {
        if examples.len() < 2 {
            return Err(Error::file(self.own(), "one example; training and testing need at least one each"));
        }
        let seed = Seed::new(self.test_seed.unwrap_or(1));
        let all: Vec<usize> = (0..examples.len()).collect();
        let (train, test) = partition::hold_out(&all, self.test_share.unwrap_or(0.2), seed.child("test", 0));
        Ok((examples.subset(&train), examples.subset(&test)))
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
