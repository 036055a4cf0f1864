//! Ink: panels → SVG, through plotters, which needs no font to lay it out.
//!
//! Lengths are in pixels of both files. The canvas is large because plotters rounds coordinates to pixels.

use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::raster::png;
use crate::error::{Error, Result};
use crate::record::write_atomically;

/// The first is the one of the PNG; a viewer of the SVG takes the first that it has.
const FONTS: &str = "Ubuntu, Helvetica, Arial, sans-serif";
pub(super) const TITLE_SIZE: f64 = 40.0;
pub(super) const TEXT_SIZE: f64 = 30.0;

pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
const AXIS: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(222, 222, 222);
const CURVE_WIDTH: u32 = 5;
/// Half the width of a cross.
const CROSS: i32 = 14;

pub(super) const MARGIN: i32 = 30;
/// Left of a plot: axis label and tick labels.
const LEFT: i32 = 140;
/// Below the lowest plot: tick labels and axis label.
const BOTTOM: i32 = 95;
const PLOT_WIDTH: i32 = 1200;
const PANEL_GAP: i32 = 45;
/// From the plot to the swatches of the legend; leaders cross it.
const LEADER: i32 = 70;
const SWATCH: i32 = 60;
const SWATCH_GAP: i32 = 16;
pub(super) const LEGEND_PITCH: i32 = 46;
/// Longer names end in `…`.
const LEGEND_CHARACTERS: usize = 48;

/// How a curve looks.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub colour: RGBColor,
    /// Lengths of dash and gap.
    pub dash: Option<(i32, i32)>,
}

/// Where a band stands at `x`.
pub(super) struct Band {
    pub x: f64,
    pub low: f64,
    pub high: f64,
}

/// A labelled line; all values are finite.
pub(super) struct Curve {
    pub label: String,
    pub stroke: Stroke,
    pub points: Vec<(f64, f64)>,
    pub band: Vec<Band>,
    /// Whether it ends with a cross, since the run did not go on.
    pub cut: bool,
}

/// Labelled boxes of one colour, each by two corners.
pub(super) struct Fill {
    pub label: String,
    pub colour: RGBColor,
    pub boxes: Vec<[(f64, f64); 2]>,
}

/// A linear axis with ticks of our choice; those of plotters cannot be kept to whole rounds.
#[derive(Clone)]
pub(super) struct Axis {
    pub label: String,
    pub range: (f64, f64),
    pub ticks: Vec<(f64, String)>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let part = (value - self.range.0) / (self.range.1 - self.range.0);
        start + (part * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|tick| tick.0 == *value).map_or_else(String::new, |tick| tick.1.clone())
    }
}

/// One plot and its legend.
pub(super) struct Panel {
    /// Height of the plot.
    pub height: i32,
    /// Its own horizontal axis; without one, the rounds, which all such panels share.
    pub x: Option<Axis>,
    pub y: Axis,
    pub curves: Vec<Curve>,
    pub fills: Vec<Fill>,
}

/// A whole figure.
pub(in crate::report) struct Figure {
    pub(super) title: String,
    /// A line below the title; may be empty.
    pub(super) caption: String,
    /// Right end of the axis of rounds, for the panels without an axis of their own.
    pub(super) rounds: f64,
    pub(super) panels: Vec<Panel>,
}

impl Axis {
    fn of_rounds(last: f64) -> Self {
        let step = nice_step(last, 8.0).max(1.0);
        let ticks = multiples(step, 0.0, last).map(|tick| (tick, tick.to_string()));
        Self { label: "communication round".into(), range: (0.0, last), ticks: ticks.collect() }
    }

    /// Logarithmic: values are powers of ten, over the finite positive ones of `values` and this part of the
    /// length beyond.
    pub(super) fn of_powers(label: &str, values: impl Iterator<Item = f64>, beyond: f64) -> Self {
        let logs = values.map(f64::log10).filter(|log| log.is_finite());
        let (low, high) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(log), high.max(log)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high.max(low + 1.0)) };
        let room = beyond * (high - low);
        let range = (low - room, high + room);
        let step = nice_step(high - low, 9.0).max(1.0);
        let ticks = multiples(step, range.0, range.1).map(|tick| (tick, power_of_ten(tick)));
        Self { label: label.into(), range, ticks: ticks.collect() }
    }

    /// Linear from `low` to `high` and this part of the length beyond; `whole`: with ticks at whole numbers
    /// only.
    pub(super) fn between(label: &str, (low, high): (f64, f64), beyond: f64, whole: bool) -> Self {
        let length = if high > low { high - low } else { 1.0 };
        let range = (low - beyond * length, low + (1.0 + beyond) * length);
        let step = nice_step(length, 9.0).max(if whole { 1.0 } else { 0.0 });
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let ticks = multiples(step, range.0, range.1).map(|tick| (tick, format!("{tick:.decimals$}")));
        Self { label: label.into(), range, ticks: ticks.collect() }
    }

    /// From 0 to `top`, with ticks at multiples of a round number of `unit`.
    pub(super) fn from_zero(label: &str, top: f64, unit: f64) -> Self {
        let step = nice_step(top / unit, 4.0);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let ticks = multiples(step, 0.0, top / unit).map(|tick| (tick * unit, format!("{tick:.decimals$}")));
        Self { label: label.into(), range: (0.0, top), ticks: ticks.collect() }
    }
}

impl Curve {
    /// Says in its label when it is empty, for then it stands in the legend only.
    pub(super) fn new(label: &str, stroke: Stroke, points: Vec<(f64, f64)>, band: Vec<Band>) -> Self {
        let label = if points.is_empty() { format!("{label} (no value)") } else { label.into() };
        Self { label, stroke, points, band, cut: false }
    }

    /// With a remark behind the name, which is never cut off.
    pub(super) fn marked(self, name: &str, mark: Option<String>) -> Self {
        let Some(mark) = mark else { return self };
        let most = LEGEND_CHARACTERS.saturating_sub(2 + mark.chars().count());
        Self { label: format!("{}, {mark}", shorten(name, most)), ..self }
    }
}

/// The smallest of 1, 2, 5, 10, 20, … (and 0.5, 0.2, …) of which at most `count` fit into `length` > 0.
pub(super) fn nice_step(length: f64, count: f64) -> f64 {
    let least = length / count;
    let magnitude = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|m| m * magnitude)
        .into_iter()
        .find(|&step| step >= least * 0.999)
        .unwrap_or(10.0 * magnitude)
}

/// The multiples of `step` in [`low`, `high`].
pub(super) fn multiples(step: f64, low: f64, high: f64) -> impl Iterator<Item = f64> {
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(move |i| i as f64 * step)
}

/// 10 to an integer, for a tick label.
pub(super) fn power_of_ten(exponent: f64) -> String {
    if (-3.0..=4.0).contains(&exponent) {
        format!("{}", 10f64.powf(exponent))
    } else {
        format!("1e{exponent}")
    }
}

impl Figure {
    /// Writes `<stem>.svg` and `<stem>.png`.
    pub(super) fn write(&self, stem: &Path) -> Result<()> {
        let svg = self.svg()?;
        let png = png(&svg)?;
        write_atomically(&with_suffix(stem, ".svg"), svg.as_bytes())?;
        write_atomically(&with_suffix(stem, ".png"), &png)
    }

    pub(in crate::report) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| Error::Refused(format!("cannot draw the figure: {error}")))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let labels = self.panels.iter().flat_map(|panel| {
            panel.curves.iter().map(|curve| &curve.label).chain(panel.fills.iter().map(|fill| &fill.label))
        });
        let widest =
            labels.map(|label| width(&shorten(label, LEGEND_CHARACTERS), TEXT_SIZE)).fold(0.0, f64::max);
        let legend = LEADER + SWATCH + SWATCH_GAP + widest as i32;
        let head = MARGIN + 62 + if self.caption.is_empty() { 0 } else { 44 };
        let last = self.panels.len().saturating_sub(1);
        let below = |i: usize| if i == last || self.panels[i].x.is_some() { BOTTOM } else { 0 };
        let plots: i32 =
            self.panels.iter().enumerate().map(|(i, panel)| panel.height + below(i) + PANEL_GAP).sum();
        let breadth = MARGIN + LEFT + PLOT_WIDTH + legend + MARGIN;
        let height = head + plots - PANEL_GAP + MARGIN;

        let root = SVGBackend::with_string(svg, (breadth as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let room = f64::from(breadth - 2 * MARGIN - LEFT);
        let most = (1..=self.title.chars().count()).rev();
        let title =
            most.map(|most| shorten(&self.title, most)).find(|title| width(title, TITLE_SIZE) <= room);
        let title = title.unwrap_or_default();
        text(&root, &title, (MARGIN + LEFT, MARGIN + 20), HPos::Left, TITLE_SIZE)?;
        text(&root, &self.caption, (MARGIN + LEFT, MARGIN + 68), HPos::Left, TEXT_SIZE)?;
        let mut top = head;
        for (i, panel) in self.panels.iter().enumerate() {
            self.draw_panel(&root, panel, top, below(i))?;
            top += panel.height + below(i) + PANEL_GAP;
        }
        root.present()
    }

    fn draw_panel(&self, root: &Canvas<'_>, panel: &Panel, top: i32, below: i32) -> Drawn {
        let area = root.clone().shrink((MARGIN, top), (LEFT + PLOT_WIDTH, panel.height + below));
        let x = panel.x.clone().unwrap_or_else(|| Axis::of_rounds(self.rounds));
        let mut chart = ChartBuilder::on(&area)
            .set_label_area_size(LabelAreaPosition::Left, LEFT)
            .set_label_area_size(LabelAreaPosition::Bottom, below)
            .build_cartesian_2d(x.clone(), panel.y.clone())?;
        let ink = (FONTS, 1.24 * TEXT_SIZE, &INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(TRANSPARENT)
            .axis_style(AXIS.stroke_width(2))
            .label_style(ink)
            .axis_desc_style(ink)
            .x_desc(&x.label)
            .y_desc(&panel.y.label)
            .set_all_tick_mark_size(9)
            .draw()?;

        for Fill { colour, boxes, .. } in &panel.fills {
            chart.draw_series(boxes.iter().map(|corners| Rectangle::new(*corners, colour.filled())))?;
        }
        for Curve { stroke, band, .. } in &panel.curves {
            let upper = band.iter().map(|band| (band.x, band.high));
            let outline: Vec<_> = upper.chain(band.iter().rev().map(|band| (band.x, band.low))).collect();
            if band.len() > 1 {
                chart.draw_series([Polygon::new(outline, stroke.colour.mix(0.16).filled())])?;
            } else {
                chart.draw_series([PathElement::new(outline, stroke.colour.stroke_width(2))])?;
            }
        }
        for Curve { stroke: Stroke { colour, dash }, points, cut, .. } in &panel.curves {
            let style = colour.stroke_width(CURVE_WIDTH);
            match dash {
                _ if points.len() == 1 => {
                    chart.draw_series(points.iter().map(|&point| Circle::new(point, 9, colour.filled())))?;
                }
                None => {
                    chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                }
                Some((dash, gap)) => {
                    chart.draw_series(DashedLineSeries::new(points.iter().copied(), *dash, *gap, style))?;
                }
            }
            if *cut {
                chart.draw_series(points.last().map(|&end| Cross::new(end, CROSS, INK.stroke_width(4))))?;
            }
        }

        let plot = chart.plotting_area();
        let (right, bottom) = (MARGIN + LEFT + PLOT_WIDTH, top + panel.height);
        let end = |curve: &Curve| curve.points.last().map(|point| plot.map_coordinate(point).1);
        let ends: Vec<Option<i32>> = panel.curves.iter().map(end).collect();
        let targets: Vec<f64> = ends.iter().map(|end| f64::from(end.unwrap_or(bottom))).collect();
        let places = spread(&targets, f64::from(LEGEND_PITCH), f64::from(top), f64::from(bottom));
        for ((curve, end), place) in panel.curves.iter().zip(ends).zip(places) {
            let (x, y) = (right + LEADER, place.round() as i32);
            if let Some(end) = end {
                let leader = vec![(right + 6, end), (right + 14, end), (x - 14, y), (x - 6, y)];
                root.draw(&PathElement::new(leader, curve.stroke.colour.mix(0.6).stroke_width(2)))?;
            }
            swatch(root, curve.stroke, (x, y))?;
            legend_text(root, &curve.label, (x, y))?;
        }
        let middle = f64::from(top + bottom) / 2.0;
        let places = spread(
            &vec![middle; panel.fills.len()],
            f64::from(LEGEND_PITCH),
            f64::from(top),
            f64::from(bottom),
        );
        // Upwards, as the boxes are stacked.
        for (fill, place) in panel.fills.iter().rev().zip(places) {
            let (x, y) = (right + LEADER, place.round() as i32);
            let corners = [(x + SWATCH - 30, y - 15), (x + SWATCH, y + 15)];
            root.draw(&Rectangle::new(corners, fill.colour.filled()))?;
            legend_text(root, &fill.label, (x, y))?;
        }
        Ok(())
    }
}

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn text(root: &Canvas<'_>, text: &str, at: (i32, i32), anchor: HPos, size: f64) -> Drawn {
    text_in(root, text, at, anchor, size, &INK)
}

pub(super) fn text_in(
    root: &Canvas<'_>,
    text: &str,
    at: (i32, i32),
    anchor: HPos,
    size: f64,
    ink: &RGBColor,
) -> Drawn {
    // plotters divides the size by 1.24 on its way to SVG.
    let style = (FONTS, 1.24 * size, ink).into_text_style(root).pos(Pos::new(anchor, VPos::Center));
    root.draw(&Text::new(text, at, style))
}

fn legend_text(root: &Canvas<'_>, label: &str, (x, y): (i32, i32)) -> Drawn {
    text(root, &shorten(label, LEGEND_CHARACTERS), (x + SWATCH + SWATCH_GAP, y), HPos::Left, TEXT_SIZE)
}

fn swatch(root: &Canvas<'_>, stroke: Stroke, (x, y): (i32, i32)) -> Drawn {
    let style = stroke.colour.stroke_width(CURVE_WIDTH);
    let ends = [(x, y), (x + SWATCH, y)];
    match stroke.dash {
        None => root.draw(&PathElement::new(ends, style)),
        Some((dash, gap)) => root.draw(&DashedPathElement::new(ends, dash, gap, style)),
    }
}

/// Roughly the width of a text, and rather too much: the viewer of the SVG may use another font.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | '(' | ')' | '[' | ']' | 'i' | 'j' | 'l' | 'f' | 't' => {
            0.32
        }
        'm' | 'w' | 'M' | 'W' => 0.9,
        'A'..='Z' => 0.7,
        ' '..='ÿ' => 0.56,
        _ => 1.0,
    };
    size * text.chars().map(em).sum::<f64>()
}

/// At most `most` characters, without those that XML forbids.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The places in [`low`, `high`] nearest to the targets (least squares) that keep their order and stand
/// `pitch` apart: isotonic regression of target − rank · pitch by pooling adjacent violators.
fn spread(targets: &[f64], pitch: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by(|&a, &b| targets[a].total_cmp(&targets[b]));
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (rank, &i) in order.iter().enumerate() {
        let mut pool = (targets[i] - rank as f64 * pitch, 1);
        while let Some(&(mean, size)) = pools.last().filter(|last| last.0 >= pool.0) {
            let together = size + pool.1;
            pool = ((mean * size as f64 + pool.0 * pool.1 as f64) / together as f64, together);
            pools.pop();
        }
        pools.push(pool);
    }
    let highest = (high - targets.len().saturating_sub(1) as f64 * pitch).max(low);
    let mut places = vec![0.0; targets.len()];
    let pooled = pools.iter().flat_map(|&(mean, size)| std::iter::repeat_n(mean, size));
    for (rank, (&i, pooled)) in order.iter().zip(pooled).enumerate() {
        places[i] = pooled.clamp(low, highest) + rank as f64 * pitch;
    }
    places
}

pub(super) fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_moves_labels_apart_and_no_further_than_needed() {
        assert_eq!(spread(&[50.0, 10.0], 10.0, 0.0, 100.0), [50.0, 10.0]);
        // Three on one spot stay centred on it.
        assert_eq!(spread(&[50.0, 50.0, 50.0], 10.0, 0.0, 100.0), [40.0, 50.0, 60.0]);
        // At the edge they are pushed inside, in the order of their targets.
        assert_eq!(spread(&[100.0, 99.0, 20.0], 10.0, 0.0, 100.0), [100.0, 90.0, 20.0]);
        assert!(spread(&[], 10.0, 0.0, 100.0).is_empty());
    }

    #[test]
    fn steps_are_round_numbers() {
        assert_eq!([300.0, 100.0, 8.0, 1.0].map(|rounds| nice_step(rounds, 8.0)), [50.0, 20.0, 1.0, 0.2]);
        assert_eq!(multiples(20.0, 0.0, 100.0).collect::<Vec<_>>(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!([-4.0, -2.0, 0.0, 4.0, 5.0].map(power_of_ten), ["1e-4", "0.01", "1", "10000", "1e5"]);
    }

    #[test]
    fn ticks_carry_no_digit_too_many() {
        let labels = |axis: Axis| axis.ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(labels(Axis::from_zero("", 0.9, 1.0)), ["0.0", "0.5"]);
        assert_eq!(labels(Axis::from_zero("", 0.07, 1.0)), ["0.00", "0.02", "0.04", "0.06"]);
        assert_eq!(labels(Axis::from_zero("", 3.2e9, 1e6)), ["0", "1000", "2000", "3000"]);
        assert_eq!(labels(Axis::of_rounds(1.0)), ["0", "1"]);
        assert_eq!(labels(Axis::between("", (1.0, 5.0), 0.03, true)), ["1", "2", "3", "4", "5"]);
        assert_eq!(labels(Axis::between("", (0.0, 0.3), 0.03, false))[..3], ["0.00", "0.05", "0.10"]);
    }

    #[test]
    fn long_names_are_cut_and_control_characters_dropped() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abc defg", 5), "abc…");
        assert_eq!(shorten("a\u{1}b\n", 6), "a b ");
        let curve = Curve::new("", Stroke { colour: INK, dash: None }, vec![], vec![]);
        let label = curve.marked(&"x".repeat(60), Some("diverged in round 3".into())).label;
        assert!(label.ends_with("x…, diverged in round 3"), "{label}");
        assert_eq!(shorten(&label, LEGEND_CHARACTERS), label);
    }
}
