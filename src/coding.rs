//! Gradient codes.
