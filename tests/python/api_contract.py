"""The miner API's contract as a table: request, expected answer. Mirrors deval/api/miner_api.py and models.py.

Asks a server that runs already, this repository's or upstream's own, and needs nothing but the standard library:

    python tests/python/api_contract.py --base-url http://127.0.0.1:8000

The server has to serve `tests/fixtures/pipelines/scripted`. Prints row, expected, got; exit 1 when one differs.
Routes, status codes and what becomes of a pipeline's result were observed with upstream's code; the texts of the 422
bodies are those of fastapi 0.115.6 and pydantic 2.10.4, which upstream locks.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

SCRIPTED = Path(__file__).parents[1] / "fixtures/pipelines/scripted"
COLDKEY = (SCRIPTED / "coldkey.txt").read_text()
ERROR_500 = "500 text/plain; charset=utf-8 Internal Server Error"
LOST = '200 {"score":-1.0,"mistakes":[],"response_time":S,"status_message":"error"}'


class Row(NamedTuple):
    """One line of the contract: a request, and the answer as `seen` writes it."""

    name: str
    path: str
    body: str | None
    expected: str


class Reply(NamedTuple):
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: str


def ask(base_url: str, path: str, body: str | None = None) -> Reply:
    """GET without a body, POST with one."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode())
    finally:
        connection.close()


def seen(reply: Reply) -> str:
    """Status, content type unless it is JSON, and the body; the response time, which nobody can foretell, as S."""
    body = re.sub(r'"response_time":[0-9.e-]+', '"response_time":S', reply.body)
    kind = reply.headers["content-type"]
    return f"{reply.status} {body}" if kind == "application/json" else f"{reply.status} {kind} {body}"


def question(**changes: Any) -> str:
    """A body for /eval_query; a field that is `...` is left out."""
    fields = {"tasks": ["relevancy"], "rag_context": "context", "query": "query", "llm_response": "text", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def returned(expression: str, **changes: Any) -> str:
    """A question to which the scripted pipeline returns the value of a Python expression."""
    return question(llm_response=json.dumps({"answer": expression}), **changes)


def success(score: str, mistakes: str) -> str:
    return f'200 {{"score":{score},"mistakes":{mistakes},"response_time":S,"status_message":"success"}}'


def refused(kind: str, location: list[str | int], message: str, given: str = "…") -> str:
    place = json.dumps(["body", *location], separators=(",", ":"))
    return f'422 {{"detail":[{{"type":"{kind}","loc":{place},"msg":"{message}","input":{given}}}]}}'


def no_string(given: str, *location: str | int) -> str:
    return refused("string_type", [*location], "Input should be a valid string", given)


def route(name: str, path: str, expected: str) -> Row:
    return Row(name, path, None, expected)


def posted(name: str, body: str, expected: str) -> Row:
    return Row(name, "/eval_query", body, expected)


def completion(result: str, expected: str) -> Row:
    return posted(f"pipeline returned {result}", returned(result), expected)


def scored(score: str, expected: str) -> Row:
    return completion(f"{{'score_completion': {score}, 'mistakes_completion': ['a']}}", expected)


def listed(mistakes: str, expected: str) -> Row:
    return completion(f"{{'score_completion': 0.5, 'mistakes_completion': {mistakes}}}", expected)


def hash_of(folder: Path) -> str:
    shards = sorted(folder.glob("*.safetensors"), key=lambda path: path.name)
    return hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()


def raised(statement: str) -> str:
    """An expression that raises."""
    return f"(_ for _ in ()).throw({statement})"


GOOD = success("0.5", '["a"]')
QUERY = "{'score_completion': 1, 'mistakes_completion': [repr(query)]}"

ROUTES = [
    route("GET /health", "/health", "200 true"),
    route("GET /get_model_hash", "/get_model_hash", f'200 {{"hash":"{hash_of(SCRIPTED)}"}}'),
    route("GET /get_model_coldkey", "/get_model_coldkey", f'200 {{"coldkey":"{COLDKEY}"}}'),
    route("GET /eval_query", "/eval_query", '405 {"detail":"Method Not Allowed"}'),
    Row("POST /health", "/health", "{}", '405 {"detail":"Method Not Allowed"}'),
    route("unknown path", "/unknown", '404 {"detail":"Not Found"}'),
]

REQUESTS = [
    posted("query given", returned(QUERY), success("1.0", "[\"'query'\"]")),
    posted("query left out is the empty text", returned(QUERY, query=...), success("1.0", "[\"''\"]")),
    posted("query null is None", returned(QUERY, query=None), success("1.0", '["None"]')),
    posted("unknown fields are ignored", question(other=1), success("0.5", "[]")),
    *(
        posted(
            f"{field} left out",
            question(**{field: ...}),
            refused("missing", [field], "Field required"),
        )
        for field in ("tasks", "rag_context", "llm_response")
    ),
    posted(
        "tasks is a text", question(tasks="x"), refused("list_type", ["tasks"], "Input should be a valid list", '"x"')
    ),
    posted("tasks holds a number", question(tasks=[1]), no_string("1", "tasks", 0)),
    posted("rag_context is a number", question(rag_context=1), no_string("1", "rag_context")),
    posted("llm_response is null", question(llm_response=None), no_string("null", "llm_response")),
    posted("query is a number", question(query=1), no_string("1", "query")),
    posted(
        "body is no JSON",
        "{bad",
        '422 {"detail":[{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},'
        '"ctx":{"error":"Expecting property name enclosed in double quotes"}}]}',
    ),
    posted("body is empty", "", refused("missing", [], "Field required", "null")),
    posted(
        "body is a list",
        "[]",
        refused(
            "model_attributes_type",
            [],
            "Input should be a valid dictionary or object to extract fields from",
            "[]",
        ),
    ),
    posted("context with a lone surrogate", question(rag_context="\ud800"), success("0.5", "[]")),
    posted("lone surrogate in a refused body", question(rag_context="\ud800", llm_response=...), ERROR_500),
]

RAISED = [
    posted("pipeline raises", returned(raised("ValueError('x')")), ERROR_500),
    posted("pipeline raises SystemExit", returned(raised("SystemExit(3)")), ERROR_500),
    posted("pipeline raises KeyboardInterrupt", returned(raised("KeyboardInterrupt()")), ERROR_500),
    posted("unknown task", returned("{'relevancy': 1}[tasks[0]]", tasks=["no such task"]), ERROR_500),
    posted("empty list of tasks", returned("{'relevancy': 1}[tasks[0]]", tasks=[]), ERROR_500),
]

COMPLETIONS = [
    listed("['a']", GOOD),
    completion("{'score_completion': 0.5}", success("0.5", "null")),
    listed("None", success("0.5", "null")),
    completion("{}", success("-1.0", "null")),
    completion("{'score': 0.5}", success("-1.0", "null")),
    scored("None", success("-1.0", '["a"]')),
    completion("None", LOST),
    completion("['a']", LOST),
    completion("'text'", LOST),
    scored("float('nan')", ERROR_500),
    scored("float('inf')", ERROR_500),
    scored("float('-inf')", ERROR_500),
    scored("'nan'", ERROR_500),
    scored("'0.7'", success("0.7", '["a"]')),
    scored("True", success("1.0", '["a"]')),
    scored("False", success("0.0", '["a"]')),
    scored("1", success("1.0", '["a"]')),
    scored("0", success("0.0", '["a"]')),
    scored("2.5", success("2.5", '["a"]')),
    scored("-1.0", success("-1.0", '["a"]')),
    scored("__import__('numpy').float32(0.5)", GOOD),
    scored("__import__('torch').tensor(0.5)", GOOD),
    scored("'abc'", LOST),
    scored("[0.5]", LOST),
    listed("'a'", LOST),
    listed("{'a': 'b'}", LOST),
    listed("[1, 2]", LOST),
    listed("[None]", LOST),
    listed("[['a']]", LOST),
    listed("()", success("0.5", "[]")),
    listed("('a', 'b')", success("0.5", '["a","b"]')),
    listed("{'a'}", GOOD),
    listed("(text for text in ['a', 'b'])", success("0.5", '["a","b"]')),
    listed("['...']", success("0.5", '["..."]')),
    listed("['é\\n']", success("0.5", '["é\\n"]')),
    listed("[chr(0xd800)]", ERROR_500),
    completion("{'score_completion': 0.5, 'mistakes_completion': ['a'], 'extra': 1}", GOOD),
]

ROWS = ROUTES + REQUESTS + RAISED + COMPLETIONS


def agrees(expected: str, got: str) -> bool:
    """Equal, where `…` in what is expected stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


def waiting(base_url: str) -> tuple[str, str]:
    """One question at a time: what /health does while a question is being answered. A slow machine gets longer."""
    expected = "/health waits for the running question"
    for seconds in (1, 4, 16):
        times = "[str(time.time()), str(time.sleep(SECONDS)), str(time.time())]".replace("SECONDS", str(seconds))
        times = times.replace("time.", "__import__('time').")
        body = returned(f"{{'score_completion': 1, 'mistakes_completion': {times}}}")
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda body=body, to=replies: to.append(ask(base_url, "/eval_query", body)))
        thread.start()
        time.sleep(seconds / 2)
        asked = time.time()
        ask(base_url, "/health")
        answered = time.time()
        thread.join()
        begun, _, ended = json.loads(replies[0].body)["mistakes"]
        if float(begun) < asked < float(ended):
            return expected, expected if answered >= float(ended) else "/health is answered meanwhile"
    return expected, "not known: /health was never asked while a question ran"


def table(base_url: str) -> list[tuple[str, str, str]]:
    """Every row: name, expected, got."""
    rows = [(row.name, row.expected, seen(ask(base_url, row.path, row.body))) for row in ROWS]
    return [*rows, ("one question at a time", *waiting(base_url))]


def main() -> int:
    """The table on standard output; 1 when a row differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", required=True)
    rows = table(parser.parse_args().base_url)
    for name, expected, got in rows:
        same = agrees(expected, got)
        print(f"{'same' if same else 'DIFFERS'} | {name} | {expected}" + ("" if same else f" | {got}"))
    differing = sum(not agrees(expected, got) for _, expected, got in rows)
    print(f"{len(rows) - differing} of {len(rows)} rows are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
