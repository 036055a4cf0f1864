//! Progress of a run: a bar or a dashboard on a terminal, about ten plain lines elsewhere, nothing when
//! quiet.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use super::dashboard::board;
use crate::error::{Diverged, count, plain};
use crate::protocol::Reason;
use crate::record::{End, Outcome, Row};
use crate::say::say;

/// How much is shown.
#[derive(Clone, Copy, PartialEq)]
pub enum View {
    /// Nothing.
    Quiet,
    /// A bar on a terminal, lines elsewhere.
    Bar,
    /// A dashboard on a terminal, lines elsewhere.
    Dashboard,
}

impl View {
    /// What `--quiet` and `--dashboard` ask for.
    pub fn of(quiet: bool, dashboard: bool) -> Self {
        match (quiet, dashboard) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Dashboard,
            (false, false) => Self::Bar,
        }
    }
}

/// Shows the rounds of one run on standard error.
pub struct Progress {
    label: String,
    rounds: u64,
    rows: Vec<Row>,
    start: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Dashboard(ProgressBar),
    Lines { tenth: u64 },
    Quiet,
}

/// Shows the points of a table on standard error while they are computed, once that takes a while: an
/// interrupted user keeps what was shown.
pub struct Points {
    label: &'static str,
    start: Instant,
    shown: Instant,
    quiet: bool,
    bar: Option<ProgressBar>,
}

/// What is found sooner is not shown, and lines are this far apart.
const SOON: Duration = Duration::from_secs(2);

impl Points {
    /// Starts to show.
    pub fn new(label: &'static str, quiet: bool) -> Self {
        let terminal = !quiet && std::io::stderr().is_terminal();
        let bar = terminal.then(|| bar(0, "{prefix:12} {bar:24} {pos}/{len} {elapsed} {msg}"));
        bar.iter().for_each(|bar| bar.set_prefix(label));
        Self { label, start: Instant::now(), shown: Instant::now(), quiet, bar }
    }

    /// Takes note of a point, in words that stay.
    pub fn found(&mut self, place: usize, total: usize, what: &str) {
        self.note(place, total, what, |bar| bar.println(what));
    }

    /// Takes note of a step towards the next one.
    pub fn at(&mut self, place: usize, total: usize, what: &str) {
        self.note(place, total, what, |bar| bar.set_message(what.to_owned()));
    }

    fn note(&mut self, place: usize, total: usize, what: &str, tell: impl FnOnce(&ProgressBar)) {
        if self.quiet || self.start.elapsed() < SOON {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(place as u64);
                tell(bar);
            }
            None if self.shown.elapsed() >= SOON => {
                self.shown = Instant::now();
                say!("{}: {place}/{total}, {what}", self.label);
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// A bar with this template.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━━─"));
    bar
}

/// Of the terminal, less the last one, which some terminals break a line after.
fn columns() -> usize {
    usize::from(Term::stderr().size().1).saturating_sub(1)
}

impl Progress {
    /// Starts to show a run of `rounds` rounds.
    pub fn new(label: &str, rounds: u64, view: View) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let label = plain(label).to_string();
        let display = match view {
            View::Quiet => Display::Quiet,
            View::Bar if terminal => {
                Display::Bar(bar(rounds, "{prefix:28} {bar:24} {pos}/{len} {elapsed}<{eta} {msg}"))
            }
            View::Dashboard if terminal => {
                let template = "{prefix:.bold}\n  {bar:52.blue/dim} {pos}/{len}  {elapsed} < {eta}\n{msg}";
                Display::Dashboard(bar(rounds, template))
            }
            View::Bar | View::Dashboard => Display::Lines { tenth: 0 },
        };
        if let Display::Bar(bar) | Display::Dashboard(bar) = &display {
            bar.set_prefix(label.clone());
        }
        Self { label, rounds, rows: Vec::new(), start: Instant::now(), display }
    }

    /// Takes note of the rounds that were played before.
    pub fn after(&mut self, rows: Vec<Row>) {
        if let (Display::Lines { tenth }, Some(last)) = (&mut self.display, rows.last()) {
            *tenth = last.round * 10 / self.rounds;
        }
        self.rows = rows;
    }

    /// Takes note of a finished round.
    pub fn row(&mut self, row: &Row) {
        self.rows.push(row.clone());
        let message = message(&self.rows, None);
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(row.round);
                bar.set_message(message);
            }
            Display::Dashboard(bar) => {
                bar.set_position(row.round);
                bar.set_message(board(&self.rows, None, columns()));
            }
            Display::Lines { tenth } => {
                let now = row.round * 10 / self.rounds;
                if now > *tenth {
                    *tenth = now;
                    say!("{}: round {}/{}, {message}", self.label, row.round, self.rounds);
                }
            }
            Display::Quiet => {}
        }
    }

    /// Leaves a final line, and one about the target.
    pub fn finish(&self, end: &End) {
        match &self.display {
            Display::Bar(bar) => bar.finish_and_clear(),
            Display::Dashboard(bar) => {
                bar.set_message(board(&self.rows, end.diverged.as_ref(), columns()));
                bar.abandon();
            }
            Display::Lines { .. } => {}
            Display::Quiet => return,
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let early = end.exhausted.map_or_else(String::new, |exhausted| format!(", {exhausted}"));
        say!("{}: {}{early}, {seconds:.1} s", self.label, message(&self.rows, end.diverged.as_ref()));
        if let Some(promise) = &end.promise {
            say!("{}: {promise}", self.label);
        }
        if let Some(target) = &end.target {
            let rounds = if target.reached.is_none() {
                format!(" in {}", count(end.rounds, "round"))
            } else {
                String::new()
            };
            say!("{}: {target}{rounds}", self.label);
        }
    }
}

/// The state of a run in a few words.
pub fn message(rows: &[Row], diverged: Option<&Diverged>) -> String {
    let accuracy = rows.iter().rev().find_map(|row| row.test_accuracy);
    let loss = rows.iter().rev().find_map(|row| row.test_loss);
    let accuracy = match (accuracy, loss) {
        (Some(accuracy), _) => format!("accuracy {:.2} %", 100.0 * accuracy),
        (None, Some(loss)) => format!("loss {loss:.4}"),
        (None, None) => "accuracy –".into(),
    };
    let spread = |row: &Row| {
        Some(
            [row.client_accuracy_worst?, row.client_accuracy_best?, row.client_accuracy_std?]
                .map(|x| 100.0 * x),
        )
    };
    let clients = rows.iter().rev().find_map(spread).map_or_else(String::new, |[worst, best, std]| {
        format!(" (clients {worst:.2} to {best:.2} %, std {std:.2})")
    });
    let recovered = rows.iter().filter(|row| row.outcome == Outcome::Recovered).count();
    let end = diverged.map_or_else(String::new, |diverged| format!(", {diverged}"));
    format!("{accuracy}{clients}, recovered {recovered}/{}{}{end}", rows.len(), outages(rows))
}

/// How many rounds have no sum, by reason: ` (outages: links 70, precision 8)`; nothing without any.
fn outages(rows: &[Row]) -> String {
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    for reason in rows.iter().filter_map(|row| row.reason) {
        *reasons.entry(reason).or_default() += 1;
    }
    let each: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if each.is_empty() { String::new() } else { format!(" (outages: {})", each.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_counted_by_reason() {
        let row = |round, reason| Row { reason, ..Row::blank(round) };
        let rows = [Some(Reason::Precision), None, Some(Reason::Links), Some(Reason::Precision)];
        let rows: Vec<Row> = (1..).zip(rows).map(|(round, reason)| row(round, reason)).collect();
        assert_eq!(outages(&rows), " (outages: links 1, precision 2)");
        assert_eq!(outages(&rows[1..2]), "");
    }
}
