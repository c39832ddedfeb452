//! The question before something real is changed.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use deval_report::{Diagnostic, Network, Section, render};

use crate::{cli::Effect, context::Context, findings::Findings};

/// Longest answer that is read.
const LONGEST: u64 = 1000;

/// Shows the plan and has `word` typed, on finney and without `--yes`. Without a terminal nobody is asked, and nothing is done.
///
/// # Errors
/// [`Findings`] when it was not confirmed.
pub(crate) fn confirm(context: &Context, effect: &Effect, plan: &[Section], word: &str) -> anyhow::Result<()> {
    if context.network() != Network::Finney || effect.yes {
        return Ok(());
    }
    // A question that goes to a file is seen by nobody.
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let finding =
            Diagnostic::error("confirm.no-terminal", "this changes what is real, and nobody can be asked here");
        let finding = finding.found("no terminal").expected(format!("`{word}`, typed, or --yes"));
        let help = "run it without --execute to see the plan, then in a terminal, or with --yes";
        return Err(Findings::from(finding.help(help)).into());
    }
    context
        .ui
        .ask(format!("{}\nThis is finney: what is done is real. Type `{word}` to go on: ", render::terminal(plan)));
    Ok(answer(&mut io::stdin().lock(), word)?)
}

fn answer(from: &mut impl BufRead, word: &str) -> Result<(), Findings> {
    let mut typed = String::new();
    // What cannot be read, an end of the input among it, is no consent.
    let read = from.take(LONGEST).read_line(&mut typed);
    if read.is_ok() && typed.trim() == word {
        return Ok(());
    }
    let finding = Diagnostic::error("confirm.refused", "it was not confirmed; nothing was changed");
    Err(finding.found(typed.trim()).expected(word).help("type exactly what is asked for, or give --yes").into())
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn only_the_very_word_is_consent() {
        assert!(answer(&mut "me/model\n".as_bytes(), "me/model").is_ok());
        assert!(answer(&mut " me/model \r\n".as_bytes(), "me/model").is_ok());
        for other in ["", "\n", "y\n", "me/mode", "me/model2\n", "\u{fffd}"] {
            assert_eq!(
                answer(&mut other.as_bytes(), "me/model").unwrap_err().0[0].code,
                "confirm.refused",
                "{other:?}"
            );
        }
        assert!(answer(&mut &b"\xff\xfe\n"[..], "me/model").is_err());
    }
}
