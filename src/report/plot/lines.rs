//! Plain curves, and panels of curves with bands over linear or logarithmic axes.

use std::path::Path;

use super::draw::{Axis, Band, Curve, Figure, Panel, Stroke, multiples, nice_step};
use super::{COLOURS, DASHES, MAX_SERIES};
use crate::error::{Error, Result};

/// Draws `lines`, each a name and its points, as `<stem>.svg` and `<stem>.png` over an axis from the smallest
/// to the largest x, with y from 0. All values are finite.
///
/// # Errors
/// No point, more than 21 lines, or a file that cannot be written.
pub fn plot_lines(
    lines: &[(String, Vec<(f64, f64)>)],
    [x, y]: [&str; 2],
    title: &str,
    caption: &str,
    stem: &Path,
) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (low, high) = points().fold((f64::INFINITY, 0.0f64), |(low, high), (x, _)| (low.min(x), high.max(x)));
    if points().next().is_none() || lines.len() > MAX_SERIES {
        return Err(Error::Refused(format!("a figure takes 1 to {MAX_SERIES} lines with points")));
    }
    let top = points().map(|(_, y)| y).fold(0.0, f64::max);
    let step = nice_step(high - low, 10.0).max(1.0);
    let ticks = multiples(step, low, high).map(|tick| (tick, tick.to_string())).collect();
    let curves = lines.iter().enumerate().map(|(i, (name, points))| {
        let stroke = Stroke { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()] };
        Curve::new(name, stroke, points.clone(), Vec::new())
    });
    let mut panel = Panel::of_curves(620, Axis::from_zero(y, top, 1.0), curves.collect());
    panel.x = Some(Axis { label: x.into(), range: (low, high.max(low + 1.0)), ticks });
    Figure { title: title.into(), caption: caption.into(), rounds: 1.0, panels: vec![panel] }.write(stem)
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0 to the largest value.
    FromZero,
    /// From the smallest to the largest value.
    Linear,
    /// By powers of ten; values that are not positive are left out.
    Logarithmic,
}

/// x, y, and where they are known the ends of the band around y.
pub type Measured = (f64, f64, Option<(f64, f64)>);

/// A named curve of one panel.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name in the legend; the same in several panels has the same colour.
    pub name: String,
    /// From left to right.
    pub points: Vec<Measured>,
}

/// Curves over axes of their own.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Label and scale of the horizontal axis.
    pub x: (String, Scale),
    /// Label and scale of the vertical axis.
    pub y: (String, Scale),
    /// The curves.
    pub traces: Vec<Trace>,
}

impl Scale {
    fn place(self, value: f64) -> Option<f64> {
        let place = if self == Self::Logarithmic { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    fn axis(self, label: &str, values: impl Iterator<Item = f64> + Clone, beyond: f64) -> Axis {
        let ends = values.clone().filter(|value| value.is_finite());
        let (low, high) =
            ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        match self {
            Self::Logarithmic => Axis::of_powers(label, values, beyond),
            Self::Linear => Axis::between(label, (low, high), beyond, false),
            Self::FromZero => {
                let mut axis = Axis::between(label, (0.0, if high > 0.0 { high } else { 1.0 }), 0.0, false);
                axis.range.1 *= 1.0 + beyond;
                axis
            }
        }
    }
}

/// Draws `panels` above each other as `<stem>.svg` and `<stem>.png`.
///
/// # Errors
/// A panel without a line or with more than 21, more names than that, or a file that cannot be written.
pub fn plot_graphs(panels: &[Graph], title: &str, caption: &str, stem: &Path) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.traces) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    if panels.iter().any(|panel| panel.traces.is_empty()) || names.is_empty() || names.len() > MAX_SERIES {
        return Err(Error::Refused(format!("a figure takes 1 to {MAX_SERIES} lines in each panel")));
    }
    let draw = |panel: &Graph| {
        let points = panel.traces.iter().flat_map(|line| &line.points);
        let x = panel.x.1.axis(&panel.x.0, points.clone().map(|point| point.0), 0.03);
        let ends = points.flat_map(|&(_, y, band)| [y, band.map_or(y, |b| b.0), band.map_or(y, |b| b.1)]);
        let y = panel.y.1.axis(&panel.y.0, ends, 0.03);
        let curve = |line: &Trace| {
            let i = names.iter().position(|name| *name == line.name).unwrap_or_default();
            let stroke = Stroke { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()] };
            let place = |value: f64| panel.y.1.place(value);
            let (mut curve, mut band) = (Vec::new(), Vec::new());
            for &(at, value, ends) in &line.points {
                let (Some(x), Some(y)) = (panel.x.1.place(at), place(value)) else { continue };
                curve.push((x, y));
                if let Some((low, high)) = ends.and_then(|(low, high)| place(low).zip(place(high))) {
                    band.push(Band { x, low, high });
                }
            }
            Curve::new(&line.name, stroke, curve, band)
        };
        let mut drawn = Panel::of_curves(480, y, panel.traces.iter().map(curve).collect());
        drawn.x = Some(x);
        drawn
    };
    let panels = panels.iter().map(draw).collect();
    Figure { title: title.into(), caption: caption.into(), rounds: 1.0, panels }.write(stem)
}
