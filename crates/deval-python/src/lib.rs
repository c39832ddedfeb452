//! Python beside Rust, for what only Python can do: obfuscating a pipeline with PyArmor, and asking it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`interpreter`] | finding Python 3.11, the version that validators run |
//! | [`environment`] | virtual environments that are made once, and touch nothing outside their folder |
//! | [`armor`] | PyArmor on a clean copy of the sources, its output checked and kept |
//! | [`proof`] | the plain and the obfuscated pipeline are asked the same and have to answer the same |
//!
//! What is wrong with the sources, and what the machine lacks, are findings; both end the work and travel as [`PythonError`].

pub mod armor;
pub mod environment;
mod error;
pub mod interpreter;
mod process;
pub mod proof;
#[cfg(test)]
mod testing;

pub use error::PythonError;
