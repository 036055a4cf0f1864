//! Files in the form of LEAF (Caldas et al. 2018, *LEAF: A Benchmark for Federated Settings*): JSON objects
//! `{"users": [...], "num_samples": [...], "user_data": {"NAME": {"x": [...], "y": [...]}}}`, one file or a
//! folder of them, with a list of numbers (FEMNIST) for every example of `x` and its class in `y`.
//!
//! The files are read once from end to end, for what is where; a user's examples are read again, from their
//! place, when its client trains.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Users;
use super::json::Walk;
use super::moments::Moments;
use crate::data::table::{check_classes, sort};
use crate::data::{Examples, Normalisation};
use crate::error::count;
use crate::{Error, Result, bounds};

/// Most bytes of one user.
const USER: usize = 1 << 30;

/// What stands under a user's name.
#[derive(Deserialize)]
struct Raw {
    x: Vec<Vec<f64>>,
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
    shape: [usize; 3],
    normalisation: Normalisation,
    digest: [u8; 32],
}

/// What has been seen of the files so far.
struct Survey {
    places: Vec<Place>,
    classes: BTreeSet<String>,
    /// Of every example; without, that of the first as a row.
    shape: Option<[usize; 3]>,
    moments: Option<Moments>,
    digest: Sha256,
}

impl Leaf {
    /// Reads what the file, or each JSON file of the folder, holds. Every example is of this `shape`
    /// (channels, height, width), or of as many features as the first.
    pub fn survey(path: &Path, shape: Option<[usize; 3]>) -> Result<Self> {
        let files = files_of(path)?;
        let mut survey = Survey {
            places: Vec::new(),
            classes: BTreeSet::new(),
            shape,
            moments: None,
            digest: Sha256::new(),
        };
        for (i, file) in files.iter().enumerate() {
            survey.file(i as u32, file)?;
        }
        let Survey { places, classes, shape, moments, digest } = survey;
        let (Some(shape), Some(moments)) = (shape, moments) else {
            return Err(Error::file(path, "no user with examples; give `user_data` some"));
        };
        let mut classes: Vec<String> = classes.into_iter().collect();
        sort(&mut classes);
        check_classes(&classes).map_err(|problem| Error::file(path, problem))?;
        let (normalisation, digest) = (moments.normalisation(), digest.finalize().into());
        Ok(Self { files, places, classes, shape, normalisation, digest })
    }

    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// The examples of several users one after another, of these classes.
    pub fn gather(&self, users: impl Iterator<Item = usize> + Clone, classes: &[String]) -> Result<Examples> {
        let rows: u64 = users.clone().map(|user| u64::from(self.places[user].count)).sum();
        let size: usize = self.shape.iter().product();
        bounds::check_memory(rows.saturating_mul(8 * size as u64))
            .map_err(|free| Error::file(&self.files[0], format!("test examples of {free}; give fewer")))?;
        let mut all = Examples::of_values(Vec::new(), Vec::new(), self.shape)?;
        for user in users {
            all.append(&self.of_classes(user, classes)?)?;
        }
        Ok(all)
    }

    fn of_classes(&self, user: usize, classes: &[String]) -> Result<Examples> {
        let Place { file, length, start, count: rows } = self.places[user];
        let path = &self.files[file as usize];
        let refuse = |problem: String| Error::file(path, problem);
        let mut text = vec![0; length as usize];
        let mut open = File::open(path).map_err(Error::io("read", path))?;
        open.seek(SeekFrom::Start(start))
            .and_then(|_| open.read_exact(&mut text))
            .map_err(Error::io("read", path))?;
        let changed = || refuse(format!("byte {start}: the file has changed since the run began"));
        let (values, names) = parse(&text, self.shape.iter().product()).map_err(|_| changed())?;
        if names.len() != rows as usize {
            return Err(changed());
        }
        let label = |name: String| {
            let place = classes.iter().position(|class| *class == name);
            place
                .map(|place| place as u16)
                .ok_or_else(|| refuse(format!("byte {start}: no training example is of class {name:?}")))
        };
        Examples::of_values(values, names.into_iter().map(label).collect::<Result<_>>()?, self.shape)
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
        let raw: Raw = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let Some(first) = raw.x.first() else { return Ok(()) };
        let shape = *self.shape.get_or_insert([1, 1, first.len()]);
        let (values, names) = flat(raw, shape.iter().product())?;
        let rows = names.len();
        self.classes.extend(names);
        let channels = if shape[..2] == [1, 1] { shape[2] } else { shape[0] };
        let examples =
            Examples::of_values(values, vec![0; rows], shape).map_err(|error| error.to_string())?;
        self.moments.get_or_insert_with(|| Moments::new(channels)).add(&examples);
        self.places.push(Place { file, length: text.len() as u32, start, count: rows as u32 });
        Ok(())
    }
}

fn parse(text: &[u8], size: usize) -> Result<(Vec<f64>, Vec<String>), String> {
    flat(serde_json::from_slice(text).map_err(|error| error.to_string())?, size)
}

/// Values one example after another, and the names of their classes.
fn flat(raw: Raw, size: usize) -> Result<(Vec<f64>, Vec<String>), String> {
    let Raw { x, y } = raw;
    if x.len() != y.len() {
        let classes = count(y.len(), "class");
        return Err(format!("{} in `x` for {classes} in `y`", count(x.len(), "example")));
    }
    if let Some((i, own)) = x.iter().enumerate().find(|(_, own)| own.len() != size || size == 0) {
        let values = count(own.len(), "value");
        return Err(format!("example {} has {values} where {size} belong; is data.shape right?", i + 1));
    }
    let values: Vec<f64> = x.concat();
    match values.iter().position(|value| !(*value as f32).is_finite()) {
        Some(i) => Err(format!("example {}: a value that is no finite number", i / size + 1)),
        None => Ok((values, y.into_iter().map(Label::name).collect())),
    }
}

/// The file itself, or the JSON files of a folder, by their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = std::fs::read_dir(path).map_err(Error::io("read", path))?;
    let mut files = listed
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("read", path)))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort_unstable();
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
        self.of_classes(user, &self.classes)
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
        let (folder, path) = folder(TEXT);
        let leaf = Leaf::survey(folder.path(), Some([1, 2, 2])).unwrap();
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
        assert_eq!(leaf.gather(0..2, leaf.classes()).unwrap().labels(), [1, 0, 2]);
        let row = Leaf::survey(&path, None).unwrap();
        assert_eq!((row.shape(), row.normalisation().mean.len()), ([1, 1, 4], 4));
        assert_eq!(row.digest(), leaf.digest());

        std::fs::write(&path, TEXT.replace("[7, 0]", "[7]   ")).unwrap();
        let error = leaf.read(0).unwrap_err().to_string();
        assert!(error.ends_with("the file has changed since the run began"), "{error}");
        assert!(
            leaf.gather(1..2, &["0".into(), "7".into()]).unwrap_err().to_string().contains("class \"10\"")
        );
    }

    #[test]
    fn damage_names_the_user() {
        let line = |from: &str, to: &str| {
            let (_folder, path) = folder(&TEXT.replacen(from, to, 1));
            let error = Leaf::survey(&path, Some([1, 2, 2])).unwrap_err().to_string();
            error.rsplit_once("json: ").unwrap().1.to_owned()
        };
        assert_eq!(line("user_data", "data"), "no `user_data`; this is no file in LEAF's form");
        assert_eq!(line("[7, 0]", "[7]"), "user \"ann\": 2 examples in `x` for 1 class in `y`");
        assert_eq!(
            line("[1, 1, 0, 0]", "[1, 1]"),
            "user \"ann\": example 2 has 2 values where 4 belong; is data.shape right?"
        );
        assert_eq!(line("0.25", "1e300"), "user \"ann\": example 1: a value that is no finite number");
        assert!(line("0.25", "\"a\"").starts_with("user \"ann\": invalid type: string \"a\", expected f64"));
        assert_eq!(line("}}}", ""), "the text ends within a value");
    }
}
