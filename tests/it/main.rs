//! What a user sees, from outside: the real programs on real files.
//!
//! - `tidy`: rules of the repository
//! - `bad_input`: every kind of wrong input, with the message it gets
//! - `way`: the whole way on a tiny model, against the local Hub and the local chain
//! - `numbers`: example sets, recorded answers, comparison, forecast, snapshots
//! - `lane`: the exact lane, the real image on the real engine
//! - `clients`: real clients (Python) against the stand-ins, and the Python pipeline
//! - `tiny`: the tiny models, in the built-in engine and in transformers
//! - `obfuscation`: packages whose sources go through PyArmor

mod bad_input;
mod clients;
mod harness;
mod lane;
mod numbers;
mod obfuscation;
mod tidy;
mod tiny;
mod way;
