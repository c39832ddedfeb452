#!/usr/bin/env python3
"""The model, the questions and the verdict of ci/gpu/measure.sh.

usage: measure.py prepare TOKENIZER DIR SHAPE    a random bf16 model of SHAPE (`8b`: LLaMA 3 8B, `tiny`) in DIR/model with the tokenizer
                                                 of another model's folder, and the requests in DIR/{ours,theirs}.json
       measure.py compare DIR BANDWIDTH          what DIR/{ours,theirs}.result say; BANDWIDTH in GB/s bounds decoding
"""

import json
import random
import shutil
import sys
from pathlib import Path

SHAPES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 128256},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 49152},
}
# A round: 30 questions of each of four tasks, all but those of the first asked for the mistakes too.
EXAMPLES, NEW_TOKENS, BATCH = 120, 250, 32


def prepare(tokenizer, directory, shape):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(
        **SHAPES[shape],
        num_key_value_heads=SHAPES[shape]["num_attention_heads"] // 4,
        max_position_embeddings=8192,
        rope_theta=500000.0,
        eos_token_id=2,
    )
    model = directory / "model"
    LlamaForCausalLM(config).save_pretrained(model, max_shard_size="5GB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tokenizer) / name, model / name)
    dice = random.Random(0)
    words = "the committee heard that budget plans were late and asked for a report on every open point by friday".split()
    asks = []
    for number in range(EXAMPLES):
        context = " ".join(dice.choice(words) for _ in range(dice.randrange(200, 1400)))
        for task in ("score", "mistakes")[: 1 if number < EXAMPLES // 4 else 2]:
            asks.append({"system": "You are an evaluation LLM.", "user": f"Give the {task}.\n# Context\n{context}"})
    assert len(asks) == 210
    new, asks = (NEW_TOKENS, asks) if shape == "8b" else (8, asks[:12])
    rows = [[(31 * row + 7 * at) % 49000 + 3 for at in range(64 + 50 * row)] for row in range(8)]
    logits = {"part": "logits", "model": str(model), "dtype": "bfloat16", "tokens": rows}
    batched = {"part": "batched", "model": str(model), "dtype": "bfloat16", "asks": asks, "max_new_tokens": new, "batch": BATCH}
    rates = {"part": "rates", "model": str(model), "dtype": "bfloat16", "prompt_tokens": 512, "new_tokens": 64 if shape == "8b" else 8, "batch": BATCH}
    (directory / "ours.json").write_text(json.dumps({"parts": [logits, batched, rates]}))
    (directory / "theirs.json").write_text(json.dumps({"parts": [logits, batched, rates, {**batched, "part": "serial"}]}))


def compare(directory, bandwidth):
    ours, theirs = (json.loads((directory / f"{side}.result").read_text())["parts"] for side in ("ours", "theirs"))
    pairs = list(zip(ours[0]["logits"], theirs[0]["logits"]))
    largest = max(abs(a - b) for a_row, b_row in pairs for a, b in zip(a_row, b_row))
    same = sum(max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__) for a, b in pairs)
    print(f"logits: largest difference {largest:.3f}, the same best token in {same} of {len(pairs)} rows")
    print(f"load: ours {ours[0]['load_seconds']:.1f} s, transformers {theirs[1]['load_seconds']:.1f} s")
    for name, other in (("batched", theirs[1]), ("serial", theirs[3])):
        ratio = other["seconds"] / ours[1]["seconds"]
        print(f"round: ours {ours[1]['seconds']:.1f} s, transformers {name} {other['seconds']:.1f} s: {ratio:.2f} times as fast")
    weights = sum(file.stat().st_size for file in (directory / "model").glob("*.safetensors"))
    config = json.loads((directory / "model/config.json").read_text())
    # Of the input table a token reads one row.
    bound = BATCH * bandwidth * 1e9 / (weights - 2 * config["vocab_size"] * config["hidden_size"])
    for side, parts in (("ours", ours), ("transformers", theirs)):
        decode = max(parts[2]["decode"])
        print(f"decode at {BATCH}: {side} {decode:.0f} tok/s, {decode / bound:.0%} of the {bound:.0f} that {bandwidth:g} GB/s allow")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", tokenizer, directory, shape]:
            prepare(tokenizer, Path(directory), shape)
        case ["compare", directory, bandwidth]:
            compare(Path(directory), float(bandwidth))
        case _:
            sys.exit(__doc__)
