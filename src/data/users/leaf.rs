//! Files in the form of LEAF (Caldas et al. 2018, *LEAF: A Benchmark for Federated Settings*): JSON objects
//! `{"users": [...], "num_samples": [...], "user_data": {"NAME": {"x": [...], "y": [...]}}}`, one file or a
//! folder of them, with a list of numbers (FEMNIST) or a text (Shakespeare) for every example of `x` and its
//! class in `y`. The tokens of a text are its characters: those of the training files in their order, and
//! one behind them for any other.
//!
//! The files are read once from end to end, for what is where; a user's examples are read again, from their
//! place, when its client trains.

mod form;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Users;
use super::json::Walk;
use super::moments::Moments;
use crate::data::image_folder::entries;
use crate::data::table::{check_classes, sort};
use crate::data::{Examples, Normalisation};
use crate::error::count;
use crate::{Error, Result, bounds};
pub(in crate::data) use form::Wanted;
use form::{Example, Form};

/// Most bytes of one user.
const USER: usize = 1 << 30;

/// What stands under a user's name.
#[derive(Deserialize)]
struct Raw {
    x: Vec<Example>,
    #[serde(default)]
    y: Vec<Label>,
}

/// A class, which may be written as a number or as text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a class, as a number or as text")]
enum Label {
    Number(f64),
    Text(String),
}

impl Label {
    fn name(self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Text(name) => name,
        }
    }
}

/// Where a user's examples stand.
#[derive(Debug)]
struct Place {
    file: u32,
    length: u32,
    start: u64,
    count: u32,
}

/// The users of files in LEAF's form.
#[derive(Debug)]
pub(in crate::data) struct Leaf {
    files: Vec<PathBuf>,
    places: Vec<Place>,
    classes: Vec<String>,
    form: Form,
    normalisation: Normalisation,
    digest: [u8; 32],
}

/// What has been seen of the files so far.
struct Survey {
    places: Vec<Place>,
    classes: BTreeSet<String>,
    wanted: Wanted,
    form: Option<Form>,
    /// Whether the form is given, and nothing is added to it.
    is_fixed: bool,
    /// Whether every example has a class.
    is_labelled: bool,
    moments: Option<Moments>,
    digest: Sha256,
}

impl Leaf {
    /// Reads what the file, or each JSON file of the folder, holds.
    pub fn survey(path: &Path, wanted: Wanted) -> Result<Self> {
        Self::survey_as(path, wanted, None, true)
    }

    /// Other files beside these training files.
    fn beside(&self, path: &Path, is_labelled: bool) -> Result<Self> {
        Self::survey_as(path, Wanted::default(), Some(self.form.clone()), is_labelled)
    }

    /// All examples of files beside these training files, of these classes, user after user.
    pub fn labelled(&self, path: &Path, classes: &[String]) -> Result<Examples> {
        let other = self.beside(path, true)?;
        other.gather(0..other.number(), Some(classes))
    }

    /// With the test examples of other files, whose classes are classes too.
    pub fn with_test(mut self, path: &Path) -> Result<(Self, Examples)> {
        let other = self.beside(path, true)?;
        let more = other.classes.iter().filter(|class| !self.classes.contains(class));
        let more: Vec<String> = more.cloned().collect();
        self.classes.extend(more);
        sort(&mut self.classes);
        check_classes(&self.classes).map_err(|problem| Error::file(path, problem))?;
        let test = other.gather(0..other.number(), Some(&self.classes))?;
        Ok((self, test))
    }

    /// The same without classes.
    pub fn unlabelled(&self, path: &Path) -> Result<Examples> {
        let other = self.beside(path, false)?;
        other.gather(0..other.number(), None)
    }

    fn survey_as(path: &Path, wanted: Wanted, form: Option<Form>, is_labelled: bool) -> Result<Self> {
        let files = files_of(path)?;
        let is_fixed = form.is_some();
        let mut survey = Survey {
            places: Vec::new(),
            classes: BTreeSet::new(),
            wanted,
            form,
            is_fixed,
            is_labelled,
            moments: None,
            digest: Sha256::new(),
        };
        for (i, file) in files.iter().enumerate() {
            survey.file(i as u32, file)?;
        }
        let Survey { places, classes, form, moments, digest, .. } = survey;
        let Some(form) = form.filter(|_| !places.is_empty()) else {
            return Err(Error::file(path, "no user with examples; give `user_data` some"));
        };
        let mut classes: Vec<String> = classes.into_iter().collect();
        sort(&mut classes);
        if !is_fixed {
            check_classes(&classes).map_err(|problem| Error::file(path, problem))?;
        }
        let normalisation = match (&form, moments) {
            (Form::Values(_), Some(moments)) => moments.normalisation(),
            _ => Normalisation::identity(form.shape()[0]),
        };
        Ok(Self { files, places, classes, form, normalisation, digest: digest.finalize().into() })
    }

    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// The examples of several of these users one after another.
    pub fn of_several(&self, users: &[usize]) -> Result<Examples> {
        self.gather(users.iter().copied(), Some(&self.classes))
    }

    fn gather(
        &self,
        users: impl Iterator<Item = usize> + Clone,
        classes: Option<&[String]>,
    ) -> Result<Examples> {
        let rows: u64 = users.clone().map(|user| u64::from(self.places[user].count)).sum();
        bounds::check_memory(rows.saturating_mul(self.form.bytes()))
            .map_err(|free| Error::file(&self.files[0], format!("test examples of {free}; give fewer")))?;
        let mut all = self.form.examples(Vec::new(), Vec::new())?;
        for user in users {
            all.append(&self.of_classes(user, classes)?)?;
        }
        Ok(all)
    }

    /// Of these classes, or of none.
    fn of_classes(&self, user: usize, classes: Option<&[String]>) -> Result<Examples> {
        let Place { file, length, start, count: rows } = self.places[user];
        let path = &self.files[file as usize];
        let refuse = |problem: String| Error::file(path, problem);
        let mut text = vec![0; length as usize];
        let mut open = File::open(path).map_err(Error::io("read", path))?;
        open.seek(SeekFrom::Start(start))
            .and_then(|_| open.read_exact(&mut text))
            .map_err(Error::io("read", path))?;
        let changed = || refuse(format!("byte {start}: the file has changed since the run began"));
        let Raw { x, y } = serde_json::from_slice(&text).map_err(|_| changed())?;
        if x.len() != rows as usize || classes.is_some() && y.len() != x.len() {
            return Err(changed());
        }
        let Some(classes) = classes else {
            let labels = vec![0; x.len()];
            return self.form.examples(x, labels).map_err(|_| changed());
        };
        let label = |label: Label| {
            let name = label.name();
            let place = classes.iter().position(|class| *class == name);
            place
                .map(|place| place as u16)
                .ok_or_else(|| refuse(format!("byte {start}: no training example is of class {name:?}")))
        };
        let labels = y.into_iter().map(label).collect::<Result<_>>()?;
        self.form.examples(x, labels).map_err(|_| changed())
    }
}

impl Survey {
    fn file(&mut self, number: u32, path: &Path) -> Result<()> {
        let (file, _) = bounds::open(path)?;
        let mut walk = Walk::new(BufReader::with_capacity(1 << 20, file));
        let mut found = false;
        walk.object(|walk, name| match name.as_str() {
            "user_data" => {
                found = true;
                walk.object(|walk, user| {
                    let start = walk.at();
                    let text = walk.raw(USER)?;
                    let own = |problem: String| format!("user {user:?}: {problem}");
                    self.user(number, start, &text).map_err(own)
                })
            }
            _ => walk.skip(),
        })
        .map_err(|problem: String| Error::file(path, problem))?;
        match found {
            true => Ok(()),
            false => Err(Error::file(path, "no `user_data`; this is no file in LEAF's form")),
        }
    }

    fn user(&mut self, file: u32, start: u64, text: &[u8]) -> Result<(), String> {
        self.digest.update((text.len() as u64).to_le_bytes());
        self.digest.update(text);
        let Raw { x, y } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if self.is_labelled && x.len() != y.len() {
            let classes = count(y.len(), "class");
            return Err(format!("{} in `x` for {classes} in `y`", count(x.len(), "example")));
        }
        let Some(first) = x.first() else { return Ok(()) };
        if self.form.is_none() {
            self.form = Some(Form::of(first, self.wanted)?);
        }
        let Some(form) = &mut self.form else { return Ok(()) };
        for (i, example) in x.iter().enumerate() {
            form.check(example).map_err(|problem| format!("example {} {problem}", i + 1))?;
            if !self.is_fixed {
                form.learn(example)?;
            }
        }
        let rows = x.len();
        self.classes.extend(y.into_iter().map(Label::name));
        if let Some(channels) = form.channels() {
            let examples = form.examples(x, vec![0; rows]).map_err(|error| error.to_string())?;
            self.moments.get_or_insert_with(|| Moments::new(channels)).add(&examples);
        }
        self.places.push(Place { file, length: text.len() as u32, start, count: rows as u32 });
        Ok(())
    }
}

/// The file itself, or the JSON files of a folder, by their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = entries(path)?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    match files.is_empty() {
        true => Err(Error::file(path, "no JSON file; name the folder with LEAF's files, or one of them")),
        false => Ok(files),
    }
}

impl Users for Leaf {
    fn number(&self) -> usize {
        self.places.len()
    }

    fn count(&self, user: usize) -> usize {
        self.places[user].count as usize
    }

    fn read(&self, user: usize) -> Result<Examples> {
        self.of_classes(user, Some(&self.classes))
    }

    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"users": ["ann", "bo"], "num_samples": [2, 1], "user_data":
        {"ann": {"x": [[0, 1, 0.5, 0.25], [1, 1, 0, 0]], "y": [7, 0]},
         "none": {"x": [], "y": []}, "bo": {"y": ["10"], "x": [[0.5, 0.5, 0.5, 0.5]]}}}"#;

    fn folder(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all_data_0.json");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn users_are_read_from_their_place() {
        let (place, path) = folder(TEXT);
        let squares = Wanted { shape: Some([1, 2, 2]), length: None };
        let leaf = Leaf::survey(place.path(), squares).unwrap();
        assert_eq!((leaf.number(), leaf.count(0), leaf.count(1)), (2, 2, 1));
        assert_eq!(leaf.classes(), ["0", "7", "10"]);
        let ann = leaf.read(0).unwrap();
        assert_eq!((ann.shape(), ann.labels()), ([1, 2, 2], &[1, 0][..]));
        let mut values = Vec::new();
        ann.extend_batch(&[0], &Normalisation::identity(1), &mut values);
        assert_eq!(values, [0.0, 1.0, 0.5, 0.25]);
        assert_eq!(leaf.read(1).unwrap().labels(), [2]);
        // 5.75 over 12 values.
        assert!((leaf.normalisation().mean[0] - 5.75 / 12.0).abs() < 1e-12);
        assert_eq!(leaf.of_several(&[0, 1]).unwrap().labels(), [1, 0, 2]);
        let all = leaf.of_several(&[0, 1]).unwrap();
        assert_eq!(leaf.labelled(&path, leaf.classes()).unwrap(), all);
        let (_other, more) = folder(r#"{"user_data": {"cy": {"x": [[0, 0, 0, 0]], "y": [3]}}}"#);
        let (both, test) = Leaf::survey(&path, squares).unwrap().with_test(&more).unwrap();
        assert_eq!((both.classes(), test.labels()), (&["0", "3", "7", "10"].map(String::from)[..], &[1][..]));
        assert_eq!(both.read(0).unwrap().labels(), [2, 0]);
        assert_eq!(leaf.unlabelled(&path).unwrap().labels(), [0; 3]);
        let row = Leaf::survey(&path, Wanted::default()).unwrap();
        assert_eq!((row.form.shape(), row.normalisation().mean.len()), ([1, 1, 4], 4));
        assert_eq!(row.digest(), leaf.digest());

        std::fs::write(&path, TEXT.replace("[7, 0]", "[7]   ")).unwrap();
        let error = leaf.read(0).unwrap_err().to_string();
        assert!(error.ends_with("the file has changed since the run began"), "{error}");
        assert!(
            leaf.of_classes(1, Some(&["0".into(), "7".into()]))
                .unwrap_err()
                .to_string()
                .contains("class \"10\"")
        );
    }

    #[test]
    fn damage_names_the_user() {
        let line = |from: &str, to: &str| {
            let (_folder, path) = folder(&TEXT.replacen(from, to, 1));
            let wanted = Wanted { shape: Some([1, 2, 2]), length: None };
            let error = Leaf::survey(&path, wanted).unwrap_err().to_string();
            error.rsplit_once("json: ").unwrap().1.to_owned()
        };
        assert_eq!(line("user_data", "data"), "no `user_data`; this is no file in LEAF's form");
        assert_eq!(line("[7, 0]", "[7]"), "user \"ann\": 2 examples in `x` for 1 class in `y`");
        assert_eq!(
            line("[1, 1, 0, 0]", "[1, 1]"),
            "user \"ann\": example 2 has 2 values where 4 belong; is data.shape right?"
        );
        assert_eq!(line("0.25", "1e300"), "user \"ann\": example 1 has a value that is no finite number");
        assert_eq!(
            line("[1, 1, 0, 0]", "\"text\""),
            "user \"ann\": example 2 is a text among lists of numbers"
        );
        assert!(line("0.25", "\"a\"").starts_with("user \"ann\": a list of numbers, or a text"));
        assert_eq!(line("}}}", ""), "the text ends within a value");
    }

    #[test]
    fn texts_are_sequences_of_characters() {
        let text = r#"{"user_data": {"romeo": {"x": ["abca", "b né"], "y": ["d", "e"]}}}"#;
        let (_folder, path) = folder(text);
        let leaf = Leaf::survey(&path, Wanted::default()).unwrap();
        // Space, a, b, c, n, é, and one for all others.
        let all = leaf.read(0).unwrap();
        assert_eq!((all.shape(), all.labels()), ([7, 1, 4], &[0, 1][..]));
        assert_eq!(all, Examples::of_tokens(vec![1, 2, 3, 1, 2, 0, 4, 5], vec![0, 1], 7, 4).unwrap());
        let (_other, test) = folder(r#"{"user_data": {"juliet": {"x": ["zab", "aaaab"], "y": ["d", "d"]}}}"#);
        let line = leaf.labelled(&test, leaf.classes()).unwrap_err().to_string();
        let rule = "example 1 has 3 characters where 4 belong; data.length = N brings all to N";
        assert!(line.ends_with(rule), "{line}");
        let cut = Wanted { shape: None, length: Some(4) };
        let cut = Leaf::survey(&path, cut).unwrap();
        let seen = Examples::of_tokens(vec![6, 6, 1, 2, 1, 1, 1, 2], vec![0, 0], 7, 4).unwrap();
        assert_eq!(cut.labelled(&test, cut.classes()).unwrap(), seen);
    }
}
