//! How an explanation is shown.

use deval_report::Section;

use super::Item;

/// Losses smaller than this are counted, not shown: they round to nothing.
const SHOWN: f64 = 0.0005;

/// The items as a table; a note tells what they sum to.
pub fn sections(items: &[Item]) -> Vec<Section> {
    let shown: Vec<&Item> = items.iter().filter(|item| item.loss.abs() >= SHOWN).collect();
    let rows = shown.iter().map(|item| {
        vec![format!("{:+.3}", -item.loss), item.task.name().to_owned(), item.what.clone(), item.example.clone()]
    });
    let all: f64 = items.iter().map(|item| item.loss).sum();
    let rest: f64 = items.iter().filter(|item| item.loss.abs() < SHOWN).map(|item| item.loss).sum();
    let section = Section::new("Where the reward is lost")
        .table(&["reward", "task", "why", "for example"], rows.collect())
        .note(format!("the items sum to {:+.3}, the distance of the mean reward from 1", -all + 0.0));
    let hidden = items.len() - shown.len();
    vec![if hidden == 0 {
        section
    } else {
        section.note(format!("{hidden} items below {SHOWN}, rounding among them, sum to {:+.6}", -rest + 0.0))
    }]
}
