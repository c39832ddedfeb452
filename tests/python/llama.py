"""What transformers makes of LLaMA models: the reference of `deval-llama`.

usage: llama.py REQUEST RESULT

REQUEST  JSON: {"tiny": DIR or null, "jobs": [JOB, …]}. With `tiny`, small random models are made there first, one folder each.
JOB      {"job": NAME, "dir": MODEL, …} with
  logits  prompts [[id]], last: writes the logits of the last `last` positions of each prompt, 32-bit little-endian, one row after
          the other, into `out`. → shape of each prompt [rows, vocabulary]
  greedy  prompts [[id]], new_tokens, batch: → tokens [[id]], margins [[the lead of the best logit over the next]]; no token ends it
          What the model's generation_config.json says holds.
  processed  settings {of a GenerationConfig}, tokens [id], prompt, rows [[logit]]: → probabilities [[…]] of the next token behind
          `tokens`, the first `prompt` of which were not generated, for each row of logits
  chat    conversations [{"messages", "add_generation_prompt", …template variables}]: → texts [text or null], tokens [[id] or null];
          null where the template refuses
  encode  texts: → plain [[id]], special [[id]], without and with the tokenizer's own tokens, and decoded [text] of the latter
RESULT   {"names": [tiny models], "results": [one entry per job]}
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
TINY = {
    "plain": {},
    "one-key-head": {"num_key_value_heads": 1},
    "no-groups": {"num_key_value_heads": 4},
    "tied": {"tie_word_embeddings": True},
    "half": {"torch_dtype": "float16"},
    "brain-half": {"torch_dtype": "bfloat16", "tie_word_embeddings": True},
    "shards": {"max_shard_size": "100KB"},
    "wide-heads": {"head_dim": 32},
    "narrow-heads": {"head_dim": 8},
    "theta": {"rope_theta": 500000.0},
    "attention-bias": {"attention_bias": True},
    "feed-forward-bias": {"mlp_bias": True},
    "both-biases": {"attention_bias": True, "mlp_bias": True, "head_dim": 24},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "dynamic-beyond": {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}, "max_position_embeddings": 32},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "yarn-told": {
        "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.75, "beta_fast": 16.0, "beta_slow": 2.0}
    },
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "window-is-not-read": {"sliding_window": 8},
}


def make_tiny(root):
    for number, (name, changes) in enumerate(TINY.items()):
        changes = dict(changes)
        shard = changes.pop("max_shard_size", "1GB")
        dtype = getattr(torch, changes.pop("torch_dtype", "float32"))
        torch.manual_seed(number)
        model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes}))
        with torch.no_grad():
            for key, value in model.named_parameters():
                if key.endswith("bias"):
                    value.normal_(0, 0.3)
                elif "norm" in key:
                    value.uniform_(0.7, 1.3)
        model.to(dtype).save_pretrained(root / name, max_shard_size=shard)
    return list(TINY)


MODELS = {}


def model_of(job):
    path = job["dir"]
    if path not in MODELS:
        MODELS.clear()
        MODELS[path] = AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32).eval()
    return MODELS[path]


def logits(job):
    shapes = []
    with open(job["out"], "wb") as out:
        for prompt in job["prompts"]:
            # What a prompt does to rotary positions that grow with the sequence must not reach the next one.
            MODELS.clear()
            rows = model_of(job)(input_ids=torch.tensor([prompt])).logits[0, -job["last"] :]
            out.write(rows.contiguous().numpy().tobytes())
            shapes.append(list(rows.shape))
    return {"shapes": shapes}


def greedy(job):
    model, size = model_of(job), job["batch"]
    tokens, margins = [], []
    for at in range(0, len(job["prompts"]), size):
        rows = job["prompts"][at : at + size]
        width = max(map(len, rows))
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        output = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=job["new_tokens"],
            do_sample=False,
            temperature=None,
            top_p=None,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens += output.sequences[:, width:].tolist()
        best = torch.stack([step.topk(2, dim=-1).values for step in output.logits], dim=1)
        margins += (best[..., 0] - best[..., 1]).tolist()
    return {"tokens": tokens, "margins": margins}


def processed(job):
    model, settings = model_of(job), GenerationConfig(do_sample=True, **job["settings"])
    model._prepare_special_tokens(settings, kwargs_has_attention_mask=True)
    ids = torch.tensor([job["tokens"]])
    processors = model._get_logits_processor(
        generation_config=settings,
        input_ids_seq_length=job["prompt"],
        encoder_input_ids=ids,
        prefix_allowed_tokens_fn=None,
        logits_processor=LogitsProcessorList(),
        device="cpu",
        model_kwargs={},
    )
    scores = [processors(ids, torch.tensor([row], dtype=torch.float32)) for row in job["rows"]]
    return {"probabilities": [torch.softmax(row, dim=-1)[0].tolist() for row in scores]}


def chat(job):
    tokenizer = AutoTokenizer.from_pretrained(job["dir"])
    texts, tokens = [], []
    for conversation in job["conversations"]:
        messages = conversation.pop("messages")
        try:
            texts.append(tokenizer.apply_chat_template(messages, tokenize=False, **conversation))
            tokens.append(tokenizer(texts[-1], add_special_tokens=False)["input_ids"])
        except Exception as refusal:
            print(f"{job['dir']}: {refusal}", file=sys.stderr)
            texts.append(None)
            tokens.append(None)
    return {"texts": texts, "tokens": tokens}


def encode(job):
    tokenizer = AutoTokenizer.from_pretrained(job["dir"])
    special = tokenizer(job["texts"])["input_ids"]
    return {
        "plain": tokenizer(job["texts"], add_special_tokens=False)["input_ids"],
        "special": special,
        "decoded": [tokenizer.decode(row, skip_special_tokens=True) for row in special],
    }


JOBS = {job.__name__: job for job in (logits, greedy, processed, chat, encode)}


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    names = make_tiny(Path(request["tiny"])) if request.get("tiny") else []
    with torch.no_grad():
        results = [JOBS[job["job"]](job) for job in request["jobs"]]
    Path(sys.argv[2]).write_text(json.dumps({"names": names, "results": results}), encoding="utf-8")


if __name__ == "__main__":
    main()
