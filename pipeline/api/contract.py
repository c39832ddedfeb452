"""What a validator finds at the port: upstream's four routes and their answers.

Mirrors deval/api/miner_api.py and models.py, quirks included: the pipeline is called inside an `async` route, so one
question at a time is answered and everything else waits; what it raises becomes a 500; what it returns is read
leniently.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

READ_BYTES = 4096
"""Upstream's read size, kept because a validator waits 60 s for the hash."""


class Question(BaseModel):
    """Body of /eval_query; `tasks` are names of De-Val's tasks."""

    tasks: list[str]
    rag_context: str
    query: str | None = ""
    llm_response: str


class Status(StrEnum):
    """How reading the pipeline's result went."""

    SUCCESS = "success"
    ERROR = "error"


class Answer(BaseModel):
    """Answer of /eval_query; `response_time` in seconds. The order of the keys is part of the contract."""

    score: float
    mistakes: list[str] | None
    response_time: float
    status_message: Status


def create_app(pipeline: Callable[..., Any] | None, directory: Path) -> FastAPI:
    """The API over a loaded pipeline and the package folder. Without a pipeline questions end in a 500."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> bool:
        return True

    @app.get("/get_model_hash")
    async def get_model_hash() -> dict[str, str]:
        return {"hash": model_hash(directory)}

    @app.get("/get_model_coldkey")
    async def get_model_coldkey() -> dict[str, str | None]:
        return {"coldkey": coldkey(directory)}

    @app.post("/eval_query")
    async def eval_query(question: Question) -> Answer:
        started = time.time()
        result = pipeline(
            "",
            tasks=question.tasks,
            rag_context=question.rag_context,
            query=question.query,
            llm_response=question.llm_response,
        )
        return read_result(result, time.time() - started)

    return app


def read_result(result: Any, seconds: float) -> Answer:
    """The pipeline's result as an answer.

    pydantic decides what is a number and what is a list of strings; a result that it refuses, or that is no dictionary,
    loses its score too.
    """
    try:
        score = result.get("score_completion")
        return Answer(
            score=-1.0 if score is None else score,
            mistakes=result.get("mistakes_completion"),
            response_time=seconds,
            status_message=Status.SUCCESS,
        )
    except Exception:
        return Answer(score=-1.0, mistakes=[], response_time=seconds, status_message=Status.ERROR)


def model_hash(directory: Path) -> str:
    """SHA-256 over the bytes of all root-level `*.safetensors` in the order of their names; lower-case hex."""
    digest = hashlib.sha256()
    for name in sorted(name for name in os.listdir(directory) if name.endswith(".safetensors")):
        with open(directory / name, "rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def coldkey(directory: Path) -> str | None:
    """The text of coldkey.txt, unstripped; None without that file. Text mode: a carriage return becomes a newline."""
    path = directory / "coldkey.txt"
    return path.read_text() if path.exists() else None
