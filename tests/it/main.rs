//! What a user sees, from outside: the real programs on real files.
//!
//! - `tidy`: rules of the repository
//! - `bad_input`: every kind of wrong input, with the message it gets
//! - `chain`: wallet, registration, the plan of a commitment, the gates that the chain decides
//! - `disk`: what is said of the weights: the hash explained, read again, compared with a base
//! - `gates`: `validate`, `verdict`, `explain`, and folders that hold what they should not
//! - `way`: the whole way on a tiny model, against the local Hub and the local chain
//! - `killed`: `publish` and `commit` killed at every write and request, and at random
//! - `publishing`: plans, halves, races, progress, and the token that is nowhere to be seen
//! - `numbers`: example sets, recorded answers, comparison, forecast, snapshots
//! - `metadata`: the axon beside a chain with a real runtime's metadata
//! - `serving`: the axon as a miner runs it
//! - `hostile`: ports, files and endpoints that fail the serving axon
//! - `receipts`: receipts of something else than this submission
//! - `supervised`: the axon in its container, and under pm2
//! - `terminal`: what is asked at a terminal: passwords and confirmations
//! - `status`: how the submission stands, and what is told of changes
//! - `lane`: the exact lane, the real image on the real engine
//! - `clients`: real clients (Python) against the stand-ins, and the Python pipeline
//! - `sdk`: the chain through the SDK of validators, beside our own client
//! - `tiny`: the tiny models, in the built-in engine and in transformers
//! - `obfuscation`: packages whose sources go through PyArmor

mod bad_input;
mod chain;
mod clients;
mod disk;
mod gates;
mod harness;
mod hostile;
mod hub;
mod killed;
mod lane;
mod metadata;
mod numbers;
mod obfuscation;
mod publishing;
mod receipts;
mod sdk;
mod serving;
mod status;
mod supervised;
mod terminal;
mod tidy;
mod tiny;
mod way;
