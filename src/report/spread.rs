//! How far seeds differ.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::mean_std;

/// What stands behind the ± of a mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Spread {
    /// One sample standard deviation (divisor n − 1).
    Deviation,
    /// Half the 95 % confidence interval of the mean, by Student's t with n − 1 degrees of freedom.
    Confidence,
}

impl Spread {
    /// Mean and spread of the finite values: `None` without any, a spread only from two on.
    #[must_use]
    pub fn of(self, values: impl IntoIterator<Item = f64>) -> Option<(f64, Option<f64>)> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let n = values.len();
        let (mean, std) = mean_std(values)?;
        Some((mean, std.map(|std| std * self.factor(n))))
    }

    fn factor(self, n: usize) -> f64 {
        match self {
            Self::Deviation => 1.0,
            Self::Confidence => {
                let freedom = (n - 1) as f64;
                let t = StudentsT::new(0.0, 1.0, freedom).expect("n > 1").inverse_cdf(0.975);
                t / (n as f64).sqrt()
            }
        }
    }

    /// In words, for captions.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Deviation => "one standard deviation",
            Self::Confidence => "95 % confidence interval (Student t)",
        }
    }
}

/// The slope of the least-squares line through `points` (x, y); NaN for fewer than two different x.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let products = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>();
    products / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_that_of_the_tables_of_students_t() {
        // t(0.975) is 12.7062 for one degree of freedom, 4.3027 for two, 2.2622 for nine.
        let pair = Spread::Confidence.of([1.0, 3.0]).unwrap();
        assert_eq!(pair.0, 2.0);
        assert!((pair.1.unwrap() - 12.7062 * 2.0f64.sqrt() / 2.0f64.sqrt()).abs() < 1e-3, "{pair:?}");
        let three = Spread::Confidence.of([1.0, 2.0, 3.0]).unwrap().1.unwrap();
        assert!((three - 4.3027 / 3.0f64.sqrt()).abs() < 1e-4, "{three}");
        let ten = Spread::Confidence.of((0..10).map(f64::from)).unwrap().1.unwrap();
        let std = (82.5f64 / 9.0).sqrt();
        assert!((ten - 2.2622 * std / 10.0f64.sqrt()).abs() < 1e-4, "{ten}");
    }

    #[test]
    fn slopes_by_hand() {
        assert_eq!(slope(&[(0.0, 1.0), (2.0, 5.0)]), 2.0);
        // Deviations −1, 0, 1 in x and −1, 1, 0 in y.
        assert_eq!(slope(&[(1.0, 0.0), (2.0, 2.0), (3.0, 1.0)]), 0.5);
        assert!(slope(&[(1.0, 1.0)]).is_nan());
    }

    #[test]
    fn one_value_has_no_spread_and_none_no_mean() {
        for spread in [Spread::Deviation, Spread::Confidence] {
            assert_eq!(spread.of([]), None);
            assert_eq!(spread.of([5.0, f64::NAN]), Some((5.0, None)));
        }
    }
}
