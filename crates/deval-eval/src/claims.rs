//! Splits a response into its claims: verbatim pieces, one sentence or line each.

use crate::python;

const TERMINATORS: [char; 3] = ['.', '!', '?'];
const CLOSERS: [char; 6] = ['"', '\'', ')', ']', '”', '’'];
const BULLETS: [char; 4] = ['-', '*', '•', '–'];
const ABBREVIATIONS: [&str; 21] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "no", "inc", "co", "corp", "ltd", "al", "fig", "approx",
    "dept", "gen", "sen", "rev",
];

/// The claims of a response in order, each a piece of it character by character, without bullets and without the space around. Sentences
/// may run together (`one.Two`) or be parted by dots, as the validator's joiners do; pieces without a letter or digit are no claims.
pub fn split(llm_response: &str) -> Vec<&str> {
    let pieces = llm_response.split(['\n', '\r']).flat_map(sentences).map(unbullet);
    pieces.filter(|piece| piece.chars().any(char::is_alphanumeric)).collect()
}

fn sentences(line: &str) -> Vec<&str> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (dot, _) in line.match_indices(TERMINATORS) {
        if dot < start || !ends_sentence(&line[start..dot], &line[dot..]) {
            continue;
        }
        let after = line[dot..].trim_start_matches(TERMINATORS);
        let next = after.trim_start_matches(CLOSERS);
        let is_run = line.len() - dot - after.len() > 1;
        let end = if is_run { dot + 1 } else { line.len() - next.len() };
        pieces.push(&line[start..end]);
        start = line.len() - next.len();
    }
    pieces.push(&line[start..]);
    pieces
}

/// Whether the terminator at the start of `rest` ends the sentence that begins with `before`.
fn ends_sentence(before: &str, rest: &str) -> bool {
    let after = rest.trim_start_matches(TERMINATORS);
    let is_single_dot = rest.starts_with('.') && rest.len() - after.len() == 1;
    let Some(last) = before.chars().next_back().filter(|last| !TERMINATORS.contains(last)) else { return false };
    let number = python::strip(before);
    if is_single_dot && (is_abbreviation(before) || number.bytes().all(|byte| byte.is_ascii_digit())) {
        return after.is_empty();
    }
    let next = after.trim_start_matches(CLOSERS);
    match next.chars().next() {
        None => true,
        Some(c) if python::is_space(c) => !python::strip(next).starts_with(char::is_lowercase),
        Some(c) => c.is_uppercase() && (last.is_lowercase() || last.is_numeric() || CLOSERS.contains(&last)),
    }
}

/// Whether the last word is an abbreviation or a row of initials ("U.S", "J").
fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || "(\"'“".contains(c)).next().unwrap_or_default();
    let is_initial = |part: &str| part.len() == 1 && part != "I" && part.starts_with(|c: char| c.is_ascii_alphabetic());
    ABBREVIATIONS.contains(&word.to_ascii_lowercase().as_str()) || word.split('.').all(is_initial)
}

fn unbullet(piece: &str) -> &str {
    let piece = python::strip(piece);
    let bare = piece.trim_start_matches(BULLETS);
    if bare.len() < piece.len() && bare.starts_with(python::is_space) {
        return python::strip(bare);
    }
    let numbered = piece.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = numbered
        .strip_prefix(['.', ')'])
        .filter(|rest| numbered.len() < piece.len() && rest.starts_with(python::is_space));
    rest.map_or(piece, python::strip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::JOINERS;

    #[test]
    fn every_joiner_comes_apart_again() {
        let claims =
            ["Ana Ruiz leads the Harbor team.", "The 3.5 kg kit ships on May 4.", "Dr. Lee sold 12 of them in Q3."];
        for joiner in JOINERS {
            let text: String = claims.iter().flat_map(|claim| [*claim, joiner]).collect();
            assert_eq!(split(&text), claims, "{joiner:?}");
        }
    }

    #[test]
    fn abbreviations_ellipses_and_lists_hold_together() {
        assert_eq!(
            split("The U.S. Senate met Mr. J. Smith, e.g. twice."),
            ["The U.S. Senate met Mr. J. Smith, e.g. twice."]
        );
        assert_eq!(
            split("well... i think so? Yes! \"Done.\" Next"),
            ["well... i think so?", "Yes!", "\"Done.\"", "Next"]
        );
        assert_eq!(
            split("1. First point\n2) Second.\n- Third\n* \n...\n-5 degrees"),
            ["First point", "Second.", "Third", "-5 degrees"]
        );
        assert_eq!(split(" \n...\t"), Vec::<&str>::new());
    }

    #[test]
    fn pieces_are_verbatim() {
        let text = "Ünïcode “quotes.” Zwei…Drei.\u{1c}\u{3000}四。Five";
        for piece in split(text) {
            assert!(text.contains(piece), "{piece:?}");
        }
    }
}
