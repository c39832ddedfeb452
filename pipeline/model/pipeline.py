"""The pipeline that the validator loads: `DeValPipeline("de_val", model_dir=...)`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Pipeline
from transformers.utils import is_accelerate_available

from . import text
from .lm import LanguageModel
from .readings import READERS, TASKS, Answer, Request, Task
from .settings import load_settings

_LOG = logging.getLogger(__name__)
_UNKNOWN_TASK = Task(score_prompt="")


class DeValPipeline(Pipeline):
    """Answers the four De-Val tasks from a LLaMA-architecture model directory.

    `pipe("", tasks=[name], rag_context=..., query=..., llm_response=...)` returns
    `{"score_completion": float, "mistakes_completion": list[str]}`: the score finite and in [0, 1], for relevancy 0.0
    or 1.0; the mistakes always a list. No exception leaves a call, because the validator gives a miner whose
    container answers with an error nothing, and some answers abort its whole round.
    """

    def __init__(self, task: str = "de_val", *, model_dir: str, **settings: Any) -> None:
        """Loads the model: half precision on CUDA, single precision elsewhere.

        `settings` are fields of `settings.Settings` and win over `deval_pipeline.json`. Errors do leave from here: a
        model that cannot be loaded must not look alive.
        """
        self.settings = load_settings(model_dir, settings)
        cuda = torch.cuda.is_available()
        placed = {"device_map": {"": 0 if cuda else "cpu"}} if is_accelerate_available() else {}
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, torch_dtype=torch.float16 if cuda else torch.float32, **placed
        )
        super().__init__(
            model=model.eval(), tokenizer=AutoTokenizer.from_pretrained(model_dir), framework="pt", task=task
        )

    def __call__(self, inputs: object = "", *args: object, tasks: Sequence[str] | None = None, **fields: object) -> Any:
        """One answer; `inputs` is not used, of `tasks` only the first counts, missing fields are empty."""
        task = _UNKNOWN_TASK
        try:
            task = TASKS.get(_first(tasks), _UNKNOWN_TASK)
            return super().__call__("", task=task, fields=fields)
        except Exception:
            _LOG.exception("no answer from the model, the neutral one is given")
            return self.postprocess((task, Answer(task.neutral, [])))

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return parameters, {}, {}

    def preprocess(self, input_: object, task: Task, fields: dict[str, object]) -> Request:
        """The validator's fields as texts."""
        if task is _UNKNOWN_TASK:
            raise ValueError(f"unknown task; known are {', '.join(TASKS)}")
        names = ("rag_context", "query", "llm_response")
        return Request(task, **{name: text.as_text(fields.get(name)) for name in names})

    def _forward(self, request: Request) -> tuple[Task, Answer]:
        model = LanguageModel(self.model, self.tokenizer, self.settings)
        return request.task, READERS[self.settings.reading](model, request, self.settings)

    def postprocess(self, model_outputs: tuple[Task, Answer]) -> dict[str, float | list[str]]:
        """The last gate: whatever a reading did, the answer has the shape that the validator can score."""
        task, answer = model_outputs
        score = min(max(answer.score, 0.0), 1.0) if math.isfinite(answer.score) else task.neutral
        mistakes = [] if task.binary else [mistake for mistake in answer.mistakes if mistake.replace(".", "").strip()]
        return {"score_completion": float(score >= 0.5) if task.binary else score, "mistakes_completion": mistakes}


def _first(tasks: Sequence[str] | None) -> str | None:
    return tasks if isinstance(tasks, str) else next(iter(tasks or ()), None)
