//! `cargo xtask schema`: the JSON Schema of deval.toml, generated from the types that read it.

use std::fs;

use anyhow::Context as _;

use crate::{Verdict, cargo, ui::Ui};

/// Where the generated schema is committed.
pub(crate) const PATH: &str = "ci/deval.schema.json";

pub(crate) fn run(write: bool, ui: Ui) -> anyhow::Result<Verdict> {
    let text = text();
    if write {
        let path = cargo::root().join(PATH);
        fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        ui.say(format!("wrote {PATH}"));
    } else {
        ui.print(text);
    }
    Ok(Verdict::Ok)
}

fn text() -> String {
    let schema = deval_manifest::json_schema();
    serde_json::to_string_pretty(&schema).expect("a schema is plain JSON") + "\n"
}
