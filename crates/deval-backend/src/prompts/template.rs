//! A prompt with fields, filled as the pipeline fills it.

use deval_manifest::Fill;

/// What a prompt can ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    RagContext,
    Query,
    LlmResponse,
    Claim,
}

impl Field {
    const ALL: [(&str, Self); 4] = [
        ("rag_context", Self::RagContext),
        ("query", Self::Query),
        ("llm_response", Self::LlmResponse),
        ("claim", Self::Claim),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// A prompt, cut at its fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Cuts a text at its fields.
    ///
    /// # Errors
    /// Where `str.format` would raise, or would do more than put a text in: in words.
    pub(super) fn parse(text: &str, fill: Fill) -> Result<Self, String> {
        match fill {
            Fill::Fields => Ok(Self::of_fields(text)),
            Fill::Format => Self::of_format(text),
        }
    }

    /// `{name}` of a known name is a field; every other brace is a brace.
    fn of_fields(text: &str) -> Self {
        let mut template = Self(Vec::new());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let inner = rest[brace + 1..].split_once('}').and_then(|(name, after)| Some((Field::named(name)?, after)));
            match inner {
                Some((field, after)) => {
                    template.text(&rest[..brace]);
                    template.0.push(Piece::Field(field));
                    rest = after;
                }
                None => {
                    template.text(&rest[..=brace]);
                    rest = &rest[brace + 1..];
                }
            }
        }
        template.text(rest);
        template
    }

    fn of_format(text: &str) -> Result<Self, String> {
        let mut template = Self(Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            template.text(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                template.text(brace);
                rest = after;
                continue;
            }
            let closed = if brace == "{" { after.split_once('}') } else { None };
            let (name, after) = closed.ok_or_else(|| format!("a single `{brace}`; write `{brace}{brace}`"))?;
            template.0.push(Piece::Field(format_field(name)?));
            rest = after;
        }
        template.text(rest);
        Ok(template)
    }

    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    /// Whether the prompt holds a field.
    pub(super) fn asks(&self, field: Field) -> bool {
        self.0.contains(&Piece::Field(field))
    }

    /// The prompt with its fields filled; braces within what is put in stay what they are.
    pub(super) fn fill<'a>(&self, value: impl Fn(Field) -> &'a str) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            filled.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Field(field) => value(*field),
            });
        }
        filled
    }
}

/// A replacement field that puts a text in as it stands.
fn format_field(inner: &str) -> Result<Field, String> {
    let plain = inner.split_once(':').map_or(inner, |(name, spec)| if matches!(spec, "" | "s") { name } else { inner });
    let plain = plain.strip_suffix("!s").unwrap_or(plain);
    Field::named(plain).ok_or_else(|| match plain.contains(['!', ':', '.', '[']) {
        true => format!("`{{{inner}}}` does more than put a text in"),
        false => format!("`{{{inner}}}` is no field that a question fills"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, fill: Fill) -> Result<String, String> {
        let value = |field| match field {
            Field::RagContext => "<{query}>",
            Field::Query => "<q>",
            Field::LlmResponse => "<r {}>",
            Field::Claim => "<c>",
        };
        Template::parse(text, fill).map(|template| template.fill(value))
    }

    #[test]
    fn fields_are_filled_once_and_other_braces_stay() {
        let text = "{rag_context} {{query}} {x} { {llm_response}{";
        assert_eq!(filled(text, Fill::Fields).unwrap(), "<{query}> {<q>} {x} { <r {}>{");
    }

    #[test]
    fn format_follows_python() {
        let text = "{rag_context}{{query}} {{{query}}} {llm_response!s} {claim:}{claim:s}";
        assert_eq!(filled(text, Fill::Format).unwrap(), "<{query}>{query} {<q>} <r {}> <c><c>");
        for (text, reason) in [
            ("a { b", "single `{`"),
            ("a } b", "single `}`"),
            ("{x}", "no field"),
            ("{}", "no field"),
            ("{query!r}", "more than"),
            ("{query:>10}", "more than"),
            ("{query.x}", "more than"),
            ("{ query }", "no field"),
        ] {
            let found = filled(text, Fill::Format).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }
}
