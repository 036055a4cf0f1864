#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod coding;
pub mod config;
pub mod data;
pub mod error;
pub mod learn;
pub mod seed;

pub use error::{Error, Result};
