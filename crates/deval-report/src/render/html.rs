//! One self-contained HTML page: no script, no outside resource.

use std::fmt::Write as _;

use crate::{Diagnostic, Section, view::Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h2{margin-top:2rem;border-bottom:1px solid #ddd}table{border-collapse:collapse;margin:.5rem 0}\
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}th{border-bottom:1px solid #999}\
code,pre{font:13px ui-monospace,monospace}pre{background:#f6f6f6;padding:.6rem;white-space:pre-wrap}";

/// A page of sections, with the findings below.
pub fn page(title: &str, sections: &[Section], findings: &[Diagnostic]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n",
        escape(title)
    );
    for section in sections {
        push_section(&mut out, section);
    }
    if !findings.is_empty() {
        out.push_str("<h2>Findings</h2>\n");
        for finding in findings {
            let _ = writeln!(out, "<pre>{}</pre>", escape(super::diagnostic(finding).trim_end()));
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn push_section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(&section.title));
    if !section.rows.is_empty() {
        out.push_str("<table>");
        for (label, value) in &section.rows {
            let _ = write!(out, "<tr><td>{}</td><td><code>{}</code></td></tr>", escape(label), escape(value));
        }
        out.push_str("</table>\n");
    }
    if let Some(table) = &section.table {
        push_table(out, table);
    }
    for note in &section.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
}

fn push_table(out: &mut String, table: &Table) {
    out.push_str("<table><tr>");
    for name in &table.head {
        let _ = write!(out, "<th>{}</th>", escape(name));
    }
    out.push_str("</tr>");
    for row in &table.rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
