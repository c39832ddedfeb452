//! Sets of task examples: where they come from and what they are worth.
//!
//! This crate is pure: it takes text and returns values; files are read and written by its callers.

pub mod generate;

pub use generate::generate;
