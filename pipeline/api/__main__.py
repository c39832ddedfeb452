"""Start of the container: fetch, import, load, then serve. What raises on the way ends the process with exit code 1."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from .contract import create_app
from .observed import ObservedApp, ObservedPipeline

STARTED = time.perf_counter()


def main() -> None:
    """Serves until the process is told to end."""
    directory = Path(os.environ.get("DEVAL_MODEL_DIR", "/app/eval_llm"))
    model_url = os.environ.get("MODEL_URL", "")
    pipeline = ObservedPipeline(load(model_url, directory)) if model_url else None
    port = int(os.environ.get("DEVAL_PORT", "8000"))
    app = ObservedApp(create_app(pipeline, directory))
    Server(uvicorn.Config(app, host="0.0.0.0", port=port, access_log=False)).run()


def load(model_url: str, directory: Path) -> Any:
    """The miner's pipeline, from the Hub or from a mounted folder."""
    if os.environ.get("DEVAL_FETCH") == "1":
        with phase("fetch"):
            fetch(model_url, directory)
    with phase("import"):
        # Behind all else, as upstream does: an installed package called `model` would win.
        sys.path.append(str(directory))
        from model.pipeline import DeValPipeline
    with phase("load"):
        return DeValPipeline("de_val", model_dir=str(directory))


def fetch(model_url: str, directory: Path) -> None:
    """Downloads the whole repository.

    A Hub out of reach raises nothing here: huggingface_hub warns and takes a folder that is not empty for the package,
    and upstream keeps the Hub's cache in it. Then the import fails.
    """
    token = os.environ.get("HUGGINGFACE_TOKEN")
    if not token:
        raise ValueError("HUGGINGFACE_TOKEN is not set; the repository cannot be pulled without a token")
    from huggingface_hub import snapshot_download

    (directory / ".cache/huggingface").mkdir(parents=True, exist_ok=True)
    snapshot_download(repo_id=model_url, local_dir=directory, token=token)


class Server(uvicorn.Server):
    """uvicorn, which tells when its port is open."""

    async def startup(self, *args: Any, **fields: Any) -> None:
        """Opens the port. uvicorn itself ends the process when the port is taken."""
        await super().startup(*args, **fields)
        if self.started:
            tell("ready", STARTED)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Tells of a phase once it is over; one that raises is not told of."""
    started = time.perf_counter()
    yield
    tell(name, started)


def tell(name: str, started: float) -> None:
    """One line on standard output."""
    print(json.dumps({"deval_phase": name, "seconds": round(time.perf_counter() - started, 3)}), flush=True)


main()
