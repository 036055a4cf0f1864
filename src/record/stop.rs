//! When a run ends before its last round, other than by divergence.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Row;
use crate::error::count;

/// What ends a run before its last round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stop {
    /// The test accuracy (fraction) to reach.
    pub target: Option<f64>,
    /// Whether the run ends there.
    pub at_target: bool,
    /// Tests in a row without a better accuracy after which the run ends.
    pub patience: Option<u64>,
}

impl Stop {
    /// Whether a run with these rounds, from the first on, is over.
    #[must_use]
    pub fn ends(&self, rows: &[Row]) -> bool {
        let target = self.target.filter(|_| self.at_target);
        let reached = target.is_some_and(|accuracy| rows.iter().any(|row| row.reaches(accuracy)));
        reached || self.exhausted(rows).is_some()
    }

    /// The patience of a run with these rounds, where it is at its end.
    #[must_use]
    pub fn exhausted(&self, rows: &[Row]) -> Option<Exhausted> {
        // Asked after every round: without a patience the rounds before are not looked through.
        let patience = self.patience?;
        let best = best(rows)?;
        let later = rows.iter().filter(|row| row.round > best.round && row.test_accuracy.is_some()).count();
        let accuracy = best.test_accuracy?;
        (later as u64 >= patience).then_some(Exhausted { tests: later as u64, round: best.round, accuracy })
    }
}

/// The first of the rounds with the highest test accuracy; none where none was tested.
#[must_use]
pub fn best(rows: &[Row]) -> Option<&Row> {
    let tested = rows.iter().filter(|row| row.test_accuracy.is_some_and(f64::is_finite));
    tested.reduce(|best, row| if row.test_accuracy > best.test_accuracy { row } else { best })
}

/// A patience that is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhausted {
    /// Tests without a better accuracy.
    pub tests: u64,
    /// The round of the best test.
    pub round: u64,
    /// Its accuracy (fraction).
    pub accuracy: f64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tests, round, accuracy } = self;
        let (tests, percent) = (count(tests, "test"), 100.0 * accuracy);
        write!(f, "patience exhausted by {tests} no better than {percent:.2} % in round {round}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds with these accuracies, every second of them tested.
    fn rows(accuracies: &[f64]) -> Vec<Row> {
        let row = |(i, accuracy): (usize, &f64)| {
            let round = 2 * i as u64 + 1;
            [Row::blank(round), Row { test_accuracy: Some(*accuracy), ..Row::blank(round + 1) }]
        };
        accuracies.iter().enumerate().flat_map(row).collect()
    }

    #[test]
    fn patience_counts_tests_since_the_first_best() {
        let stop = Stop { patience: Some(2), ..Stop::default() };
        assert!(!stop.ends(&[]) && !stop.ends(&rows(&[0.5, 0.25])));
        assert!(!stop.ends(&rows(&[0.5, 0.25, 0.75, 0.5])));
        // The same accuracy is no better one.
        let over = stop.exhausted(&rows(&[0.5, 0.75, 0.75, 0.5])).unwrap();
        assert_eq!(over, Exhausted { tests: 2, round: 4, accuracy: 0.75 });
        assert_eq!(over.to_string(), "patience exhausted by 2 tests no better than 75.00 % in round 4");
        assert!(!Stop::default().ends(&rows(&[0.5, 0.75, 0.75, 0.5])));
        assert_eq!(best(&rows(&[0.5, 0.75, 0.75])).map(|row| row.round), Some(4));
        assert!(best(&[Row::blank(1)]).is_none());
    }

    #[test]
    fn a_target_ends_a_run_where_it_is_to() {
        let target = Stop { target: Some(0.75), at_target: true, patience: None };
        assert!(target.ends(&rows(&[0.75, 0.5])) && !target.ends(&rows(&[0.5, 0.7])));
        assert!(!Stop { at_target: false, ..target }.ends(&rows(&[0.75])));
    }
}
