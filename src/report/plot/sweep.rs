//! The figures of `seccogc sweep`.

use std::path::Path;

use super::draw::{Axis, Band, Curve, Figure, Panel};
use super::{MAX_SERIES, accuracy_axis, over_seeds, plot_accuracy, stroke};
use crate::error::{Result, count};
use crate::record::kept;
use crate::report::{Spread, sweep_series};
use crate::sweep::results::{Line, Results, label};

/// From this ratio of the largest to the smallest value on, the axis of a swept key is logarithmic.
const LOGARITHMIC: f64 = 20.0;

/// Draws into a sweep directory: `accuracy`, test accuracy over rounds for each point, and where a key has
/// several numbers, `final_accuracy` against that key with the most of them. Means with 95 % confidence
/// bands; figures with more than 21 curves are divided, `accuracy-1`, `accuracy-2`, ….
///
/// # Errors
/// A run directory that is damaged; a file that cannot be written.
pub fn plot_sweep(results: &Results, folder: &Path, title: &str) -> Result<()> {
    let series = sweep_series(results, folder)?;
    let parts = series.chunks(MAX_SERIES);
    for (stem, part) in names("accuracy", parts.len()).zip(parts) {
        plot_accuracy(part, Spread::Confidence, title, &folder.join(stem))?;
    }
    let figures = final_accuracy(results, Spread::Confidence, title);
    for (stem, figure) in names("final_accuracy", figures.len()).zip(figures) {
        figure.write(&folder.join(stem))?;
    }
    Ok(())
}

/// Final accuracy against the key with the most numbers, 21 curves a figure; none where no key has several
/// numbers.
pub(in crate::report) fn final_accuracy(results: &Results, spread: Spread, title: &str) -> Vec<Figure> {
    let Some(key) = numeric(results) else { return Vec::new() };
    let x = axis(&results.keys[key], results.lines.iter().filter_map(|line| number(line, key)));
    let curves = bare(results, spread, key, &x);
    let figure = |part: &[Bare]| {
        let curves = part.iter().enumerate().map(|(i, curve)| curve.drawn(i));
        let mut panel = Panel::of_curves(760, accuracy_axis(20.0), curves.collect());
        panel.y.label = "final test accuracy (%)".into();
        panel.x = Some(x.axis.clone());
        let caption = over_seeds(spread, part.iter().map(|curve| curve.seeds));
        Figure { title: title.into(), caption, rounds: 1.0, panels: vec![panel] }
    };
    curves.chunks(MAX_SERIES).map(figure).collect()
}

/// The names of `count` figures.
fn names(stem: &str, count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(move |i| if count > 1 { format!("{stem}-{i}") } else { stem.to_owned() })
}

fn number(line: &Line, key: usize) -> Option<f64> {
    line.values[key].parse().ok().filter(|value: &f64| value.is_finite())
}

/// The key with the most numbers, at least two, whose other values are empty.
fn numeric(results: &Results) -> Option<usize> {
    let count = |&key: &usize| {
        let mut values: Vec<f64> = Vec::new();
        for line in results.lines.iter().filter(|line| !line.values[key].is_empty()) {
            let value = number(line, key)?;
            if !values.contains(&value) {
                values.push(value);
            }
        }
        (values.len() > 1).then_some(values.len())
    };
    let counted = (0..results.keys.len()).filter_map(|key| Some((count(&key)?, key)));
    counted.max().map(|(_, key)| key)
}

/// An axis and how values lie on it.
struct Scale {
    axis: Axis,
    logarithmic: bool,
}

fn axis(key: &str, values: impl Iterator<Item = f64>) -> Scale {
    let values: Vec<f64> = values.collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let logarithmic = low > 0.0 && high / low >= LOGARITHMIC;
    let axis = if logarithmic {
        Axis::of_powers(key, values.into_iter(), 0.03)
    } else {
        let whole = values.iter().all(|value| value.fract() == 0.0);
        Axis::between(key, (low, high), 0.03, whole)
    };
    Scale { axis, logarithmic }
}

/// A curve before it has its colour.
struct Bare {
    name: String,
    points: Vec<(f64, f64, Option<f64>)>,
    /// Seeds of its points.
    seeds: usize,
    /// Runs that diverged, and all.
    diverged: (usize, usize),
}

impl Bare {
    fn drawn(&self, i: usize) -> Curve {
        let points = self.points.iter().map(|&(x, mean, _)| (x, mean)).collect();
        let band = self.points.iter().filter_map(|&(x, mean, spread)| {
            let spread = spread?;
            Some(Band { x, low: (mean - spread).max(0.0), high: (mean + spread).min(100.0) })
        });
        let mark = match self.diverged {
            (0, _) => None,
            (n, all) => Some(format!("{n} of {} diverged", count(all, "run"))),
        };
        Curve::new(&self.name, stroke(i), points, band.collect()).marked(&self.name, mark)
    }
}

/// One curve per combination of the other keys; without the key, a horizontal line.
fn bare(results: &Results, spread: Spread, key: usize, x: &Scale) -> Vec<Bare> {
    let mut keys = results.keys.clone();
    keys.remove(key);
    let mut curves: Vec<Bare> = Vec::new();
    for (values, lines) in results.points() {
        let mut others = values.to_vec();
        others.remove(key);
        let name = label(&keys, &others);
        let accuracies = lines.iter().map(|line| 100.0 * line.measures.final_accuracy);
        let finite = kept(&lines, |line| line.measures.diverged).len();
        let diverged = lines.len() - finite;
        let mean = spread.of(accuracies);
        if mean.is_none() && diverged == 0 {
            continue;
        }
        let places = match number(lines[0], key) {
            Some(value) => vec![if x.logarithmic { value.log10() } else { value }],
            None => vec![x.axis.range.0, x.axis.range.1],
        };
        let points = places.into_iter().filter_map(|place| mean.map(|(mean, half)| (place, mean, half)));
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => {
                curve.points.extend(points);
                curve.seeds = curve.seeds.min(finite.max(1));
                curve.diverged.0 += diverged;
                curve.diverged.1 += lines.len();
            }
            None => curves.push(Bare {
                name,
                points: points.collect(),
                seeds: finite.max(1),
                diverged: (diverged, lines.len()),
            }),
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Measures, Played};

    fn results(keys: &[&str], lines: &[(&[&str], u64, f64)]) -> Results {
        let line = |&(values, seed, accuracy): &(&[&str], u64, f64)| Line {
            values: values.iter().map(ToString::to_string).collect(),
            seed,
            folder: "x".into(),
            measures: Measures { final_accuracy: accuracy, ..Measures::of(&Played::default(), None) },
        };
        Results {
            keys: keys.iter().map(ToString::to_string).collect(),
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn the_key_with_most_numbers_is_the_axis_and_runs_without_it_are_level() {
        let results = results(
            &["variant", "protocol.key_std", "a.erasure"],
            &[
                (&["A", "1.0", "0.1"], 1, 0.5),
                (&["A", "10.0", "0.1"], 1, 0.6),
                (&["A", "100.0", "0.1"], 1, 0.7),
                (&["A", "1.0", "0.2"], 1, 0.4),
                (&["B", "", "0.1"], 1, 0.3),
                (&["B", "", "0.1"], 2, 0.5),
            ],
        );
        let key = numeric(&results).unwrap();
        assert_eq!(key, 1);
        let scale = axis("key", results.lines.iter().filter_map(|line| number(line, key)));
        assert!(scale.logarithmic);
        let curves = bare(&results, Spread::Confidence, key, &scale);
        let names: Vec<&str> = curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["A, erasure = 0.1", "A, erasure = 0.2", "B, erasure = 0.1"]);
        let places: Vec<(f64, f64)> = curves[0].points.iter().map(|point| (point.0, point.1)).collect();
        assert_eq!(places, [(0.0, 50.0), (1.0, 60.0), (2.0, 70.0)]);
        let level = &curves[2].points;
        assert_eq!((level.len(), level[0].1, level[1].1, curves[2].seeds), (2, 40.0, 40.0, 2));
        // Of 30 and 50: 12.706 · √200 / √2.
        assert!((level[0].2.unwrap() - 127.062).abs() < 0.01);
    }

    #[test]
    fn runs_that_diverged_are_told_and_not_averaged() {
        let mut results = results(
            &["rate"],
            &[(&["1"], 1, 0.5), (&["1"], 2, f64::NAN), (&["2"], 1, f64::NAN), (&["3"], 1, 0.25)],
        );
        results.lines[1].measures.diverged = Some(3);
        results.lines[2].measures.diverged = Some(1);
        let scale = axis("rate", [1.0, 2.0, 3.0].into_iter());
        let curves = bare(&results, Spread::Deviation, 0, &scale);
        assert_eq!(curves[0].points, [(1.0, 50.0, None), (3.0, 25.0, None)]);
        assert_eq!(curves[0].drawn(0).label, "all, 2 of 4 runs diverged");
    }

    #[test]
    fn words_are_no_axis() {
        assert_eq!(numeric(&results(&["variant"], &[(&["A"], 1, 0.5), (&["B"], 1, 0.5)])), None);
        assert_eq!(numeric(&results(&["k"], &[(&["1"], 1, 0.5), (&["1"], 2, 0.5)])), None);
    }

    #[test]
    fn too_many_curves_go_into_several_figures() {
        assert_eq!(names("accuracy", 1).collect::<Vec<_>>(), ["accuracy"]);
        assert_eq!(names("accuracy", 2).collect::<Vec<_>>(), ["accuracy-1", "accuracy-2"]);
        let values: Vec<String> = (0..2 * (MAX_SERIES + 2)).map(|i| (i / 2).to_string()).collect();
        let lines: Vec<[&str; 2]> =
            values.iter().zip(["1", "2"].iter().cycle()).map(|(v, k)| [v.as_str(), k]).collect();
        let lines: Vec<(&[&str], u64, f64)> = lines.iter().map(|line| (&line[..], 1, 0.5)).collect();
        let named = results(&["variant", "rounds"], &lines);
        // Variants that are numbers are more numerous than the key, so words are needed.
        let mut worded = named;
        worded.lines.iter_mut().for_each(|line| line.values[0].insert(0, 'v'));
        assert_eq!(final_accuracy(&worded, Spread::Deviation, "").len(), 2);
    }
}
