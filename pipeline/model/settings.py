"""What a miner can turn without touching code."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

FILE_NAME = "deval_pipeline.json"
READINGS = ("constrained", "generate", "likelihood")


@dataclass(frozen=True)
class Settings:
    """How answers are read from the model; any field can stand in `deval_pipeline.json` beside the weights."""

    reading: str = "constrained"
    """One of `READINGS`."""
    max_new_tokens: int = 250
    """Longest free answer, in tokens."""
    temperature: float = 0.5
    """`generate` only, like `top_p`, `top_k` and `seed`; the defaults are what the upstream pipeline samples with."""
    top_p: float = 0.95
    top_k: int = 50
    seed: int = 0
    """Every question is sampled from this seed, so that an answer can be had again."""
    max_prompt_tokens: int = 16384
    """Longer prompts lose the middle of their longest text. The model's own limit holds as well."""
    deadline_seconds: float = 15.0
    """Work that has not begun by then is left out; the validator gives up after 20 s. 0 lifts the limit."""
    claim_odds: float = 0.0
    """`constrained`: a claim is a mistake when log P(no) - log P(yes) is above this."""

    # Thresholds of `likelihood`, in nats per token, picked with SmolLM2-135M-Instruct on labelled examples (balanced
    # accuracy there: support 0.64 to 0.79 on invented claims, 0.5 on swapped names; relevancy 0.71; coverage followed
    # the truth not at all). Another model needs its own.
    support_gain: float = 1.0
    """A claim is supported when the context raises its mean log-probability by this much."""
    coverage_gain: float = 0.2
    """A point of the context is covered when the summary raises its mean log-probability by this much."""
    relevancy_gain: float = 0.4
    """A response is relevant when the query raises its mean log-probability by this much."""

    def __post_init__(self) -> None:
        if self.reading not in READINGS:
            raise ValueError(f"reading is {self.reading!r}; expected one of {', '.join(READINGS)}")


def load_settings(model_dir: str | Path, overrides: dict[str, object]) -> Settings:
    """Defaults, then `deval_pipeline.json` if it exists, then `overrides`.

    Raises `ValueError` for an unknown key: a miner should see a slip at start, not a silent default.
    """
    path = Path(model_dir) / FILE_NAME
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    chosen = {**stored, **overrides}
    unknown = sorted(chosen.keys() - {field.name for field in fields(Settings)})
    if unknown:
        raise ValueError(f"unknown pipeline settings: {', '.join(unknown)}")
    return Settings(**chosen)
