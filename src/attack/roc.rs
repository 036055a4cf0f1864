//! Receiver operating characteristics of a membership test and their area.

use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// The scores that one draw of keys gave: they share its noise and are not independent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Of members.
    pub members: Vec<f64>,
    /// Of non-members.
    pub others: Vec<f64>,
}

/// How well scores tell members from non-members.
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// (false positive rate, true positive rate) from (0, 0) to (1, 1), one point per distinct threshold.
    pub points: Vec<(f64, f64)>,
    /// Area under the curve: the chance that a random member scores above a random non-member, ties counting
    /// half.
    pub auc: f64,
    /// Standard error of the area, clustered by draws of keys (Obuchowski 1997); infinite with one draw.
    pub standard_error: f64,
    /// Number of independent scores that would know the area as well, see [`Roc::interval`].
    effective: f64,
}

impl Roc {
    /// Higher scores speak for membership. Both sides must have a score.
    #[must_use]
    pub fn of(draws: &[Scores]) -> Self {
        let pooled =
            |of: fn(&Scores) -> &Vec<f64>| -> Vec<f64> { draws.iter().flat_map(of).copied().collect() };
        let (members, others) = (pooled(|draw| &draw.members), pooled(|draw| &draw.others));
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
        let standard_error = clustered_error(draws, &members, &others, auc);
        // Not more than independent scores of these numbers know of an area of ½.
        let most = 3.0 * m * n / (m + n + 1.0);
        let count = draws.len() as f64;
        let effective = match standard_error.powi(2) {
            variance if variance > 0.0 => (auc * (1.0 - auc) / variance).min(most),
            _ => count.min(most),
        };
        // All scores on one side say as much as the draws do.
        let effective = if auc * (1.0 - auc) > 0.0 { effective } else { count.min(most) };
        let quantile =
            |freedom: f64| StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |t| t.inverse_cdf(0.975));
        let shrink = if count > 1.0 { (1.959_964 / quantile(count - 1.0)).powi(2) } else { 1.0 };
        Self { points, auc, standard_error, effective: (effective * shrink).max(1.0) }
    }

    /// The 95 % confidence interval of the area, within 0 and 1: that of a proportion of as many independent
    /// trials as would have the clustered standard error, with Student's t for the number of draws (Clopper &
    /// Pearson 1934 after Korn & Graubard 1998). Where the area is 0 or 1, every draw of keys counts as one
    /// trial.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        let (hits, misses) = (self.auc * self.effective, (1.0 - self.auc) * self.effective);
        let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
        let low = if self.auc <= 0.0 { 0.0 } else { quantile(hits, misses + 1.0, 0.025) };
        let high = if self.auc >= 1.0 { 1.0 } else { quantile(hits + 1.0, misses, 0.975) };
        (low, high)
    }

    /// The largest TPR − FPR of a threshold.
    #[must_use]
    pub fn advantage(&self) -> f64 {
        self.points.iter().map(|(fpr, tpr)| tpr - fpr).fold(0.0, f64::max)
    }

    /// The largest TPR of a threshold whose FPR is at most `fpr`.
    #[must_use]
    pub fn power(&self, fpr: f64) -> f64 {
        self.points.iter().filter(|point| point.0 <= fpr).map(|point| point.1).fold(0.0, f64::max)
    }

    /// Whether the interval holds ½: the test does no better than guessing.
    #[must_use]
    pub fn at_chance(&self) -> bool {
        let (low, high) = self.interval();
        low <= 0.5 && 0.5 <= high
    }
}

/// The area's standard error from the sums of what every draw's scores contribute to it.
fn clustered_error(draws: &[Scores], members: &[f64], others: &[f64], auc: f64) -> f64 {
    let count = draws.len() as f64;
    if count < 2.0 {
        return f64::INFINITY;
    }
    let sorted = |scores: &[f64]| {
        let mut scores = scores.to_vec();
        scores.sort_by(f64::total_cmp);
        scores
    };
    // The share of an ascending list below x, ties counting half.
    let below = |x: f64, list: &[f64]| {
        let (less, not_more) = (list.partition_point(|y| *y < x), list.partition_point(|y| *y <= x));
        (less + not_more) as f64 / (2 * list.len()) as f64
    };
    let (all_members, all_others) = (sorted(members), sorted(others));
    let contribution = |draw: &Scores| {
        let of_members: f64 = draw.members.iter().map(|x| below(*x, &all_others) - auc).sum();
        let of_others: f64 = draw.others.iter().map(|y| 1.0 - below(*y, &all_members) - auc).sum();
        of_members / members.len() as f64 + of_others / others.len() as f64
    };
    let squares: f64 = draws.iter().map(|draw| contribution(draw).powi(2)).sum();
    (count / (count - 1.0) * squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::Sample;
    use crate::seed::Seed;

    fn draw(members: &[f64], others: &[f64]) -> Scores {
        Scores { members: members.to_vec(), others: others.to_vec() }
    }

    #[test]
    fn areas_worked_by_hand() {
        // Pairs (3,2) (3,1) (1,2) (1,1): wins 1, 1, 0, ½ of 4.
        let roc = Roc::of(&[draw(&[3.0], &[2.0]), draw(&[1.0], &[1.0])]);
        assert_eq!(roc.auc, 0.625);
        assert_eq!(roc.points, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)]);
        assert_eq!((roc.advantage(), roc.power(0.4), roc.power(0.6)), (0.5, 0.5, 0.5));
        assert_eq!((roc.power(1.0), Roc::of(&[draw(&[2.0], &[3.0])]).power(0.01)), (1.0, 0.0));
        // Members beat 1 and ¼ of the others, others are beaten by ½ and ¾ of the members: the draws
        // contribute (3/8 − 1/8)/2 and (−3/8 + 1/8)/2, so that the variance is 2 · (1/64 + 1/64).
        assert!((roc.standard_error - 0.25).abs() < 1e-12, "{roc:?}");
        assert_eq!(Roc::of(&[draw(&[2.0, 3.0], &[0.0, 1.0])]).auc, 1.0);
        assert_eq!(Roc::of(&[draw(&[0.0, 1.0], &[2.0, 3.0])]).auc, 0.0);
    }

    #[test]
    fn intervals_stay_within_their_range() {
        let ten = |member: f64, other: f64| Roc::of(&vec![draw(&[member; 5], &[other; 5]); 10]);
        assert!(ten(1.0, 1.0).at_chance());
        // Ten draws that are all right: the lower end is that of 10 hits in 10 trials at Student's t.
        let (low, high) = ten(1.0, 0.0).interval();
        assert!(high == 1.0 && low > 0.5 && low < 0.025f64.powf(0.1) + 1e-9, "{low}");
        let (low, high) = ten(0.0, 1.0).interval();
        assert!(low == 0.0 && high < 0.5, "{high}");
        // Near the edge the normal interval would leave the range.
        let nearly: Vec<Scores> = (0..10)
            .map(|c| draw(&[1.0, 2.0, f64::from(c)], &[0.5, if c == 0 { 1.5 } else { 0.0 }]))
            .collect();
        let roc = Roc::of(&nearly);
        assert!(roc.auc + 1.96 * roc.standard_error > 1.0, "{roc:?}");
        let (low, high) = roc.interval();
        assert!(0.5 < low && low < roc.auc && roc.auc < high && high < 1.0, "{low} {high}");
        // One draw knows nothing of other draws.
        let (low, high) = Roc::of(&[draw(&[1.0; 50], &[0.0; 50])]).interval();
        assert!(low < 0.1 && high == 1.0);
    }

    /// Twelve draws of six members and six others whose scores share a term as large as their own: 95 %
    /// intervals hold the true area in 95 % of 600 trials, and those that take scores as independent in far
    /// fewer. A binomial count of 600 at 0.95 is below 548 with probability 10⁻⁵.
    #[test]
    fn intervals_hold_the_area_when_scores_share_a_key() {
        let (edge, shared) = (0.8, 1.0);
        // Φ(edge/√(2(1 + shared²))) at 0.4.
        let truth = 0.655_421_7;
        let (mut held, mut independent) = (0, 0);
        for trial in 0..600 {
            let mut rng = Seed::new(3).child("trial", trial).rng();
            let draws: Vec<Scores> = (0..12)
                .map(|_| {
                    let mut noise = [0.0f64; 14];
                    f64::sample(&mut rng, &mut noise);
                    let score = |i: usize, member: bool| {
                        if member {
                            edge + shared * noise[12] + noise[i]
                        } else {
                            shared * noise[13] + noise[i]
                        }
                    };
                    Scores {
                        members: (0..6).map(|i| score(i, true)).collect(),
                        others: (6..12).map(|i| score(i, false)).collect(),
                    }
                })
                .collect();
            let holds = |(low, high): (f64, f64)| i32::from(low <= truth && truth <= high);
            held += holds(Roc::of(&draws).interval());
            let one = |(member, other): (&f64, &f64)| draw(&[*member], &[*other]);
            let apart: Vec<Scores> =
                draws.iter().flat_map(|draw| draw.members.iter().zip(&draw.others).map(one)).collect();
            independent += holds(Roc::of(&apart).interval());
        }
        assert!(held >= 548 && independent < 500, "{held} {independent}");
    }
}
