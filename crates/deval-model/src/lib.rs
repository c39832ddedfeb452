//! The submission on disk: shards, index, config, coldkey.txt, package tree and digests.
