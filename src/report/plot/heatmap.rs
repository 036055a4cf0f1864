//! A heat map: probabilities over two discrete axes, with the numbers in the cells.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::draw::{Canvas, Drawn, INK, MARGIN, TEXT_SIZE, TITLE_SIZE, shorten, text_in, width, with_suffix};
use super::lines::{Graph, Measured, Scale, Trace, plot_graphs};
use super::raster::png;
use crate::error::{Error, Result};
use crate::record::write_atomically;

/// Dark to light; brightness rises evenly, so that the map can be read in grey (after "viridis", van der Walt
/// & Smith 2015).
const SCALE: [(u8, u8, u8); 5] = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)];
const MISSING: RGBColor = RGBColor(238, 238, 238);

const CELL: (i32, i32) = (120, 64);
const LEFT: i32 = 150;
const BOTTOM: i32 = 120;
const BAR: i32 = 40;

/// A table of probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Above the map.
    pub title: String,
    /// Below the columns, and their values from left to right.
    pub x: (String, Vec<String>),
    /// Left of the rows, and their values from bottom to top.
    pub y: (String, Vec<String>),
    /// \[row\]\[column\], each in \[0, 1\]; `None` leaves the cell empty.
    pub cells: Vec<Vec<Option<f64>>>,
}

/// The colour of a probability.
fn colour(p: f64) -> RGBColor {
    let place = p.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let i = (place as usize).min(SCALE.len() - 2);
    let part = place - i as f64;
    let (a, b) = (SCALE[i], SCALE[i + 1]);
    let blend = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(blend(a.0, b.0), blend(a.1, b.1), blend(a.2, b.2))
}

/// Three decimals, and no rounding to certainty.
fn number(p: f64) -> String {
    match p {
        0.0 => "0".into(),
        1.0 => "1".into(),
        p if p < 0.0005 => "<.001".into(),
        p if p > 0.9995 => ">.999".into(),
        p => format!("{p:.3}").trim_start_matches('0').into(),
    }
}

impl HeatMap {
    /// Writes `<stem>.svg` and `<stem>.png`: a curve where there is one row, over columns that are numbers.
    /// The same input gives the same bytes.
    ///
    /// # Errors
    /// A map without cells, or a file that cannot be written.
    pub fn write(&self, stem: &Path) -> Result<()> {
        if let Some(graph) = self.curve() {
            return plot_graphs(&[graph], &self.title, "", stem);
        }
        let svg = self.svg()?;
        let png = png(&svg)?;
        write_atomically(&with_suffix(stem, ".svg"), svg.as_bytes())?;
        write_atomically(&with_suffix(stem, ".png"), &png)
    }

    /// The only row as a curve.
    fn curve(&self) -> Option<Graph> {
        let ([name], [cells]) = (&self.y.1[..], &self.cells[..]) else { return None };
        let at: Vec<f64> = self.x.1.iter().map(|value| value.parse().ok()).collect::<Option<_>>()?;
        let mut points: Vec<Measured> =
            at.into_iter().zip(cells).filter_map(|(x, p)| Some((x, (*p)?, None))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = format!("{} = {name}", self.y.0);
        (points.len() > 1).then(|| Graph {
            x: (self.x.0.clone(), Scale::Linear),
            y: ("probability".into(), Scale::FromZero),
            traces: vec![Trace { name, points }],
        })
    }

    fn svg(&self) -> Result<String> {
        if self.x.1.is_empty() || self.y.1.is_empty() {
            return Err(Error::Refused("nothing to plot; the grid has no point".into()));
        }
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| Error::Refused(format!("cannot draw the figure: {error}")))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let (columns, rows) = (self.x.1.len() as i32, self.y.1.len() as i32);
        let (left, top) = (MARGIN + LEFT, MARGIN + 110);
        let (right, bottom) = (left + columns * CELL.0, top + rows * CELL.1);
        let names = [(&self.title, TITLE_SIZE), (&self.x.0, TEXT_SIZE)];
        let widest = names.map(|(name, size)| left + width(name, size) as i32 + MARGIN);
        let breadth = (right + 200 + MARGIN).max(widest[0]).max(widest[1]);
        let root = SVGBackend::with_string(svg, (breadth as u32, (bottom + BOTTOM + MARGIN) as u32))
            .into_drawing_area();
        root.fill(&WHITE)?;
        text_in(&root, &shorten(&self.title, 200), (left, MARGIN + 20), HPos::Left, TITLE_SIZE, &INK)?;
        text_in(&root, &self.y.0, (MARGIN, top - 30), HPos::Left, TEXT_SIZE, &INK)?;
        text_in(&root, &self.x.0, (left, bottom + 90), HPos::Left, TEXT_SIZE, &INK)?;

        for (column, name) in self.x.1.iter().enumerate() {
            let middle = left + column as i32 * CELL.0 + CELL.0 / 2;
            text_in(&root, &shorten(name, 8), (middle, bottom + 30), HPos::Center, TEXT_SIZE, &INK)?;
        }
        for (row, name) in self.y.1.iter().enumerate() {
            let low = bottom - row as i32 * CELL.1;
            let middle = low - CELL.1 / 2;
            text_in(&root, &shorten(name, 8), (left - 16, middle), HPos::Right, TEXT_SIZE, &INK)?;
            for (column, cell) in self.cells[row].iter().enumerate() {
                let near = left + column as i32 * CELL.0;
                let fill = cell.map_or(MISSING, colour);
                root.draw(&Rectangle::new(
                    [(near, low - CELL.1), (near + CELL.0 - 2, low - 2)],
                    fill.filled(),
                ))?;
                if let Some(p) = *cell {
                    let ink = if p < 0.6 { &WHITE } else { &INK };
                    let at = (near + CELL.0 / 2, middle);
                    text_in(&root, &number(p), at, HPos::Center, TEXT_SIZE, ink)?;
                }
            }
        }
        legend(&root, (right + 50, top, bottom))
    }
}

/// The scale from 0 at the bottom to 1 at the top.
fn legend(root: &Canvas<'_>, (left, top, bottom): (i32, i32, i32)) -> Drawn {
    let height = bottom - top;
    for y in (0..height).step_by(4) {
        let p = 1.0 - f64::from(y) / f64::from(height);
        let corners = [(left, top + y), (left + BAR, (top + y + 4).min(bottom))];
        root.draw(&Rectangle::new(corners, colour(p).filled()))?;
    }
    for (p, name) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
        let y = bottom - (p * f64::from(height)) as i32;
        text_in(root, name, (left + BAR + 12, y), HPos::Left, TEXT_SIZE, &INK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> HeatMap {
        HeatMap {
            title: "recovered < all".into(),
            x: ("p".into(), vec!["0.1".into(), "0.2".into()]),
            y: ("s".into(), vec!["1".into(), "3".into()]),
            cells: vec![vec![Some(0.25), Some(1.0)], vec![None, Some(0.0)]],
        }
    }

    #[test]
    fn every_cell_has_its_colour_and_number() {
        let svg = map().svg().unwrap();
        for text in [".250", "recovered &lt; all", "0.2", ">\n1\n<"] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        // Missing and certain cells.
        for hex in ["#EEEEEE", "#FDE725", "#440154"] {
            assert!(svg.contains(hex), "{hex}\n{svg}");
        }
        assert_eq!(svg, map().svg().unwrap());
        assert!(png(&svg).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn numbers_never_round_to_certainty() {
        let numbers = [0.0, 0.0001, 0.0004999, 0.5, 0.99951, 1.0].map(number);
        assert_eq!(numbers, ["0", "<.001", "<.001", ".500", ">.999", "1"]);
    }

    #[test]
    fn one_row_of_numbers_is_a_curve() {
        let row =
            HeatMap { y: ("s".into(), vec!["3".into()]), cells: vec![vec![Some(0.5), Some(0.25)]], ..map() };
        let points = &row.curve().unwrap().traces[0].points;
        assert_eq!(points[..], [(0.1, 0.5, None), (0.2, 0.25, None)]);
        let words = HeatMap { x: ("code".into(), vec!["a".into(), "b".into()]), ..row.clone() };
        assert!(words.curve().is_none() && map().curve().is_none());
        let folder = tempfile::tempdir().unwrap();
        row.write(&folder.path().join("row")).unwrap();
        let svg = std::fs::read_to_string(folder.path().join("row.svg")).unwrap();
        assert!(svg.contains("s = 3") && svg.contains("probability"), "{svg}");
    }

    #[test]
    fn an_empty_grid_is_refused() {
        let empty = HeatMap { x: ("p".into(), vec![]), cells: vec![vec![], vec![]], ..map() };
        assert!(empty.svg().unwrap_err().to_string().contains("no point"));
    }
}
