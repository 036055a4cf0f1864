//! Which candidates beat which.

use super::*;

#[test]
fn dominance_is_partial() {
    assert!(dominates(&[1.0, 2.0], &[1.0, 3.0]));
    assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0]));
    assert!(!dominates(&[0.0, 4.0], &[1.0, 3.0]));
    assert!(dominates(&[1.0, 2.0], &[1.0, f64::INFINITY]));
}
