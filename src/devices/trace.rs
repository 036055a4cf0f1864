//! Recorded devices, replayed from a CSV file.
//!
//! The file has a header, and a line for every time that a client was there: `client` from 1, `from` and `to`
//! in seconds, and where it gives speeds `seconds_per_example`. Lines stand in any order, and those of a
//! client do not overlap. Who has no line is never there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Availability, AvailabilityLaw, Compute, ComputeLaw};
use crate::bounds;
use crate::error::{Error, Result};
use crate::paths;
use crate::seed::Seed;

/// Most bytes of a trace.
const MOST_BYTES: u64 = 1 << 28;

/// The columns, of which the last may be missing.
const COLUMNS: [&str; 4] = ["client", "from", "to", "seconds_per_example"];

/// A recorded trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// CSV file with the header `client,from,to` or `client,from,to,seconds_per_example`, a line for every
    /// time that a client was there: its number from 1, the seconds at which it came and left, and its speed.
    /// Relative to the configuration's folder. A speed holds until the client comes again.
    pub path: PathBuf,
    /// Whether time starts again from 0 at the last `to` of the file, when everybody leaves for a moment.
    /// Otherwise nobody is there any more.
    pub repeat: bool,
}

impl Trace {
    fn resolve(&mut self, folder: &Path) {
        if !self.path.as_os_str().is_empty() {
            self.path = paths::absolute(folder, &self.path);
        }
    }

    fn read(&self, clients: usize) -> Result<Model> {
        let path = &self.path;
        if path.as_os_str().is_empty() {
            return Err(Error::config("path", "a trace needs the CSV file to replay"));
        }
        let bytes = bounds::read(path, MOST_BYTES, "a trace")?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(&*bytes);
        let wrong = |error: csv::Error| Error::file(path, format!("not a CSV file: {error}"));
        let header = reader.headers().map_err(wrong)?.clone();
        if header != COLUMNS[..3] && header != COLUMNS[..] {
            let problem = format!(
                "line 1: the columns are `{}`; give client, from, to, and for speeds seconds_per_example",
                header.iter().collect::<Vec<_>>().join(",")
            );
            return Err(Error::file(path, problem));
        }
        let mut spans = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            let span = Span::of(&record, line, clients);
            spans.push(span.map_err(|problem| Error::file(path, format!("line {line}, {problem}")))?);
        }
        if spans.is_empty() {
            return Err(Error::file(
                path,
                "nobody is ever there; give a line for every time that a client is",
            ));
        }
        spans.sort_by(|a, b| (a.client, a.from).partial_cmp(&(b.client, b.from)).expect("finite numbers"));
        if let Some([a, b]) = spans.array_windows().find(|[a, b]| a.client == b.client && b.from < a.to) {
            let (first, second) = (a.line.min(b.line), a.line.max(b.line));
            let problem = format!(
                "line {second}: client {} is there already, by line {first}; let it leave before it comes again",
                a.client + 1
            );
            return Err(Error::file(path, problem));
        }
        let end = spans.iter().map(|span| span.to).fold(0.0, f64::max);
        Ok(Model { spans, end: if self.repeat { end } else { f64::INFINITY } })
    }
}

impl AvailabilityLaw for Trace {
    fn resolve_paths(&mut self, folder: &Path) {
        self.resolve(folder);
    }

    fn build(&self, clients: usize, _: Seed) -> Result<Box<dyn Availability>> {
        Ok(Box::new(self.read(clients)?))
    }
}

impl ComputeLaw for Trace {
    fn resolve_paths(&mut self, folder: &Path) {
        self.resolve(folder);
    }

    fn build(&self, clients: usize, _: Seed) -> Result<Box<dyn Compute>> {
        let model = self.read(clients)?;
        if model.spans[0].speed.is_none() {
            let problem =
                "line 1: there is no column seconds_per_example; add it, or take another compute.kind";
            return Err(Error::file(&self.path, problem));
        }
        match (0..clients as u32).find(|&client| model.before(client, f64::INFINITY).is_none()) {
            Some(client) => {
                let problem = format!("client {} has no line, and no speed; give it one", client + 1);
                Err(Error::file(&self.path, problem))
            }
            None => Ok(Box::new(model)),
        }
    }
}

/// A time that a client was there.
struct Span {
    client: u32,
    from: f64,
    to: f64,
    speed: Option<f64>,
    line: u64,
}

impl Span {
    /// The span of a line; an error says where in it something is wrong.
    fn of(record: &csv::StringRecord, line: u64, clients: usize) -> Result<Self, String> {
        let field = |i: usize| record.get(i).unwrap_or_default();
        let wrong = |i: usize, what: &str| format!("column {}: `{}` is not {what}", COLUMNS[i], field(i));
        let seconds = |i: usize| match field(i).parse::<f64>() {
            Ok(x) if x >= 0.0 && x.is_finite() => Ok(x),
            _ => Err(wrong(i, "a number of seconds from 0 on")),
        };
        let client = match field(0).parse::<usize>() {
            Ok(k) if (1..=clients).contains(&k) => (k - 1) as u32,
            _ => return Err(wrong(0, &format!("a client from 1 to {clients}"))),
        };
        let (from, to) = (seconds(1)?, seconds(2)?);
        if to <= from {
            return Err(wrong(2, &format!("later than {from}, when the client comes")));
        }
        let speed = if record.len() > 3 { Some(seconds(3)?) } else { None };
        Ok(Self { client, from, to, speed, line })
    }
}

/// A trace in memory.
struct Model {
    /// By client, then by time.
    spans: Vec<Span>,
    /// When time starts again.
    end: f64,
}

impl Model {
    fn of_trace(&self, time: f64) -> f64 {
        if self.end.is_finite() { time % self.end } else { time }
    }

    /// The place of the last span of a client that began by `time`, which is of the trace.
    fn before(&self, client: u32, time: f64) -> Option<usize> {
        let after = self.spans.partition_point(|span| (span.client, span.from) <= (client, time));
        after.checked_sub(1).filter(|&i| self.spans[i].client == client)
    }
}

impl Availability for Model {
    fn is_there(&self, client: u32, time: f64) -> bool {
        let time = self.of_trace(time);
        self.before(client, time).is_some_and(|i| time < self.spans[i].to)
    }

    fn stays(&self, client: u32, from: f64, to: f64) -> bool {
        let begin = self.of_trace(from);
        let Some(first) = self.before(client, begin) else { return false };
        // Who leaves at the moment in which it comes again has not left.
        let goes_on = |pair: &&[Span; 2]| pair[0].client == pair[1].client && pair[0].to == pair[1].from;
        let more = self.spans[first..].array_windows().take_while(goes_on).count();
        begin + (to - from) <= self.spans[first + more].to
    }
}

impl Compute for Model {
    fn seconds_per_example(&self, client: u32, _: u64, time: f64) -> f64 {
        let first = || self.spans.partition_point(|span| span.client < client);
        let span = self.before(client, self.of_trace(time)).unwrap_or_else(first);
        self.spans[span].speed.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(content: &str, repeat: bool) -> (tempfile::TempDir, Trace) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices.csv");
        std::fs::write(&path, content).unwrap();
        (folder, Trace { path, repeat })
    }

    #[test]
    fn clients_are_there_as_the_file_says() {
        let text = "client,from,to,seconds_per_example\n2, 0, 5, 0.5\n1,10,20,0.1\n1,0,10,0.2\n1,30,40,0.3\n";
        let (_folder, once) = trace(text, false);
        let model = once.read(2).unwrap();
        let there =
            |client: u32| [0, 5, 10, 15, 20, 25, 30, 35, 40].map(|t| model.is_there(client, f64::from(t)));
        assert_eq!(there(0), [true, true, true, true, false, false, true, true, false]);
        assert_eq!(there(1), [true, false, false, false, false, false, false, false, false]);
        assert!(model.stays(0, 3.0, 20.0) && !model.stays(0, 3.0, 20.5) && !model.stays(0, 15.0, 35.0));
        // A speed holds until the next one.
        let speeds = [5.0, 15.0, 25.0, 35.0, 99.0].map(|time| model.seconds_per_example(0, 1, time));
        assert_eq!(speeds, [0.2, 0.1, 0.1, 0.3, 0.3]);
        let (_folder, again) = trace(text, true);
        let model = again.read(2).unwrap();
        assert!(model.is_there(1, 84.0) && !model.is_there(1, 86.0) && model.stays(0, 83.0, 100.0));
        assert!(ComputeLaw::build(&again, 2, Seed::new(1)).is_ok());
    }

    #[test]
    fn every_wrong_line_is_named() {
        for (text, problem) in [
            (
                "client,from\n1,2\n",
                "line 1: the columns are `client,from`; give client, from, to, and for speeds seconds_per_example",
            ),
            ("client,from,to\n", "nobody is ever there; give a line for every time that a client is"),
            ("client,from,to\n1,0,5\n3,0,5\n", "line 3, column client: `3` is not a client from 1 to 2"),
            ("client,from,to\n0,0,5\n", "line 2, column client: `0` is not a client from 1 to 2"),
            ("client,from,to\n1,-1,5\n", "line 2, column from: `-1` is not a number of seconds from 0 on"),
            ("client,from,to\n1,0,inf\n", "line 2, column to: `inf` is not a number of seconds from 0 on"),
            ("client,from,to\n1,7,5\n", "line 2, column to: `5` is not later than 7, when the client comes"),
            (
                "client,from,to\n1,4,6\n2,0,5\n1,0,5\n",
                "line 4: client 1 is there already, by line 2; let it leave before it comes again",
            ),
        ] {
            let (_folder, trace) = trace(text, false);
            let line = trace.read(2).err().unwrap().to_string();
            assert_eq!(line, format!("{}: {problem}", trace.path.display()));
        }
        let (_folder, ragged) = trace("client,from,to\n1,2\n", false);
        let line = ragged.read(2).err().unwrap().to_string();
        assert!(line.contains("not a CSV file") && line.lines().count() == 1, "{line}");
        let (_folder, slow) = trace("client,from,to\n1,0,5\n", false);
        let line = ComputeLaw::build(&slow, 2, Seed::new(1)).err().unwrap().to_string();
        assert!(line.ends_with(
            "line 1: there is no column seconds_per_example; add it, or take another compute.kind"
        ));
        let (_folder, some) = trace("client,from,to,seconds_per_example\n2,0,5,1\n", false);
        let line = ComputeLaw::build(&some, 2, Seed::new(1)).err().unwrap().to_string();
        assert!(line.ends_with("client 1 has no line, and no speed; give it one"), "{line}");
    }
}
