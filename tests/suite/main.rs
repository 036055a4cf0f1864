//! Tests of the whole package through its public face. One binary, because linking Burn takes longer than
//! most tests.
//!
//! `cargo test --release --test suite NAME` runs the tests of one file.

mod accounting;
mod attack;
mod audit;
mod bits;
mod by_rank;
mod chase;
mod cli;
mod coffee;
mod cohort;
mod compression;
mod conformance;
mod defects;
#[cfg(feature = "deploy")]
mod deploy;
mod devices;
mod divergence;
mod dsa;
mod elsewhere;
mod examples;
mod exhaustive;
mod experiment;
mod fedacs;
mod field;
mod floors;
mod former;
mod gc_plus;
mod gc_plus_partial;
mod guide;
mod hierarchical;
mod kit;
mod links;
mod many_clients;
mod mds_relay;
mod missed_model;
#[cfg(feature = "mpi")]
mod mpi;
mod never_below;
mod observers;
mod optimised;
mod own_data;
mod plan;
mod postpone;
mod precision;
mod privacy;
mod privacy_levels;
mod python;
mod recover;
mod reference;
mod refusals;
mod relaying;
mod release;
mod reliability;
mod resume;
mod scripted;
mod sec_agg;
mod secure_gc;
#[cfg(feature = "deploy")]
mod seeds;
mod slurm;
mod solvers;
mod stopping;
mod sweep;
mod two_round;
mod users;
mod zero_sum;
