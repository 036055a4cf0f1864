//! SVG → PNG with fonts of our own, so that it has text on a machine without fonts, and the same everywhere.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::error::{Error, Result};

/// Draws the SVG in pixels of its own size.
pub(in crate::report) fn png(svg: &str) -> Result<Vec<u8>> {
    let refuse = |what: String| Error::Refused(format!("cannot draw the figure as PNG: {what}"));
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    // For what the first lacks, such as arrows.
    fonts.load_font_data(epaint_default_fonts::HACK_REGULAR.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|family| family.0.clone());
    let family = family.ok_or_else(|| refuse("the embedded font is damaged".into()))?;
    // Where no named family is found, usvg falls back to this one.
    fonts.set_serif_family(family);
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| refuse(error.to_string()))?;
    let size = tree.size().to_int_size();
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| refuse("it has no area".into()))?;
    resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());

    // The background is opaque, so the fourth channel tells nothing.
    let rgb: Vec<u8> =
        pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width(), size.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&rgb));
    written.map_err(|error| refuse(error.to_string()))?;
    Ok(bytes)
}
