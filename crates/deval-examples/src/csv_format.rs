//! Tables of text: CSV as Python's `csv` module and pandas write it.

use csv::{ByteRecord, QuoteStyle, ReaderBuilder, Terminator, WriterBuilder};

/// How often reading starts again behind a quote that is never closed.
const RESTARTS: usize = 16;

/// One row: the line it starts on (from 1) and its cells, or what keeps them from being read.
pub(crate) struct Row {
    pub(crate) line: u32,
    pub(crate) cells: Result<Vec<String>, &'static str>,
}

/// All rows of a text, the header's among them. Rows end in `\n`, `\r\n` or `\r`; quoted cells may hold any of them. A quote that is never
/// closed costs its own line only: reading goes on with the next one.
pub(crate) fn rows(text: &str) -> Vec<Row> {
    let (mut rows, mut start, mut line) = (Vec::new(), 0, 1u32);
    for restart in 0..=RESTARTS {
        let Some(open) = read_from(&text[start..], line, restart < RESTARTS, &mut rows) else { break };
        let skipped = text[start + open.byte..].find('\n').map_or(text.len(), |end| start + open.byte + end + 1);
        line += open.lines + 1;
        start = skipped;
    }
    rows
}

/// Where a quote was opened that is never closed.
struct Open {
    byte: usize,
    lines: u32,
}

fn read_from(text: &str, line: u32, may_restart: bool, rows: &mut Vec<Row>) -> Option<Open> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let (mut record, mut counted, mut lines) = (ByteRecord::new(), 0, 0u32);
    while matches!(reader.read_byte_record(&mut record), Ok(true)) {
        let end = reader.position().byte() as usize;
        let begin = record.position().map_or(0, |position| position.byte() as usize);
        // The reader may stand on the line feed of the row before.
        let begin = begin + text[begin..end].len() - text[begin..end].trim_start_matches(['\r', '\n']).len();
        lines += text[counted..begin].matches('\n').count() as u32;
        counted = begin;
        let raw = &text[begin..end];
        let is_open = end == text.len() && raw.matches('"').count() % 2 == 1 && raw.trim_end().contains('\n');
        let here = line + lines;
        if is_open && may_restart {
            rows.push(Row { line: here, cells: Err("a quote is opened here and never closed") });
            return Some(Open { byte: begin, lines });
        }
        let cell = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
        rows.push(Row { line: here, cells: Ok(record.iter().map(cell).collect()) });
    }
    None
}

/// Rows as Python's `csv.writer` writes them: quotes where needed, lines that end in `\r\n`.
pub(crate) fn write(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut writer =
        WriterBuilder::new().terminator(Terminator::CRLF).quote_style(QuoteStyle::Necessary).from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row).expect("memory takes every row, and all are of one length");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("text between commas stays text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(u32, Vec<String>)> {
        rows(text).into_iter().map(|row| (row.line, row.cells.unwrap_or_default())).collect()
    }

    #[test]
    fn lines_are_counted_through_quotes_and_every_line_end() {
        let row = |line, cells: &[&str]| (line, cells.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = [row(1, &["a", "b"]), row(2, &["1\n2", "x\"y"]), row(4, &["é", ""]), row(6, &["3"])];
        assert_eq!(cells("a,b\n\"1\n2\",\"x\"\"y\"\né,\n\n3"), expected);
        assert_eq!(cells("a,b\r\n\"1\n2\",\"x\"\"y\"\r\né,\r\n\r\n3\r\n"), expected);
    }

    #[test]
    fn an_open_quote_costs_one_line() {
        let read = cells("a,b\n1,\"2\n3,4\n5,6\n");
        assert_eq!(
            read.iter().map(|(line, cells)| (*line, cells.len())).collect::<Vec<_>>(),
            [(1, 2), (2, 0), (3, 2), (4, 2)]
        );
    }

    #[test]
    fn python_quotes_the_same_cells() {
        let row = ["a b", "a,b", "a\"b", "a\nb", "a\rb", "", " x", "'"].map(str::to_owned).to_vec();
        assert_eq!(write([row]), "a b,\"a,b\",\"a\"\"b\",\"a\nb\",\"a\rb\",, x,'\r\n");
    }
}
