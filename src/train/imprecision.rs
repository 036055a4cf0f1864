//! Keys that are too strong for the arithmetic.

use super::Setting;
use crate::config::PrivacyConfig;
use crate::protocol::Aggregator;

impl Setting {
    /// Says before the first round that keys are too strong for the arithmetic, where the size of updates is
    /// known.
    pub(super) fn warn_of_imprecision(&self, scheme: &dyn Aggregator) {
        let d = self.coordinates() as f64;
        let declared = self.config.privacy.update_std;
        let size = match self.solver.clip_norm() {
            Some(clip) => clip / d.sqrt(),
            None if declared != PrivacyConfig::default().update_std => declared,
            None => return,
        };
        let tolerance = self.config.outage.recovery_tolerance;
        let fits = |scale: f64| scheme.imprecision(scale, size).is_none_or(|error| error <= tolerance);
        let (Some(std), Some(error)) = (scheme.scheme().key_std, scheme.imprecision(1.0, size)) else {
            return;
        };
        if fits(1.0) {
            return;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = if low == 0.0 { high / 16.0 } else { f64::midpoint(low, high) };
            if fits(middle) { low = middle } else { high = middle }
        }
        tracing::warn!(
            "protocol.key_std: with keys of {std} and updates of {size:.1e} a coordinate rounding may move a sum by {error:.1e} of its \
             norm, more than outage.recovery_tolerance = {tolerance}, and rounds end as outages for want of precision; {:.2e} \
             keeps it, and arithmetic = \"field\" has no rounding",
            low * std
        );
    }
}
