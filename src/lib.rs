#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod algebra;
pub mod attack;
pub mod cli;
pub mod coding;
pub mod cohort;
pub mod config;
pub mod crypto;
pub mod data;
#[cfg(feature = "deploy")]
pub mod deploy;
pub mod error;
pub mod experiment;
pub mod keys;
pub mod learn;
pub mod network;
pub mod parallel;
pub mod plan;
pub mod precision;
pub mod privacy;
pub mod protocol;
pub mod record;
pub mod recover;
pub mod report;
pub mod seed;
pub mod server;
pub mod study;
pub mod sweep;
pub mod train;
pub mod wire;

pub use error::{Error, Result};
