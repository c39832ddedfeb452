//! Sets of task examples: where they come from and what they are worth.
//!
//! This crate is pure: it takes text and returns values; files are read and written by its callers.

pub mod audit;
pub mod generate;

pub use audit::{Audit, AuditOptions, audit};
pub use generate::{GENERATOR, generate, generate_set};
