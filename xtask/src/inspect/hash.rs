//! The validator's digest of a repository's weights, computed as they stream by.

use std::time::Instant;

use deval_hub::{Digest, RemoteFile, RemoteFiles};
use deval_report::Diagnostic;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::is_weights;
use crate::{context::Context, ui::Unit};

/// What the stream gave.
#[derive(Debug, Serialize)]
pub(super) struct Hashed {
    /// SHA-256 over the bytes of all weights in the validator's order (GATES 27).
    pub(super) model_hash: String,
    /// Bytes that were streamed.
    pub(super) bytes: u64,
    /// Files whose own SHA-256 is the one that the Hub lists.
    verified: usize,
    files: usize,
    seconds: f64,
}

impl Hashed {
    pub(super) fn summary(&self) -> String {
        let Self { bytes, verified, files, seconds, .. } = self;
        let gigabytes = *bytes as f64 * 1e-9;
        format!("{verified} of {files} files have the listed digest; {gigabytes:.2} GB streamed in {seconds:.1} s")
    }
}

/// Streams every weight file once; both digests are made of the same bytes. A few parts are in memory at a time.
pub(super) async fn stream(
    context: &Context,
    files: &RemoteFiles,
    findings: &mut Vec<Diagnostic>,
) -> anyhow::Result<Hashed> {
    // Listed by code point, which is the order that the validator hashes in.
    let weights: Vec<&RemoteFile> = files.files().iter().filter(|file| is_weights(file)).collect();
    let total = weights.iter().map(|file| file.size).sum();
    let bar = context.ui.bar("hashing the weights", total, Unit::Bytes);
    let (started, mut model, mut verified) = (Instant::now(), Sha256::new(), 0);
    for file in &weights {
        let mut own = Sha256::new();
        let take = |bytes: &[u8]| {
            model.update(bytes);
            own.update(bytes);
            bar.inc(bytes.len() as u64);
        };
        files.stream(file, take).await?;
        match (&file.digest, hex(own)) {
            (Digest::Sha256(listed), found) if *listed == found => verified += 1,
            (Digest::Sha256(listed), found) => findings.push(served_wrong(&file.path, &found, listed)),
            (Digest::GitSha1(_), _) => (),
        }
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    Ok(Hashed { model_hash: hex(model), bytes: total, verified, files: weights.len(), seconds })
}

fn served_wrong(path: &str, found: &str, listed: &str) -> Diagnostic {
    Diagnostic::error("hub.digest", "the bytes that the Hub serves are not those that it lists")
        .in_file(path)
        .found(found)
        .expected(listed)
        .help("try again; if it stays so, publish the file again")
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
