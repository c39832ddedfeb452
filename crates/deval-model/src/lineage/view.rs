//! The comparison as findings and as a table.

use deval_report::{Diagnostic, Section};

use super::{Lineage, Relation, TensorChange};

/// Rows of the table of changed tensors.
const SHOWN: usize = 20;

impl Relation {
    /// The relation in words, as the end of "the model is …".
    pub fn words(self) -> &'static str {
        match self {
            Self::Identical => "the base itself, byte for byte",
            Self::ReShardOnly => "the base in other files",
            Self::MetadataOnly => "the base with other file headers",
            Self::DtypeOnly => "the base in another element type",
            Self::Renamed => "the base under other names of its tensors",
            Self::Scaled => "the base with tensors multiplied by one number each",
            Self::Permuted => "the base with values of tensors in another order",
            Self::Restructured => "the base with tensors taken out, added or resized",
            Self::NoiseOnly => "the base with noise",
            Self::LowRank => "the base with a merged adapter (LoRA)",
            Self::FineTuned => "trained from the base",
            Self::Unrelated => "another model than the base",
        }
    }

    /// Whether every weight is the base's, changed at most in ways that no training is needed for.
    pub fn is_base_model(self) -> bool {
        match self {
            Self::Identical | Self::ReShardOnly | Self::MetadataOnly | Self::DtypeOnly => true,
            Self::Renamed | Self::Scaled | Self::Permuted => true,
            Self::Restructured | Self::NoiseOnly | Self::LowRank | Self::FineTuned | Self::Unrelated => false,
        }
    }
}

impl Lineage {
    /// What the relation means for a submission: base models without improvement are not accepted (the subnet's seed), whatever
    /// their hash is.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let mut message = format!("the model is {}", self.relation.words());
        if self.sampled {
            message.push_str(", as far as it was compared");
        }
        let finding = match self.relation {
            relation if relation.is_base_model() => Diagnostic::error("lineage.base-model", message)
                .found(format!("{} of {} tensors identical", self.identical_tensors, self.tensors))
                .help("base models without improvement are not accepted; train or merge something and save again"),
            Relation::NoiseOnly => Diagnostic::warning("lineage.noise-only", message)
                .found(format!("relative change {}", number(self.relative_change)))
                .help("noise makes another hash and no better answers; others can see it as this comparison does"),
            Relation::Restructured => Diagnostic::warning("lineage.restructured", message)
                .found(self.structure())
                .help("nothing that both have was trained; look whether the right folder was saved"),
            Relation::Unrelated => Diagnostic::note("lineage.unrelated", message)
                .help("name the model it was trained from to see what training changed"),
            _ => return self.oddities().collect(),
        };
        std::iter::once(finding).chain(self.oddities()).collect()
    }

    /// Tensors that no verdict on the whole tells of.
    fn oddities(&self) -> impl Iterator<Item = Diagnostic> {
        let moved = self.names(|change| change.moved_rows.is_some()).map(|names| {
            Diagnostic::warning("lineage.moved-rows", "rows of tensors stand in another place than in the base")
                .found(names)
                .help("rows that changed places hide what a model was made from; others can find them as this comparison did")
        });
        let broken = self.names(|change| change.not_finite > 0).map(|names| {
            Diagnostic::warning(
                "lineage.not-finite",
                "tensors have NaN or infinities, which were left out of the comparison",
            )
            .found(names)
            .help("`cargo xtask hash` counts them; train or convert the tensors again")
        });
        moved.into_iter().chain(broken)
    }

    /// The first of the changed tensors in question, and how many there are.
    fn names(&self, is: impl Fn(&TensorChange) -> bool) -> Option<String> {
        let found: Vec<_> = self.changed.iter().filter(|change| is(change)).map(|change| &change.name).collect();
        let others = found.len().saturating_sub(1);
        found
            .first()
            .map(|first| if others == 0 { format!("`{first}`") } else { format!("`{first}` and {others} others") })
    }

    fn structure(&self) -> String {
        let (missing, added) = (self.missing.len(), self.added.len());
        let renamed = self.renamed.len();
        format!("{missing} missing, {added} added, {renamed} renamed, {} of another shape", self.reshaped.len())
    }

    /// The comparison as views show it.
    pub fn sections(&self) -> Vec<Section> {
        let mut summary = Section::new("Lineage")
            .row("relation", self.relation.words())
            .row("identical tensors", format!("{} of {}", self.identical_tensors, self.tensors))
            .row("identical bytes", format!("{} of {}", self.identical_bytes, self.bytes))
            .row("tensors", self.structure())
            .row("other element type", self.other_dtype.len())
            .row("cosine over what changed", number(self.cosine))
            .row("relative change", number(self.relative_change));
        if self.sampled {
            summary = summary.note("Large tensors were compared in part only.");
        }
        let mut strongest: Vec<_> = self.changed.iter().collect();
        strongest.sort_by(|a, b| b.relative_change.unwrap_or(0.0).total_cmp(&a.relative_change.unwrap_or(0.0)));
        let rows = strongest.iter().take(SHOWN).map(|change| row(change)).collect();
        let head = ["tensor", "changed", "cosine", "relative change", "rank, or how it was copied", "over noise"];
        let mut table = Section::new("Changed tensors").table(&head, rows);
        if strongest.len() > SHOWN {
            table = table.note(format!("The {SHOWN} strongest of {}.", strongest.len()));
        }
        vec![summary, table]
    }
}

fn row(change: &TensorChange) -> Vec<String> {
    let (rank, noise) = match change.spectrum {
        Some(seen) if seen.is_low_rank() => (seen.rank.to_string(), format!("{:.2}", seen.over_noise)),
        Some(seen) => (format!("full ({} of {} rows)", seen.rank, seen.rows), format!("{:.2}", seen.over_noise)),
        None => (change.trick(), "-".into()),
    };
    let share = format!("{:.1} %", change.changed_share * 100.0);
    vec![change.name.clone(), share, number(change.cosine), number(change.relative_change), rank, noise]
}

impl TensorChange {
    /// Whether no training is needed to get this tensor from the base's.
    pub(super) fn is_copy(&self) -> bool {
        self.same_values || self.permuted || self.factor.is_some()
    }

    fn trick(&self) -> String {
        match self.factor {
            _ if self.same_values => "the same, rounded".into(),
            _ if self.permuted => "another order".into(),
            Some(factor) => format!("{factor:.6} times the base"),
            None => "-".into(),
        }
    }
}

fn number(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{x:.6}"))
}
