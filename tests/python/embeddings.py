"""Sentence embeddings as AnglE 0.5.1 computes them, by transformers: one text at a time, at most 512 tokens, f32.

Where a model has fewer positions, AnglE would fail; the text is cut to them instead.

embeddings.py TEXTS OUT [MODEL_DIR…]
embeddings.py TEXTS OUT --tiny DIR

TEXTS is a JSON list. OUT becomes {model directory: {"cls": vectors, "mean": vectors, "seconds": number}}.
`--tiny` first makes small random encoders of every supported type below DIR.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ROBERTA_SPECIAL = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


@torch.no_grad()
def embeddings(directory: Path, texts: list[str]) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, torch_dtype=torch.float32).eval()
    limit = min(512, model.config.max_position_embeddings)
    result = {"cls": [], "mean": []}
    started = time.perf_counter()
    for text in texts:
        inputs = tokenizer([text], padding="longest", max_length=limit, truncation=True, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state[0]
        result["cls"].append(hidden[0].tolist())
        result["mean"].append(hidden.mean(0).tolist())
    return {**result, "seconds": time.perf_counter() - started}


def tiny(root: Path, texts: list[str]) -> Iterator[Path]:
    """Each directory differs from the others in what it stores and how."""
    letters = sorted(set("".join(texts)) - set(" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##ing", *letters, *(f"##{c}" for c in letters)]
    words = {**SIZE, "vocab_size": len(pieces)}
    cases = {
        "bert": ("BertModel", transformers.BertConfig(**words), {"max_shard_size": "20KB"}),
        "bert-cased": ("BertForMaskedLM", transformers.BertConfig(**words, hidden_act="gelu_new"), {}),
        "bert-half": ("BertModel", transformers.BertConfig(**words, hidden_act="relu", max_position_embeddings=64), {}),
        "distilbert": ("DistilBertForMaskedLM", distilbert(len(pieces)), {}),
    }
    for name, (architecture, config, how) in cases.items():
        directory = save(root / name, architecture, config, how)
        (directory / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="\n")
        settings = {"tokenizer_class": "DistilBertTokenizer" if name == "distilbert" else "BertTokenizer"}
        settings |= {"do_lower_case": name != "bert-cased", "model_max_length": 64 if name == "bert-half" else 512}
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
        yield directory
    byte_level = sorted(pre_tokenizers.ByteLevel.alphabet())
    for name, tokenizer in {"roberta": bytes_tokenizer(byte_level), "xlm-roberta": unigram_tokenizer(letters)}.items():
        kind = "XLMRoberta" if name == "xlm-roberta" else "Roberta"
        numbers = {**SIZE, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 514}
        config = getattr(transformers, f"{kind}Config")(**numbers, layer_norm_eps=1e-5, type_vocab_size=1)
        directory = save(root / name, f"{kind}ForMaskedLM" if name == "roberta" else f"{kind}Model", config, {})
        how = {"model_input_names": ["input_ids", "attention_mask"], **ROBERTA_SPECIAL}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **how).save_pretrained(directory)
        yield directory


def distilbert(vocabulary: int) -> transformers.DistilBertConfig:
    return transformers.DistilBertConfig(vocab_size=vocabulary, dim=32, n_layers=2, n_heads=4, hidden_dim=48)


def save(directory: Path, architecture: str, config: transformers.PretrainedConfig, how: dict) -> Path:
    torch.manual_seed(15)
    model = getattr(transformers, architecture)(config)
    for parameter in model.parameters():
        centre = 1.0 if parameter.dim() == 1 else 0.0
        parameter.data = centre + 0.3 * torch.randn_like(parameter)
    model = model.half() if directory.name == "bert-half" else model
    model.save_pretrained(directory, **how)
    return directory


def roberta_like(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ROBERTA_SPECIAL.values()])
    return tokenizer


def bytes_tokenizer(alphabet: list[str]) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate([*ROBERTA_SPECIAL.values(), *alphabet, "th", "the"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h"), ("th", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return roberta_like(tokenizer)


def unigram_tokenizer(letters: list[str]) -> Tokenizer:
    scores = [(token, 0.0) for token in ROBERTA_SPECIAL.values()] + [("▁", -2.0), ("▁the", -3.0), ("ing", -4.0)]
    tokenizer = Tokenizer(models.Unigram([*scores, *((c, -5.0) for c in letters if c != "▁")], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return roberta_like(tokenizer)


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rest = sys.argv[3:]
    directories = list(tiny(Path(rest[1]), texts)) if rest[0] == "--tiny" else [Path(path) for path in rest]
    result = {str(directory): embeddings(directory, texts) for directory in directories}
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
