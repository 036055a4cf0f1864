//! The figures of `seccogc privacy`.

use std::path::Path;

use super::draw::{self, Axis, Band, Curve, Figure, Panel, Stroke};
use super::{BLUE, COLOURS, DASHES, VERMILLION, accuracy_axis};
use crate::error::{Error, Result};
use crate::privacy_levels::{AccuracyRow, LeakageRow, RecoveryRow};
use crate::protocol::Arithmetic;
use crate::report::mean_std;

/// Draws final accuracy against ε over all rounds and against LMIP as `<stem>.svg` and `<stem>.png`: mean and
/// a band of ± one sample standard deviation over the seeds. Protocols without keys are horizontal lines.
///
/// # Errors
/// No row, or a file that cannot be written.
pub fn plot_privacy(rows: &[AccuracyRow], title: &str, stem: &Path) -> Result<()> {
    let first = rows.first().ok_or_else(nothing)?;
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.protocol.as_str()) {
            names.push(&row.protocol);
        }
    }
    let panel = |label: &str, level: fn(&AccuracyRow) -> f64| {
        let levels = rows.iter().filter(|row| row.key_std.is_some()).map(level);
        let x = Axis::of_powers(label, levels, 0.03);
        let curve = |(i, name): (usize, &&str)| {
            let stroke = Stroke { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()] };
            let of_name: Vec<&AccuracyRow> = rows.iter().filter(|row| row.protocol == **name).collect();
            accuracy_curve(name, stroke, &of_name, level, x.range)
        };
        let curves = names.iter().enumerate().map(curve).collect();
        let mut panel = Panel::of_curves(560, accuracy_axis(20.0), curves);
        panel.x = Some(x.clone());
        panel
    };
    let epsilon = format!(
        "provable ε over {} rounds at δ = {:e}, worst client and adversary",
        first.rounds, first.delta
    );
    let panels = vec![
        panel(&epsilon, |row| row.epsilon_provable),
        panel(
            "provable LMIP of one round (bits per coordinate), worst client and link or neighbour",
            |row| row.lmip_bits_provable,
        ),
    ];
    let mut seeds: Vec<u64> = rows.iter().map(|row| row.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let caption = match seeds.len() {
        1 => "more private to the left; horizontal: no keys, ε and LMIP unbounded".into(),
        n => {
            format!("mean ± one standard deviation over {n} seeds; horizontal: no keys, ε and LMIP unbounded")
        }
    };
    Figure { title: title.into(), caption, rounds: 1.0, panels }.write(stem)
}

fn accuracy_curve(
    name: &str,
    stroke: Stroke,
    rows: &[&AccuracyRow],
    level: fn(&AccuracyRow) -> f64,
    (left, right): (f64, f64),
) -> Curve {
    let (mut points, mut band) = (Vec::new(), Vec::new());
    let mut add = |x: f64, rows: &[&AccuracyRow]| {
        if let Some((mean, std)) = mean_std(rows.iter().map(|row| 100.0 * row.final_accuracy)) {
            points.push((x, mean));
            band.extend(std.map(|std| Band { x, low: (mean - std).max(0.0), high: (mean + std).min(100.0) }));
        }
    };
    let mut stds: Vec<f64> = rows.iter().filter_map(|row| row.key_std).collect();
    if stds.is_empty() {
        add(left, rows);
        add(right, rows);
    }
    // Strong keys, which stand at the left, first.
    stds.sort_by(|a, b| b.total_cmp(a));
    stds.dedup();
    for std in stds {
        let of_std: Vec<&AccuracyRow> = rows.iter().copied().filter(|row| row.key_std == Some(std)).collect();
        let logs = of_std.iter().map(|row| level(row).log10());
        if let Some((x, _)) = mean_std(logs) {
            add(x, &of_std);
        }
    }
    Curve::new(name, stroke, points, band)
}

/// Draws the leakage of each client under plain and fair keys as `<stem>.svg` and `<stem>.png`: one panel for
/// links, neighbours and the server.
///
/// # Errors
/// No row, or a file that cannot be written.
pub fn plot_leakage(rows: &[LeakageRow], title: &str, stem: &Path) -> Result<()> {
    let first = rows.first().ok_or_else(nothing)?;
    let clients = rows.iter().map(|row| row.client).max().unwrap_or(1) as f64;
    let clients_axis = || {
        let step = draw::nice_step(clients, 12.0).max(1.0);
        let ticks = (1..).map(|i| f64::from(i) * step).take_while(|&tick| tick <= clients);
        let ticks = ticks.map(|tick| (tick, tick.to_string())).collect();
        Axis { label: "client".into(), range: (0.5, clients + 0.5), ticks }
    };
    let panel = |adversary: &str, value: fn(&LeakageRow) -> f64| {
        let curve = |keys: &str, label: &str, stroke| {
            let of_keys = rows.iter().filter(|row| row.keys == keys);
            let points = of_keys.map(|row| (row.client as f64, value(row)));
            Curve::new(label, stroke, points.filter(|(_, bits)| bits.is_finite()).collect(), vec![])
        };
        let curves = vec![
            curve("plain", "SecCoGC (plain keys)", Stroke { colour: VERMILLION, dash: DASHES[1] }),
            curve("fair", "Fair-SecCoGC (fair keys)", Stroke { colour: BLUE, dash: None }),
        ];
        let top = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(0.0, f64::max);
        let top = if top > 0.0 { top } else { 1.0 };
        let exponent = top.log10().floor();
        let (unit, label) = if (-2.0..3.0).contains(&exponent) {
            (1.0, format!("{adversary} (bits)"))
        } else {
            (10f64.powf(exponent), format!("{adversary} (1e{exponent} bits)"))
        };
        let mut panel = Panel::of_curves(400, Axis::from_zero(&label, 1.12 * top, unit), curves);
        panel.x = Some(clients_axis());
        panel
    };
    let panels = vec![
        panel("worst link", |row| row.link_bits),
        panel("worst neighbour", |row| row.neighbour_bits),
        panel("server beyond sum", |row| (row.server_bits - row.sum_bits).max(0.0)),
    ];
    let caption =
        format!("LMIP of one round per coordinate; total key power {:.3} for both", first.total_power);
    Figure { title: title.into(), caption, rounds: 1.0, panels }.write(stem)
}

/// Draws recovery error against σ on logarithmic axes as `<stem>.svg` and `<stem>.png`.
///
/// # Errors
/// No row, or a file that cannot be written.
pub fn plot_recovery(rows: &[RecoveryRow], title: &str, stem: &Path) -> Result<()> {
    if rows.is_empty() {
        return Err(nothing());
    }
    let x = Axis::of_powers(
        "σ of the keys / σ of an update's coordinate",
        rows.iter().map(|row| row.key_std),
        0.0,
    );
    let y = Axis::of_powers("relative recovery error", rows.iter().map(|row| row.relative_error), 0.05);
    let mut codes: Vec<(&str, usize)> = Vec::new();
    for row in rows {
        if !codes.contains(&(&row.code, row.stragglers)) {
            codes.push((&row.code, row.stragglers));
        }
    }
    let mut curves = Vec::new();
    let styles = [
        (Arithmetic::F32, "f32", DASHES[1]),
        (Arithmetic::F64, "f64", None),
        (Arithmetic::Field, "field of 2⁶¹ − 1", DASHES[2]),
    ];
    for (arithmetic, name, dash) in styles {
        for (i, (code, stragglers)) in codes.iter().enumerate() {
            let of_curve = rows.iter().filter(|row| {
                (row.code.as_str(), row.stragglers, row.arithmetic) == (*code, *stragglers, arithmetic)
            });
            let points = of_curve.map(|row| (row.key_std.log10(), row.relative_error.log10()));
            let points: Vec<_> = points.filter(|(_, y)| y.is_finite()).collect();
            if points.is_empty() {
                continue;
            }
            let label = format!("{code}, s = {stragglers}, {name}");
            curves.push(Curve::new(
                &label,
                Stroke { colour: COLOURS[i % COLOURS.len()], dash },
                points,
                vec![],
            ));
        }
    }
    let mut panel = Panel::of_curves(760, y, curves);
    panel.x = Some(x);
    let caption =
        "error 1: the sum is lost in rounding; largest of three rounds, each with s uploads lost".into();
    Figure { title: title.into(), caption, rounds: 1.0, panels: vec![panel] }.write(stem)
}

fn nothing() -> Error {
    Error::Refused("nothing to plot; there is no row".into())
}
