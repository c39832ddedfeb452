//! What is on disk after a crash is a valid chain, and nothing else is taken for one.

use std::fs;

use sp_core::H256;

use super::{config, open};
use crate::chain::{Chain, ChainError};

#[test]
fn the_same_genesis_every_time() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(hash(&open(&one), 0), hash(&open(&other), 0));
    assert_eq!(hash(&open(&one), 0), hash(&open(&one), 0));
}

#[test]
fn a_half_written_block_is_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    produce(&mut chain, 3);
    let (head, third) = (chain.head(), hash(&chain, 3));
    drop(chain);
    fs::write(dir.path().join("chain/0000000004.tmp"), b"half").unwrap();
    let mut chain = open(&dir);
    assert_eq!((chain.head(), hash(&chain, 3)), (head, third));
    assert_eq!(produce(&mut chain, 1), 4);
    drop(chain);
    assert_eq!(open(&dir).head(), 4);
}

#[test]
fn a_chain_cut_off_at_any_block_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    produce(&mut chain, 4);
    let hashes: Vec<_> = (0..=4).map(|number| hash(&chain, number)).collect();
    drop(chain);
    for last in (0..4).rev() {
        fs::remove_file(dir.path().join(format!("chain/{:010}.block", last + 1))).unwrap();
        let chain = open(&dir);
        assert_eq!((chain.head(), hash(&chain, last)), (last, hashes[last as usize]));
    }
}

#[test]
fn damage_and_other_versions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    produce(&mut open(&dir), 2);
    let path = dir.path().join("chain/0000000001.block");
    let good = fs::read(&path).unwrap();

    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&path, bad).unwrap();
    let error = Chain::open(&config(&dir)).unwrap_err();
    assert!(matches!(&error, ChainError::Damaged { path: p, what: "its checksum is wrong" } if *p == path), "{error}");

    fs::write(&path, b"deval-localnet block 2 spec 0\nxxx").unwrap();
    assert!(matches!(Chain::open(&config(&dir)).unwrap_err(), ChainError::OtherVersion { .. }));

    fs::write(&path, &good).unwrap();
    fs::copy(&path, dir.path().join("chain/0000000002.block")).unwrap();
    let error = Chain::open(&config(&dir)).unwrap_err();
    assert!(matches!(error, ChainError::Damaged { what: "it does not follow its parent", .. }), "{error}");
}

#[test]
fn the_head_moves_and_finality_follows_one_block_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    assert_eq!((chain.head(), chain.finalized()), (0, 0));
    produce(&mut chain, 2);
    assert_eq!((chain.head(), chain.finalized()), (2, 1));
    let parent = chain.at(2).unwrap().1.header.parent_hash;
    assert_eq!(Some(parent), hash(&chain, 1));
    assert_eq!(chain.find(parent), Some(1));
}

#[test]
fn time_is_skipped_without_blocks_and_the_chain_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    assert!(chain.skip_to(420_000).unwrap());
    assert!(!chain.skip_to(420_000).unwrap(), "time does not go back");
    assert_eq!((chain.head(), chain.place(7), hash(&chain, 420_000).is_some()), (420_000, None, true));
    assert_eq!(produce(&mut chain, 1), 420_001);
    let newest = hash(&chain, 420_001);
    drop(chain);
    let chain = open(&dir);
    assert_eq!((chain.head(), hash(&chain, 420_001)), (420_001, newest));
}

fn hash(chain: &Chain, number: u32) -> Option<H256> {
    chain.place(number).and_then(|place| chain.at(place)).map(|(hash, _)| hash)
}

fn produce(chain: &mut Chain, count: u32) -> u32 {
    for _ in 0..count {
        chain.produce().unwrap();
    }
    chain.head()
}
