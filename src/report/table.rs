//! The table of a comparison.

use super::{Spread, Summary};
use crate::record::{kept, mark};

const SCHEME: [&str; 6] = ["protocol", "keys", "key std", "code", "s", "recovered (%)"];
const ACCURACIES: [&str; 2] = ["final accuracy (%)", "best accuracy (%)"];
const LOSS: &str = "final loss";
const COSTS: [&str; 3] = ["client→client (MB)", "client→server (MB)", "time (s)"];
const TEXT_COLUMNS: [usize; 3] = [0, 1, 3];
const DIVERGED: &str = "divergence";
const EPSILON: &str = "ε";
const TO_TARGET: [&str; 3] = ["rounds to target", "MB to target", "seconds to target"];

/// A Markdown table that is aligned for a terminal too: one line per contender, in the order of their first
/// appearance, mean ± sample standard deviation over the seeds when there are several. 1 MB = 10⁶ bytes; `–`
/// stands for a value that does not exist. A mean over accuracies is one over the seeds that were tested;
/// where there are none, as for quantities, the final loss stands in their place. Where a contender reached
/// the target accuracy, three columns say at what cost: means over the seeds that did, with their number if
/// it was not all of them. Where a run diverged, a column says so, and the other columns are about the seeds
/// that did not. ε is [`Summary::epsilon`], the largest of all seeds.
#[must_use]
pub fn table(summaries: &[Summary]) -> String {
    let contenders = groups(summaries, |a, b| a.protocol == b.protocol);
    let targeted = summaries.iter().any(|summary| summary.rounds_to_target.is_some());
    let by_loss = summaries.iter().all(|one| one.final_accuracy.is_nan())
        && summaries.iter().any(|one| one.final_loss.is_some());
    let mut header = SCHEME.to_vec();
    header.extend(if by_loss { &[LOSS][..] } else { &ACCURACIES });
    header.extend(COSTS);
    let diverged = summaries.iter().any(|summary| summary.diverged.is_some());
    // Where nobody's is finite the column would say nothing.
    let private = summaries.iter().any(|summary| summary.epsilon.is_some_and(f64::is_finite));
    header.extend(private.then_some(EPSILON));
    header.extend(TO_TARGET.iter().filter(|_| targeted));
    header.extend(diverged.then_some(DIVERGED));
    let line = |seeds: &[&Summary]| {
        let target = targeted.then(|| to_target(seeds));
        let ends: Vec<Option<u64>> = seeds.iter().map(|seed| seed.diverged).collect();
        let end = diverged.then(|| mark(&ends).unwrap_or_else(|| "no".into()));
        let epsilon = private.then(|| epsilon(seeds));
        let cells = cells(seeds, by_loss).into_iter().chain(epsilon);
        cells.chain(target.into_iter().flatten()).chain(end).collect::<Vec<_>>()
    };
    let lines: Vec<_> = contenders.iter().map(|seeds| line(seeds)).collect();
    markdown(&header, &TEXT_COLUMNS, &lines)
}

/// The rows that are the same, in the order of their first appearance; no group is empty.
pub(super) fn groups<T>(rows: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<Vec<&T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| same(group[0], row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// A Markdown table that is aligned for a terminal too: `text_columns` (indices) to the left, numbers to the
/// right.
#[must_use]
pub fn markdown(
    header: &[impl AsRef<str>],
    text_columns: &[usize],
    lines: &[impl AsRef<[String]>],
) -> String {
    let header: Vec<String> = header.iter().map(|cell| cell.as_ref().to_owned()).collect();
    let lines: Vec<&[String]> = lines.iter().map(AsRef::as_ref).collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| &line[column]).chain([&header[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let is_text = |column| text_columns.contains(&column);
    let line = |cells: &[String]| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if is_text(column) { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
        });
        format!("|{}\n", padded.collect::<String>())
    };
    let rules = widths.iter().enumerate().map(|(column, &width)| {
        let dashes = "-".repeat(width + 1);
        if is_text(column) { format!(":{dashes}|") } else { format!("{dashes}:|") }
    });
    let rule = format!("|{}\n", rules.collect::<String>());
    line(&header) + &rule + &lines.iter().map(|cells| line(cells)).collect::<String>()
}

/// One contender, never without a seed.
fn cells(seeds: &[&Summary], by_loss: bool) -> Vec<String> {
    let first = seeds[0];
    let finite = kept(seeds, |seed| seed.diverged);
    let over = |decimals, value: fn(&Summary) -> f64| {
        mean_pm(decimals, Spread::Deviation, finite.iter().map(|seed| value(seed)))
    };
    let mut cells = vec![
        text(&first.protocol),
        text(&first.keys),
        first.key_std.map_or_else(|| "–".into(), |std| std.to_string()),
        text(&first.code),
        first.stragglers.map_or_else(|| "–".into(), |s| s.to_string()),
        over(1, |seed| 100.0 * seed.recovered as f64 / seed.rounds as f64),
    ];
    if by_loss {
        cells.push(mean_of_some(4, Spread::Deviation, finite.iter().map(|seed| seed.final_loss)));
    } else {
        cells.push(over(2, |seed| 100.0 * seed.final_accuracy));
        cells.push(over(2, |seed| 100.0 * seed.best_accuracy));
    }
    cells.push(over(1, |seed| seed.bytes_client_client as f64 / 1e6));
    cells.push(over(1, |seed| seed.bytes_client_server as f64 / 1e6));
    cells.push(over(1, |seed| seed.seconds));
    cells
}

/// The largest of all seeds.
fn epsilon(seeds: &[&Summary]) -> String {
    let most = seeds.iter().filter_map(|seed| seed.epsilon).reduce(f64::max);
    most.map_or_else(|| "–".into(), |epsilon| if epsilon.is_infinite() { "∞".into() } else { short(epsilon) })
}

fn to_target(seeds: &[&Summary]) -> [String; TO_TARGET.len()] {
    let over = |decimals, value: &dyn Fn(&Summary) -> Option<f64>| {
        mean_of_some(decimals, Spread::Deviation, seeds.iter().map(|seed| value(seed)))
    };
    [
        over(0, &|seed| seed.rounds_to_target.map(|rounds| rounds as f64)),
        over(1, &|seed| seed.bytes_to_target.map(|bytes| bytes as f64 / 1e6)),
        over(1, &|seed| seed.seconds_to_target),
    ]
}

/// `mean ± spread`, the mean alone of one value, `–` of none.
pub(super) fn mean_pm(decimals: usize, spread: Spread, values: impl Iterator<Item = f64>) -> String {
    match spread.of(values) {
        None => "–".into(),
        Some((mean, None)) => format!("{mean:.decimals$}"),
        Some((mean, Some(std))) => format!("{mean:.decimals$} ± {std:.decimals$}"),
    }
}

/// [`mean_pm`] of the values that there are, with their number when it is not all.
pub(super) fn mean_of_some(
    decimals: usize,
    spread: Spread,
    values: impl Iterator<Item = Option<f64>>,
) -> String {
    let values: Vec<Option<f64>> = values.collect();
    let some = values.iter().flatten().count();
    let mean = mean_pm(decimals, spread, values.iter().flatten().copied());
    if 0 < some && some < values.len() { format!("{mean} ({some}/{})", values.len()) } else { mean }
}

/// A cell of Markdown: `|` would end it, a line break would end the row.
pub(super) fn text(cell: &str) -> String {
    if cell.is_empty() {
        return "–".into();
    }
    cell.replace('|', "\\|").replace(|c: char| c.is_control(), " ")
}

/// Four significant digits.
pub(crate) fn short(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value.is_infinite() {
        "∞".into()
    } else if (1e-4..1e5).contains(&value) {
        let decimals = (3 - value.log10().floor() as i32).max(0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.3e}")
    }
}
