//! The state of the contest as a file: what every miner's score is, when it committed, and whether it is still evaluated.
//!
//! ```text
//! {"deval_leaderboard":1,"name":"finney","block":4500000,"miners":[
//! {"uid":0,"score":0.8123,"block":4123456,"model_hash":"9f…"},
//! {"uid":1,"score":0.0431,"evaluated":false}
//! ]}
//! ```
//!
//! The same as CSV: a header line with the names of the miners' fields in any order, one miner per line, an empty cell for what is not
//! known; no quoting.

use std::collections::BTreeSet;

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// Newest version of the file format.
const FORMAT: u32 = 1;
/// Columns that a CSV leaderboard may have.
const COLUMNS: [&str; 8] = ["uid", "score", "block", "hotkey", "model_hash", "mean_reward", "spread", "evaluated"];
/// Seats of the subnet.
pub(super) const SEATS: u32 = 256;

/// One miner as the validator sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Miner {
    /// The miner.
    pub uid: u32,
    /// The validator's moving-average score, 0 to 1.
    pub score: f32,
    /// Chain block of its commitment; counts as earlier than every known one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// Its hotkey; for the reader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotkey: Option<String>,
    /// Hash of its weights: 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_hash: Option<String>,
    /// What it earns per question in the mean, 0 to 1, where that is known better than from its score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_reward: Option<f64>,
    /// Standard deviation of its round average, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Whether its model is evaluated and accepted each round; else its score decays.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub evaluated: bool,
}

fn yes() -> bool {
    true
}

/// All miners' scores at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaderboard {
    /// Where it is from.
    pub name: String,
    /// Remarks for the reader.
    pub note: Option<String>,
    /// Chain block at which it was taken.
    pub block: Option<u64>,
    /// The miners, each uid once.
    pub miners: Vec<Miner>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    deval_leaderboard: u32,
    #[serde(default)]
    name: String,
    note: Option<String>,
    block: Option<u64>,
    miners: Vec<Value>,
}

impl Leaderboard {
    /// Reads a leaderboard, JSON or CSV. `file` names it in the findings, all of which are returned at once, beside the miners that could
    /// be read; only findings that are errors make it unusable.
    pub fn read(file: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let text = text.trim_start_matches('\u{feff}');
        let mut findings = Vec::new();
        let read = if text.trim_start().starts_with('{') { read_json(file, text) } else { read_csv(file, text) };
        let (mut board, values) = match read {
            Ok((board, values, more)) => {
                findings.extend(more);
                (board, values)
            }
            Err(finding) => return (Self::default(), vec![finding]),
        };
        let mut lines = Vec::new();
        for (line, value) in values {
            match serde_json::from_value::<Miner>(value) {
                Ok(miner) => {
                    board.miners.push(miner);
                    lines.push(line);
                }
                Err(error) => findings.push(
                    Diagnostic::error("leaderboard.miner", format!("this is no miner: {error}")).at(file, line, 1),
                ),
            }
        }
        findings.extend(board.check().into_iter().map(|(miner, finding)| match miner {
            Some(miner) => finding.at(file, lines[miner], 1),
            None => finding.in_file(file),
        }));
        findings.sort_by_key(|finding| finding.place.as_ref().and_then(|place| place.line));
        (board, findings)
    }

    /// The leaderboard as a JSON file, one miner per line.
    pub fn write(&self) -> String {
        let mut head =
            Map::from_iter([("deval_leaderboard".to_owned(), json!(FORMAT)), ("name".to_owned(), json!(self.name))]);
        head.extend(self.note.as_ref().map(|note| ("note".to_owned(), json!(note))));
        head.extend(self.block.map(|block| ("block".to_owned(), json!(block))));
        let head = Value::Object(head).to_string();
        let line = |miner| serde_json::to_string(miner).expect("a miner has plain fields only");
        let miners: Vec<String> = self.miners.iter().map(line).collect();
        format!("{},\"miners\":[\n{}\n]}}\n", head.trim_end_matches('}'), miners.join(",\n"))
    }

    /// Everything that is wrong with the miners, each with the place of the miner in the list.
    pub fn check(&self) -> Vec<(Option<usize>, Diagnostic)> {
        let mut findings: Vec<_> = self
            .miners
            .iter()
            .enumerate()
            .flat_map(|(place, miner)| check_miner(miner).into_iter().map(move |finding| (Some(place), finding)))
            .collect();
        let mut seen = BTreeSet::new();
        for (place, miner) in self.miners.iter().enumerate() {
            if !seen.insert(miner.uid) {
                let finding = Diagnostic::error("leaderboard.duplicate-uid", "two miners have the same uid");
                findings.push((Some(place), finding.found(miner.uid.to_string())));
            }
        }
        if self.miners.is_empty() {
            findings.push((None, Diagnostic::warning("leaderboard.empty", "the leaderboard names no miner")));
        }
        findings
    }

    /// A made-up leaderboard of 256 miners: a close leading group, a field behind it, miners that are no longer evaluated and fade, and
    /// miners at zero; some carry the weights of another one.
    pub fn sample(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 0);
        let taken = 4_500_000;
        let mut miners: Vec<Miner> = dice
            .sample(SEATS as usize, SEATS as usize)
            .into_iter()
            .enumerate()
            .map(|(rank, uid)| sample_miner(rank, uid as u32, taken, &mut dice))
            .collect();
        for copy in [3, 30, 60] {
            miners[copy].model_hash = miners[0].model_hash.clone();
            miners[copy].block = miners[0].block.map(|block| block + 7_200);
            miners[copy].score = 0.0;
        }
        miners.sort_by_key(|miner| miner.uid);
        let note = "made up by a seed: no miner of this name exists; scores of a leading group within 8 %, of a field, of miners that fade";
        Self { name: format!("sample-{seed}"), note: Some(note.to_owned()), block: Some(taken), miners }
    }
}

/// The miner that takes place `rank` of the sample, roughly.
fn sample_miner(rank: usize, uid: u32, taken: u64, dice: &mut Dice) -> Miner {
    let score = match rank {
        0..12 => 0.80 - 0.004 * rank as f64 + 0.004 * dice.normal(),
        12..90 => 0.74 - 0.006 * (rank - 12) as f64 + 0.02 * dice.normal(),
        90..150 => 0.6 * dice.unit(),
        _ => 0.0,
    };
    let evaluated = rank < 90;
    Miner {
        uid,
        score: ((score * 1e4).round() / 1e4) as f32,
        block: evaluated.then(|| taken - dice.between(2_000, 400_000) as u64),
        hotkey: None,
        model_hash: evaluated.then(|| (0..8).map(|_| format!("{:08x}", dice.below(1 << 31))).collect()),
        evaluated,
        ..Miner::default()
    }
}

fn check_miner(miner: &Miner) -> Vec<Diagnostic> {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let hex = |hash: &String| hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let wrong = |field: &str, found: String, expected: &str| {
        let code = format!("leaderboard.{}", field.replace('_', "-"));
        Diagnostic::error(code, format!("the miner's `{field}` cannot be")).found(found).expected(expected)
    };
    let score = Some(miner.score).filter(|score| !share(f64::from(*score)));
    let hash = miner.model_hash.as_ref().filter(|hash| !hex(hash));
    [
        score.map(|score| wrong("score", score.to_string(), "0 to 1")),
        miner.block.filter(|block| *block == 0).map(|_| wrong("block", "0".to_owned(), "1 or more, or no block")),
        hash.map(|hash| wrong("model_hash", hash.clone(), "64 lower-case hexadecimal digits")),
        miner.mean_reward.filter(|mean| !share(*mean)).map(|mean| wrong("mean_reward", mean.to_string(), "0 to 1")),
        miner.spread.filter(|spread| !share(*spread)).map(|spread| wrong("spread", spread.to_string(), "0 to 1")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A leaderboard without miners, the miners with their lines, and findings.
type Parts = (Leaderboard, Vec<(u32, Value)>, Vec<Diagnostic>);

fn read_json(file: &str, text: &str) -> Result<Parts, Diagnostic> {
    let unreadable = |error: serde_json::Error, line: usize, column: usize| {
        let (line, column) = (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
        Diagnostic::error("leaderboard.unreadable", format!("this is no leaderboard: {error}")).at(
            file,
            line.max(1),
            column.max(1),
        )
    };
    let document: Document = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unreadable(error, line, column)
    })?;
    if document.deval_leaderboard != FORMAT {
        return Err(Diagnostic::error("leaderboard.version", "the leaderboard has another version")
            .at(file, 1, 1)
            .found(document.deval_leaderboard.to_string())
            .expected(FORMAT.to_string())
            .help("write it again for this version of the workbench, or update the workbench"));
    }
    let values = miner_lines(text).into_iter().chain(std::iter::repeat(1)).zip(document.miners).collect();
    let Document { name, note, block, .. } = document;
    Ok((Leaderboard { name, note, block, miners: Vec::new() }, values, Vec::new()))
}

/// The line on which each item of the only list in a JSON object begins.
fn miner_lines(text: &str) -> Vec<u32> {
    let (mut line, mut depth, mut quoted, mut escaped, mut expected) = (1, 0, false, false, false);
    let mut lines = Vec::new();
    for byte in text.bytes() {
        if !quoted && depth == 2 && expected && !byte.is_ascii_whitespace() && byte != b']' {
            lines.push(line);
            expected = false;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'\n' => line += 1,
            _ if quoted => {}
            b'{' | b'[' => {
                depth += 1;
                expected = depth == 2;
            }
            b'}' | b']' => depth -= 1,
            b',' => expected = depth == 2,
            _ => {}
        }
    }
    lines
}

fn read_csv(file: &str, text: &str) -> Result<Parts, Diagnostic> {
    let mut lines = (1u32..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let head: Vec<&str> = lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
    let known = head.iter().all(|column| COLUMNS.contains(column));
    if !known || !head.contains(&"uid") || !head.contains(&"score") {
        let finding = Diagnostic::error("leaderboard.unreadable", "this is neither a JSON leaderboard nor a CSV one");
        let expected = format!("a header line with uid and score, and any of {}", COLUMNS[2..].join(", "));
        return Err(finding.at(file, 1, 1).found(head.join(",")).expected(expected));
    }
    let (mut values, mut findings) = (Vec::new(), Vec::new());
    for (line, text) in lines {
        let cells: Vec<&str> = text.split(',').map(str::trim).collect();
        if cells.len() == head.len() {
            values.push((line, csv_miner(&head, &cells)));
        } else {
            let finding = Diagnostic::error("leaderboard.cells", "this line has not as many cells as the header");
            let finding = finding.found(cells.len().to_string()).expected(head.len().to_string());
            findings.push(finding.at(file, line, 1));
        }
    }
    Ok((Leaderboard::default(), values, findings))
}

/// One CSV line as the JSON object that a miner is read from; a cell that is no number stays text and is refused there.
fn csv_miner(head: &[&str], cells: &[&str]) -> Value {
    let value = |name: &str, cell: &str| match name {
        "hotkey" | "model_hash" => json!(cell),
        _ => serde_json::from_str(cell).unwrap_or_else(|_| json!(cell)),
    };
    let filled = head.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
    filled.map(|(name, cell)| ((*name).to_owned(), value(name, cell))).collect::<Map<_, _>>().into()
}
