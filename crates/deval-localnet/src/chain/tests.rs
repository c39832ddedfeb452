//! Tests of the local chain against the real chain's vectors, its metadata, and a real client.

mod encoding;
mod end_to_end;
mod stand_in;
mod state;

use std::path::PathBuf;

use sp_core::crypto::Ss58Codec;

use super::runtime::AccountId;
use super::{Chain, ChainConfig};

/// `//Alice//miner`, whose keys the vectors use.
const MINER: &str = "5CMfubeU6u6DYitJ7vniM3yrst51JywttqiTFFe71MVAjALc";

fn account(address: &str) -> AccountId {
    AccountId::from_ss58check(address).unwrap()
}

fn open(dir: &tempfile::TempDir) -> Chain {
    Chain::open(&config(dir)).unwrap()
}

fn config(dir: &tempfile::TempDir) -> ChainConfig {
    ChainConfig {
        state_dir: dir.path().join("chain"),
        serving_rate_limit: 50,
        block_time: None,
        preparation: Vec::new(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.trim_start_matches("0x")).unwrap()
}

/// The vectors that the real runtime's metadata and SDK produced.
fn vectors() -> serde_json::Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chain/scale_vectors.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
