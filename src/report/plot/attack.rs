//! The figures of `seccogc attack`.

use std::fmt::Write as _;
use std::path::Path;

use super::draw::{Axis, Curve, Figure, Panel, Stroke};
use super::{BLACK, COLOURS, DASHES, raster};
use crate::attack::Strip;
use crate::attack::roc::Roc;
use crate::error::{Error, Result};
use crate::record::write_atomically;

/// Draws ROC curves as `<stem>.svg` and `<stem>.png`, with the diagonal of guessing.
///
/// # Errors
/// No curve, or a file that cannot be written.
pub fn plot_roc(curves: &[(String, Roc)], title: &str, stem: &Path) -> Result<()> {
    if curves.is_empty() {
        return Err(Error::Refused("nothing to plot; no attack was made".into()));
    }
    let axis = |label: &str| Axis {
        label: label.into(),
        range: (0.0, 1.0),
        ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|t| (t, format!("{t}"))).to_vec(),
    };
    let mut drawn: Vec<Curve> = curves
        .iter()
        .enumerate()
        .map(|(i, (label, roc))| {
            let stroke = Stroke { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()] };
            Curve::new(label, stroke, roc.points.clone(), Vec::new())
        })
        .collect();
    let guessing = Stroke { colour: BLACK, dash: DASHES[2] };
    drawn.push(Curve::new("guessing", guessing, vec![(0.0, 0.0), (1.0, 1.0)], Vec::new()));
    let mut panel = Panel::of_curves(760, axis("true positive rate"), drawn);
    panel.x = Some(axis("false positive rate"));
    let caption = "area under each curve with its 95 % confidence interval".into();
    Figure { title: title.into(), caption, rounds: 1.0, panels: vec![panel] }.write(stem)
}

/// Draws strips of grey images (mean over channels), one strip a line with its label, as `path`.
///
/// # Errors
/// No image, or a file that cannot be written.
pub fn plot_images(
    strips: &[Strip],
    (channels, height, width): (usize, usize, usize),
    path: &Path,
) -> Result<()> {
    const ZOOM: usize = 3;
    const GAP: usize = 6;
    const LABEL: usize = 330;
    let columns = strips.iter().map(|strip| strip.images.len()).max().unwrap_or(0);
    if columns == 0 {
        return Err(Error::Refused("nothing to draw; no image was attacked".into()));
    }
    let (cell_w, cell_h) = (width * ZOOM + GAP, height * ZOOM + GAP);
    let (w, h) = (LABEL + columns * cell_w + GAP, strips.len() * cell_h + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\"><rect width=\"{w}\" height=\"{h}\" fill=\"white\"/>"
    );
    for (line, strip) in strips.iter().enumerate() {
        let y = GAP + line * cell_h + cell_h / 2 + 6;
        let label = strip.label.replace('&', "&amp;").replace('<', "&lt;");
        let _ = write!(
            svg,
            "<text x=\"16\" y=\"{y}\" font-family=\"sans-serif\" font-size=\"26\">{label}</text>"
        );
    }
    svg.push_str("</svg>");
    let damaged = |error: png::DecodingError| Error::Refused(format!("cannot draw: {error}"));
    let rendered = raster::png(&svg)?;
    let mut reader = png::Decoder::new(std::io::Cursor::new(rendered)).read_info().map_err(damaged)?;
    let mut canvas = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let info = reader.next_frame(&mut canvas).map_err(damaged)?;
    let (real_w, bytes) = (info.width as usize, info.color_type.samples());
    let scale = real_w as f64 / w as f64;
    for (line, strip) in strips.iter().enumerate() {
        for (column, image) in strip.images.iter().enumerate() {
            let left = ((LABEL + column * cell_w) as f64 * scale) as usize;
            let top = ((GAP + line * cell_h) as f64 * scale) as usize;
            let side = (ZOOM as f64 * scale).max(1.0);
            for y in 0..(height as f64 * side) as usize {
                for x in 0..(width as f64 * side) as usize {
                    let at = (y as f64 / side) as usize * width + (x as f64 / side) as usize;
                    let grey: f64 =
                        (0..channels).map(|c| image[c * height * width + at]).sum::<f64>() / channels as f64;
                    let place = ((top + y) * real_w + left + x) * bytes;
                    canvas[place..place + bytes.min(3)].fill((255.0 * grey.clamp(0.0, 1.0)).round() as u8);
                }
            }
        }
    }
    let mut file = Vec::new();
    let refused = |error: png::EncodingError| Error::Refused(format!("cannot draw: {error}"));
    let mut encoder = png::Encoder::new(&mut file, info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.set_depth(info.bit_depth);
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(&canvas).map_err(refused)?;
    writer.finish().map_err(refused)?;
    write_atomically(path, &file)
}
