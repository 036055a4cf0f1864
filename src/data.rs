//! Datasets and partitions.
