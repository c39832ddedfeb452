//! Renderers: terminal text, markdown, GitHub annotations, HTML.

mod html;

use std::fmt::Write as _;

pub use html::page as html;

use crate::{Diagnostic, Section, Severity, view::Table};

/// Plain text for a terminal.
pub fn terminal(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        out.push_str(&section.title);
        out.push('\n');
        let width = section.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        for (label, value) in &section.rows {
            push_line(&mut out, &format!("  {label:width$}  {value}"));
        }
        if let Some(table) = &section.table {
            push_table(&mut out, table);
        }
        for note in &section.notes {
            push_line(&mut out, &format!("  {note}"));
        }
    }
    visible(&out)
}

/// Markdown, as a job summary shows it.
pub fn markdown(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        let _ = writeln!(out, "## {}\n", section.title);
        for (label, value) in &section.rows {
            let _ = writeln!(out, "- **{label}**: {value}");
        }
        if let Some(table) = &section.table {
            let _ = writeln!(out, "\n{}", markdown_row(&table.head));
            let _ = writeln!(out, "{}", markdown_row(&vec!["---".to_owned(); table.head.len()]));
            for row in &table.rows {
                let _ = writeln!(out, "{}", markdown_row(row));
            }
        }
        for note in &section.notes {
            let _ = writeln!(out, "\n{note}");
        }
        out.push('\n');
    }
    visible(&out)
}

/// One finding as text: place, severity, code, message, then expected, found and help on lines of their own.
pub fn diagnostic(finding: &Diagnostic) -> String {
    let mut out = format!("{}[{}]: {}\n", finding.severity, finding.code, finding.message);
    if let Some(place) = &finding.place {
        let _ = writeln!(out, "  at       {place}");
    }
    for (label, text) in [("found", &finding.found), ("expected", &finding.expected), ("help", &finding.help)] {
        if let Some(text) = text {
            let _ = writeln!(out, "  {label:8} {}", text.replace('\n', "\n           "));
        }
    }
    visible(&out)
}

/// A text as it may be shown: what strangers wrote may hold characters that a terminal obeys.
pub fn visible(text: &str) -> String {
    let shown = |letter: char| match letter.is_control() && letter != '\n' && letter != '\t' {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    text.chars().map(shown).collect()
}

/// One finding as a GitHub workflow annotation.
pub fn github(finding: &Diagnostic) -> String {
    let command = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = vec![format!("title={}", escape_property(&finding.code))];
    if let Some(place) = &finding.place {
        properties.push(format!("file={}", escape_property(&place.file)));
        properties.extend(place.line.map(|line| format!("line={line}")));
        properties.extend(place.column.map(|column| format!("col={column}")));
    }
    let details = [("found", &finding.found), ("expected", &finding.expected), ("help", &finding.help)];
    let details = details.iter().filter_map(|(label, text)| text.as_ref().map(|text| format!("\n{label}: {text}")));
    let message = std::iter::once(finding.message.clone()).chain(details).collect::<String>();
    format!("::{command} {}::{}\n", properties.join(","), escape_data(&visible(&message)))
}

// The escapes of GitHub's workflow commands.
fn escape_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

fn markdown_row(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |", cells.join(" | "))
}

fn push_table(out: &mut String, table: &Table) {
    let widths: Vec<usize> = (0..table.head.len())
        .map(|column| {
            let cells = std::iter::once(&table.head).chain(&table.rows);
            cells.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&table.head).chain(&table.rows) {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        push_line(out, &format!("  {}", cells.join("  ")));
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Section> {
        vec![
            Section::new("Evaluation")
                .row("model", "tiny")
                .table(&["task", "reward"], vec![vec!["relevancy".into(), "0.5 | <b>".into()]])
                .note("An estimate."),
        ]
    }

    #[test]
    fn terminal_aligns_columns() {
        let text = terminal(&sample());
        assert_eq!(text, "Evaluation\n  model  tiny\n  task       reward\n  relevancy  0.5 | <b>\n  An estimate.\n");
    }

    #[test]
    fn markdown_and_html_escape_cells() {
        assert!(markdown(&sample()).contains("0.5 \\| <b>"));
        let page = html("Report", &sample(), &[]);
        assert!(page.contains("0.5 | &lt;b&gt;") && !page.contains("<b>"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        let evil = "\u{1b}[31m\rEVIL\u{7}";
        let section = Section::new("Axon").row("tells", evil).table(&["who"], vec![vec![evil.into()]]).note(evil);
        let finding = Diagnostic::error("G22", "other").found(evil);
        let texts =
            [terminal(std::slice::from_ref(&section)), markdown(&[section]), diagnostic(&finding), github(&finding)];
        for text in texts {
            let free = text.chars().all(|letter| !letter.is_control() || letter == '\n');
            assert!(free && text.contains("\\u{1b}[31m\\rEVIL\\u{7}"), "{text}");
        }
    }

    #[test]
    fn annotations_escape_what_would_end_them() {
        let finding = Diagnostic::error("G30", "50%\nbad").at("a,b.txt", 3, 4);
        assert_eq!(github(&finding), "::error title=G30,file=a%2Cb.txt,line=3,col=4::50%25%0Abad\n");
    }
}
