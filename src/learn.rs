//! Local training and evaluation.
