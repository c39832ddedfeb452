//! The build context: a few small files as a tar archive (POSIX ustar).

/// A file of the build context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Path with `/`, at most 100 bytes.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// Permissions such as 0o644.
    pub(crate) mode: u32,
}

const BLOCK: usize = 512;

/// The archive; the same files give the same bytes, which keeps the engine's build cache.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend(header(entry));
        out.extend(&entry.content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn header(entry: &Entry) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &entry.path.chars().take(100).collect::<String>());
    put(100, &format!("{:07o}", entry.mode));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", entry.content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(600);
        let entries = [("Dockerfile", "FROM scratch\n", 0o644), ("api/x.py", long.as_str(), 0o755)]
            .map(|(path, content, mode)| Entry { path: path.to_owned(), content: content.into(), mode });
        std::fs::write(dir.path().join("a.tar"), archive(&entries)).unwrap();
        let status = std::process::Command::new("tar").args(["xf", "a.tar"]).current_dir(dir.path()).status().unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(dir.path().join("api/x.py")).unwrap(), entries[1].content);
    }
}
