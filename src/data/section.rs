//! The section `[data]`: which examples, and how they are read.

mod natural;
mod rows;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::image_folder::{self, Pictures};
use super::table::{Column, Columns, OnMissing, Table};
use super::users::Synthetic;
use super::{Augmentation, Dataset, DatasetName, Examples, Normalisation, Response, data_dir, partition};
use crate::paths;
use crate::seed::Seed;
use crate::{Error, Result};
use natural::check_shape;

/// Which examples to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The dataset: mnist-subset (inside the program), mnist, fashion-mnist or cifar10; your own: table (CSV)
    /// or image-folder; or data of users, for partition.kind = "natural": user-folders, leaf (JSON) or
    /// synthetic.
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
    /// Own data: the CSV file; the folder with a subfolder of PNG and JPEG files per class, or with one of
    /// these per user; LEAF's JSON file or the folder with such files. Relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Own data: test examples of the same form. Without it, `test_share` of the examples are set aside; of
    /// user-folders and leaf that share of the users, with all that they have.
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
    /// Table: the column of what is learnt, or a list of such columns, by their names in the header or their
    /// numbers from 1; the last column when left out. Classes are any text; all other columns are numbers, in
    /// double precision until they are standardised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Columns>,
    /// Table: what is learnt. class (one column), quantity (regression: the mean squared error of one column
    /// or several, standardised with the statistics of the training set where `standardise` is set) or labels
    /// (columns of 0 and 1, of which an example may have several: the mean binary cross-entropy).
    #[serde(skip_serializing_if = "is_class")]
    pub response: Response,
    /// Table: whether the first line names the columns. When left out, it does where `label` or `ignore` is a
    /// name, or no field beside the class is a number; it is an example, with a warning, where all are.
    /// Anything between has to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// Table: the character between two fields, or "tab"; a comma when left out.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "delimiter")]
    #[schemars(with = "Option<String>")]
    pub delimiter: Option<char>,
    /// Image folder: bits that values of 16-bit images use, 8 to 16, of which the upper eight are kept; those
    /// of the largest value among the training images when left out, with a warning below 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 16))]
    pub bits: Option<u32>,
    /// Table: the column that says whose each example is, for partition.kind = "natural"; like `label`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Column>,
    /// Leaf: channels, height and width of every example; a row of as many features as the first has when
    /// left out. FEMNIST has [1, 28, 28].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<[usize; 3]>,
    /// Leaf: characters of every text; longer ones lose their beginning, shorter ones get others before it.
    /// Without it, all have as many as the first. Shakespeare has 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Synthetic: the law of the population.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    /// Table: columns that are left out, by their names in the header or their numbers from 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<Column>,
    /// Table: fields that stand for no value; when left out an empty one, NA, N/A, NaN, nan, null and ?, of
    /// which only the empty one is no class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// Table: what happens to an example without a value for one of its features; refuse when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
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
            response: Response::Class,
            header: None,
            delimiter: None,
            bits: None,
            user: None,
            shape: None,
            length: None,
            synthetic: None,
            ignore: Vec::new(),
            missing: None,
            on_missing: None,
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
        let folders = [DatasetName::ImageFolder, DatasetName::UserFolders].contains(&name);
        let own = table || folders || name == DatasetName::Leaf;
        let table_keys = [
            ("label", self.label.is_some()),
            ("response", self.response != Response::Class),
            ("header", self.header.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("ignore", !self.ignore.is_empty()),
            ("missing", self.missing.is_some()),
            ("on_missing", self.on_missing.is_some()),
            ("user", self.user.is_some()),
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
            let kinds = "\"table\", \"image-folder\", \"user-folders\" and \"leaf\"";
            return refuse(key, format!("is for name = {kinds}, not {name}; remove it"));
        }
        if self.bits.is_some() && !folders {
            let kinds = "\"image-folder\" and \"user-folders\"";
            return refuse("bits", format!("is for name = {kinds}, not {name}; remove it"));
        }
        for (key, given) in [("shape", self.shape.is_some()), ("length", self.length.is_some())] {
            if given && name != DatasetName::Leaf {
                return refuse(key, format!("is for name = \"leaf\", not {name}; remove it"));
            }
        }
        if let Some(length) = self.length.filter(|length| !(1..=100_000).contains(length)) {
            return refuse("length", format!("{length} is out of range; give 1 to 100000"));
        }
        if let Some(shape) = self.shape.filter(|shape| !check_shape(*shape)) {
            return refuse("shape", format!("{shape:?} is no shape; give channels, height and width"));
        }
        match &self.synthetic {
            Some(_) if name != DatasetName::Synthetic => {
                return refuse("synthetic", format!("is for name = \"synthetic\", not {name}; remove it"));
            }
            law => law.iter().try_for_each(Synthetic::check).map_err(|error| error.within("synthetic"))?,
        }
        if let Some(bits) = self.bits.filter(|bits| !(8..=16).contains(bits)) {
            return refuse("bits", format!("{bits} is out of range; give 8 to 16"));
        }
        let columns = self.label.as_ref().map_or(1, |label| label.all().len());
        if self.response == Response::Class && columns > 1 {
            let rule = format!(
                "{columns} columns, but an example has one class; take response = \"quantity\" or \"labels\""
            );
            return refuse("label", rule);
        }
        if own && (self.train.is_none() || empty(&self.train)) {
            let what = match name {
                DatasetName::Table => "the CSV file",
                DatasetName::Leaf => "the JSON file, or the folder of such files,",
                _ => "the folder",
            };
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
        let rows = match name {
            DatasetName::Table => "a table's rows",
            DatasetName::Synthetic => "rows of features",
            // Values in between those of bytes.
            DatasetName::Leaf => "examples in JSON files",
            _ => return Ok(()),
        };
        match (self.flip, self.crop) {
            (true, _) => refuse("flip", format!("{rows} cannot be mirrored; remove it")),
            (_, 1..) => refuse("crop", format!("{rows} cannot be cropped; remove it")),
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
            None if self.name == DatasetName::Synthetic => {
                let law = self.synthetic.clone().unwrap_or_default();
                Ok(([1, 1, law.features], law.classes))
            }
            None => self.load().map(|dataset| (dataset.train.shape(), dataset.classes)),
        }
    }

    /// Makes the paths of own data absolute: they are relative to the configuration's `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.train, &mut self.test].into_iter().flatten() {
            if !path.as_os_str().is_empty() {
                *path = paths::absolute(folder, path);
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
            DatasetName::UserFolders | DatasetName::Leaf | DatasetName::Synthetic => {
                return self.load_users();
            }
            DatasetName::Table => return self.load_rows(),
            DatasetName::ImageFolder => self.load_images()?,
            published => {
                let entry = published.entry()?;
                let (train, test) = entry.load(&data_dir(self.dir.as_deref()))?;
                ((0..entry.classes).map(|class| class.to_string()).collect(), train, test)
            }
        };
        let normalisation = self.standardise.then(|| Normalisation::of(&train));
        self.dataset(class_names, train, test, normalisation)
    }

    /// The dataset of these parts; without statistics pixels are scaled to [0, 1].
    fn dataset(
        &self,
        class_names: Vec<String>,
        train: Examples,
        test: Examples,
        statistics: Option<Normalisation>,
    ) -> Result<Dataset> {
        let [channels, height, width] = train.shape();
        if self.crop >= height.min(width) && self.crop > 0 {
            let rule = format!("{} is not below the sides of {height}×{width} images; try 4", self.crop);
            return Err(Error::config("crop", rule));
        }
        let normalisation = statistics.unwrap_or_else(|| Normalisation::identity(channels));
        let augmentation = Augmentation { flip: self.flip, crop: self.crop };
        let (name, response, classes) = (self.name.as_str(), self.response, class_names.len());
        let scale = Normalisation::identity(classes);
        Ok(Dataset {
            name,
            response,
            classes,
            class_names,
            scale,
            train,
            test,
            normalisation,
            augmentation,
            users: None,
        })
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
            DatasetName::Table => {
                let mut table = Table::read(path, &self.format())?;
                table.fill_by(&(0..table.len()).collect::<Vec<_>>(), path)?;
                table.examples(path, classes)?
            }
            DatasetName::ImageFolder | DatasetName::UserFolders => {
                let pictures = Pictures::read(path, classes, None)?;
                let bits = self.bits(&pictures, path);
                pictures.examples(shape[0] == 1, bits)?
            }
            DatasetName::Leaf | DatasetName::Synthetic => {
                let rule = format!(
                    "{} lies in one place; clients of a deployment have a table or images",
                    self.name
                );
                return Err(Error::file(path, rule));
            }
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

    /// All examples in `path`, a CSV file like the training table, files of LEAF like the training files,
    /// else a folder with a subfolder of images per class; with these classes and of this shape.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another form, a class that is not among these.
    pub fn labelled(&self, path: &Path, classes: &[String], shape: [usize; 3]) -> Result<Examples> {
        let examples = if self.name == DatasetName::Table {
            let format = self.format();
            let (training, means) = self.training_table(&format)?;
            let mut table = Table::read(path, &format)?;
            table.check_beside(&training, path)?;
            table.fill(&means);
            table.examples(path, classes)?
        } else if self.name == DatasetName::Leaf {
            self.leaf()?.labelled(path, classes)?
        } else {
            let pictures = Pictures::read(path, classes, None)?;
            let bits = self.bits_of_training(&pictures)?;
            if shape[0] == 1 {
                pictures.check_grey()?;
            }
            pictures.examples(shape[0] == 1, bits)?
        };
        if examples.shape() == shape {
            return Ok(examples);
        }
        let text = |[channels, height, width]: [usize; 3]| format!("{channels}×{height}×{width}");
        let (own, wanted) = (text(examples.shape()), text(shape));
        Err(Error::file(path, format!("examples of {own}, but the run learns from examples of {wanted}")))
    }

    /// Examples of this shape without a class, and what each is called: the rows of a CSV file or the
    /// examples of files of LEAF by their number from 1; else images, a file or all of a folder and its
    /// subfolders, by their paths.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another form.
    pub fn unlabelled(&self, path: &Path, shape: [usize; 3]) -> Result<(Vec<String>, Examples)> {
        if self.name == DatasetName::Table {
            let format = self.format();
            let (training, means) = self.training_table(&format)?;
            let examples = training.unlabelled(path, &format, &means)?;
            return Ok(((1..=examples.len()).map(|row| row.to_string()).collect(), examples));
        }
        if self.name == DatasetName::Leaf {
            let examples = self.leaf()?.unlabelled(path)?;
            return Ok(((1..=examples.len()).map(|row| row.to_string()).collect(), examples));
        }
        let (paths, pictures) = Pictures::unlabelled(path, shape)?;
        let bits = self.bits_of_training(&pictures)?;
        if shape[0] == 1 {
            pictures.check_grey()?;
        }
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        Ok((names, pictures.examples(shape[0] == 1, bits)?))
    }

    /// Bits that 16-bit values among these images are scaled by: those that the training images use.
    fn bits_of_training(&self, pictures: &Pictures) -> Result<u32> {
        if self.bits.is_some() || pictures.bits().is_none() || self.name != DatasetName::ImageFolder {
            return Ok(self.bits.or(pictures.bits()).unwrap_or(u16::BITS));
        }
        let path = self.own();
        let training = Pictures::read(path, &image_folder::classes(path)?, None)?;
        Ok(self.bits(&training, path))
    }

    fn load_images(&self) -> Result<(Vec<String>, Examples, Examples)> {
        let path = self.own();
        let classes = image_folder::classes(path)?;
        let pictures = Pictures::read(path, &classes, None)?;
        let bits = self.bits(&pictures, path);
        let Some(test_path) = &self.test else {
            let grey = pictures.are_grey();
            let examples = pictures.examples(grey, bits)?;
            let (train, test) = self.set_aside(examples.len())?;
            return Ok((classes, examples.subset(&train), examples.subset(&test)));
        };
        let test = Pictures::read(test_path, &classes, Some(&pictures))?;
        let grey = pictures.are_grey() && test.are_grey();
        let (train, test) = (pictures.examples(grey, bits)?, test.examples(grey, bits)?);
        Ok((classes, train, test))
    }

    /// Bits that 16-bit images use, of which these in `path` are the training images.
    fn bits(&self, pictures: &Pictures, path: &Path) -> u32 {
        image_folder::bits_in_use(self.bits, pictures.bits(), path)
    }

    /// Which of so many examples are for training, and which are set aside for testing.
    fn set_aside(&self, examples: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        if examples < 2 {
            return Err(Error::file(self.own(), "one example; training and testing need at least one each"));
        }
        let seed = Seed::new(self.test_seed.unwrap_or(1));
        let all: Vec<usize> = (0..examples).collect();
        Ok(partition::hold_out(&all, self.test_share.unwrap_or(0.2), seed.child("test", 0)))
    }
}

fn is_class(response: &Response) -> bool {
    *response == Response::Class
}

/// One character, or a name of the tabulator, which is hard to see.
fn delimiter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<char>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut characters = text.chars();
    match (text.as_str(), characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok(Some('\t')),
        (_, Some(delimiter), None) => Ok(Some(delimiter)),
        _ => Err(serde::de::Error::custom(format!("{text:?} is not one character; take \";\" or \"tab\""))),
    }
}
