use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::ModelError;

/// SHA-256 and git blob id of a file, in one read.
pub(super) fn of(path: &Path) -> Result<(u64, String, String), ModelError> {
    let mut file = File::open(path).map_err(ModelError::io("open", path))?;
    let size = file.metadata().map_err(ModelError::io("look at", path))?.len();
    let mut sha256 = Sha256::new();
    let mut sha1 = Sha1::new_with_prefix(format!("blob {size}\0"));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                sha256.update(&buffer[..read]);
                sha1.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ModelError::io("read", path)(error)),
        }
    }
    Ok((size, hex::encode(sha256.finalize()), hex::encode(sha1.finalize())))
}
