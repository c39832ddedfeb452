//! The shape every view is rendered from: sections of labelled rows and tables.

/// One block of a view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// `label: value` lines.
    pub rows: Vec<(String, String)>,
    /// A table below the lines.
    pub table: Option<Table>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// A table with a header line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Column names.
    pub head: Vec<String>,
    /// Cells; every row is as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a line.
    #[must_use]
    pub fn row(mut self, label: impl Into<String>, value: impl ToString) -> Self {
        self.rows.push((label.into(), value.to_string()));
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        self.table = Some(Table { head: head.iter().map(ToString::to_string).collect(), rows });
        self
    }

    /// Adds a sentence.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
