"""Three ways to read an answer from a language model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from . import prompts, text
from .lm import LanguageModel
from .settings import Settings

GRID = tuple(f"{tenth / 10:.1f}" for tenth in range(11))
YES_NO_GRID = ("0", "1")


@dataclass(frozen=True)
class Task:
    """One of the four evaluation tasks: what is asked, and what is answered when the model cannot be read."""

    score_prompt: str
    mistakes_prompt: str | None = None
    claim_prompt: str | None = None
    grid: tuple[str, ...] = GRID
    neutral: float = 0.5

    @property
    def binary(self) -> bool:
        """Whether only 0 and 1 earn anything."""
        return self.grid is YES_NO_GRID


TASKS = {
    "relevancy": Task(prompts.RELEVANCY_PROMPT, grid=YES_NO_GRID, neutral=1.0),
    "hallucination": Task(
        prompts.HALLUCINATION_PROMPT, prompts.HALLUCINATION_MISTAKES_PROMPT, prompts.HALLUCINATION_CLAIM_PROMPT
    ),
    "attribution": Task(
        prompts.ATTRIBUTION_PROMPT, prompts.ATTRIBUTION_MISTAKES_PROMPT, prompts.ATTRIBUTION_CLAIM_PROMPT
    ),
    "summary_completeness": Task(prompts.SUMMARY_COMPLETENESS_PROMPT, prompts.SUMMARY_COMPLETENESS_MISTAKES_PROMPT),
}


@dataclass(frozen=True)
class Request:
    """One question of the validator."""

    task: Task
    rag_context: str
    query: str
    llm_response: str

    @property
    def fields(self) -> dict[str, str]:
        """What the prompts are filled with."""
        return {"rag_context": self.rag_context, "query": self.query, "llm_response": self.llm_response}


@dataclass(frozen=True)
class Answer:
    """Score in [0, 1] and mistakes, before the last check."""

    score: float
    mistakes: list[str]


def constrained(model: LanguageModel, request: Request, settings: Settings) -> Answer:
    """The score is read off a grid, each claim is judged yes or no; only missing points are written freely."""
    task = request.task
    prompt = model.chat(task.score_prompt, request.fields)
    score = _median(task.grid, model.choose(prompt, "Response: ", task.grid))
    if task.claim_prompt is not None:
        return Answer(score, _refused_claims(model, request, settings))
    if task.mistakes_prompt is None or score >= 1.0 or model.seconds_left() <= 0:
        return Answer(score, [])
    written = model.write(model.chat(task.mistakes_prompt, request.fields), sample=False)
    return Answer(score, text.points(written.split("\n")))


def _median(grid: tuple[str, ...], log_probs: list[float]) -> float:
    """The point with half of the probability on either side: the reward falls with the distance from the truth."""
    reached = 0.0
    for option, log_prob in zip(grid, log_probs):
        reached += math.exp(log_prob)
        if reached > 0.5:
            return float(option)
    return float(grid[-1])


def _refused_claims(model: LanguageModel, request: Request, settings: Settings) -> list[str]:
    refused = []
    for claim in model.in_time(list(dict.fromkeys(text.split_claims(request.llm_response)))):
        fields = {"rag_context": request.rag_context, "claim": claim}
        yes, no = model.choose(model.chat(request.task.claim_prompt, fields), "Response: ", ("yes", "no"))
        if no - yes > settings.claim_odds:
            refused.append(claim)
    return refused


def generate(model: LanguageModel, request: Request, settings: Settings) -> Answer:
    """Two free answers, sampled as upstream samples, each cut at the length of its own prompt."""
    task = request.task
    score = text.parse_score(model.write(model.chat(task.score_prompt, request.fields), sample=True))
    if score is None:
        score = task.neutral
    if task.mistakes_prompt is None or model.seconds_left() <= 0:
        return Answer(score, [])
    lines = model.write(model.chat(task.mistakes_prompt, request.fields), sample=True).split("\n")
    if task.claim_prompt is None:
        return Answer(score, text.points(lines))
    return Answer(score, text.match_claims(lines, text.split_claims(request.llm_response)))


def likelihood(model: LanguageModel, request: Request, settings: Settings) -> Answer:
    """No generation: how much likelier a text becomes once the model has read what it should follow from."""
    if request.task.binary:
        gains = _gains(model, "Question: {query}\nAnswer:", "Answer:", request, [f" {request.llm_response.strip()}"])
        return _share(gains, settings.relevancy_gain, request.task)
    if request.task.claim_prompt is not None:
        claims = list(dict.fromkeys(text.split_claims(request.llm_response)))
        gains = _gains(model, "{rag_context}\n\n", "\n\n", request, claims)
        return _share(gains, settings.support_gain, request.task)
    gains = _gains(model, "{llm_response}\n\n", "\n\n", request, _lead_sentences(request.rag_context))
    answer = _share(gains, settings.coverage_gain, request.task)
    return Answer(answer.score, text.points(answer.mistakes))


def _gains(
    model: LanguageModel, given: str, alone: str, request: Request, texts: list[str]
) -> list[tuple[str, float]]:
    """Each text with its gain in mean log-probability (nats per token), as far as the time allows."""
    given_ids, alone_ids = model.plain(given, request.fields), model.plain(alone, {})
    with_source = {item: model.mean_log_prob(given_ids, item) for item in model.in_time(texts)}
    return [(item, mean - model.mean_log_prob(alone_ids, item)) for item, mean in with_source.items()]


def _share(gains: list[tuple[str, float]], threshold: float, task: Task) -> Answer:
    """The share of texts that gain enough, and the texts that do not."""
    if not gains:
        return Answer(task.neutral, [])
    weak = [item for item, gain in gains if gain < threshold]
    return Answer(round(1 - len(weak) / len(gains), 2), weak)


def _lead_sentences(context: str) -> list[str]:
    """The first sentence of each of at most `text.MAX_POINTS` equal parts of the context."""
    sentences = list(dict.fromkeys(text.split_claims(context)))
    parts = min(text.MAX_POINTS, len(sentences))
    return [sentences[part * len(sentences) // parts] for part in range(parts)]


READERS: dict[str, Callable[[LanguageModel, Request, Settings], Answer]] = {
    "constrained": constrained,
    "generate": generate,
    "likelihood": likelihood,
}
