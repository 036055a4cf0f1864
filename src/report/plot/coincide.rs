//! Curves that lie on each other: one line, and one entry in the legend that names them all.

use super::draw::{Axis, Curve, LEGEND_PITCH, Panel};

/// Fewest points of curves that are said to be one; a common point alone is chance.
const LEAST: usize = 2;

impl Panel {
    /// As high as asked, or higher where the legend needs it.
    pub(super) fn of_curves(height: i32, y: Axis, curves: Vec<Curve>) -> Self {
        let curves = merged(curves);
        let legend = LEGEND_PITCH * curves.len() as i32;
        Self { height: height.max(legend), x: None, y, curves, fills: vec![] }
    }
}

/// The curves, those that are the same in every point and band drawn once, as the first of them, and called
/// by all their names.
fn merged(curves: Vec<Curve>) -> Vec<Curve> {
    let mut kept: Vec<(Curve, Vec<String>)> = Vec::new();
    for curve in curves {
        let twin = kept.iter_mut().find(|(other, _)| curve.points.len() >= LEAST && same(other, &curve));
        match twin {
            Some((_, names)) => names.push(curve.label),
            None => {
                let names = vec![curve.label.clone()];
                kept.push((curve, names));
            }
        }
    }
    kept.into_iter().map(|(curve, names)| Curve { label: joined(&names), ..curve }).collect()
}

fn same(one: &Curve, other: &Curve) -> bool {
    let ends =
        |curve: &Curve| curve.band.iter().map(|band| (band.x, band.low, band.high)).collect::<Vec<_>>();
    one.points == other.points && one.cut == other.cut && ends(one) == ends(other)
}

/// "CoGC = Fair-SecCoGC (4) = SecCoGC": where several names differ after their first comma only, what they
/// have in common and how many they are.
fn joined(names: &[String]) -> String {
    let base = |name: &str| name.split(',').next().unwrap_or_default().trim_end().to_owned();
    let mut groups: Vec<(String, Vec<&String>)> = Vec::new();
    for name in names {
        match groups.iter_mut().find(|(common, _)| *common == base(name)) {
            Some((_, members)) => members.push(name),
            None => groups.push((base(name), vec![name])),
        }
    }
    let several = names.len() > 2;
    let word = |(common, members): &(String, Vec<&String>)| match members[..] {
        // The rest of a name would make three or more of them too long for a legend.
        [_] if several => common.clone(),
        [name] => name.clone(),
        _ => format!("{common} ({})", members.len()),
    };
    groups.iter().map(word).collect::<Vec<_>>().join(" = ")
}

#[cfg(test)]
mod tests {
    use super::super::stroke;
    use super::*;

    #[test]
    fn curves_on_each_other_are_one_with_all_names() {
        let curve = |name: &str, i: usize, last: f64| {
            Curve::new(name, stroke(i), vec![(1.0, 5.0), (2.0, last)], vec![])
        };
        let names = ["ideal", "CoGC", "Fair, σ = 1", "Fair, σ = 10", "SecCoGC, σ = 1", "FedAvg"];
        let lasts = [9.0, 8.0, 8.0, 8.0, 8.0, 7.0];
        let curves = (0..).zip(names).zip(lasts).map(|((i, name), last)| curve(name, i, last)).collect();
        let drawn = merged(curves);
        let labels: Vec<&str> = drawn.iter().map(|curve| curve.label.as_str()).collect();
        assert_eq!(labels, ["ideal", "CoGC = Fair (2) = SecCoGC", "FedAvg"]);
        assert_eq!(joined(&["A, x".into(), "B, y".into()]), "A, x = B, y");
        assert_eq!(joined(&["A, x".into()]), "A, x");
    }

    #[test]
    fn one_common_point_is_chance() {
        let curve = |name: &str| Curve::new(name, stroke(0), vec![(1.0, 5.0)], vec![]);
        assert_eq!(merged(vec![curve("A"), curve("B")]).len(), 2);
    }
}
