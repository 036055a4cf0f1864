//! Figures: panels above each other that share the axis of rounds, curves labelled at their right end.
//!
//! Colours are those of Okabe and Ito (2008), "Color universal design", without the yellow, which is too pale
//! for a line; neighbouring curves also differ in their dashes, so that a figure can be read in grey.

mod attack;
mod coincide;
mod draw;
pub mod heatmap;
mod lines;
mod privacy_levels;
mod raster;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;

use plotters::style::RGBColor;

pub use self::attack::{plot_images, plot_roc};
pub(super) use self::draw::Figure;
use self::draw::{Axis, Band, Curve, Fill, Panel, Stroke};
pub use self::lines::{Graph, Measured, Scale, Trace, plot_graphs, plot_lines};
pub use self::privacy_levels::{plot_leakage, plot_privacy, plot_recovery};
#[cfg(test)]
pub(super) use self::raster::png;
pub(super) use self::sweep::final_accuracy;
pub use self::sweep::plot_sweep;
use super::{Series, Spread};
use crate::error::{Error, Result};
use crate::message::Reason;
use crate::record::{Outcome, Played, Row, by_loss, kept, mark};

const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const SKY: RGBColor = RGBColor(86, 180, 233);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const BLACK: RGBColor = RGBColor(0, 0, 0);
const YELLOW: RGBColor = RGBColor(240, 228, 66);

const COLOURS: [RGBColor; 7] = [BLUE, VERMILLION, GREEN, BLACK, ORANGE, PURPLE, SKY];
/// Lengths of dash and gap in pixels.
const DASHES: [Option<(i32, i32)>; 3] = [None, Some((22, 10)), Some((6, 8))];
/// As many as there are pairs of colour and dash.
pub(super) const MAX_SERIES: usize = COLOURS.len() * DASHES.len();

/// Most columns of the panel of outcomes; longer runs put several rounds into one.
const MAX_COLUMNS: u64 = 200;

/// Draws test accuracy, or test loss where there is none, over rounds as `<stem>.svg` and `<stem>.png`: per
/// contender the mean over its seeds, with a band of `spread` where there are several. A round counts when
/// every seed was tested in it, so that no point of a curve is a mean over other seeds than the next; seeds
/// without any test are left out. Contenders without a test stand in the legend only. A mean is over the
/// seeds that did not diverge; where all did, it ends with a cross. The same input gives the same bytes.
///
/// # Errors
/// No series, more than 21, or a file that cannot be written.
pub fn plot_accuracy(series: &[Series], spread: Spread, title: &str, stem: &Path) -> Result<()> {
    accuracy(series, spread, title)?.write(stem)
}

/// As [`plot_accuracy`], over the megabytes of all messages so far, lost ones included, on a logarithmic
/// axis; the mean over the seeds.
///
/// # Errors
/// As there.
pub fn plot_traffic(series: &[Series], spread: Spread, title: &str, stem: &Path) -> Result<()> {
    over_traffic(series, accuracy(series, spread, title)?).write(stem)
}

/// As [`plot_traffic`], over simulated seconds.
///
/// # Errors
/// As there; runs that take no simulated time.
pub fn plot_time(series: &[Series], spread: Spread, title: &str, stem: &Path) -> Result<()> {
    let mut rows = series.iter().flat_map(|series| &series.runs).flat_map(|run| &run.rows);
    if rows.all(|row| row.seconds_simulated.is_none()) {
        let rule = "no run takes simulated time; give devices.compute, or links with a deadline, or plot over rounds";
        return Err(Error::Refused(rule.into()));
    }
    over_time(series, accuracy(series, spread, title)?).write(stem)
}

/// Draws one run as `<stem>.svg` and `<stem>.png`: test accuracy, training and test loss, outcomes of the
/// rounds, bytes sent so far; with a cross where it diverged. The same input gives the same bytes.
///
/// # Errors
/// No round, or a file that cannot be written.
pub fn plot_run(played: &Played, title: &str, stem: &Path) -> Result<()> {
    run(played, title)?.write(stem)
}

/// The look of the i-th curve.
fn stroke(i: usize) -> Stroke {
    Stroke { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()] }
}

pub(super) fn accuracy(series: &[Series], spread: Spread, title: &str) -> Result<Figure> {
    match series.len() {
        0 => return Err(Error::Refused("nothing to plot; name at least one run".into())),
        1..=MAX_SERIES => {}
        n => {
            let rule =
                format!("{n} curves are too many for one figure, which holds {MAX_SERIES}; plot fewer runs");
            return Err(Error::Refused(rule));
        }
    }
    let by_loss = by_loss(series.iter().flat_map(|series| &series.runs));
    let merit = if by_loss { LOSS } else { PERCENT };
    let curves = series.iter().enumerate().map(|(i, series)| curve(series, merit, spread, stroke(i)));
    let curves: Vec<Curve> = curves.collect();
    let axis = if by_loss { loss_axis(&curves) } else { accuracy_axis(20.0) };
    let caption = over_seeds(spread, series.iter().map(|series| averaged(series).len()));
    let last = series.iter().flat_map(|series| &series.runs).filter_map(Played::last).max();
    let panel = Panel::of_curves(760, axis, curves);
    Ok(Figure { title: title.into(), caption, rounds: last.unwrap_or(1) as f64, panels: vec![panel] })
}

/// A figure of [`accuracy`] with megabytes in the place of rounds.
fn over_traffic(series: &[Series], figure: Figure) -> Figure {
    let megabytes = |row: &Row| (row.bytes_between() + row.bytes_to_server()) as f64 / 1e6;
    over(series, figure, "sent so far (MB)", megabytes)
}

/// A figure of [`accuracy`] with simulated seconds in the place of rounds.
fn over_time(series: &[Series], figure: Figure) -> Figure {
    over(series, figure, "simulated time (s)", |row| row.seconds_simulated.unwrap_or(0.0))
}

/// A figure of [`accuracy`] over the sum of what each round costs, on a logarithmic axis.
fn over(series: &[Series], mut figure: Figure, label: &str, cost: impl Fn(&Row) -> f64) -> Figure {
    let mut reached = Vec::new();
    let panel = &mut figure.panels[0];
    for (series, curve) in series.iter().zip(&mut panel.curves) {
        let runs = averaged(series);
        let mut spent = |round: &mut f64| {
            let rows = runs.iter().flat_map(|run| &run.rows).filter(|row| row.round as f64 <= *round);
            let mean = rows.map(&cost).sum::<f64>() / runs.len() as f64;
            reached.push(mean);
            *round = mean.log10();
        };
        curve.points.iter_mut().for_each(|(x, _)| spent(x));
        curve.band.iter_mut().for_each(|band| spent(&mut band.x));
        curve.points.retain(|(x, _)| x.is_finite());
        curve.band.retain(|band| band.x.is_finite());
    }
    panel.x = Some(Axis::of_powers(label, reached.into_iter(), 0.03));
    figure
}

/// What the bands are, when curves have these numbers of seeds.
fn over_seeds(spread: Spread, seeds: impl Iterator<Item = usize> + Clone) -> String {
    let words = spread.words();
    match (seeds.clone().min(), seeds.max()) {
        (_, None | Some(0 | 1)) => String::new(),
        (Some(least), Some(most)) if least < most => format!("mean ± {words} over {least} to {most} seeds"),
        (_, Some(most)) => format!("mean ± {words} over {most} seeds"),
    }
}

pub(super) fn run(played: &Played, title: &str) -> Result<Figure> {
    let Played { rows, diverged } = played;
    let Some(last) = played.last() else {
        return Err(Error::Refused("nothing to plot; the run holds no round".into()));
    };
    let solid = |colour| Stroke { colour, dash: None };
    let dashed = |colour| Stroke { colour, dash: DASHES[1] };
    let curve = |label: &str, stroke, value: &dyn Fn(&Row) -> Option<f64>| {
        let points = rows.iter().filter_map(|row| Some((row.round as f64, value(row)?)));
        let curve = Curve::new(label, stroke, points.filter(|(_, y)| y.is_finite()).collect(), vec![]);
        Curve { cut: diverged.is_some(), ..curve }
    };

    let by_loss = by_loss(std::iter::once(played));
    let accuracy = curve("test accuracy", solid(BLUE), &percent);
    let losses = vec![
        curve("training loss", dashed(VERMILLION), &|row| Some(row.train_loss)),
        curve("test loss", solid(BLUE), &|row| row.test_loss),
    ];
    let traffic = |label, stroke, value: fn(&Row) -> u64| {
        let mut sum = 0.0;
        let points = rows.iter().map(|row| {
            sum += value(row) as f64;
            (row.round as f64, sum)
        });
        Curve::new(label, stroke, points.collect(), vec![])
    };
    let traffic = vec![
        traffic("between clients", solid(BLUE), Row::bytes_between),
        traffic("to the server", dashed(VERMILLION), Row::bytes_to_server),
    ];
    let accuracy = Panel::of_curves(330, accuracy_axis(25.0), vec![accuracy]);
    let rest = [
        loss_panel(losses, if by_loss { "loss" } else { "loss (nats)" }),
        outcomes_panel(rows, last),
        traffic_panel(traffic),
    ];
    let panels = (!by_loss).then_some(accuracy).into_iter().chain(rest).collect();
    // Half a round more, so that the last column of the outcomes is as wide as the others.
    let caption = mark(&[*diverged]).unwrap_or_default();
    Ok(Figure { title: title.into(), caption, rounds: last as f64 + 0.5, panels })
}

fn accuracy_axis(step: f64) -> Axis {
    let ticks = (0..).map(|i| f64::from(i) * step).take_while(|&tick| tick <= 100.0);
    Axis {
        label: "test accuracy (%)".into(),
        range: (0.0, 100.0),
        ticks: ticks.map(|t| (t, t.to_string())).collect(),
    }
}

/// The seeds that a curve is the mean of: those that did not diverge, if there are any.
fn averaged(series: &Series) -> Vec<&Played> {
    let finite = kept(&series.runs, |run| run.diverged);
    if finite.is_empty() { series.runs.iter().collect() } else { finite }
}

/// What a curve shows of a round, and the most that it can be.
#[derive(Clone, Copy)]
struct Merit {
    of: fn(&Row) -> Option<f64>,
    most: f64,
}

/// Test accuracy in percent.
const PERCENT: Merit = Merit { of: percent, most: 100.0 };

/// Test loss.
const LOSS: Merit = Merit { of: |row| row.test_loss, most: f64::INFINITY };

fn percent(row: &Row) -> Option<f64> {
    row.test_accuracy.map(|accuracy| 100.0 * accuracy)
}

fn loss_axis(curves: &[Curve]) -> Axis {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, y)| *y));
    let top = values.chain(curves.iter().flat_map(|curve| curve.band.iter().map(|band| band.high)));
    Axis::from_zero("test loss", 1.05 * top.fold(0.0, f64::max).max(1e-9), 1.0)
}

/// The mean of `merit` over the seeds of a series.
fn curve(series: &Series, merit: Merit, spread: Spread, stroke: Stroke) -> Curve {
    let mut by_round: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut tested_seeds = 0;
    let runs = averaged(series);
    for Played { rows, .. } in &runs {
        // A map, lest a round that stands in the table twice count for two seeds.
        let tested: BTreeMap<u64, f64> = rows
            .iter()
            .filter_map(|row| Some((row.round, (merit.of)(row).filter(|value| value.is_finite())?)))
            .collect();
        tested_seeds += usize::from(!tested.is_empty());
        for (round, value) in tested {
            by_round.entry(round).or_default().push(value);
        }
    }
    by_round.retain(|_, values| values.len() == tested_seeds);

    let mut points = Vec::new();
    let mut band = Vec::new();
    for (round, values) in by_round {
        let x = round as f64;
        if let Some((mean, half)) = spread.of(values) {
            points.push((x, mean));
            band.extend(half.map(|half| Band {
                x,
                low: (mean - half).max(0.0),
                high: (mean + half).min(merit.most),
            }));
        }
    }
    let ends: Vec<Option<u64>> = series.runs.iter().map(|run| run.diverged).collect();
    let curve = Curve::new(&series.name, stroke, points, band).marked(&series.name, mark(&ends));
    Curve { cut: runs.iter().all(|run| run.diverged.is_some()), ..curve }
}

/// Linear from 0; logarithmic when a run has diverged, so that what came before stays visible.
fn loss_panel(mut curves: Vec<Curve>, label: &str) -> Panel {
    let values = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let top = values().fold(0.0, f64::max);
    let axis = if top > 10.0 {
        let low = values().filter(|&value| value > 0.0).fold(top, f64::min).log10().floor();
        let high = top.log10().ceil();
        let step = draw::nice_step(high - low, 4.0).max(1.0);
        let ticks = draw::multiples(step, low, high).map(|e| (e, draw::power_of_ten(e)));
        let axis = Axis { label: label.into(), range: (low, high), ticks: ticks.collect() };
        for curve in &mut curves {
            curve.points.retain(|point| point.1 > 0.0);
            curve.points.iter_mut().for_each(|point| point.1 = point.1.log10());
        }
        axis
    } else {
        Axis::from_zero(label, if top > 0.0 { top * 1.05 } else { 1.0 }, 1.0)
    };
    Panel::of_curves(330, axis, curves)
}

fn traffic_panel(curves: Vec<Curve>) -> Panel {
    let top = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(1.0, f64::max);
    let (unit, name) = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
        .into_iter()
        .find(|(unit, _)| top >= *unit)
        .unwrap_or((1.0, "bytes"));
    Panel::of_curves(330, Axis::from_zero(&format!("sent so far ({name})"), top * 1.05, unit), curves)
}

/// What share of the rounds of each column had which outcome; short runs have one column per round.
fn outcomes_panel(rows: &[Row], last: u64) -> Panel {
    let per_column = last.div_ceil(MAX_COLUMNS).max(1);
    let kinds = [
        ((Outcome::Recovered, None), "recovered", GREEN),
        ((Outcome::Partial, None), "partial", YELLOW),
        ((Outcome::Outage, None), "outage", BLACK),
        ((Outcome::Estimate, None), "estimate", PURPLE),
        ((Outcome::Outage, Some(Reason::TooFew)), "too few clients", BLUE),
        ((Outcome::Outage, Some(Reason::Precision)), "imprecise", VERMILLION),
    ];
    // Too many losses are what outages are for.
    let kind_of = |row: &Row| (row.outcome, row.reason.filter(|reason| *reason != Reason::Links));
    let mut columns: BTreeMap<u64, [u64; 6]> = BTreeMap::new();
    for row in rows {
        let column = columns.entry(row.round.saturating_sub(1) / per_column).or_default();
        for (count, (kind, _, _)) in column.iter_mut().zip(kinds) {
            *count += u64::from(kind_of(row) == kind);
        }
    }
    let total = rows.len().max(1) as f64;
    let is_usual = |kind: (Outcome, Option<Reason>)| kind.1.is_none() && kind.0 != Outcome::Estimate;
    let occurs =
        |kind: (Outcome, Option<Reason>)| is_usual(kind) || rows.iter().any(|row| kind_of(row) == kind);
    let kinds_shown = kinds.iter().enumerate().filter(|(_, (kind, ..))| occurs(*kind));
    let fills = kinds_shown.map(|(i, &(kind, name, colour))| {
        let boxes = columns.iter().filter(|(_, counts)| counts[i] > 0).map(|(&column, counts)| {
            let share = |counts: &[u64], all: &[u64]| {
                100.0 * counts.iter().sum::<u64>() as f64 / all.iter().sum::<u64>() as f64
            };
            let edge = |column: u64| (column as f64 * per_column as f64).min(last as f64) + 0.5;
            let (left, right) = (edge(column), edge(column + 1));
            [(left, share(&counts[..i], counts)), (right, share(&counts[..=i], counts))]
        });
        let count = rows.iter().filter(|row| kind_of(row) == kind).count();
        let label = format!("{name} {:.1} %", 100.0 * count as f64 / total);
        Fill { label, colour, boxes: boxes.collect() }
    });
    let label = if per_column == 1 { "outcome" } else { "outcomes (%)" };
    let ticks = if per_column == 1 {
        vec![]
    } else {
        vec![(0.0, "0".into()), (50.0, "50".into()), (100.0, "100".into())]
    };
    let axis = Axis { label: label.into(), range: (0.0, 100.0), ticks };
    Panel { height: 190, x: None, y: axis, curves: vec![], fills: fills.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(accuracies: &[Option<f64>]) -> Vec<Row> {
        let row = |(i, &test_accuracy)| Row { test_accuracy, ..Row::blank(i as u64 + 1) };
        accuracies.iter().enumerate().map(row).collect()
    }

    fn series(runs: Vec<Vec<Row>>) -> Series {
        Series { name: "A".into(), runs: runs.into_iter().map(Played::from).collect() }
    }

    #[test]
    fn a_curve_is_the_mean_of_the_seeds_where_all_of_them_were_tested() {
        let runs = vec![
            rows(&[Some(0.25), None, Some(0.5), Some(1.0)]),
            rows(&[Some(0.75), Some(0.5), Some(0.5)]),
            rows(&[None, None, Some(f64::NAN)]),
        ];
        let stroke = Stroke { colour: BLUE, dash: None };
        let curve = curve(&series(runs), PERCENT, Spread::Deviation, stroke);
        assert_eq!(curve.points, [(1.0, 50.0), (3.0, 50.0)]);
        // ± √(2 · 25² / 1) = ± 35.36 in round 1, ± 0 in round 3.
        let band: Vec<_> =
            curve.band.iter().map(|band| (band.x, band.low.round(), band.high.round())).collect();
        assert_eq!(band, [(1.0, 15.0, 85.0), (3.0, 50.0, 50.0)]);
    }

    #[test]
    fn over_traffic_a_point_is_at_all_that_was_sent() {
        let sent = |bytes: u64| {
            let mut rows = rows(&[Some(0.25), None, Some(0.5)]);
            rows.iter_mut()
                .for_each(|row| (row.bytes_client_client, row.bytes_client_server) = (bytes, bytes));
            rows
        };
        let all = [series(vec![sent(1_000_000), sent(9_000_000)])];
        let figure = over_traffic(&all, accuracy(&all, Spread::Deviation, "").unwrap());
        // Two times 1 and 9 MB in a round, 10 MB in the mean.
        let at: Vec<f64> = figure.panels[0].curves[0].points.iter().map(|(x, _)| 10f64.powf(*x)).collect();
        assert!((at[0] - 10.0).abs() < 1e-9 && (at[1] - 30.0).abs() < 1e-9, "{at:?}");
        assert!(figure.panels[0].x.as_ref().is_some_and(|x| x.label == "sent so far (MB)"));
    }

    #[test]
    fn over_time_a_point_is_at_all_the_seconds_before() {
        let took = |seconds: f64| {
            let mut rows = rows(&[Some(0.25), None, Some(0.5)]);
            rows.iter_mut().for_each(|row| row.seconds_simulated = Some(seconds));
            rows
        };
        let all = [series(vec![took(2.0), took(6.0)])];
        let figure = over_time(&all, accuracy(&all, Spread::Deviation, "").unwrap());
        let at: Vec<f64> = figure.panels[0].curves[0].points.iter().map(|(x, _)| 10f64.powf(*x)).collect();
        assert!((at[0] - 4.0).abs() < 1e-9 && (at[1] - 12.0).abs() < 1e-9, "{at:?}");
        let timeless = [series(vec![rows(&[Some(0.25)])])];
        let line = plot_time(&timeless, Spread::Deviation, "", Path::new("none")).unwrap_err().to_string();
        assert!(line.starts_with("no run takes simulated time; "), "{line}");
    }

    #[test]
    fn seeds_that_diverged_are_told_and_not_averaged() {
        let stroke = Stroke { colour: BLUE, dash: None };
        let drawn = |series: &Series| curve(series, PERCENT, Spread::Deviation, stroke);
        let whole = rows(&[Some(0.5), Some(0.75), Some(1.0)]);
        let cut = |accuracies: &[Option<f64>]| Played {
            rows: rows(accuracies),
            diverged: Some(accuracies.len() as u64 + 1),
        };
        let mut seeds = series(vec![whole.clone(), whole]);
        seeds.runs.push(cut(&[Some(0.1)]));
        let curve = drawn(&seeds);
        assert_eq!(curve.points, [(1.0, 50.0), (2.0, 75.0), (3.0, 100.0)]);
        assert_eq!((curve.label.as_str(), curve.cut), ("A, 1 of 3 seeds diverged", false));

        seeds.runs = vec![cut(&[Some(0.25), Some(0.5)])];
        let curve = drawn(&seeds);
        assert_eq!(curve.points, [(1.0, 25.0), (2.0, 50.0)], "drawn to where it was");
        assert_eq!((curve.label.as_str(), curve.cut), ("A, diverged in round 3", true));

        seeds.runs.push(cut(&[]));
        assert_eq!(drawn(&seeds).label, "A, 2 of 2 seeds diverged");
        seeds.runs = vec![cut(&[])];
        assert_eq!(drawn(&seeds).label, "A, diverged in round 1");
    }

    #[test]
    fn a_band_stays_within_0_and_100_percent() {
        let runs = vec![rows(&[Some(0.0), Some(1.0)]), rows(&[Some(0.2), Some(0.8)])];
        let series = series(runs);
        let curve = curve(&series, PERCENT, Spread::Confidence, Stroke { colour: BLUE, dash: None });
        assert_eq!((curve.band[0].low, curve.band[1].high), (0.0, 100.0));
    }

    #[test]
    fn outcomes_fill_one_column_per_round_or_shares_of_a_column() {
        let mut short = rows(&[None; 4]);
        short[1].outcome = Outcome::Outage;
        let panel = outcomes_panel(&short, 4);
        assert_eq!(panel.fills[0].boxes.len(), 3);
        assert_eq!(panel.fills[2].boxes, [[(1.5, 0.0), (2.5, 100.0)]]);
        assert_eq!(panel.fills[0].label, "recovered 75.0 %");
        assert_eq!(panel.fills.len(), 3);
        short[2] = Row { outcome: Outcome::Outage, reason: Some(Reason::Precision), ..short[2].clone() };
        let panel = outcomes_panel(&short, 4);
        let labels: Vec<&str> = panel.fills.iter().map(|fill| fill.label.as_str()).collect();
        assert_eq!(labels, ["recovered 50.0 %", "partial 0.0 %", "outage 25.0 %", "imprecise 25.0 %"]);
        short[2] = Row { outcome: Outcome::Recovered, reason: None, ..short[2].clone() };

        // 300 rounds in columns of two; the first of each is an outage.
        let mut long = rows(&[None; 300]);
        long.iter_mut().step_by(2).for_each(|row| row.outcome = Outcome::Outage);
        let panel = outcomes_panel(&long, 300);
        assert_eq!(panel.fills[0].boxes.len(), 150);
        assert_eq!(panel.fills[0].boxes[1], [(2.5, 0.0), (4.5, 50.0)]);
        assert_eq!(panel.fills[2].boxes[149], [(298.5, 50.0), (300.5, 100.0)]);
    }
}
