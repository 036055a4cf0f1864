//! Experiments: a claim, the commands that test it, the results that are kept beside it, and the verdict.
//!
//! An experiment is a folder with `README.md` and `experiment.toml` ([`Spec`]). Its steps are command lines
//! of this program or of others; every step writes below one run folder. What is kept is published into the
//! experiment's folder, and the marked parts of its README are replaced by the tables that the steps left, so
//! that no number there is typed by hand:
//!
//! ```markdown
//! <!-- summary.md -->
//! …
//! <!-- end -->
//! ```
//!
//! `<!-- run -->` marks the line that says how long the run took.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::record::write_atomically;

/// `experiment.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A few words for the index.
    pub title: String,
    /// What is claimed.
    pub claim: String,
    /// Where: the paper and the section, figure or equation; empty for a claim of this project.
    #[serde(default)]
    pub source: String,
    /// What became of the claim, in one sentence: whether it holds, and the number that decides it.
    pub verdict: String,
    /// The command lines, in order.
    pub steps: Vec<Step>,
    /// Results to publish, as paths below the run folder; they are published under their file names, or as
    /// `path as name`.
    pub keep: Vec<String>,
}

const VERDICT: &str = "verdict: one sentence that begins with \"Holds\", \"Holds within\", \"Holds partly\", \
    \"Refuted\" or \"Refuted as stated\" and contains the number that decides it";

impl Spec {
    fn has_verdict(&self) -> bool {
        let first = self.verdict.split(|c: char| !c.is_alphanumeric()).next();
        let number = self.verdict.contains(|c: char| c.is_ascii_digit());
        matches!(first, Some("Holds" | "Refuted")) && number && !self.verdict.contains('\n')
    }

    /// The kept files: where a run leaves them, and their names beside the README.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.keep.iter().map(|kept| match kept.split_once(" as ") {
            Some((path, name)) => (path, Path::new(name)),
            None => (kept.as_str(), Path::new(kept).file_name().map_or(Path::new(kept), Path::new)),
        })
    }
}

/// One command line; `{out}` is the run folder, `{here}` the experiment's folder and `{root}` the one above
/// all experiments.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Arguments of this program, its verb first.
    #[serde(default)]
    pub run: Vec<String>,
    /// Instead: another program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// More arguments of a complete run.
    #[serde(default)]
    pub full: Vec<String>,
    /// More arguments of a quick run.
    #[serde(default)]
    pub quick: Vec<String>,
    /// File below the run folder for what `command` prints.
    pub save: Option<String>,
}

/// An experiment that was found.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its folder's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What it does.
    pub spec: Spec,
}

/// The program that a step runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// This one, with these arguments.
    Own(Vec<String>),
    /// Another one and its arguments, and where its output goes.
    Other(Vec<String>, Option<PathBuf>),
}

/// The command line, as a user would type it.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(words) => write!(f, "seccogc {}", words.join(" ")),
            Self::Other(words, None) => f.write_str(&words.join(" ")),
            Self::Other(words, Some(save)) => write!(f, "{} > {}", words.join(" "), save.display()),
        }
    }
}

/// How long a run took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// From its first step to its last.
    Whole(Duration),
    /// It was interrupted.
    Parts,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Whole(took) = self else { return f.write_str("in parts") };
        let seconds = took.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

impl Experiment {
    /// Reads the experiment `name` of the folder `experiments`.
    ///
    /// # Errors
    /// No such experiment; an `experiment.toml` that cannot be read or breaks a rule.
    pub fn load(experiments: &Path, name: &str) -> Result<Self> {
        let folder = experiments.join(name);
        let path = folder.join("experiment.toml");
        if !path.is_file() {
            let problem = "no such experiment; `seccogc experiment` lists them, --dir names another folder";
            return Err(Error::file(path, problem));
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let spec: Spec = toml::from_str(&text).map_err(|error| Error::file(&path, error.message()))?;
        if !spec.has_verdict() {
            return Err(Error::file(&path, VERDICT));
        }
        for (i, step) in spec.steps.iter().enumerate() {
            let refuse = |rule: &str| Err(Error::file(&path, format!("steps[{i}]: {rule}")));
            if step.run.is_empty() == step.command.is_empty() {
                return refuse("give either `run`, arguments of seccogc, or `command`, another program");
            }
            if step.save.is_some() && step.command.is_empty() {
                return refuse("only what a `command` prints can be saved");
            }
        }
        Ok(Self { name: name.into(), folder, spec })
    }

    /// All experiments of a folder, by name.
    ///
    /// # Errors
    /// A folder or an experiment that cannot be read.
    pub fn all(experiments: &Path) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(experiments).map_err(Error::io("read", experiments))? {
            let entry = entry.map_err(Error::io("read", experiments))?;
            if entry.path().join("experiment.toml").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        names.iter().map(|name| Self::load(experiments, name)).collect()
    }

    /// The command lines of a run into `out`.
    #[must_use]
    pub fn programs(&self, out: &Path, quick: bool) -> Vec<Program> {
        let here = self.folder.display().to_string();
        let root = self.folder.parent().and_then(Path::parent).unwrap_or(Path::new(".."));
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root }.display().to_string();
        let out_text = out.display().to_string();
        let fill = |text: &String| {
            text.replace("{out}", &out_text).replace("{here}", &here).replace("{root}", &root)
        };
        let program = |step: &Step| {
            let more = if quick { &step.quick } else { &step.full };
            if step.command.is_empty() {
                Program::Own(step.run.iter().chain(more).map(fill).collect())
            } else {
                let save = step.save.as_ref().map(|save| out.join(save));
                Program::Other(step.command.iter().chain(more).map(fill).collect(), save)
            }
        };
        self.spec.steps.iter().map(program).collect()
    }

    /// Copies the kept results of the run folder `out` into the experiment's folder and renews its README.
    ///
    /// # Errors
    /// A result that the steps did not leave; files that cannot be read or written.
    pub fn publish(&self, out: &Path, took: &Took) -> Result<()> {
        let read = |file: &str| {
            let path = out.join(file);
            fs::read(&path).map_err(Error::io("read", &path))
        };
        let kept =
            self.spec.kept().map(|(path, name)| Ok((name, read(path)?))).collect::<Result<Vec<_>>>()?;
        let path = self.folder.join("README.md");
        let readme = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let readme = renew(&readme, |mark| match mark {
            "run" => Ok(self.stamp(took)),
            file => Ok(String::from_utf8_lossy(&read(file)?).into_owned()),
        })
        .map_err(|error| Error::file(&path, error.to_string()))?;
        for (name, bytes) in kept {
            write_atomically(&self.folder.join(name), &bytes)?;
        }
        write_atomically(&path, readme.as_bytes())
    }

    fn stamp(&self, took: &Took) -> String {
        let threads = rayon::current_num_threads();
        let plural = if threads == 1 { "" } else { "s" };
        let (version, name, system) = (env!("CARGO_PKG_VERSION"), &self.name, std::env::consts::ARCH);
        format!(
            "`seccogc experiment {name}`: {took} with {threads} thread{plural} ({system}, seccogc {version}).\n"
        )
    }
}

/// `readme` with what stands between `<!-- MARK -->` and `<!-- end -->` replaced by `text(MARK)`, for every
/// mark that has an end.
fn renew(readme: &str, text: impl Fn(&str) -> Result<String>) -> Result<String> {
    const END: &str = "<!-- end -->";
    let mut renewed = String::new();
    let mut rest = readme;
    while let Some((before, mark, after)) = next_mark(rest) {
        let Some(end) = after.find(END) else { break };
        let _ = write!(renewed, "{before}<!-- {mark} -->\n{}\n{END}", text(mark)?.trim_end());
        rest = &after[end + END.len()..];
    }
    renewed.push_str(rest);
    Ok(renewed)
}

fn next_mark(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once("<!-- ")?;
    let (mark, after) = after.split_once(" -->")?;
    Some((before, mark, after))
}

/// The index: every experiment with its claim, its verdict and its first figure, links relative to the
/// experiments' folder.
#[must_use]
pub fn index(experiments: &[Experiment]) -> String {
    let mut page = String::from(
        "# Experiments\n\nOne claim each, its verdict, and the command that tests it: \
         `seccogc experiment NAME`, or `--quick` for a short version.\n",
    );
    for experiment in experiments {
        let Experiment { name, spec, .. } = experiment;
        let source = if spec.source.is_empty() { String::new() } else { format!(" ({})", spec.source) };
        let _ = write!(page, "\n## [{}]({name}/README.md)\n\n{}{source}\n", spec.title, spec.claim);
        let _ = write!(page, "\n**Verdict:** {}\n", spec.verdict);
        let figure =
            spec.kept().map(|(_, file)| file).find(|file| file.extension().is_some_and(|e| e == "svg"));
        if let Some(figure) = figure {
            let _ = write!(page, "\n![{}]({name}/{})\n", spec.title, figure.display());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(toml: &str, readme: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("experiments/claim");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("experiment.toml"), toml).unwrap();
        fs::write(folder.join("README.md"), readme).unwrap();
        let experiments = root.path().join("experiments");
        (root, experiments)
    }

    const MINUTE: Took = Took::Whole(Duration::from_secs(61));

    const TOML: &str = r#"
        title = "A claim"
        claim = "Sums are exact."
        verdict = "Holds: the largest error is 0."
        keep = ["run/summary.csv", "run/accuracy.svg as figure.svg"]
        [[steps]]
        run = ["compare", "{root}/configs/a.toml", "--out", "{out}/run"]
        full = ["--seeds", "3"]
        quick = ["--set", "rounds=2"]
        [[steps]]
        command = ["python3", "{here}/a.py"]
        save = "table.md"
    "#;

    #[test]
    fn steps_are_filled_in() {
        let (_root, experiments) = written(TOML, "");
        let experiment = Experiment::load(&experiments, "claim").unwrap();
        let here = experiments.join("claim").display().to_string();
        let [own, other] = &experiment.programs(Path::new("o"), true)[..] else { panic!("two steps") };
        let config = format!("{}/configs/a.toml", experiments.parent().unwrap().display());
        let words: Vec<String> =
            ["compare", &config, "--out", "o/run", "--set", "rounds=2"].map(str::to_owned).into();
        assert_eq!(*own, Program::Own(words));
        let words = vec!["python3".to_owned(), format!("{here}/a.py")];
        assert_eq!(*other, Program::Other(words, Some("o/table.md".into())));
        let Program::Own(full) = &experiment.programs(Path::new("o"), false)[0] else { panic!("own") };
        assert_eq!(full[4..], ["--seeds", "3"]);
        let lines = [own, other].map(ToString::to_string);
        assert_eq!(lines[0], format!("seccogc compare {config} --out o/run --set rounds=2"));
        assert_eq!(lines[1], format!("python3 {here}/a.py > o/table.md"));
    }

    #[test]
    fn results_are_published_and_the_readme_is_renewed() {
        let readme =
            "# A\n<!-- run -->\n<!-- end -->\ntext\n<!-- table.md -->\nold\nlines\n<!-- end -->\nlast\n";
        let (_root, experiments) = written(TOML, readme);
        let experiment = Experiment::load(&experiments, "claim").unwrap();
        let out = tempfile::tempdir().unwrap();
        let missing = experiment.publish(out.path(), &MINUTE).unwrap_err().to_string();
        assert!(missing.contains("summary.csv"), "{missing}");
        fs::create_dir(out.path().join("run")).unwrap();
        fs::write(out.path().join("run/summary.csv"), "a,b\n").unwrap();
        fs::write(out.path().join("run/accuracy.svg"), "<svg/>").unwrap();
        fs::write(out.path().join("table.md"), "| new |\n\n").unwrap();
        experiment.publish(out.path(), &MINUTE).unwrap();
        let renewed = fs::read_to_string(experiments.join("claim/README.md")).unwrap();
        assert!(
            renewed.starts_with("# A\n<!-- run -->\n`seccogc experiment claim`: 1 min 1 s with "),
            "{renewed}"
        );
        assert!(renewed.ends_with("text\n<!-- table.md -->\n| new |\n<!-- end -->\nlast\n"), "{renewed}");
        assert_eq!(fs::read_to_string(experiments.join("claim/summary.csv")).unwrap(), "a,b\n");
        // A second time changes nothing.
        experiment.publish(out.path(), &MINUTE).unwrap();
        assert_eq!(fs::read_to_string(experiments.join("claim/README.md")).unwrap(), renewed);
        let page = index(&Experiment::all(&experiments).unwrap());
        let claim = "## [A claim](claim/README.md)\n\nSums are exact.\n\n";
        let verdict = "**Verdict:** Holds: the largest error is 0.\n\n![A claim](claim/figure.svg)";
        assert!(page.contains(&format!("{claim}{verdict}")), "{page}");
    }

    #[test]
    fn wrong_specifications_are_refused() {
        let refusal = |toml: &str| {
            let (_root, experiments) = written(toml, "");
            Experiment::load(&experiments, "claim").unwrap_err().to_string()
        };
        let start = "title = 'A'\nclaim = 'B'\nverdict = 'Holds: 1 of 1.'\nkeep = []\n";
        for (steps, want) in [
            ("steps = [{}]", "steps[0]: give either `run`"),
            ("steps = [{ run = ['a'], command = ['b'] }]", "steps[0]: give either `run`"),
            ("steps = [{ run = ['a'], save = 'b' }]", "steps[0]: only what a `command` prints"),
            ("steps = [{ runs = ['a'] }]", "unknown field `runs`"),
        ] {
            let got = refusal(&format!("{start}{steps}"));
            assert!(got.contains(want), "{got}");
        }
        let (_root, experiments) = written(start, "");
        assert!(
            Experiment::load(&experiments, "other").unwrap_err().to_string().contains("no such experiment")
        );
    }

    #[test]
    fn a_claim_needs_a_verdict_and_its_number() {
        let load = |verdict: &str| {
            let toml = format!("title = 'A'\nclaim = 'B'\nkeep = []\nsteps = []\n{verdict}");
            let (_root, experiments) = written(&toml, "");
            Experiment::load(&experiments, "claim").map_err(|error| error.to_string())
        };
        for begin in ["Holds", "Holds within", "Holds partly", "Refuted", "Refuted as stated"] {
            load(&format!("verdict = '{begin}: 3 of 4 rounds.'")).unwrap();
        }
        for (verdict, want) in [
            ("", "missing field `verdict`"),
            ("verdict = ''", VERDICT),
            ("verdict = 'Holds.'", VERDICT),
            ("verdict = 'Confirmed: 3 of 4 rounds.'", VERDICT),
            ("verdict = 'Holdings: 3 of 4 rounds.'", VERDICT),
            ("verdict = '3 of 4 rounds: it holds.'", VERDICT),
            ("verdict = '''Holds:\n3 of 4 rounds.'''", VERDICT),
        ] {
            let refused = load(verdict).unwrap_err();
            assert!(refused.contains("experiment.toml: ") && refused.ends_with(want), "{refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
    }
}
