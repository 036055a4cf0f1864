//! One self-contained HTML file about some runs: summary, figures, audit, configurations.
//!
//! It loads nothing from elsewhere and follows the reader's light or dark scheme. The same runs give the same
//! bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::pivot::difference;
use super::plot::{self, Figure};
use super::table::{mean_of_some, mean_pm, short};
use super::{Recorded, Runs, Series, Spread};
use crate::audit::Entry;
use crate::error::{Error, Result, count};
use crate::record::{End, Measures, RunInfo, Target, by_loss, kept, mark, read_rows, write_named};
use crate::sweep::results;

const STYLE: &str = include_str!("report.css");

/// Runs that differ in their seeds only.
struct Group<'a> {
    name: String,
    runs: Vec<&'a Recorded>,
}

/// Writes the report of run, comparison and sweep directories.
///
/// # Errors
/// A folder that is none of them; a file that is missing or damaged; a file that cannot be written.
pub fn write_report(paths: &[PathBuf], title: &str, spread: Spread, out: &Path) -> Result<()> {
    let runs = Runs::read(paths)?;
    let groups = groups(&runs);
    let mut body = head(&runs, &groups, title);
    section(&mut body, "Summary", &summary(&groups, spread));
    section(&mut body, "Accuracy", &figures(paths, &groups, spread)?);
    section(&mut body, "Who can learn what", &audit(&groups)?);
    section(&mut body, "Runs", &details(&groups)?);
    let title = escape(title);
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    );
    write_named(out, page.as_bytes())
}

fn section(body: &mut String, title: &str, content: &str) {
    let _ = write!(body, "<section>\n<h2>{title}</h2>\n{content}</section>\n");
}

fn groups(runs: &Runs) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for run in &runs.runs {
        let same = |group: &&mut Group| {
            let first = group.runs[0];
            first.label == run.label && difference(first, run).is_none()
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { name: run.label.clone(), runs: vec![run] }),
        }
    }
    let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
    for group in &mut groups {
        if names.iter().filter(|name| **name == group.name).count() > 1 {
            group.name = format!("{} ({})", group.name, group.runs[0].path.display());
        }
    }
    groups
}

fn head(runs: &Runs, groups: &[Group], title: &str) -> String {
    let of = |value: &dyn Fn(&Recorded) -> String| distinct(runs.runs.iter().map(value));
    let facts = [
        ("runs", runs.runs.len().to_string()),
        ("settings", groups.len().to_string()),
        ("seeds", of(&|run| run.seed().into())),
        ("data", of(&|run| run.value("data.name").unwrap_or_default().into())),
        ("model", of(&|run| run.value("model.kind").unwrap_or_default().into())),
        ("parameters", of(&|run| run.info.parameters.to_string())),
        ("clients", of(&|run| run.value("clients").unwrap_or_default().into())),
        ("device", of(&|run| format!("{}, {} cores", run.info.device, run.info.cores))),
        ("program", of(&|run| program(&run.info))),
    ];
    let mut out = format!("<header>\n<h1>{}</h1>\n<dl>\n", escape(title));
    for (name, value) in facts {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    out + "</dl>\n</header>\n"
}

/// In the order of their first appearance.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let mut known: Vec<String> = Vec::new();
    for value in values {
        if !known.contains(&value) {
            known.push(value);
        }
    }
    known.join(", ")
}

fn summary(groups: &[Group], spread: Spread) -> String {
    let targets = groups.iter().any(|group| group.runs[0].target().is_some());
    let runs = || groups.iter().flat_map(|group| &group.runs);
    let by_loss = by_loss(runs().map(|run| &run.played));
    let mut header = vec!["run", "seeds", "rounds", "recovered (%)"];
    header.extend(if by_loss { &["final loss"][..] } else { &["final accuracy (%)", "best accuracy (%)"] });
    header.extend(["between clients (MB)", "to the server (MB)", "time (s)"]);
    if targets {
        header.push("rounds to target");
    }
    let diverged = runs().any(|run| run.played.diverged.is_some());
    if diverged {
        header.push("divergence");
    }
    let rows = groups.iter().map(|group| {
        let measures: Vec<_> = group.runs.iter().map(|run| run.measures()).collect();
        let finite = kept(&measures, |measures| measures.diverged);
        let over = |decimals, value: &dyn Fn(&Measures) -> f64| {
            mean_pm(decimals, spread, finite.iter().map(|measures| value(measures)))
        };
        let mut rounds: Vec<u64> = finite.iter().map(|measures| measures.rounds_played).collect();
        rounds.dedup();
        let played = match rounds[..] {
            [rounds] => rounds.to_string(),
            _ => over(1, &|m| m.rounds_played as f64),
        };
        let mut cells = vec![
            group.runs.len().to_string(),
            played,
            over(1, &|m| 100.0 * m.recovered as f64 / m.rounds_played as f64),
        ];
        if by_loss {
            cells.push(mean_of_some(4, spread, finite.iter().map(|m| m.final_loss)));
        } else {
            cells.push(over(2, &|m| 100.0 * m.final_accuracy));
            cells.push(over(2, &|m| 100.0 * m.best_accuracy));
        }
        cells.push(over(1, &|m| m.bytes_client_client as f64 / 1e6));
        cells.push(over(1, &|m| m.bytes_client_server as f64 / 1e6));
        cells.push(over(1, &|m| m.seconds));
        if targets {
            let rounds = measures.iter().map(|m| m.rounds_to_target.map(|rounds| rounds as f64));
            let never = measures.iter().all(|m| m.rounds_to_target.is_none());
            cells.push(match group.runs[0].target() {
                None => "–".into(),
                Some(_) if never => "never".into(),
                Some(_) => mean_of_some(1, spread, rounds),
            });
        }
        if diverged {
            let ends: Vec<Option<u64>> = measures.iter().map(|m| m.diverged).collect();
            cells.push(mark(&ends).unwrap_or_else(|| "no".into()));
        }
        Block { names: vec![group.name.clone()], rows: vec![cells] }
    });
    let accuracies = groups.iter().filter_map(|group| group.runs[0].target());
    let accuracies = distinct(accuracies.map(|target| format!("{} %", 100.0 * target)));
    let target = if targets { format!(" Target: a test accuracy of {accuracies}.") } else { String::new() };
    let seeds = if diverged { "seeds that did not diverge" } else { "seeds" };
    let note = format!("<p class=\"note\">Mean ± {} over the {seeds}.{target}</p>\n", spread.words());
    table(&header, rows, 0) + &note
}

fn figures(paths: &[PathBuf], groups: &[Group], spread: Spread) -> Result<String> {
    let series: Vec<Series> = groups
        .iter()
        .map(|group| Series {
            name: group.name.clone(),
            runs: group.runs.iter().map(|run| run.played.clone()).collect(),
        })
        .collect();
    let mut figures: Vec<Figure> = Vec::new();
    for part in series.chunks(plot::MAX_SERIES) {
        let title = if by_loss(part.iter().flat_map(|series| &series.runs)) {
            "Test loss over rounds"
        } else {
            "Test accuracy over rounds"
        };
        figures.push(plot::accuracy(part, spread, title)?);
    }
    for path in paths.iter().filter(|path| path.join("runs.csv").is_file()) {
        figures.extend(plot::final_accuracy(&results::read(path)?, spread, "Final accuracy"));
    }
    figures.iter().map(inline).collect()
}

fn inline(figure: &Figure) -> Result<String> {
    Ok(format!("<figure>\n{}</figure>\n", figure.svg()?))
}

/// The worst client of every layer of adversaries, from `leakage.csv`.
fn audit(groups: &[Group]) -> Result<String> {
    let header = [
        "run",
        "adversary",
        "LMIP (bits)",
        "max/min",
        "of the sum",
        "symbols",
        "ε, one round",
        "ε, all rounds",
    ];
    let mut blocks: Vec<Block> = Vec::new();
    let mut without = Vec::new();
    let mut assumptions = Vec::new();
    for group in groups {
        let run = group.runs[0];
        let path = run.path.join("leakage.csv");
        if !path.is_file() {
            without.push(escape(&group.name));
            continue;
        }
        let value = |key| run.value(key).unwrap_or("none").to_owned();
        let clip =
            run.value("solver.clip_norm").map_or_else(|| "not clipped".into(), |c| format!("clipped to {c}"));
        let assumed = format!(
            "standard deviation {} of an update's coordinate, updates {clip}, δ = {}",
            value("privacy.update_std"),
            value("privacy.ldp_delta")
        );
        if !assumptions.contains(&assumed) {
            assumptions.push(assumed);
        }
        let mut rows = Vec::new();
        for entries in read_rows::<Entry>(&path)?.chunk_by(|a, b| a.layer == b.layer) {
            let most = |of: &dyn Fn(&Entry) -> f64| entries.iter().map(of).fold(0.0, f64::max);
            let least = entries.iter().map(|entry| entry.lmip_bits).fold(f64::INFINITY, f64::min);
            let lmip = most(&|entry| entry.lmip_bits);
            let ratio = if lmip == least { 1.0 } else { lmip / least };
            let epsilon = most(&|e| if e.sum { e.epsilon_beyond_sum } else { e.epsilon_view });
            rows.push(vec![
                entries[0].layer.clone(),
                short(lmip),
                short(ratio),
                short(most(&|entry| entry.floor_bits)),
                entries.iter().map(|entry| entry.symbols).max().unwrap_or(0).to_string(),
                short(epsilon),
                short(most(&Entry::epsilon)),
            ]);
        }
        match blocks.iter_mut().find(|block| block.rows == rows) {
            Some(block) => block.names.push(group.name.clone()),
            None => blocks.push(Block { names: vec![group.name.clone()], rows }),
        }
    }
    let mut out = String::new();
    if !blocks.is_empty() {
        out += "<p>What the worst client gives away in a round in which no message is lost, computed from the messages of the \
                running code: local mutual information privacy (LMIP) per coordinate, how unequal clients are, what of it any exact sum gives \
                away, combinations of updates that are seen without any key, and ε of local differential privacy, beyond the sum \
                for those who obtain the sum.</p>\n";
        out += &table(&header, blocks, 1);
        for line in assumptions {
            let _ = writeln!(out, "<p class=\"note\">Assumed: {}.</p>", escape(&line));
        }
    }
    if !without.is_empty() {
        let _ = writeln!(
            out,
            "<p class=\"note\">Not measured (<code>privacy.measure</code>): {}.</p>",
            without.join(", ")
        );
    }
    Ok(out)
}

fn details(groups: &[Group]) -> Result<String> {
    let mut out = String::new();
    for group in groups {
        let _ = writeln!(out, "<details>\n<summary>{}</summary>", escape(&group.name));
        for run in &group.runs {
            let end = match (&run.info.end, run.target()) {
                (None, _) => format!("interrupted after {}", count(run.played.rows.len(), "round")),
                (Some(End { diverged: Some(diverged), .. }), _) => diverged.to_string(),
                (Some(End { exhausted: Some(exhausted), rounds, .. }), _) => {
                    format!("{}, {exhausted}", count(*rounds, "round"))
                }
                (Some(end), None) => count(end.rounds, "round"),
                (Some(end), Some(target)) => {
                    format!("{}, {}", count(end.rounds, "round"), Target::of(target, &run.played.rows))
                }
            };
            let promise = run.info.end.as_ref().and_then(|end| end.promise.as_ref());
            let end = promise.map_or_else(|| end.clone(), |promise| format!("{end}; {promise}"));
            let place = escape(&run.path.display().to_string());
            let _ =
                writeln!(out, "<h3>seed {}</h3>\n<p><code>{place}</code>: {}</p>", run.seed(), escape(&end));
            out += &inline(&plot::run(&run.played, &format!("{}, seed {}", group.name, run.seed()))?)?;
        }
        let config = escape(group.runs[0].toml.trim_end());
        let seed = escape(group.runs[0].seed());
        let _ = writeln!(out, "<h3>Configuration (seed {seed})</h3>\n<pre>{config}</pre>\n</details>");
    }
    Ok(out)
}

/// Rows of a table under their common names.
struct Block {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// After the names, `words` columns hold words, the others numbers.
fn table(header: &[&str], blocks: impl IntoIterator<Item = Block>, words: usize) -> String {
    let class = |column: usize| if column < words { "" } else { " class=\"number\"" };
    let mut out = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    for (column, name) in header.iter().enumerate() {
        let class = column.checked_sub(1).map_or("", class);
        let _ = write!(out, "<th{class}>{}</th>", escape(name));
    }
    out += "</tr></thead>\n";
    for Block { names, rows } in blocks {
        let names = names.iter().map(|name| escape(name)).collect::<Vec<_>>().join("<br>");
        let mut first = format!("<td rowspan=\"{}\">{names}</td>", rows.len());
        out += "<tbody>\n";
        for row in rows {
            let _ = write!(out, "<tr>{}", std::mem::take(&mut first));
            for (column, cell) in row.iter().enumerate() {
                let _ = write!(out, "<td{}>{}</td>", class(column), escape(cell));
            }
            out += "</tr>\n";
        }
        out += "</tbody>\n";
    }
    out + "</table></div>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The file that a report goes to: `report.html` in the only folder, or here.
///
/// # Errors
/// An ending that is not that of an HTML file.
pub fn report_path(paths: &[PathBuf], out: Option<&Path>) -> Result<PathBuf> {
    match (out, paths) {
        (Some(out), _) if out.extension().is_none_or(|end| end != "html" && end != "htm") => {
            Err(Error::file(out, "the report is an HTML file; let its name end in .html"))
        }
        (Some(out), _) => Ok(out.to_owned()),
        (None, [one]) => Ok(one.join("report.html")),
        (None, _) => Ok("report.html".into()),
    }
}

/// The program of a run, with its commit where that is known.
fn program(info: &RunInfo) -> String {
    match info.commit.as_str() {
        "unknown" => format!("seccogc {}", info.version),
        commit => format!("seccogc {} ({commit})", info.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_its_rows_once_and_text_is_escaped() {
        let block = |names: &[&str], cells: [[&str; 2]; 2]| Block {
            names: names.iter().map(ToString::to_string).collect(),
            rows: cells.iter().map(|row| row.map(String::from).to_vec()).collect(),
        };
        let html =
            table(&["run", "adversary", "ε"], [block(&["A<b>", "B"], [["link", "1"], ["server", "2"]])], 1);
        let expected = "<div class=\"wide\"><table>\n\
            <thead><tr><th>run</th><th>adversary</th><th class=\"number\">ε</th></tr></thead>\n\
            <tbody>\n\
            <tr><td rowspan=\"2\">A&lt;b&gt;<br>B</td><td>link</td><td class=\"number\">1</td></tr>\n\
            <tr><td>server</td><td class=\"number\">2</td></tr>\n\
            </tbody>\n</table></div>\n";
        assert_eq!(html, expected);
    }

    #[test]
    fn values_are_told_once_in_their_order() {
        let values = ["2", "1", "2", "10"].map(String::from);
        assert_eq!(distinct(values.into_iter()), "2, 1, 10");
    }
}
