//! An audit as sections of a view.

use deval_eval::assembly::JOINERS;
use deval_report::Section;

use super::{Audit, LONG_CHARS, Learned, Spread, TaskAudit};

const REFERENCES: [&str; 6] = ["0", "…0.25", "…0.5", "…0.75", "<1", "1"];

impl Audit {
    /// The set, its distribution, and what surface cues are worth on it.
    pub fn sections(&self) -> Vec<Section> {
        vec![self.about(), self.distribution(), self.references(), self.cues()]
    }

    fn about(&self) -> Section {
        let set = &self.set;
        let digest = set.digest.get(..12).unwrap_or(&set.digest);
        let unknown = || "unknown".to_owned();
        Section::new(format!("Examples: {}", set.name))
            .row("examples", set.examples)
            .row("digest", digest)
            .row("licence", set.licence.clone().unwrap_or_else(unknown))
            .row("generator", set.generator.clone().unwrap_or_else(unknown))
            .row(
                "contamination",
                if set.contamination.is_empty() { "none known".to_owned() } else { set.contamination.join(", ") },
            )
    }

    fn distribution(&self) -> Section {
        let row = |task: &TaskAudit| {
            let (found, claims) = task.verbatim;
            vec![
                task.task.to_string(),
                task.examples.to_string(),
                spread(task.context_words),
                spread(task.response_words),
                spread(task.claims),
                format!("{} / {}", task.all_true, task.all_false),
                if claims == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * found as f64 / claims as f64) },
                task.duplicates.to_string(),
                task.unlabelled.to_string(),
            ]
        };
        let head = [
            "task",
            "examples",
            "context words",
            "response words",
            "claims",
            "all true / false",
            "verbatim",
            "repeated",
            "unlabelled",
        ];
        let mut section = Section::new("Distribution").table(&head, self.tasks.iter().map(row).collect());
        section = section.note("Words and claims: median, then the maximum.");
        for task in self.tasks.iter().filter(|task| task.long > 0) {
            section = section.note(format!(
                "{}: {} examples have a text of more than {LONG_CHARS} characters.",
                task.task, task.long
            ));
        }
        section
    }

    fn references(&self) -> Section {
        let row = |task: &TaskAudit| {
            let counts = task.references.iter().map(ToString::to_string);
            std::iter::once(task.task.to_string()).chain(counts).collect()
        };
        let head: Vec<_> = ["task"].into_iter().chain(REFERENCES).collect();
        let mut section = Section::new("References").table(&head, self.tasks.iter().map(row).collect());
        for task in &self.tasks {
            let generators: Vec<_> = task.generators.iter().map(|(name, n)| format!("{name} {n}")).collect();
            section = section.row(format!("{} generators", task.task), generators.join(", "));
            section = section.row(format!("{} queries", task.task), task.queries);
            if task.joiners.iter().sum::<usize>() > 0 {
                section = section.row(format!("{} joiners", task.task), joiners(&task.joiners));
            }
        }
        section
    }

    fn cues(&self) -> Section {
        let row = |task: &TaskAudit| {
            let overlap = task.baselines.iter().find(|row| !row.baseline.is_constant());
            let learned = |value: &dyn Fn(&Learned) -> Option<f64>| number(task.learned.as_ref().and_then(value));
            vec![
                task.task.to_string(),
                task.best_constant().map_or_else(dash, |best| format!("{:.3} ({})", best.reward, best.baseline.name())),
                number(overlap.map(|row| row.reward)),
                learned(&|learned| Some(learned.reward)),
                learned(&|learned| Some(learned.chance_reward)),
                learned(&|learned| learned.auc),
                learned(&|learned| learned.chance_auc),
            ]
        };
        let head = ["task", "best constant", "word overlap", "bag of words", "… by chance", "AUC", "… by chance"];
        Section::new("What surface cues earn")
            .table(&head, self.tasks.iter().map(row).collect())
            .note("Bag of words: logistic regression over words, overlaps and lengths, asked only about examples it was not trained on; chance is the same with shuffled labels. An AUC of 0.5 means that it cannot tell.")
            .note(format!("Summary rewards by the stand-in embedder: {}.", self.embedder))
    }
}

fn spread(spread: Spread) -> String {
    format!("{} / {}", spread.p50, spread.max)
}

fn dash() -> String {
    "–".to_owned()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| format!("{value:.3}"))
}

fn joiners(seen: &[usize]) -> String {
    let names = JOINERS.iter().map(|joiner| format!("{joiner:?}")).chain(["other".to_owned()]);
    names.zip(seen).filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}
