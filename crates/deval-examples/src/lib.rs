//! Sets of task examples: where they come from and what they are worth.
//!
//! This crate is pure: it takes text and returns values; files are read and written by its callers.

pub mod articles;
pub mod audit;
mod csv_format;
mod draws;
pub mod export;
pub mod generate;
pub mod import;
pub mod licence;
pub mod show;

pub use audit::{Audit, AuditOptions, audit};
pub use generate::{GENERATOR, generate, generate_set};
pub use show::show;
