//! Single files: plain text with wiki headings, or Markdown.

use super::Article;

/// The article of a `.txt` or `.md` file; its title is the file's stem. Headings are `== Heading ==` or `# Heading`. `None` when the file
/// holds no text.
pub fn from_file(file: &str, text: &str) -> Option<Article> {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let title = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(|line| markdown_heading(line).unwrap_or_else(|| line.to_owned()));
    Article::new(title, &lines.collect::<Vec<_>>().join("\n"))
}

fn markdown_heading(line: &str) -> Option<String> {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    let name = rest.strip_prefix(' ')?.trim().trim_end_matches('#').trim_end();
    ((1..=6).contains(&level) && !name.is_empty()).then(|| format!("== {name} =="))
}
