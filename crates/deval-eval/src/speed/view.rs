//! How the estimate is shown.

use deval_report::Section;

use super::{
    HASH_BUDGET_SECONDS, HASHED_BYTES_PER_SECOND, NAMED, Prediction, QUESTION_BUDGET_SECONDS, READY_BUDGET_SECONDS,
    Speed,
};

impl Speed {
    /// Seconds by machine against the validator's budgets.
    pub fn section(&self) -> Section {
        let gigabytes = self.model.bytes as f64 / 1e9;
        let hash = self.model.bytes as f64 / HASHED_BYTES_PER_SECOND;
        let budgets = format!(
            "hash of {gigabytes:.1} GB about {hash:.0} s of {HASH_BUDGET_SECONDS} s at 375 MB/s; to be ready within \
             {READY_BUDGET_SECONDS} s it must arrive with more than {:.0} MB/s",
            self.model.bytes as f64 / 1e6 / READY_BUDGET_SECONDS
        );
        let sources: Vec<&str> = self.machines.iter().map(|machine| machine.source.as_str()).collect();
        Section::new("Speed elsewhere (estimate)")
            .row("rests on", format!("{} questions with answers of at most {} tokens", self.questions, self.max_new_tokens))
            .row("other budgets", budgets)
            .table(
                &["machine", "median", "99 %", "longest answers", "at risk", "max_new_tokens that fits"],
                self.machines.iter().map(Prediction::row).collect(),
            )
            .note(format!(
                "No such machine was asked: weights in 16 bits, 70 % of the bandwidth and 40 % of the arithmetic of the datasheets ({}), and \
                 0.46 ms for each layer and 2.3 ms for each token that transformers takes itself. The validator waits \
                 {QUESTION_BUDGET_SECONDS} s for a question, score and mistakes together.",
                sources.join("; ")
            ))
    }
}

impl Prediction {
    /// One machine's row: its name, seconds, examples at risk, the longest answers that fit.
    pub fn row(&self) -> Vec<String> {
        let seconds = |seconds: f64| format!("{seconds:.1} s");
        let name =
            if self.fits { self.machine.clone() } else { format!("{} (too small for the weights)", self.machine) };
        let named = self.at_risk.iter().take(NAMED).map(|risk| risk.example.as_str()).collect::<Vec<_>>().join(", ");
        let risk = match self.at_risk.len() {
            0 => "none".to_owned(),
            count if count > NAMED => format!("{count}: {named}, …"),
            count => format!("{count}: {named}"),
        };
        vec![name, seconds(self.p50), seconds(self.p99), seconds(self.longest), risk, self.max_new_tokens.to_string()]
    }
}
