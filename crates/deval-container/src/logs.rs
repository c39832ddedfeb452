//! What a container prints: its beginning and its end, however much it is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bytes of the beginning that are kept.
const HEAD: usize = 16 * 1024;
/// Bytes of the end that are kept.
const TAIL: usize = 48 * 1024;
/// Characters of one line that are shown as a reason.
const SHOWN: usize = 300;
/// Bytes of one line that are looked at.
const LINE: usize = 4096;

/// A stage of the container's start, as its entry point reports it: a line `{"deval_phase": "load", "seconds": 1.5}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `fetch`, `import`, `load` or `ready`.
    #[serde(rename = "deval_phase")]
    pub name: String,
    /// Seconds that it took.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// Everything printed so far.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    bytes: u64,
    line: Vec<u8>,
    phases: Vec<Phase>,
}

impl Logs {
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let (first, rest) = chunk.split_at(chunk.len().min(HEAD - self.head.len()));
        self.head.extend(first);
        self.tail.extend(&rest[rest.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.phases.extend(serde_json::from_slice::<Phase>(&line).ok());
            }
        }
    }

    pub(crate) fn phases(&self) -> &[Phase] {
        &self.phases
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Beginning and end, with a line that tells how much is missing between them.
    pub(crate) fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let kept = (self.head.len() + tail.len()) as u64;
        let head = String::from_utf8_lossy(&self.head);
        match self.bytes - kept {
            0 => format!("{head}{}", String::from_utf8_lossy(&tail)),
            missing => format!("{head}\n… {missing} bytes left out …\n{}", String::from_utf8_lossy(&tail)),
        }
    }

    /// The last Python traceback if there is one, else the last lines.
    pub(crate) fn reason(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().filter(|line| !line.contains("\"deval_phase\"")).collect();
        let start = all.iter().rposition(|line| line.starts_with("Traceback (most recent call last)"));
        let start = start.unwrap_or(0).max(all.len().saturating_sub(lines));
        let cut = |line: &&str| match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => (*line).to_owned(),
        };
        all[start..].iter().map(cut).collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_beginning_and_its_end() {
        let mut logs = Logs::default();
        logs.add(b"first\n");
        for _ in 0..1000 {
            logs.add(&[b'x'; 10_000]);
        }
        logs.add(b"\nlast\n");
        let text = logs.text();
        assert!(text.starts_with("first") && text.ends_with("last\n") && text.len() < HEAD + TAIL + 100);
        assert!(text.contains("bytes left out") && logs.bytes() == 10_000_012);
    }

    #[test]
    fn phases_are_read_across_pieces_and_tracebacks_are_found() {
        let mut logs = Logs::default();
        logs.add(b"{\"deval_phase\":\"imp");
        logs.add(b"ort\",\"seconds\":1.5}\nnoise\n{\"deval_phase\":\"load\"}\nTraceback (most recent call last):\n  File x\n");
        logs.add(b"ImportError: no module\n");
        let names: Vec<_> = logs.phases().iter().map(|phase| (phase.name.as_str(), phase.seconds)).collect();
        assert_eq!(names, [("import", Some(1.5)), ("load", None)]);
        assert!(logs.reason(40).starts_with("Traceback") && logs.reason(1) == "ImportError: no module");
    }
}
