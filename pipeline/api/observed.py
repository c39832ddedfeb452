"""What the pipeline did, told in response headers; the bodies stay upstream's.

`x-deval-observed` of a pipeline that returned:

    {"seconds": 0.01, "type": "dict", "keys": ["score_completion", "mistakes_completion"],
     "score": {"type": "float", "repr": "0.5", "finite": true},
     "mistakes": {"type": "list", "items": ["str"], "count": 3, "longest_words": 12, "dots_only": false,
                  "surrogate": false}}

`score` and `mistakes` are null when the key is missing; of a result that is no mapping only the type is told. `finite`
is null when the score is no number. Only lists, tuples and sets are looked into; a generator would be used up.
`dots_only`: an item without a character beside dots and white space. `surrogate`: an item that UTF-8 cannot hold.
Of a pipeline that raised: `{"seconds": 0.01, "raised": "ValueError", "message": "…"}`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

_NOTE: ContextVar[dict[str, Any]] = ContextVar("note")
_MOST_NAMES = 10
_ERROR_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]


class ObservedPipeline:
    """The pipeline, with a note taken of each call."""

    def __init__(self, pipeline: Callable[..., Any]) -> None:
        self._pipeline = pipeline

    def __call__(self, *args: Any, **fields: Any) -> Any:
        note = _NOTE.get()
        started = time.perf_counter()
        try:
            result = self._pipeline(*args, **fields)
        except BaseException as error:
            note.update(seconds=_since(started), raised=_name(error), message=_brief(_message(error), 300))
            raise
        note["seconds"] = _since(started)
        note.update(_described(result))
        return result


class ObservedApp:
    """An ASGI application whose responses carry the API's own time and the note on the pipeline."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        note: dict[str, Any] = {}
        _NOTE.set(note)
        begun = False

        async def send_observed(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *_headers(started, note)]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except BaseException:
            # SystemExit and its like pass by the framework; this is what uvicorn would answer, with our headers.
            if not begun:
                await send_observed({"type": "http.response.start", "status": 500, "headers": _ERROR_HEADERS})
                await send({"type": "http.response.body", "body": b"Internal Server Error"})
            raise


def _headers(started: float, note: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    headers = [(b"server-timing", f"app;dur={(time.perf_counter() - started) * 1000:.3f}".encode())]
    return headers + [(b"x-deval-observed", json.dumps(note).encode())] if note else headers


def _described(result: Any) -> dict[str, Any]:
    """The result, as far as it can be looked at without changing it."""
    try:
        described: dict[str, Any] = {"type": _name(result)}
        if isinstance(result, Mapping):
            described["keys"] = [_brief(str(key), 40) for key in list(result)[:_MOST_NAMES]]
            for name, look in (("score", _score), ("mistakes", _mistakes)):
                key = f"{name}_completion"
                described[name] = look(result[key]) if key in result else None
        return described
    except Exception as error:
        return {"type": _name(result), "unobservable": _name(error)}


def _score(score: Any) -> dict[str, Any]:
    try:
        finite = math.isfinite(float(score))
    except Exception:
        finite = None
    return {"type": _name(score), "repr": _brief(repr(score), 100), "finite": finite}


def _mistakes(mistakes: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"type": _name(mistakes)}
    if isinstance(mistakes, (list, tuple, set, frozenset)):
        texts = [item for item in mistakes if isinstance(item, str)]
        described.update(
            items=sorted({_name(item) for item in mistakes})[:_MOST_NAMES],
            count=len(mistakes),
            longest_words=max((len(text.split()) for text in texts), default=0),
            dots_only=any(not text.replace(".", "").strip() for text in texts),
            surrogate=any(_has_surrogate(text) for text in texts),
        )
    return described


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _name(value: Any) -> str:
    """The type's name, with its module unless that is Python's own."""
    kind = type(value)
    return _brief(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}", 60)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _brief(text: str, most: int) -> str:
    """ASCII, escaped as in Python source, so that a header can hold it and its length is known."""
    return text.encode("unicode_escape").decode("ascii")[:most]


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 6)
