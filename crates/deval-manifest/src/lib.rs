//! `deval.toml`: text in, manifest and findings out. Pure: knows no disk, no network, no environment.
//!
//! [`parse`] reports everything that is wrong at once, each finding with line and column. The serde structs of [`model`] are the only
//! description of the format; the JSON Schema ([`json_schema`]) is derived from the same structs.

pub mod fuzz;
mod model;
mod parse;

pub use model::{
    Axon, Backend, Chain, Container, Evaluate, Fill, Gpu, Hub, Manifest, NetworkAccess, Package, PromptKey, Prompts,
    Reading, SCHEMA, Submission, Until, Wallet,
};
pub use parse::{Parsed, parse};

/// JSON Schema (draft 2020-12) of `deval.toml`.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Manifest).into()
}
