//! Receiver operating characteristics of a membership test and their area.

/// How well scores tell members from non-members.
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// (false positive rate, true positive rate) from (0, 0) to (1, 1), one point per distinct threshold.
    pub points: Vec<(f64, f64)>,
    /// Area under the curve: the chance that a random member scores above a random non-member, ties counting half.
    pub auc: f64,
    /// Standard error of the area (Hanley & McNeil 1982, equation 1).
    pub standard_error: f64,
}

impl Roc {
    /// Higher scores speak for membership. Both sides must have a score.
    #[must_use]
    pub fn of(members: &[f64], others: &[f64]) -> Self {
        let mut all: Vec<(f64, bool)> =
            members.iter().map(|&s| (s, true)).chain(others.iter().map(|&s| (s, false))).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (m, n) = (members.len() as f64, others.len() as f64);
        let (mut hits, mut alarms, mut area) = (0.0, 0.0, 0.0);
        let mut points = vec![(0.0, 0.0)];
        for tied in all.chunk_by(|a, b| a.0 == b.0) {
            let found = tied.iter().filter(|(_, member)| *member).count() as f64;
            let wrong = tied.len() as f64 - found;
            area += wrong * (hits + 0.5 * found);
            hits += found;
            alarms += wrong;
            points.push((alarms / n, hits / m));
        }
        let auc = area / (m * n);
        let (q1, q2) = (auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc));
        let variance =
            (auc * (1.0 - auc) + (m - 1.0) * (q1 - auc * auc) + (n - 1.0) * (q2 - auc * auc)) / (m * n);
        Self { points, auc, standard_error: variance.max(0.0).sqrt() }
    }

    /// The normal 95 % confidence interval of the area.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        let reach = 1.959_964 * self.standard_error;
        (self.auc - reach, self.auc + reach)
    }

    /// Whether the interval holds ½: the test does no better than guessing.
    #[must_use]
    pub fn at_chance(&self) -> bool {
        let (low, high) = self.interval();
        low <= 0.5 && 0.5 <= high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_worked_by_hand() {
        // Pairs (3,2) (3,1) (1,2) (1,1): wins 1, 1, 0, ½ of 4.
        let roc = Roc::of(&[3.0, 1.0], &[2.0, 1.0]);
        assert_eq!(roc.auc, 0.625);
        assert_eq!(roc.points, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)]);
        // Hanley & McNeil: Q1 = 0.625/1.375, Q2 = 2·0.390625/1.625.
        let (q1, q2): (f64, f64) = (0.625 / 1.375, 0.781_25 / 1.625);
        let variance = (0.625 * 0.375 + (q1 - 0.390_625) + (q2 - 0.390_625)) / 4.0;
        assert!((roc.standard_error - variance.sqrt()).abs() < 1e-12);
        assert_eq!(Roc::of(&[2.0, 3.0], &[0.0, 1.0]).auc, 1.0);
        assert_eq!(Roc::of(&[0.0, 1.0], &[2.0, 3.0]).auc, 0.0);
        assert!(Roc::of(&[1.0; 50], &[1.0; 50]).at_chance());
        assert!(!Roc::of(&[1.0; 50], &[0.0; 50]).at_chance());
    }
}
