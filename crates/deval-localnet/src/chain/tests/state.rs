//! What is on disk after a crash is a valid chain, and nothing else is taken for one.

use std::fs;

use super::{config, open};
use crate::chain::{Chain, ChainError};

#[test]
fn the_same_genesis_every_time() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(open(&one).hash(0), open(&other).hash(0));
    assert_eq!(open(&one).hash(0), open(&one).hash(0));
}

#[test]
fn a_half_written_block_is_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    chain.advance(3).unwrap();
    let (head, hash) = (chain.head(), chain.hash(3));
    drop(chain);
    fs::write(dir.path().join("chain/00000004.tmp"), b"half").unwrap();
    let mut chain = open(&dir);
    assert_eq!((chain.head(), chain.hash(3)), (head, hash));
    assert_eq!(chain.advance(1).unwrap(), 4);
    drop(chain);
    assert_eq!(open(&dir).head(), 4);
}

#[test]
fn a_chain_cut_off_at_any_block_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    chain.advance(4).unwrap();
    let hashes: Vec<_> = (0..=4).map(|number| chain.hash(number)).collect();
    drop(chain);
    for last in (0..4).rev() {
        fs::remove_file(dir.path().join(format!("chain/{:08}.block", last + 1))).unwrap();
        let chain = open(&dir);
        assert_eq!((chain.head(), chain.hash(last)), (last, hashes[last as usize]));
    }
}

#[test]
fn damage_and_other_versions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).advance(2).unwrap();
    let path = dir.path().join("chain/00000001.block");
    let good = fs::read(&path).unwrap();

    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&path, bad).unwrap();
    let error = Chain::open(&config(&dir)).unwrap_err();
    assert!(matches!(&error, ChainError::Damaged { path: p, what: "its checksum is wrong" } if *p == path), "{error}");

    fs::write(&path, b"deval-localnet block 1 spec 0\nxxx").unwrap();
    assert!(matches!(Chain::open(&config(&dir)).unwrap_err(), ChainError::OtherVersion { .. }));

    fs::write(&path, &good).unwrap();
    fs::copy(&path, dir.path().join("chain/00000002.block")).unwrap();
    let error = Chain::open(&config(&dir)).unwrap_err();
    assert!(matches!(error, ChainError::Damaged { what: "it does not follow its parent", .. }), "{error}");
}

#[test]
fn the_head_moves_and_finality_follows_one_block_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = open(&dir);
    assert_eq!((chain.head(), chain.finalized()), (0, 0));
    chain.advance(2).unwrap();
    assert_eq!((chain.head(), chain.finalized()), (2, 1));
    let parent = chain.block(2).unwrap().header.parent_hash;
    assert_eq!(Some(parent), chain.hash(1));
    assert_eq!(chain.number(parent), Some(1));
}
